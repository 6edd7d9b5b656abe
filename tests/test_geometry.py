"""The arithmetic of legal sizes against what the real networks do."""

from collections.abc import Sequence
from math import prod

import numpy as np
import pytest
import torch
from torch import nn

from unetbio import networks
from unetbio.errors import GeometryError, UsageError
from unetbio.geometry import Geometry, anisotropic_levels, unet_geometry
from unetbio.networks import blocks, build, parameter_count

FIVE_THEN_THREE = ((5, 5), (3, 3), (1, 1))
ANISOTROPIC = {"kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3)), "poolings": ((1, 2, 2), (2, 2, 2))}

NETWORKS = {
    "depth 0": {"depth": 0},
    "depth 1": {"depth": 1},
    "depth 2": {"depth": 2},
    "depth 3": {"depth": 3},
    "nearest": {"depth": 2, "upsampling": "nearest"},
    "bed of nails": {"depth": 2, "upsampling": "bed_of_nails"},
    "max unpooling": {"depth": 2, "upsampling": "max_unpooling"},
    "bilinear, depth 1": {"depth": 1, "upsampling": "bilinear"},
    "bilinear, depth 3": {"depth": 3, "upsampling": "bilinear"},
    "bilinear, poolings of 4 and 3": {"depth": 2, "upsampling": "bilinear", "poolings": [[4, 3], [2, 2]]},
    "kernels 5, 3, 1": {"depth": 2, "kernel_sizes": FIVE_THEN_THREE},
    "pooling by 3": {"depth": 1, "poolings": ((3, 3),)},
    "an axis each": {"depth": 2, "kernel_sizes": ((3, 5),) * 3, "poolings": ((2, 1), (2, 2))},
    "3-D": {"ndim": 3, "depth": 1},
    "3-D anisotropic": {"ndim": 3, "depth": 2, **ANISOTROPIC},
    "3-D anisotropic bilinear": {"ndim": 3, "depth": 2, "upsampling": "bilinear", **ANISOTROPIC},
}


def positive(parameters: dict[str, object]) -> nn.Module:
    """A network whose weights are all positive and even: whatever an input pixel can reach, it changes."""
    network = build("unet", {"base_channels": 1, "dropout": 0.0, **parameters}).eval().double()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1.0 / parameter[0].numel())
    return network


@torch.inference_mode()
def reached(network: nn.Module, shape: Sequence[int], axis: int, positions: Sequence[int] | None = None) -> np.ndarray:
    """``(position, output)``: whether an impulse there, on the axis' central line, changes that pixel of the output."""
    positions = range(shape[axis]) if positions is None else positions
    images = torch.ones(len(positions), 1, *shape, dtype=torch.float64)
    for number, position in enumerate(positions):
        place = [length // 2 for length in shape]
        place[axis] = position
        # Larger towards one side, so that max-pooling and its switches are never in a tie
        images[(number, 0, *place)] = 3.0
    answers = network(images)[:, 0]
    change = (answers - network(torch.ones(1, 1, *shape, dtype=torch.float64))[:, 0]).abs() > 1e-12
    others = [other for other in range(1, len(shape) + 1) if other != axis + 1]
    return (
        change.any(dim=others[0]).any(dim=others[1] - 1).numpy() if len(others) == 2 else change.any(others[0]).numpy()
    )


@pytest.mark.parametrize("parameters", NETWORKS.values(), ids=NETWORKS.keys())
def test_measured_context_is_the_arithmetic(parameters):
    network = positive(parameters)
    geometry = network.geometry
    shape = [minimum + 2 * stride for minimum, stride in zip(geometry.minimum, geometry.stride, strict=True)]
    for axis in range(geometry.ndim):
        changed = reached(network, shape, axis)
        assert changed.shape == (shape[axis], geometry.output_size(shape)[axis])
        # The first pixel of the output needs the first of the input, the last one the last: not one pixel of context
        # less would do. That more is not needed is plain: there is no more.
        assert changed[0, 0]
        assert changed[-1, -1]
        # Every input pixel matters to something.
        assert changed.any(axis=1).all()


def test_measured_context_of_the_paper():
    network = positive({"depth": 4})
    changed = reached(network, (188, 204), 1, positions=[0, 203])
    # 204 pixels give 20: the first and the last of them stand 92 pixels from either end.
    assert changed.shape == (2, 20)
    assert changed[0, 0]
    assert changed[1, -1]


@pytest.mark.parametrize("parameters", NETWORKS.values(), ids=NETWORKS.keys())
def test_output_stands_in_the_middle_of_the_input(parameters):
    network = positive(parameters)
    geometry = network.geometry
    convolutions = 2
    if parameters["depth"]:
        # Without what comes up from below, only the level of full resolution is left: four convolutions.
        convolutions = 4
        for parameter in network.upsamplers[-1].parameters():
            nn.init.zeros_(parameter)
    kernel = parameters.get("kernel_sizes", ((3,) * geometry.ndim,))[0]
    shape = [minimum + stride for minimum, stride in zip(geometry.minimum, geometry.stride, strict=True)]
    for axis, context in enumerate(geometry.context):
        inputs, outputs = np.nonzero(reached(network, shape, axis))
        distance = inputs - (outputs + context)
        radius = convolutions * (kernel[axis] // 2)
        assert (distance.min(), distance.max()) == (-radius, radius)


@pytest.mark.parametrize("parameters", NETWORKS.values(), ids=NETWORKS.keys())
def test_moving_by_the_stride_moves_the_output(parameters):
    network = build("unet", {"base_channels": 2, "dropout": 0.0, **parameters}).eval().double()
    geometry = network.geometry
    shape = [minimum + 2 * stride for minimum, stride in zip(geometry.minimum, geometry.stride, strict=True)]
    image = torch.rand(1, 1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = network(image)
        moved = network(image[(..., *(slice(stride, None) for stride in geometry.stride))])
    expected = whole[(..., *(slice(stride, None) for stride in geometry.stride))]
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("parameters", NETWORKS.values(), ids=NETWORKS.keys())
def test_smallest_legal_size_is_the_smallest(parameters):
    network = positive(parameters)
    geometry = network.geometry
    with torch.inference_mode():
        assert network(torch.ones(1, 1, *geometry.minimum, dtype=torch.float64)).shape[2:] == tuple(
            geometry.output_size(geometry.minimum)
        )
        smaller = [minimum - stride for minimum, stride in zip(geometry.minimum, geometry.stride, strict=True)]
        network.geometry = Geometry(geometry.context, geometry.stride, tuple(smaller))  # lets the size through
        with pytest.raises(RuntimeError):
            network(torch.ones(1, 1, *smaller, dtype=torch.float64))


@pytest.mark.parametrize("depth", range(1, 7))
def test_context_of_the_paper(depth):
    geometry = unet_geometry([(3, 3)] * (depth + 1), [(2, 2)] * depth)
    assert geometry.context == (6 * 2**depth - 4,) * 2
    assert geometry.stride == (2**depth,) * 2


def test_the_papers_network():
    network = build("unet")
    assert network.geometry.output_size((572, 572)) == (388, 388)
    assert network.geometry.context == (92, 92)
    assert parameter_count(network) == 31_030_658
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    assert sum(isinstance(module, kinds) for module in network.modules()) == 23


def test_the_3d_papers_network():
    network = build(
        "unet",
        {
            "ndim": 3,
            "in_channels": 3,
            "num_classes": 3,
            "base_channels": 32,
            "depth": 3,
            "batch_norm": True,
            "doubling": "before_pooling",
            "dropout": 0.0,
        },
    )
    assert parameter_count(network) == 19_075_523
    # Section 2: an input of 132 x 132 x 116 gives 44 x 44 x 28.
    assert network.geometry.output_size((116, 132, 132)) == (28, 44, 44)


@pytest.mark.parametrize("depth", range(1, 5))
def test_every_illegal_size_is_refused_naming_the_nearest(depth):
    geometry = unet_geometry([(3, 3)] * (depth + 1), [(2, 2)] * depth)
    minimum, stride = geometry.minimum[0], geometry.stride[0]
    for size in range(1, minimum + 3 * stride + 1):
        legal = size >= minimum and (size - minimum) % stride == 0
        assert geometry.is_legal((minimum, size)) == legal
        if legal:
            geometry.check((minimum, size))
            continue
        below = minimum + (size - minimum) // stride * stride
        nearest = f"{minimum}$" if size < minimum else f"{below} and {below + stride}$"
        with pytest.raises(
            GeometryError, match=rf"input size {size} along axis 1 .* nearest legal sizes are {nearest}"
        ):
            geometry.check((minimum, size))


def test_network_refuses_an_illegal_size():
    network = build("unet", {"base_channels": 1, "depth": 2})
    with pytest.raises(GeometryError, match="nearest legal sizes are 64 and 68"):
        network(torch.zeros(1, 1, 64, 66))


def test_wrong_number_of_axes_is_refused():
    geometry = unet_geometry([(3, 3)] * 2, [(2, 2)])
    with pytest.raises(GeometryError, match=r"takes 2 spatial axes, the input has 3: \(20, 20, 20\)"):
        geometry.check((20, 20, 20))
    assert not geometry.is_legal((20, 20, 20))


@pytest.mark.parametrize("bilinear", [False, True])
def test_input_size_is_the_smallest_that_covers(bilinear):
    geometry = unet_geometry([(3, 3)] * 3, [(2, 2)] * 2, bilinear=bilinear)
    legal = [size for size in range(1, 200) if geometry.is_legal((size, geometry.minimum[1]))]
    for output in range(1, 60):
        expected = next(size for size in legal if size - 2 * geometry.context[0] >= output)
        assert geometry.input_size((output, 1))[0] == expected


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("pooling", [2, 3])
def test_padded_network_keeps_the_size_and_looks_no_further_than_its_context(depth, kernel, pooling):
    parameters = {"kernel_sizes": ((kernel, 1),) * (depth + 1), "poolings": ((pooling, 1),) * depth}
    network = positive({"depth": depth, "padding": "same", **parameters})
    (context, _), (stride, _) = network.geometry.context, network.geometry.stride
    # One context more than needed on either side, so that a longer reach would show
    size = 4 * context + stride
    changed = reached(network, (size, 3), 0)
    assert changed.shape == (size, size)
    assert network.geometry.output_size((size, 3)) == (size - 2 * context, 3)
    # A tile begins and ends at multiples of the stride.
    before = 2 * context - np.flatnonzero(changed[:, 2 * context]).min()
    behind = np.flatnonzero(changed[:, 2 * context + stride - 1]).max() - (2 * context + stride - 1)
    assert before == behind
    assert context - stride < before <= context


def test_anisotropic_levels_spare_the_coarse_axis():
    kernels, poolings = anisotropic_levels((5.0, 1.0, 1.0), 3)
    # 5:1, then 5:2, then 5:4, which is nearly a cube
    assert kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert poolings == ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert unet_geometry(kernels, poolings).stride == (2, 8, 8)
    assert anisotropic_levels((1.0, 1.0), 1) == (((3, 3), (3, 3)), ((2, 2),))


def test_geometry_is_known_without_building():
    architecture = networks.find("unet")
    parameters = architecture.complete({"depth": 3, "base_channels": 1})
    assert architecture.geometry(parameters) == build("unet", parameters).geometry


def test_registry_names_what_there_is():
    assert "unet" in networks.names()
    with pytest.raises(UsageError, match=r"no network named 'u-net'; there are: .*unet"):
        networks.find("u-net")
    with pytest.raises(UsageError, match="unet has no parameter channels, level; it has arithmetic, attention,"):
        build("unet", {"level": 3, "channels": 1})
    with pytest.raises(ValueError, match="'unet' is registered already"):
        networks.register(networks.find("unet"))


def test_upsamplings_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="upsampling is 'cubic'; it must be one of transposed, nearest"):
        build("unet", {"base_channels": 1, "upsampling": "cubic"})
    with pytest.raises(UsageError, match="the rim is cropped after bilinear upsampling"):
        build("unet", {"base_channels": 1, "upsampling": "bilinear", "padding": "same"})


def test_max_unpooling_puts_values_back_where_the_maximum_was():
    pooled_from = torch.tensor([[1.0, 5, 2, 2], [0, 3, 2, 2], [7, 0, 0, 0], [0, 0, 0, 9]])[None, None]
    features = torch.tensor([[10.0, 20], [30, 40]])[None, None]
    # The window of equal values keeps its first place.
    expected = torch.tensor([[0.0, 10, 20, 0], [0, 0, 0, 0], [30, 0, 0, 0], [0, 0, 0, 40]])[None, None]
    assert torch.equal(blocks.max_unpool(features, pooled_from, (2, 2)), expected)


def test_bilinear_upsampling_interpolates_between_centres():
    values = torch.tensor([0.0, 4.0, 8.0]).reshape(1, 1, 3, 1)
    # Centres a quarter and three quarters of the way, without the outermost ones
    assert blocks.bilinear(values, (2, 1)).flatten().tolist() == [1.0, 3.0, 5.0, 7.0]


def test_initialisation_has_the_variance_of_the_paper():
    network = build("unet", {"base_channels": 32, "depth": 2})
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            incoming = module.in_channels * prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx((2 / incoming) ** 0.5, rel=0.05)
            assert not module.bias.any()
