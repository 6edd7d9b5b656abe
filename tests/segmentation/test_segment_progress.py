"""``segment(progress=..., cancel=...)`` for programs with windows."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import unetbio
from unetbio import networks
from unetbio.errors import CancelledError
from unetbio.models.model_file import Model, load_model

Array = NDArray[Any]
Calls = list[tuple[int, int]]


@pytest.fixture(scope="module")
def exact(tiny_model: Path) -> Model:
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def blended(exact: Model) -> Model:
    """One that cannot be tiled exactly, since it pools the whole image."""
    parameters = networks.find("pspnet").complete({"width": 0.06, "backbone": "resnet18"})
    torch.manual_seed(0)
    # Of weights that mean nothing the search could find any scale: it knows no diameter.
    update = {"architecture": "pspnet", "parameters": parameters, "window": (32, 32), "cell_diameter_px": None}
    network = networks.build("pspnet", parameters).eval()
    return Model(exact.info.model_copy(update=update), network, exact.sha256, exact.path)


def segment_with(model: Model, image: Array, cancel_at: int | None = None, **options: Any) -> Calls:
    """What ``progress`` is called with; from the call of this number on, ``cancel`` says so."""
    calls: Calls = []
    stop = threading.Event()

    def progress(done: int, total: int) -> None:
        calls.append((done, total))
        if len(calls) == cancel_at:
            stop.set()

    if cancel_at is None:
        unetbio.segment(image, model, device="cpu", progress=progress, cancel=stop.is_set, **options)
    else:
        with pytest.raises(CancelledError, match="cancelled"):
            unetbio.segment(image, model, device="cpu", progress=progress, cancel=stop.is_set, **options)
    return calls


def cases(discs: Array, exact: Model, blended: Model) -> dict[str, tuple[Model, Array, dict[str, Any]]]:
    moments = np.stack([discs, np.full_like(discs, 10), discs[:, ::-1]])
    return {
        "tiles": (exact, discs, {"tile": 16}),
        "windows": (blended, discs, {}),
        "sections": (exact, moments, {"axes": "ZYX", "z": "each", "tile": 32}),
        "times": (exact, moments, {"axes": "TYX", "tile": 32}),
        "times of windows": (blended, moments, {"axes": "TYX"}),
    }


@pytest.mark.parametrize("case", ["tiles", "windows", "sections", "times", "times of windows"])
def test_progress_rises_to_all_pixels_and_cancel_stops_at_the_next_tile(
    case: str, discs: Array, exact: Model, blended: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, image, options = cases(discs, exact, blended)[case]
    calls = segment_with(model, image, **options)
    assert {total for _, total in calls} == {image.size}
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (image.size, image.size)
    assert len(calls) > 4
    assert segment_with(model, image, cancel_at=2, **options) == calls[:2]
    assert segment_with(model, image, **options) == calls, "a later call starts afresh"
    assert list(tmp_path.iterdir()) == []


def test_recomputing_in_float64_can_be_cancelled(discs: Array, exact: Model) -> None:
    # The normalized grey value 0.5 is at the threshold, wherever it is.
    rows = np.arange(discs.size).reshape(discs.shape) // 7 % 2
    image = np.where(rows == 0, 100, 10).astype(np.uint8)
    calls = segment_with(exact, image)
    blocks = calls.count((image.size, image.size))
    assert blocks > 2
    assert len(segment_with(exact, image, cancel_at=len(calls) - blocks + 2)) == len(calls) - blocks + 2


def test_cancelled_before_it_starts(discs: Array, exact: Model) -> None:
    with pytest.raises(CancelledError):
        unetbio.segment(discs, exact, device="cpu", cancel=lambda: True)


def test_objects_report_their_windows_and_can_be_cancelled(discs: Array, exact: Model) -> None:
    parameters = networks.find("mask_rcnn").complete({"width": 0.1})
    network = networks.build("mask_rcnn", parameters).eval()
    info = exact.info.model_copy(
        update={"architecture": "mask_rcnn", "parameters": parameters, "target": "instances", "cell_diameter_px": None}
    )
    model = Model(info, network, exact.sha256, exact.path)
    calls = segment_with(model, discs, tile=32)
    assert calls[-1] == (discs.size, discs.size)
    assert segment_with(model, discs, cancel_at=2, tile=32) == calls[:2]
