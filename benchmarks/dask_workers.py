"""Time of one image on one and on two workers of dask.distributed, a thread each: a mosaic of real images.

    python benchmarks/dask_workers.py DATA/bbbc039/val/images [--side 4000] [--model NAME|FILE] [--repeats 1]

The image is segmented by ``unetbio segment --scheduler local:1`` and ``local:2``, then with two workers of which one is
killed half-way, and without workers on one thread. Seconds are those of the network, exact decisions included, and of
the whole run with the start of the workers. A machine needs a free core for each worker, and some of another one.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from common import print_table
from large_images import children, write_tiff

from unetbio.io import read_image

WORKER = b"spawn_main"
"""Part of the command line of a worker's process."""


class Result(NamedTuple):
    """Seconds of the network and of the run, and the label hash."""

    network: float
    whole: float
    label_hash: str


def segment(image: Path, out: Path, model: str, scheduler: str | None, kill_after: float | None = None) -> Result:
    """Segment an image; kill a worker after so many seconds."""
    script = "import sys; from unetbio.cli.main import main; sys.exit(main())"
    fixed = ["--diameter", "model", "--overlays", "none", "--workers", "1", "--profile", "--json", "--quiet"]
    workers = ["--scheduler", scheduler] if scheduler else []
    line = [sys.executable, "-c", script, "segment", str(image), "-o", str(out), "--model", model, *fixed, *workers]
    started = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.PIPE)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(worker_of(process.pid), signal.SIGKILL)
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"unetbio segment {image} ended with {process.returncode}")
    stages = json.loads(printed)["profile"]["stages"]
    provenance = json.loads(next(out.glob("*_labels.json")).read_text())
    network = stages["network"] + stages["exact decisions"]
    return Result(network, time.perf_counter() - started, provenance["output"]["label_hash"])


def worker_of(process: int) -> int:
    """A process of a worker that a run has started."""
    return next(pid for pid in children(process) if WORKER in Path(f"/proc/{pid}/cmdline").read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--side", type=int, default=4000)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    images = [read_image(path).read() for path in sorted(options.images.iterdir())[:20]]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "mosaic.tif")
        write_tiff(image, images, options.side)
        for repeat in range(options.repeats):
            one, two = (
                segment(image, Path(folder, f"{count}_{repeat}"), options.model, f"local:{count}") for count in (1, 2)
            )
            half = two.whole - two.network / 2
            killed = segment(image, Path(folder, f"killed_{repeat}"), options.model, "local:2", half)
            none = segment(image, Path(folder, f"none_{repeat}"), options.model, None)
            runs = {"one worker": one, "two workers": two, "two, one killed": killed, "no workers": none}
            for how, run in runs.items():
                factor = f"{one.network / run.network:.2f}"
                rows.append((how, f"{run.network:.1f}", f"{run.whole:.1f}", factor, run.label_hash[:12]))
                print(*rows[-1], flush=True)
    print_table(("how", "network s", "run s", "times one worker", "label hash"), rows)


if __name__ == "__main__":
    main()
