"""U-Net in 8-bit integers: sums of integers are exact, so tiles, batches, threads and processors cannot change a bit.

Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference. CVPR 2018,
arXiv 1712.05877 (section 2: integers with a scale). Here no integer has a zero point: feature maps are 0 to 255, as
they come from a ReLU, and the maps of an up-convolution, which have none, are shifted; valid convolutions take the
shift into their bias, exactly, since no zeros are padded.

`IntegerUNet` defines the bits. No sum in it can pass 2**24, up to where float32 holds all integers, so PyTorch computes
it exactly on a CPU, and other libraries have to give the same logits, bit by bit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from unetbio.networks import blocks
from unetbio.networks.unet.spec import UNetParameters

__all__ = [
    "EXACT_FLOAT32",
    "LARGEST_IMAGE_WEIGHT",
    "LARGEST_MAP_VALUE",
    "LARGEST_STEPS",
    "LARGEST_WEIGHT",
    "STEPS",
    "IntegerConvolution",
    "IntegerUNet",
]

LARGEST_MAP_VALUE = 255

LARGEST_WEIGHT = 63
"""Two products of such a weight and a map's value fit into 16 bits, in which processors without VNNI add them."""

LARGEST_IMAGE_WEIGHT = 127

STEPS = 256
"""Steps of grey values for each unit of the normalized image."""

LARGEST_STEPS = 2**13 - 1
"""Steps of the image are clipped to this, on either side of 0: 32 times the range of grey values of most pixels."""

EXACT_FLOAT32 = 2**24
"""Up to here float32 holds all integers, so that sums below are exact in any order."""


class IntegerConvolution(nn.Conv2d):
    """Convolution of integers without padding; its output is scaled, rounded and clipped to 0 to 255.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of feature maps.
    kernel_size : sequence of int
        One entry an axis.
    dtype : torch.dtype
        Of the weights.
    """

    scale: Tensor
    bias: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sequence[int], dtype: torch.dtype = torch.int8
    ) -> None:
        super().__init__(in_channels, out_channels, (kernel_size[0], kernel_size[1]))
        shape = self.weight.shape
        del self.weight, self.bias
        self.register_buffer("weight", torch.zeros(shape, dtype=dtype))
        self.register_buffer("bias", torch.zeros(out_channels, dtype=torch.int32))
        self.register_buffer("scale", torch.ones(out_channels))

    def scaled(self, features: Tensor) -> Tensor:
        """Sums times the scale of their map, in float32."""
        weight, bias = (tensor.to(features.dtype) for tensor in (self.weight, self.bias))
        sums = functional.conv2d(features, weight, bias)
        return sums.float() * self.scale.float()[:, None, None]

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, *spatial) -> (N, K, *output)``, of the same dtype; halves are rounded to even."""
        return self.scaled(features).round().clamp(0, LARGEST_MAP_VALUE).to(features.dtype)


class IntegerHead(IntegerConvolution):
    """Convolution of integers whose scaled sums are logits."""

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, *spatial) -> (N, K, *output)``, of the same dtype."""
        return self.scaled(features).to(features.dtype)


class IntegerUNet(nn.Module):
    """U-Net whose weights and feature maps are integers; `unetbio.networks.unet.quantization` makes one.

    The first convolution reads the image in `STEPS` for a unit, and the last has weights of 16 bits.

    Parameters
    ----------
    parameters : UNetParameters
        With ``arithmetic`` int8.
    """

    def __init__(self, parameters: UNetParameters) -> None:
        super().__init__()
        self.geometry = parameters.geometry
        self.factors = tuple(factor for factor, _ in parameters.factors)
        kernels, depth = parameters.kernels, parameters.depth
        channels = [parameters.base_channels * 2**level for level in range(depth + 1)]
        doubles_before = parameters.doubling == "before_pooling"
        wide = [2 * count for count in channels] if doubles_before else channels

        def double_convolution(incoming: int, between: int, outgoing: int, level: int) -> nn.Sequential:
            pairs = ((incoming, between), (between, outgoing))
            return nn.Sequential(*(IntegerConvolution(before, after, kernels[level]) for before, after in pairs))

        incoming = [parameters.in_channels, *wide]
        self.encoder = nn.ModuleList(
            double_convolution(incoming[level], channels[level], wide[level], level) for level in range(depth)
        )
        self.bottleneck = double_convolution(incoming[depth], channels[depth], wide[depth], depth)
        self.upsamplers = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(depth)):
            upsampled = wide[level + 1] if doubles_before else wide[level]
            # A transposed convolution whose kernel is its stride: a 1 x 1 convolution, and a shuffle of its maps.
            shuffled = upsampled * self.factors[level] ** 2
            self.upsamplers.append(IntegerConvolution(wide[level + 1], shuffled, (1, 1)))
            self.decoder.append(double_convolution(wide[level] + upsampled, wide[level], wide[level], level))
        self.head = IntegerHead(wide[0], parameters.num_classes, (1, 1), torch.int16)

    def keeps_sums_exact(self) -> bool:
        """Whether no weight and no sum can pass what all processors compute exactly, and every scale is positive."""
        largest_weight, largest_value = LARGEST_IMAGE_WEIGHT, LARGEST_STEPS
        for layer in self.modules():
            if isinstance(layer, IntegerConvolution):
                weights = layer.weight.long().abs()
                sums = weights.sum((1, 2, 3)) * largest_value + layer.bias.long().abs()
                is_head = isinstance(layer, IntegerHead)
                if sums.max() > EXACT_FLOAT32 or not (layer.scale > 0).all():
                    return False
                if not is_head and weights.max() > largest_weight:
                    return False
                largest_weight, largest_value = LARGEST_WEIGHT, LARGEST_MAP_VALUE
        return True

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image, of its dtype: ``(N, C, *spatial) -> (N, K, *output)``.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        """
        self.geometry.check(image.shape[2:])
        steps = (image.float() * STEPS).round().clamp(-LARGEST_STEPS, LARGEST_STEPS)
        features, skips = steps.to(image.dtype), []
        for convolutions, factor in zip(self.encoder, self.factors, strict=True):
            features = convolutions(features)
            skips.append(features)
            features = blocks.max_pool(features, (factor, factor))
        features = self.bottleneck(features)
        for upsampler, convolutions, factor in zip(self.upsamplers, self.decoder, self.factors[::-1], strict=True):
            features = functional.pixel_shuffle(upsampler(features), factor)
            features = convolutions(blocks.concatenate(skips.pop(), features))
        logits: Tensor = self.head(features)
        return logits
