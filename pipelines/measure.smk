rule measure:
    input:
        expand(f"{OUT}/run.{{part}}-of-{PARTS}.jsonl", part=BATCHES),
    output:
        f"{OUT}/summary.csv",
        f"{OUT}/cells.csv",
        f"{OUT}/cells.parquet",
    log:
        f"{OUT}/logs/measure.log",
    benchmark:
        f"{OUT}/benchmarks/measure.tsv"
    conda:
        "environment.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        out=subpath(output[0], parent=True),
    message:
        f"Measuring the cells in {OUT}"
    shell:
        "unetbio measure {params.out:q} --failed-ok >{log:q} 2>&1"
