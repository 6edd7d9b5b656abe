"""Integers of a trained U-Net, and the scales that give them their meaning, from images like those it will see."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unetbio.errors import UsageError
from unetbio.networks.folding import fold_batch_norm
from unetbio.networks.unet.integers import (
    EXACT_FLOAT32,
    LARGEST_IMAGE_WEIGHT,
    LARGEST_MAP_VALUE,
    LARGEST_STEPS,
    LARGEST_WEIGHT,
    STEPS,
    IntegerUNet,
)
from unetbio.networks.unet.network import UNet
from unetbio.networks.unet.spec import UNetParameters

__all__ = ["quantize"]

OF_IMAGES = (LARGEST_IMAGE_WEIGHT, LARGEST_STEPS)
OF_MAPS = (LARGEST_WEIGHT, LARGEST_MAP_VALUE)
"""Largest weight of a convolution, and largest integer that it reads."""

Layer = nn.Conv2d | nn.ConvTranspose2d


@dataclass(frozen=True)
class _Maps:
    """Meaning of integers ``q``, a channel each: the feature map is ``step * q - shift``."""

    step: Tensor
    shift: Tensor


@torch.inference_mode()
def quantize(network: UNet, parameters: UNetParameters, inputs: Iterable[Tensor]) -> IntegerUNet:
    """Make the integer network of a U-Net.

    Parameters
    ----------
    network : UNet
        Trained; it is copied.
    parameters : UNetParameters
        Its parameters.
    inputs : iterable of Tensor
        Normalized images ``(N, C, *spatial)`` of legal sizes, float32: the largest value of each feature map over
        them becomes 255.

    Raises
    ------
    UsageError
        When there are no images.
    """
    folded: Any = fold_batch_norm(copy.deepcopy(network).cpu().double().eval())
    ranges = _ranges(folded, inputs)
    integers = IntegerUNet(replace(parameters, arithmetic="int8", batch_norm=False, dropout=0.0))
    depth = parameters.depth
    image = torch.full((parameters.in_channels,), 1 / STEPS, dtype=torch.float64)
    maps, skips = _Maps(image, torch.zeros_like(image)), []
    contracting = [*zip(folded.encoder, integers.encoder, strict=True), (folded.bottleneck, integers.bottleneck)]
    for level, (pair, made) in enumerate(contracting):
        maps = _quantize_pair(pair, made, maps, ranges, is_first=level == 0)
        skips.append(maps)
    skips.pop()
    for number in range(depth):
        layer, made = folded.upsamplers[number].weights, integers.upsamplers[number]
        after = ranges[layer]
        _fill(made, *_pointwise(layer), maps, _repeated(after, layer), OF_MAPS)
        skip = skips.pop()
        maps = _Maps(torch.cat([skip.step, after.step]), torch.cat([skip.shift, after.shift]))
        maps = _quantize_pair(folded.decoder[number], integers.decoder[number], maps, ranges)
    limits = (torch.iinfo(torch.int16).max, LARGEST_MAP_VALUE)
    _fill(integers.head, folded.head.weight, folded.head.bias, maps, None, limits)
    return integers.eval()


def _quantize_pair(
    pair: nn.Module, made: nn.Module, maps: _Maps, ranges: dict[nn.Module, _Maps], *, is_first: bool = False
) -> _Maps:
    for number, (block, layer) in enumerate(zip(pair.children(), made.children(), strict=True)):
        convolution: Any = next(block.children())
        limits = OF_IMAGES if is_first and number == 0 else OF_MAPS
        _fill(layer, convolution.weight, convolution.bias, maps, ranges[convolution], limits)
        maps = ranges[convolution]
    return maps


def _fill(made: Any, weight: Tensor, bias: Tensor, before: _Maps, after: _Maps | None, limits: tuple[int, int]) -> None:
    """Integers of one convolution: from maps with one meaning to maps with another, or to logits."""
    weight, bias = weight.double(), bias.double()
    largest, largest_value = limits
    by_step = weight * before.step[:, None, None]
    # A map of weights that are all 0 has no step of its own.
    shifted = bias - (weight.sum((2, 3)) * before.shift).sum(1) + (0 if after is None else after.shift)
    # Rounding at most doubles a number of steps, since below half a step it gives 0.
    sums = by_step.abs().sum((1, 2, 3)) * largest_value + shifted.abs()
    unit = torch.maximum(by_step.abs().amax((1, 2, 3)) / largest, sums / (EXACT_FLOAT32 // 2))
    unit = unit.clamp(min=torch.finfo(torch.float32).tiny)
    whole = (shifted / unit).round()
    made.weight.copy_((by_step / unit[:, None, None, None]).round())
    made.bias.copy_(whole)
    made.scale.copy_(unit if after is None else unit / after.step)


def _pointwise(layer: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Weights and bias of the 1 x 1 convolution that a shuffle of maps turns into a transposed convolution."""
    times = layer.weight.shape[2] * layer.weight.shape[3]
    weight = layer.weight.permute(1, 2, 3, 0).reshape(-1, layer.in_channels, 1, 1)
    assert layer.bias is not None
    return weight, layer.bias.repeat_interleave(times)


def _repeated(maps: _Maps, layer: nn.ConvTranspose2d) -> _Maps:
    times = layer.weight.shape[2] * layer.weight.shape[3]
    return _Maps(maps.step.repeat_interleave(times), maps.shift.repeat_interleave(times))


def _ranges(folded: Any, inputs: Iterable[Tensor]) -> dict[nn.Module, _Maps]:
    """Meaning of the integers after each convolution, from the values that images give."""
    network = copy.deepcopy(folded).float()
    # Layers of the copy, and those that they are copies of
    layers = {
        ours: theirs
        for ours, theirs in zip(network.modules(), folded.modules(), strict=True)
        if isinstance(ours, Layer) and theirs is not folded.head
    }
    lowest: dict[nn.Module, Tensor] = {}
    highest: dict[nn.Module, Tensor] = {}

    def look(theirs: nn.Module, layer: nn.Module, _: object, output: Tensor) -> None:
        values = output if isinstance(layer, nn.ConvTranspose2d) else output.relu()
        low, high = values.amin((0, 2, 3)).double(), values.amax((0, 2, 3)).double()
        lowest[theirs] = torch.minimum(low, lowest.get(theirs, low))
        highest[theirs] = torch.maximum(high, highest.get(theirs, high))

    for ours, theirs in layers.items():
        ours.register_forward_hook(partial(look, theirs))
    for image in inputs:
        network(image)
    if not highest:
        raise UsageError(
            "no image can be used to find the scales of the integers: give images like those that will be segmented"
        )
    return {layer: _meaning(lowest[layer], high) for layer, high in highest.items()}


def _meaning(low: Tensor, high: Tensor) -> _Maps:
    """One step for all maps, which lets the next weights keep their proportions; each map with its own shift."""
    shift = (-low).clamp(min=0)
    step = float((high + shift).max()) / LARGEST_MAP_VALUE
    return _Maps(torch.full_like(high, step or 1.0), shift)
