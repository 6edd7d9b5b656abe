"""DeepLab v2: a dilated ResNet and atrous spatial pyramid pooling.

Chen, Papandreou, Kokkinos, Murphy, Yuille: DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs. arXiv 1606.00915 (sections 3.1 and 3.2; figure 7). The fully connected CRF is a
step after the network.
"""

from torch import Tensor, nn

from unetbio.architectures import resnet as plan
from unetbio.architectures.deeplab_v2 import STRIDE, atrous_rates
from unetbio.geometry import Geometry
from unetbio.networks import blocks
from unetbio.networks.resnet import ResNet
from unetbio.networks.scale_context import SummedAtrousPyramid

__all__ = ["DeepLabV2"]


class DeepLabV2(nn.Module):
    """DeepLab v2.

    Parameters
    ----------
    ndim : {2}
        Number of spatial axes.
    in_channels, num_classes : int
        Channels of the input and of the logits.
    width : float
        Factor of the encoder's channels.
    backbone : {"resnet18", "resnet50", "resnet101"}
        The encoder.
    dilated : bool
        Dilation in the place of the last two strides, so that the output stride is 8 instead of 32. Without, the rates
        of the pyramid shrink as the stride grows: it sees as far in pixels of the image.
    geometry : Geometry
        What `unetbio.architectures` computes from these parameters.
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
        geometry: Geometry,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        stride = plan.output_stride(dilated, STRIDE)
        self.encoder = ResNet(in_channels, backbone=backbone, output_stride=stride, width=width)
        self.head = SummedAtrousPyramid(self.encoder.channels[-1], num_classes, atrous_rates(stride))
        blocks.initialise_he(self.head)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, H, W) -> (N, K, H, W)``.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        """
        self.geometry.check(image.shape[2:])
        logits = self.head(self.encoder(image))
        return blocks.interpolate(logits, (self.encoder.output_stride,) * 2)
