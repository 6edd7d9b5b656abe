"""Names and colours of classes; class 0 is the background."""

import colorsys
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CELL_CLASS",
    "PALETTE",
    "class_colours",
    "default_class_names",
    "hex_colours",
    "number_classes",
    "order_classes",
]

CELL_CLASS = 1
"""Class of cells in a model of cells."""

# Bright enough for a dark field and saturated enough for stained tissue; neighbours in the list differ in hue.
PALETTE = np.array(
    [
        (255, 214, 0),
        (0, 200, 255),
        (255, 82, 165),
        (96, 230, 80),
        (255, 128, 32),
        (160, 140, 255),
        (0, 230, 190),
        (255, 70, 70),
    ],
    dtype=np.uint8,
)

# Steps of the golden section around the circle of hues never repeat a hue.
GOLDEN_SECTION = 0.6180339887498949


def default_class_names(count: int) -> tuple[str, ...]:
    """``background``, ``class 1``, ``class 2`` ...: names of classes that have none."""
    return ("background", *(f"class {number}" for number in range(1, count)))[:count]


def class_colours(count: int) -> NDArray[np.uint8]:
    """Red, green and blue of each class.

    The background is black. The next eight classes have the colours of their outlines in overlays, and further
    classes are spread over all hues.

    Parameters
    ----------
    count : int
        Number of classes, background included.

    Returns
    -------
    ndarray
        ``(count, 3)`` uint8.
    """
    colours = np.zeros((count, 3), np.uint8)
    for number in range(1, count):
        if number <= len(PALETTE):
            colours[number] = PALETTE[number % len(PALETTE)]
        else:
            hue = number * GOLDEN_SECTION % 1
            colours[number] = [round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.6, 0.9)]
    return colours


def hex_colours(count: int) -> list[str]:
    """`class_colours` as ``#rrggbb``."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in class_colours(count).tolist()]


def order_classes(found: Iterable[str], class_names: Sequence[str]) -> tuple[str, ...]:
    """Names of the model's classes, then of others, which were given by hand, in alphabetical order."""
    return (*class_names, *sorted(set(found) - set(class_names)))


def number_classes(class_of_cell: Mapping[int, str], class_names: Sequence[str]) -> dict[int, int]:
    """Number of the class of each cell by its id, from 1 in the order of `order_classes`."""
    numbers = {name: number for number, name in enumerate(order_classes(class_of_cell.values(), class_names), 1)}
    return {cell: numbers[name] for cell, name in class_of_cell.items()}
