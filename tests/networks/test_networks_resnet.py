"""The ResNet family: encoder, public weights, atrous and pooling pyramids, DeepLab v2, v3, v3+ and PSPNet."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unetbio import networks
from unetbio.errors import ModelError, UsageError
from unetbio.geometry import receptive_field
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import predict
from unetbio.networks.encoders.resnet.network import ResNet, _shortcut, load_resnet
from unetbio.networks.encoders.resnet.spec import encoder_path
from unetbio.networks.scale_context import AtrousPyramid, PyramidPooling, SummedAtrousPyramid, atrous_convolution
from unetbio.tensor_file import save_tensors

FAMILY = ("deeplab_v2", "deeplab_v3", "deeplab_v3plus", "pspnet")
TINY = {"width": 0.05, "backbone": "resnet18"}


def build(name: str, **parameters: Any) -> Any:
    torch.manual_seed(0)
    return networks.build(name, {**TINY, **parameters})


def randomise(network: nn.Module, seed: int = 0) -> Any:
    """Weights and batch statistics of a network that has been trained, as far as arithmetic is concerned."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(0.5 + values.abs() if name.endswith("running_var") else values)
    return network.double().eval()


# The encoder


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet101"])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_encoder_has_the_output_stride_asked_for(backbone: str, stride: int) -> None:
    encoder = ResNet(1, backbone=backbone, output_stride=stride, width=0.02).eval()
    features = encoder(torch.zeros(1, 1, 64, 96))
    assert features.shape == (1, encoder.channels[-1], 64 // stride, 96 // stride)


def dilations(stage: nn.Module) -> list[int]:
    return [m.dilation[0] for m in stage.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]


def test_strides_become_dilation_in_all_blocks_of_their_stage() -> None:
    encoder = build("deeplab_v2", backbone="resnet50").encoder
    assert dilations(encoder.layer2) == [1] * 4
    assert dilations(encoder.layer3) == [2] * 6
    assert dilations(encoder.layer4) == [4] * 3


@pytest.mark.parametrize(
    ("parameters", "rates"),
    [
        ({"backbone": "resnet50"}, [2, 4, 8]),
        ({"backbone": "resnet50", "output_stride": 8}, [4, 8, 16]),
        ({"backbone": "resnet50", "dilated": False}, [1, 1, 1]),
        # Two blocks of two 3 x 3 convolutions each
        ({"backbone": "resnet18"}, [2, 2, 4, 4]),
    ],
)
def test_multi_grid_multiplies_the_rates_of_the_last_stage(parameters: dict[str, Any], rates: list[int]) -> None:
    assert dilations(build("deeplab_v3", **parameters).encoder.layer4) == rates


@pytest.mark.parametrize(
    ("name", "parameters", "rates"),
    [
        ("deeplab_v2", {}, [6, 12, 18, 24]),
        ("deeplab_v2", {"dilated": False}, [2, 3, 5, 6]),
        ("deeplab_v2", {"backbone": "vgg16"}, [6, 12, 18, 24]),
        ("deeplab_v3", {}, [6, 12, 18]),
        ("deeplab_v3", {"output_stride": 8}, [12, 24, 36]),
        ("deeplab_v3", {"dilated": False}, [3, 6, 9]),
        ("deeplab_v3plus", {"separable": True}, [6, 12, 18]),
    ],
)
def test_rates_of_the_pyramid_follow_the_output_stride(name: str, parameters: dict[str, Any], rates: list[int]) -> None:
    network = build(name, **parameters)
    assert dilations(network.head if name == "deeplab_v2" else network.context) == rates


@pytest.mark.parametrize(
    ("expected", "path"),
    [
        (1019, encoder_path("resnet101", 8)),
        (427, encoder_path("resnet50", 32)),
        # Published and reference figures are those before the bilinear upsampling, the last layer.
        (1403, networks.find("deeplab_v2").path(networks.find("deeplab_v2").complete({}))[:-1]),
        (
            1291,
            networks.find("deeplab_v3").path(
                networks.find("deeplab_v3").complete({"backbone": "resnet50", "image_pooling": False})
            )[:-1],
        ),
    ],
)
def test_receptive_fields_are_those_of_the_papers(expected: int, path: tuple[Any, ...]) -> None:
    assert receptive_field(path) == expected


# Public weights


def public_tensors(layers: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, shape in layers.items():
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / shape[1] / shape[2] ** 2) ** 0.5
        norm = name.replace("conv", "bn").replace("downsample.0", "downsample.1")
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{part}"] = 0.5 + torch.rand(shape[0], generator=generator)
    return tensors | {"fc.weight": torch.zeros(7, 8), "fc.bias": torch.zeros(7)}


def public_resnet50(base: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the convolutions of the public ResNet-50, ``base`` instead of 64 maps wide."""
    layers, incoming = {"conv1": (base, 3, 7, 7)}, base
    for stage, blocks in enumerate((3, 4, 6, 3)):
        narrow = base * 2**stage
        for block in range(blocks):
            prefix = f"layer{stage + 1}.{block}"
            layers[f"{prefix}.conv1"] = (narrow, incoming, 1, 1)
            layers[f"{prefix}.conv2"] = (narrow, narrow, 3, 3)
            layers[f"{prefix}.conv3"] = (4 * narrow, narrow, 1, 1)
            if block == 0:
                layers[f"{prefix}.downsample.0"] = (4 * narrow, incoming, 1, 1)
            incoming = 4 * narrow
    return layers


def reference_resnet50(tensors: Mapping[str, Tensor], image: Tensor) -> Tensor:
    """Features of the last stage, from tensors in the public layout, as plainly as they can be computed."""

    def layer(features: Tensor, convolution: str, norm: str, **options: int) -> Tensor:
        features = functional.conv2d(features, tensors[f"{convolution}.weight"].double(), **options)
        parts = [tensors[f"{norm}.{part}"].double() for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(features, *parts)

    features = functional.relu(layer(image, "conv1", "bn1", stride=2, padding=3))
    features = functional.max_pool2d(features, 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            inner = functional.relu(layer(features, f"{name}.conv1", f"{name}.bn1"))
            inner = functional.relu(layer(inner, f"{name}.conv2", f"{name}.bn2", stride=stride, padding=1))
            inner = layer(inner, f"{name}.conv3", f"{name}.bn3")
            if block == 0:
                features = layer(features, f"{name}.downsample.0", f"{name}.downsample.1", stride=stride)
            features = functional.relu(inner + features)
    return features


WIDTH, BASE = 1 / 16, 4


@pytest.mark.parametrize(("stride", "shape"), [(1, (6, 5)), (2, (6, 5)), (2, (7, 8))])
def test_a_shortcut_learns_as_a_strided_convolution_does(stride: int, shape: tuple[int, int]) -> None:
    """With four channels, oneDNN's own gradient of the strided convolution writes beyond its memory on AVX2."""
    shortcut = _shortcut(4, 8, stride).double()
    layer = shortcut[0]
    image = torch.randn(2, 4, *shape, dtype=torch.float64)
    expected = functional.conv2d(image, layer.weight, stride=stride)
    (wanted,) = torch.autograd.grad(expected.square().sum(), layer.weight)
    answer = layer.train()(image)
    (gradient,) = torch.autograd.grad(answer.square().sum(), layer.weight)
    torch.testing.assert_close(answer, expected)
    torch.testing.assert_close(gradient, wanted)
    torch.testing.assert_close(layer.eval()(image), expected)


def test_public_weights_give_the_features_of_the_public_layout(tmp_path: Path) -> None:
    tensors = public_tensors(public_resnet50(BASE))
    save_tensors(tmp_path / "resnet50.safetensors", tensors, {})
    network = build("deeplab_v3", backbone="resnet50", width=WIDTH, dilated=False, in_channels=3).eval()
    loaded = load_resnet(network, tmp_path / "resnet50.safetensors")
    # 53 convolutions, each with the four tensors of its batch norm
    assert len(loaded) == 53 * 5
    assert set(loaded) <= set(tensors)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = reference_resnet50(tensors, image)
    assert expected.std() > 0.1
    torch.testing.assert_close(network.encoder.double()(image), expected)


def test_one_channel_takes_the_sum_over_the_colours(tmp_path: Path) -> None:
    tensors = public_tensors(public_resnet50(BASE))
    save_tensors(tmp_path / "resnet50.safetensors", tensors, {})
    encoder = ResNet(1, backbone="resnet50", output_stride=32, width=WIDTH).eval()
    load_resnet(encoder, tmp_path / "resnet50.safetensors")
    image = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = reference_resnet50(tensors, image.expand(-1, 3, -1, -1))
    # The sum was rounded to float32
    torch.testing.assert_close(encoder.double()(image), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"layer3.5.bn2.bias": None},
            "has no tensor layer3.5.bn2.bias: the network needs the weights of a ResNet",
        ),
        (
            {"layer1.0.conv2.weight": torch.zeros(8, 8, 3, 3)},
            "layer1.0.conv2.weight has the shape (8, 8, 3, 3), the network needs (4, 4, 3, 3): the weights of a "
            "ResNet of its own backbone fit a width of 1",
        ),
        (
            {"layer3.6.conv1.weight": torch.zeros(16, 64, 1, 1)},
            "the network has no layer3.6.conv1.weight: it needs the weights of a ResNet of its own backbone",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_the_name_of_the_first(
    changed: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    tensors = public_tensors(public_resnet50(BASE)) | changed
    save_tensors(tmp_path / "w.safetensors", {k: v for k, v in tensors.items() if v is not None}, {})
    encoder = ResNet(1, backbone="resnet50", output_stride=8, width=WIDTH)
    before = encoder.conv1[0].weight.clone()
    with pytest.raises(ModelError, match=re.escape(message)):
        load_resnet(encoder, tmp_path / "w.safetensors")
    assert torch.equal(encoder.conv1[0].weight, before)


def test_a_network_without_a_resnet_takes_no_weights_of_one(tmp_path: Path) -> None:
    unet = networks.build("unet", {"base_channels": 1, "depth": 1})
    with pytest.raises(UsageError, match="UNet has no ResNet encoder: weights of ResNet cannot be loaded into it"):
        load_resnet(unet, tmp_path / "w.safetensors")


# Pyramids


def brute_convolution(features: Tensor, weight: Tensor, rate: int = 1) -> Tensor:
    """Position by position ``y[i] = sum_k x[i + rate * k] w[k]``, with zeros beyond the map."""
    _, height, width = features.shape
    reach = weight.shape[-1] // 2
    result = torch.zeros(len(weight), height, width, dtype=features.dtype)
    for row, column in np.ndindex(height, width):
        for down, right in np.ndindex(weight.shape[2], weight.shape[3]):
            y, x = row + rate * (down - reach), column + rate * (right - reach)
            if 0 <= y < height and 0 <= x < width:
                result[:, row, column] += weight[:, :, down, right] @ features[:, y, x]
    return result


def brute_layer(features: Tensor, layer: nn.Sequential, rate: int = 1) -> Tensor:
    norm: Any = layer[1]
    weight: Any = layer[0].weight
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    mapped = brute_convolution(features, weight, rate)
    return ((mapped - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]).relu()


TINY_MAP = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_summed_pyramid_equals_a_loop_over_positions() -> None:
    pyramid = randomise(SummedAtrousPyramid(atrous_convolution(3, 2, rate) for rate in (1, 2, 4)))
    expected = sum(
        brute_convolution(TINY_MAP, branch.weight, rate) + branch.bias[:, None, None]
        for branch, rate in zip(pyramid.branches, (1, 2, 4), strict=True)
    )
    torch.testing.assert_close(pyramid(TINY_MAP[None])[0], expected)


@pytest.mark.parametrize("image_pooling", [False, True])
def test_concatenated_pyramid_equals_a_loop_over_positions(image_pooling: bool) -> None:
    pyramid = randomise(AtrousPyramid(3, 2, (2, 3), image_pooling=image_pooling))
    maps = [brute_layer(TINY_MAP, branch, rate) for branch, rate in zip(pyramid.branches, (1, 2, 3), strict=True)]
    if image_pooling:
        mean = TINY_MAP.mean(dim=(1, 2), keepdim=True)
        maps.append(brute_layer(mean, pyramid.pooling).expand(2, 5, 6))
    expected = brute_layer(torch.cat(maps), pyramid.projection)
    torch.testing.assert_close(pyramid(TINY_MAP[None])[0], expected)


def test_separable_branch_is_a_convolution_of_each_channel_and_then_a_mixture() -> None:
    pyramid = randomise(AtrousPyramid(3, 2, (2,), image_pooling=False, separable=True))
    depthwise, pointwise = pyramid.branches[1]
    dense = torch.zeros(3, 3, 3, 3, dtype=torch.float64)
    dense[range(3), range(3)] = depthwise[0].weight[:, 0]
    same_dense = nn.Sequential(nn.Conv2d(3, 3, 3, bias=False), depthwise[1])
    same_dense[0].weight = nn.Parameter(dense)
    branch = brute_layer(brute_layer(TINY_MAP, same_dense, 2), pointwise)
    expected = brute_layer(torch.cat([brute_layer(TINY_MAP, pyramid.branches[0]), branch]), pyramid.projection)
    torch.testing.assert_close(pyramid(TINY_MAP[None])[0], expected)


def test_pyramid_pooling_by_hand() -> None:
    # Pixel (y, x) of the first channel is 6 y + x; each branch hands that channel on.
    ramp = torch.arange(36.0).reshape(6, 6)
    features = torch.stack([ramp, *torch.zeros(3, 6, 6)])[None]
    pyramid = PyramidPooling(4, (1, 2, 3, 6)).eval()
    with torch.no_grad():
        for convolution, norm, _ in pyramid.branches:
            convolution.weight[:] = torch.tensor([1.0, 0, 0, 0])[None, :, None, None]
            norm.eps = 0.0
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    # Two cells: centres at 1 and 4, whose averages are the values there; between them a third a pixel.
    halves_y, halves_x = y.clamp(1, 4), x.clamp(1, 4)
    # Three cells of two pixels: centres at .5, 2.5 and 4.5
    thirds_y, thirds_x = y.clamp(0.5, 4.5), x.clamp(0.5, 4.5)
    expected = torch.stack(
        [
            *features[0],
            torch.full((6, 6), 17.5),
            6 * halves_y + halves_x,
            6 * thirds_y + thirds_x,
            ramp,
        ]
    )
    torch.testing.assert_close(pyramid(features)[0], expected)


# The networks


def test_pspnet_trains_on_auxiliary_logits_with_a_share_of_two_fifths() -> None:
    network = build("pspnet").eval()
    image = torch.randn(2, 1, 64, 32, generator=torch.Generator().manual_seed(4))
    (logits, share), (auxiliary, auxiliary_share) = networks.training_logits(network, image)
    assert (share, auxiliary_share) == (1.0, 0.4)
    assert torch.equal(logits, network(image))
    assert auxiliary.shape == logits.shape == (2, 2, 64, 32)
    # The auxiliary head reads the third stage: the fourth gets no gradient from it.
    auxiliary.sum().backward()
    assert network.encoder.layer3[0].conv1[0].weight.grad is not None
    assert network.encoder.layer4[0].conv1[0].weight.grad is None


def test_auxiliary_logits_have_the_size_of_the_image_without_dilation_too() -> None:
    # Without, the third stage has stride 16 and the fourth 32.
    parts = build("pspnet", dilated=False).training_logits(torch.zeros(2, 1, 64, 96))
    assert [tuple(logits.shape[2:]) for logits, _ in parts] == [(64, 96), (64, 96)]


def test_decoder_of_v3plus_takes_features_of_stride_4() -> None:
    network = build("deeplab_v3plus").eval()
    shapes = {}
    network.skip.register_forward_hook(lambda _, inputs, __: shapes.update(skip=tuple(inputs[0].shape)))
    network.decoder.register_forward_hook(lambda _, inputs, __: shapes.update(decoder=tuple(inputs[0].shape)))
    network(torch.zeros(1, 1, 64, 96))
    # resnet18 at 1 / 20 of its width: 64 / 20 maps; 256 / 20 + 48 / 20 maps in the decoder
    assert shapes == {"skip": (1, 3, 16, 24), "decoder": (1, 13 + 2, 16, 24)}


@pytest.mark.parametrize(
    ("name", "exact"), [("deeplab_v2", True), ("deeplab_v3", True), ("deeplab_v3plus", True), ("pspnet", False)]
)
def test_networks_that_pool_the_whole_image_do_not_say_exact(name: str, exact: bool) -> None:
    architecture = networks.find(name)
    if "image_pooling" in architecture.defaults:
        assert not architecture.exact(architecture.complete({}))
        assert architecture.exact(architecture.complete({"image_pooling": False})) == exact
    else:
        assert architecture.exact(architecture.complete({})) == exact
    # All see further than tiles can afford
    assert not architecture.is_tiled_exactly(architecture.complete({"backbone": "resnet50"}))


@pytest.mark.parametrize(("dilated", "stride"), [(True, 8), (False, 32)])
def test_vgg16_carries_the_summed_pyramid_too(dilated: bool, stride: int) -> None:
    network = build("deeplab_v2", backbone="vgg16", dilated=dilated).eval()
    shapes = []
    network.head.register_forward_hook(lambda _, inputs, __: shapes.append(tuple(inputs[0].shape)))
    assert network(torch.zeros(1, 1, 64, 96)).shape == (1, 2, 64, 96)
    assert shapes == [(1, 26, 64 // stride, 96 // stride)]
    assert dilations(network.encoder) == [1] * 10 + [2 if dilated else 1] * 3
    # fc6 and fc7 of each branch have a twentieth of 1024 maps.
    assert [branch[0].fc7[0].out_channels for branch in network.head.branches] == [51] * 4


def test_tiles_of_deeplab_v2_give_what_the_whole_image_gives() -> None:
    network = build("deeplab_v2", backbone="resnet50", width=0.02).eval()
    predictor = TorchPredictor(network, exact=True)
    image = np.random.default_rng(5).normal(size=(1, 40, 48)).astype(np.float32)
    whole = predict(image, predictor, tile=48)
    assert whole.std() > 0.01
    np.testing.assert_allclose(predict(image, predictor, tile=24), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [*((name, {}) for name in FAMILY), ("deeplab_v2", {"backbone": "vgg16", "batch_norm": True, "dropout": 0.1})],
)
def test_networks_learn_one_batch_by_heart(name: str, parameters: dict[str, Any]) -> None:
    network = build(name, width=0.1, **parameters)
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    discs = [(y - 20) ** 2 + (x - 30) ** 2 < 200, (y - 40) ** 2 + (x - 20) ** 2 < 300]
    target = torch.stack(discs).long()
    image = target[:, None] + 0.3 * torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(6))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        parts = networks.training_logits(network, image)
        loss = torch.stack([share * functional.cross_entropy(logits, target) for logits, share in parts]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < losses[0] / 2:
            return
    pytest.fail(f"not learned: {losses}")


# What cannot be meant


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("deeplab_v2", {"backbone": "resnet19"}, "deeplab_v2: backbone is 'resnet19'; it must be one of resnet18, "),
        ("deeplab_v2", {"batch_norm": 0}, "deeplab_v2: batch_norm is 0; it must be true or false"),
        ("deeplab_v2", {"dropout": 1}, "deeplab_v2: dropout is 1; it must be a number from 0 to below 1"),
        ("deeplab_v2", {"dilated": 1}, "deeplab_v2: dilated is 1; it must be true or false"),
        ("deeplab_v3", {"output_stride": 4}, "deeplab_v3: output_stride is 4; it must be one of 8, 16"),
        ("deeplab_v3", {"image_pooling": None}, "deeplab_v3: image_pooling is None; it must be true or false"),
        ("deeplab_v3plus", {"separable": "yes"}, "deeplab_v3plus: separable is 'yes'; it must be true or false"),
        ("deeplab_v3plus", {"output_stride": 32}, "deeplab_v3plus: output_stride is 32; it must be one of 8, 16"),
        ("pspnet", {"backbone": "vgg16"}, "pspnet: backbone is 'vgg16'; it must be one of resnet18, "),
        ("pspnet", {"dilated": "no"}, "pspnet: dilated is 'no'; it must be true or false"),
        ("pspnet", {"ndim": 3}, "pspnet: ndim is 3; it must be one of 2"),
    ],
)
def test_values_that_the_family_cannot_have_are_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        networks.find(name).complete(parameters)


@pytest.mark.parametrize("name", ["deeplab_v3", "deeplab_v3plus", "pspnet"])
def test_training_on_one_image_with_global_pooling_is_refused(name: str) -> None:
    network = build(name)
    with pytest.raises(UsageError, match=r"leaves one value a channel, .*: use a batch_size of 2 or more"):
        network(torch.zeros(1, 1, 64, 64))
    assert network.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 2, 64, 64)


def test_one_image_is_enough_without_image_pooling() -> None:
    assert build("deeplab_v3", image_pooling=False)(torch.zeros(1, 1, 64, 64)).shape == (1, 2, 64, 64)


def test_training_on_one_value_a_channel_is_refused() -> None:
    network = build("deeplab_v2")
    with pytest.raises(UsageError, match=r"one image of \(8, 8\) pixels has one at output stride 8"):
        network(torch.zeros(1, 1, 8, 8))
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 2, 8, 8)
