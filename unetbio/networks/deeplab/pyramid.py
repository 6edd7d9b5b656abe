"""Encoder and pyramid that DeepLab v3 and v3+ share."""

from torch import nn

from unetbio.networks import blocks
from unetbio.networks.deeplab.encoders import PYRAMID_MAPS, MultiGridParameters
from unetbio.networks.encoders.resnet.network import ResNet
from unetbio.networks.scale_context import AtrousPyramid

__all__ = ["PyramidNetwork"]


class PyramidNetwork(nn.Module):
    """A ResNet with multi-grid, and atrous spatial pyramid pooling.

    Parameters
    ----------
    parameters : MultiGridParameters
        Described in that class.
    separable : bool
        Depthwise separable 3 x 3 convolutions in the pyramid.

    Attributes
    ----------
    maps : int
        Channels that leave the pyramid.
    """

    def __init__(self, parameters: MultiGridParameters, *, separable: bool = False) -> None:
        super().__init__()
        self.geometry = parameters.geometry
        self.encoder = ResNet(
            parameters.in_channels,
            backbone=parameters.backbone,
            output_stride=parameters.stride,
            multi_grid=parameters.multi_grid,
            width=parameters.width,
        )
        self.maps = blocks.scaled(PYRAMID_MAPS, parameters.width)
        self.context = AtrousPyramid(
            self.encoder.channels[-1],
            self.maps,
            parameters.atrous_rates,
            image_pooling=parameters.image_pooling,
            separable=separable,
        )
