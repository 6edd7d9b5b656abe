"""The fully connected CRF: probabilities pulled to the edges of the image.

Source: Kraehenbuehl, Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
arXiv 1210.5644. Every pixel i is linked to every other pixel j, with positions p and colours I, by ::

    k(i, j) = w1 * exp(-|p_i - p_j|**2 / (2 * xy1**2) - |I_i - I_j|**2 / (2 * rgb**2))    bilateral
            + w2 * exp(-|p_i - p_j|**2 / (2 * xy2**2))                                    Gaussian

and pays k(i, j) where the two have different classes (Potts model). Mean field (algorithm 1 there) starts from the
network's probabilities p(l) and repeats ::

    Q_i(l) = p_i(l) * exp(sum over j != i of k(i, j) * Q_j(l)), divided by its sum over the classes l

As in the released code (its default, NORMALIZE_SYMMETRIC) each of the two kernels is normalised symmetrically: G(i, j)
becomes ``G(i, j) / sqrt(sum_m G(i, m) * sum_m G(j, m))``, so that a message does not grow with the size of the image.
As in the paper, and not in the released code, a pixel sends no message to itself.

The sums over all pixels are what costs. The Gaussian kernel is a convolution, one axis after the other. The bilateral
one is a Gaussian in 2 + C dimensions, position and colour, and pixels lie there as scattered points: they are spread to
the corners of a grid, blurred there and read again. One channel, and two at usual widths, take an ordinary grid
(Chen, Paris, Durand 2007, doi 10.1145/1276377.1276506) of 3 or 2 points a standard deviation. With more channels that
has too many points, and they take a permutohedral lattice (Adams, Baek, Davis 2010, doi
10.1111/j.1467-8659.2009.01645.x) as the released code does, of which only the points that pixels touch are held:
coarser, and farther from the sum.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.errors import ImageError, UsageError

__all__ = ["PRESETS", "CrfSettings", "Kernel", "bilateral_kernel", "gaussian_kernel", "mean_field", "refine"]

LOWEST_PROBABILITY = 1e-5
"""A network's certainty ends here, as in the released code; a probability of 0 could never be changed."""

GREY_LEVELS = 255.0
"""The colours that `CrfSettings.bilateral_rgb` is meant for are 8-bit."""

GAUSSIAN_REACH = 4.0
"""Standard deviations after which a blur is cut off; 3e-4 of its peak is left."""

SAMPLES = (3, 2)
"""Grid points a standard deviation: as many as fit. Probabilities come within .01 and .02 of those with exact sums."""

MAX_GRID_POINTS = 10_000_000
"""Of 8 bytes each, or as many as the image has pixels if that is more; beyond, the lattice is used."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]


@dataclass(frozen=True)
class CrfSettings:
    """Weights and widths of the two kernels.

    Parameters
    ----------
    bilateral_weight, gaussian_weight : float
        w1 and w2, 0 or more; 0 leaves the kernel out.
    bilateral_xy, gaussian_xy : float
        Standard deviations over the image, in pixels.
    bilateral_rgb : float
        Standard deviation over colours of 0 to 255.
    iterations : int
        Steps of mean field. The papers use 10; what is left to change after 5 is small.

    Raises
    ------
    UsageError
        When a weight is negative, a standard deviation is not above 0 or there is no iteration.
    """

    bilateral_weight: float
    bilateral_xy: float
    bilateral_rgb: float
    gaussian_weight: float
    gaussian_xy: float
    iterations: int = 5

    def __post_init__(self) -> None:
        for name in ("bilateral_weight", "gaussian_weight"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UsageError(f"{name} {getattr(self, name)}: must be 0 or more; 0 leaves the kernel out")
        for name in ("bilateral_xy", "bilateral_rgb", "gaussian_xy"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UsageError(f"{name} {getattr(self, name)}: must be above 0; choose the width of the kernel")
        if self.iterations != int(self.iterations) or self.iterations < 1:
            raise UsageError(f"iterations {self.iterations}: must be a whole number of 1 or more; 5 is usual")


PRESETS = {
    "largefov": CrfSettings(4, 121, 5, 3, 3),
    "deeplab_v2_vgg": CrfSettings(4, 65, 3, 2, 2),
    "deeplab_v2_resnet": CrfSettings(4, 67, 3, 3, 1),
}
"""Settings of the scripts released with DeepLab v1 (its LargeFOV network) and v2, but for the number of iterations."""


@dataclass(frozen=True)
class Kernel:
    """Sums over all pixels, with a weight; times any constant, which the normalisation takes out.

    Parameters
    ----------
    weight : float
        w1 or w2.
    filter : callable
        ``(K, Y, X)`` float64 to the same shape: at each pixel i the sum over all pixels j, i among them, of
        ``G(i, j) * plane(j)``.
    self_weights : ndarray of float64, shape (Y, X)
        ``G(i, i)`` of that same filter.
    """

    weight: float
    filter: Callable[[FloatArray], FloatArray]
    self_weights: FloatArray


def refine(
    probabilities: NDArray[np.float32], image: NDArray[np.float32], settings: CrfSettings
) -> NDArray[np.float32]:
    """Refine the probabilities of classes with the fully connected CRF.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (K, Y, X)
        Of each class, background first; they sum to 1.
    image : ndarray of float32, shape (C, Y, X)
        Grey values as `unetbio.normalization.apply` gives them. They are clipped to 0..1 and multiplied by 255, which
        stands for 8-bit colours. One channel is one colour axis: the same picture saved as RGB would count every
        difference three times, as a `bilateral_rgb` smaller by the square root of 3 does.
    settings : CrfSettings
        Of `PRESETS` or others.

    Returns
    -------
    ndarray of float32, shape (K, Y, X)
        Sums to 1. The same bits in every run; not the same for a part of the image, since all pixels are linked.

    Raises
    ------
    ImageError
        ``not_finite``: NaN or infinity in the image or the probabilities.
    ValueError
        When the shapes do not fit, or the probabilities are none.

    Notes
    -----
    Takes about 100 bytes a pixel for two classes. Safe to call from several threads at once.

    Examples
    --------
    A dark and a bright half, and a network that is one pixel off:

    >>> image = np.repeat([[[0.0, 0, 0, 1, 1, 1]]], 6, axis=1)
    >>> cell = np.repeat([[0.1, 0.1, 0.1, 0.4, 0.9, 0.9]], 6, axis=0)
    >>> refined = refine(np.stack([1 - cell, cell]), image, PRESETS["deeplab_v2_vgg"])
    >>> refined[1, 0].round(1)
    array([0., 0., 0., 1., 1., 1.], dtype=float32)
    """
    probabilities, image = np.asarray(probabilities), np.asarray(image)
    _check(probabilities, image)
    if probabilities.size == 0:
        return probabilities.astype(np.float32)
    kernels = []
    if settings.bilateral_weight > 0:
        colours = np.clip(image, 0, 1) * GREY_LEVELS
        kernels.append(
            bilateral_kernel(colours, settings.bilateral_weight, settings.bilateral_xy, settings.bilateral_rgb)
        )
    if settings.gaussian_weight > 0:
        kernels.append(gaussian_kernel(image.shape[1:], settings.gaussian_weight, settings.gaussian_xy))
    return mean_field(probabilities, kernels, settings.iterations)


def _check(probabilities: NDArray[np.float32], image: NDArray[np.float32]) -> None:
    if probabilities.ndim != 3 or image.ndim != 3 or 0 in (len(probabilities), len(image)):
        raise ValueError(f"probabilities {probabilities.shape}, image {image.shape}: need (K, Y, X) and (C, Y, X)")
    if probabilities.shape[1:] != image.shape[1:]:
        raise ValueError(f"probabilities {probabilities.shape} and image {image.shape} differ in height or width")
    for name, array in (("image", image), ("probabilities", probabilities)):
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise ImageError("not_finite", f"{bad} of {array.size} values of the {name} are NaN or infinite")
    if probabilities.min(initial=0) < -1e-6 or probabilities.max(initial=0) > 1 + 1e-6:
        raise ValueError("probabilities lie outside 0 to 1: logits need a softmax first")


def mean_field(probabilities: NDArray[np.float32], kernels: Sequence[Kernel], iterations: int) -> NDArray[np.float32]:
    """Run mean field with any kernels; `refine` chooses them.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (K, Y, X)
        Of each class; they sum to 1.
    kernels : sequence of Kernel
        Whose messages are added; each is normalised symmetrically.
    iterations : int
        How many steps.

    Returns
    -------
    ndarray of float32, shape (K, Y, X)
        Sums to 1.
    """
    count, shape = len(probabilities), probabilities.shape[1:]
    unaries = np.ascontiguousarray(probabilities).reshape(count, -1)
    ones = np.ones((1, *shape))
    scales = [1 / np.sqrt(kernel.filter(ones)) for kernel in kernels]
    total = _messages(kernels, scales, ones)
    # Probabilities sum to 1 and the filters are linear: the last class gets what the others leave of the total.
    beliefs = _update(unaries, np.zeros((count - 1, ones.size)), np.zeros(ones.size))
    for _ in range(iterations):
        messages = _messages(kernels, scales, beliefs[:-1].reshape(count - 1, *shape))
        beliefs = _update(unaries, messages.reshape(count - 1, ones.size), total.reshape(-1))
    return np.asarray(beliefs.reshape(probabilities.shape), dtype=np.float32)


def _messages(kernels: Sequence[Kernel], scales: Sequence[FloatArray], beliefs: FloatArray) -> FloatArray:
    """What all other pixels say to each pixel, summed over the kernels: ``(K, Y, X)`` in and out."""
    messages = np.zeros_like(beliefs)
    for kernel, scale in zip(kernels, scales, strict=True):
        scaled = beliefs * scale
        messages += kernel.weight * scale * (kernel.filter(scaled) - kernel.self_weights * scaled)
    return messages


@compiled
def _update(unaries: NDArray[np.float32], messages: FloatArray, total: FloatArray) -> FloatArray:
    """Softmax of the network's logarithms and the messages: ``(K, pixels)``; messages of all classes but the last."""
    count, pixels = unaries.shape
    beliefs = np.empty((count, pixels))
    for pixel in range(pixels):
        rest = total[pixel]
        highest = -np.inf
        for k in range(count):
            message = rest
            if k < count - 1:
                message = messages[k, pixel]
                rest -= message
            beliefs[k, pixel] = math.log(max(unaries[k, pixel], LOWEST_PROBABILITY)) + message
            highest = max(highest, beliefs[k, pixel])
        mass = 0.0
        for k in range(count):
            beliefs[k, pixel] = math.exp(beliefs[k, pixel] - highest)
            mass += beliefs[k, pixel]
        for k in range(count):
            beliefs[k, pixel] /= mass
    return beliefs


def gaussian_kernel(shape: Sequence[int], weight: float, xy: float) -> Kernel:
    """The kernel of position alone, cut off at 4 standard deviations along each axis.

    Parameters
    ----------
    shape : sequence of int
        ``(Y, X)``.
    weight : float
        w2.
    xy : float
        Standard deviation in pixels.

    Returns
    -------
    Kernel
    """
    taps = _gaussian_taps(xy)
    dims = np.array(shape)

    def convolve(plane: FloatArray) -> FloatArray:
        return np.asarray(_blurred(plane, dims, taps))

    return Kernel(weight, _each_plane(convolve), np.full(tuple(shape), taps[0] ** len(dims)))


def _each_plane(function: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray], FloatArray]:
    """A filter of ``(K, Y, X)`` from one of flat planes; there may be no plane at all."""
    return lambda planes: np.reshape([function(plane.reshape(-1)) for plane in planes], planes.shape)


def bilateral_kernel(colours: NDArray[np.float32], weight: float, xy: float, rgb: float) -> Kernel:
    """The kernel of position and colour, over a grid or, where that gets too large, a permutohedral lattice.

    Which of the two depends on the shape and the widths alone, not on the colours.

    Parameters
    ----------
    colours : ndarray, shape (C, Y, X)
        0 to 255.
    weight : float
        w1.
    xy, rgb : float
        Standard deviations over pixels and over colours.

    Returns
    -------
    Kernel
        Its sums are near the true ones: how near is in the tests.
    """
    shape = colours.shape[1:]
    extents = [*[(size - 1) / xy for size in shape], *[GREY_LEVELS / rgb] * len(colours)]
    positions = [axis.reshape(-1) / xy for axis in np.indices(shape)]
    features = np.stack([*positions, *[channel.reshape(-1) / np.float64(rgb) for channel in colours]], axis=1)
    largest = max(MAX_GRID_POINTS, math.prod(shape))
    for samples in SAMPLES:
        dims = [math.floor(extent * samples) + 2 for extent in extents]
        if math.prod(dims) <= largest:
            return _grid_kernel(features, samples, np.array(dims), weight, shape)
    return _lattice_kernel(features, weight, shape)


def _grid_kernel(
    features: FloatArray, samples: int, dims: NDArray[np.int64], weight: float, shape: tuple[int, ...]
) -> Kernel:
    """A grid over position and colour with so many points a standard deviation, read by linear interpolation."""
    places = features * samples
    corners = np.floor(places)
    fractions = places - corners
    strides = np.append(np.cumprod(dims[:0:-1])[::-1], 1)
    bases = (corners @ strides).astype(np.int64)
    offsets = np.array([bits @ strides for bits in _corner_bits(len(dims))])
    # Spreading to corners and reading from them blur too: a tent each, of variance 1 / 6 in steps of the grid.
    taps = _gaussian_taps(math.sqrt(samples**2 - 1 / 3))

    def sums(plane: FloatArray) -> FloatArray:
        points = _splat(plane, bases, fractions, offsets, math.prod(dims))
        return np.asarray(_slice(_blurred(points, dims, taps), bases, fractions, offsets))

    # From a pixel to itself: by one corner there and back, or by the two, one step of the blur apart, along each axis.
    across = 2 * fractions * (1 - fractions)
    self_weights = np.prod((1 - across) * taps[0] + across * taps[1], axis=1)
    return Kernel(weight, _each_plane(sums), self_weights.reshape(shape))


def _corner_bits(axes: int) -> NDArray[np.int64]:
    """0 or 1 along each axis for the corners of a cube; the first axis changes fastest, as `_corner_shares` does."""
    return np.arange(2**axes)[:, None] >> np.arange(axes) & 1


def _gaussian_taps(sigma: float) -> FloatArray:
    """Half a Gaussian, its peak first; at least two taps."""
    steps = np.arange(max(1, math.ceil(GAUSSIAN_REACH * sigma)) + 1)
    return np.asarray(np.exp(-0.5 * (steps / sigma) ** 2))


@compiled
def _corner_shares(fractions: FloatArray, pixel: int, shares: FloatArray) -> None:
    """Shares of the corners of a pixel's cube by linear interpolation along each axis."""
    shares[0] = 1.0
    for axis in range(fractions.shape[1]):
        upper = fractions[pixel, axis]
        for corner in range(1 << axis):
            shares[corner + (1 << axis)] = shares[corner] * upper
            shares[corner] *= 1 - upper


@compiled
def _splat(
    plane: FloatArray, bases: NDArray[np.int64], fractions: FloatArray, offsets: NDArray[np.int64], size: int
) -> FloatArray:
    """Spread each pixel to the corners of its cube."""
    points = np.zeros(size)
    shares = np.empty(len(offsets))
    for pixel in range(len(plane)):
        _corner_shares(fractions, pixel, shares)
        for corner in range(len(offsets)):
            points[bases[pixel] + offsets[corner]] += shares[corner] * plane[pixel]
    return points


@compiled
def _slice(
    points: FloatArray, bases: NDArray[np.int64], fractions: FloatArray, offsets: NDArray[np.int64]
) -> FloatArray:
    """Read each pixel from the corners of its cube."""
    plane = np.zeros(len(bases))
    shares = np.empty(len(offsets))
    for pixel in range(len(bases)):
        _corner_shares(fractions, pixel, shares)
        for corner in range(len(offsets)):
            plane[pixel] += shares[corner] * points[bases[pixel] + offsets[corner]]
    return plane


@compiled
def _blurred(points: FloatArray, dims: NDArray[np.int64], taps: FloatArray) -> FloatArray:
    """Convolve a flat array of shape `dims` along each axis with symmetric taps; 0 beyond the border."""
    inner = points.size
    for axis in range(len(dims)):
        block = inner
        inner //= dims[axis]
        blurred = points * taps[0]
        # One step along this axis is `inner` places on, so that within a block all lines are added at once.
        for start in range(0, points.size, block):
            for step in range(1, min(len(taps), dims[axis])):
                shift = step * inner
                for place in range(start, start + block - shift):
                    blurred[place] += taps[step] * points[place + shift]
                    blurred[place + shift] += taps[step] * points[place]
        points = blurred
    return points


class _Lattice(NamedTuple):
    """Points of a permutohedral lattice in d dimensions that pixels touch.

    `vertices` and `shares`, ``(pixels, d + 1)``: the corners of each pixel's simplex and its barycentric coordinates.
    `neighbours`, ``(d + 1, 2, points)``: one step forth and back along each direction; the number of points if missing.
    """

    vertices: IntArray
    shares: FloatArray
    neighbours: IntArray


def _lattice_kernel(features: FloatArray, weight: float, shape: tuple[int, ...]) -> Kernel:
    vertices, shares, keys, table = _embed(features)
    lattice = _Lattice(vertices, shares, _neighbours(keys, table))

    def sums(plane: FloatArray) -> FloatArray:
        return np.asarray(_filter_lattice(plane, *lattice))

    # Where a point on the way is missing, less returns to a pixel than it should; never more than all that it gets.
    everything = sums(np.ones(len(features)))
    return Kernel(weight, _each_plane(sums), np.minimum(_returning(shares), everything).reshape(shape))


def _returning(shares: FloatArray) -> FloatArray:
    """What comes back from a pixel to itself if no point of the lattice is missing.

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
