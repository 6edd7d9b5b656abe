rule report:
    input:
        "{results}/summary.csv",
        "{results}/cells.parquet",
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
    message:
        "Writing {params.out}/index.html"
    shell:
        "unetbio report {params.out:q} >{log:q} 2>&1"
