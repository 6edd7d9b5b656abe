"""One label hash and one table, whatever the blocks and workers: real images, a time-lapse and a stack.

    python benchmarks/one_answer.py DATA SAMPLES

DATA holds `bbbc039`, `dsb2018` and `bbbc050_3d`; SAMPLES is what ``unetbio samples SAMPLES`` writes. Twenty images of
each of the first two sets and the time-lapse are segmented by `nuclei`, a stack by `nuclei-3d`: as a whole, and in
blocks of 256, 512 and 1000 pixels, which are the tiles and, but for the time-lapse, the bands of rows that are worked
on at once (12, 25 and 50 sections of the stack). Each with one worker and with two.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

from collections_of_images import annotated
from common import print_table

BLOCKS = (None, 256, 512, 1000)
WORKERS = (1, 2)
IMAGES = 20

IN_BANDS = (
    "import functools, unetbio.batch.pipeline as batch; from math import prod; "
    "from unetbio.segmentation.segmenter import BYTES_IN_BAND; "
    "batch.streamed_if_large = lambda opened, item, segmenter, policy, out, memory: segmenter.streamed("
    "opened, functools.partial(batch.DiskArray, out), {rows} * BYTES_IN_BAND * prod(opened.shape[1:])); "
)
"""Before a run: every image that can be is worked on in bands of so many rows."""


def run(out: Path, inputs: list[str], block: int | None, workers: int, rows: int | None) -> tuple[str, bytes]:
    """Hashes of all label images, and the table of cells."""
    bands = IN_BANDS.format(rows=rows) if rows else ""
    script = f"{bands}import sys; from unetbio.cli.main import main; sys.exit(main())"
    options = [*(["--tile", str(block)] if block else []), "--workers", str(workers), "--overlays", "none", "-q"]
    subprocess.run([sys.executable, "-c", script, "segment", *inputs, "-o", str(out), *options], check=True)
    hashes = {
        path.name: json.loads(path.read_text(encoding="utf-8"))["output"]["label_hash"]
        for path in sorted(out.rglob("*_labels.json"))
    }
    return json.dumps(hashes), (out / "cells.csv").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("samples", type=Path, metavar="SAMPLES")
    options = parser.parse_args()
    planes = [
        str(one.image) for name in ("bbbc039", "dsb2018") for one in islice(annotated(options.data, name), IMAGES)
    ]
    stack = next((options.data / "bbbc050_3d" / "images").glob("Emb08*"))
    kinds = {
        "images and time-lapse": ([*planes, str(options.samples / "timelapse.ome.tif")], 1),
        "stack": ([str(stack), "--model", "nuclei-3d", "--axes", "ZYX", "--pixel-size", "1.75,0.8"], 20),
    }
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, (inputs, rows_a_section) in kinds.items():
            answers = {
                run(
                    Path(folder, f"{kind} {block} {workers}"),
                    inputs,
                    block,
                    workers,
                    block and block // rows_a_section,
                )
                for block in BLOCKS
                for workers in WORKERS
            }
            hashes = len({digest for digest, _ in answers})
            table.append([kind, len(BLOCKS) * len(WORKERS), hashes, len({cells for _, cells in answers})])
    print_table(["what", "runs", "sets of label hashes", "tables"], table)


if __name__ == "__main__":
    main()
