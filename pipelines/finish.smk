# Files that failed are tried once more: a disk may have come back, or a whole file lies there now.


rule finish:
    input:
        expand("{results}/index.html", results=USES),
        expand("{results}/summary.csv", results=USES),
        [f"{OUT}/check.json"] if CONFIG.check else [],
        # While this rule runs, nothing else may write to the folder.
        [f"{OUT}/comparison/comparison.md"] if CONFIG.compare.data else [],
    output:
        f"{OUT}/finished.txt",
    log:
        f"{OUT}/logs/finish.log",
    benchmark:
        f"{OUT}/benchmarks/finish.tsv"
    retries: 0
    conda:
        "environment.yaml"
    threads: CONFIG.resources.threads
    resources:
        mem_mb=CONFIG.resources.mem_mb,
        runtime=CONFIG.resources.runtime,
        gpu=CONFIG.resources.gpu,
    params:
        tries=tries,
    message:
        f"Trying what failed once more, and closing {OUT}"
    shell:
        # The last line of the log is how it ended, for whoever ends the workflow.
        "code=0; {{ {params.tries}; }} >{output:q} 2>{log:q}; echo exit code $code >>{log:q}; exit $code"
