# Runs last, and fails if images failed, so that the next run tries them again.


rule finish:
    input:
        expand("{results}/index.html", results=USES),
        [f"{OUT}/comparison/comparison.md"] if CONFIG.compare.data else [],
        retried=expand("{results}/retried.txt", results=USES),
    output:
        f"{OUT}/finished.txt",
    log:
        f"{OUT}/logs/finish.log",
    benchmark:
        f"{OUT}/benchmarks/finish.tsv"
    retries: 0
    conda:
        "environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    params:
        folders=lambda wildcards, input: [os.path.dirname(p) for p in input.retried],
        table=lambda wildcards, output: (
            ["-o", f"{os.path.dirname(output[0])}/summary.csv"]
            if CONFIG.models
            else []
        ),
    message:
        f"Closing {OUT}"
    shell:
        # onerror reads the exit code from the last line of the log.
        "unetbio summarize {params.folders:q} {params.table:q} >{output:q} 2>{log:q}"
        " || {{ code=$?; rm -f {input.retried:q}; echo exit code $code >>{log:q}; exit $code; }}"
