"""Segment a few images of a batch into a temporary folder, to predict what the whole batch will take.

The sample is spread evenly over the images, ordered by cost. Images that take too long are cut to a piece. The cheapest
image is segmented twice, alone, and then the whole sample in one batch. The first run takes longer than the second by
the costs of a process (late imports, compiled loops). The second and the third separate the fixed costs of a batch from
those that grow with the images.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from time import perf_counter

import numpy as np

from unetbio.batch.plan import spread
from unetbio.batch.run import BatchOptions, run_batch
from unetbio.errors import ImageError
from unetbio.io import write_image
from unetbio.io.image import Image
from unetbio.output_layout import overlay_name
from unetbio.preprocessing.parts import full_pixels
from unetbio.preprocessing.selection import ImageSelection
from unetbio.results.items import Item
from unetbio.segmentation import Segmenter
from unetbio.settings.segmentation import Settings

__all__ = ["Load", "Probe", "load_of", "run_probe"]

PROBE_SECONDS = 4.0
"""Network time for the whole sample."""

LEAST_SAMPLES, MOST_SAMPLES = 4, 24
"""Number of images in the sample. Two would say little about many; pieces of slow images keep the sample short."""

PIXEL_SECONDS = 5e-8
"""Time for a pixel outside the network. This and the next only compare images of different size."""

IMAGE_SECONDS = 0.02
"""Time for an image outside the network."""

SMALLEST_PIECE = 256
"""Smallest side of a piece; in smaller ones a tile is mostly context."""

OVERLAY_PIXELS = 2048**2
"""Largest number of pixels of an overlay."""


@dataclass(frozen=True)
class Load:
    """Cost of an image.

    Parameters
    ----------
    seconds : float
        Rough time, to compare images.
    pixels : int
        Pixels of all frames.
    overlay_pixels : int
        Pixels of the overlay, if one is drawn.
    """

    seconds: float
    pixels: int
    overlay_pixels: int


@dataclass(frozen=True)
class Probe:
    """Measurements of the sample.

    Parameters
    ----------
    images : int
        Number of images in the sample.
    once : float
        Fixed seconds of a process and a batch.
    rate : float
        Seconds for each second of `Load`.
    result_bytes : tuple of float
        Bytes of the results of an image: fixed, and for each pixel.
    overlay_bytes : float
        Bytes for each pixel of an overlay.
    table_bytes : tuple of float
        Bytes of tables, journal and page: fixed, and for each pixel.
    cells : float
        Cells for each pixel.
    opened : tuple of ImageSelection
        The images or pieces of images.
    """

    images: int
    once: float
    rate: float
    result_bytes: tuple[float, float]
    overlay_bytes: float
    table_bytes: tuple[float, float]
    cells: float
    opened: tuple[ImageSelection, ...]


@dataclass(frozen=True)
class _Sampled:
    item: Item
    opened: ImageSelection
    load: Load


@dataclass(frozen=True)
class _Batch:
    """Measurements of one batch of the probe; sizes in bytes, each with its number of pixels."""

    seconds: float
    load: float
    pixels: int
    cells: int
    results: list[tuple[int, int]]
    overlays: list[tuple[int, int]]
    tables: int


def load_of(opened: ImageSelection, segmenter: Segmenter, network_rate: float) -> Load:
    """Cost of an image; ``network_rate`` is in seconds for a multiply-add."""
    frames = len(opened.times)
    pixels = frames * prod(opened.shape)
    network = network_rate * frames * opened.sections * segmenter.plan(opened.section.grid).cost
    overlay = min(OVERLAY_PIXELS, prod(opened.shape[-2:]))
    return Load(network + PIXEL_SECONDS * pixels + IMAGE_SECONDS, pixels, overlay)


def run_probe(
    images: Sequence[tuple[Item, ImageSelection]], segmenter: Segmenter, options: BatchOptions, network_rate: float
) -> Probe | None:
    """Segment and measure a sample as the batch would.

    Parameters
    ----------
    images : sequence of (Item, ImageSelection)
        All images to do.
    segmenter, options
        As for `unetbio.batch.run.run_batch`.
    network_rate : float
        Seconds for a multiply-add.

    Returns
    -------
    Probe, optional
        None if no image of the sample could be segmented.
    """
    with tempfile.TemporaryDirectory(prefix="unetbio-probe-") as name:
        folder = Path(name)
        sample = _sample(images, segmenter, network_rate, folder)
        if not sample:
            return None
        drawn = sum(item.result in options.overlays for item, _ in images) / len(images)
        first = _run(sample[:1], folder / "first", segmenter, options, math.ceil(drawn))
        second = _run(sample[:1], folder / "second", segmenter, options, math.ceil(drawn))
        whole = second
        if len(sample) > 1:
            whole = _run(sample, folder / "whole", segmenter, options, round(drawn * len(sample)))
        if not whole.results:
            return None
        rate = _rate(second, whole)
        overlays = [*second.overlays, *whole.overlays]
        return Probe(
            images=len(sample),
            once=max(0.0, first.seconds - second.seconds) + max(0.0, second.seconds - rate * second.load),
            rate=rate,
            result_bytes=_line(whole.results),
            overlay_bytes=sum(size for _, size in overlays) / max(1, sum(pixels for pixels, _ in overlays)),
            table_bytes=_line([(second.pixels, second.tables), (whole.pixels, whole.tables)]),
            cells=whole.cells / max(1, whole.pixels),
            opened=tuple(one.opened for one in sample),
        )


def _sample(
    images: Sequence[tuple[Item, ImageSelection]], segmenter: Segmenter, network_rate: float, folder: Path
) -> list[_Sampled]:
    """Images and pieces of images, the cheapest first."""
    ordered = [_Sampled(item, opened, load_of(opened, segmenter, network_rate)) for item, opened in images]
    ordered.sort(key=lambda one: one.load.seconds)
    mean = sum(one.load.seconds for one in ordered) / len(ordered)
    count = min(len(ordered), max(LEAST_SAMPLES, min(MOST_SAMPLES, int(PROBE_SECONDS / mean))))
    chosen = [ordered[(2 * index + 1) * len(ordered) // (2 * count)] for index in range(count)]
    shares = [PROBE_SECONDS / min(count, LEAST_SAMPLES) / one.load.seconds for one in chosen]
    if count == 1:
        # A second piece of the only image separates fixed costs from those that grow with the image.
        chosen, shares = chosen * 2, [shares[0], min(1.0, shares[0]) / 4]
    sample = []
    for index, (one, share) in enumerate(zip(chosen, shares, strict=True)):
        try:
            sample.append(
                one if share >= 1 else _piece(one, share, folder / f"piece_{index}.ome.tif", segmenter, network_rate)
            )
        except ImageError:
            # It will fail in the batch as well.
            continue
    return sorted(sample, key=lambda one: one.load.seconds)


def _piece(one: _Sampled, share: float, path: Path, segmenter: Segmenter, network_rate: float) -> _Sampled:
    """Write this share of an image to a file: fewer times, then fewer sections, then the middle of the plane."""
    opened, image, settings = one.opened, one.opened.image, one.item.settings
    times = opened.times[: max(1, int(len(opened.times) * share))]
    share = min(1.0, share * len(opened.times) / len(times))
    sections = slice(0, max(2, int(opened.sections * share))) if opened.in_sections else None
    if sections is not None:
        share = min(1.0, share * opened.sections / sections.stop)
    elif isinstance(settings.z, int):
        sections = slice(settings.z, settings.z + 1)
    rows, columns = (_middle(image.size(axis), math.sqrt(share)) for axis in "YX")
    first, last = times[0], times[-1]
    of_time = None if first is None or last is None else slice(first, last + 1)
    array = image.read(t=of_time, z=sections, y=rows, x=columns)
    if array.dtype.itemsize == 8 or array.dtype == np.float16:
        array = array.astype(np.float32)
    sizes = image.pixel_size_um if image.pixel_size_trusted else {}
    write_image(path, array, axes=image.axes, pixel_size_um=sizes, channel_names=image.channel_names)
    item = replace(
        one.item,
        source=path,
        path=path.name,
        settings=_of_piece(settings, image),
        image_set=None,
        named="",
        plate="",
    )
    cut = segmenter.open(path, item.settings)
    return _Sampled(item, cut, load_of(cut, segmenter, network_rate))


def _of_piece(settings: Settings, image: Image) -> Settings:
    """Settings for a file that holds nothing else, at the resolution that is segmented."""
    z = None if isinstance(settings.z, int) else settings.z
    diameter = settings.diameter_px
    if isinstance(diameter, int | float):
        diameter /= full_pixels(image)
    # The piece has the pixel size and the names of channels of the image.
    return replace(
        settings,
        series=None,
        channel_names=(),
        axes=None,
        t=None,
        z=z,
        level=None,
        region=(),
        tissue="none",
        diameter_px=diameter,
        pixel_size_um=None,
    )


def _middle(size: int, share: float) -> slice:
    length = min(size, max(SMALLEST_PIECE, round(size * share)))
    start = (size - length) // 2
    return slice(start, start + length)


def _run(sample: Sequence[_Sampled], out: Path, segmenter: Segmenter, options: BatchOptions, drawn: int) -> _Batch:
    items = [one.item for one in sample]
    pictures = {item.result: out / overlay_name(item.labels) for item in spread(items, drawn)}
    started = perf_counter()
    summary = run_batch(items, out, segmenter, replace(options, overlays=pictures), lambda outcome: None)
    seconds = perf_counter() - started
    results = [(one.load.pixels, size) for one in sample if (size := _result_bytes(one, out))]
    overlays = [
        (one.load.overlay_pixels, pictures[one.item.result].stat().st_size)
        for one in sample
        if one.item.result in pictures and pictures[one.item.result].is_file()
    ]
    everything = _size(out)
    return _Batch(
        seconds,
        sum(one.load.seconds for one in sample),
        sum(one.load.pixels for one in sample),
        summary.cells or 0,
        results,
        overlays,
        everything - sum(size for _, size in (*results, *overlays)),
    )


def _result_bytes(one: _Sampled, out: Path) -> int:
    item = one.item
    names = (item.labels, item.provenance, item.objects, *item.probabilities_names(one.opened.times))
    return sum(_size(out / name) for name in names)


def _size(path: Path) -> int:
    """Bytes of a file or of all files of a folder (an OME-Zarr image); 0 if it is missing."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _rate(second: _Batch, whole: _Batch) -> float:
    """Seconds for each second of load, without the fixed costs of a batch."""
    at_most = whole.seconds / whole.load
    if whole.load < 1.5 * second.load:
        return at_most
    # Both are measured once, on a machine that may be busy: at least half of the time counts as growing.
    return min(at_most, max(at_most / 2, (whole.seconds - second.seconds) / (whole.load - second.load)))


def _line(points: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Least squares of ``size = a + b * pixels`` with neither below 0."""
    from scipy.optimize import nnls

    pixels, sizes = np.array(points, np.float64).T
    scale = pixels.max()
    (constant, slope), _ = nnls(np.column_stack([np.ones(len(pixels)), pixels / scale]), sizes)
    return float(constant), float(slope / scale)
