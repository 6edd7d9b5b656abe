"""Fixtures that several test files share."""

import os
from pathlib import Path

# Processes of pytest-xdist share the cores; read by PyTorch and numba when they are imported, here and in subprocesses.
if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _decoded_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in the process of the tests decode there too, which saves a start of Python for each."""
    if "decoding" not in request.keywords:
        monkeypatch.setattr("unetbio.io.decoding.PLATFORMS", ())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images; tests that need it skip where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real images are missing: no folder {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model file of a real U-Net whose weights were set by hand: a pixel is a cell where it is brighter than one half.

    Its probability of a cell is ``sigmoid(20 * (x - 0.5))`` of the normalized grey value ``x``: tests know the answer.
    """
    import torch

    from unetbio import networks
    from unetbio.models.model_file import ModelInfo, save_model
    from unetbio.postprocessing.instances import PostProcessing
    from unetbio.settings.normalization import Normalization

    parameters = networks.find("unet").complete({"base_channels": 2, "depth": 1, "dropout": 0.0})
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
        channels=("nuclei",),
        pixel_size_um=(0.5, 0.5),
        cell_diameter_px=12.0,
        normalization=Normalization("range", 0.0, 200.0),
        postprocessing=PostProcessing(0.5, (0.7,), reach=2, max_hole_area=20, min_seed_area=2),
        licence="BSD-3-Clause",
        version="0",
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, info, network)
    return path


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
def discs() -> np.ndarray:
    """``(64, 80)`` uint8: three discs of diameter 13, grey value 200, on a ground of 10."""
    rows, columns = np.mgrid[:64, :80]
    image = np.full((64, 80), 10, np.uint8)
    for y, x in ((15, 15), (15, 50), (45, 30)):
        image[(rows - y) ** 2 + (columns - x) ** 2 <= 40] = 200
    return image
