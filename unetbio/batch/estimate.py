"""What a batch would do, without doing it: files, tiles, memory, disk and time."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from unetbio.batch.pipeline import frame_bytes
from unetbio.batch.plan import Item
from unetbio.batch.resume import find_kept
from unetbio.batch.run import BatchOptions
from unetbio.errors import ImageError
from unetbio.preparation import Opened
from unetbio.segmentation import Segmenter

__all__ = ["Estimate", "estimate"]

BYTES_A_LABEL = 2


@dataclass(frozen=True)
class Estimate:
    """What would be done.

    Parameters
    ----------
    images, kept, frames, tiles : int
        Images in all, those that are done already, frames and tiles of the others.
    failed : tuple
        Images whose head cannot be read, with the reason.
    pixels : int
        That are left to do.
    memory : int
        Bytes that images, results and the network's feature maps would take at once, at most.
    disk : int
        Bytes of the label images and probabilities before compression, at most.
    disk_free : int
        Bytes free where they would go.
    seconds : float
        Of the network alone, from one tile that was timed now.
    """

    images: int
    kept: int
    frames: int
    tiles: int
    failed: tuple[tuple[Item, str], ...]
    pixels: int
    memory: int
    disk: int
    disk_free: int
    seconds: float

    @property
    def todo(self) -> int:
        """Images that would be segmented."""
        return self.images - self.kept - len(self.failed)

    def values(self) -> dict[str, Any]:
        """For programs; sizes in bytes."""
        names = ("images", "kept", "frames", "tiles", "pixels", "memory", "disk", "disk_free", "seconds")
        return {"todo": self.todo, "failed": len(self.failed), **{name: getattr(self, name) for name in names}}

    def lines(self) -> list[str]:
        """For people; each number says how it was found."""
        return [
            f"files   {self.images} images: {self.todo} to do, {self.kept} done already, "
            f"{len(self.failed)} cannot be read",
            f"tiles   {self.tiles} in {self.frames} frames, {self.pixels / 1e6:.1f} megapixels",
            f"memory  {_size(self.memory)} at most for images and feature maps, beside about 500 MB for the program",
            f"disk    {_size(self.disk)} at most (before compression; label images shrink to a few percent), "
            f"{_size(self.disk_free)} free",
            f"time    {_duration(self.seconds)} for the network (one tile was timed now); reading and writing go on "
            "beside it",
        ]


def estimate(items: Sequence[Item], out: Path, segmenter: Segmenter, options: BatchOptions) -> Estimate:
    """Read the heads of all images and work out what segmenting them would take; nothing is written.

    Parameters
    ----------
    items, out, segmenter, options
        As for `unetbio.batch.run.run_batch`.
    """
    if options.policy.save_probabilities:
        segmenter.check_probabilities()
    kept, failed, opened = 0, [], []
    for item in items:
        record = segmenter.record(item.settings)
        try:
            if find_kept(item, out, segmenter.model.sha256, record, options.policy):
                kept += 1
            else:
                opened.append(segmenter.open(item.source, item.settings))
        except ImageError as error:
            failed.append((item, str(error)))
        except Exception as error:
            # As in a run, a mistake of ours is that image's failure and not the end of all.
            failed.append((item, f"internal error ({' '.join(f'{type(error).__name__}: {error}'.split())})"))
    frames = [(image, len(image.times)) for image in opened]
    classes = 4 * len(segmenter.info.class_names) if options.policy.save_probabilities else 0
    largest = sorted((frame_bytes(image, segmenter) for image in opened), reverse=True)
    return Estimate(
        images=len(items),
        kept=kept,
        frames=sum(count for _, count in frames),
        tiles=sum(count * image.sections * len(segmenter.plan(image.section.grid)) for image, count in frames),
        failed=tuple(failed),
        pixels=sum(count * prod(image.shape) for image, count in frames),
        # One frame is let in however large it is; others as long as they fit.
        memory=max([*largest[:1], min(options.memory, sum(largest))]) + _network_bytes(opened, segmenter),
        disk=sum(count * (prod(image.shape) * BYTES_A_LABEL + prod(image.grid) * classes) for image, count in frames),
        disk_free=_free(out),
        seconds=_network_seconds(opened, segmenter),
    )


def _network_bytes(opened: Sequence[Opened], segmenter: Segmenter) -> int:
    predictor = segmenter.interpretation.runner
    return max((predictor.memory_bytes(shape) for shape in _tile_inputs(opened, segmenter)), default=0)


def _network_seconds(opened: Sequence[Opened], segmenter: Segmenter) -> float:
    """Time the largest tile once (after one pass to warm up) and scale by multiply-adds."""
    inputs = _tile_inputs(opened, segmenter)
    if not inputs:
        return 0.0
    predictor = segmenter.interpretation.runner
    shape = max(inputs, key=predictor.multiply_adds)
    tile = np.zeros((1, len(segmenter.info.channels), *shape), np.float32)
    segmenter.interpretation.run_once(tile)
    start = perf_counter()
    segmenter.interpretation.run_once(tile)
    rate = (perf_counter() - start) / predictor.multiply_adds(shape)
    return rate * sum(segmenter.plan(image.section.grid).cost * image.sections * len(image.times) for image in opened)


def _tile_inputs(opened: Sequence[Opened], segmenter: Segmenter) -> set[tuple[int, ...]]:
    return {next(iter(segmenter.plan(image.section.grid))).read_shape for image in opened}


def _free(out: Path) -> int:
    existing = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.is_dir())
    return shutil.disk_usage(existing).free


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
