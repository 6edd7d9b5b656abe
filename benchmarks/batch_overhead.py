"""Time of a batch outside the network: 100 images of 512 x 512, in seconds a megapixel after start-up.

    python benchmarks/batch_overhead.py DATA/bbbc039/train/images

The images are 512 x 512 pixels of the real ones in the folder. The batch is run as the command runs it: reading,
normalizing, network, cells, label images, provenance, measurements, tables, overlays and page. The time of the network
alone for the same images, measured in the same process without other work, is subtracted. Bar: 0.06 s a megapixel. The
second figure is a batch whose network returns stored results at once: the time of all other steps with the processors
to themselves.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from unetbio.batch.plan import found_items, spread
from unetbio.batch.run import MAX_FINISHERS, BatchOptions, run_batch
from unetbio.io import read_image
from unetbio.machine import keep_freed_memory
from unetbio.models.model_file import load_model
from unetbio.output_layout import overlay_name
from unetbio.preprocessing.selection import Frame, ImageSelection
from unetbio.report.overlays import write_overlay
from unetbio.report.page import write_page
from unetbio.results.items import Item
from unetbio.segmentation import Segmenter
from unetbio.settings.segmentation import Settings
from unetbio.targets.cells import CellDecisions

SIZE = 512
BAR = 0.06


def crops(folder: Path, count: int) -> Iterator[NDArray[np.integer]]:
    """The first 512 x 512 pixels of real images that have as many, over and over."""
    paths = [path for path in sorted(folder.iterdir()) if min(read_image(path).shape[-2:]) >= SIZE]
    for path in islice(cycle(paths), count):
        yield read_image(path).read(y=slice(0, SIZE), x=slice(0, SIZE))


def run(items: list[Item], out: Path, segmenter: Segmenter, workers: int) -> float:
    """Seconds of a whole batch into a new folder."""
    drawn = spread(items, 50)
    overlays = {item.result: out / overlay_name(item.labels) for item in drawn}
    options = BatchOptions(overlays=overlays, draw=write_overlay, workers=min(MAX_FINISHERS, workers))
    start = time.perf_counter()
    summary = run_batch(items, out, segmenter, options, lambda outcome: None)
    write_page(out)
    seconds = time.perf_counter() - start
    print(f"  {summary.images} images, {summary.cells} cells, {summary.failed} failed in {seconds:.2f} s")
    return seconds


class StoredDecisions(Segmenter):
    """Segmenter that returns stored decisions instead of running its network."""

    def __init__(self, segmenter: Segmenter, decisions: dict[Path, CellDecisions]) -> None:
        self.__dict__.update(segmenter.__dict__)
        self.decisions = decisions

    def decide(self, opened: ImageSelection, frame: Frame, **kwargs: Any) -> CellDecisions:
        """Stored decisions."""
        return self.decisions[opened.image.source]


def run_network(items: list[Item], segmenter: Segmenter) -> tuple[float, dict[Path, CellDecisions]]:
    """Seconds of the network alone for the same images, and its decisions."""
    seconds, decisions = 0.0, {}
    for item in items:
        opened = segmenter.open(item.read(), item.settings)
        frame = segmenter.read_frame(opened, None)
        start = time.perf_counter()
        decisions[item.source] = segmenter.decide(opened, frame)
        seconds += time.perf_counter() - start
    print(f"  network alone: {seconds:.2f} s")
    return seconds, decisions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(arguments.workers)
    segmenter = Segmenter(load_model(arguments.model), "cpu")
    megapixels = arguments.images * SIZE**2 / 1e6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for index, image in enumerate(crops(arguments.folder, arguments.images)):
            tifffile.imwrite(folder / "images" / f"image_{index:03d}.tif", image)
        # At the model's scale: the search for the scale asks the network itself, and would count as time outside of it.
        items = found_items([folder / "images"], Settings(diameter_px="model"), folder / "out")
        # Start-up: compiled loops are loaded, formats imported, memory of the network allocated.
        run(items[:4], folder / "warm", segmenter, arguments.workers)
        found, alone = [], []
        for repeat in range(arguments.repeats):
            whole = run(items, folder / f"out{repeat}", segmenter, arguments.workers)
            network, decisions = run_network(items, segmenter)
            found.append((whole - network) / megapixels)
            stored = StoredDecisions(segmenter, decisions)
            alone.append(run(items, folder / f"stored{repeat}", stored, arguments.workers) / megapixels)
            print(f"  outside the network: {found[-1]:.3f} s a megapixel; with stored decisions {alone[-1]:.3f}")
        kept = run(items, folder / "out0", segmenter, arguments.workers) / megapixels
    print(f"outside the network: {np.median(found):.3f} s a megapixel (median of {len(found)}; bar {BAR})")
    print(f"with stored decisions: {np.median(alone):.3f} s a megapixel")
    print(f"everything kept from an earlier run: {kept:.4f} s a megapixel")


if __name__ == "__main__":
    main()
