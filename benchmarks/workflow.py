"""Time of the workflow beyond the segmentation itself: 1000 images of 256 x 256 through Snakemake on two cores.

    python benchmarks/workflow.py DATA/dsb2018/train/images

The images are 256 x 256 pixels of the real ones in the folder. The workflow runs as users run it: a new process of
Snakemake, with its rules check, segment, measure, report and finish as processes of their own. The segmentation itself
is subtracted in two ways. In the same run: the time from the first finished image to the last, by the journals of the
segment jobs, which leaves all starts and all other rules. Apart: the time of one warm process for the same images, with
network, cells, label images, provenance, measurements, tables, overlays and page; this difference is as unsteady as the
speed of the machine. Bar: 10 ms an image. The check reads every image once more, and is timed apart as well.

Then, in the same project: ten images whose names sort in the middle; and one broken file, twice. Each run must process
new files alone. All commands have to be on the path.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import tifffile
import torch
import yaml

from unetbio.batch.plan import found_items, spread
from unetbio.batch.run import MAX_FINISHERS, BatchOptions, run_batch
from unetbio.errors import ImageError
from unetbio.io import read_image
from unetbio.models.model_file import load_model
from unetbio.output_layout import overlay_name
from unetbio.pipelines import SNAKEFILE
from unetbio.report.overlays import write_overlay
from unetbio.report.page import write_page
from unetbio.segmentation import Segmenter
from unetbio.settings.segmentation import Settings

SIZE = 256
BAR_MS = 10.0
ADDED = 10
OVERLAYS = 50


def write_crops(source: Path, folder: Path, count: int) -> None:
    """Write the upper left of real images of one channel, over and over."""
    crops = []
    for path in sorted(source.iterdir()):
        try:
            image = read_image(path)
        except ImageError:
            continue
        if "C" not in image.axes and min(image.shape[-2:]) >= SIZE:
            crops.append(np.asarray(image.read(y=slice(0, SIZE), x=slice(0, SIZE))))
    folder.mkdir()
    for number, crop in enumerate(islice(cycle(crops), count)):
        # All images differ, as real ones do.
        tifffile.imwrite(folder / f"image_{number:04d}.tif", np.roll(crop, number // len(crops), axis=-1))


def snakemake(project: Path, cores: int) -> tuple[float, int]:
    """Seconds and exit code of one run."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(SNAKEFILE),
        "--cores",
        str(cores),
        "--quiet",
        "all",
    ]
    start = time.perf_counter()
    run = subprocess.run(
        [*command, "--configfile", "config.yaml"],
        cwd=project,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if run.returncode not in (0, 3):
        sys.exit(f"the workflow failed: {run.stdout}{run.stderr}")
    return seconds, run.returncode


def rule_seconds(out: Path) -> dict[str, float]:
    """Seconds of each rule's jobs together, as Snakemake measured them."""
    seconds: dict[str, float] = {}
    for path in sorted((out / "benchmarks").glob("*.tsv")):
        with open(path, encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream, delimiter="\t"):
                rule = path.name.split(".")[0]
                seconds[rule] = seconds.get(rule, 0.0) + float(row["s"])
    return seconds


def seconds_of_images(out: Path) -> float:
    """Seconds of all images in the segment jobs, from the end time of each image."""
    seconds = 0.0
    for journal in out.glob("run.*.jsonl"):
        done = [datetime.fromisoformat(json.loads(line)["time"]) for line in journal.read_text().splitlines()]
        # Only the end of the first image is known.
        seconds += (max(done) - min(done)).total_seconds() * len(done) / (len(done) - 1)
    return seconds


def warm_seconds(images: Path, out: Path, model: str, workers: int) -> float:
    """Seconds of the same images in this process, once it is warm."""
    torch.set_num_threads(workers)
    segmenter = Segmenter(load_model(model), "cpu")
    items = found_items([images], Settings(), out)

    def run(items: list, folder: Path) -> float:
        drawn = spread(items, OVERLAYS)
        overlays = {item.result: folder / overlay_name(item.labels) for item in drawn}
        options = BatchOptions(
            overlays=overlays, draw=write_overlay, write_page=write_page, workers=min(MAX_FINISHERS, workers)
        )
        start = time.perf_counter()
        run_batch(items, folder, segmenter, options, lambda outcome: None)
        return time.perf_counter() - start

    run(items[:4], out / "warm")
    return run(items, out / "all")


def times_of_masks(out: Path) -> dict[str, int]:
    """When each label image was written."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*_labels.ome.tif")}


def changed(before: dict[str, int], out: Path) -> int:
    """Label images written since."""
    return sum(time != before.get(name) for name, time in times_of_masks(out).items())


def report_run(what: str, seconds: float, code: int, before: dict[str, int], out: Path) -> None:
    """One line for a run in a project that has results."""
    with open(out / "summary.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    failed = [f"{row['path']} ({row['reason']})" for row in rows if row["status"] == "failed"]
    print(
        f"{what}: {seconds:.1f} s, exit code {code}, {changed(before, out)} masks written, "
        f"{len(rows) - len(failed)} images done, failed: {', '.join(failed) or 'none'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    count = arguments.images
    with tempfile.TemporaryDirectory() as name:
        project, apart = Path(name, "project"), Path(name, "apart")
        project.mkdir()
        write_crops(arguments.folder, apart, count + ADDED)
        images, out = project / "images", project / "out"
        images.mkdir()
        for path in sorted(apart.iterdir())[:count]:
            path.rename(images / path.name)
        settings = {"images": "images", "output": "out", "model": arguments.model}
        resources = {"threads": arguments.cores}
        (project / "config.yaml").write_text(yaml.safe_dump({**settings, "resources": resources}))

        seconds, code = snakemake(project, arguments.cores)
        rules, itself = rule_seconds(out), seconds_of_images(out)
        alone = warm_seconds(images, Path(name, "warm"), arguments.model, arguments.cores)
        beyond, beyond_warm = ((seconds - taken) / count * 1000 for taken in (itself, alone))
        print(
            f"{count} images: {seconds:.1f} s, exit code {code}; "
            f"the images themselves {itself:.1f} s, in one warm process {alone:.1f} s"
        )
        print("of it " + ", ".join(f"{rule} {value:.1f} s" for rule, value in rules.items()))
        print(f"beyond the segmentation itself: {beyond:.1f} ms an image (bar {BAR_MS:g})")
        print(f"beyond one warm process: {beyond_warm:.1f} ms an image")
        without = beyond - rules["check"] / count * 1000
        print(f"without the check of every image: {without:.1f} ms an image")

        before = times_of_masks(out)
        for number, path in enumerate(sorted(apart.iterdir())):
            path.rename(images / f"image_{count // 2:04d}_{number}.tif")
        report_run(f"{ADDED} images more", *snakemake(project, arguments.cores), before, out)

        before = times_of_masks(out)
        whole = next(iter(sorted(images.iterdir()))).read_bytes()
        (images / f"image_{count // 2:04d}_broken.tif").write_bytes(whole[:1000])
        report_run("one broken file", *snakemake(project, arguments.cores), before, out)
        report_run("the same again", *snakemake(project, arguments.cores), before, out)


if __name__ == "__main__":
    main()
