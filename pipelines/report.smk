rule report:
    input:
        "{results}/summary.csv",
        "{results}/cells.parquet",
        check=[f"{OUT}/check.json"] if CONFIG.check.run else [],
    output:
        page=report(
            "{results}/index.html",
            category="Page",
            labels={"results": "{results}"},
        ),
        # A link to the overlays, which the segment jobs write and Snakemake must not remove.
        overlays=report(
            directory("{results}/overlays-for-report"),
            patterns=["{picture}.jpg"],
            category="Overlays",
            labels={"results": "{results}", "image": "{picture}"},
        ),
    log:
        "{results}/logs/report.log",
    benchmark:
        "{results}/benchmarks/report.tsv"
    conda:
        "environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        out=subpath(output.page, parent=True),
        check=lambda wildcards, input: [f"--check={path}" for path in input.check],
    message:
        "Writing {params.out}/index.html"
    shell:
        # Without retried.txt the next run measures again: the tables may be none, as where another program saved them.
        "unetbio report {params.out:q} {params.check:q} >{log:q} 2>&1"
        " && mkdir -p {params.out:q}/overlays && ln -sfn overlays {output.overlays:q}"
        " || {{ code=$?; rm -f {params.out:q}/retried.txt; exit $code; }}"
