"""DeepLab v3: a dilated ResNet with multi-grid, and atrous spatial pyramid pooling with batch norm.

Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution for Semantic Image Segmentation. arXiv 1706.05587
(sections 3.2.1 and 3.3; figure 5).
"""

from torch import Tensor, nn

from unetbio.geometry import Geometry
from unetbio.networks import blocks
from unetbio.networks.deeplab.v3.spec import MAPS, atrous_rates, multi_grid
from unetbio.networks.encoders.resnet import spec as plan
from unetbio.networks.encoders.resnet.network import ResNet
from unetbio.networks.scale_context import AtrousPyramid

__all__ = ["DeepLabV3"]


class DeepLabV3(nn.Module):
    """DeepLab v3.

    Parameters
    ----------
    ndim : {2}
        Number of spatial axes.
    in_channels, num_classes : int
        Channels of the input and of the logits.
    width : float
        Factor of every other number of channels.
    backbone : {"resnet18", "resnet50", "resnet101"}
        The encoder.
    dilated : bool
        Dilation in the place of strides. Without, the encoder is a plain ResNet of output stride 32 without
        multi-grid, and the rates of the pyramid are halved, so that it sees as far in pixels of the image.
    output_stride : {16, 8}
        Of the dilated encoder; at 8 the rates of the pyramid are doubled.
    image_pooling : bool
        The pooled image as a branch of the pyramid: then every output depends on the whole input, and the network
        cannot be trained on batches of one image.
    geometry : Geometry
        What `unetbio.networks` computes from these parameters; it leaves the pooled image out.
    """

    def __init__(
        self,
        *,
        ndim: int,
        in_channels: int,
        num_classes: int,
        width: float,
        backbone: str,
        dilated: bool,
        output_stride: int,
        image_pooling: bool,
        geometry: Geometry,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        stride = plan.output_stride(dilated, output_stride)
        self.encoder = ResNet(
            in_channels, backbone=backbone, output_stride=stride, multi_grid=multi_grid(dilated), width=width
        )
        maps = blocks.scaled(MAPS, width)
        self.context = AtrousPyramid(self.encoder.channels[-1], maps, atrous_rates(stride), image_pooling=image_pooling)
        self.head = blocks.pointwise(maps, num_classes, ndim)
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
