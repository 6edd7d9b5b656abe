# Files that failed are tried once more: a disk may have come back, or a whole file lies there now.
import os
import shlex


def tries(wildcards, output, threads):
    """Words of the shell: each model's failed files again, and the summaries of several models side by side."""
    out = os.path.dirname(output[0])
    lines = []
    for use in USES.values():
        folder, model = (
            out + path.removeprefix(OUT) for path in (use.folder, use.model)
        )
        words = ["unetbio", "segment", *CONFIG.source_arguments(), "-o", folder]
        words += [
            "--model",
            model if use.network else use.model,
            *CONFIG.segment.arguments(),
        ]
        again = shlex.join([*words, "--workers", str(threads), "--failed-only"])
        # What failed in one model's results does not keep the next one from its try; a full disk does.
        lines.append(f"{again} || {{ code=$?; [ $code -eq 3 ]; }}")
        if CONFIG.measure.arguments():
            # The tables that the last command wrote know nothing of these options.
            measure = shlex.join(
                [
                    "unetbio",
                    "measure",
                    folder,
                    *CONFIG.measure.arguments(),
                    "--failed-ok",
                ]
            )
            nothing = f"tail -n 1 {shlex.quote(output[0])} | grep -q '^no image failed'"
            lines.append(
                f"{nothing} || {{ {measure}; {shlex.join(['unetbio', 'report', folder])}; }}"
            )
    if CONFIG.models:
        folders = [out + use.folder.removeprefix(OUT) for use in USES.values()]
        lines.append(
            shlex.join(["unetbio", "summarize", *folders, "-o", f"{out}/summary.csv"])
        )
    return "; ".join(lines)


rule finish:
    input:
        expand("{results}/index.html", results=USES),
        expand("{results}/summary.csv", results=USES),
        [f"{OUT}/check.json"] if CONFIG.check else [],
        # While this rule runs, nothing else may write to the folder.
        [f"{OUT}/comparison/comparison.md"] if CONFIG.compare.data else [],
    output:
        f"{OUT}/finished.txt",
    log:
        f"{OUT}/logs/finish.log",
    benchmark:
        f"{OUT}/benchmarks/finish.tsv"
    retries: 0
    conda:
        "environment.yaml"
    threads: CONFIG.resources.threads
    resources:
        mem_mb=CONFIG.resources.mem_mb,
        runtime=CONFIG.resources.runtime,
        gpu=CONFIG.resources.gpu,
    params:
        tries=tries,
    message:
        f"Trying what failed once more, and closing {OUT}"
    shell:
        # The last line of the log is how it ended, for whoever ends the workflow.
        "code=0; {{ {params.tries}; }} >{output:q} 2>{log:q}; echo exit code $code >>{log:q}; exit $code"
