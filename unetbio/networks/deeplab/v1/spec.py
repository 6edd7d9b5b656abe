"""DeepLab v1 with a large field of view (arXiv 1412.7062): parameters and geometry, without torch."""

from dataclasses import dataclass

from unetbio.geometry import Layer
from unetbio.networks.deeplab.encoders import VGG_POOLINGS
from unetbio.networks.encoders.vgg.spec import VGGParameters, encoder_path
from unetbio.networks.parameters import flag, whole_number
from unetbio.networks.recipes import MIRRORED, Recipe, sgd
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["DeepLabV1Parameters"]


@dataclass(frozen=True, kw_only=True)
class DeepLabV1Parameters(VGGParameters):
    """Parameters of DeepLab v1."""

    dilation: int = whole_number(
        12,
        "of fc6, a 3 x 3 convolution; the last stage of the encoder has 2. With 1 nothing is dilated, at the same "
        "resolution and number of weights",
        least=1,
        most=256,
    )

    multi_scale: bool = flag(
        False,
        "multi-scale prediction (section 4.2, DeepLab-MSc): features of the image and of the first four poolings, "
        "through a 3 x 3 and a 1 x 1 convolution of 128 maps each, beside those of fc7",
    )

    @property
    def dilation_of_conv5(self) -> int:
        """Dilation of the last stage of the encoder: 2, unless dilation is switched off."""
        return min(2, self.dilation)

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`."""
        return (
            *encoder_path(VGG_POOLINGS, dilation=self.dilation_of_conv5),
            Layer(3, dilation=self.dilation, padding=self.dilation),
            Layer(16, stride=8, padding=4, transposed=True),
        )


register(
    Architecture(
        name="deeplab_v1",
        summary="DeepLab v1 LargeFOV: VGG-16 at stride 8 with dilated convolutions, upsampled 8 times",
        paper="Chen et al. 2015, arXiv 1412.7062",
        import_path="unetbio.networks.deeplab.v1.network:DeepLabV1",
        parameters=DeepLabV1Parameters,
        tricks=(2, 5),
        paper_tricks=(2, 5),
        published=(
            Published(
                20_500_000,
                {"in_channels": 3, "num_classes": 21},
                "arXiv 1412.7062, table 2: DeepLab-CRF-LargeFOV, 20.5 M",
            ),
        ),
        recipe=Recipe(
            {"patch_size": 321, "batch_size": 20, **sgd(1e-3), "rate_drops": (0.333, 0.667), **MIRRORED},
            "arXiv 1412.7062, section 5, and the released scripts",
            "The paper trained for 6 000 steps from weights of VGG-16, with ten times the rate in the last layer. "
            "Afterwards comes the CRF: segment --crf largefov --crf-settings iterations=10.",
        ),
    )
)
