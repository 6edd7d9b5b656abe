# Segments failed images once more: a disk may be mounted again, or a copy complete. Removed images leave the tables: no
# segment job sees those of a part that is empty now, or of another number of parts.


rule retry:
    input:
        segmented=lambda wildcards: segmented(wildcards.results),
        model=lambda wildcards: input_names([FILES[wildcards.results]]),
        ensemble=lambda wildcards: input_names(ENSEMBLE),
    output:
        "{results}/retried.txt",
    log:
        "{results}/logs/retry.log",
    benchmark:
        "{results}/benchmarks/retry.tsv"
    conda:
        "environment.yaml"
    threads: CONFIG.resources.threads
    resources:
        mem_mb=CONFIG.resources.mem_mb,
        runtime=CONFIG.resources.runtime,
        gpu=CONFIG.resources.gpu,
    params:
        source=lambda wildcards: CONFIG.source_arguments(),
        model=lambda wildcards, input: model_of(wildcards.results, input),
        options=lambda wildcards: CONFIG.segment.arguments(),
        jobs=lambda wildcards, input: len(input.segmented),
        out=subpath(output[0], parent=True),
    message:
        "Trying once more what failed in {params.out}"
    shell:
        # Marks of jobs without an image: with one again, they are not done.
        "for mark in {params.out:q}/logs/segment.*-of-*.done; do"
        ' for one in {input.segmented:q}; do [ "$mark" = "$one" ] && continue 2; done; rm -f "$mark"; done; '
        # Usually nothing failed and all journals of jobs are of these, which is found faster than unetbio starts. Those
        # of another number of jobs stay, since they tell what these have done.
        "set -- {params.out:q}/run.*-of-*.jsonl; "
        "if [ $# -eq {params.jobs} ] &&"
        ' ! grep -Eqs \'"status": "failed"|,failed,\' "$@" {params.out:q}/summary.csv; then'
        " echo no image failed >{output:q}; exit; fi; "
        "unetbio segment {params.source:q} -o {params.out:q} --model {params.model:q} {params.options:q}"
        " --workers {threads} --failed-only --no-tables --failed-ok >{output:q} 2>{log:q}"
