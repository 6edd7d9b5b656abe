"""Overlap-tile inference: tiles never change the answer."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from unetbio.architectures.unet import UNET_CHOICES
from unetbio.errors import EnvironmentStoppedError, GeometryError, ImageError, UsageError
from unetbio.geometry import Geometry, unet_geometry
from unetbio.inference import TorchPredictor, choose_device, decide, decide_classes, plan, predict
from unetbio.networks import build
from unetbio.predictor import fold_batch_norm

DEPTH_2 = unet_geometry([(3, 3)] * 3, [(2, 2)] * 2)


class FakePredictor:
    """Two classes whose probabilities are those of one pixel of the image: ``1 - x`` and ``x``."""

    num_classes = 2
    memory_budget = 1 << 40

    exact = True

    def __init__(self, geometry: Geometry = DEPTH_2):
        self.geometry = geometry
        self.shapes: list[tuple[int, ...]] = []
        self.float64_shapes: list[tuple[int, ...]] = []

    def inner(self, batch):
        self.geometry.check(batch.shape[2:])
        return batch[
            (
                slice(None),
                0,
                *(slice(lost, size - lost) for lost, size in zip(self.geometry.context, batch.shape[2:], strict=True)),
            )
        ]

    def probabilities(self, batch):
        self.shapes.append(batch.shape)
        inner = self.inner(batch)
        return np.stack([1 - inner, inner], axis=1)

    def probabilities_float64(self, batch):
        self.float64_shapes.append(batch.shape)
        inner = self.inner(batch.astype(np.float64))
        return np.stack([1 - inner, inner], axis=1)

    def multiply_adds(self, input_shape):
        return prod(input_shape)

    def memory_bytes(self, input_shape):
        return prod(input_shape)


class NoisyPredictor(FakePredictor):
    """Float32 probabilities off by up to 1e-6, otherwise in each call; exact in float64."""

    def probabilities(self, batch):
        answer = super().probabilities(batch)
        noise = np.random.default_rng(len(self.shapes)).uniform(-1e-6, 1e-6, answer.shape)
        return (answer + noise).astype(np.float32)


class SmallPredictor(FakePredictor):
    """A device whose memory ends at a number of pixels."""

    def __init__(self, largest: int, error: Exception):
        super().__init__()
        self.largest = largest
        self.error = error

    def probabilities(self, batch):
        if prod(batch.shape) > self.largest:
            self.shapes.append(batch.shape)
            raise self.error
        return super().probabilities(batch)

    def probabilities_float64(self, batch):
        if prod(batch.shape) > self.largest:
            raise self.error
        return super().probabilities_float64(batch)


def random_image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((1, *shape), dtype=np.float32)


# --- The property: real networks, any tiles, any batch, any number of threads ---------------------------------------

NETWORKS = {
    "2-D": ({"base_channels": 6, "depth": 2, "batch_norm": True}, (75, 98)),
    "2-D, depth 3": ({"base_channels": 4, "depth": 3}, (95, 71)),
    "2-D, two channels, nearest": (
        {"base_channels": 4, "depth": 1, "in_channels": 2, "upsampling": "nearest"},
        (61, 40),
    ),
    "2-D, bilinear": ({"base_channels": 4, "depth": 2, "upsampling": "bilinear"}, (50, 63)),
    "2-D, padded": ({"base_channels": 4, "depth": 2, "padding": "same", "batch_norm": True}, (57, 66)),
    "2-D, one pixel": ({"base_channels": 4, "depth": 2}, (1, 1)),
    "3-D": ({"ndim": 3, "base_channels": 3, "depth": 1, "batch_norm": True}, (11, 26, 17)),
    "3-D, anisotropic": (
        {
            "ndim": 3,
            "base_channels": 3,
            "depth": 2,
            "kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
            "poolings": ((1, 2, 2), (2, 2, 2)),
        },
        (7, 24, 33),
    ),
}


def trained_looking(parameters: dict[str, object], seed: int = 0) -> nn.Module:
    """A network with random weights, and batch norm statistics as if it had seen images."""
    torch.manual_seed(seed)
    network = build("unet", parameters)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.3)
    return network.eval()


@cache
def case_of(name: str):
    """Predictor, image, thresholds that are hard to meet, and the answers for the whole image."""
    parameters, shape = NETWORKS[name]
    predictor = TorchPredictor(trained_looking(parameters))
    image = np.random.default_rng(1).random((predictor.in_channels, *shape), dtype=np.float32)
    probabilities = predict(image, predictor)
    # Probabilities that occur, so that some pixel always lies on the threshold, but few do: quantiles in the tails
    thresholds = [float(value) for value in np.quantile(probabilities[1], [0.05, 0.5, 0.99], method="nearest")]
    thresholds = [min(max(value, 1e-3), 1 - 1e-3) for value in thresholds]
    planes = decide(image, predictor, thresholds)
    return predictor, image, thresholds, probabilities, planes


@pytest.fixture(autouse=True)
def _restore_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@given(
    name=st.sampled_from(sorted(NETWORKS)),
    tile=st.integers(1, 130),
    batch_size=st.sampled_from([1, 4]),
    threads=st.sampled_from([1, 2]),
)
@example(name="2-D", tile=33, batch_size=4, threads=2)
@example(name="2-D, depth 3", tile=52, batch_size=1, threads=2)
@example(name="2-D, one pixel", tile=1, batch_size=4, threads=1)
@example(name="3-D, anisotropic", tile=7, batch_size=4, threads=2)
@settings(max_examples=20, deadline=None)
def test_tiles_never_change_the_answer(name, tile, batch_size, threads):
    predictor, image, thresholds, probabilities, planes = case_of(name)
    torch.set_num_threads(threads)
    # Tiny tiles of a large context take long: no smaller than an eighth of the longest axis.
    tile = max(tile, max(image.shape[1:]) // 8)
    tiled = np.empty_like(probabilities)
    decided = decide(image, predictor, thresholds, tile=tile, batch_size=batch_size, probabilities_out=tiled)
    assert np.abs(tiled - probabilities).max() <= 1e-5
    assert np.array_equal(decided, planes)


@pytest.mark.parametrize("upsampling", UNET_CHOICES["upsampling"])
def test_smooth_images_are_tiled_exactly(upsampling):
    # Ties between the values of a pooling window, which noise never has.
    parameters = {"base_channels": 8, "depth": 2, "upsampling": upsampling}
    predictor = TorchPredictor(trained_looking(parameters))
    ramp = np.broadcast_to(np.linspace(0, 1, 96, dtype=np.float32), (1, 96, 96)).copy()
    flat = np.full_like(ramp, 0.3)
    flat[:, 20:40, 30:70] = 0.8
    differences = [
        np.abs(predict(image, predictor, tile=tile) - predict(image, predictor)).max()
        for image in (ramp, flat)
        for tile in (4, 12, 52)
    ]
    assert max(differences) <= 1e-5


def test_large_grey_values_widen_what_is_decided_in_float64():
    # Rounding grows with the input: at 60 000 a few thousandths, beyond a tolerance meant for values about 1.
    predictor = TorchPredictor(trained_looking({"base_channels": 6, "depth": 2, "batch_norm": True}))
    image = random_image(75, 98) * np.float32(60_000)
    whole = predict(image, predictor)
    thresholds = [min(max(float(np.quantile(whole[1], share)), 1e-3), 1 - 1e-3) for share in (0.2, 0.5, 0.8)]
    planes = decide(image, predictor, thresholds)
    for tile in (4, 20, 37):
        assert np.array_equal(decide(image, predictor, thresholds, tile=tile), planes)


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_image_is_the_network_over_the_mirrored_image(name):
    parameters, shape = NETWORKS[name]
    predictor, image, _, probabilities, _ = case_of(name)
    geometry = predictor.geometry
    sizes = geometry.input_size(shape)
    before = [(context, size) for context, size in zip(geometry.context, sizes, strict=True)]
    widths = [(lost, size - lost - length) for (lost, size), length in zip(before, shape, strict=True)]
    mirrored = torch.from_numpy(np.pad(image, [(0, 0), *widths], mode="reflect"))[None]
    with torch.no_grad():
        expected = trained_looking(parameters)(mirrored).softmax(1)[0].numpy()
    begin = geometry.context if geometry.padding == "same" else (0,) * geometry.ndim
    expected = expected[(slice(None), *(slice(b, b + n) for b, n in zip(begin, shape, strict=True)))]
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)


# --- Decisions ------------------------------------------------------------------------------------------------------


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    tile=st.integers(1, 64),
    batch_size=st.sampled_from([1, 4]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_noise_around_the_thresholds_changes_nothing(shape, tile, batch_size, seed):
    thresholds = (0.3, 0.5, 0.7)
    rng = np.random.default_rng(seed)
    # Half of the pixels within the noise of a threshold, or on it; the others anywhere
    near = rng.choice(thresholds, shape) + rng.integers(-3, 4, shape) * 5e-7
    image = np.where(rng.random(shape) < 0.5, near, rng.random(shape))[None].astype(np.float32)
    decided = decide(image, NoisyPredictor(), thresholds, tile=tile, batch_size=batch_size)
    expected = np.stack([image[0].astype(np.float64) >= threshold for threshold in thresholds])
    assert np.array_equal(decided, expected)


def test_noise_would_change_decisions_without_the_second_look():
    image = np.full((1, 40, 40), 0.5, dtype=np.float32)
    above = [predict(image, NoisyPredictor(), tile=tile)[1] >= 0.5 for tile in (8, 40)]
    assert (above[0] != above[1]).any()
    decided = [decide(image, NoisyPredictor(), [0.5], tile=tile) for tile in (8, 40)]
    assert np.array_equal(decided[0], decided[1])


def test_a_probability_that_equals_the_threshold_is_above_it():
    image = np.full((1, 9, 9), 0.5, dtype=np.float32)
    assert decide(image, FakePredictor(), [0.5]).all()
    # As exact as float64 is: off by its rounding, a tie is still a tie.
    predictor = FakePredictor()
    predictor.probabilities_float64 = lambda batch: FakePredictor().probabilities_float64(batch) - 1e-15
    assert decide(image, predictor, [0.5]).all()


def test_only_doubtful_pixels_take_a_second_look():
    image = np.full((1, 200, 200), 0.9, dtype=np.float32)
    predictor = FakePredictor()
    decide(image, predictor, [0.5])
    assert predictor.float64_shapes == []
    # Two in one block, one in another with other surroundings: two passes, over no more than their receptive field
    image[0, 17, 17] = image[0, 18, 20] = image[0, 100, 150] = np.float32(0.5)
    image[0, 101, 150] = 0.2
    assert decide(image, predictor, [0.5]).sum() == 200 * 200 - 1
    assert predictor.float64_shapes == [(1, 1, *DEPTH_2.input_size((8, 8)))] * 2


def test_a_flat_image_in_doubt_everywhere_takes_few_blocks():
    predictor = FakePredictor()
    assert decide(np.full((1, 300, 300), 0.5, dtype=np.float32), predictor, [0.5]).all()
    # One of the inner blocks, and those that end with the image: at the right, at the bottom, in the corner
    assert len(predictor.float64_shapes) == 4


def test_an_image_in_doubt_everywhere_takes_large_blocks():
    image = 0.5 + np.random.default_rng(0).integers(-9, 10, (1, 300, 300)).astype(np.float32) * np.float32(1e-7)
    predictor = FakePredictor()
    decided = decide(image, predictor, [0.5])
    assert np.array_equal(decided[0], image[0].astype(float) >= 0.5)
    assert sum(map(prod, predictor.float64_shapes)) < 4 * image.size


def test_blocks_stay_small_where_memory_is():
    image = 0.5 + random_image(96, 96) * np.float32(1e-6)
    predictor = FakePredictor()
    predictor.memory_budget = 2 * prod(DEPTH_2.input_size((16, 16)))
    decide(image, predictor, [0.5])
    assert set(predictor.float64_shapes) == {(1, 1, *DEPTH_2.input_size((16, 16)))}


def test_decisions_for_another_class_and_probabilities_on_the_way():
    image = random_image(50, 61)
    out = np.zeros((2, 50, 61), dtype=np.float32)
    decided = decide(image, FakePredictor(), [0.25], class_index=0, tile=16, probabilities_out=out)
    assert np.array_equal(decided[0], 1 - image[0].astype(float) >= 0.25)
    assert np.array_equal(out, predict(image, FakePredictor()))


class ThreeClasses(FakePredictor):
    """Three classes whose probabilities are two channels of the image and what they leave."""

    num_classes = 3

    def parts(self, batch):
        one, two = (self.inner(batch[:, channel : channel + 1]) for channel in (0, 1))
        return np.stack([one, two, 1 - one - two], axis=1)

    def probabilities(self, batch):
        self.shapes.append(batch.shape)
        noise = np.random.default_rng(len(self.shapes)).uniform(-1e-6, 1e-6)
        return (self.parts(batch) + noise * np.array([1, -1, 0]).reshape(3, *[1] * (batch.ndim - 2))).astype(np.float32)

    def probabilities_float64(self, batch):
        self.float64_shapes.append(batch.shape)
        return self.parts(batch.astype(np.float64))


@pytest.mark.parametrize("tile", [8, 20, 300])
def test_classes_are_the_most_probable_ones_whatever_the_noise(tile):
    # Two classes share nearly all; they differ by less than the noise in half of the pixels, and not at all in some.
    rng = np.random.default_rng(0)
    close = rng.choice([-3e-7, 0.0, 3e-7, 0.05], (50, 70))
    image = np.stack([0.45 + close, np.full_like(close, 0.45)]).astype(np.float32)
    expected = np.where(image[0] >= image[1], 0, 1)
    found = decide_classes(image, ThreeClasses(), tile=tile)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_only_pixels_whose_two_best_classes_are_close_take_a_second_look():
    image = np.full((2, 40, 40), 0.1, np.float32)
    predictor = ThreeClasses()
    assert (decide_classes(image, predictor) == 2).all()
    assert predictor.float64_shapes == []
    image[:, 5, 5] = 0.4
    decide_classes(image, predictor)
    assert len(predictor.float64_shapes) == 1


def test_classes_that_are_equally_probable_go_to_the_lowest():
    predictor = ThreeClasses()
    image = np.full((2, 9, 9), 0.4, np.float32)
    # As exact as float64 is: off by its rounding, a tie is still a tie.
    exact = predictor.probabilities_float64
    off = np.array([-1e-15, 0, 0]).reshape(3, 1, 1)
    predictor.probabilities_float64 = lambda batch: exact(batch) + off
    assert not decide_classes(image, predictor).any()


@pytest.mark.parametrize("name", ["2-D", "3-D"])
def test_classes_of_real_networks_do_not_depend_on_tiles(name):
    parameters, shape = NETWORKS[name]
    network = trained_looking({**parameters, "num_classes": 4})
    image = random_image(*shape)
    with torch.no_grad():
        # Every class has its pixels: the logits of all have the same mean.
        logits = np.log(predict(image, TorchPredictor(network))).reshape(4, -1)
        network.head.bias -= torch.from_numpy(logits.mean(axis=1))
    predictor = TorchPredictor(network)
    whole = decide_classes(image, predictor)
    assert len(np.unique(whole)) == 4
    probabilities = np.empty((4, *shape), np.float32)
    tiled = decide_classes(image, predictor, tile=13, batch_size=2, probabilities_out=probabilities)
    assert np.array_equal(tiled, whole)
    np.testing.assert_allclose(probabilities, predict(image, predictor), rtol=0, atol=1e-5)


def test_classes_of_a_network_that_is_not_exact_come_from_windows():
    predictor = TorchPredictor(trained_looking({"base_channels": 2, "depth": 1, "num_classes": 3}), exact=False)
    image = random_image(40, 50)
    probabilities = np.empty((3, 40, 50), np.float32)
    found = decide_classes(image, predictor, probabilities_out=probabilities)
    assert np.array_equal(found, probabilities.argmax(axis=0))


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5, float("nan")])
def test_thresholds_out_of_range_are_refused(threshold):
    with pytest.raises(UsageError, match=r"cannot be used: give one from 0\.0001 to 0\.9999"):
        decide(random_image(9, 9), FakePredictor(), [0.5, threshold])


def test_unknown_class_is_refused():
    with pytest.raises(UsageError, match="there is no class 2: the network has classes 0 to 1"):
        decide(random_image(9, 9), FakePredictor(), [0.5], class_index=2)


# --- Tiles over an image --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (3, 2), (45, 44), (130, 67)])
def test_any_size_is_put_together(shape):
    image = np.arange(prod(shape), dtype=np.float32).reshape(1, *shape)
    for tile, batch_size in ((None, 1), (8, 4), (50, 3)):
        result = predict(image, FakePredictor(), tile=tile, batch_size=batch_size)
        assert result.dtype == np.float32
        assert np.array_equal(result[1], image[0])


def test_batches_hold_tiles_of_one_shape():
    predictor = FakePredictor()
    predict(random_image(100, 90), predictor, tile=32, batch_size=4)
    assert max(shape[0] for shape in predictor.shapes) == 4
    assert sum(shape[0] for shape in predictor.shapes) == 4 * 3


def test_a_batch_shares_the_memory_budget():
    predictor = FakePredictor()
    for batch_size in (1, 4):
        tiles = plan((400, 400), predictor, batch_size=batch_size, memory_budget=40_000)
        assert max(prod(tile.read_shape) for tile in tiles) <= 40_000 // batch_size


def test_the_image_is_read_tile_by_tile():
    class Lazy:
        shape = (1, 300, 300)
        largest = 0

        def __getitem__(self, index):
            part = np.zeros(self.shape, dtype=np.uint16)[index]
            self.largest = max(self.largest, part.size)
            return part

    image = Lazy()
    assert (predict(image, FakePredictor(), tile=64)[0] == 1).all()
    assert image.largest == prod(DEPTH_2.input_size((64, 64)))


def test_progress_ends_with_all_pixels():
    seen = []
    predict(random_image(50, 40), FakePredictor(), tile=16, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2000, 2000)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_wrong_axes_and_batches_are_refused():
    with pytest.raises(UsageError, match="takes 2 spatial axes, the image has 3"):
        predict(random_image(4, 50, 50), FakePredictor())
    with pytest.raises(UsageError, match="a batch of 0 tiles cannot be run: give 1 or more"):
        predict(random_image(50, 50), FakePredictor(), batch_size=0)
    with pytest.raises(ImageError, match="is empty"):
        predict(random_image(0, 50), FakePredictor())


# --- Out of memory --------------------------------------------------------------------------------------------------

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_out_of_memory_shrinks_the_tiles_and_keeps_the_answer(error, batch_size):
    image = random_image(150, 170)
    image[0, 5, 5] = 0.5
    predictor = SmallPredictor(5000, error)
    decided = decide(image, predictor, [0.5], tile=80, batch_size=batch_size)
    assert np.array_equal(decided[0], image[0] >= 0.5)
    sizes = [prod(shape) for shape in predictor.shapes]
    failed = [size for size in sizes if size > 5000]
    # What failed is not tried again, nor anything nearly as large.
    assert all(after <= 0.75 * before for before, after in pairwise(failed))


def test_out_of_memory_in_float64_shrinks_the_blocks():
    image = 0.5 + random_image(60, 60) * np.float32(1e-6) - np.float32(5e-7)
    predictor = SmallPredictor(46 * 46, OUT_OF_MEMORY[1])
    decided = decide(image, predictor, [0.5])
    assert np.array_equal(decided[0], image[0].astype(float) >= 0.5)


def test_no_room_for_the_smallest_tile_stops_the_run():
    predictor = SmallPredictor(100, OUT_OF_MEMORY[0])
    with pytest.raises(
        EnvironmentStoppedError, match=r"cannot hold even the smallest tile .* pixels of input"
    ) as caught:
        predict(random_image(100, 100), predictor)
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_out_of_memory():
    with pytest.raises(RuntimeError, match="Expected all tensors"):
        predict(random_image(50, 50), SmallPredictor(1, RuntimeError("Expected all tensors to be on the same device")))


# --- The network as a predictor -------------------------------------------------------------------------------------


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
    monkeypatch.setattr("unetbio.predictor.COLUMN_BYTES", 20_000)
    np.testing.assert_allclose(predictor.probabilities_float64(batch), at_once, rtol=0, atol=1e-13)


def test_autocast_around_does_not_reach_the_network():
    predictor, image, _, probabilities, _ = case_of("2-D")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(predict(image, predictor), probabilities)


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


# --- Devices --------------------------------------------------------------------------------------------------------


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: Sequence[str] = (), mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cuda))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: cuda[device.index])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("text", "cuda", "mps", "device", "reason"),
    [
        ("auto", ["A100"], True, "cuda:0", "A100 was found"),
        ("auto", [], True, "mps", "an Apple GPU was found"),
        ("auto", [], False, "cpu", "no CUDA device and no Apple GPU was found"),
        ("cpu", ["A100"], False, "cpu", "as asked"),
        ("cuda", ["A100"], False, "cuda:0", "A100, as asked"),
        ("cuda:1", ["A100", "T4"], False, "cuda:1", "T4, as asked"),
        ("mps", [], True, "mps", "as asked"),
    ],
)
def test_device_is_chosen_and_explained(monkeypatch, text, cuda, mps, device, reason):
    pretend(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device(text) == (torch.device(device), reason)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuda", "'cuda' is not available: PyTorch sees 0 CUDA devices; try --device auto"),
        ("cuda:3", "'cuda:3' is not available: PyTorch sees 0 CUDA devices"),
        ("mps", "PyTorch sees no Apple GPU"),
        ("gpu", "there is no device 'gpu': give auto, cpu, cuda, cuda:N or mps"),
        ("cuda:x", "there is no device 'cuda:x'"),
        ("cuda:", "there is no device 'cuda:'"),
        ("cpu:0", "there is no device 'cpu:0'"),
    ],
)
def test_missing_devices_are_refused(monkeypatch, text, message):
    pretend(monkeypatch)
    with pytest.raises(UsageError, match=message):
        choose_device(text)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", NETWORKS)
def test_cuda_decides_as_the_cpu(name):
    _, image, thresholds, probabilities, planes = case_of(name)
    predictor = TorchPredictor(trained_looking(NETWORKS[name][0]), "cuda")
    out = np.empty_like(probabilities)
    assert np.array_equal(decide(image, predictor, thresholds, tile=30, probabilities_out=out), planes)
    assert np.abs(out - probabilities).max() <= 1e-5
