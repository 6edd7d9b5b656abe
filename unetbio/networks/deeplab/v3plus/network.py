"""DeepLab v3+: DeepLab v3 as the encoder, and a small decoder with features of stride 4.

Chen, Zhu, Papandreou, Schroff, Adam: Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation.
ECCV 2018, arXiv 1802.02611 (section 3.1; figure 2; the decoder of section 4.1).
"""

import torch
from torch import Tensor, nn

from unetbio.geometry import Geometry
from unetbio.networks import blocks
from unetbio.networks.deeplab.v3.spec import MAPS, atrous_rates, multi_grid
from unetbio.networks.deeplab.v3plus.spec import LOW_LEVEL_MAPS, LOW_LEVEL_STRIDE
from unetbio.networks.encoders.resnet import spec as plan
from unetbio.networks.encoders.resnet.network import ResNet
from unetbio.networks.scale_context import AtrousPyramid, separable_convolution

__all__ = ["DeepLabV3Plus"]


class DeepLabV3Plus(nn.Module):
    """DeepLab v3+ with a ResNet.

    Parameters
    ----------
    ndim : {2}
        Number of spatial axes.
    in_channels, num_classes : int
        Channels of the input and of the logits.
    width : float
        Factor of every other number of channels.
    backbone, dilated, output_stride, image_pooling
        As `unetbio.networks.deeplab.v3.network.DeepLabV3`.
    separable : bool
        Depthwise separable 3 x 3 convolutions in the pyramid and in the decoder.
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
        separable: bool,
        geometry: Geometry,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        stride = plan.output_stride(dilated, output_stride)
        self.encoder = ResNet(
            in_channels, backbone=backbone, output_stride=stride, multi_grid=multi_grid(dilated), width=width
        )
        maps, low_level_maps = blocks.scaled(MAPS, width), blocks.scaled(LOW_LEVEL_MAPS, width)
        self.context = AtrousPyramid(
            self.encoder.channels[-1], maps, atrous_rates(stride), image_pooling=image_pooling, separable=separable
        )
        self.skip = blocks.normalised_convolution(self.encoder.channels[0], low_level_maps, 1)
        convolution = separable_convolution if separable else blocks.normalised_convolution
        self.decoder = nn.Sequential(convolution(maps + low_level_maps, maps, 3), convolution(maps, maps, 3))
        self.head = blocks.pointwise(maps, num_classes, ndim)
        for part in (self.context, self.skip, self.decoder, self.head):
            blocks.initialise_he(part)

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
        encoder = self.encoder
        low_level = encoder.layer1(encoder.stem(image))
        features = self.context(encoder.layer4(encoder.layer3(encoder.layer2(low_level))))
        factor = encoder.output_stride // LOW_LEVEL_STRIDE
        features = blocks.interpolate(features, (factor, factor))
        # (N, C, H / 4, W / 4)
        logits = self.head(self.decoder(torch.cat([self.skip(low_level), features], dim=1)))
        return blocks.interpolate(logits, (LOW_LEVEL_STRIDE, LOW_LEVEL_STRIDE))
