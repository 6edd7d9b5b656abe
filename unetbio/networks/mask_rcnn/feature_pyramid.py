"""Feature pyramid: the encoder's maps, each enriched by the coarser ones.

Lin, Dollar, Girshick, He, Hariharan, Belongie: Feature Pyramid Networks for Object Detection. CVPR 2017,
arXiv 1612.03144 (section 3 and figure 3).
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from unetbio.networks import blocks

__all__ = ["FeaturePyramid"]


class FeaturePyramid(nn.Module):
    """Top-down pathway with lateral connections.

    Parameters
    ----------
    in_channels : sequence of int
        Channels of the encoder's stages, from the finest on.
    channels : int
        Channels of every map of the pyramid.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(blocks.pointwise(count, channels, 2) for count in in_channels)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Maps P2, P3 ... from the stages C2, C3 ..., each half as large as the one before; and one more.

        ``[(N, C_i, H / s, W / s) for s in (4, 8, 16, 32)] -> [(N, C, H / s, W / s) for s in (4, 8, 16, 32, 64)]``; the
        last one takes every other pixel of the one before, sizes rounded up.
        """
        merged = [lateral(stage) for lateral, stage in zip(self.lateral, stages, strict=True)]
        for finer in reversed(range(len(merged) - 1)):
            merged[finer] = merged[finer] + blocks.nearest(merged[finer + 1], (2, 2))
        pyramid = [smooth(features) for smooth, features in zip(self.smooth, merged, strict=True)]
        return [*pyramid, functional.max_pool2d(pyramid[-1], 1, stride=2)]
