"""Predict files, tiles, memory, disk and time of a batch from a short probe on this machine."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from unetbio.batch.budget import PROGRAM_BYTES
from unetbio.batch.pipeline import MESSAGES_AHEAD, frame_bytes, streamed_if_large
from unetbio.batch.run import BatchOptions
from unetbio.batch.timing_probe import Load, Probe, load_of, run_probe
from unetbio.errors import ImageError
from unetbio.files import real_path
from unetbio.machine import peak_memory
from unetbio.preprocessing.selection import ImageSelection
from unetbio.results.items import Item
from unetbio.results.result_files import STACK_BYTES_IN_MEMORY
from unetbio.results.reuse import find_earlier_result
from unetbio.segmentation import Segmenter

__all__ = ["Estimate", "estimate"]

BYTES_A_LABEL = 2
CELL_BYTES = 1000
"""Memory of a row of the table of cells, with the copies made while it is written."""
SCRATCH_BYTES = 15
"""Disk that a pixel of a streamed image takes while it is segmented."""


@dataclass(frozen=True)
class Estimate:
    """Prediction of a run.

    Parameters
    ----------
    images, kept, frames, tiles : int
        All images, those already done, and the frames and tiles of the others.
    replaced : int
        Images to do that have a result of another model or other settings.
    failed : tuple
        Images that would fail, by their header and the settings, with the reason.
    pixels : int
        Pixels of the images to do.
    memory : int
        Peak memory of the process, in bytes.
    disk : int
        Bytes that would be written.
    disk_free : int
        Free bytes on the disk of the output folder.
    seconds : float
        From the start of the program to its end.
    probed : int
        Images that were segmented for the prediction.
    """

    images: int
    kept: int
    replaced: int
    frames: int
    tiles: int
    failed: tuple[tuple[Item, str], ...]
    pixels: int
    memory: int
    disk: int
    disk_free: int
    seconds: float
    probed: int

    @property
    def todo(self) -> int:
        """Number of images to segment."""
        return self.images - self.kept - len(self.failed)

    def values(self) -> dict[str, Any]:
        """For programs; sizes in bytes."""
        names = (
            "images",
            "kept",
            "replaced",
            "frames",
            "tiles",
            "pixels",
            "memory",
            "disk",
            "disk_free",
            "seconds",
            "probed",
        )
        return {"todo": self.todo, "failed": len(self.failed), **{name: getattr(self, name) for name in names}}

    def lines(self) -> list[str]:
        """For people."""
        replaced = f" ({self.replaced} of them made with other settings)" if self.replaced else ""
        return [
            f"files   {self.images} images: {self.todo} to do{replaced}, {self.kept} done already, "
            f"{len(self.failed)} would fail",
            f"tiles   {self.tiles} in {self.frames} frames, {self.pixels / 1e6:.1f} megapixels",
            f"memory  {_size(self.memory)} at most",
            f"disk    {_size(self.disk)}, {_size(self.disk_free)} free",
            f"time    {_duration(self.seconds)}, by {self.probed} images or pieces of images that were segmented now",
        ]


def estimate(
    items: Sequence[Item], out: Path, segmenter: Segmenter, options: BatchOptions, *, startup: float = 0.0
) -> Estimate:
    """Read the headers of all images, segment a few into a temporary folder, and predict what all would take.

    Nothing is written to ``out``. The prediction assumes that the sample is like all images.

    Parameters
    ----------
    items, out, segmenter, options
        As for `unetbio.batch.run.run_batch`.
    startup : float
        Seconds since the program started; see `unetbio.machine.process_seconds`.
    """
    if options.policy.save_probabilities:
        segmenter.check_probabilities()
    kept, replaced, failed, todo = 0, 0, [], []
    # A run looks for earlier results in the same way, and reads them for its tables, which takes about as long.
    seconds = startup
    for item in items:
        record = segmenter.record(item.settings)
        started = perf_counter()
        try:
            earlier = find_earlier_result(item, out, segmenter.model, record, options.policy)
            if earlier.kept:
                kept += 1
                seconds += 2 * (perf_counter() - started)
            else:
                opened = segmenter.open(item.read(), item.settings)
                todo.append((item, streamed_if_large(opened, item, segmenter, options.policy, out, options.memory)))
                replaced += bool(earlier.changes)
        except ImageError as error:
            failed.append((item, str(error)))
        except Exception as error:
            # As in a run, an internal error fails this image only.
            failed.append((item, f"internal error ({' '.join(f'{type(error).__name__}: {error}'.split())})"))
    images = [image for _, image in todo]
    warming, network_rate = _time_network(images, segmenter)
    probe = run_probe(todo, segmenter, options, network_rate) if todo else None
    loads = [load_of(image, segmenter, network_rate) for image in images]
    if probe is not None:
        seconds += warming + probe.once + probe.rate * sum(load.seconds for load in loads)
    frames = [(image, len(image.times)) for image in images]
    return Estimate(
        images=len(items),
        kept=kept,
        replaced=replaced,
        frames=sum(count for _, count in frames),
        tiles=sum(count * image.sections * len(segmenter.plan(image.section.grid)) for image, count in frames),
        failed=tuple(failed),
        pixels=sum(load.pixels for load in loads),
        memory=_memory(images, probe, segmenter, options),
        disk=_disk(todo, loads, probe, options),
        disk_free=_free(out),
        seconds=seconds,
        probed=probe.images if probe is not None else 0,
    )


def _time_network(opened: Sequence[ImageSelection], segmenter: Segmenter) -> tuple[float, float]:
    """Extra seconds of the first pass, and seconds for a multiply-add, both for the largest tile."""
    inputs = {next(iter(segmenter.plan(image.section.grid))).read_shape for image in opened}
    if not inputs:
        return 0.0, 0.0
    predictor = segmenter.decoder.runner
    shape = max(inputs, key=predictor.multiply_adds)
    tile = np.zeros((1, len(segmenter.info.channels), *shape), np.float32)
    times = []
    for _ in range(2):
        started = perf_counter()
        segmenter.decoder.run_once(tile)
        times.append(perf_counter() - started)
    return max(0.0, times[0] - times[1]), times[1] / predictor.multiply_adds(shape)


def _memory(opened: Sequence[ImageSelection], probe: Probe | None, segmenter: Segmenter, options: BatchOptions) -> int:
    """Peak memory of this process, scaled from the frames of the probe to those of the run."""
    peak = peak_memory() or PROGRAM_BYTES
    if probe is None:
        return peak

    def held(images: Sequence[ImageSelection]) -> int:
        pixels = sum(len(image.times) * prod(image.shape) for image in images)
        stacks = [len(image.times) * prod(image.shape) * BYTES_A_LABEL for image in images if len(image.times) > 1]
        rows = int(CELL_BYTES * probe.cells * pixels)
        return _on_their_way(images, segmenter, options) + min(STACK_BYTES_IN_MEMORY, max(stacks, default=0)) + rows

    return peak + max(0, held(opened) - held(probe.opened))


def _on_their_way(opened: Sequence[ImageSelection], segmenter: Segmenter, options: BatchOptions) -> int:
    """Bytes of the frames in memory together: with the workers, and read ahead within the budget."""
    most = options.workers + 1 + MESSAGES_AHEAD + 1
    sizes = [(frame_bytes(image, segmenter), image) for image in opened for _ in image.times[:most]]
    sizes.sort(key=lambda size: -size[0])
    taken = total = 0
    for number, (size, image) in enumerate(sizes[:most]):
        if number and taken + size > options.memory:
            break
        taken += size
        # A waiting frame holds its grey values, raw and normalized.
        raw = prod(image.shape) * image.image.dtype.itemsize
        waiting = len(image.channels) * (raw + 4 * prod(image.grid))
        total += size if number <= options.workers or image.streaming else waiting
    return total


def _disk(
    todo: Sequence[tuple[Item, ImageSelection]], loads: Sequence[Load], probe: Probe | None, options: BatchOptions
) -> int:
    if probe is None:
        return 0
    pixels = sum(load.pixels for load in loads)
    drawn = sum(
        load.overlay_pixels for (item, _), load in zip(todo, loads, strict=True) if item.result in options.overlays
    )
    results = probe.result_bytes[0] * len(loads) + probe.result_bytes[1] * pixels
    tables = probe.table_bytes[0] + probe.table_bytes[1] * pixels
    # Arrays on disk of one streamed image at a time.
    scratch = max((_scratch(image) for _, image in todo if image.streaming is not None), default=0)
    return round(results + tables + probe.overlay_bytes * drawn) + scratch


def _scratch(image: ImageSelection) -> int:
    rescaled = 4 * len(image.channels) if image.grid != image.shape else 0
    return (SCRATCH_BYTES + rescaled) * max(prod(image.shape), prod(image.grid))


def _free(out: Path) -> int:
    existing = next(folder for folder in (real_path(out), *real_path(out).parents) if folder.is_dir())
    return shutil.disk_usage(existing).free


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
