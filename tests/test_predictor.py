"""A network as inference runs it: fused, and its float64 twin within bounded memory."""

import numpy as np
import pytest
import torch

from unetbio import networks, predictor
from unetbio.predictor import TorchPredictor


def patch_classifier() -> torch.nn.Module:
    torch.manual_seed(0)
    return networks.build("patch_classifier", {"width": 1 / 12}).eval()


def test_dilated_convolutions_in_slabs_agree_with_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Rates 2 to 16 one after another
    batch = np.random.default_rng(0).random((1, 1, 110, 101), dtype=np.float32)
    at_once = TorchPredictor(patch_classifier()).probabilities_float64(batch)
    monkeypatch.setattr("unetbio.predictor.COLUMN_BYTES", 20_000)
    np.testing.assert_allclose(
        TorchPredictor(patch_classifier()).probabilities_float64(batch), at_once, rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("name", ["unet", "patch_classifier"])
def test_one_pass_for_convolution_and_relu_changes_rounding_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not predictor._can_fuse():
        pytest.skip("this processor or PyTorch has no fused convolution")
    torch.manual_seed(0)
    tiny = {"unet": {"base_channels": 4, "depth": 2, "batch_norm": True}, "patch_classifier": {"width": 1 / 12}}
    network = networks.build(name, tiny[name]).eval()
    batch = np.random.default_rng(0).random((2, 1, 116, 108), dtype=np.float32)
    fused = TorchPredictor(network).probabilities(batch)
    monkeypatch.setattr("unetbio.predictor._can_fuse", lambda: False)
    np.testing.assert_allclose(TorchPredictor(network).probabilities(batch), fused, rtol=0, atol=1e-6)


def test_where_the_fused_operation_is_missing_the_layers_are_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor._can_fuse.cache_clear()

    def broken(network: torch.nn.Module) -> None:
        raise AttributeError("no such operation")

    monkeypatch.setattr("unetbio.predictor._fuse_relu", broken)
    assert not predictor._can_fuse()
    predictor._can_fuse.cache_clear()
