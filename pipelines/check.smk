# What is odd about the images is in a file, and known before hours of work; it stops nothing.


# Before anything is planned; not by the jobs, which read this file too.
if workflow.is_main_process:
    forget_failed_check(Path(OUT, "check.json"))


rule check:
    input:
        images=lambda wildcards: input_names(images()),
        table=lambda wildcards: input_names(CONFIG.source_files()),
        models=lambda wildcards: input_names(
            FILES[results] for results, use in USES.items() if not use.network
        ),
    output:
        f"{OUT}/check.json",
    log:
        f"{OUT}/logs/check.log",
    benchmark:
        f"{OUT}/benchmarks/check.tsv"
    # First, and an input of the page alone: what is looked at again is not segmented again.
    priority: 100
    # A job that a cluster has stopped goes on where it was; the third time it only says so.
    retries: 2
    conda:
        "environment.yaml"
    threads: CONFIG.check.resources.threads
    resources:
        mem_mb=CONFIG.check.resources.mem_mb,
        runtime=CONFIG.check.resources.runtime,
        gpu=CONFIG.check.resources.gpu,
        tries=lambda wildcards, attempt: attempt,
    params:
        # Functions: braces in what they give are no wildcards.
        source=lambda wildcards: CONFIG.source_arguments(),
        options=lambda wildcards: CONFIG.check_arguments(),
        stamps=lambda wildcards: input_stamps([*images(), *CONFIG.source_files()]),
        out=subpath(output[0], parent=True),
    message:
        "Looking at every image"
    shell:
        "[ {resources.tries} -le 2 ]"
        ' || {{ echo \'{{"failed": "its job was stopped twice"}}\' >{output:q}; exit; }}; '
        # What is known of files is not declared: Snakemake would remove it before it is needed.
        # 3 says that something is odd. Whatever else it was, the run goes on.
        "unetbio check {params.source:q} {params.options:q} --cache {params.out:q}/check.cache.jsonl --workers {threads}"
        " --json >{output:q} 2>{log:q} || {{ code=$?; [ $code -eq 3 ]"
        " || echo '{{\"failed\": \"exit code '$code', see logs/check.log\"}}' >{output:q}; }}"
