"""Batch norm folded into the convolutions before it."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fold_batch_norm"]


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Fold each batch norm that follows a convolution in an `torch.nn.Sequential` into it, in place.

    At inference batch norm is a fixed scale and shift a channel, which the convolution can do itself.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode; best in float64, since the scale is a quotient.

    Returns
    -------
    torch.nn.Module
        ``network``, with the same output up to rounding.
    """
    for block in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for index in range(len(block) - 1):
            layer, norm = block[index], block[index + 1]
            if (
                isinstance(layer, (nn.Conv2d, nn.Conv3d))
                and isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d))
                and norm.track_running_stats
            ):
                block[index] = fuse_conv_bn_eval(layer, norm)
                block[index + 1] = nn.Identity()
    return network
