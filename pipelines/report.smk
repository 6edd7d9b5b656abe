rule report:
    input:
        "{results}/summary.csv",
        "{results}/cells.parquet",
        check=[f"{OUT}/check.json"] if CONFIG.check.run else [],
    output:
        "{results}/index.html",
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
        out=subpath(output[0], parent=True),
        check=lambda wildcards, input: [f"--check={path}" for path in input.check],
    message:
        "Writing {params.out}/index.html"
    shell:
        "unetbio report {params.out:q} {params.check:q} >{log:q} 2>&1"
