"""Further columns of a cell: shape, statistics of grey values, and texture, named as in scikit-image or CellProfiler.

As `unetbio.measurement.regions`, all cells of a label image in a few passes over its runs (cell, z, y, start, stop).
"""

from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.measurement.columns import Columns, Table

__all__ = ["GREY_LEVELS", "INTENSITIES", "TEXTURES", "grey_statistics", "shape_features", "texture_features"]

GREY_LEVELS = 32
"""Grey levels of the co-occurrence matrices, from the smallest to the largest grey value of the image."""

INTENSITIES = ("min", "max", "std", "integrated", "edge_mean", "edge_integrated")
TEXTURES = ("contrast", "dissimilarity", "homogeneity", "asm", "correlation", "entropy")
"""Endings of the columns of a channel, after ``intensity_`` and ``texture_``."""

# Half of the neighbours at distance 1, as each pair counts in both directions.
_PLANE = np.array([(0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1)])
_VOLUME = np.array([*_PLANE.tolist(), *((1, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))])


def shape_features(volume: NDArray[np.int32], runs: Table, areas: NDArray[np.int64], perimeters: Any = None) -> Columns:
    """Columns of the shape of each cell.

    Parameters
    ----------
    volume : ndarray of int32
        ``(Z, Y, X)``, the cells numbered from 1.
    runs : ndarray of int64
        Of all cells.
    areas : ndarray of int64
        Pixels of each cell.
    perimeters : ndarray of float, optional
        Of planes.

    Returns
    -------
    dict of str to ndarray
        ``axis_major_length_px``, ``axis_minor_length_px``
            Of the ellipse (ellipsoid) with the same second moments.
        ``extent``
            Pixels of the cell / pixels of its bounding box.
        ``orientation`` (planes)
            Angle of the major axis to the rows, from -pi/2 to pi/2, counter-clockwise.
        ``form_factor`` (planes)
            ``4 pi area / perimeter**2``: 1 for a disk.
        ``compactness`` (planes)
            Mean squared distance to the centroid / that of a disk of the same area: 1 for a disk.
        ``euler_number`` (planes)
            Parts minus holes; parts touch over corners.
        ``feret_diameter_max_px``, ``feret_diameter_min_px`` (planes)
            Largest and smallest distance of parallel lines around the middles of the pixels' edges.
    """
    moments = _moments(runs, len(areas))
    covariance = moments[:, 3:] / areas[:, np.newaxis]
    boxes = _boxes(runs, len(areas))
    columns: Columns = {"extent": areas / np.prod(boxes[:, 3:] - boxes[:, :3], axis=1)}
    zz, zy, zx, yy, yx, xx = covariance.T
    if volume.shape[0] > 1:
        matrices = np.array([[zz, zy, zx], [zy, yy, yx], [zx, yx, xx]]).transpose(2, 0, 1)
        values = np.clip(np.linalg.eigvalsh(matrices), 0, None)
        major, minor = 2 * np.sqrt(5 * values[:, 2]), 2 * np.sqrt(5 * values[:, 0])
        return {"axis_major_length_px": major, "axis_minor_length_px": minor, **columns}
    middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    columns = {
        "axis_major_length_px": 4 * np.sqrt(middle + spread),
        "axis_minor_length_px": 4 * np.sqrt(np.clip(middle - spread, 0, None)),
        **columns,
        "orientation": _orientation(yy, yx, xx),
    }
    if perimeters is not None:
        squared = np.square(perimeters)
        columns["form_factor"] = np.divide(4 * pi * areas, squared, out=np.full(len(areas), np.nan), where=squared > 0)
    columns["compactness"] = 2 * pi * (yy + xx) / areas
    columns["euler_number"] = _euler_numbers(volume[0], len(areas))
    offsets = np.concatenate(([0], np.cumsum(boxes[:, 4] - boxes[:, 1])))
    feret = _ferets(runs, boxes[:, 1].copy(), offsets)
    columns["feret_diameter_max_px"], columns["feret_diameter_min_px"] = feret.T
    return columns


def grey_statistics(values: NDArray[Any], volume: NDArray[np.int32], runs: Table, areas: NDArray[np.int64]) -> Columns:
    """Statistics of the grey values of each cell, by the endings `INTENSITIES`.

    ``std`` divides by the number of pixels; the edge holds the pixels with a neighbour over an edge that is not of the
    cell, also beyond the border of the image.
    """
    sums = _grey_sums(values, volume, runs, len(areas))
    low, high, total, squares, edge_total, edge_count = sums.T
    mean = total / areas
    # Squares are summed around the smallest value, so that large offsets cost no digits.
    variance = np.clip(squares / areas - np.square(mean - low), 0, None)
    edge = np.divide(edge_total, edge_count, out=np.full(len(areas), np.nan), where=edge_count > 0)
    return dict(zip(INTENSITIES, (low, high, np.sqrt(variance), total, edge, edge_total), strict=True))


def texture_features(values: NDArray[Any], volume: NDArray[np.int32], runs: Table, cells: int) -> Columns:
    """Haralick features of each cell by the endings `TEXTURES`: of co-occurrence matrices at distance 1.

    Pairs lie within the cell and count in both directions; a feature is the mean over the 4 directions of a plane (13
    in a volume). Definitions as in `skimage.feature.graycoprops`, the entropy in bits. NaN for a cell without pairs.
    """
    finite = np.isfinite(values)
    known = values[finite]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    scale = GREY_LEVELS / (high - low) if high > low else 0.0
    levels = np.clip((np.where(finite, values, low).astype(np.float64) - low) * scale, 0, GREY_LEVELS - 1)
    order = np.argsort(runs[:, 0], kind="stable")
    directions = _PLANE if volume.shape[0] == 1 else _VOLUME
    features = _textures(levels.astype(np.uint8), volume, runs[order], directions, cells)
    return dict(zip(TEXTURES, features.T, strict=True))


def _orientation(yy: Any, yx: Any, xx: Any) -> NDArray[np.float64]:
    angle = np.where(xx == yy, np.where(yx > 0, pi / 4, -pi / 4), 0.5 * np.arctan2(2 * yx, yy - xx))
    return np.asarray(angle, np.float64)


@compiled
def _moments(runs: Table, cells: int) -> NDArray[np.float64]:
    """Centroids, and sums of squares and products around them: z, y, x, zz, zy, zx, yy, yx, xx."""
    sums = np.zeros((cells, 9))
    counts = np.zeros(cells)
    for run in range(len(runs)):
        cell, z, y, start, stop = runs[run]
        size = stop - start
        counts[cell - 1] += size
        sums[cell - 1, 0] += z * size
        sums[cell - 1, 1] += y * size
        sums[cell - 1, 2] += (start + stop - 1) * size / 2
    for cell in range(cells):
        for axis in range(3):
            sums[cell, axis] /= counts[cell]
    for run in range(len(runs)):
        cell, z, y, start, stop = runs[run]
        own = sums[cell - 1]
        size = stop - start
        dz, dy = z - own[0], y - own[1]
        middle = (start + stop - 1) / 2 - own[2]
        own[3] += dz * dz * size
        own[4] += dz * dy * size
        own[5] += dz * middle * size
        own[6] += dy * dy * size
        own[7] += dy * middle * size
        # Squares of equally spaced numbers around their middle add up to n (n**2 - 1) / 12.
        own[8] += middle * middle * size + size * (size * size - 1) / 12
    return sums


@compiled
def _boxes(runs: Table, cells: int) -> Table:
    boxes = np.zeros((cells, 6), dtype=np.int64)
    for run in range(len(runs)):
        cell, z, y, start, stop = runs[run]
        box = boxes[cell - 1]
        if box[3] == 0:
            box[0], box[1], box[2] = z, y, start
        box[1] = min(box[1], y)
        box[2] = min(box[2], start)
        box[3] = max(box[3], z + 1)
        box[4] = max(box[4], y + 1)
        box[5] = max(box[5], stop)
    return boxes


@compiled
def _euler_numbers(labels: NDArray[np.int32], cells: int) -> NDArray[np.int64]:
    """Parts minus holes, by the patterns of 2 x 2 pixels (Gray 1971), with parts that touch over corners."""
    height, width = labels.shape
    sums = np.zeros(cells, dtype=np.int64)
    quad = np.zeros(4, dtype=np.int64)
    for y in range(-1, height):
        for x in range(-1, width):
            for place in range(4):
                row, column = y + place // 2, x + place % 2
                inside = 0 <= row < height and 0 <= column < width
                quad[place] = labels[row, column] if inside else 0
            for place in range(4):
                label = quad[place]
                seen = False
                for before in range(place):
                    seen = seen or quad[before] == label
                if label == 0 or seen:
                    continue
                count = 0
                for other in range(4):
                    count += quad[other] == label
                is_diagonal = count == 2 and (
                    (quad[0] == label and quad[3] == label) or (quad[1] == label and quad[2] == label)
                )
                if count == 1:
                    sums[label - 1] += 1
                elif count == 3:
                    sums[label - 1] -= 1
                elif is_diagonal:
                    sums[label - 1] -= 2
    return sums // 4


@compiled
def _ferets(runs: Table, tops: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Largest and smallest width of the convex hull of the middles of each cell's pixel edges."""
    first = np.full(offsets[-1], 1 << 40)
    last = np.full(offsets[-1], -(1 << 40))
    for run in range(len(runs)):
        cell, _, y, start, stop = runs[run]
        row = offsets[cell - 1] + y - tops[cell - 1]
        first[row] = min(first[row], start)
        last[row] = max(last[row], stop - 1)
    widths = np.zeros((len(tops), 2))
    for cell in range(len(tops)):
        rows = offsets[cell + 1] - offsets[cell]
        # In doubled coordinates, by x and then y, as the hull needs them.
        points = np.empty((6 * rows, 2), dtype=np.int64)
        count = 0
        for row in range(rows):
            left, right = first[offsets[cell] + row], last[offsets[cell] + row]
            if left > right:
                continue
            for x in (left, right):
                for up in (-1, 1):
                    points[count, 0], points[count, 1] = 2 * x, 2 * row + up
                    count += 1
            points[count, 0], points[count, 1] = 2 * left - 1, 2 * row
            points[count + 1, 0], points[count + 1, 1] = 2 * right + 1, 2 * row
            count += 2
        hull = _convex_hull(points[:count])
        largest, smallest = 0.0, np.inf
        for one in range(len(hull)):
            for other in range(one):
                dx, dy = hull[one, 0] - hull[other, 0], hull[one, 1] - hull[other, 1]
                largest = max(largest, np.sqrt(dx * dx + dy * dy))
            after = (one + 1) % len(hull)
            ex, ey = hull[after, 0] - hull[one, 0], hull[after, 1] - hull[one, 1]
            length = np.sqrt(ex * ex + ey * ey)
            width = 0.0
            for other in range(len(hull)):
                dx, dy = hull[other, 0] - hull[one, 0], hull[other, 1] - hull[one, 1]
                width = max(width, abs(ex * dy - ey * dx) / length)
            smallest = min(smallest, width)
        widths[cell, 0], widths[cell, 1] = largest / 2, smallest / 2
    return widths


@compiled
def _convex_hull(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Corners of the convex hull (Andrew's monotone chain)."""
    order = np.argsort(points[:, 0] * (1 << 32) + points[:, 1])
    hull = np.empty((2 * len(points) + 1, 2), dtype=np.int64)
    size = 0
    for side in range(2):
        bottom = size + 1 if side else 1
        for step in range(len(points)):
            point = points[order[len(points) - 1 - step if side else step]]
            while size > bottom:
                ax, ay = hull[size - 1, 0] - hull[size - 2, 0], hull[size - 1, 1] - hull[size - 2, 1]
                bx, by = point[0] - hull[size - 2, 0], point[1] - hull[size - 2, 1]
                if ax * by - ay * bx > 0:
                    break
                size -= 1
            hull[size] = point
            size += 1
        # The last point of one side is the first of the other.
        size -= 1
    return hull[:size]


@compiled
def _grey_sums(values: NDArray[Any], volume: NDArray[np.int32], runs: Table, cells: int) -> NDArray[np.float64]:
    """Smallest, largest, sum, sum of squares around the smallest, sum and number of edge pixels of each cell."""
    depth, height, _ = volume.shape
    sums = np.zeros((cells, 6))
    for cell in range(cells):
        sums[cell, 0], sums[cell, 1] = np.inf, -np.inf
    for run in range(len(runs)):
        cell, z, y, start, stop = runs[run]
        own = sums[cell - 1]
        for x in range(start, stop):
            value = np.float64(values[z, y, x])
            own[0] = min(own[0], value)
            own[1] = max(own[1], value)
            own[2] += value
    for run in range(len(runs)):
        cell, z, y, start, stop = runs[run]
        own = sums[cell - 1]
        for x in range(start, stop):
            value = np.float64(values[z, y, x])
            own[3] += (value - own[0]) ** 2
            is_inside = (
                start < x < stop - 1
                and 0 < y < height - 1
                and volume[z, y - 1, x] == cell
                and volume[z, y + 1, x] == cell
                and (depth == 1 or (0 < z < depth - 1 and volume[z - 1, y, x] == cell and volume[z + 1, y, x] == cell))
            )
            if not is_inside:
                own[4] += value
                own[5] += 1
    return sums


@compiled
def _textures(
    levels: NDArray[np.uint8], volume: NDArray[np.int32], runs: Table, directions: NDArray[np.int64], cells: int
) -> NDArray[np.float64]:
    """Contrast, dissimilarity, homogeneity, ASM, correlation and entropy; runs are ordered by cell."""
    depth, height, width = volume.shape
    features = np.zeros((cells, 6))
    matrix = np.zeros((GREY_LEVELS, GREY_LEVELS))
    begin = 0
    while begin < len(runs):
        cell = runs[begin, 0]
        end = begin
        while end < len(runs) and runs[end, 0] == cell:
            end += 1
        used = 0
        for direction in range(len(directions)):
            dz, dy, dx = directions[direction]
            matrix[:] = 0
            pairs = 0
            for run in range(begin, end):
                _, z, y, start, stop = runs[run]
                if not (0 <= z + dz < depth and 0 <= y + dy < height):
                    continue
                for x in range(max(start, -dx), min(stop, width - dx)):
                    if volume[z + dz, y + dy, x + dx] == cell:
                        one, other = levels[z, y, x], levels[z + dz, y + dy, x + dx]
                        matrix[one, other] += 1
                        matrix[other, one] += 1
                        pairs += 2
            if pairs:
                used += 1
                _add_properties(matrix, pairs, features[cell - 1])
        for feature in range(6):
            features[cell - 1, feature] = features[cell - 1, feature] / used if used else np.nan
        begin = end
    return features


@compiled
def _add_properties(matrix: NDArray[np.float64], pairs: int, features: NDArray[np.float64]) -> None:
    mean = variance = 0.0
    for one in range(GREY_LEVELS):
        for other in range(GREY_LEVELS):
            mean += one * matrix[one, other] / pairs
    covariance = 0.0
    for one in range(GREY_LEVELS):
        for other in range(GREY_LEVELS):
            share = matrix[one, other] / pairs
            if share == 0:
                continue
            step = one - other
            features[0] += share * step * step
            features[1] += share * abs(step)
            features[2] += share / (1 + step * step)
            features[3] += share * share
            features[5] -= share * np.log2(share)
            variance += share * (one - mean) ** 2
            covariance += share * (one - mean) * (other - mean)
    # As scikit-image: equal grey values are fully correlated.
    features[4] += covariance / variance if variance > 1e-15 else 1.0
