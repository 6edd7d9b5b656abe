"""Integer networks made of U-Nets that look trained."""

import torch
from inference_cases import trained_looking
from torch import Tensor

from unetbio import networks
from unetbio.networks.unet.integers import IntegerUNet
from unetbio.networks.unet.network import UNet
from unetbio.networks.unet.quantization import quantize

SMALL = {"base_channels": 4, "depth": 2, "batch_norm": True}


def images(network: UNet, count: int = 3, scale: float = 1.0) -> list[Tensor]:
    """Noise of a legal size, smoothed so that neighbours have something in common."""
    generator = torch.Generator().manual_seed(0)
    size = network.geometry.input_size((36, 44))
    channels = next(network.parameters()).shape[1]
    noise = torch.rand((count, channels, *size), generator=generator)
    return list((torch.nn.functional.avg_pool2d(noise, 3, 1, 1) * scale).split(1))


def integer_network(parameters: dict[str, object] = SMALL, seed: int = 0) -> tuple[UNet, IntegerUNet]:
    """A network, and its integers."""
    network = trained_looking(parameters, seed)
    assert isinstance(network, UNet)
    return network, quantize(network, networks.find("unet").read(parameters), images(network))
