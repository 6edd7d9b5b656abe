"""A fully convolutional network at full resolution: the lecture's second idea, after the sliding window.

All pixels share what is computed. But each convolution works on as many pixels as the image has, so maps must be few,
and each lets a pixel see only two pixels further: that is why the networks that came after compress first.
"""

from torch import Tensor, nn

from unetbio.geometry import Geometry
from unetbio.networks import blocks

__all__ = ["FullResolutionFCN"]


class FullResolutionFCN(nn.Module):
    """Valid 3 x 3 convolutions with stride 1, one after another, and a 1 x 1 head.

    Parameters
    ----------
    ndim : {2}
        Number of spatial axes.
    in_channels, num_classes : int
        Channels of the input and of the logits.
    width : float
        Factor of ``channels``.
    depth : int
        Number of convolutions; a pixel sees ``depth`` pixels to each side.
    channels : int
        Maps of each convolution.
    batch_norm : bool
        Batch norm before each ReLU.
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
        depth: int,
        channels: int,
        batch_norm: bool,
        geometry: Geometry,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        maps = blocks.scaled(channels, width)
        self.convolutions = nn.Sequential(
            *(
                blocks.convolution(maps if index else in_channels, maps, (3,) * ndim, batch_norm=batch_norm)
                for index in range(depth)
            )
        )
        self.head = blocks.pointwise(maps, num_classes, ndim)
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
