"""A whole slide of real images, as scanners write it: tiles in JPEG, smaller resolutions, glass around the tissue.

    python benchmarks/slide.py DATA/tnbc_he/images OUT.ome.tif [--side 30000]

The tissue is a circle of half the slide, a mosaic of the images of the folder. Strips are written as they are made:
memory holds one of them, and the second resolution.
"""

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import tifffile
from large_images import STRIP_ROWS, strips
from numpy.typing import NDArray

from unetbio.io import read_image

TILE = 256
REDUCTION = 4
"""Of each resolution to the next, as in slides of Aperio."""

RESOLUTIONS = 3
PIXEL_SIZE_UM = 0.25
GLASS = 242
JPEG = {"tile": (TILE, TILE), "photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 80}}

Strip = NDArray[np.uint8]


def slide_strips(images: list[Strip], side: int) -> Iterator[Strip]:
    """Strips of the mosaic ``(Y, X, 3)`` with glass around the circle."""
    axis = (np.arange(side) - side / 2) / (side * np.sqrt(0.5 / np.pi))
    for number, strip in enumerate(strips(images, side)):
        rows = axis[number * STRIP_ROWS :][: len(strip), np.newaxis]
        yield np.where((rows**2 + axis**2 <= 1)[..., np.newaxis], strip, np.uint8(GLASS))


def reduced(strip: Strip) -> Strip:
    """Mean of each square of pixels; what is left over at the sides is cut."""
    height, width = (size // REDUCTION * REDUCTION for size in strip.shape[:2])
    places = product(range(REDUCTION), repeat=2)
    total = sum(strip[y:height:REDUCTION, x:width:REDUCTION].astype(np.uint16) for y, x in places)
    return (total // REDUCTION**2).astype(np.uint8)


def tiles(rows: Iterator[Strip], smaller: list[Strip]) -> Iterator[Strip]:
    """Tiles in the order of the file; strips of the next resolution are added to ``smaller``."""
    for strip in rows:
        smaller.append(reduced(strip))
        height, width = strip.shape[:2]
        padded = np.pad(strip, ((0, -height % TILE), (0, -width % TILE), (0, 0)), mode="edge")
        for y in range(0, height, TILE):
            yield from (np.ascontiguousarray(padded[y : y + TILE, x : x + TILE]) for x in range(0, width, TILE))


def write_slide(path: Path, images: list[Strip], side: int) -> None:
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as file:
        smaller: list[Strip] = []
        metadata = {"axes": "YXS", **dict.fromkeys(("PhysicalSizeX", "PhysicalSizeY"), PIXEL_SIZE_UM)}
        first = {"shape": (side, side, 3), "dtype": np.uint8, "subifds": RESOLUTIONS - 1, "metadata": metadata}
        file.write(tiles(slide_strips(images, side), smaller), **first, **JPEG)
        level = np.vstack(smaller)
        for _ in range(RESOLUTIONS - 1):
            file.write(level, subfiletype=1, **JPEG)
            level = reduced(level)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of images in red, green and blue")
    parser.add_argument("out", type=Path, help="the slide, .ome.tif")
    parser.add_argument("--side", type=int, default=30_000, help="pixels of each side")
    options = parser.parse_args()
    images = [np.moveaxis(read_image(path).read(), 0, -1) for path in sorted(options.images.iterdir())]
    write_slide(options.out, images, options.side)


if __name__ == "__main__":
    main()
