"""Building blocks that networks share: convolutions, cropping, ways to upsample."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = [
    "Undrawn",
    "bed_of_nails",
    "bilinear",
    "concatenate",
    "convolution",
    "crop",
    "freeze",
    "initialise_bilinear",
    "initialise_he",
    "interpolate",
    "max_pool",
    "max_unpool",
    "nearest",
    "normalised_convolution",
    "pointwise",
    "scaled",
    "transposed_convolution",
]

TIE_TOLERANCE = 2.0**-40
"""Relative to the largest value of a window: far above the rounding of float64 and below that of float32."""

# mypy takes torch's modules to accept an int or a pair where they take a tuple of any length.
_CONVOLUTIONS: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORMS: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOLS: dict[int, Any] = {2: functional.max_pool2d, 3: functional.max_pool3d}


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int],
    *,
    batch_norm: bool = False,
    padding: bool = False,
    dilation: int = 1,
) -> nn.Sequential:
    """Convolution, batch norm if asked for, ReLU.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of feature maps.
    kernel_size : sequence of int
        Odd, one entry an axis; two or three axes.
    batch_norm : bool
        Normalise between convolution and ReLU (Cicek et al. 2016); at inference it is a fixed scale and shift a
        channel.
    padding : bool
        Pad with zeros, so that the size is kept; without, ``dilation * (kernel - 1)`` pixels are lost along an axis.
    dilation : int
        Distance between neighbouring taps of the kernel.
    """
    ndim = len(kernel_size)
    amount = tuple(dilation * (size // 2) for size in kernel_size) if padding else 0
    layers: list[nn.Module] = [
        _CONVOLUTIONS[ndim](in_channels, out_channels, tuple(kernel_size), padding=amount, dilation=dilation)
    ]
    if batch_norm:
        layers.append(_BATCH_NORMS[ndim](out_channels))
    layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def normalised_convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    relu: bool = True,
) -> nn.Sequential:
    """2-D convolution without bias, batch norm (which has one), and optional ReLU: the layer of ResNets.

    The kernel is odd; zeros are padded so that the size is kept, or divided by the stride where it is a multiple.
    """
    padding = dilation * (kernel_size // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def scaled(channels: int, width: float) -> int:
    """Number of feature maps of a network that is ``width`` times as wide as the paper's: at least one."""
    return max(1, round(channels * width))


def transposed_convolution(
    in_channels: int,
    out_channels: int,
    factor: Sequence[int],
    *,
    kernel_size: Sequence[int] | None = None,
    padding: int = 0,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """Transposed convolution: each input adds its kernel to the output, ``factor`` pixels further for the next one.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of feature maps.
    factor : sequence of int
        The stride, one entry an axis; two or three axes.
    kernel_size : sequence of int, optional
        The stride unless given, so that no two inputs meet in one output.
    padding : int
        Pixels cropped off the output a side: ``(n - 1) * factor + kernel - 2 * padding`` are left.
    groups : int
        Groups of channels that do not mix.
    bias : bool
        Add a number a channel.
    """
    layer: nn.Module = _TRANSPOSED[len(factor)](
        in_channels,
        out_channels,
        tuple(kernel_size or factor),
        stride=tuple(factor),
        padding=padding,
        groups=groups,
        bias=bias,
    )
    return layer


def pointwise(in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """1 x 1 convolution: no context."""
    layer: nn.Module = _CONVOLUTIONS[ndim](in_channels, out_channels, 1)
    return layer


def crop(features: Tensor, shape: Sequence[int]) -> Tensor:
    """Crop the spatial axes to ``shape``, as much on either side.

    ``(N, C, *spatial) -> (N, C, *shape)``; the difference is even along each axis.
    """
    index = [slice(None), slice(None)]
    for size, wanted in zip(features.shape[2:], shape, strict=True):
        start = (size - wanted) // 2
        index.append(slice(start, start + wanted))
    return features[tuple(index)]


def max_pool(features: Tensor, factor: Sequence[int]) -> Tensor:
    """Max pooling with stride = window: ``(N, C, *spatial) -> (N, C, *(spatial / factor))``."""
    pooled: Tensor = _MAX_POOLS[len(factor)](features, tuple(factor))
    return pooled


def nearest(features: Tensor, factor: Sequence[int]) -> Tensor:
    """Repeat each value ``factor`` times along each axis."""
    for axis, times in enumerate(factor, start=2):
        features = features.repeat_interleave(times, dim=axis)
    return features


def bed_of_nails(features: Tensor, factor: Sequence[int]) -> Tensor:
    """Put each value at the first place of its window and zeros elsewhere."""
    shape = [size * times for size, times in zip(features.shape[2:], factor, strict=True)]
    nails = features.new_zeros((*features.shape[:2], *shape))
    firsts = tuple(slice(None, None, times) for times in factor)
    nails[(slice(None), slice(None), *firsts)] = features
    return nails


def bilinear(features: Tensor, factor: Sequence[int]) -> Tensor:
    """Linear interpolation between pixel centres, without the outermost ``factor // 2`` pixels a side.

    Their interpolation needs a neighbour beyond the tile, so they would depend on where a tile ends.
    ``(N, C, *spatial) -> (N, C, *(spatial * factor - factor // 2 * 2))``.
    """
    upsampled = interpolate(features, factor)
    return crop(upsampled, [size - times // 2 * 2 for size, times in zip(upsampled.shape[2:], factor, strict=True)])


def interpolate(features: Tensor, factor: Sequence[int]) -> Tensor:
    """Linear interpolation between pixel centres: ``(N, C, *spatial) -> (N, C, *(spatial * factor))``.

    The outermost ``factor // 2`` pixels a side repeat the border value, so they depend on where a tile ends.
    """
    mode = "bilinear" if len(factor) == 2 else "trilinear"
    return functional.interpolate(features, scale_factor=tuple(map(float, factor)), mode=mode, align_corners=False)


def max_unpool(features: Tensor, pooled_from: Tensor, factor: Sequence[int]) -> Tensor:
    """Put each value where the maximum of its window was, zeros elsewhere (the switches of arXiv 1505.04366).

    Parameters
    ----------
    features : torch.Tensor
        ``(N, C, *spatial)``.
    pooled_from : torch.Tensor
        ``(N, C, *larger)``: what the encoder pooled, of the same channels; it is cropped to ``spatial * factor``, so
        the switches are those of the windows that are left, re-based to their own windows. Of equal values the first
        counts, and in float64 values are equal that differ by no more than rounding.
    factor : sequence of int
        The pooling window.
    """
    shape = [size * times for size, times in zip(features.shape[2:], factor, strict=True)]
    windows = _to_windows(crop(pooled_from, shape), factor)
    # In a flat part of an image all values of a window are equal but for rounding, which varies with the tile.
    tolerance = TIE_TOLERANCE * windows.abs().amax(-1, keepdim=True)
    first_largest = (windows >= windows.amax(-1, keepdim=True) - tolerance).to(torch.uint8).argmax(-1)
    # (N, C, *spatial, window): 1 at the place of the maximum
    switches = functional.one_hot(first_largest, windows.shape[-1]).to(features.dtype)
    return _from_windows(switches * features.unsqueeze(-1), factor)


def _to_windows(features: Tensor, factor: Sequence[int]) -> Tensor:
    # (N, C, *(spatial * factor)) -> (N, C, *spatial, prod(factor))
    spatial = [size // times for size, times in zip(features.shape[2:], factor, strict=True)]
    ndim = len(spatial)
    split = [value for pair in zip(spatial, factor, strict=True) for value in pair]
    order = [0, 1, *range(2, 2 + 2 * ndim, 2), *range(3, 3 + 2 * ndim, 2)]
    return features.reshape(*features.shape[:2], *split).permute(order).reshape(*features.shape[:2], *spatial, -1)


def _from_windows(windows: Tensor, factor: Sequence[int]) -> Tensor:
    # (N, C, *spatial, prod(factor)) -> (N, C, *(spatial * factor))
    spatial = windows.shape[2:-1]
    ndim = len(spatial)
    order = [
        0,
        1,
        *(axis for pair in zip(range(2, 2 + ndim), range(2 + ndim, 2 + 2 * ndim), strict=True) for axis in pair),
    ]
    shape = [size * times for size, times in zip(spatial, factor, strict=True)]
    return windows.reshape(*windows.shape[:-1], *factor).permute(order).reshape(*windows.shape[:2], *shape)


class Undrawn(TorchFunctionMode):
    """Draw no weights within it: for those without memory, PyTorch imports its compiler, which takes 2 s."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if function.__name__.endswith("normal_"):
            return args[0] if args else given["tensor"]
        return function(*args, **given)


def initialise_he(network: nn.Module) -> None:
    """Draw weights from a normal distribution with variance ``2 / N`` (arXiv 1505.04597, section 3).

    N is the number of incoming connections. A transposed convolution gives each output ``kernel / stride`` inputs an
    axis and channel: one where its stride equals its kernel. Biases start at zero.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            connections = module.in_channels * prod(module.kernel_size) / prod(module.stride)
            nn.init.normal_(module.weight, std=(2.0 / connections) ** 0.5)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def initialise_bilinear(layer: nn.Module) -> None:
    """Make a transposed convolution interpolate linearly by its stride, each channel by itself (arXiv 1411.4038).

    Parameters
    ----------
    layer : torch.nn.ConvTranspose2d
        As many channels out as in, or one group a channel. With ``kernel = 2 * stride`` and ``padding = stride // 2``
        it does what `interpolate` does for an even stride, but pads with zeros beyond the border.
    """
    weight: Any = layer.weight
    strides: Any = layer.stride
    rows, columns = (_triangle(size, stride) for size, stride in zip(weight.shape[2:], strides, strict=True))
    with torch.no_grad():
        weight.zero_()
        for channel in range(weight.shape[0]):
            # With one group a channel the second axis has a single entry.
            weight[channel, channel % weight.shape[1]] = rows[:, None] * columns


def _triangle(size: int, stride: int) -> Tensor:
    # Weight of an input at each tap: 1 at the middle of the kernel, 0 a stride away
    return (1 - (torch.arange(size) - (size - 1) / 2).abs() / stride).clamp(min=0)


def freeze(layer: nn.Module) -> None:
    """Make the weights of a layer buffers, which are saved but neither trained nor counted."""
    for name, weight in list(layer.named_parameters(recurse=False)):
        delattr(layer, name)
        layer.register_buffer(name, weight.detach())


def concatenate(skip: Tensor, features: Tensor) -> Tensor:
    """Crop ``skip`` to the spatial shape of ``features`` and put its channels first."""
    return torch.cat([crop(skip, features.shape[2:]), features], dim=1)
