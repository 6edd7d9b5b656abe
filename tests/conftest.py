"""Fixtures that several test files share."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Processes of pytest-xdist share the cores; read by PyTorch and numba when they are imported, here and in subprocesses.
if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest
from short_search import SHORT_SEARCH
from tiny_model import three_discs, write_tiny_model

# A slow machine is no fault: times are measured in benchmarks/.
hypothesis.settings.register_profile("without times", deadline=None)
hypothesis.settings.load_profile("without times")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection() -> None:
    """Search for garbage less often, which took 12 % of the time of tests of training.

    Modules and tests live until the end: they are not searched at all.
    """
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _quick_files() -> Iterator[None]:
    """Read and write files faster in the process of the tests: decode there, and do not wait for the disk.

    Each command would start another Python to decode; and files of tests need not survive a power cut.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unetbio.io.decoding.PLATFORMS", ())
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images; tests that need it skip where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real images are missing: no folder {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model file of `write_tiny_model`."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def quick_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let matplotlib write pictures without drawing, except in tests whose names speak of pictures or curves.

    Drawing takes longer than the training of a tiny network.
    """
    if "picture" in request.node.name or "curve" in request.node.name:
        return

    def save(figure: object, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"not drawn")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", save)


@pytest.fixture
def quick_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the search for thresholds that ends a training try few."""
    for name, value in SHORT_SEARCH.items():
        monkeypatch.setattr(name, value)


@pytest.fixture
def discs() -> np.ndarray:
    """``(64, 80)`` uint8: three discs of diameter 13, grey value 200, on a ground of 10."""
    return three_discs()
