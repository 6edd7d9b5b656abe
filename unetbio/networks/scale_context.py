"""Context at several scales beside one another: atrous spatial pyramid pooling, and pyramid pooling.

Chen, Papandreou, Kokkinos, Murphy, Yuille: DeepLab. arXiv 1606.00915 (section 3.2, figure 7: branches are summed).
Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution. arXiv 1706.05587 (section 3.3, figure 5: branches with
batch norm, and the pooled image, are concatenated).
Zhao, Shi, Qi, Wang, Jia: Pyramid Scene Parsing Network. CVPR 2017, arXiv 1612.01105 (section 3.2, figure 3).
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from unetbio.errors import UsageError
from unetbio.networks import blocks

__all__ = ["AtrousPyramid", "PyramidPooling", "SummedAtrousPyramid", "atrous_convolution", "separable_convolution"]


class SummedAtrousPyramid(nn.Module):
    """The sum of 3 x 3 convolutions of several rates, as in DeepLab v2.

    Parameters
    ----------
    branches : iterable of torch.nn.Module
        One for each rate, of as many channels as each other.
    """

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, K, H, W)``."""
        first, *others = self.branches
        total: Tensor = first(features)
        for branch in others:
            total = total + branch(features)
        return total


def atrous_convolution(in_channels: int, out_channels: int, rate: int) -> nn.Conv2d:
    """A 3 x 3 convolution of that rate, with a bias, that keeps the size: DeepLab v2's branch on a ResNet."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate)


class AtrousPyramid(nn.Module):
    """A 1 x 1 and several atrous 3 x 3 convolutions and the pooled image, concatenated, then 1 x 1, as in DeepLab v3.

    Each convolution is followed by batch norm and ReLU.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of feature maps; each branch has ``out_channels``.
    rates : sequence of int
        Dilation of each 3 x 3 convolution.
    image_pooling : bool
        Put the mean of each feature map over the whole image, through a 1 x 1 convolution, beside the others.
    separable : bool
        Make the 3 x 3 convolutions depthwise, each followed by a pointwise one (arXiv 1802.02611, section 3.1).
    """

    def __init__(
        self, in_channels: int, out_channels: int, rates: Sequence[int], *, image_pooling: bool, separable: bool = False
    ) -> None:
        super().__init__()
        convolution = separable_convolution if separable else blocks.normalised_convolution
        self.branches = nn.ModuleList(
            [
                blocks.normalised_convolution(in_channels, out_channels, 1),
                *(convolution(in_channels, out_channels, 3, dilation=rate) for rate in rates),
            ]
        )
        self.pooling = blocks.normalised_convolution(in_channels, out_channels, 1) if image_pooling else None
        count = len(self.branches) + image_pooling
        self.projection = blocks.normalised_convolution(count * out_channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C', H, W)``.

        Raises
        ------
        UsageError
            In training with image pooling, when the batch has one image.
        """
        maps = [branch(features) for branch in self.branches]
        if self.pooling is not None:
            mean = _pooled(features, 1, training=self.training)
            maps.append(self.pooling(mean).expand(-1, -1, *features.shape[2:]))
        projected: Tensor = self.projection(torch.cat(maps, dim=1))
        return projected


class PyramidPooling(nn.Module):
    """Feature maps beside their averages over the cells of coarse grids, as in PSPNet.

    Each grid's averages go through a 1 x 1 convolution with batch norm and ReLU, which gives every grid the same share
    of as many channels as came in, and are interpolated to the size of the feature maps.

    Parameters
    ----------
    in_channels : int
        Number of feature maps.
    bins : sequence of int
        Cells along each axis of each grid; where a size is not a multiple, cells overlap by a pixel.
    """

    def __init__(self, in_channels: int, bins: Sequence[int]) -> None:
        super().__init__()
        self.bins = tuple(bins)
        share = max(1, in_channels // len(self.bins))
        self.branches = nn.ModuleList(blocks.normalised_convolution(in_channels, share, 1) for _ in self.bins)
        self.out_channels = in_channels + share * len(self.bins)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, out_channels, H, W)``, the features themselves first.

        Raises
        ------
        UsageError
            In training, when the batch has one image.
        """
        maps = [features]
        for count, branch in zip(self.bins, self.branches, strict=True):
            means = branch(_pooled(features, count, training=self.training))
            # The grid covers the whole map, so that exact tiling is impossible.
            size = features.shape[2:]
            maps.append(functional.interpolate(means, size=size, mode="bilinear", align_corners=False))
        return torch.cat(maps, dim=1)


def separable_convolution(in_channels: int, out_channels: int, kernel_size: int, *, dilation: int = 1) -> nn.Sequential:
    """Depthwise and then pointwise convolution, both with batch norm and ReLU (arXiv 1802.02611, figure 4)."""
    return nn.Sequential(
        blocks.normalised_convolution(in_channels, in_channels, kernel_size, dilation=dilation, groups=in_channels),
        blocks.normalised_convolution(in_channels, out_channels, 1),
    )


def _pooled(features: Tensor, bins: int, *, training: bool) -> Tensor:
    # (N, C, H, W) -> (N, C, bins, bins)
    if training and bins == 1 and len(features) == 1:
        raise UsageError(
            "pooling over the whole image leaves one value a channel, which batch norm cannot train on: "
            "use a batch_size of 2 or more"
        )
    return functional.adaptive_avg_pool2d(features, bins)
