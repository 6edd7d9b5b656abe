"""DeepLab v2: a dilated ResNet or VGG-16 and atrous spatial pyramid pooling.

Chen, Papandreou, Kokkinos, Murphy, Yuille: DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs. arXiv 1606.00915 (sections 3.1 and 3.2; figure 7). The fully connected CRF is a
step after the network.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from unetbio.networks import blocks
from unetbio.networks.deeplab.v2.spec import VGG, DeepLabV2Parameters
from unetbio.networks.encoders.resnet.network import ResNet
from unetbio.networks.encoders.vgg.network import VGG16, FullyConnected
from unetbio.networks.scale_context import SummedAtrousPyramid, atrous_convolution

__all__ = ["DeepLabV2"]

SCALES = (0.5, 0.75)
"""Sizes of the image beside its own in multi-scale input."""

VGG_MAPS = 1024
"""Channels of fc6 and fc7 in each branch of the pyramid on VGG-16."""


class DeepLabV2(nn.Module):
    """DeepLab v2.

    On a ResNet each branch of the pyramid is one atrous convolution to the classes; on VGG-16 it is fc6
    (3 x 3, atrous), fc7 and a 1 x 1 convolution to the classes.

    Parameters
    ----------
    parameters : DeepLabV2Parameters
        Described in that class.
    """

    def __init__(self, parameters: DeepLabV2Parameters) -> None:
        super().__init__()
        self.geometry = parameters.geometry
        self.stride = parameters.stride
        self.scales = SCALES if parameters.multi_scale else ()
        rates, width, num_classes = parameters.atrous_rates, parameters.width, parameters.num_classes
        if parameters.backbone == VGG:
            poolings, dilation = parameters.vgg_stages
            batch_norm, dropout = parameters.batch_norm, parameters.dropout
            vgg = VGG16(parameters.in_channels, width, batch_norm=batch_norm, poolings=poolings, dilation=dilation)
            self.encoder: nn.Module = vgg
            maps = blocks.scaled(VGG_MAPS, width)
            branches: list[nn.Module] = [
                nn.Sequential(
                    FullyConnected(vgg.channels[-1], maps, 3, dilation=rate, batch_norm=batch_norm, dropout=dropout),
                    blocks.pointwise(maps, num_classes, parameters.ndim),
                )
                for rate in rates
            ]
            blocks.initialise_he(vgg)
        else:
            resnet = ResNet(
                parameters.in_channels, backbone=parameters.backbone, output_stride=self.stride, width=width
            )
            self.encoder = resnet
            branches = [atrous_convolution(resnet.channels[-1], num_classes, rate) for rate in rates]
        self.head = SummedAtrousPyramid(branches)
        blocks.initialise_he(self.head)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, H, W) -> (N, K, H, W)``.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        """
        self.geometry.check(image.shape[2:])
        scores = self._scores(image)
        for scale in self.scales:
            smaller = self._scores(_resized(image, scale))
            scores = torch.maximum(scores, _resized(smaller, 1 / scale))
        return blocks.interpolate(scores, (self.stride, self.stride))

    def _scores(self, image: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, K, H / stride, W / stride)``."""
        features = self.encoder(image)
        # VGG-16 gives the feature maps of all its stages.
        scores: Tensor = self.head(features if isinstance(features, Tensor) else features[-1])
        return scores


def _resized(maps: Tensor, scale: float) -> Tensor:
    size = [round(length * scale) for length in maps.shape[2:]]
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)
