# One job segments a batch of images: with one process for each image, starting would take most of the time.


rule segment:
    input:
        # When an image changes, its batch runs again and segments only that image.
        images=lambda wildcards: input_names(batch(wildcards)),
        table=lambda wildcards: input_names(CONFIG.source_files()),
        model=lambda wildcards: input_names([FILES[wildcards.results]]),
        ensemble=lambda wildcards: input_names(ENSEMBLE),
    output:
        # Masks and journals are not outputs: Snakemake would delete the finished ones of a job that stops, and a journal
        # before each run, which names the images that were removed since and leave the tables.
        "{results}/logs/segment.{part}-of-{parts}.done",
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
        # Functions, because Snakemake reads no wildcards in their results.
        source=lambda wildcards: CONFIG.source_arguments(),
        stamps=lambda wildcards: input_stamps(
            [
                *batch(wildcards),
                *CONFIG.source_files(),
                *given([FILES[wildcards.results], *ENSEMBLE]),
            ]
        ),
        model=lambda wildcards, input: model_of(wildcards.results, input),
        options=lambda wildcards: CONFIG.segment.arguments(),
        out=subpath(output[0], ancestor=2),
    message:
        "Segmenting batch {wildcards.part} of {wildcards.parts} into {params.out}"
    shell:
        # Marks of another number of jobs say nothing of the masks that this one makes.
        "for mark in {params.out:q}/logs/segment.*-of-*.done; do"
        ' case $mark in *-of-{wildcards.parts}.done) ;; *) rm -f "$mark" ;; esac; done; '
        "unetbio segment {params.source:q} -o {params.out:q} --model {params.model:q} {params.options:q}"
        " --part {wildcards.part}/{wildcards.parts} --workers {threads} --failed-ok >{log:q} 2>&1"
        # The mark differs each time: Snakemake takes an input for the same as long as its content is.
        " && date -u >{output:q}"
