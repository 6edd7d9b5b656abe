# One job is a batch of images: a process an image would spend its life on starting.


rule segment:
    input:
        # When an image changes, its batch runs again, and redoes that image alone.
        images=lambda wildcards: BATCHES[int(wildcards.part)],
        model=CONFIG.model_files(),
    output:
        # Masks are not declared: a job that stops half-way would lose what it has finished.
        f"{OUT}/run.{{part}}-of-{PARTS}.jsonl",
    log:
        f"{OUT}/logs/segment.{{part}}-of-{PARTS}.log",
    benchmark:
        f"{OUT}/benchmarks/segment.{{part}}-of-{PARTS}.tsv"
    conda:
        "environment.yaml"
    threads: CONFIG.resources.threads
    resources:
        mem_mb=CONFIG.resources.mem_mb,
        runtime=CONFIG.resources.runtime,
    params:
        source=CONFIG.source_arguments(),
        options=["--model", CONFIG.model_used, *CONFIG.segment.arguments()],
        out=subpath(output[0], parent=True),
        parts=PARTS,
    message:
        f"Segmenting batch {{wildcards.part}} of {PARTS}"
    shell:
        "unetbio segment {params.source:q} -o {params.out:q} {params.options:q}"
        " --part {wildcards.part}/{params.parts} --workers {threads} --failed-ok >{log:q} 2>&1"
