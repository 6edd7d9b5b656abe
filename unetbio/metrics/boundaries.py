"""Boundary pixels of cells, and how many of them lie near those of another image."""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.labels import as_volume

__all__ = ["boundary_pixels", "count_near", "steps_within"]


def boundary_pixels(labels: NDArray[Any], annotated: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Pixels of cells with a face neighbour of another id; those alone that are ``annotated``, and all neighbours."""
    boundary: NDArray[np.bool_] = _differs(labels) & (labels > 0)
    return boundary if annotated is None else boundary & annotated & ~_differs(annotated)


def _differs(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels with a face neighbour of another value."""
    differs = np.zeros(values.shape, dtype=bool)
    for axis in range(values.ndim):
        ahead = tuple(slice(1, None) if other == axis else slice(None) for other in range(values.ndim))
        behind = tuple(slice(None, -1) if other == axis else slice(None) for other in range(values.ndim))
        change = values[ahead] != values[behind]
        differs[ahead] |= change
        differs[behind] |= change
    return differs


def steps_within(tolerance: float, ndim: int) -> NDArray[np.int64]:
    """Steps ``(z, y, x)`` of at most the given length, the short ones first."""
    radius = int(tolerance)
    reach = range(-radius, radius + 1)
    steps = [step for step in product(reach if ndim == 3 else [0], reach, reach) if _squared(step) <= tolerance**2]
    return np.array(sorted(steps, key=_squared), dtype=np.int64)


def _squared(step: tuple[int, ...]) -> int:
    return sum(part * part for part in step)


def count_near(points: NDArray[np.bool_], others: NDArray[np.bool_], steps: NDArray[np.int64]) -> int:
    """Count the points that have one of the others within the given steps, ``(n, 3)``."""
    return int(_count_near_volume(as_volume(points), as_volume(others), steps))


@compiled
def _count_near_volume(points: NDArray[np.bool_], others: NDArray[np.bool_], steps: NDArray[np.int64]) -> int:
    depth, height, width = points.shape
    count = 0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if not points[z, y, x]:
                    continue
                for step in range(len(steps)):
                    to_z, to_y, to_x = z + steps[step, 0], y + steps[step, 1], x + steps[step, 2]
                    inside = 0 <= to_z < depth and 0 <= to_y < height and 0 <= to_x < width
                    if inside and others[to_z, to_y, to_x]:
                        count += 1
                        break
    return count
