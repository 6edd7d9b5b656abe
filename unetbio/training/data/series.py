"""Pair the images of files that hold several (positions, scenes, series) with those of their masks."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from unetbio.annotations.masks import is_mask_folder
from unetbio.errors import ImageError
from unetbio.io import read_image
from unetbio.io.image import Image
from unetbio.io.list_images import select_series
from unetbio.io.pairing.matching import open_mask
from unetbio.io.series import is_seen_to_hold_one, list_series
from unetbio.settings.segmentation import Settings
from unetbio.training.data.pairs import AnnotatedPair

__all__ = ["naming", "pair_series"]


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file at fault in front of an error."""
    try:
        yield
    except ImageError as error:
        raise ImageError(error.reason, f"{path}: {error}") from error


def pair_series(pairs: Iterable[AnnotatedPair]) -> list[AnnotatedPair]:
    """Pair each chosen image of a file with the image of its mask that has the same number.

    Parameters
    ----------
    pairs : iterable of AnnotatedPair
        Images and their masks; ``reading.series`` chooses images, all unless given.

    Returns
    -------
    list of AnnotatedPair
        As they are where a file holds one image, otherwise one for each image, chosen by its number.

    Raises
    ------
    ImageError
        ``no_such_series``; ``series_differ``: the mask holds another number of images; others as
        `unetbio.io.read_image`.
    """
    return [one for pair in pairs for one in _each(pair)]


def _each(pair: AnnotatedPair) -> list[AnnotatedPair]:
    if pair.image_set is not None or (pair.reading.series is None and _holds_one(pair.image) and _holds_one(pair.mask)):
        return [pair]
    with naming(pair.image):
        first, chosen = _chosen(pair.image, pair.reading)
    with naming(pair.mask):
        count = 1 if is_mask_folder(pair.mask) else open_mask(pair.mask, first).series_count
        if (count == 1 and len(chosen) > 1) or count not in (1, first.series_count):
            raise ImageError("series_differ", _difference(pair, count, first.series_count))
    if first.series_count == 1:
        return [pair]
    return [pair._replace(reading=replace(pair.reading, series=number)) for number in chosen]


def _holds_one(path: Path) -> bool:
    """Whether a file is seen to hold one image before it is opened; what is wrong with it is seen then."""
    try:
        return is_mask_folder(path) or is_seen_to_hold_one(path)
    except (ImageError, OSError):
        return False


def _chosen(path: Path, reading: Settings) -> tuple[Image, list[int]]:
    """One of the chosen images, and the numbers of all."""
    if isinstance(reading.series, int):
        return read_image(path, axes=reading.axes, series=reading.series), [reading.series]
    first = read_image(path, axes=reading.axes)
    if first.series_count == 1 and reading.series is None:
        return first, [0]
    names = [each.image.name if each.image else "" for each in list_series(path, axes=reading.axes)]
    chosen = select_series(reading.series, names)
    return read_image(path, axes=reading.axes, series=chosen[0]), chosen


def _difference(pair: AnnotatedPair, masks: int, images: int) -> str:
    found = f"it holds {masks} image{'' if masks == 1 else 's'}, and {pair.image} holds {images}"
    if images == 1:
        return f"{found}: give a mask that holds one"
    return f"{found}: give a mask of as many, or choose one image with --series and give its mask"
