"""What every registered network owes: tests that find the networks by themselves, at a tiny width."""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unetbio import networks
from unetbio.errors import GeometryError, UsageError
from unetbio.geometry import Geometry, receptive_field
from unetbio.inference.cost import measure_cost
from unetbio.models.model_file import ModelInfo, load_model, save_model
from unetbio.networks.dilated_context.network import ContextModule

# What makes a network tiny, for those that have the parameter; a new network with a `width` needs no entry.
TINY = {"width": 1 / 16, "base_channels": 2, "depth": 2}

# Forms that differ from the default in what is wired to what.
VARIANTS = (
    ("unet", {"skip": "sum"}),
    ("unet", {"skip": "none"}),
    ("unet", {"upsampling": "bilinear", "batch_norm": True}),
    ("unet", {"upsampling": "max_unpooling"}),
    ("unet", {"padding": "same", "upsampling": "nearest"}),
    ("unet", {"residual": True, "attention": True, "deep_supervision": True}),
    ("unet", {"attention": True, "skip": "sum", "padding": "same"}),
    ("unet", {"encoder": "resnet18", "padding": "same", "depth": 5, "attention": True, "deep_supervision": True}),
    ("deeplab_v1", {"multi_scale": True}),
    ("deeplab_v2", {"multi_scale": True, "backbone": "resnet18"}),
    ("deeplab_v3", {"image_pooling": False}),
    ("deeplab_v3plus", {"image_pooling": False, "separable": True}),
    ("dilated_context", {"context": "large"}),
)

# Why nobody has counted the weights of a network.
UNCOUNTED = {"full_resolution_fcn": "the lecture gives neither depth nor channels"}


def cases() -> Iterator[Any]:
    """Each network at its defaults, and some variants."""
    for name, changes in [*((name, {}) for name in networks.names()), *VARIANTS]:
        marks = ()
        if networks.find(name).output == "objects":
            marks = (pytest.mark.skip(reason="finds objects, not logits: it has tests of its own"),)
        label = "-".join([name, *(f"{key}={value}" for key, value in changes.items())])
        yield pytest.param(Case(name, tuple(changes.items())), id=label, marks=marks)


def tiny(name: str, **changes: Any) -> dict[str, Any]:
    """Parameters of a network that is built and run in a moment, by what parameters it has."""
    architecture = networks.find(name)
    small = {key: value for key, value in TINY.items() if key in architecture.defaults}
    if architecture.defaults.get("backbone") == "resnet101":
        small["backbone"] = "resnet50"
    return architecture.complete({**small, **changes})


class Case:
    """A network and its parameters; what is built is shared and stays as it is."""

    def __init__(self, name: str, changes: tuple[tuple[str, Any], ...]) -> None:
        self.architecture = networks.find(name)
        self.parameters = tiny(name, **dict(changes))
        self.geometry: Geometry = self.architecture.geometry(self.parameters)

    def build(self, **changes: Any) -> nn.Module:
        torch.manual_seed(0)
        return networks.build(self.architecture.name, self.parameters | changes)

    @cached_property
    def network(self) -> nn.Module:
        return self.build().eval()

    def image(self, strides: tuple[int, int] = (0, 0), *, in_channels: int = 1, count: int = 1) -> Tensor:
        """Noise of the smallest legal size, and so many strides more."""
        sizes = [m + k * s for m, k, s in zip(self.geometry.minimum, strides, self.geometry.stride, strict=True)]
        return torch.randn(count, in_channels, *sizes, generator=torch.Generator().manual_seed(1))


every_network = pytest.mark.parametrize("case", list(cases()))


# --- Shapes ---------------------------------------------------------------------------------------------------------


@every_network
@torch.inference_mode()
def test_output_has_the_declared_size(case: Case) -> None:
    for strides in ((0, 0), (1, 0), (0, 2)):
        image = case.image(strides)
        size = tuple(image.shape[2:])
        expected = size if case.geometry.padding == "same" else case.geometry.output_size(size)
        logits = case.network(image)
        assert logits.shape == (1, 2, *expected)
        assert logits.isfinite().all()


@every_network
@pytest.mark.parametrize(("in_channels", "num_classes"), [(1, 6), (3, 3)])
@torch.inference_mode()
def test_any_number_of_channels_and_classes(case: Case, in_channels: int, num_classes: int) -> None:
    network = case.build(in_channels=in_channels, num_classes=num_classes).eval()
    assert network(case.image(in_channels=in_channels)).shape[1] == num_classes


@every_network
def test_illegal_sizes_are_refused_with_the_nearest_legal_ones(case: Case) -> None:
    (rows, columns), (stride, _) = case.geometry.minimum, case.geometry.stride
    with pytest.raises(GeometryError, match=rf"input size {rows - 1} along axis 0 .*nearest legal sizes are {rows}$"):
        case.network(torch.zeros(1, 1, rows - 1, columns))
    if stride > 1:
        with pytest.raises(GeometryError, match=rf"along axis 1 .*nearest legal sizes are {columns} and"):
            case.network(torch.zeros(1, 1, rows, columns + 1))


# --- Weights --------------------------------------------------------------------------------------------------------


@every_network
def test_every_parameter_gets_a_gradient(case: Case) -> None:
    network = case.build().train()
    parts = networks.training_logits(network, case.image((1, 1), count=2))
    # Not the plain sum: batch norm is blind to what shifts all values alike.
    loss = torch.stack([share * (logits**2).mean() for logits, share in parts]).sum()
    torch.autograd.backward(loss)
    gradients = {name: weight.grad for name, weight in network.named_parameters()}
    assert gradients
    assert not [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]


@every_network
@torch.inference_mode()
def test_the_seed_decides_everything(case: Case) -> None:
    image, again = case.image(), case.build().eval()
    logits = case.network(image)
    assert torch.equal(logits, case.network(image))
    assert torch.equal(logits, again(image))


@every_network
@torch.inference_mode()
def test_what_is_saved_is_loaded(case: Case, tmp_path: Path) -> None:
    network = case.network
    info = ModelInfo(name="x", architecture=case.architecture.name, parameters=case.parameters, channels=("DAPI",))
    save_model(tmp_path / "x.safetensors", info, network)
    loaded = load_model(tmp_path / "x.safetensors")
    assert loaded.info.parameters == case.parameters
    assert torch.equal(loaded.network(case.image()), network(case.image()))


@pytest.mark.parametrize("name", networks.names())
def test_counts_of_weights_are_those_that_others_found(name: str) -> None:
    published = networks.find(name).published
    assert bool(published) != (name in UNCOUNTED), "publish a count, or say in UNCOUNTED why there is none, not both"
    for reference in published:
        with torch.device("meta"):
            counted = networks.parameter_count(networks.build(name, reference.parameters))
        print(f"{name}: {counted:,} weights; {reference.count:,} after {reference.source}; {reference.parameters}")
        assert counted == pytest.approx(reference.count, rel=0.01), reference.source


@pytest.mark.parametrize("name", networks.names())
def test_what_no_network_can_be_is_refused(name: str) -> None:
    architecture = networks.find(name)
    wrong = {"in_channels": 0, "num_classes": 1, "ndim": 4}
    if "width" in architecture.defaults:
        wrong["width"] = 0
    for parameter, value in wrong.items():
        with pytest.raises(UsageError, match=f"^{name}: {parameter} is {value}; it must be "):
            architecture.complete({parameter: value})
    with pytest.raises(UsageError, match=f"^{name} has no parameter colour; it has .*in_channels, "):
        networks.build(name, {"colour": "red"})


# --- Cost -----------------------------------------------------------------------------------------------------------


@every_network
def test_work_is_known_for_sizes_that_were_not_measured(case: Case) -> None:
    cost = measure_cost(case.network, case.geometry, in_channels=1)
    image = case.image((2, 3))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        case.network(image)
    assert cost.num_classes == 2
    assert cost.multiply_adds(image.shape[2:]) == counter.get_total_flops() // 2
    assert cost.memory_bytes(image.shape[2:]) >= 4 * image.numel()
    with torch.inference_mode():
        assert case.network(image).any(), "measuring leaves the network as it was"


# --- Receptive field ------------------------------------------------------------------------------------------------


IMPULSE = 1e15
"""Large enough that what it adds outlives a long chain of averages, in float64 beside values of one."""


def with_positive_weights(network: nn.Module) -> nn.Module:
    """Averages with random positive weights, without biases: over a black image all that an impulse reaches is lit."""
    network = network.double().eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.data.uniform_(0.5, 1.5).div_(parameter[0].numel())
        else:
            parameter.data.fill_(0.0 if name.endswith("bias") else 1.0)
    return network


def backgrounds(shape: tuple[int, int]) -> Iterator[Tensor]:
    """Images into which impulses are put.

    A black one is enough where features are only added and compared. Where maxima are put back to their places
    (max-unpooling), an impulse is also seen by what it keeps from lighting up: ramps and noise put maxima everywhere.
    """
    yield torch.zeros(1, 1, *shape, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    noise = [torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64) for _ in range(8)]
    ramp = torch.linspace(0.0, 1.0, shape[1], dtype=torch.float64)
    yield ramp + 0.3 * noise[0]
    yield ramp.flip(-1) + 0.3 * noise[1]
    yield from noise[2:]


def lit_columns(run: Callable[[Tensor], Tensor], background: Tensor, columns: range) -> Iterator[Tensor]:
    """For an impulse in each of ``columns``, the columns of the output that are not what they were."""
    reference = run(background)
    for column in columns:
        image = background.clone()
        image[..., column] += IMPULSE
        yield (run(image) != reference).any(dim=(0, 1, 2)).nonzero().flatten()


def measured_field(case: Case, run: Callable[[Tensor], Tensor], expected: int) -> int:
    """Columns from the first to the last that some output depends on; tries backgrounds until it is ``expected``."""
    stride, lost = case.geometry.stride[0], case.geometry.training_context[0]
    # As few rows as can be; so many columns that outputs of a wider field would light up too
    rows, columns = case.geometry.minimum[0], expected + 3 * stride + 2 * lost
    shape = (rows, case.geometry.nearest_legal(columns, 1)[-1])
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    start = shape[1] // 2 // stride * stride
    measured = 0
    for background in backgrounds(shape):
        for column, outputs in enumerate(lit_columns(run, background, range(start, start + stride)), start=start):
            for output in (outputs + lost).tolist():
                # What happens at one output happens at all that lie a multiple of the stride beside it.
                phase, offset = output % stride, column - output
                first[phase] = min(offset, first.get(phase, offset))
                last[phase] = max(offset, last.get(phase, offset))
        measured = max(last[phase] - first[phase] + 1 for phase in first)
        if measured >= expected:
            break
    return measured


@every_network
@torch.inference_mode()
def test_an_impulse_is_seen_as_far_as_the_receptive_field_says(case: Case) -> None:
    narrower = {"width": 1 / 64} if "width" in case.parameters else {}
    network = with_positive_weights(case.build(**narrower))
    expected = receptive_field(case.architecture.path(case.parameters))
    measured = measured_field(case, network, expected)
    if not case.architecture.exact(case.parameters) and measured > expected:
        pytest.skip("pools over the whole image, so that every pixel sees all others")
    assert measured == expected
    assert measured_field(case, lambda image: network(image.mT).mT, expected) == expected


@torch.inference_mode()
def test_the_context_module_sees_67_pixels() -> None:
    module = with_positive_weights(ContextModule(2, "basic"))
    image = torch.zeros(1, 2, 81, 81, dtype=torch.float64)
    image[..., 40, 40] = IMPULSE
    expected = torch.zeros(81, 81, dtype=torch.bool)
    expected[7:-7, 7:-7] = True
    assert torch.equal(module(image)[0, 0] != 0, expected)


# --- Skips of the U-Net ---------------------------------------------------------------------------------------------


def test_without_skips_the_image_reaches_the_decoder_only_from_below() -> None:
    images = torch.rand(2, 1, 44, 44, generator=torch.Generator().manual_seed(0))
    for skip, differs in (("concatenate", True), ("sum", True), ("none", False)):
        torch.manual_seed(0)
        network = networks.build("unet", tiny("unet", skip=skip)).eval()
        with torch.no_grad():
            for weight in network.upsamplers.parameters():
                weight.zero_()
            first, second = network(images)
        assert torch.equal(first, second) != differs


@pytest.mark.parametrize("doubling", ["after_pooling", "before_pooling"])
def test_a_sum_is_a_concatenation_whose_two_halves_are_weighted_alike(doubling: str) -> None:
    torch.manual_seed(0)
    parameters = tiny("unet", skip="sum", upsampling="max_unpooling", doubling=doubling)
    summed = networks.build("unet", parameters).eval().double()
    joined = networks.build("unet", {**parameters, "skip": "concatenate"}).eval().double()
    weights = summed.state_dict()
    for name, weight in joined.state_dict().items():
        if weight.shape != weights[name].shape:
            weights[name] = torch.cat([weights[name]] * 2, dim=1)
    joined.load_state_dict(weights)
    image = torch.rand(1, 1, 44, 44, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        assert torch.allclose(summed(image), joined(image), rtol=0, atol=1e-12)


def test_skips_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="unet: skip is 'add'; it must be one of concatenate, sum, none"):
        tiny("unet", skip="add")
