rule report:
    input:
        f"{OUT}/summary.csv",
        f"{OUT}/cells.parquet",
    output:
        f"{OUT}/index.html",
    log:
        f"{OUT}/logs/report.log",
    benchmark:
        f"{OUT}/benchmarks/report.tsv"
    conda:
        "environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        out=subpath(output[0], parent=True),
    message:
        f"Writing {OUT}/index.html"
    shell:
        "unetbio report {params.out:q} >{log:q} 2>&1"
