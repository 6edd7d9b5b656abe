"""Images, a model and a folder to write to, for the tests of batches."""

from pathlib import Path

import pytest
import tifffile
from batch_runner import Array, Runner

from unetbio.models.model_file import Model, load_model
from unetbio.segmentation import Segmenter


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def segmenter(model: Model) -> Segmenter:
    return Segmenter(model, "cpu")


@pytest.fixture
def images(tmp_path: Path, discs: Array) -> Path:
    """Three good images in two folders, and one that is none."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    tifffile.imwrite(folder / "a.tif", discs)
    tifffile.imwrite(folder / "b.tif", discs[::-1])
    tifffile.imwrite(folder / "sub" / "a.tif", discs[:, ::-1])
    (folder / "bad.tif").write_bytes(b"half a file")
    return folder


@pytest.fixture
def run(images: Path, tmp_path: Path, segmenter: Segmenter) -> Runner:
    return Runner(images, tmp_path / "out", segmenter)
