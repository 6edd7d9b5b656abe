"""Names of images and masks: stems, the endings that mark a mask, and the folders of data sets."""

import os
import re
import unicodedata
from pathlib import Path

from unetbio.io.formats import LONG_SUFFIXES
from unetbio.output_layout import WRITTEN_MASKS

__all__ = [
    "CHALLENGE_FOLDER",
    "IMAGE_FOLDER",
    "IMAGE_SUFFIXES",
    "MASK_FOLDER",
    "MASK_SUFFIXES",
    "composed",
    "one_of_several",
    "plain_stem",
    "section_of",
    "stack_of",
    "stem",
    "without_suffix",
]

MASK_SUFFIXES = ("_cp_masks", *WRITTEN_MASKS, "_masks", "_mask", "_label", "_gt", "_seg")
"""Endings of stems that mark a mask."""

IMAGE_SUFFIXES = ("_img", "_image", "_0000")
"""Endings of stems that mark an image: of Cellpose's data, and nnU-Net's number of the channel."""

_CTC_MASK = re.compile(r"(?:man_seg|man_track|mask)_?(\d{3,})")
"""Stems of masks of the Cell Tracking Challenge, whose images are called t and the number."""

_CTC_SECTION = re.compile(r"man_seg_(\d{3,})_(\d{3,})")
"""Stems of masks of single sections: the time, whose image is a stack, and the section."""

_SERIES = re.compile(r"(.+)_s(\d{2,})")

IMAGE_FOLDER = re.compile(r"(?:raw_?images?|images?|imgs?|raw)(tr|ts)?", re.IGNORECASE)
MASK_FOLDER = re.compile(
    r"(?:masks?|labels?|instances|gt|ground_?truth|segmentations?|annotations?)(tr|ts)?", re.IGNORECASE
)
"""Names of folders of a data set; those of nnU-Net end in ``Tr`` and ``Ts``."""

CHALLENGE_FOLDER = re.compile(r"(.+)_(GT|ST|AUTO|RES|ERR_SEG)")
"""Names of folders of masks of the Cell Tracking Challenge, after that of the images beside them."""


def stem(path: str | os.PathLike[str]) -> str:
    """File name without folder and ending; ``.ome.tif``, ``.ome.zarr``, ``.nii.gz`` ... count as one ending."""
    name = Path(path).name
    for suffix in LONG_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def plain_stem(path: str | os.PathLike[str]) -> str:
    """What the stems of an image and of its mask have in common: ``x`` of ``x_img``, ``x_0000`` and ``x_masks``.

    ``t007`` of ``t007`` and of ``man_seg007``, as in the Cell Tracking Challenge.
    """
    name = without_suffix(without_suffix(stem(path), MASK_SUFFIXES), IMAGE_SUFFIXES)
    frame = _CTC_MASK.fullmatch(name)
    return f"t{frame[1]}" if frame else name


def composed(name: str) -> str:
    """A name with each letter and its accents as one character: macOS and some programs write them apart."""
    return unicodedata.normalize("NFC", name)


def section_of(mask: str | os.PathLike[str]) -> int | None:
    """Section of a stack that a mask is of, by its name in the Cell Tracking Challenge: 12 of ``man_seg_000_012``."""
    name = _CTC_SECTION.fullmatch(stem(mask))
    return int(name[2]) if name else None


def stack_of(mask: str | os.PathLike[str]) -> str | None:
    """Stem of the stack that the mask of one section is of, as `section_of`: ``t000`` of ``man_seg_000_012``."""
    name = _CTC_SECTION.fullmatch(stem(mask))
    return f"t{name[1]}" if name else None


def one_of_several(name: str) -> tuple[str, int] | None:
    """Stem of a file of several images, and the number of the image that results call so: ``x`` and 1 of ``x_s01``."""
    found = _SERIES.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def without_suffix(name: str, suffixes: tuple[str, ...]) -> str:
    """A stem without the first of these endings that it has, unless nothing would be left."""
    for suffix in suffixes:
        if name.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name
