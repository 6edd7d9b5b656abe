# What the inputs and commands of the rules are worked out with.
import os
import shlex


def journals(results):
    """What the segment jobs of a folder of results declare."""
    count, parts = BATCHES[results]
    return [f"{results}/run.{part}-of-{count}.jsonl" for part in parts]


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
        # Snakemake takes the oldest file of a rule for its age, and the page is newer than when its rule ran.
        lines.append(f"touch -c {shlex.quote(folder)}/benchmarks/report.tsv")
    if CONFIG.models:
        folders = [out + use.folder.removeprefix(OUT) for use in USES.values()]
        lines.append(
            shlex.join(["unetbio", "summarize", *folders, "-o", f"{out}/summary.csv"])
        )
    return "; ".join(lines)
