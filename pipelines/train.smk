# Runs if the settings name a network; the images are segmented with the trained model.


rule train:
    input:
        lambda wildcards: input_names(TRAINED[wildcards.trained].training.files()),
    output:
        f"{OUT}/models/{{trained}}.safetensors",
    log:
        f"{OUT}/logs/train.{{trained}}.log",
    benchmark:
        f"{OUT}/benchmarks/train.{{trained}}.tsv"
    wildcard_constraints:
        trained="|".join(map(re.escape, TRAINED)) or "(?!)",
    conda:
        "environment.yaml"
    threads: lambda wildcards: TRAINED[wildcards.trained].training.resources.threads
    resources:
        mem_mb=lambda wildcards: TRAINED[wildcards.trained].training.resources.mem_mb,
        runtime=lambda wildcards: TRAINED[wildcards.trained].training.resources.runtime,
        gpu=lambda wildcards: TRAINED[wildcards.trained].training.resources.gpu,
    params:
        stamps=lambda wildcards: input_stamps(
            TRAINED[wildcards.trained].training.files()
        ),
        data=lambda wildcards: TRAINED[wildcards.trained].training.inputs(),
        network=lambda wildcards: TRAINED[wildcards.trained].network,
        options=lambda wildcards: TRAINED[wildcards.trained].training.arguments(),
        stem=subpath(output[0], strip_suffix=".safetensors"),
        models=subpath(output[0], parent=True),
    message:
        "Training {wildcards.trained}"
    shell:
        # A stopped job continues from its checkpoint. If settings or images have changed, --replace sets it aside until
        # they change back.
        "unetbio train {params.data:q} -o {output:q} --network {params.network:q} {params.options:q} --replace"
        " --workers {threads} >{log:q} 2>&1"
        " && rm -f {params.stem:q}.checkpoint.safetensors"
        " {params.models:q}/.{wildcards.trained}.fold[1-9].checkpoint.safetensors"
