"""DeepLab v3: a dilated ResNet with multi-grid, and atrous spatial pyramid pooling with batch norm.

Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution for Semantic Image Segmentation. arXiv 1706.05587
(sections 3.2.1 and 3.3; figure 5).
"""

from torch import Tensor, nn

from unetbio.networks import blocks
from unetbio.networks.deeplab.encoders import PYRAMID_MAPS
from unetbio.networks.deeplab.v3.spec import DeepLabV3Parameters
from unetbio.networks.encoders.resnet.network import ResNet
from unetbio.networks.scale_context import AtrousPyramid

__all__ = ["DeepLabV3"]


class DeepLabV3(nn.Module):
    """DeepLab v3.

    Parameters
    ----------
    parameters : DeepLabV3Parameters
        Described in that class.
    """

    def __init__(self, parameters: DeepLabV3Parameters) -> None:
        super().__init__()
        self.geometry = parameters.geometry
        self.encoder = ResNet(
            parameters.in_channels,
            backbone=parameters.backbone,
            output_stride=parameters.stride,
            multi_grid=parameters.multi_grid,
            width=parameters.width,
        )
        maps = blocks.scaled(PYRAMID_MAPS, parameters.width)
        self.context = AtrousPyramid(
            self.encoder.channels[-1], maps, parameters.atrous_rates, image_pooling=parameters.image_pooling
        )
        self.head = blocks.pointwise(maps, parameters.num_classes, parameters.ndim)
        blocks.initialise_he(self.context)
        blocks.initialise_he(self.head)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, H, W) -> (N, K, H, W)``.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        UsageError
            In training with image pooling, when the batch has one image.
        """
        self.geometry.check(image.shape[2:])
        logits = self.head(self.context(self.encoder(image)))
        return blocks.interpolate(logits, (self.encoder.output_stride,) * 2)
