# Runs if the settings have a section compare.


rule compare:
    input:
        lambda wildcards: input_names(CONFIG.compare.files()),
    output:
        f"{OUT}/comparison/comparison.md",
        f"{OUT}/comparison/comparison.csv",
        report(f"{OUT}/comparison/index.html", category="Comparison"),
    log:
        f"{OUT}/logs/compare.log",
    benchmark:
        f"{OUT}/benchmarks/compare.tsv"
    conda:
        "environment.yaml"
    threads: CONFIG.compare.resources.threads
    resources:
        mem_mb=CONFIG.compare.resources.mem_mb,
        runtime=CONFIG.compare.resources.runtime,
        gpu=CONFIG.compare.resources.gpu,
    params:
        stamps=lambda wildcards: input_stamps(CONFIG.compare.files()),
        data=lambda wildcards: CONFIG.compare.data,
        options=lambda wildcards: CONFIG.compare.arguments(),
        out=subpath(output[0], parent=True),
    message:
        f"Comparing networks in {OUT}/comparison"
    shell:
        # Exit code 3: a network failed, which is a row of the table.
        "unetbio compare {params.data:q} -o {params.out:q} {params.options:q} --replace --workers {threads}"
        " >{log:q} 2>&1 || [ $? -eq 3 ]"
