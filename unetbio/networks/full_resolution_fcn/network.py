"""A fully convolutional network at full resolution: the lecture's second idea, after the sliding window.

All pixels share what is computed. But each convolution works on as many pixels as the image has, so maps must be few,
and each lets a pixel see only two pixels further: that is why the networks that came after compress first.
"""

from torch import Tensor, nn

from unetbio.networks import blocks
from unetbio.networks.full_resolution_fcn.spec import FullResolutionParameters

__all__ = ["FullResolutionFCN"]


class FullResolutionFCN(nn.Module):
    """Valid 3 x 3 convolutions with stride 1, one after another, and a 1 x 1 head.

    Parameters
    ----------
    parameters : FullResolutionParameters
        Described in that class.
    """

    def __init__(self, parameters: FullResolutionParameters) -> None:
        super().__init__()
        self.geometry = parameters.geometry
        maps = blocks.scaled(parameters.channels, parameters.width)
        self.convolutions = nn.Sequential(
            *(
                blocks.convolution(
                    maps if index else parameters.in_channels, maps, (3, 3), batch_norm=parameters.batch_norm
                )
                for index in range(parameters.depth)
            )
        )
        self.head = blocks.pointwise(maps, parameters.num_classes, parameters.ndim)
        blocks.initialise_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, H, W) -> (N, K, H - 2 * depth, W - 2 * depth)``.

        Raises
        ------
        GeometryError
            When the image is too small.
        """
        self.geometry.check(image.shape[2:])
        logits: Tensor = self.head(self.convolutions(image))
        return logits
