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
        total=lambda wildcards: BATCHES[wildcards.results][0],
        parts=lambda wildcards: list(BATCHES[wildcards.results][1]),
        jobs=lambda wildcards, input: len(input.segmented),
        out=subpath(output[0], parent=True),
    message:
        "Trying once more what failed in {params.out}"
    shell:
        # Marks of jobs without an image: with one again, they are not done.
        # Paths of all others would not fit into the command.
        "(cd {params.out:q}/logs; printf '%s\\n' segment.*-of-*.done"
        " | {{ grep -vxFf <(printf 'segment.%s-of-{params.total}.done\\n' {params.parts}) || true; }}"
        ' | while read -r mark; do rm -f "$mark"; done); '
        # Usually nothing failed and all journals of jobs are of these, which is found faster than unetbio starts. Those
        # of another number of jobs stay, since they tell what these have done.
        "set -- {params.out:q}/run.*-of-*.jsonl; "
        "if [ $# -eq {params.jobs} ] &&"
        ' ! grep -Eqs \'"status": "failed"|,failed,\' "$@" {params.out:q}/summary.csv; then'
        " echo no image failed >{output:q}; exit; fi; "
        "unetbio segment {params.source:q} -o {params.out:q} --model {params.model:q} {params.options:q}"
        " --workers {threads} --failed-only --no-tables --failed-ok >{output:q} 2>{log:q}"
