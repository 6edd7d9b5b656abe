"""A folder of annotated images of two discs each, and the command that trains on it."""

from pathlib import Path

import numpy as np
import tifffile
from click.testing import CliRunner, Result

from unetbio.cli.main import main

__all__ = ["TINY", "run", "train", "write_annotated"]

TINY = """
parameters: {base_channels: 2, depth: 1, batch_norm: true}
patch_size: 40
batch_size: 2
steps: 4
validate_every: 2
"""


def write_annotated(folder: Path) -> Path:
    """Write three images, their masks, and settings of a tiny network."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for number in range(3):
        label_image = np.zeros((48, 56), np.uint16)
        label_image[5:20, 5:25] = 1
        label_image[22:40, 10 + number : 30] = 2
        image = (label_image > 0) * 500 + rng.normal(100, 10, label_image.shape)
        tifffile.imwrite(folder / "images" / f"zelle_ü{number}.tif", image.astype(np.uint16))
        tifffile.imwrite(folder / "masks" / f"zelle_ü{number}_labels.tif", label_image)
    (folder / "tiny.yaml").write_text(TINY)
    return folder


def run(*arguments: object) -> Result:
    """Run `unetbio train`."""
    return CliRunner().invoke(main, ["train", *(str(argument) for argument in arguments)])


def train(data: Path, *inputs: object, options: tuple[object, ...] = ()) -> Result:
    """Train the tiny network on the inputs."""
    return run(
        *inputs, "-o", data / "out" / "m.safetensors", "--config", data / "tiny.yaml", "--device", "cpu", *options
    )
