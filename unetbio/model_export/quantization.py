"""Models in 8-bit integers: a trained U-Net, its scales found on images like those that it will see."""

import logging
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetbio.errors import ImageError, UsageError
from unetbio.inference.tiling import read_mirrored
from unetbio.models.model_file import Model, check_new_model, load_model, save_model
from unetbio.models.precision import integer_parameters
from unetbio.networks.unet.integers import LARGEST_STEPS, STEPS
from unetbio.networks.unet.network import UNet
from unetbio.networks.unet.quantization import quantize
from unetbio.networks.unet.spec import UNetParameters
from unetbio.preprocessing.prepare import open_image, read_frame
from unetbio.settings.segmentation import Settings

__all__ = ["MOST_IMAGES", "quantize_model"]

logger = logging.getLogger("unetbio.quantization")

MOST_IMAGES = 40
"""Images that the scales are found on: more change them little."""

LARGEST_SIDE = 1024
"""Pixels along an axis that are read of each image, from its middle."""

FEWEST_STEPS = 32
"""Between dark and bright pixels of an image: with fewer, cells have no shape."""


def quantize_model(
    model: str | os.PathLike[str],
    images: Sequence[Path],
    output: Path,
    settings: Settings = Settings(),  # noqa: B008 -- frozen
    *,
    overwrite: bool = False,
) -> int:
    """Write the model file of a U-Net whose weights and feature maps are 8-bit integers.

    Masks differ a little from those of the given model (evaluate both), and not at all between tile sizes, batches,
    threads and processors. ONNX Runtime computes it faster than floats; PyTorch computes the same, slower.

    Parameters
    ----------
    model : str or path
        Shipped model, or file.
    images : sequence of path
        Images like those that will be segmented, at the model's scale; `MOST_IMAGES` of them are taken.
    output : Path
        New model file.
    settings : Settings
        Which part of each file is the image.
    overwrite : bool
        Replace the file if it exists.

    Returns
    -------
    int
        Number of images that the scales were found on.

    Raises
    ------
    UsageError
        When the model is no U-Net that integers can compute, no image can be used, or the file exists.
    """
    check_new_model(output, overwrite=overwrite)
    trained = load_model(model)
    if output.exists() and output.samefile(trained.path):
        raise UsageError(f"-o {output} is the model itself, which cannot be made of its integers: choose another name")
    info = trained.info
    if info.is_integer:
        raise UsageError(f"{trained.path} is in integers already")
    parameters = integer_parameters(info)
    assert isinstance(trained.network, UNet)  # as its parameters say
    chosen = [images[number] for number in sorted({*np.linspace(0, len(images) - 1, MOST_IMAGES).astype(int).tolist()})]
    looked_at: list[Path] = []
    inputs = _inputs(trained, chosen, settings, looked_at)
    made = quantize(trained.network, UNetParameters(**info.network_parameters()), inputs)
    record = {"model": info.name, "model_sha256": trained.sha256, "images": len(looked_at)}
    training = {**info.training, "quantized": record}
    calibration = {name: value for name, value in info.calibration.items() if name not in ("scores_before", "scores")}
    update = {
        "name": output.stem,
        "parameters": parameters,
        # Its masks differ from those that were scored.
        "scores": {},
        "calibration": calibration,
        "training": training,
        "version": version("unetbio"),
    }
    save_model(output, info.model_copy(update=update), made)
    return len(looked_at)


def _inputs(model: Model, images: Sequence[Path], settings: Settings, looked_at: list[Path]) -> Iterator[Tensor]:
    """Normalized images of legal sizes; those that cannot be read are left out, with a warning."""
    for path in images:
        try:
            opened = open_image(path, settings, model.info, model.geometry.ndim)
            if len(opened.channels) != len(model.info.channels):
                raise ImageError(
                    "wrong_channels",
                    f"{len(opened.channels)} channels are chosen, and the model takes {len(model.info.channels)}: "
                    "choose others with --channel",
                )
            frame = read_frame(opened, opened.times[0], model.info.normalization)
            if opened.in_sections:
                frame = frame.section(opened.middle)
            image = _network_input(model, np.asarray(frame.image))
            _check_range(image)
        except ImageError as error:
            logger.warning("%s is left out: %s [%s]", path, error, error.reason)
            continue
        looked_at.append(path)
        yield torch.from_numpy(image)[np.newaxis]


def _check_range(image: NDArray[np.float32]) -> None:
    """Refuse an image that integers cannot hold: one that is not scaled to about 0 to 1 before the network."""
    low, high = np.quantile(image, (0.001, 0.999))
    if max(-low, high) * STEPS > LARGEST_STEPS:
        raise ImageError(
            "wrong_range",
            f"its grey values reach {max(-low, high):.4g} after normalization, and integers hold up to "
            f"{LARGEST_STEPS / STEPS:.4g}: give a model that scales grey values by percentiles",
        )
    if (high - low) * STEPS < FEWEST_STEPS:
        raise ImageError(
            "wrong_range",
            f"its grey values span {high - low:.4g} after normalization, which integers hold in fewer than "
            f"{FEWEST_STEPS} steps: give an image with cells, and a model that scales grey values by percentiles",
        )


def _network_input(model: Model, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The middle of an image, mirrored at its border as in inference."""
    shape = [min(size, LARGEST_SIDE) for size in image.shape[1:]]
    start = [(size - kept) // 2 for size, kept in zip(image.shape[1:], shape, strict=True)]
    geometry = model.geometry
    corner = [begin - lost for begin, lost in zip(start, geometry.context, strict=True)]
    return np.ascontiguousarray(read_mirrored(image, corner, geometry.input_size(shape)))
