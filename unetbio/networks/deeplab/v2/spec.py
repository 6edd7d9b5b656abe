"""DeepLab v2 (arXiv 1606.00915): parameters and geometry, without torch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from unetbio.geometry import Geometry, Layer, padded_geometry
from unetbio.networks.deeplab.encoders import VGG_POOLINGS
from unetbio.networks.encoders.resnet.spec import (
    backbone,
    bilinear_layer,
    encoder_path,
    output_stride,
    padded_layer,
    rates_at,
)
from unetbio.networks.encoders.vgg import spec as vgg
from unetbio.networks.parameters import PlanarParameters, batch_norm, dropout, flag
from unetbio.networks.recipes import Recipe, augmented, sgd
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["VGG", "DeepLabV2Parameters"]

STRIDE = 8
"""Output stride with dilation."""

VGG = "vgg16"
"""The backbone that is no ResNet."""


@dataclass(frozen=True, kw_only=True)
class DeepLabV2Parameters(PlanarParameters):
    """Parameters of DeepLab v2."""

    backbone: str = backbone("resnet101", {VGG: "VGG-16, as in DeepLab v1"})
    batch_norm: bool = batch_norm("of VGG-16 and its pyramid (the paper has none); a ResNet always has it")
    dropout: float = dropout("after fc6 and fc7 of VGG-16", "a ResNet has none")
    dilated: bool = flag(
        True,
        "dilation in the place of the last two strides: the output stride is 8 instead of 32; without, the rates of "
        "the pyramid shrink, so that it sees as far in pixels of the image",
    )

    multi_scale: bool = flag(
        False,
        "multi-scale input (section 4.1): the image at half, three quarters and full size, and of the three scores the "
        "largest; run over windows, since sizes have to be multiples of 4 output strides and the context doubles",
    )

    @property
    def stride(self) -> int:
        """Output stride of the encoder."""
        return output_stride(self.dilated, STRIDE)

    @property
    def atrous_rates(self) -> tuple[int, ...]:
        """Rates of the pyramid's convolutions (ASPP-L of table 3)."""
        return rates_at(self.stride, (6, 12, 18, 24), given_at=STRIDE)

    @property
    def vgg_stages(self) -> tuple[tuple[vgg.Pooling, ...], int]:
        """Pooling after each stage of VGG-16, and the last dilation: as in DeepLab v1, or in a plain VGG-16."""
        return (VGG_POOLINGS, 2) if self.dilated else (vgg.HALVINGS, 1)

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`."""
        widest = padded_layer(3, dilation=self.atrous_rates[-1])
        if self.backbone == VGG:
            poolings, dilation = self.vgg_stages
            encoder = vgg.encoder_path(poolings, dilation=dilation)
        else:
            encoder = encoder_path(self.backbone, self.stride)
        interpolation = bilinear_layer(self.stride)
        if self.multi_scale:
            # The scores of the image at half size are doubled, and then interpolated with those of the others.
            return (Layer(2, stride=2), *encoder, widest, bilinear_layer(2), interpolation)
        return (*encoder, widest, interpolation)

    @property
    def geometry(self) -> Geometry:
        """See `NetworkParameters`: three quarters of a multiple of four strides are a multiple of the stride."""
        geometry = padded_geometry(self.path)
        if not self.multi_scale:
            return geometry
        size = 4 * self.stride
        return replace(
            geometry, context=(ceil(geometry.context[0] / size) * size,) * 2, stride=(size,) * 2, minimum=(size,) * 2
        )

    @property
    def exact(self) -> bool:
        """See `NetworkParameters`: with one scale."""
        return not self.multi_scale

    def unused(self) -> Iterator[tuple[str, str]]:
        """See `NetworkParameters`."""
        if self.backbone != VGG:
            yield "batch_norm", f"the backbone {self.backbone} always has it"
            yield "dropout", f"the backbone {self.backbone} has none"


register(
    Architecture(
        name="deeplab_v2",
        summary="DeepLab v2: dilated ResNet or VGG-16, atrous convolutions of four rates summed, bilinear x 8",
        paper="Chen et al. 2016, arXiv 1606.00915",
        import_path="unetbio.networks.deeplab.v2.network:DeepLabV2",
        parameters=DeepLabV2Parameters,
        tricks=(2, 3, 5),
        paper_tricks=(2, 3, 5),
        published=(
            Published(
                44_048_532,
                {"in_channels": 3, "num_classes": 21},
                "counted by hand: torchvision's resnet101 without its classifier (44 549 160 - 2 049 000) and four "
                "convolutions of 9 * 2048 * 21 + 21",
            ),
        ),
        recipe=Recipe(
            {
                "parameters": {"multi_scale": True},
                "patch_size": 321,
                "batch_size": 10,
                **sgd(2.5e-4, poly=True),
                **augmented(flip=True, scale=1.5),
            },
            "arXiv 1606.00915, section 4.1, and the released scripts",
            "The paper trained for 20 000 steps from weights of ResNet-101, with ten times the rate in the last layer. "
            "Afterwards comes the CRF: segment --crf deeplab_v2_resnet --crf-settings iterations=10.",
        ),
    )
)
