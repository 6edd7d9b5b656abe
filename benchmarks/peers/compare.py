"""StarDist and Cellpose 3 beside unetbio: same training images, same processor time, same scores, timed in turn.

    bash benchmarks/peers/environments.sh ENVIRONMENTS
    python benchmarks/peers/compare.py DATA ENVIRONMENTS OUT --table TABLE [--seconds S] [--model nuclei]

Trains each peer on TABLE, which has to be the one of the model, for the processor time that the model took (or S
seconds), unless OUT holds it already. Then each tool segments the validation images of `dsb2018` (fluorescence) and
`bbbc039`, from raw file to mask file, and ``unetbio evaluate`` scores the masks. Scores and times stand in one table.
Run it on a quiet machine.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from skimage.io import imread

from unetbio.models.model_file import read_info

HERE = Path(__file__).parent
PEERS = ("stardist", "cellpose")
SCORES = ("AP@.5", "AP@.75", "AP@.9", "mean_AP")


def validation_folders(data: Path, out: Path) -> dict[str, Path]:
    """A folder of links to the validation images of each set."""
    sets = {"dsb2018": data / "dsb2018" / "val", "bbbc039": data / "bbbc039" / "val"}
    with (data / "dsb2018" / "index.csv").open(newline="") as stream:
        fluorescence = {row["name"] for row in csv.DictReader(stream) if row["modality"] == "fluorescence"}
    for name, folder in sets.items():
        for kind in ("images", "masks"):
            (out / name / kind).mkdir(parents=True, exist_ok=True)
            for path in (folder / kind).iterdir():
                link = out / name / kind / path.name
                if (name != "dsb2018" or path.stem in fluorescence) and not link.exists():
                    link.symlink_to(path.resolve())
    return {name: out / name for name in sets}


def train_peers(environments: Path, table: Path, data: Path, out: Path, seconds: float) -> None:
    for peer in PEERS:
        model = out / "models" / peer
        if not model.exists():
            run_peer(
                environments, peer, "train", table.resolve(), data.resolve(), model.resolve(), "--seconds", seconds
            )


def run_peer(environments: Path, peer: str, *arguments: object) -> None:
    python = (environments / peer / "bin" / "python").resolve()
    subprocess.run([python, HERE.resolve() / f"{peer}_peer.py", *map(str, arguments)], check=True, cwd=HERE)


def commands(model: str, environments: Path, out: Path) -> dict[str, Callable[[Path, Path], None]]:
    """For each tool the call that segments a folder of images into a folder of masks."""

    def unetbio(images: Path, masks: Path) -> None:
        options = ["--model", model, "--device", "cpu", "--overwrite", "--overlays", "none", "-q"]
        command = [sys.executable, "-m", "unetbio", "segment", images, "-o", masks, *options]
        subprocess.run([str(part) for part in command], check=True)

    def peer(name: str) -> Callable[[Path, Path], None]:
        trained = (out / "models" / name).resolve()
        return lambda images, masks: run_peer(environments, name, "segment", trained, images.resolve(), masks.resolve())

    return {"unetbio": unetbio, **{name: peer(name) for name in PEERS}}


def measure(run: Callable[[Path, Path], None], images: Path, masks: Path) -> dict[str, float]:
    """Seconds, processor seconds and megapixels a second of one run."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run(images, masks)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    pixels = sum(imread(path).size for path in images.iterdir())
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "processor_seconds": processor, "mpx_per_s": pixels / seconds / 1e6}


def evaluate(masks: Path, truth: Path) -> dict[str, float]:
    thresholds = ",".join(str(round(0.5 + 0.05 * step, 2)) for step in range(10))
    command = [sys.executable, "-m", "unetbio", "evaluate", masks, truth, "--thresholds", thresholds, "--json"]
    found = json.loads(subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout)
    return {name: found["pooled"][name] for name in SCORES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "environments", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--table", type=Path, required=True, help="table of the training images")
    parser.add_argument("--seconds", type=float, help="processor time of a training; that of the model by default")
    parser.add_argument("--model", default="nuclei")
    arguments = parser.parse_args()
    seconds = arguments.seconds or os.cpu_count() * read_info(arguments.model).training["seconds"]
    train_peers(arguments.environments, arguments.table, arguments.data, arguments.out, seconds)
    print(f"{'set':10}{'tool':10}" + "".join(f"{name:>10}" for name in (*SCORES, "Mpx/s", "cpu s")))
    for name, folder in validation_folders(arguments.data, arguments.out / "images").items():
        for tool, run in commands(arguments.model, arguments.environments, arguments.out).items():
            masks = arguments.out / "masks" / name / tool
            timed = measure(run, folder / "images", masks)
            scores = evaluate(masks, folder / "masks")
            row = [*scores.values(), timed["mpx_per_s"], timed["processor_seconds"]]
            print(f"{name:10}{tool:10}" + "".join(f"{value:10.3f}" for value in row), flush=True)


if __name__ == "__main__":
    main()
