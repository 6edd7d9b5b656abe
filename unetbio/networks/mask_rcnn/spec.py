"""Mask R-CNN (arXiv 1703.06870): parameters and geometry, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unetbio.geometry import Geometry, Layer, padded_geometry
from unetbio.networks.encoders.resnet.spec import backbone, encoder_path, padded_layer
from unetbio.networks.parameters import PlanarParameters, whole_numbers
from unetbio.networks.recipes import MIRRORED, Recipe, sgd
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["STRIDE", "MaskRCNNParameters"]

STRIDE = 32
"""Of the encoder, which is not dilated."""


@dataclass(frozen=True, kw_only=True)
class MaskRCNNParameters(PlanarParameters):
    """Parameters of Mask R-CNN."""

    backbone: str = backbone("resnet50")
    anchor_sizes: Sequence[int] = whole_numbers(
        (16, 32, 64, 128, 256),
        "size of the anchors (root of their area) in pixels, on the maps of strides 4, 8, 16, 32 and 64; the paper's "
        "are 32, 64, 128, 256 and 512",
        least=1,
        most=65535,
    )

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`: receptive field of an anchor of P6."""
        # P5 is smoothed, every other pixel of it taken, and looked at with 3 x 3. Heads see their boxes besides,
        # however large these are.
        coarsest = (padded_layer(3), Layer(1, 2), padded_layer(3), Layer(64, 64, transposed=True))
        return (*encoder_path(self.backbone, STRIDE), *coarsest)

    @property
    def geometry(self) -> Geometry:
        """See `NetworkParameters`."""
        # The size of P6 is rounded up, so that the image need be divisible by the stride of P5 alone.
        return replace(padded_geometry(self.path), stride=(STRIDE,) * 2, minimum=(STRIDE,) * 2)

    @property
    def exact(self) -> bool:
        """See `NetworkParameters`: never, since boxes reach as far as objects do."""
        return False


register(
    Architecture(
        name="mask_rcnn",
        summary="Mask R-CNN: boxes and masks of objects, from proposals on a feature pyramid",
        paper="He et al. 2017, arXiv 1703.06870; pyramid: arXiv 1612.03144; proposals: arXiv 1506.01497",
        import_path="unetbio.networks.mask_rcnn.network:MaskRCNN",
        parameters=MaskRCNNParameters,
        paper_tricks=(1, 6),
        published=(
            Published(
                44_401_393,
                {"in_channels": 3, "num_classes": 91},
                "torchvision's maskrcnn_resnet50_fpn; its batch norm is frozen, ours has 53 120 trainable numbers more",
            ),
        ),
        recipe=Recipe(
            {"patch_size": 800, "batch_size": 16, **sgd(0.02, decay=1e-4), "rate_drops": (0.75,), **MIRRORED},
            "arXiv 1703.06870, section 3.1",
            "The paper trained for 160 000 steps from weights of ResNet, on images whose shorter side has 800 pixels.",
        ),
        output="objects",
    )
)
