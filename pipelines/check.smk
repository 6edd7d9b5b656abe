# Checks all images before hours of work; findings go to a file and stop nothing.


# Runs before the plan, and not in the jobs, which read this file too.
if workflow.is_main_process:
    forget_failed_check(Path(workflow.modifier.modify_path(f"{OUT}/check.json")))


rule check:
    input:
        images=lambda wildcards: input_names(images()),
        table=lambda wildcards: input_names(CONFIG.source_files()),
        models=lambda wildcards: input_names(given(FILES.values())),
    output:
        f"{OUT}/check.json",
    log:
        f"{OUT}/logs/check.log",
    benchmark:
        f"{OUT}/benchmarks/check.tsv"
    # Runs first. Only the page depends on it, so that a new check segments nothing again.
    priority: 100
    # A job that a cluster stopped continues; the third attempt only reports it.
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
        # Functions, because Snakemake reads no wildcards in their results.
        source=lambda wildcards: CONFIG.source_arguments(),
        options=lambda wildcards: CONFIG.check_arguments(),
        stamps=lambda wildcards: input_stamps(
            [*images(), *CONFIG.source_files(), *given(FILES.values())]
        ),
        out=subpath(output[0], parent=True),
    message:
        "Checking all images"
    shell:
        "[ {resources.tries} -le 2 ]"
        ' || {{ echo \'{{"failed": "its job was stopped twice"}}\' >{output:q}; exit; }}; '
        # The cache is not an output: Snakemake would remove it before the job starts.
        # Exit code 3 means findings. Any other failure is recorded, and the run goes on.
        "unetbio check {params.source:q} {params.options:q} --cache {params.out:q}/check.cache.jsonl --workers {threads}"
        " --json >{output:q} 2>{log:q} || {{ code=$?; [ $code -eq 3 ]"
        " || echo '{{\"failed\": \"exit code '$code', see logs/check.log\"}}' >{output:q}; }}"
