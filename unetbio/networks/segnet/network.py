"""SegNet: an encoder, and a decoder that mirrors it and knows where the maxima were.

Badrinarayanan, Kendall, Cipolla: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation.
arXiv 1511.00561 (section 3 and figure 2).
"""

from torch import Tensor, nn

from unetbio.networks import blocks
from unetbio.networks.encoders.vgg.network import VGG16, mirrored_stages, unpooled
from unetbio.networks.segnet.spec import SegNetParameters

__all__ = ["SegNet"]


class SegNet(nn.Module):
    """13 convolutions of VGG-16, and 13 that mirror them after max-unpooling; batch norm after all but the last.

    Parameters
    ----------
    parameters : SegNetParameters
        Described in that class.
    """

    def __init__(self, parameters: SegNetParameters) -> None:
        super().__init__()
        self.geometry = parameters.geometry
        # Which of two nearly equal values is the maximum must not depend on rounding.
        self.needs_float64 = True
        self.encoder = VGG16(parameters.in_channels, parameters.width, batch_norm=True)
        stages = mirrored_stages(self.encoder.channels)
        last_channels, _ = stages[-1].pop()
        self.decoder = nn.ModuleList(
            nn.Sequential(*(blocks.convolution(*channels, (3, 3), batch_norm=True, padding=True) for channels in stage))
            for stage in stages
        )
        self.head = nn.Conv2d(last_channels, parameters.num_classes, 3, padding=1)
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
        logits: Tensor = self.head(unpooled(self.decoder, features, switches))
        return logits
