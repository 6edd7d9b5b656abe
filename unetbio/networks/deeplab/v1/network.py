"""DeepLab v1 with a large field of view: VGG-16 at stride 8, with dilated convolutions instead of the last poolings.

Chen, Papandreou, Kokkinos, Murphy, Yuille: Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected
CRFs. ICLR 2015, arXiv 1412.7062 (section 3; DeepLab-LargeFOV: section 5, table 2). The CRF is a step after the network.
"""

import torch
from torch import Tensor, nn

from unetbio.networks import blocks
from unetbio.networks.deeplab.encoders import VGG_POOLINGS
from unetbio.networks.deeplab.v1.spec import DeepLabV1Parameters
from unetbio.networks.encoders.vgg.network import VGG16, FullyConnected

__all__ = ["DeepLabV1"]

SCALE_MAPS = 128
"""Channels of both layers of multi-scale prediction."""

SCALE_STRIDES = (8, 4, 2, 1, 1)
"""Strides that bring the image and the first four poolings to the size of fc7."""


def _scale_features(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, stride, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 1),
        nn.ReLU(inplace=True),
    )


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
        maps = blocks.scaled(SCALE_MAPS, parameters.width)
        sources = zip((parameters.in_channels, *self.encoder.channels), SCALE_STRIDES, strict=False)
        self.scales = nn.ModuleList(
            _scale_features(channels, maps, stride) for channels, stride in (sources if parameters.multi_scale else ())
        )
        self.score = blocks.pointwise(wide + len(self.scales) * maps, parameters.num_classes, parameters.ndim)
        blocks.initialise_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, H, W) -> (N, K, H, W)``.

        Raises
        ------
        GeometryError
            When the spatial size is not a multiple of 8.
        """
        self.geometry.check(image.shape[2:])
        stages = self.encoder(image)
        features: Tensor = self.fully_connected(stages[-1])
        if self.scales:
            scaled = [scale(source) for scale, source in zip(self.scales, (image, *stages), strict=False)]
            features = torch.cat([features, *scaled], dim=1)
        # (N, K, H / 8, W / 8)
        scores = self.score(features)
        return blocks.interpolate(scores, (8, 8))
