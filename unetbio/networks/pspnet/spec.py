"""PSPNet (arXiv 1612.01105): parameters and geometry, without torch."""

from dataclasses import dataclass

from unetbio.geometry import Layer
from unetbio.networks.encoders.resnet.spec import (
    ResNetParameters,
    bilinear_layer,
    encoder_path,
    output_stride,
    padded_layer,
)
from unetbio.networks.parameters import flag
from unetbio.networks.recipes import Recipe, augmented, sgd
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["AUXILIARY_SHARE", "BINS", "PSPNetParameters"]

STRIDE = 8
"""Output stride with dilation."""

BINS = (1, 2, 3, 6)
"""Cells along each axis of the four grids (section 3.2)."""

AUXILIARY_SHARE = 0.4
"""Of the loss of the third stage's logits (section 5.1)."""


@dataclass(frozen=True, kw_only=True)
class PSPNetParameters(ResNetParameters):
    """Parameters of PSPNet."""

    dilated: bool = flag(True, "dilation in the place of the last two strides: the output stride is 8 instead of 32")

    @property
    def stride(self) -> int:
        """Output stride of the encoder."""
        return output_stride(self.dilated, STRIDE)

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`; without the pooling, which covers the whole image."""
        return (*encoder_path(self.backbone, self.stride), padded_layer(3), bilinear_layer(self.stride))

    @property
    def exact(self) -> bool:
        """See `NetworkParameters`: never, since each output depends on the whole input."""
        return False


register(
    Architecture(
        name="pspnet",
        summary="PSPNet: dilated ResNet, averages over grids of 1, 2, 3 and 6 cells beside the features",
        paper="Zhao et al. 2017, arXiv 1612.01105",
        import_path="unetbio.networks.pspnet.network:PSPNet",
        parameters=PSPNetParameters,
        tricks=(1, 2, 4),
        paper_tricks=(2, 4),
        published=(
            Published(
                67_948_390,
                {"in_channels": 3, "num_classes": 19},
                "counted by hand from github.com/hszhao/semseg, with torchvision's stem in the place of its three "
                "convolutions (123 776 more)",
            ),
        ),
        recipe=Recipe(
            {
                "patch_size": 473,
                "batch_size": 16,
                **sgd(0.01, decay=1e-4, poly=True),
                **augmented(
                    flip=True, scale=2.0, blur=1.0, probability=0.5, brightness=0.0, contrast=0.0, gamma=1.0, noise=0.0
                ),
            },
            "arXiv 1612.01105, section 5.1",
            "The paper trained for 30 000 steps (PASCAL VOC) to 150 000 (ADE20K) from weights of ResNet. It rotates by "
            "up to 10 degrees, which is left out here.",
        ),
    )
)
