"""A U-Net that computes what a narrower one computes, so that it goes on learning from there.

Chen, Goodfellow, Shlens: Net2Net: Accelerating Learning via Knowledge Transfer. ICLR 2016, arXiv 1511.05641
(section 2.2, Net2WiderNet): channels that are added repeat channels of the narrow network, and what reads a channel and
its repetitions shares the weight among them. The paper breaks the tie between repetitions with noise or dropout; here
the shares are unequal, so that the function stays the same.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from unetbio.networks.unet.network import UNet
from unetbio.networks.unet.spec import OWN, UNetParameters

__all__ = ["is_widening", "widen"]

SMALLEST_SHARE, LARGEST_SHARE = 0.5, 1.5
"""Shares of repetitions are drawn between these, and divided by their sum."""


def is_widening(narrow: UNetParameters, wide: UNetParameters) -> bool:
    """Whether `widen` can give one U-Net the function of another.

    Parameters
    ----------
    narrow, wide : UNetParameters
        Parameters of the two.

    Returns
    -------
    bool
        True where they differ in the number of feature maps alone (dropout aside), the second has more of them, and
        both are sequences of convolutions: no ResNet, residual units, attention or heads at lower levels, no
        max-unpooling, and numbers with a fraction.
    """
    return (
        _with_sizes(wide) == replace(_with_sizes(narrow), base_channels=wide.base_channels, dropout=wide.dropout)
        and wide.base_channels > narrow.base_channels
        and wide.encoder == OWN
        and wide.skip != "sum"
        and wide.upsampling != "max_unpooling"
        and wide.arithmetic == "float"
        and not (wide.residual or wide.attention or wide.deep_supervision)
    )


def _with_sizes(parameters: UNetParameters) -> UNetParameters:
    """Parameters that state their kernels and poolings: a stack of equal voxels states those that others leave out."""
    return replace(parameters, kernel_sizes=parameters.kernels, poolings=parameters.factors)


@torch.no_grad()
def widen(wide: UNet, narrow: UNet) -> None:
    """Give a U-Net the weights with which it computes what a narrower one computes, up to rounding.

    Parameters
    ----------
    wide, narrow : UNet
        Networks whose parameters `is_widening` accepts. The first is changed.
    """
    copier = _Copier(torch.Generator().manual_seed(0))
    first = cast(nn.Conv2d, next(module for module in wide.modules() if _is_convolution(module)))
    features = torch.arange(first.in_channels)
    skips = []
    for level in zip(wide.encoder, narrow.encoder, strict=True):
        features = copier.sequence(*level, features)
        skips.append(features)
    features = copier.sequence(wide.bottleneck, narrow.bottleneck, features)
    pairs = zip(wide.upsamplers, narrow.upsamplers, wide.decoder, narrow.decoder, strict=True)
    for upsampler, narrow_upsampler, decoder, narrow_decoder in pairs:
        features = copier.sequence(upsampler, narrow_upsampler, features)
        skip = skips.pop()
        if wide.skip == "concatenate":
            features = torch.cat([skip, features + skip.max() + 1])
        features = copier.sequence(decoder, narrow_decoder, features)
    copier.convolution(wide.head, narrow.head, features)


class _Copier:
    """Copies layers. Sources are the channels of the narrow network that the channels of the wide one repeat."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def sequence(self, wide: nn.Module, narrow: nn.Module, sources: Tensor) -> Tensor:
        """Copy the layers of a block that come one after the other, and return the sources of its output."""
        for layer, narrow_layer in zip(_layers(wide), _layers(narrow), strict=True):
            if _is_convolution(layer):
                sources = self.convolution(layer, narrow_layer, sources)
            else:
                _copy(layer, {name: tensor[sources] for name, tensor in _channelwise(narrow_layer)})
        return sources

    def convolution(self, wide: nn.Module, narrow: nn.Module, incoming: Tensor) -> Tensor:
        """Copy a convolution, and return the sources of its output."""
        before, after = cast(nn.Conv2d, narrow), cast(nn.Conv2d, wide)
        repeated = torch.randint(
            before.out_channels, (after.out_channels - before.out_channels,), generator=self.generator
        )
        outgoing = torch.cat([torch.arange(before.out_channels), repeated])
        # A transposed convolution has the incoming channels first.
        is_transposed = isinstance(wide, (nn.ConvTranspose2d, nn.ConvTranspose3d))
        weight = before.weight.transpose(0, 1) if is_transposed else before.weight
        shares = self._shares(incoming, before.in_channels, after.out_channels)
        weight = weight[outgoing][:, incoming] * shares.reshape(*shares.shape, *(1,) * (weight.ndim - 2))
        _copy(after, {"weight": weight.transpose(0, 1) if is_transposed else weight})
        if before.bias is not None:
            _copy(after, {"bias": before.bias[outgoing]})
        return outgoing

    def _shares(self, incoming: Tensor, narrow_channels: int, out_channels: int) -> Tensor:
        """Share of the narrow weight for each outgoing and incoming channel, ``(out, in)``."""
        size = (out_channels, len(incoming))
        drawn = torch.empty(size).uniform_(SMALLEST_SHARE, LARGEST_SHARE, generator=self.generator)
        sums = torch.zeros(out_channels, narrow_channels).index_add_(1, incoming, drawn)
        return drawn / sums[:, incoming]


def _layers(block: nn.Module) -> list[nn.Module]:
    return [module for module in block.modules() if next(module.parameters(recurse=False), None) is not None]


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d))


def _channelwise(layer: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Tensors of a batch norm that have a value a channel."""
    return ((name, tensor) for name, tensor in layer.state_dict().items() if tensor.ndim)


def _copy(layer: nn.Module, tensors: dict[str, Tensor]) -> None:
    layer.load_state_dict(tensors, strict=False)
