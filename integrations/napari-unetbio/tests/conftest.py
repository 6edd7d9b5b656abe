"""A run of unetbio with a model whose answer is known, and what the window needs."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tiny_model import three_discs, write_tiny_model


@pytest.fixture(scope="session")
def discs() -> np.ndarray:
    """``(64, 80)`` uint8: three discs of diameter 13, grey value 200, on a ground of 10."""
    return three_discs()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model of one channel."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="session")
def model_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model of two channels, which ignores the second."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "two.safetensors", ("nuclei", "membrane"))


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
