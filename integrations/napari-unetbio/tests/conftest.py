"""A run of unetbio with a model whose answer is known, and what the window needs."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile


@pytest.fixture(scope="session")
def discs() -> np.ndarray:
    """``(64, 80)`` uint8: three discs of diameter 13, grey value 200, on a ground of 10."""
    rows, columns = np.mgrid[:64, :80]
    image = np.full((64, 80), 10, np.uint8)
    for y, x in ((15, 15), (15, 50), (45, 30)):
        image[(rows - y) ** 2 + (columns - x) ** 2 <= 40] = 200
    return image


def _write_model(path: Path, channels: tuple[str, ...]) -> None:
    """A U-Net with weights set by hand: a pixel is a cell where its first channel is bright."""
    import torch

    from unetbio import networks
    from unetbio.models.model_file import ModelInfo, save_model
    from unetbio.postprocessing.instances import PostProcessing
    from unetbio.settings.normalization import Normalization

    own = {"base_channels": 2, "depth": 1, "dropout": 0.0, "in_channels": len(channels)}
    parameters = networks.find("unet").complete(own)
    network = networks.build("unet", parameters)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.zero_()
            if name.endswith("weight") and weight.ndim == 4 and weight.shape[-1] == 3:
                weight[0, 0, 1, 1] = 1.0
        network.head.weight[1, 0, 0, 0] = 20.0
        network.head.bias[1] = -10.0
    info = ModelInfo(
        name="tiny",
        architecture="unet",
        parameters=parameters,
        channels=channels,
        normalization=Normalization("range", 0.0, 200.0),
        postprocessing=PostProcessing(0.5, (0.7,), reach=2, max_hole_area=20, min_seed_area=2),
    )
    save_model(path, info, network)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model of one channel."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    _write_model(path, ("nuclei",))
    return path


@pytest.fixture(scope="session")
def model_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model of two channels, which ignores the second."""
    path = tmp_path_factory.mktemp("model") / "two.safetensors"
    _write_model(path, ("nuclei", "membrane"))
    return path


@pytest.fixture(scope="session")
def _project(tmp_path_factory: pytest.TempPathFactory, discs: np.ndarray, model: Path) -> Path:
    """Images and results: two planes of known pixel size, and a time-lapse whose first frame is empty."""
    folder = tmp_path_factory.mktemp("project")
    images = folder / "images"
    images.mkdir()
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    for name in ("a", "b"):
        tifffile.imwrite(images / f"{name}.ome.tif", discs, metadata={"axes": "YX", **size})
    frames = np.stack([np.full_like(discs, 10), discs, discs[:, ::-1]])
    tifffile.imwrite(images / "c.ome.tif", frames, metadata={"axes": "TYX"})
    command = [sys.executable, "-m", "unetbio", "segment", images, "-o", folder / "results", "--model", model]
    subprocess.run([*command, "--diameter", "model", "--device", "cpu", "-q", "--overlays", "none"], check=True)
    return folder


@pytest.fixture
def results(tmp_path: Path, _project: Path) -> Path:
    """Output folder of a run, for one test alone."""
    shutil.copytree(_project, tmp_path / "project")
    return tmp_path / "project" / "results"
