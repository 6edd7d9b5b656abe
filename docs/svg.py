"""Pictures of the documentation as SVG: words, boxes, arrows, tables of numbers, images."""

import base64
import io
from collections.abc import Callable, Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

__all__ = [
    "CELL",
    "PALE",
    "WARM",
    "Fills",
    "arrow",
    "box",
    "coloured",
    "grid",
    "middle",
    "picture",
    "svg",
    "text",
]

CELL = 24
"""Side of a place of a table."""

WARM, PALE, INK = "#f2b880", "#f5f5f5", "#333"

Fills = Callable[[int, int], str]
"""The colour of a row and column."""


def svg(width: float, height: float, parts: Iterable[str]) -> str:
    """A picture of the parts, on white."""
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            'font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="white"/>',
            *parts,
            "</svg>\n",
        )
    )


def middle(x: float, y: float, words: str, *, size: int = 12, colour: str = INK) -> str:
    """Words with their middle at a place."""
    return text(x, y, words, anchor="middle", size=size, colour=colour)


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, colour: str = INK) -> str:
    """Words that begin at a place; y is the base line."""
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{words}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, *, line: str = "none", dashed: bool = False) -> str:
    """A rectangle."""
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" stroke="{line}" '
        f'stroke-width="1.5"{dash}/>'
    )


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str = "#888") -> str:
    """A line with a head."""
    length = max(1e-9, float(np.hypot(x2 - x1, y2 - y1)))
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    left, right = (x2 - 7 * dx - 4 * dy, y2 - 7 * dy + 4 * dx), (x2 - 7 * dx + 4 * dy, y2 - 7 * dy - 4 * dx)
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in ((x2, y2), left, right))
    return (
        f'<path d="M{x1:.1f} {y1:.1f} L{x2 - 5 * dx:.1f} {y2 - 5 * dy:.1f}" stroke="{colour}" stroke-width="1.5"/>'
        f'<polygon points="{head}" fill="{colour}"/>'
    )


def number(value: float) -> str:
    """A number as short as it can be."""
    return f"{value:.4g}"


def grid(
    values: NDArray[Any], x: float, y: float, fills: Fills = lambda row, column: PALE, cell: int = CELL
) -> list[str]:
    """A table of numbers, with a colour for each place."""
    parts = []
    for (row, column), value in np.ndenumerate(values):
        left, top = x + column * cell, y + row * cell
        parts.append(box(left, top, cell, cell, fills(row, column), line="#bbb"))
        words = number(value)
        parts.append(middle(left + cell / 2, top + cell / 2 + 4, words, size=11 if len(words) < 4 else 9))
    return parts


def picture(pixels: NDArray[Any], x: float, y: float, width: float, height: float) -> str:
    """An image of (Y, X, 3) bytes; pixels stay square and sharp."""
    stream = io.BytesIO()
    imsave(stream, pixels, format="png", metadata={"Software": None})
    data = base64.b64encode(stream.getvalue()).decode()
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
    )


def coloured(values: NDArray[Any], name: str, low: float, high: float) -> NDArray[np.uint8]:
    """Values as colours of one of matplotlib's maps."""
    shares = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(mpl.colormaps[name](shares, bytes=True)[..., :3], dtype=np.uint8)
