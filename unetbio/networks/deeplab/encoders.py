"""Encoders that versions of DeepLab share: parameters and geometry, without torch."""

from collections.abc import Iterator
from dataclasses import dataclass

from unetbio.geometry import Layer
from unetbio.networks.encoders.resnet.spec import ResNetParameters, encoder_path, output_stride, padded_layer, rates_at
from unetbio.networks.encoders.vgg.spec import Pooling
from unetbio.networks.parameters import choice, flag

__all__ = ["PYRAMID_MAPS", "VGG_POOLINGS", "MultiGridParameters"]

VGG_POOLINGS: tuple[Pooling, ...] = ("halve", "halve", "halve", "keep", "keep")
"""Pooling after each stage of VGG-16 in versions 1 and 2."""

PYRAMID_MAPS = 256
"""Channels of each branch of the pyramid of versions 3 and 3+, and of what leaves it."""


@dataclass(frozen=True, kw_only=True)
class MultiGridParameters(ResNetParameters):
    """Parameters of versions 3 and 3+: a ResNet with multi-grid, and a pyramid with the pooled image."""

    dilated: bool = flag(
        True,
        "dilation in the place of strides; without, the encoder is a plain ResNet of output stride 32, and the rates "
        "of the pyramid shrink, so that it sees as far in pixels of the image",
    )
    output_stride: int = choice(
        16,
        "pixels of the image for one of the dilated encoder's",
        {8: "the rates of the pyramid are doubled", 16: "the paper's in training"},
    )
    image_pooling: bool = flag(
        True,
        "the pooled image as a branch of the pyramid: every output depends on the whole input, so tiles are not exact, "
        "and batches need two images",
    )

    @property
    def stride(self) -> int:
        """Output stride of the encoder."""
        return output_stride(self.dilated, self.output_stride)

    @property
    def multi_grid(self) -> tuple[int, ...]:
        """Factors of the dilation in the three blocks of the last stage (arXiv 1706.05587, table 5's choice)."""
        return (1, 2, 4) if self.dilated else (1, 1, 1)

    @property
    def atrous_rates(self) -> tuple[int, ...]:
        """Rates of the pyramid's 3 x 3 convolutions: doubled at an output stride of 8 (section 3.3)."""
        return rates_at(self.stride, (6, 12, 18), given_at=16)

    @property
    def pyramid_path(self) -> tuple[Layer, ...]:
        """Layers from the image through the encoder and the pyramid's widest convolution."""
        encoder = encoder_path(self.backbone, self.stride, self.multi_grid)
        return (*encoder, padded_layer(3, dilation=self.atrous_rates[-1]))

    @property
    def exact(self) -> bool:
        """See `NetworkParameters`: without the pooled image."""
        return not self.image_pooling

    def unused(self) -> Iterator[tuple[str, str]]:
        """See `NetworkParameters`."""
        if not self.dilated:
            yield "output_stride", f"dilated is false, and so the output stride {self.stride}"
