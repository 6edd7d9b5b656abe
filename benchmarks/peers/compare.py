"""StarDist and Cellpose 3 beside unetbio: same training images, same scores, timed from raw file to mask file.

    bash benchmarks/peers/environments.sh ENVIRONMENTS
    python benchmarks/peers/compare.py train DATA ENVIRONMENTS OUT --tools stardist --minutes 60
    python benchmarks/peers/compare.py train DATA ENVIRONMENTS OUT --tools cellpose --minutes 60
    python benchmarks/peers/compare.py train DATA ENVIRONMENTS OUT --tools unetbio-fresh --minutes 60
    python benchmarks/peers/compare.py score DATA ENVIRONMENTS OUT
    python benchmarks/peers/compare.py time DATA ENVIRONMENTS OUT

``train`` begins with random weights, or goes on with those in OUT, on the files and the split of the shipped model.
A minute is one of all cores: 120 seconds of the processor with ``--cores 2``, however long other programs make it.
`unetbio-fresh` has the settings of the shipped model and begins with random weights as well; its minutes are those of
the clock, so train it on a quiet machine.
``score`` segments the validation images of `dsb2018` (fluorescence) and `bbbc039`, which `unetbio evaluate` scores.
``time`` segments mosaics of `bbbc039`, 1024 x 1024 px, 16 bit, one tool after the other; do it on a quiet machine. Each
prints the table of what is known so far (OUT/results.json).
"""

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tifffile import imread, imwrite

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1] / "unetbio" / "models"
TABLE, SETTINGS = MODELS / "nuclei.csv", MODELS / "nuclei.yaml"
PEERS = ("stardist", "cellpose")
FRESH = "unetbio-fresh"
UNETBIO = {"unetbio": (), "unetbio-int8": ("--precision", "int8"), FRESH: ()}
TOOLS = (*UNETBIO, *PEERS)
TRAINED_HERE = (FRESH, *PEERS)
SCORES = ("AP@.5", "AP@.75", "AP@.9", "mean_AP")
SIDE = 1024
TRAINED, MINUTES = "trained, processor s", "trained, minutes"

Results = dict[str, dict[str, float]]


def run_peer(environments: Path, peer: str, *arguments: object) -> None:
    python = (environments / peer / "bin" / "python").absolute()
    subprocess.run([python, f"{peer}_peer.py", *map(str, arguments)], check=True, cwd=HERE)


def segmenter(tool: str, options: argparse.Namespace) -> Callable[[Path, Path], None]:
    """A function that segments a folder of images into a folder of masks."""

    def unetbio(images: Path, masks: Path) -> None:
        model = model_of(tool, options) if tool == FRESH else "nuclei"
        line = ["segment", images, "-o", masks, "--model", model, "--device", "cpu", "--overlays", "none", "-q"]
        run_unetbio(*line, *UNETBIO[tool])

    def peer(images: Path, masks: Path) -> None:
        run_peer(options.environments, tool, "segment", model_of(tool, options), images.resolve(), masks.resolve())

    return unetbio if tool in UNETBIO else peer


def model_of(tool: str, options: argparse.Namespace) -> Path:
    return options.out.resolve() / "models" / (f"{tool}.safetensors" if tool == FRESH else tool)


def with_model(options: argparse.Namespace) -> list[str]:
    """Tools that have a model: those that ship one, and those that were trained here."""
    return [tool for tool in options.tools if tool not in TRAINED_HERE or model_of(tool, options).exists()]


def run_unetbio(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "unetbio", *map(str, arguments)], check=True)


def measure(segment: Callable[[Path, Path], None], images: Path, masks: Path) -> dict[str, float]:
    """Time of a run that begins with nothing, the start of the program included."""
    shutil.rmtree(masks, ignore_errors=True)
    before, started = processor_seconds(), time.monotonic()
    segment(images, masks)
    seconds, used = time.monotonic() - started, processor_seconds() - before
    pixels = sum(imread(path).size for path in images.iterdir())
    return {"mosaics": len(list(images.iterdir())), "s": seconds, "processor s": used, "Mpx/s": pixels / seconds / 1e6}


def processor_seconds() -> float:
    """Of all programs that were run so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# --- Commands ---------------------------------------------------------------------------------------------------------


def train(options: argparse.Namespace, results: Results) -> None:
    """Train; what the tools used is added up over all sittings."""
    for tool in [tool for tool in options.tools if tool in TRAINED_HERE]:
        model = model_of(tool, options)
        model.parent.mkdir(parents=True, exist_ok=True)
        before = processor_seconds()
        found = results.setdefault(tool, {})
        table, data = options.table.resolve(), options.data.resolve()
        if tool == FRESH:
            found[MINUTES] = found.get(MINUTES, 0) + options.minutes
            line = ("train", table, "--root", data, "--config", SETTINGS, "--minutes", found[MINUTES], "-o", model)
            run_unetbio(*line, "--device", "cpu")
        else:
            seconds = 60 * options.minutes * options.cores
            run_peer(options.environments, tool, "train", table, data, model, "--seconds", seconds)
        found[TRAINED] = found.get(TRAINED, 0) + processor_seconds() - before


def score(options: argparse.Namespace, results: Results) -> None:
    for name, folder in validation_folders(options).items():
        for tool in with_model(options):
            masks = options.out / "masks" / name / tool
            shutil.rmtree(masks, ignore_errors=True)
            segmenter(tool, options)(folder / "images", masks)
            scores = evaluate(masks, folder / "masks")
            results.setdefault(tool, {}).update({f"{name} {key}": scores[key] for key in SCORES})


def validation_folders(options: argparse.Namespace) -> dict[str, Path]:
    """A folder of links to the validation images of each set."""
    with (options.data / "dsb2018" / "index.csv").open(newline="") as stream:
        fluorescence = {row["name"] for row in csv.DictReader(stream) if row["modality"] == "fluorescence"}
    folders = {}
    for name in ("dsb2018", "bbbc039"):
        source, folders[name] = options.data / name / "val", options.out / "images" / name
        paths = [
            path for path in sorted((source / "images").iterdir()) if name != "dsb2018" or path.stem in fluorescence
        ]
        for kind in ("images", "masks"):
            link_files((source / kind / path.name for path in paths[: options.images]), folders[name] / kind)
    return folders


def link_files(paths: Iterable[Path], folder: Path) -> None:
    """A folder of links to these files alone."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in paths:
        (folder / path.name).symlink_to(path.resolve())


def evaluate(masks: Path, truth: Path) -> dict[str, float]:
    thresholds = ",".join(str(round(0.5 + 0.05 * step, 2)) for step in range(10))
    command = [sys.executable, "-m", "unetbio", "evaluate", masks, truth, "--thresholds", thresholds, "--json"]
    found = json.loads(subprocess.run(list(map(str, command)), check=True, capture_output=True).stdout)
    return found["pooled"]


def time_tools(options: argparse.Namespace, results: Results) -> None:
    folder = write_mosaics(options)
    for tool in with_model(options):
        results.setdefault(tool, {}).update(measure(segmenter(tool, options), folder, options.out / "masks" / tool))


def write_mosaics(options: argparse.Namespace) -> Path:
    """Images of `SIDE`, each of four crops of validation images."""
    images = [imread(path) for path in sorted((options.data / "bbbc039" / "val" / "images").iterdir())]
    folder = options.out / "images" / "mosaics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(options.images or 100):
        crops = [images[index][: SIDE // 2, : SIDE // 2] for index in random.choice(len(images), 4, replace=False)]
        imwrite(folder / f"mosaic_{number:03d}.tif", np.block([crops[:2], crops[2:]]))
    return folder


# --- The table --------------------------------------------------------------------------------------------------------


def print_table(results: Results) -> None:
    """A row for each figure, a column for each tool."""
    tools = [tool for tool in TOOLS if tool in results]
    names = list(dict.fromkeys(name for tool in tools for name in results[tool]))
    print(f"| {'':20} |" + "".join(f" {tool:>12} |" for tool in tools))
    print(f"|{'-' * 22}|" + f"{'-' * 13}:|" * len(tools))
    for name in names:
        values = [results[tool].get(name) for tool in tools]
        print(f"| {name:20} |" + "".join(f" {'' if value is None else f'{value:.4g}':>12} |" for value in values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = {"train": train, "score": score, "time": time_tools}
    parser.add_argument("command", choices=commands)
    for name in ("data", "environments", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS)
    parser.add_argument("--minutes", type=float, default=60, help="of a training")
    parser.add_argument("--table", type=Path, default=TABLE, help="table of the training images")
    parser.add_argument("--images", type=int, help="segment so many images; all, and 100 mosaics, by default")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    # All programs that are started here have these cores alone, and take as many threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    kept = options.out / "results.json"
    results: Results = json.loads(kept.read_text()) if kept.exists() else {}
    commands[options.command](options, results)
    kept.write_text(json.dumps(results, indent=1))
    print_table(results)


if __name__ == "__main__":
    main()
