# One job is a batch of images: a process an image would spend its life on starting.


rule segment:
    input:
        # When an image changes, its batch runs again, and redoes that image alone.
        images=lambda wildcards: input_names(batch(wildcards)),
        table=lambda wildcards: input_names(CONFIG.source_files()),
        model=lambda wildcards: input_names([FILES[wildcards.results]]),
    output:
        # Masks are not declared: a job that stops half-way would lose what it has finished.
        "{results}/run.{part}-of-{parts}.jsonl",
    log:
        "{results}/logs/segment.{part}-of-{parts}.log",
    benchmark:
        "{results}/benchmarks/segment.{part}-of-{parts}.tsv"
    conda:
        "environment.yaml"
    threads: CONFIG.resources.threads
    resources:
        mem_mb=CONFIG.resources.mem_mb,
        runtime=CONFIG.resources.runtime,
        gpu=CONFIG.resources.gpu,
    params:
        # Functions: braces in what they give are no wildcards.
        source=lambda wildcards: CONFIG.source_arguments(),
        stamps=lambda wildcards: input_stamps(
            [*batch(wildcards), *CONFIG.source_files()]
        ),
        model=lambda wildcards, input: model_of(wildcards.results, input),
        options=lambda wildcards: CONFIG.segment.arguments(),
        out=subpath(output[0], parent=True),
    message:
        "Segmenting batch {wildcards.part} of {wildcards.parts} into {params.out}"
    shell:
        "unetbio segment {params.source:q} -o {params.out:q} --model {params.model:q} {params.options:q}"
        " --part {wildcards.part}/{wildcards.parts} --workers {threads} --failed-ok >{log:q} 2>&1"
