"""DeepLab v1 with a large field of view: VGG-16 at stride 8, with dilated convolutions instead of the last poolings.

Chen, Papandreou, Kokkinos, Murphy, Yuille: Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected
CRFs. ICLR 2015, arXiv 1412.7062 (section 3; DeepLab-LargeFOV: section 5, table 2). The CRF is a step after the network.
"""

from torch import Tensor, nn

from unetbio.geometry import Geometry
from unetbio.networks import blocks
from unetbio.networks.deeplab.v1.spec import POOLINGS, dilation_of_conv5
from unetbio.networks.encoders.vgg.network import VGG16, FullyConnected

__all__ = ["DeepLabV1"]


class DeepLabV1(nn.Module):
    """VGG-16 whose last two poolings keep the size, fc6 and fc7 with 1024 maps, bilinear interpolation by 8.

    Parameters
    ----------
    ndim : {2}
        Number of spatial axes.
    in_channels, num_classes : int
        Channels of the input and of the logits.
    width : float
        Factor of the feature maps.
    batch_norm : bool
        Batch norm before each ReLU. The paper has none: it starts from weights of ImageNet.
    dropout : float
        Probability with which values after fc6 and fc7 are dropped.
    dilation : int
        Of fc6, a 3 x 3 convolution: 12 in the paper. The last stage of the encoder has 2. With 1 nothing is dilated,
        at the same resolution and number of weights.
    geometry : Geometry
        What `unetbio.networks` computes from these parameters.
    """

    def __init__(
        self,
        *,
        ndim: int,
        in_channels: int,
        num_classes: int,
        width: float,
        batch_norm: bool,
        dropout: float,
        dilation: int,
        geometry: Geometry,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        self.encoder = VGG16(
            in_channels, width, batch_norm=batch_norm, poolings=POOLINGS, dilation=dilation_of_conv5(dilation)
        )
        wide = blocks.scaled(1024, width)
        self.fully_connected = FullyConnected(
            self.encoder.channels[-1], wide, 3, dilation=dilation, batch_norm=batch_norm, dropout=dropout
        )
        self.score = blocks.pointwise(wide, num_classes, ndim)
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
