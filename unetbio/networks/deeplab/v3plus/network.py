"""DeepLab v3+: DeepLab v3 as the encoder, and a small decoder with features of stride 4.

Chen, Zhu, Papandreou, Schroff, Adam: Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation.
ECCV 2018, arXiv 1802.02611 (section 3.1; figure 2; the decoder of section 4.1).
"""

import torch
from torch import Tensor, nn

from unetbio.networks import blocks
from unetbio.networks.deeplab.pyramid import PyramidNetwork
from unetbio.networks.deeplab.v3plus.spec import LOW_LEVEL_MAPS, LOW_LEVEL_STRIDE, DeepLabV3PlusParameters
from unetbio.networks.scale_context import separable_convolution

__all__ = ["DeepLabV3Plus"]


class DeepLabV3Plus(PyramidNetwork):
    """DeepLab v3+ with a ResNet.

    Parameters
    ----------
    parameters : DeepLabV3PlusParameters
        Described in that class.
    """

    def __init__(self, parameters: DeepLabV3PlusParameters) -> None:
        super().__init__(parameters, separable=parameters.separable)
        maps, low_level_maps = self.maps, blocks.scaled(LOW_LEVEL_MAPS, parameters.width)
        self.skip = blocks.normalised_convolution(self.encoder.channels[0], low_level_maps, 1)
        convolution = separable_convolution if parameters.separable else blocks.normalised_convolution
        self.decoder = nn.Sequential(convolution(maps + low_level_maps, maps, 3), convolution(maps, maps, 3))
        self.head = blocks.pointwise(maps, parameters.num_classes, parameters.ndim)
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
