"""A model file whose answers tests know, and fields of cells for it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetbio.settings.normalization import Normalization

__all__ = ["field_of_squares", "three_discs", "write_tiny_model"]

BY_RANGE = Normalization("range", 0.0, 200.0)


def write_tiny_model(
    path: Path, channels: Sequence[str] = ("nuclei",), normalization: Normalization = BY_RANGE
) -> Path:
    """Write a real U-Net whose weights were set by hand: a pixel is a cell where its first channel is above one half.

    Its probability of a cell is ``sigmoid(20 * (x - 0.5))`` of the normalized grey value ``x``: tests know the answer.
    """
    import torch

    from unetbio import networks
    from unetbio.models.model_file import ModelInfo, save_model
    from unetbio.postprocessing.instances import PostProcessing

    own = {"base_channels": 2, "depth": 1, "dropout": 0.0, "in_channels": len(channels)}
    parameters = networks.find("unet").complete(own)
    network = networks.build("unet", parameters)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.zero_()
            if name.endswith("weight") and weight.ndim == 4 and weight.shape[-1] == 3:
                # The first feature map is handed on; of what the decoder gets, the skip comes first.
                weight[0, 0, 1, 1] = 1.0
        network.head.weight[1, 0, 0, 0] = 20.0
        network.head.bias[1] = -10.0
    info = ModelInfo(
        name="tiny",
        architecture="unet",
        parameters=parameters,
        channels=tuple(channels),
        pixel_size_um=(0.5, 0.5),
        cell_diameter_px=12.0,
        normalization=normalization,
        postprocessing=PostProcessing(0.5, (0.7,), reach=2, max_hole_area=20, min_seed_area=2),
        licence="BSD-3-Clause",
        version="0",
    )
    save_model(path, info, network)
    return path


def field_of_squares(seed: int, shape: tuple[int, int] = (64, 72), count: int = 5, size: int = 8) -> NDArray[np.uint8]:
    """Bright squares at random places on a dark ground."""
    rng = np.random.default_rng(seed)
    image = rng.integers(5, 15, shape, dtype=np.uint8)
    for _ in range(count):
        y, x = (rng.integers(1, length - size) for length in shape)
        image[y : y + size, x : x + size] = 200
    return image


def three_discs() -> NDArray[np.uint8]:
    """``(64, 80)``: three discs of diameter 13, grey value 200, on a ground of 10."""
    rows, columns = np.mgrid[:64, :80]
    image = np.full((64, 80), 10, np.uint8)
    for y, x in ((15, 15), (15, 50), (45, 30)):
        image[(rows - y) ** 2 + (columns - x) ** 2 <= 40] = 200
    return image
