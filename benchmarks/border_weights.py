"""Border weights against none: the same short training with three seeds each, scored on unseen images.

    python benchmarks/border_weights.py DATA OUT

Each run is ``unetbio train`` with ``benchmarks/border_weights.yaml``; its thresholds are searched on its own validation
images, so both sides get their best. The scores are of the fluorescence validation parts of both sets. A finished run
is not repeated; an interrupted one continues.

DATA has to hold all images of ``unetbio/models/nuclei.csv``; ``ablation.py`` compares border weights on a collection
without StarDist's test images.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from accuracy import score

HERE = Path(__file__).parent
TABLE = HERE.parent / "unetbio" / "models" / "nuclei.csv"
BORDER_WEIGHTS = (0, 10)
SEEDS = (0, 1, 2)
SETS = ("dsb2018", "bbbc039")
COLUMNS = ("merges_per_100", "splits_per_100", "AP@.5")


def runs(data: Path, out: Path) -> Iterator[tuple[int, int, dict[str, dict[str, float]]]]:
    """Border weight, seed and scores by set of every run."""
    for seed in SEEDS:
        for border_weight in BORDER_WEIGHTS:
            model = out / f"w{border_weight}_seed{seed}.safetensors"
            if not model.exists():
                train(data, model, border_weight, seed)
            scores = model.with_suffix(".json")
            if not scores.exists():
                scores.write_text(json.dumps({name: score(data, name, str(model)) for name in SETS}, indent=2))
            yield border_weight, seed, json.loads(scores.read_text())


def train(data: Path, model: Path, border_weight: int, seed: int) -> None:
    command = [sys.executable, "-m", "unetbio", "train", TABLE, "--root", data, "-o", model]
    command += ["--config", HERE / "border_weights.yaml", "--border-weight", border_weight, "--seed", seed]
    subprocess.run([str(word) for word in [*command, "--device", "cpu"]], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = list(runs(arguments.data, arguments.out))
    print("| set | border weight | " + " | ".join(f"{column}, seeds 0 1 2 (mean)" for column in COLUMNS) + " |")
    print("|---|---|" + "---|" * len(COLUMNS))
    for name in SETS:
        for border_weight in BORDER_WEIGHTS:
            chosen = [scores[name] for weight, _, scores in rows if weight == border_weight]
            print(f"| {name} | {border_weight} | " + " | ".join(cell(chosen, column) for column in COLUMNS) + " |")


def cell(chosen: list[dict[str, float]], column: str) -> str:
    values = [scores[column] for scores in chosen]
    return f"{' '.join(f'{value:.3g}' for value in values)} ({statistics.mean(values):.3g})"


if __name__ == "__main__":
    main()
