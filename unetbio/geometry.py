"""Sizes that a network can take: context, stride and legal sizes, as integers, one entry an axis.

A fully convolutional network is described by four integers an axis:

- ``context``: pixels lost per side, so that ``output = input - 2 * context``;
- ``stride``: the product of the poolings; moving the input by a multiple of it moves the output by as much, so tile
  origins must be multiples of it;
- ``minimum``: the smallest legal input size;
- legal input sizes are ``minimum + k * stride`` for ``k = 0, 1, 2 ...``.

For the U-Net of Ronneberger et al. (arXiv 1505.04597) these follow from its blocks. Let level ``l`` have two
convolutions with kernel ``k_l`` and a pooling ``p_l`` below it, and let ``s_l = p_0 * ... * p_(l-1)`` be the size of
a pixel of that level. Two valid convolutions lose ``k_l - 1`` pixels of the level a side, once in the encoder and
once more in the decoder, and in the bottleneck once alone::

    context = sum_(l < depth) 2 (k_l - 1) s_l + (k_depth - 1) s_depth

which is ``6 * 2**depth - 4`` for 3 x 3 kernels and 2 x 2 pooling (92 at depth 4, so 572 -> 388).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from math import ceil, prod
from operator import mul
from typing import Literal

from unetbio.errors import GeometryError

__all__ = [
    "Geometry",
    "Layer",
    "anisotropic_levels",
    "padded_geometry",
    "receptive_field",
    "unet_geometry",
    "valid_geometry",
]

Padding = Literal["valid", "same"]

COARSE = 2.0
"""From this ratio to the finest axis on, an axis of a stack is neither convolved nor pooled."""


@dataclass(frozen=True)
class Geometry:
    """Spatial contract of a network.

    Parameters
    ----------
    context : tuple of int
        Pixels of the input lost per side, one entry an axis.
    stride : tuple of int
        Product of the poolings; tile origins are multiples of it.
    minimum : tuple of int
        Smallest legal input size.
    padding : {"valid", "same"}
        ``"valid"``: the network's output is ``input - 2 * context``. ``"same"``: the network pads with zeros and its
        output has the size of the input; its outermost ``context`` pixels depend on the padding, and tiling crops
        them, so that ``output_size`` holds for both. Inputs too small to leave any pixel are still legal for training.
    """

    context: tuple[int, ...]
    stride: tuple[int, ...]
    minimum: tuple[int, ...]
    padding: Padding = "valid"

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.context)

    @property
    def training_context(self) -> tuple[int, ...]:
        """Pixels per side of a training patch that have no result: those of a network that pads all have one."""
        return self.context if self.padding == "valid" else (0,) * self.ndim

    def is_legal(self, shape: Sequence[int]) -> bool:
        """Whether the network takes an input of this spatial shape."""
        return len(shape) == self.ndim and all(
            size >= minimum and (size - minimum) % stride == 0
            for size, minimum, stride in zip(shape, self.minimum, self.stride, strict=True)
        )

    def output_size(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Spatial shape of the result for an input of a legal spatial shape.

        Raises
        ------
        GeometryError
            When the shape is not legal; the message names the nearest legal sizes.
        """
        self.check(shape)
        return tuple(size - 2 * context for size, context in zip(shape, self.context, strict=True))

    def input_size(self, output: Sequence[int]) -> tuple[int, ...]:
        """Smallest legal input whose result covers ``output`` pixels an axis."""
        return tuple(
            minimum + stride * max(0, ceil((size + 2 * context - minimum) / stride))
            for size, context, stride, minimum in zip(output, self.context, self.stride, self.minimum, strict=True)
        )

    def nearest_legal(self, size: int, axis: int) -> tuple[int, ...]:
        """The legal input sizes next to ``size`` along ``axis``: itself, or the ones below and above it."""
        minimum, stride = self.minimum[axis], self.stride[axis]
        if size <= minimum:
            return (minimum,)
        below = minimum + (size - minimum) // stride * stride
        return (below,) if below == size else (below, below + stride)

    def check(self, shape: Sequence[int]) -> None:
        """Refuse an input shape that the network cannot take.

        Raises
        ------
        GeometryError
            Naming the axis, the size given and the nearest legal ones.
        """
        if len(shape) != self.ndim:
            raise GeometryError(
                f"the network takes {self.ndim} spatial axes, the input has {len(shape)}: {tuple(shape)}"
            )
        for axis, size in enumerate(shape):
            legal = self.nearest_legal(size, axis)
            if size not in legal:
                choices = " and ".join(map(str, legal))
                raise GeometryError(
                    f"input size {size} along axis {axis} of {tuple(shape)} is not legal for this network: "
                    f"the nearest legal sizes are {choices}"
                )


@dataclass(frozen=True)
class Layer:
    """One layer along a path through a network, as far as places are concerned; the same along every axis.

    Parameters
    ----------
    kernel, stride, dilation, padding : int
        Of a convolution or a pooling; the padding is that before the first pixel.
    transposed : bool
        The layer spreads: output ``i * stride - padding + tap`` gets input ``i`` for each tap of the kernel.
        Interpolation by a factor ``s`` between pixel centres is one with kernel ``2 s``, stride ``s`` and padding
        ``s // 2``; repetition, bed of nails and unpooling are one with kernel ``s``.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: int = 0
    transposed: bool = False

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """First and last input that the outputs from ``first`` to ``last`` depend on."""
        reach = self.dilation * (self.kernel - 1)
        if self.transposed:
            return -((reach - first - self.padding) // self.stride), (last + self.padding) // self.stride
        return first * self.stride - self.padding, last * self.stride - self.padding + reach

    def output_size(self, size: int) -> int:
        """Size of the output for an input of ``size`` pixels; 0 where windows would be left over or none fits."""
        reach = self.dilation * (self.kernel - 1)
        if self.transposed:
            return max(0, (size - 1) * self.stride + reach + 1 - 2 * self.padding)
        rest = size + 2 * self.padding - reach - 1
        return 0 if rest < 0 or rest % self.stride else rest // self.stride + 1


def _reads(layers: Sequence[Layer], pixel: int) -> tuple[int, int]:
    first = last = pixel
    for layer in reversed(layers):
        first, last = layer.reads(first, last)
    return first, last


def _total_stride(layers: Sequence[Layer]) -> int:
    return prod(layer.stride for layer in layers if not layer.transposed)


def receptive_field(layers: Sequence[Layer]) -> int:
    """Pixels of the input along an axis that an output depends on, at the most (it varies with the place).

    Examples
    --------
    >>> receptive_field([Layer(3), Layer(2, stride=2), Layer(3)])
    8
    """
    places = (_reads(layers, pixel) for pixel in range(_total_stride(layers)))
    return max(last - first + 1 for first, last in places)


def padded_geometry(layers: Sequence[Layer]) -> Geometry:
    """Geometry of a 2-D network that pads, so that its output has the size of its input.

    Parameters
    ----------
    layers : sequence of Layer
        Along the path that sees furthest; their strides multiply to one.

    Returns
    -------
    Geometry
        The context is how far an output sees to either side, rounded up to a multiple of the stride, since tiles are
        cut at multiples of it.

    Examples
    --------
    >>> padded_geometry([Layer(3, padding=1), Layer(2, stride=2), Layer(2, stride=2, transposed=True)]).context
    (2, 2)
    """
    stride = _total_stride(layers)
    reach = 0
    for pixel in range(stride):
        first, last = _reads(layers, pixel)
        reach = max(reach, pixel - first, last - pixel)
    context = ceil(reach / stride) * stride
    return Geometry((context,) * 2, (stride,) * 2, (stride,) * 2, "same")


def valid_geometry(layers: Sequence[Layer]) -> Geometry:
    """Geometry of a 2-D network that does not pad: its output is smaller by as many pixels for every input.

    Parameters
    ----------
    layers : sequence of Layer
        All of them, one after another; their strides multiply to one.

    Examples
    --------
    >>> valid_geometry([Layer(3), Layer(2, stride=2), Layer(3), Layer(2, stride=2, transposed=True)])
    Geometry(context=(3, 3), stride=(2, 2), minimum=(8, 8), padding='valid')
    """
    stride = _total_stride(layers)
    minimum = next(size for size in count(1) if _output_size(layers, size))
    context = (minimum - _output_size(layers, minimum)) // 2
    return Geometry((context,) * 2, (stride,) * 2, (minimum,) * 2)


def _output_size(layers: Sequence[Layer], size: int) -> int:
    for layer in layers:
        size = layer.output_size(size)
        if size < 1:
            return 0
    return size


def unet_geometry(
    kernel_sizes: Sequence[Sequence[int]],
    poolings: Sequence[Sequence[int]],
    *,
    bilinear: bool = False,
    padding: Padding = "valid",
) -> Geometry:
    """Geometry of a U-Net from its kernels and poolings.

    Parameters
    ----------
    kernel_sizes : sequence of sequences of int
        Kernel of both convolutions of each level, from full resolution to the bottleneck: ``depth + 1`` entries of
        one odd integer an axis.
    poolings : sequence of sequences of int
        Pooling below each level: ``depth`` entries of one integer an axis.
    bilinear : bool
        Bilinear upsampling interpolates between neighbours, which at the rim are missing: half a pooling window more
        is cropped a side at each level.
    padding : {"valid", "same"}
        With ``"same"`` the context is rounded up to a multiple of the stride, since the input is cut at multiples of
        it.

    Returns
    -------
    Geometry

    Examples
    --------
    >>> unet_geometry([(3, 3)] * 5, [(2, 2)] * 4).output_size((572, 572))
    (388, 388)
    """
    axes = range(len(kernel_sizes[0]))
    columns = [
        _axis_geometry([kernel[a] for kernel in kernel_sizes], [pooling[a] for pooling in poolings], bilinear, padding)
        for a in axes
    ]
    context, stride, minimum = zip(*columns, strict=True)
    return Geometry(context, stride, minimum, padding)


def _axis_geometry(
    kernels: Sequence[int], poolings: Sequence[int], bilinear: bool, padding: Padding
) -> tuple[int, int, int]:
    scales = list(accumulate(poolings, mul, initial=1))
    stride = scales[-1]
    lost = [kernel - 1 for kernel in kernels]
    # What the decoder's level loses per side at its own scale: two convolutions and, if bilinear, the
    # interpolation's rim.
    decoder = [pixels + bilinear * (pool // 2) for pixels, pool in zip(lost, poolings, strict=False)]
    if padding == "same":
        context = ceil(_padded_reach(lost, poolings) / stride) * stride
        return context, stride, stride
    context = sum((lost[level] + decoder[level]) * scales[level] for level in range(len(poolings)))
    context += lost[-1] * stride
    # With b pixels after the bottleneck's convolutions the output has b * stride - lost_in_decoder pixels: the
    # smallest b that leaves at least one pixel, here and at every level on the way up.
    bottleneck = next(b for b in range(1, stride * sum(decoder) + 2 * sum(lost) + 2) if _survives(b, decoder, poolings))
    output = bottleneck * stride - 2 * sum(decoder[level] * scales[level] for level in range(len(poolings)))
    return context, stride, output + 2 * context


def _padded_reach(lost: Sequence[int], poolings: Sequence[int]) -> int:
    # How far before a multiple of the stride the first output pixel there looks. Unlike in the valid network, windows
    # begin at multiples of the stride, so on the way down to the bottleneck a started window counts whole.
    reach = 0
    for pixels, pool in zip(lost, poolings, strict=False):
        reach = ceil((reach + pixels) / pool)
    reach += lost[-1]
    for pixels, pool in zip(reversed(lost[:-1]), reversed(poolings), strict=True):
        reach = reach * pool + pixels
    return reach


def _survives(size: int, decoder: Sequence[int], poolings: Sequence[int]) -> bool:
    for pixels, pool in zip(reversed(decoder), reversed(poolings), strict=True):
        size = size * pool - 2 * pixels
        if size < 1:
            return False
    return True


def anisotropic_levels(
    voxel_size: Sequence[float], depth: int
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Kernels and poolings for a stack whose voxels are longer along some axes.

    As long as an axis is at least `COARSE` times as coarse as the finest one, it is neither convolved (kernel 1) nor
    pooled (pooling 1); each pooling of the other axes brings the voxels nearer to a cube.

    Parameters
    ----------
    voxel_size : sequence of float
        Size of a voxel along each axis, in any one unit.
    depth : int
        Number of poolings.

    Returns
    -------
    kernel_sizes, poolings : tuples of tuples of int
        As `unet_geometry` takes them.

    Examples
    --------
    >>> anisotropic_levels((4.0, 1.0, 1.0), 2)
    (((1, 3, 3), (1, 3, 3), (3, 3, 3)), ((1, 2, 2), (1, 2, 2)))
    """
    sizes = list(voxel_size)
    kernels, poolings = [], []
    for level in range(depth + 1):
        coarse = [size >= COARSE * min(sizes) for size in sizes]
        kernels.append(tuple(1 if skip else 3 for skip in coarse))
        if level < depth:
            pooling = tuple(1 if skip else 2 for skip in coarse)
            poolings.append(pooling)
            sizes = [size * pool for size, pool in zip(sizes, pooling, strict=True)]
    return tuple(kernels), tuple(poolings)
