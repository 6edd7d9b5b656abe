"""The bilateral kernel over a permutohedral lattice (Adams, Baek, Davis 2010, doi 10.1111/j.1467-8659.2009.01645.x).

With many colours a grid has too many points. Of the lattice only the points that pixels touch are held; it is coarser
than the grid, and farther from the sum.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.postprocessing.crf.kernels import FloatArray, Kernel, each_plane

__all__ = ["lattice_kernel"]

IntArray = NDArray[np.int32]


class _Lattice(NamedTuple):
    """Points of a permutohedral lattice in d dimensions that pixels touch.

    `vertices` and `shares`, ``(pixels, d + 1)``: the corners of each pixel's simplex and its barycentric coordinates.
    `neighbours`, ``(d + 1, 2, points)``: one step forth and back along each direction; the number of points if missing.
    """

    vertices: IntArray
    shares: FloatArray
    neighbours: IntArray


def lattice_kernel(features: FloatArray, weight: float, shape: tuple[int, ...]) -> Kernel:
    """Make the kernel of a permutohedral lattice over position and colour.

    Parameters
    ----------
    features : ndarray of float64, shape (pixels, axes)
        Positions and colours in standard deviations.
    weight : float
        Of the kernel.
    shape : tuple of int
        ``(Y, X)``.

    Returns
    -------
    Kernel
    """
    vertices, shares, keys, table = _embed(features)
    lattice = _Lattice(vertices, shares, _neighbours(keys, table))

    def sums(plane: FloatArray) -> FloatArray:
        return np.asarray(_filter_lattice(plane, *lattice))

    # Where a point on the way is missing, less returns to a pixel than it should; never more than all that it gets.
    everything = sums(np.ones(len(features)))
    return Kernel(weight, each_plane(sums), np.minimum(_returning(shares), everything).reshape(shape))


def _returning(shares: FloatArray) -> FloatArray:
    """Weight from a pixel to itself on a lattice without missing points.

    Two corners m apart in their order around the simplex are joined by one step forth along m of the d + 1 directions,
    or by one back along all the others; a corner is joined to itself by no step, or by one along all, a closed way.
    """
    corners = shares.shape[1]
    returning = np.zeros(len(shares))
    for apart in range(corners):
        joined = 0.5 ** (corners - apart) * 0.25**apart + 0.25 ** (corners - apart) * 0.5**apart
        joined += 0.25**corners if apart == 0 else 0
        returning += joined * np.sum(shares * np.roll(shares, apart, axis=1), axis=1)
    return returning


@compiled
def _find(table: IntArray, keys: IntArray, key: IntArray) -> int:
    """The slot of a hash table that holds the number of a key, or the free slot (-1) where it belongs."""
    slot = 0
    for entry in key:
        slot = ((slot + entry) * 2531011) & 0xFFFFFFFF
    slot = (slot ^ slot >> 15) & (len(table) - 1)
    while table[slot] >= 0:
        same = True
        for axis in range(len(key)):
            same &= keys[table[slot], axis] == key[axis]
        if same:
            break
        slot = (slot + 1) & (len(table) - 1)
    return slot


@compiled
def _grown(table: IntArray, keys: IntArray) -> tuple[IntArray, IntArray]:
    """A hash table and a list of keys of twice the size, when as many keys are known as fit."""
    count, axes = keys.shape
    larger = np.empty((2 * count, axes), np.int32)
    larger[:count] = keys
    table = np.full(2 * len(table), -1, np.int32)
    for number in range(count):
        table[_find(table, larger, larger[number])] = number
    return table, larger


@compiled
def _locate(feature: FloatArray, scales: FloatArray, origin: IntArray, rank: IntArray, shares: FloatArray) -> None:
    """Find the simplex of a point: the corner of remainder 0, the order of the coordinates, barycentric coordinates.

    Algorithm of Adams, Baek, Davis (2010), section 3: the point is lifted to the plane in d + 1 dimensions whose
    coordinates sum to 0, rounded to the nearest multiples of d + 1, and the rounding's excess taken from those
    coordinates that it changed most. `shares` has one entry to spare.
    """
    axes = len(feature)
    corners = axes + 1
    lifted = np.empty(corners)
    below = 0.0
    for axis in range(axes, 0, -1):
        scaled = feature[axis - 1] * scales[axis - 1]
        lifted[axis] = below - axis * scaled
        below += scaled
    lifted[0] = below
    excess = 0
    for axis in range(corners):
        nearest = math.floor(lifted[axis] / corners + 0.5)
        origin[axis] = nearest * corners
        excess += nearest
        lifted[axis] -= origin[axis]
    rank[:] = excess
    for axis in range(corners):
        for later in range(axis + 1, corners):
            if lifted[axis] < lifted[later]:
                rank[axis] += 1
            else:
                rank[later] += 1
    shares[:] = 0
    for axis in range(corners):
        turns = -1 if rank[axis] > axes else (1 if rank[axis] < 0 else 0)
        rank[axis] += turns * corners
        origin[axis] += turns * corners
        share = (lifted[axis] - turns * corners) / corners
        shares[axes - rank[axis]] += share
        shares[corners - rank[axis]] -= share
    shares[0] += 1 + shares[corners]


@compiled
def _embed(features: FloatArray) -> tuple[IntArray, FloatArray, IntArray, IntArray]:
    """Corners and shares of each pixel, the coordinates of all corners, and the hash table that finds them.

    Corners are numbered in the order of the first pixel that touches them. All coordinates but the last, which makes
    the sum 0, are held.
    """
    pixels, axes = features.shape
    corners = axes + 1
    # A blur by 1 2 1 along d + 1 directions has the variance (d + 1)**2 / 2, spreading and reading add a sixth.
    scales = corners * np.sqrt(2 / 3 / (np.arange(1, corners) * np.arange(2, corners + 1)))
    vertices, shares = np.empty((pixels, corners), np.int32), np.empty((pixels, corners))
    keys, table, count = np.empty((1 << 12, axes), np.int32), np.full(1 << 13, -1, np.int32), 0
    origin, rank = np.empty(corners, np.int32), np.empty(corners, np.int32)
    coordinates, key = np.empty(corners + 1), np.empty(axes, np.int32)
    for pixel in range(pixels):
        _locate(features[pixel], scales, origin, rank, coordinates)
        shares[pixel] = coordinates[:corners]
        for remainder in range(corners):
            for axis in range(axes):
                key[axis] = origin[axis] + remainder - (corners if rank[axis] > axes - remainder else 0)
            slot = _find(table, keys, key)
            if table[slot] < 0:
                if count == len(keys):
                    table, keys = _grown(table, keys)
                    slot = _find(table, keys, key)
                keys[count] = key
                table[slot] = count
                count += 1
            vertices[pixel, remainder] = table[slot]
    return vertices, shares, keys[:count], table


@compiled
def _neighbours(keys: IntArray, table: IntArray) -> IntArray:
    count, axes = keys.shape
    found = np.full((axes + 1, 2, count), count, np.int32)
    key = np.empty(axes, np.int32)
    for direction in range(axes + 1):
        for back in range(2):
            step = 1 - 2 * back
            for point in range(count):
                key[:] = keys[point] + step
                if direction < axes:
                    key[direction] -= step * (axes + 1)
                number = table[_find(table, keys, key)]
                if number >= 0:
                    found[direction, back, point] = number
    return found


@compiled
def _filter_lattice(plane: FloatArray, vertices: IntArray, shares: FloatArray, neighbours: IntArray) -> FloatArray:
    """Spread each pixel to its corners, blur by 1 2 1 along each direction, read each pixel from its corners."""
    directions, _, count = neighbours.shape
    points, blurred = np.zeros(count + 1), np.zeros(count + 1)  # the last one stands for all that are missing
    for pixel in range(len(plane)):
        for corner in range(directions):
            points[vertices[pixel, corner]] += shares[pixel, corner] * plane[pixel]
    for direction in range(directions):
        for point in range(count):
            around = points[neighbours[direction, 0, point]] + points[neighbours[direction, 1, point]]
            blurred[point] = 0.5 * points[point] + 0.25 * around
        points, blurred = blurred, points
    result = np.zeros(len(plane))
    for pixel in range(len(plane)):
        for corner in range(directions):
            result[pixel] += shares[pixel, corner] * points[vertices[pixel, corner]]
    return result
