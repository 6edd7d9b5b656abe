"""DeepLab v3+ (arXiv 1802.02611): parameters and geometry, without torch."""

from dataclasses import dataclass

from unetbio.geometry import Layer
from unetbio.networks.deeplab.encoders import MultiGridParameters
from unetbio.networks.encoders.resnet.spec import bilinear_layer, padded_layer
from unetbio.networks.parameters import flag
from unetbio.networks.recipes import Recipe, augmented, sgd
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["LOW_LEVEL_MAPS", "LOW_LEVEL_STRIDE", "DeepLabV3PlusParameters"]

LOW_LEVEL_STRIDE = 4
"""Of the encoder's features that the decoder takes, those of the first stage."""

LOW_LEVEL_MAPS = 48
"""To which they are reduced, so that they do not outweigh the encoder's 256 (section 4.1)."""


@dataclass(frozen=True, kw_only=True)
class DeepLabV3PlusParameters(MultiGridParameters):
    """Parameters of DeepLab v3+."""

    separable: bool = flag(False, "depthwise separable 3 x 3 convolutions in the pyramid and in the decoder")

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`."""
        return (
            *self.pyramid_path,
            bilinear_layer(self.stride // LOW_LEVEL_STRIDE),
            padded_layer(3),
            padded_layer(3),
            bilinear_layer(LOW_LEVEL_STRIDE),
        )


register(
    Architecture(
        name="deeplab_v3plus",
        summary="DeepLab v3+ (the lecture's v4): DeepLab v3 as the encoder, a decoder with features of stride 4",
        paper="Chen et al. 2018, arXiv 1802.02611",
        import_path="unetbio.networks.deeplab.v3plus.network:DeepLabV3Plus",
        parameters=DeepLabV3PlusParameters,
        tricks=(1, 2, 3, 5),
        paper_tricks=(2, 3, 6),
        published=(
            Published(
                59_344_309,
                {"in_channels": 3, "num_classes": 21},
                "counted by hand from github.com/jfzhang95/pytorch-deeplab-xception with ResNet-101",
            ),
        ),
        recipe=Recipe(
            {
                "patch_size": 513,
                "batch_size": 16,
                **sgd(0.007, decay=1e-4, poly=True),
                **augmented(flip=True, scale=2.0),
            },
            "arXiv 1802.02611, section 4",
            "As DeepLab v3, from weights of ResNet.",
        ),
    )
)
