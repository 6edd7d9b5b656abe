rule measure:
    input:
        lambda wildcards: segmented(wildcards.results),
        "{results}/retried.txt",
    output:
        report(
            "{results}/summary.csv",
            category="Tables",
            labels={"results": "{results}", "table": "one row an image"},
        ),
        "{results}/cells.csv",
        # Kept between runs: it holds the rows of images that have not changed.
        update("{results}/cells.parquet"),
    log:
        "{results}/logs/measure.log",
    benchmark:
        "{results}/benchmarks/measure.tsv"
    conda:
        "environment.yaml"
    threads: CONFIG.measure.resources.threads
    resources:
        mem_mb=CONFIG.measure.resources.mem_mb,
        runtime=CONFIG.measure.resources.runtime,
        gpu=CONFIG.measure.resources.gpu,
    params:
        out=subpath(output[0], parent=True),
        options=lambda wildcards: CONFIG.measure.arguments(),
    message:
        "Measuring the cells in {params.out}"
    shell:
        "unetbio measure {params.out:q} {params.options:q} --workers {threads} --failed-ok >{log:q} 2>&1"
