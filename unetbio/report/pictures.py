"""Pictures with axes and colour bars."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.files import atomic_path
from unetbio.labels import relabel_raster
from unetbio.report.overlays import PALETTE, outline_colours

__all__ = ["draw_weight_map"]

DPI = 100
PANEL_PIXELS = (420, 1100)  # the longer side of a panel: large enough to read, small enough to send
BESIDE_INCHES = (1.4, 0.9)  # room for the colour bar and the titles
IGNORED_GREY = 110


def draw_weight_map(
    label_image: NDArray[np.integer[Any]], weight_map: NDArray[np.floating[Any]], path: str | os.PathLike[str]
) -> None:
    """Draw a label image beside its weight map, with a colour bar, and write the picture as PNG.

    Parameters
    ----------
    label_image : ndarray of int
        ``(..., Y, X)``, 0 = background, negative = not annotated. Neighbouring cells have different colours.
    weight_map : ndarray of float
        The same shape. Of several planes, the first one with the largest sum of weights is drawn.
    path : path-like
        Path of the picture; written atomically.

    Raises
    ------
    UsageError
        The shapes differ or have fewer than two axes.
    """
    if label_image.shape != weight_map.shape or label_image.ndim < 2:
        raise UsageError(
            f"cannot draw labels of shape {label_image.shape} beside weights of shape {weight_map.shape}: "
            "needs two equal shapes (..., Y, X)"
        )
    # Imported here, so that commands start fast. Unlike pyplot, the canvas has no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    index, title = _plane_to_draw(weight_map)
    labels, weights = label_image[index], weight_map[index]
    panel = np.clip(max(weights.shape), *PANEL_PIXELS) / max(weights.shape) / DPI
    height, width = (panel * side for side in weights.shape)
    figure = Figure((2 * width + BESIDE_INCHES[0], height + BESIDE_INCHES[1]), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.imshow(_coloured(labels))
    left.set_title(f"{np.unique(labels[labels > 0]).size} cells{title}", fontsize=9)
    shown = right.imshow(weights, cmap="magma", vmin=0)
    right.set_title("weight", fontsize=9)
    for axes in (left, right):
        axes.set_axis_off()
    figure.colorbar(shown, ax=right, fraction=0.05, pad=0.02)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _plane_to_draw(weight_map: NDArray[np.floating[Any]]) -> tuple[tuple[int, ...], str]:
    """Index of the plane with the most weight, and its text for the title."""
    outer = weight_map.shape[:-2]
    if not outer:
        return (), ""
    sums = weight_map.sum(axis=(-2, -1), dtype=np.float64)
    index = tuple(int(i) for i in np.unravel_index(int(sums.argmax()), outer))
    return index, ", plane " + ", ".join(f"{i} (0 to {size - 1})" for i, size in zip(index, outer, strict=True))


def _coloured(labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Colours as ``(Y, X, 3)``: black background, grey pixels without annotation."""
    ids = relabel_raster(np.maximum(labels, 0))
    picture: NDArray[np.uint8] = PALETTE[outline_colours(ids)][ids]
    picture[ids == 0] = 0
    picture[labels < 0] = IGNORED_GREY
    return picture
