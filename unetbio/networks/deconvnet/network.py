"""DeconvNet: VGG-16 down to fc7, and the same way back by max-unpooling and transposed convolutions.

Noh, Hong, Han: Learning Deconvolution Network for Semantic Segmentation. ICCV 2015, arXiv 1505.04366
(section 3, table 2).

The paper's fc6 does not pad: it makes one pixel of the 7 x 7 that pool5 has for an image of 224 x 224, and the first
transposed convolution makes them 7 x 7 again, so that the network takes crops of that size alone. Here both pad by
3 and keep the size: the network takes any multiple of 32, with the paper's weights.
"""

from torch import Tensor, nn

from unetbio.networks import blocks
from unetbio.networks.deconvnet.spec import DeconvNetParameters
from unetbio.networks.encoders.vgg.network import VGG16, FullyConnected, mirrored_stages, unpooled

__all__ = ["DeconvNet"]


class DeconvNet(nn.Module):
    """VGG-16's convolutions, fc6 and fc7, and a mirrored decoder; batch norm after all but the last 1 x 1 convolution.

    Parameters
    ----------
    parameters : DeconvNetParameters
        Described in that class.
    """

    def __init__(self, parameters: DeconvNetParameters) -> None:
        super().__init__()
        self.geometry = parameters.geometry
        # Which of two nearly equal values is the maximum must not depend on rounding.
        self.needs_float64 = True
        self.encoder = VGG16(parameters.in_channels, parameters.width, batch_norm=True)
        channels = self.encoder.channels
        wide = blocks.scaled(4096, parameters.width)
        self.fully_connected = FullyConnected(channels[-1], wide, 7, batch_norm=True)
        self.fc6_deconvolution = _deconvolution(wide, channels[-1], 7)
        self.decoder = nn.ModuleList(
            nn.Sequential(*(_deconvolution(incoming, outgoing, 3) for incoming, outgoing in stage))
            for stage in mirrored_stages(channels)
        )
        self.head = blocks.pointwise(channels[0], parameters.num_classes, parameters.ndim)
        blocks.initialise_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, H, W) -> (N, K, H, W)``.

        Raises
        ------
        GeometryError
            When the spatial size is not a multiple of 32.
        """
        self.geometry.check(image.shape[2:])
        features, switches = self.encoder.with_switches(image)
        # (N, 512, H / 32, W / 32) -> (N, 4096, H / 32, W / 32) -> (N, 512, H / 32, W / 32)
        features = self.fc6_deconvolution(self.fully_connected(features))
        logits: Tensor = self.head(unpooled(self.decoder, features, switches))
        return logits


def _deconvolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    # Transposed convolution with stride 1 that keeps the size, batch norm, ReLU
    return nn.Sequential(
        blocks.transposed_convolution(
            in_channels, out_channels, (1, 1), kernel_size=(kernel_size, kernel_size), padding=kernel_size // 2
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
