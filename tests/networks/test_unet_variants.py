"""Residual units, attention gates, deep supervision and ResNet encoders of the U-Net; scales of DeepLab."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.inference.backends.base import make_backend
from unetbio.inference.prediction import decide
from unetbio.networks.deeplab.v2.network import DeepLabV2
from unetbio.networks.encoders.public import load_encoder
from unetbio.networks.encoders.resnet.network import ResNet
from unetbio.networks.unet.network import UNet

SMALL = {"base_channels": 4, "depth": 2, "dropout": 0.0}
RESNET = {"encoder": "resnet18", "padding": "same", "depth": 5, "dropout": 0.0, "base_channels": 8}


def made(**parameters: object) -> UNet:
    torch.manual_seed(0)
    network = networks.build("unet", {**SMALL, **parameters})
    assert isinstance(network, UNet)
    return network


@pytest.mark.parametrize(
    "changes",
    [
        {"residual": True},
        {"attention": True},
        {"residual": True, "attention": True, "batch_norm": True, "upsampling": "bilinear"},
        {"ndim": 3, "depth": 1, "residual": True, "attention": True},
    ],
    ids=str,
)
def test_tiles_change_no_decision(changes: dict[str, object]) -> None:
    network = made(**changes).eval()
    shape = (1, 12, 30, 26) if network.geometry.ndim == 3 else (1, 70, 61)
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    predictor = make_backend(network, device=torch.device("cpu"), exact=True, window=None)
    threshold = [float(np.float32(0.5))]
    whole = decide(image, predictor, threshold)
    assert np.array_equal(whole, decide(image, predictor, threshold, tile=8))


def test_context_of_variants_is_that_of_the_unet() -> None:
    plain = networks.find("unet").geometry({})
    assert networks.find("unet").geometry({"residual": True, "attention": True, "deep_supervision": True}) == plain


def test_a_closed_gate_lets_nothing_of_the_skip_pass() -> None:
    network = made(attention=True, skip="sum").eval()
    image = torch.rand(1, 1, 44, 44)
    with torch.no_grad():
        for gate in network.gates:
            torch.nn.init.zeros_(gate.psi.weight)
            torch.nn.init.constant_(gate.psi.bias, -200.0)
        closed = network(image)
        network.gates, network.skip = torch.nn.ModuleList(), "none"
        assert torch.equal(closed, network(image))


def test_a_residual_unit_without_weights_passes_its_shortcut_on() -> None:
    unit = made(residual=True).encoder[0]
    features = torch.rand(1, 1, 9, 9)
    with torch.no_grad():
        for parameter in unit.second.parameters():
            parameter.zero_()
        assert torch.equal(unit(features), unit.shortcut(features)[..., 2:-2, 2:-2].relu())


def test_deep_supervision_halves_the_share_of_each_level() -> None:
    network = made(deep_supervision=True, depth=3).train()
    parts = networks.training_logits(network, torch.rand(2, 1, 92, 92))
    # From the output down to the level above the bottleneck, each of the output's size.
    assert sorted((share for _, share in parts), reverse=True) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert {tuple(logits.shape) for logits, _ in parts} == {tuple(parts[0][0].shape)}


def test_lower_levels_are_supervised_where_they_lie() -> None:
    # A head that copies its input: the logits of the lower level are its features, each repeated, in the middle.
    network = made(deep_supervision=True).train()
    image = torch.rand(2, 1, 52, 52)
    _, (lower,) = network._decode(image)
    with torch.no_grad():
        _, (logits, _) = networks.training_logits(network, image)
        expected = network.deep_heads[0](lower).repeat_interleave(2, 2).repeat_interleave(2, 3)
    lost = (expected.shape[2] - logits.shape[2]) // 2
    assert torch.equal(logits, expected[..., lost:-lost, lost:-lost])


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"encoder": "resnet34"}, "give padding: same and depth: 5"),
        ({**RESNET, "skip": "sum"}, "are for the U-Net's own encoder"),
        ({**RESNET, "poolings": [[2, 2]] * 5}, "leave out kernel_sizes, poolings, doubling"),
        ({"attention": True, "skip": "none"}, "attention gates are on skips"),
        ({"deep_supervision": True, "depth": 1}, "depth 1 must be 2 or more"),
    ],
)
def test_what_does_not_go_together_is_refused(parameters: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        networks.build("unet", parameters)


def test_public_weights_fill_the_resnet_of_a_unet(tmp_path: Path) -> None:
    public = ResNet(3, backbone="resnet18", output_stride=32)
    renamed = {_public(name): tensor.contiguous() for name, tensor in public.state_dict().items()}
    path = tmp_path / "resnet18.safetensors"
    save_file(renamed, path)
    network = networks.build("unet", {**RESNET, "base_channels": 64, "in_channels": 3})
    assert len(load_encoder(network, path)) > 50
    assert torch.equal(network.resnet.layer4[1].conv2[0].weight, public.layer4[1].conv2[0].weight)


def _public(name: str) -> str:
    return re.sub(r"conv(\d)\.1\.", r"bn\1.", re.sub(r"conv(\d)\.0\.", r"conv\1.", name))


@torch.inference_mode()
def test_three_scales_give_the_largest_score() -> None:
    torch.manual_seed(0)
    parameters = {"width": 1 / 16, "backbone": "resnet18"}
    network = networks.build("deeplab_v2", {**parameters, "multi_scale": True}).eval()
    assert isinstance(network, DeepLabV2)
    plain = networks.build("deeplab_v2", parameters).eval()
    plain.load_state_dict(network.state_dict())
    image = torch.rand(1, 1, 64, 64)
    assert (network(image) >= plain(image) - 1e-6).all()
    assert not networks.find("deeplab_v2").exact({"multi_scale": True})
    assert networks.find("deeplab_v2").geometry({"multi_scale": True}).stride == (32, 32)
