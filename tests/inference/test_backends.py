"""Backends are found by the names of their files; each gives what PyTorch gives."""

import sys
import tomllib
from itertools import combinations
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from backend_cases import OTHERS, SMALL, needs
from inference_cases import NETWORKS, FakePredictor, case_of, random_image, trained_looking

from unetbio.errors import UsageError
from unetbio.inference.backends.base import choose_device, make_backend, names, packages
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.exact_decisions import add_classes
from unetbio.inference.prediction import decide, predict
from unetbio.models.model_file import load_model
from unetbio.segmentation import segment

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "unetbio" / "inference" / "backends"

each = pytest.mark.parametrize("backend", OTHERS)


def test_backends_are_the_files_of_their_folder() -> None:
    assert {"onnx", "torch"} <= set(names())
    assert set(names()) == {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base", "graph"}


def test_an_unknown_backend_is_refused_with_a_list_of_all() -> None:
    with pytest.raises(UsageError, match=f"there is no backend 'tpu': give one of {', '.join(names())}"):
        make_backend(trained_looking(SMALL), "tpu")


def test_torch_is_the_default() -> None:
    predictor = make_backend(trained_looking(SMALL))
    assert type(predictor) is TorchPredictor
    assert choose_device("cpu") == choose_device("cpu", "torch")
    assert packages() == ()


@each
def test_an_extra_has_the_packages_of_a_backend(backend: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {wanted.partition(">")[0] for wanted in extras[backend]} == set(packages(backend))
    assert backend in extras["dev"][0]


@each
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_devices_that_a_backend_does_not_have_are_refused(backend: str, device: str) -> None:
    with pytest.raises(
        UsageError, match=f"backend {backend} runs on the CPU and not on '{device}': leave out --device"
    ):
        choose_device(device, backend)


@each
def test_missing_packages_are_named(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, packages(backend)[-1], None)
    message = rf'needs the packages {" and ".join(packages(backend))}: pip install "unetbio\[{backend}\]"'
    with pytest.raises(UsageError, match=message):
        make_backend(trained_looking(SMALL), backend)


@each
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_probabilities_and_decisions_are_those_of_torch(backend: str, name: str) -> None:
    needs(backend)
    parameters, shape = NETWORKS[name]
    _, image, thresholds, probabilities, planes = case_of(name)
    predictor = make_backend(trained_looking(parameters), backend)
    for tile in (max(shape) // 4 + 1, 200):
        found = np.empty_like(probabilities)
        decided = decide(image, predictor, thresholds, tile=tile, batch_size=2, probabilities_out=found)
        np.testing.assert_allclose(found, probabilities, rtol=0, atol=1e-5)
        assert np.array_equal(decided, planes)


@each
def test_float32_keeps_the_error_bound_with_a_margin_of_two(backend: str) -> None:
    needs(backend)
    predictor = make_backend(trained_looking({"base_channels": 16, "depth": 3, "num_classes": 4}), backend)
    image = random_image(140, 140)[None]
    errors = predictor.probabilities(image)[0] - predictor.probabilities_float64(image)[0]
    for count in (1, 2, 3):
        for classes in combinations(range(4), count):
            assert 0 < np.abs(add_classes(errors, classes)).max() < predictor.error_bound / 2


@each
def test_windows_are_those_of_torch(backend: str) -> None:
    needs(backend)
    network = trained_looking({**SMALL, "padding": "same"})
    image = random_image(70, 90)
    found, expected = (predict(image, make_backend(network, name, exact=False), tile=48) for name in (backend, "torch"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@each
def test_a_network_without_a_graph_is_refused(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needs(backend)

    def unsupported(*arguments: object, **options: object) -> None:
        raise torch.onnx.errors.UnsupportedOperatorError("aten::max_unpool2d", 18, None)

    monkeypatch.setattr(torch.onnx, "export", unsupported)
    with pytest.raises(UsageError, match=r"this network has no ONNX graph .*max_unpool2d.*: choose --backend torch"):
        make_backend(trained_looking(SMALL), backend)


@each
def test_a_graph_of_another_network_is_refused(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needs(backend)
    export = torch.onnx.export
    other = trained_looking(SMALL, seed=1)
    monkeypatch.setattr(torch.onnx, "export", lambda network, *rest, **options: export(other, *rest, **options))
    with pytest.raises(UsageError, match="ONNX graph of this network computes other values: choose --backend torch"):
        make_backend(trained_looking(SMALL), backend)


@each
def test_label_images_are_those_of_torch_and_the_provenance_names_the_backend(backend: str) -> None:
    needs(backend)
    model = load_model("nuclei")
    rows, columns = np.mgrid[:150, :170]
    image = (np.sin(rows / 9) * np.sin(columns / 8) * 100 + 100).astype(np.uint8)
    _, expected = segment(image, model, device="cpu")
    _, info = segment(image, model, device="cpu", backend=backend, tile=64)
    assert info["n_cells"] > 5
    assert info["label_hash"] == expected["label_hash"]
    assert info["settings"] == expected["settings"]
    assert info["run"]["backend"] == backend
    assert set(info["versions"]) - set(expected["versions"]) == set(packages(backend))
    assert "backend" not in expected["run"]


def test_nothing_is_decided_again_without_an_error_bound() -> None:
    predictor = FakePredictor()
    image = np.full((1, 12, 12), 0.5, np.float32)
    decide(image, predictor, [0.5])
    assert predictor.float64_shapes
    reduced = FakePredictor()
    reduced.error_bound = inf
    decide(image, reduced, [0.5])
    assert not reduced.float64_shapes


def test_bfloat16_gives_about_the_probabilities_of_float32() -> None:
    image = np.random.default_rng(0).random((2, 1, 44, 60), np.float32)
    network = trained_looking(SMALL)
    exact, reduced = (
        make_backend(network, precision=precision).probabilities(image) for precision in ("float32", "bfloat16")
    )
    assert reduced.dtype == np.float32
    assert 0 < np.abs(exact - reduced).max() < 0.1


@each
def test_bfloat16_is_for_torch_and_for_networks_that_rounding_does_not_decide(backend: str) -> None:
    with pytest.raises(UsageError, match="a network with max-unpooling, in which rounding decides, does not compute"):
        make_backend(trained_looking({**SMALL, "upsampling": "max_unpooling"}), precision="bfloat16")
    needs(backend)
    with pytest.raises(UsageError, match=f"backend {backend} does not compute in bfloat16: leave out --backend"):
        make_backend(trained_looking(SMALL), backend, precision="bfloat16")
