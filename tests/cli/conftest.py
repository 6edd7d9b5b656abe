"""A folder of two images of discs, and the command that segments it; other files of tests have their own."""

from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from segmented_folder import Invoke, segmenting, write_discs


@pytest.fixture
def images(tmp_path: Path, discs: NDArray[Any]) -> Path:
    return write_discs(tmp_path / "images", discs)


@pytest.fixture
def segment(images: Path, tmp_path: Path, tiny_model: Path) -> Invoke:
    return segmenting(images, tmp_path / "out", tiny_model)
