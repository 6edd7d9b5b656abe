"""U-Nets in 8-bit integers: exact sums, the same bits in every library, masks that no tile changes."""

import numpy as np
import pytest
import torch
from backend_cases import needs
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_cases import random_image
from integer_cases import SMALL, images, integer_network

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.inference.backends.base import make_backend
from unetbio.inference.prediction import decide, predict
from unetbio.networks.unet.integers import EXACT_FLOAT32
from unetbio.networks.unet.quantization import quantize

KINDS = {
    "two classes": SMALL,
    "three channels, four classes": {**SMALL, "in_channels": 3, "num_classes": 4},
    "doubling before pooling": {**SMALL, "doubling": "before_pooling"},
    "pooling by three, kernels of one and three": {
        "base_channels": 3,
        "depth": 1,
        "poolings": [[3, 3]],
        "kernel_sizes": [[3, 1], [3, 3]],
    },
    "no pooling": {"base_channels": 3, "depth": 0},
}


@pytest.fixture(autouse=True)
def _restore_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", KINDS)
def test_integers_give_about_the_probabilities_of_the_network(kind: str) -> None:
    network, integers = integer_network(KINDS[kind])
    for image in images(network):
        with torch.no_grad():
            expected, found = (each(image).softmax(1) for each in (network, integers))
        assert found.shape == expected.shape
        assert (found - expected).abs().mean() < 0.03
        assert ((found > 0.5) == (expected > 0.5)).float().mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_float32_and_float64_give_the_same_bits(kind: str, scale: float) -> None:
    network, integers = integer_network(KINDS[kind])
    for image in images(network, count=1, scale=scale):
        with torch.no_grad():
            assert torch.equal(integers(image).double(), integers(image.double()))


def test_no_sum_can_pass_what_float32_holds() -> None:
    _, integers = integer_network()
    assert integers.keeps_sums_exact()
    with torch.inference_mode():
        integers.bottleneck[0].bias[0] = EXACT_FLOAT32 + 1
    assert not integers.keeps_sums_exact()


def test_uneven_weights_keep_their_sums_below_what_float32_holds() -> None:
    network, _ = integer_network()
    with torch.no_grad():
        network.bottleneck[0][0].bias[0] = 1e6
    integers = quantize(network, networks.find("unet").read(SMALL), images(network))
    layer = integers.bottleneck[0]
    assert layer.bias.abs().max() <= EXACT_FLOAT32 // 2
    for image in images(network, count=1):
        with torch.no_grad():
            assert torch.equal(integers(image).double(), integers(image.double()))


@given(
    rows=st.integers(1, 90),
    columns=st.integers(1, 90),
    tile=st.integers(5, 90),
    batch_size=st.sampled_from([1, 3]),
    threads=st.sampled_from([1, 2]),
    backend=st.sampled_from(["torch", "onnx"]),
)
@settings(max_examples=12, deadline=None)
def test_nothing_changes_a_bit(rows: int, columns: int, tile: int, batch_size: int, threads: int, backend: str) -> None:
    needs(backend)
    _, integers = integer_network()
    image = random_image(rows, columns)
    torch.set_num_threads(1)
    reference = make_backend(integers)
    whole = predict(image, reference)
    planes = decide(image, reference, [0.3, 0.5])
    torch.set_num_threads(threads)
    predictor = make_backend(integers, backend)
    assert np.abs(predict(image, predictor, tile=tile, batch_size=batch_size) - whole).max() <= predictor.error_bound
    assert np.array_equal(decide(image, predictor, [0.3, 0.5], tile=tile, batch_size=batch_size), planes)


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_runtime_gives_the_bits_of_the_network(kind: str) -> None:
    needs("onnx")
    network, integers = integer_network(KINDS[kind])
    predictor = make_backend(integers, "onnx")
    for image in images(network, scale=3.0):
        with torch.no_grad():
            expected = integers(image).double().softmax(1).numpy()
        assert np.array_equal(predictor.probabilities_float64(image.numpy()), expected)


def test_a_library_with_other_bits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("onnx")
    _, integers = integer_network()
    from unetbio.inference.backends.onnx import OnnxPredictor

    compiled = OnnxPredictor._compiled

    def wrong(self, graph):
        run = compiled(self, graph)
        return lambda batch: run(batch) * (1 + 1e-7)

    monkeypatch.setattr(OnnxPredictor, "_compiled", wrong)
    with pytest.raises(UsageError, match="computes other values: choose --backend torch"):
        make_backend(integers, "onnx")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ndim": 3}, "for planes"),
        ({"padding": "same"}, "without padding"),
        ({"upsampling": "nearest"}, "for transposed convolutions"),
        ({"skip": "sum"}, "skips that are concatenated"),
        ({"residual": True}, "without gates"),
        ({"poolings": [[1, 2]], "depth": 1}, "the same along both axes"),
        ({"batch_norm": True}, "has no batch norm"),
    ],
)
def test_networks_without_integers_are_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        networks.build("unet", {"base_channels": 2, "depth": 2, "arithmetic": "int8", **parameters})


def test_no_image_is_refused() -> None:
    network, _ = integer_network()
    with pytest.raises(UsageError, match="no image can be used to find the scales"):
        quantize(network, networks.find("unet").read(SMALL), [])
