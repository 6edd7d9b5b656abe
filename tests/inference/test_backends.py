"""Backends are found by the names of their files; ONNX Runtime gives what PyTorch gives."""

import sys

import numpy as np
import pytest
import torch
from inference_cases import NETWORKS, case_of, random_image, trained_looking

from unetbio.errors import UsageError
from unetbio.inference.backends.base import choose_device, make_backend, names
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import decide, predict
from unetbio.models.model_file import load_model
from unetbio.segmentation import segment

SMALL = {"base_channels": 4, "depth": 1}


def test_backends_are_the_files_of_their_folder() -> None:
    assert names() == ["onnx", "torch"]


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no backend 'tpu': give one of onnx, torch"):
        make_backend(trained_looking(SMALL), "tpu")


def test_torch_is_the_default() -> None:
    predictor = make_backend(trained_looking(SMALL))
    assert type(predictor) is TorchPredictor
    assert choose_device("cpu") == choose_device("cpu", "torch")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_onnx_refuses_devices_that_it_does_not_have(device: str) -> None:
    with pytest.raises(UsageError, match=f"backend onnx runs on the CPU and not on '{device}': leave out --device"):
        choose_device(device, "onnx")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r'needs the packages onnx and onnxruntime: pip install "unetbio\[onnx\]"'):
        make_backend(trained_looking(SMALL), "onnx")


@pytest.fixture
def onnx_runtime() -> None:
    pytest.importorskip("onnx", reason="the ONNX Runtime backend needs unetbio[onnx]")
    pytest.importorskip("onnxruntime", reason="the ONNX Runtime backend needs unetbio[onnx]")


@pytest.mark.usefixtures("onnx_runtime")
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_onnx_gives_the_probabilities_and_decisions_of_torch(name: str) -> None:
    parameters, shape = NETWORKS[name]
    _, image, thresholds, probabilities, planes = case_of(name)
    predictor = make_backend(trained_looking(parameters), "onnx")
    for tile in (max(shape) // 4 + 1, 200):
        found = np.empty_like(probabilities)
        decided = decide(image, predictor, thresholds, tile=tile, batch_size=2, probabilities_out=found)
        np.testing.assert_allclose(found, probabilities, rtol=0, atol=1e-5)
        assert np.array_equal(decided, planes)


@pytest.mark.usefixtures("onnx_runtime")
def test_windows_of_onnx_are_those_of_torch() -> None:
    network = trained_looking({**SMALL, "padding": "same"})
    image = random_image(70, 90)
    found, expected = (predict(image, make_backend(network, name, exact=False), tile=48) for name in ("onnx", "torch"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("onnx_runtime")
@pytest.mark.parametrize(
    "message",
    [
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running FusedConv node: "
        "Failed to allocate memory for requested buffer of size 1073741824",
        "std::bad_alloc",
    ],
)
def test_onnx_knows_its_own_errors_of_memory(message: str) -> None:
    predictor = make_backend(trained_looking(SMALL), "onnx")
    assert predictor.is_out_of_memory(Exception(message))
    assert predictor.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not predictor.is_out_of_memory(Exception("Invalid rank for input: image"))


@pytest.mark.usefixtures("onnx_runtime")
def test_a_network_without_a_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*arguments: object, **options: object) -> None:
        raise torch.onnx.errors.UnsupportedOperatorError("aten::max_unpool2d", 18, None)

    monkeypatch.setattr(torch.onnx, "export", unsupported)
    with pytest.raises(UsageError, match=r"this network has no ONNX graph .*max_unpool2d.*: choose --backend torch"):
        make_backend(trained_looking(SMALL), "onnx")


@pytest.mark.usefixtures("onnx_runtime")
def test_a_graph_of_another_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    export = torch.onnx.export
    other = trained_looking(SMALL, seed=1)
    monkeypatch.setattr(torch.onnx, "export", lambda network, *rest, **options: export(other, *rest, **options))
    with pytest.raises(UsageError, match="ONNX graph of this network computes other values: choose --backend torch"):
        make_backend(trained_looking(SMALL), "onnx")


@pytest.mark.usefixtures("onnx_runtime")
def test_label_images_are_those_of_torch_and_the_provenance_names_the_backend() -> None:
    model = load_model("nuclei")
    rows, columns = np.mgrid[:150, :170]
    image = (np.sin(rows / 9) * np.sin(columns / 8) * 100 + 100).astype(np.uint8)
    _, expected = segment(image, model, device="cpu")
    _, info = segment(image, model, device="cpu", backend="onnx", tile=64)
    assert info["n_cells"] > 5
    assert info["label_hash"] == expected["label_hash"]
    assert info["settings"] == expected["settings"]
    assert info["run"]["backend"] == "onnx"
    assert "onnxruntime" in info["versions"]
    assert "backend" not in expected["run"]
