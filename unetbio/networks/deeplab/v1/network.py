"""DeepLab v1 with a large field of view: VGG-16 at stride 8, with dilated convolutions instead of the last poolings.

Chen, Papandreou, Kokkinos, Murphy, Yuille: Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected
CRFs. ICLR 2015, arXiv 1412.7062 (section 3; DeepLab-LargeFOV: section 5, table 2). The CRF is a step after the network.
"""

from torch import Tensor, nn

from unetbio.networks import blocks
from unetbio.networks.deeplab.encoders import VGG_POOLINGS
from unetbio.networks.deeplab.v1.spec import DeepLabV1Parameters
from unetbio.networks.encoders.vgg.network import VGG16, FullyConnected

__all__ = ["DeepLabV1"]


class DeepLabV1(nn.Module):
    """VGG-16 whose last two poolings keep the size, fc6 and fc7 with 1024 maps, bilinear interpolation by 8.

    Parameters
    ----------
    parameters : DeepLabV1Parameters
        Described in that class.
    """

    def __init__(self, parameters: DeepLabV1Parameters) -> None:
        super().__init__()
        self.geometry = parameters.geometry
        self.encoder = VGG16(
            parameters.in_channels,
            parameters.width,
            batch_norm=parameters.batch_norm,
            poolings=VGG_POOLINGS,
            dilation=parameters.dilation_of_conv5,
        )
        wide = blocks.scaled(1024, parameters.width)
        self.fully_connected = FullyConnected(
            self.encoder.channels[-1],
            wide,
            3,
            dilation=parameters.dilation,
            batch_norm=parameters.batch_norm,
            dropout=parameters.dropout,
        )
        self.score = blocks.pointwise(wide, parameters.num_classes, parameters.ndim)
        blocks.initialise_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, H, W) -> (N, K, H, W)``.

        Raises
        ------
        GeometryError
            When the spatial size is not a multiple of 8.
        """
        self.geometry.check(image.shape[2:])
        # (N, K, H / 8, W / 8)
        scores = self.score(self.fully_connected(self.encoder(image)[-1]))
        return blocks.interpolate(scores, (8, 8))
