"""Ablation: short trainings that differ in one setting each, under one budget, scored in the same way.

    python benchmarks/ablation.py DATA OUT [--only NAME ...] [--seeds N] [--minutes M] [--finished] [--picture FILE]

``ablation.yaml`` holds the common settings, how many seeds, and for each variant the settings in which it differs. Each
run is ``unetbio train`` on the images of the shipped model, so its thresholds are searched on its own internal
validation images; choices are made by these. The scores of the table are of the validation parts of `dsb2018`
(fluorescence) and `bbbc039`, which no training and no choice has seen. A finished run is not repeated; an interrupted
one continues. Run it on a quiet machine: the budget is time. ``--picture`` draws the mean AP of every run;
``--finished`` starts none, for a table of what is there.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from accuracy import score
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unetbio.models.model_file import read_info

HERE = Path(__file__).parent
TABLE = HERE.parent / "unetbio" / "models" / "nuclei.csv"
SETS = ("dsb2018", "bbbc039")
COLUMNS = ("AP@.5", "AP@.7", "AP@.9", "mean_AP", "bias_isolated", "bias_touching")

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Scores of the runs of each variant."""


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes over them; mappings are merged too."""
    both = {name: merged(base[name], changes[name]) for name in changes if isinstance(base.get(name), dict)}
    return {**base, **changes, **both}


def results(
    data: Path, out: Path, only: list[str], seeds: int | None, minutes: float, finished: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Variant and scores of every run: of all variants with the first seed, then with the others."""
    plan = yaml.safe_load((HERE / "ablation.yaml").read_text())
    variants = {name: variant for name, variant in plan["variants"].items() if not only or name in only}
    for seed in range(seeds or plan["seeds"]):
        for name, variant in variants.items():
            if finished and not (out / f"{name}_{seed}.json").exists():
                continue
            settings = merged(plan["settings"], {**variant.get("settings", {}), "seed": seed, "name": name})
            yield name, run(data, out / f"{name}_{seed}.safetensors", settings, minutes)


def run(data: Path, model: Path, settings: dict[str, Any], minutes: float) -> dict[str, Any]:
    """Train and score, unless that is done."""
    scores, config = model.with_suffix(".json"), model.with_suffix(".yaml")
    if not scores.exists():
        config.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "unetbio", "train", TABLE, "--root", data, "-o", model, "--config", config]
        if not model.exists() or model.with_name(f"{model.stem}.checkpoint.safetensors").exists():
            options = [*command, "--minutes", minutes, "--device", "cpu", "-q"]
            subprocess.run([str(word) for word in options], check=True)
        found: dict[str, Any] = {name: score(data, name, str(model)) for name in SETS}
        found["internal"] = read_info(model).scores["validation"]
        found["steps"] = read_info(model).training["steps"]
        scores.write_text(json.dumps(found, indent=2))
    content: dict[str, Any] = json.loads(scores.read_text())
    return content


def table(rows: Runs) -> str:
    """The scores in Markdown."""
    scores = [f"{name} {column}" for name in SETS for column in COLUMNS]
    head = ["variant", "runs", "steps", "internal mean AP", *scores]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, runs in rows.items():
        steps = f"{statistics.mean(one['steps'] for one in runs):.0f}"
        values = [[one["internal"]["mean_AP"] for one in runs]]
        values += [[one[of][column] for one in runs] for of in SETS for column in COLUMNS]
        lines.append(f"| {' | '.join([name, str(len(runs)), steps, *map(cell, values)])} |")
    return "\n".join(lines)


def cell(values: list[float]) -> str:
    """Mean, with the lowest and the highest where there are several runs."""
    mean = f"{statistics.mean(values):.3g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3g} to {max(values):.3g})"


def draw(rows: Runs, path: Path) -> None:
    """Mean AP of every run, by variant: on the internal validation images, and on both validation parts."""
    figure = Figure(figsize=(9, 1 + 0.28 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 1 + len(SETS), sharey=True)
    names = list(rows)
    for axes, of in zip(panels, ("internal", *SETS), strict=True):
        points = [(one[of]["mean_AP"], row) for row, name in enumerate(names) for one in rows[name]]
        axes.axvline(statistics.mean(one[of]["mean_AP"] for one in rows[names[0]]), color="silver", linewidth=1)
        axes.plot(*zip(*points, strict=True), "o", markersize=4)
        axes.set(title=of, xlabel="mean AP", yticks=range(len(names)), yticklabels=names)
        axes.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="these variants alone")
    parser.add_argument("--seeds", type=int, help="the first N seeds alone")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--finished", action="store_true", help="the runs that are finished alone")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    options = (arguments.only, arguments.seeds, arguments.minutes, arguments.finished)
    for name, found in results(arguments.data, arguments.out, *options):
        rows.setdefault(name, []).append(found)
    print(table(rows))
    if arguments.picture:
        draw(rows, arguments.picture)


if __name__ == "__main__":
    main()
