"""Time of a batch outside the network: 100 images of 512 x 512, in seconds a megapixel after start-up.

    python benchmarks/batch_overhead.py --model nuclei --workers 2

The batch is run as the command runs it: reading, normalizing, network, cells, label images, provenance, measurements,
tables, overlays and page. Taken off is the time that the network alone needs for the same images, measured in the same
process with nothing beside it. Bar: 0.12 s a megapixel. The second figure is a batch whose network answers at once,
from memory: what everything else takes when it has the processors for itself.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from scipy import ndimage

from unetbio.batch.plan import Item, found_items, spread
from unetbio.batch.run import MAX_FINISHERS, BatchOptions, run_batch
from unetbio.model_file import load_model
from unetbio.preparation import Frame, Opened
from unetbio.report.overlays import overlay_path, write_overlay
from unetbio.report.page import write_page
from unetbio.segmentation import Segmenter
from unetbio.settings import Settings

SIZE = 512
CELLS = 120
BAR = 0.12


def draw_image(seed: int) -> NDArray[np.uint16]:
    """Blurred discs of 8 to 14 pixels radius on a dim ground, with noise of a camera."""
    rng = np.random.default_rng(seed)
    image = np.zeros((SIZE, SIZE), np.float32)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for y, x, radius in zip(*rng.uniform(0, SIZE, (2, CELLS)), rng.uniform(8, 14, CELLS), strict=True):
        image[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = rng.uniform(500, 3000)
    return rng.poisson(ndimage.gaussian_filter(image, 1.5) + 200).astype(np.uint16)


def run(items: list[Item], out: Path, segmenter: Segmenter, workers: int) -> float:
    """Seconds of a whole batch into a new folder."""
    overlays = {result: overlay_path(out, result) for result in spread(items, 50)}
    options = BatchOptions(overlays=overlays, draw=write_overlay, workers=min(MAX_FINISHERS, workers))
    start = time.perf_counter()
    summary = run_batch(items, out, segmenter, options, lambda outcome: None)
    write_page(out)
    seconds = time.perf_counter() - start
    print(f"  {summary.images} images, {summary.cells} cells, {summary.failed} failed in {seconds:.2f} s")
    return seconds


class Answered(Segmenter):
    """A segmenter whose network has been asked before."""

    def __init__(self, segmenter: Segmenter, answers: dict[Path, NDArray[np.bool_]]) -> None:
        self.__dict__.update(segmenter.__dict__)
        self.answers = answers

    def decide(self, opened: Opened, frame: Frame, **kwargs: Any) -> NDArray[np.bool_]:
        """The bits decided before."""
        return self.answers[opened.image.source]


def run_network(items: list[Item], segmenter: Segmenter) -> tuple[float, dict[Path, NDArray[np.bool_]]]:
    """Seconds that the network alone needs for the same images, and its answers."""
    seconds, answers = 0.0, {}
    for item in items:
        opened = segmenter.open(item.source, item.settings)
        frame = segmenter.read_frame(opened, None)
        start = time.perf_counter()
        answers[item.source] = segmenter.decide(opened, frame)
        seconds += time.perf_counter() - start
    print(f"  network alone: {seconds:.2f} s")
    return seconds, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.workers)
    segmenter = Segmenter(load_model(arguments.model), "cpu")
    megapixels = arguments.images * SIZE**2 / 1e6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for index in range(arguments.images):
            tifffile.imwrite(folder / "images" / f"image_{index:03d}.tif", draw_image(index))
        items = found_items([folder / "images"], Settings(), folder / "out")
        # Start-up: compiled loops are loaded, formats imported, memory of the network allocated.
        run(items[:4], folder / "warm", segmenter, arguments.workers)
        found, alone = [], []
        for repeat in range(arguments.repeats):
            whole = run(items, folder / f"out{repeat}", segmenter, arguments.workers)
            network, answers = run_network(items, segmenter)
            found.append((whole - network) / megapixels)
            answered = Answered(segmenter, answers)
            alone.append(run(items, folder / f"answered{repeat}", answered, arguments.workers) / megapixels)
            print(f"  outside the network: {found[-1]:.3f} s a megapixel; with its answers at hand {alone[-1]:.3f}")
        kept = run(items, folder / "out0", segmenter, arguments.workers) / megapixels
    print(f"outside the network: {np.median(found):.3f} s a megapixel (median of {len(found)}; bar {BAR})")
    print(f"the network answers at once: {np.median(alone):.3f} s a megapixel")
    print(f"everything kept from an earlier run: {kept:.4f} s a megapixel")


if __name__ == "__main__":
    main()
