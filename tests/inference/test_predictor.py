"""A network as inference runs it: folded, fused, and its float64 twin within bounded memory."""

import numpy as np
import pytest
import torch
from inference_cases import NETWORKS, case_of, random_image, trained_looking
from torch import nn

from unetbio import networks
from unetbio.errors import GeometryError, ImageError
from unetbio.geometry import Geometry
from unetbio.inference.backends import torch as torch_backend
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import predict
from unetbio.networks.folding import fold_batch_norm


def test_folding_changes_nothing_but_rounding():
    network = trained_looking({"base_channels": 4, "depth": 1, "batch_norm": True}).double()
    image = torch.rand(1, 1, 44, 44, dtype=torch.float64)
    with torch.no_grad():
        expected = network(image)
        folded = fold_batch_norm(network)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        torch.testing.assert_close(folded(image), expected, rtol=1e-12, atol=1e-12)


def test_the_networks_own_state_is_left_alone():
    network = trained_looking({"base_channels": 4, "depth": 1, "batch_norm": True}).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    predictor = TorchPredictor(network)
    image = random_image(1, 44, 44)
    first = predictor.probabilities(image)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    nn.init.zeros_(network.head.weight)
    assert np.array_equal(predictor.probabilities(image), first)


@pytest.mark.parametrize("name", ["2-D", "2-D, padded", "3-D"])
def test_float64_twin_is_the_same_network(name):
    predictor, image, *_ = case_of(name)
    size = predictor.geometry.input_size((5,) * predictor.geometry.ndim)
    batch = np.random.default_rng(2).random((2, image.shape[0], *size), dtype=np.float32)
    exact = predictor.probabilities_float64(batch)
    assert exact.dtype == np.float64
    np.testing.assert_allclose(predictor.probabilities(batch), exact, rtol=0, atol=3e-6)
    # One image or two: not a bit of difference
    assert np.array_equal(predictor.probabilities_float64(batch[1:]), exact[1:])


@pytest.mark.parametrize("name", ["2-D, padded", "3-D"])
def test_float64_in_slabs_agrees_with_float64_at_once(name, monkeypatch):
    predictor, image, *_ = case_of(name)
    size = predictor.geometry.input_size((5,) * predictor.geometry.ndim)
    batch = np.random.default_rng(2).random((1, image.shape[0], *size), dtype=np.float32)
    at_once = predictor.probabilities_float64(batch)
    monkeypatch.setattr("unetbio.inference.backends.torch.COLUMN_BYTES", 20_000)
    np.testing.assert_allclose(predictor.probabilities_float64(batch), at_once, rtol=0, atol=1e-13)


def test_autocast_around_does_not_reach_the_network():
    predictor, image, *_ = case_of("2-D")
    # Not the probabilities of the case: another number of threads may have computed them, which rounds otherwise.
    expected = predict(image, predictor)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(predict(image, predictor), expected)


def test_wrong_channels_are_refused():
    predictor = case_of("2-D")[0]
    with pytest.raises(ImageError, match="the image has 3 channels and the network takes 1") as caught:
        predict(np.zeros((3, 20, 20), dtype=np.float32), predictor)
    assert caught.value.reason == "wrong_channels"


def test_illegal_batches_are_refused():
    predictor = case_of("2-D")[0]
    with pytest.raises(GeometryError, match="nearest legal sizes are"):
        predictor.probabilities(np.zeros((1, 1, 62, 63), dtype=np.float32))


@pytest.mark.parametrize("name", NETWORKS)
def test_work_is_what_pytorch_counts(name):
    from torch.utils.flop_counter import FlopCounterMode

    predictor = case_of(name)[0]
    geometry = predictor.geometry
    shape = [m + (3 + axis) * s for axis, (m, s) in enumerate(zip(geometry.minimum, geometry.stride, strict=True))]
    network = trained_looking(NETWORKS[name][0])
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, predictor.in_channels, *shape))
    assert predictor.multiply_adds(shape) == counter.get_total_flops() // 2


class TwoConvolutions(nn.Module):
    """1 -> 3 -> 2 channels."""

    def __init__(self):
        super().__init__()
        self.geometry = Geometry(context=(2, 2), stride=(1, 1), minimum=(5, 5))
        self.first = nn.Conv2d(1, 3, 3)
        self.second = nn.Conv2d(3, 2, 3)

    def forward(self, image):
        return self.second(self.first(image))


def test_memory_is_what_is_held_at_once():
    predictor = TorchPredictor(TwoConvolutions())
    # During the second convolution: the image, held by the caller, its input and its output; in float32
    assert predictor.memory_bytes((12, 20)) == 4 * (12 * 20 + 3 * 10 * 18 + 2 * 8 * 16)
    assert predictor.multiply_adds((12, 20)) == 9 * 3 * 10 * 18 + 9 * 3 * 2 * 8 * 16
    assert predictor.num_classes == 2


def patch_classifier() -> torch.nn.Module:
    torch.manual_seed(0)
    return networks.build("patch_classifier", {"width": 1 / 12}).eval()


def test_dilated_convolutions_in_slabs_agree_with_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Rates 2 to 16 one after another
    batch = np.random.default_rng(0).random((1, 1, 110, 101), dtype=np.float32)
    at_once = TorchPredictor(patch_classifier()).probabilities_float64(batch)
    monkeypatch.setattr("unetbio.inference.backends.torch.COLUMN_BYTES", 20_000)
    np.testing.assert_allclose(
        TorchPredictor(patch_classifier()).probabilities_float64(batch), at_once, rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("name", ["unet", "patch_classifier"])
def test_one_pass_for_convolution_and_relu_changes_rounding_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch_backend._can_fuse(torch.float32):
        pytest.skip("this processor or PyTorch has no fused convolution")
    torch.manual_seed(0)
    tiny = {"unet": {"base_channels": 4, "depth": 2, "batch_norm": True}, "patch_classifier": {"width": 1 / 12}}
    network = networks.build(name, tiny[name]).eval()
    batch = np.random.default_rng(0).random((2, 1, 116, 108), dtype=np.float32)
    fused = TorchPredictor(network).probabilities(batch)
    monkeypatch.setattr("unetbio.inference.backends.torch._can_fuse", lambda dtype: False)
    np.testing.assert_allclose(TorchPredictor(network).probabilities(batch), fused, rtol=0, atol=1e-6)


def test_where_the_fused_operation_is_missing_the_layers_are_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_backend._can_fuse.cache_clear()

    def broken(network: torch.nn.Module) -> None:
        raise AttributeError("no such operation")

    monkeypatch.setattr("unetbio.inference.backends.torch._fuse_relu", broken)
    assert not torch_backend._can_fuse(torch.float32)
    torch_backend._can_fuse.cache_clear()
