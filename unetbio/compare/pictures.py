"""Panels: an image, the truth, and the cells that each network found, side by side."""

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from unetbio.files import atomic_path
from unetbio.report.overlays import draw_overlay, stretch_contrast
from unetbio.training.data.dataset import Example

__all__ = ["choose_panels", "crop_to_cells", "draw_panel"]

DPI = 100
PANEL_INCHES = 2.6
COLUMNS = 4
SIDE = 256
"""Pixels of an image in a panel along each axis, so that outlines of one pixel stay visible."""


def choose_panels(count: int, most: int) -> list[int]:
    """Indices of at most ``most`` of ``count`` images, evenly spread."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def crop_to_cells(label_image: NDArray[np.integer], side: int = SIDE) -> tuple[slice, slice]:
    """The square of ``side`` pixels with most cells, on a grid of half its side."""
    starts = [sorted({*range(0, max(1, size - side), side // 2), max(0, size - side)}) for size in label_image.shape]
    parts = [(slice(y, y + side), slice(x, x + side)) for y in starts[0] for x in starts[1]]
    return max(parts, key=lambda part: len(np.unique(label_image[part])))


def draw_panel(
    example: Example, found: Mapping[str, NDArray[np.integer]], path: str | os.PathLike[str], *, title: str = ""
) -> None:
    """Draw an image, its true cells and those that each network found, and write the picture as PNG.

    Parameters
    ----------
    example : Example
        The image and the truth. Of a stack, the middle section is drawn; of channels, the first, or three as colours.
    found : mapping
        A label image of the same shape for each name, in this order.
    path : path-like
        Path of the picture; written atomically.
    title : str
        Title of the picture.
    """
    # Imported here, so that commands start fast. Unlike pyplot, the canvas has no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    middle = tuple(size // 2 for size in example.label_image.shape[:-2])
    truth = example.label_image[middle]
    part = crop_to_cells(truth)
    channels = example.image[(slice(None), *middle)]
    image = np.moveaxis(channels, 0, -1)[part] if len(channels) == 3 else channels[0][part]
    pictures = {"image": stretch_contrast(image)}
    for name, label_image in {"truth": example.label_image, **found}.items():
        labels = label_image[middle][part]
        pictures[f"{name}\n{_cells(labels)}"] = draw_overlay(image, labels)
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    height, width = truth[part].shape
    size = (columns * PANEL_INCHES, rows * (PANEL_INCHES * height / width + 0.4) + 0.3)
    figure = Figure(size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (name, picture) in zip(grid, pictures.items(), strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(name, fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _cells(label_image: NDArray[np.integer]) -> str:
    count = len(np.unique(label_image[label_image > 0]))
    return f"{count} cell{'' if count == 1 else 's'}"
