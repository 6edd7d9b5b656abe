# What is odd about the images is in a file, and known before hours of work; it stops nothing.


rule check:
    input:
        images=lambda wildcards: sorted(
            {
                path
                for _, parts in BATCHES.values()
                for paths in parts.values()
                for path in paths
            }
        ),
        table=lambda wildcards: CONFIG.source_files(),
    output:
        f"{OUT}/check.json",
    log:
        f"{OUT}/logs/check.log",
    benchmark:
        f"{OUT}/benchmarks/check.tsv"
    # First, without being an input of any other: what is looked at again is not segmented again.
    priority: 100
    conda:
        "environment.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        # A function: braces in what it gives are no wildcards.
        source=lambda wildcards: CONFIG.source_arguments(),
        # A model that is still to be trained cannot be asked what it knows.
        model=[
            word
            for use in USES.values()
            if not use.network
            for word in ("--model", use.model)
        ][:2],
    message:
        "Looking at every image"
    shell:
        # 3 says that something is odd.
        "unetbio check {params.source:q} {params.model:q} --json >{output:q} 2>{log:q} || [ $? -eq 3 ]"
