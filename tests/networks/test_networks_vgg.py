"""Networks with the convolutions of VGG-16: what each is made of, exact tiles, public weights, learning."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unetbio import networks
from unetbio.errors import ModelError, UsageError
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import predict
from unetbio.networks import blocks, build, parameter_count
from unetbio.networks.dilated_context.network import ContextModule
from unetbio.networks.encoders.vgg.network import VGG16, load_vgg16
from unetbio.networks.encoders.vgg.spec import STAGES
from unetbio.tensor_file import save_tensors

NAMES = ("fcn32s", "fcn16s", "fcn8s", "segnet", "deconvnet", "deeplab_v1", "dilated_context")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network_of(name: str, seed: int = 0, **parameters: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build(name, parameters)


def trained_looking(name: str, **parameters: Any) -> nn.Module:
    """A network with random weights, and batch norm statistics as if it had seen images."""
    network = network_of(name, **parameters)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.3)
    return network.eval()


# --- Parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("fcn8s", {"batch_norm": 1}, "fcn8s: batch_norm is 1; it must be true or false"),
        ("fcn32s", {"dropout": 1.0}, "fcn32s: dropout is 1.0; it must be a number from 0 to below 1"),
        ("fcn16s", {"ndim": 3}, "fcn16s: ndim is 3; it must be one of 2"),
        ("segnet", {"width": 0}, "segnet: width is 0; it must be a number above 0"),
        ("segnet", {"dropout": 0.5}, "segnet has no parameter dropout"),
        ("deconvnet", {"num_classes": 1}, "deconvnet: num_classes is 1; it must be a whole number from 2"),
        ("deeplab_v1", {"dilation": 0}, "deeplab_v1: dilation is 0; it must be a whole number from 1"),
        ("deeplab_v1", {"batch_norm": "no"}, "deeplab_v1: batch_norm is 'no'"),
        ("deeplab_v1", {"dropout": -0.1}, "deeplab_v1: dropout is -0.1"),
        ("dilated_context", {"context": "huge"}, "context is 'huge'; it must be one of none, basic, large"),
        ("dilated_context", {"dilation": True}, "dilated_context: dilation is True"),
        ("dilated_context", {"batch_norm": None}, "dilated_context: batch_norm is None"),
        ("dilated_context", {"dropout": 2}, "dilated_context: dropout is 2"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        networks.find(name).complete(parameters)


# --- Places ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "context"),
    [
        # Convolutions before pool5 see 90 pixels a side, fc6 3 strides, bilinear interpolation one more; from the
        # pixel of a stride where these add up to most, rounded up to a stride.
        ("fcn32s", {}, 256),
        ("fcn8s", {}, 256),
        ("segnet", {}, 224),
        ("deconvnet", {}, 416),
        # 18 before pool3, then strides of 8: 3 in conv4, 1 and 1 in the poolings, 6 in conv5, 12 in fc6, 1 in between
        ("deeplab_v1", {}, 216),
        ("deeplab_v1", {"dilation": 1}, 104),
        # 186 of the paper and 4 of the interpolation's rim
        ("dilated_context", {}, 190),
        ("dilated_context", {"dilation": 1}, 94),
    ],
)
def test_context_as_by_hand(name: str, parameters: dict[str, Any], context: int) -> None:
    architecture = networks.find(name)
    assert architecture.geometry(architecture.complete(parameters)).context == (context, context)


def test_front_end_loses_what_the_paper_mirrors() -> None:
    # Section 4: the image is padded by 186; the published model makes 66 x 66 scores of 900 x 900 pixels.
    network = network_of("dilated_context", width=1 / 64, context="none").eval()
    assert network.geometry.is_legal((900, 900))
    with torch.no_grad():
        scores = network.fully_connected(network.encoder(torch.zeros(1, 1, 900, 388))[-1])
    assert scores.shape[2:] == ((900 - 2 * 186) // 8, 2)


@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s", "segnet", "deconvnet", "deeplab_v1"])
def test_nothing_beyond_the_context_is_seen(name: str) -> None:
    network = trained_looking(name, width=1 / 16).double()
    stride, context = network.geometry.stride[1], network.geometry.context[1]
    image = torch.rand(1, 1, stride, 4 * stride + 2 * context, generator=seeded(0), dtype=torch.float64)
    inside = slice(2 * stride, 3 * stride + 2 * context)
    other = 1 - image
    other[..., inside] = image[..., inside]
    with torch.inference_mode():
        difference = (network(image) - network(other)).abs()[0].amax(dim=(0, 1))
    assert not difference[2 * stride + context : 3 * stride + context].any()
    assert difference.any()


# --- Exact tiles ----------------------------------------------------------------------------------------------------

TILED = {
    "fcn32s": ({"batch_norm": True}, (64, 96)),
    "fcn8s": ({}, (70, 96)),
    "segnet": ({}, (64, 75)),
    "deeplab_v1": ({"batch_norm": True}, (43, 60)),
    "dilated_context": ({"context": "none", "batch_norm": True}, (30, 41)),
}


@cache
def whole(name: str) -> tuple[TorchPredictor, np.ndarray, np.ndarray]:
    parameters, shape = TILED[name]
    network = trained_looking(name, width=1 / 32, **parameters)
    image = np.random.default_rng(1).random((1, *shape), dtype=np.float32)
    # Flat parts have ties between the values of a pooling window.
    image[:, 8:40, 10:44] = 0.5
    balance(network)
    predictor = TorchPredictor(network)
    return predictor, image, predict(image, predictor)


def balance(network: nn.Module) -> None:
    """Scale and shift the scores so that probabilities are neither 0 nor 1, where differences would not show."""
    layers = [getattr(network, "score", None) or network.head, *getattr(network, "skip_scores", [])]
    with torch.no_grad():
        logits = network(torch.rand(1, 1, *network.geometry.input_size((32, 32)), generator=seeded(1)))
        scale = logits.std(dim=(0, 2, 3))
        for layer in layers:
            layer.weight /= scale[:, None, None, None]
            layer.bias /= scale
        layers[0].bias -= logits.mean(dim=(0, 2, 3)) / scale


@pytest.mark.parametrize("tile", [32, 64])
@pytest.mark.parametrize("name", TILED)
def test_tiles_never_change_the_answer(name: str, tile: int) -> None:
    architecture = networks.find(name)
    assert architecture.is_tiled_exactly(architecture.complete(TILED[name][0]))
    predictor, image, probabilities = whole(name)
    assert probabilities[0].std() > 1e-4
    assert np.abs(predict(image, predictor, tile=tile) - probabilities).max() <= 1e-5


def test_networks_that_see_too_much_or_pad_inside_are_not_tiled_exactly() -> None:
    for name, parameters, exact in (
        ("deconvnet", {}, True),
        ("dilated_context", {"context": "basic"}, False),
        ("dilated_context", {"context": "large"}, False),
    ):
        architecture = networks.find(name)
        complete = architecture.complete(parameters)
        assert not architecture.is_tiled_exactly(complete)
        assert architecture.exact(complete) == exact


# --- Upsampling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 8, 32])
@pytest.mark.parametrize("groups", [1, 3])
def test_bilinear_weights_interpolate(factor: int, groups: int) -> None:
    layer = blocks.transposed_convolution(
        3, 3, (factor,) * 2, kernel_size=(2 * factor,) * 2, padding=factor // 2, groups=groups, bias=False
    )
    blocks.initialise_bilinear(layer)
    features = torch.randn(1, 3, 5, 4, generator=seeded(0))
    expected = blocks.interpolate(features, (factor, factor))
    rim = factor // 2
    with torch.no_grad():
        inner = layer(features)[..., rim:-rim, rim:-rim]
    torch.testing.assert_close(inner, expected[..., rim:-rim, rim:-rim], rtol=0, atol=1e-6)


def test_transposed_convolutions_start_with_the_variance_of_what_they_add_up() -> None:
    # A kernel of 4 at a stride of 2 gives each output 2 x 2 inputs of each of 64 maps.
    torch.manual_seed(0)
    layer = blocks.transposed_convolution(64, 128, (2, 2), kernel_size=(4, 4), padding=1)
    blocks.initialise_he(layer)
    assert layer.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)


def test_last_upsampling_of_the_fcn_is_fixed_and_the_others_are_learned() -> None:
    network = network_of("fcn8s", width=1 / 64)
    names = {name for name, _ in network.named_parameters()}
    assert "upsampling.weight" not in names
    assert "upsampling.weight" in network.state_dict()
    assert {"doublings.0.weight", "doublings.1.weight"} <= names


def scores_of(network: nn.Module, values: list[float]) -> None:
    """Make score layers constant: the first class scores a value, whatever the image shows."""
    for layer, value in zip((network.score, *network.skip_scores), values, strict=True):
        nn.init.zeros_(layer.weight)
        layer.bias.data.copy_(torch.tensor([value, 0.0]))


def test_fcn_sums_its_skips() -> None:
    # Away from the border constant scores stay what they are through bilinear interpolation, and add up.
    for name, values, total in (("fcn32s", [1.0], 1), ("fcn16s", [1.0, 10.0], 11), ("fcn8s", [1.0, 10.0, 100.0], 111)):
        network = network_of(name, width=1 / 64).eval()
        scores_of(network, values)
        with torch.no_grad():
            logits = network(torch.rand(1, 1, 160, 160, generator=seeded(0)))
        torch.testing.assert_close(logits[0, 0, 64:96, 64:96], torch.full((32, 32), float(total)))
        assert not logits[0, 1].any()


@pytest.mark.parametrize("name", ["segnet", "deconvnet"])
def test_decoder_puts_values_where_the_encoder_had_its_maxima(name: str) -> None:
    # All convolutions hand the first map on as it is, so that what comes out is the largest pixel of each 32 x 32
    # window, where it was, and zero elsewhere.
    network = network_of(name, width=1e-4).eval()
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
            module.weight.data[:, :, module.kernel_size[0] // 2, module.kernel_size[1] // 2] = 1
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    image = torch.rand(1, 1, 64, 96, generator=seeded(0))
    with torch.no_grad():
        logits = network(image)
    pooled, places = functional.max_pool2d(image, 32, return_indices=True)
    expected = functional.max_unpool2d(pooled, places, 32)
    assert torch.equal(logits, expected.expand(-1, 2, -1, -1))


@pytest.mark.parametrize(("kind", "tolerance"), [("basic", 1e-6), ("large", 0.1)])
def test_context_module_starts_as_the_identity(kind: str, tolerance: float) -> None:
    torch.manual_seed(0)
    module = ContextModule(3, kind)
    scores = torch.rand(1, 3, 9, 11, generator=seeded(1))
    with torch.no_grad():
        assert (module(scores) - scores).abs().max() <= tolerance


def test_context_module_has_the_published_number_of_weights() -> None:
    # Section 3: 64 C**2, and biases, for the basic module. Large: 2C 2C 4C 8C 16C 32C 32C C maps.
    for classes in (2, 5):
        assert parameter_count(ContextModule(classes, "basic")) == 64 * classes**2 + 8 * classes
        pairs = [(1, 2), (2, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 32)]
        weights = (9 * sum(a * b for a, b in pairs) + 32) * classes**2
        assert parameter_count(ContextModule(classes, "large")) == weights + 97 * classes


@pytest.mark.parametrize(("name", "parameters"), [("deeplab_v1", {}), ("dilated_context", {"context": "large"})])
def test_dilation_one_switches_all_dilation_off(name: str, parameters: dict[str, Any]) -> None:
    def rates(network: nn.Module) -> list[int]:
        return [module.dilation[0] for module in network.modules() if isinstance(module, nn.Conv2d)]

    dilated, plain = (network_of(name, width=1 / 64, **parameters, **changes) for changes in ({}, {"dilation": 1}))
    assert set(rates(plain)) == {1}
    assert rates(dilated)[10:13] == [2, 2, 2]
    assert rates(dilated)[13] == (12 if name == "deeplab_v1" else 4)
    assert parameter_count(plain) == parameter_count(dilated)


# --- Public weights -------------------------------------------------------------------------------------------------


def torchvision_vgg16(batch_norm: bool, width: float = 1 / 8) -> nn.Sequential:
    """``features`` of torchvision's VGG-16 for three channels, with random weights; narrower to be quick."""
    torch.manual_seed(3)
    layers: list[nn.Module] = []
    incoming = 3
    for count, channels in STAGES:
        for _ in range(count):
            outgoing = int(channels * width)
            layers.append(nn.Conv2d(incoming, outgoing, 3, padding=1))
            if batch_norm:
                norm = nn.BatchNorm2d(outgoing)
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
                layers.append(norm)
            layers.append(nn.ReLU())
            incoming = outgoing
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers).eval()


def weights_file(path: Path, features: nn.Module, **more: Tensor) -> Path:
    tensors = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    save_tensors(path, tensors | {name.replace("__", "."): tensor for name, tensor in more.items()}, {})
    return path


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("in_channels", [3, 1])
def test_public_weights_give_what_they_gave_there(tmp_path: Path, batch_norm: bool, in_channels: int) -> None:
    features = torchvision_vgg16(batch_norm)
    path = weights_file(tmp_path / "vgg16.safetensors", features)
    encoder = VGG16(in_channels, 1 / 8, batch_norm=batch_norm).eval()
    loaded = load_vgg16(encoder, path)
    assert len(loaded) == 13 * (6 if batch_norm else 2)
    # One channel is a grey image: red, green and blue alike
    image = torch.rand(1, in_channels, 64, 64, generator=seeded(0))
    with torch.no_grad():
        expected = features(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(encoder(image)[-1], expected, rtol=1e-4, atol=1e-5)


def test_fully_connected_weights_become_convolutions_where_they_fit(tmp_path: Path) -> None:
    wide = 4096 // 8
    weights = {
        "classifier__0__weight": torch.randn(wide, 64 * 7 * 7, generator=seeded(0)),
        "classifier__0__bias": torch.randn(wide, generator=seeded(1)),
        "classifier__3__weight": torch.randn(wide, wide, generator=seeded(2)),
        "classifier__3__bias": torch.randn(wide, generator=seeded(3)),
    }
    path = weights_file(tmp_path / "vgg16.safetensors", torchvision_vgg16(False), **weights)
    network = network_of("fcn32s", width=1 / 8, in_channels=3)
    assert {"classifier.0.weight", "classifier.3.bias"} <= set(load_vgg16(network, path))
    pooled = torch.randn(1, 64, 7, 7, generator=seeded(4))
    with torch.no_grad():
        # In the middle of 7 x 7 pixels nothing of the padding is seen.
        middle = network.fully_connected.fc6(pooled)[..., 3, 3]
        linear = functional.linear(pooled.flatten(1), weights["classifier__0__weight"], weights["classifier__0__bias"])
        torch.testing.assert_close(middle, linear.relu(), rtol=1e-3, atol=1e-3)
        assert torch.equal(network.fully_connected.fc7[0].weight[..., 0, 0], weights["classifier__3__weight"])
    # fc6 of DeepLab has 3 x 3 taps and 1024 maps: it keeps its random weights.
    assert not any(
        "classifier" in name for name in load_vgg16(network_of("deeplab_v1", width=1 / 8, in_channels=3), path)
    )


def test_weights_that_do_not_fit_are_refused_and_change_nothing(tmp_path: Path) -> None:
    path = weights_file(tmp_path / "vgg16.safetensors", torchvision_vgg16(False))
    normalised = weights_file(tmp_path / "vgg16_bn.safetensors", torchvision_vgg16(True))
    cases: list[tuple[Callable[[], nn.Module], Path, str]] = [
        (
            lambda: VGG16(3, 1 / 4),
            path,
            "features.0.weight has the shape (8, 3, 3, 3), the network needs (16, 3, 3, 3)",
        ),
        (
            lambda: VGG16(2, 1 / 8),
            path,
            "the network needs (8, 2, 3, 3): the weights of torchvision's vgg16 fit a width of 1 and one or",
        ),
        (
            lambda: VGG16(3, 1 / 8, batch_norm=True),
            path,
            "has no tensor features.1.weight: the network needs the weights of torchv",
        ),
        (
            lambda: VGG16(3, 1 / 8),
            normalised,
            "has no tensor features.2.weight: the network needs the weights of torchvision's vgg16",
        ),
    ]
    more = weights_file(tmp_path / "more.safetensors", torchvision_vgg16(False), features__28b=torch.zeros(1))
    cases.append((lambda: VGG16(3, 1 / 8), more, "the network has no features.28b: it needs the weights of"))
    for make, file, message in cases:
        encoder = make()
        before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
        with pytest.raises(ModelError, match=re.escape(message)):
            load_vgg16(encoder, file)
        assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    with pytest.raises(UsageError, match="UNet has no VGG-16 encoder"):
        load_vgg16(network_of("unet", depth=1, base_channels=2), path)


# --- Learning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "learning_rate"),
    [
        ("fcn32s", {"dropout": 0.0}, 1e-3),
        ("fcn16s", {"dropout": 0.0}, 1e-3),
        ("fcn8s", {"dropout": 0.0}, 1e-3),
        ("fcn8s", {"batch_norm": True}, 1e-3),
        ("segnet", {}, 1e-2),
        ("deconvnet", {"width": 1 / 8}, 1e-2),
        ("deeplab_v1", {"dropout": 0.0}, 1e-3),
        ("dilated_context", {"dropout": 0.0, "context": "basic", "width": 1 / 32}, 1e-3),
    ],
)
def test_every_network_learns_one_image(name: str, parameters: dict[str, Any], learning_rate: float) -> None:
    network = network_of(name, **{"width": 1 / 16, **parameters}).train()
    size = network.geometry.input_size((32, 32)) if network.geometry.padding == "valid" else (64, 64)
    lost = network.geometry.training_context[0]
    # Left half dark, right half bright: large enough for a stride of 32
    image = torch.zeros(1, 1, *size)
    image[..., size[1] // 2 :] = 1
    target = crop_columns(image[:, 0].long(), lost)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    losses = []
    for _ in range(30):
        loss = functional.cross_entropy(network(image), target)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < min(losses[0] / 2, 0.35):
            return
    pytest.fail(f"not learned: {losses}")


def crop_columns(target: Tensor, lost: int) -> Tensor:
    return target[:, lost : target.shape[1] - lost, lost : target.shape[2] - lost]
