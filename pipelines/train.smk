# Asked for where the settings name a network: images are segmented with what comes out.


rule train:
    input:
        CONFIG.training.files(),
    output:
        CONFIG.trained_model,
    log:
        f"{OUT}/logs/train.log",
    benchmark:
        f"{OUT}/benchmarks/train.tsv"
    conda:
        "environment.yaml"
    threads: CONFIG.training.resources.threads
    resources:
        mem_mb=CONFIG.training.resources.mem_mb,
        runtime=CONFIG.training.resources.runtime,
    params:
        data=CONFIG.training.inputs(),
        options=["--network", CONFIG.network, *CONFIG.training.arguments()],
        stem=subpath(output[0], strip_suffix=".safetensors"),
    message:
        f"Training {CONFIG.network}"
    shell:
        # The checkpoint is for a job that was stopped; one of a training that is done would refuse other images.
        "unetbio train {params.data:q} -o {output:q} {params.options:q} --workers {threads} >{log:q} 2>&1"
        " && rm -f {params.stem:q}.checkpoint.safetensors"
