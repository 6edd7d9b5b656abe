"""Decisions and classes are the same for every tile size: what is in doubt is looked at in float64."""

from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_cases import DEPTH_2, NETWORKS, FakePredictor, NoisyPredictor, random_image, trained_looking

from unetbio.errors import UsageError
from unetbio.geometry import unet_geometry
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import decide, decide_classes, plan, predict


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
    image[0, 17, 17] = image[0, 18, 18] = image[0, 100, 150] = np.float32(0.5)
    image[0, 101, 150] = 0.2
    assert decide(image, predictor, [0.5]).sum() == 200 * 200 - 1
    assert predictor.float64_shapes == [(1, 1, *DEPTH_2.input_size((4, 4)))] * 2


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


class RowsRead:
    """An image whose reads by rows are counted; the same rows one after another are read once."""

    def __init__(self, image):
        self.image, self.shape, self.dtype, self.rows = image, image.shape, image.dtype, []

    def __getitem__(self, index):
        rows = index[1].indices(self.shape[1])
        if self.rows[-1:] != [rows]:
            self.rows.append(rows)
        return self.image[index]


def test_the_second_look_reads_the_rows_of_an_image_once():
    image = np.full((1, 64, 640), 0.9, dtype=np.float32)
    doubtful = np.random.default_rng(0).integers(0, (64, 640), (30, 2)).T
    image[(0, *doubtful)] = np.float32(0.5)
    read = RowsRead(image)
    assert np.array_equal(decide(read, FakePredictor(), [0.5], tile=640), decide(image, FakePredictor(), [0.5]))
    # The first look reads all rows too.
    assert 3 < len(read.rows) <= len(set(read.rows)) + 1


def test_decisions_for_another_class_and_probabilities_on_the_way():
    image = random_image(50, 61)
    out = np.zeros((2, 50, 61), dtype=np.float32)
    decided = decide(image, FakePredictor(), [0.25], classes=[[0]], tile=16, probabilities_out=out)
    assert np.array_equal(decided[0], 1 - image[0].astype(float) >= 0.25)
    assert np.array_equal(out, predict(image, FakePredictor()))


@pytest.mark.parametrize("tile", [16, 100])
def test_the_probability_of_the_class_is_kept_in_a_byte_a_pixel(tile):
    image = random_image(50, 61)
    # The ends, and what lies just above and beneath the middle of two bytes.
    image[0, 0, :4] = 0, 1, 100.51 / 255, 100.49 / 255
    rounded = np.zeros((50, 61), dtype=np.uint8)
    decided = decide(image, FakePredictor(), [0.25], tile=tile, rounded_out=rounded)
    assert rounded[0, :4].tolist() == [0, 255, 101, 100]
    assert np.abs(rounded / 255 - image[0]).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(decided, decide(image, FakePredictor(), [0.25], tile=tile))
    of_ground = np.zeros((50, 61), dtype=np.uint8)
    decide(image, FakePredictor(), [0.25], classes=[[0]], rounded_out=of_ground)
    assert np.abs(rounded.astype(int) + of_ground - 255).max() <= 1


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


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    tile=st.integers(1, 64),
    batch_size=st.sampled_from([1, 4]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_sums_of_classes_are_decided_whatever_the_noise(shape, tile, batch_size, seed):
    rng = np.random.default_rng(seed)
    # The first and last together, or the first alone, lie within the noise of a threshold or on it in most pixels.
    first = np.where(rng.random(shape) < 0.3, 0.45, 0.4) + rng.integers(-3, 4, shape) * 5e-7
    second = np.where(rng.random(shape) < 0.5, 0.5, 0.1) + rng.integers(-3, 4, shape) * 5e-7
    image = np.stack([first, second]).astype(np.float32)
    decided = decide(
        image, ThreeClasses(), [0.5, 0.4, 0.45], classes=[[0, 2], [0], [0]], tile=tile, batch_size=batch_size
    )
    exact = image.astype(np.float64)
    assert np.array_equal(decided, np.stack([exact[1] <= 0.5, exact[0] >= 0.4, exact[0] >= 0.45]))


def test_a_sum_of_classes_is_rounded_as_one():
    image = np.stack([np.full((9, 9), 0.4), np.full((9, 9), 0.2)]).astype(np.float32)
    rounded = np.empty((9, 9), np.uint8)
    assert decide(image, ThreeClasses(), [0.5], classes=[[1, 2]], rounded_out=rounded).all()
    assert (rounded == round(0.6 * 255)).all()


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
        decide(random_image(9, 9), FakePredictor(), [0.5], classes=[[2]])


def striped(where):
    """Pixels of an area: every second stripe of eight columns, in the lower half of 40 rows."""
    rows, columns = (where or (slice(None), slice(None)))[-2:]
    row, column = np.arange(40)[rows][:, None], np.arange(90)[columns]
    return (row >= 20) & (column // 8 % 2 == 0)


@pytest.mark.parametrize("tile", [4, 12, 64])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("shape", [(40, 90), (3, 40, 90)])
def test_outside_an_area_all_is_background(tile, batch_size, shape):
    geometry = DEPTH_2 if len(shape) == 2 else unet_geometry([(3, 3, 3)] * 2, [(2, 2, 2)])
    image = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    predictor = NoisyPredictor(geometry)
    probabilities = np.full((2, *shape), np.nan, np.float32)
    done = []
    decided = decide(
        image,
        predictor,
        [0.5],
        tile=tile,
        batch_size=batch_size,
        area=striped,
        probabilities_out=probabilities,
        progress=lambda pixels, total: done.append(pixels),
    )
    computed = sum(batch[0] for batch in predictor.shapes)
    inside = np.broadcast_to(striped(()), shape)
    np.testing.assert_array_equal(decided[0], (image[0] >= 0.5) & inside)
    np.testing.assert_array_equal(probabilities[:, ~inside], np.repeat([[1], [0]], (~inside).sum(), axis=1))
    np.testing.assert_allclose(probabilities[1, inside], image[0, inside], atol=2e-6)
    np.testing.assert_array_equal(decide_classes(image, predictor, tile=tile, area=striped), decided[0])
    assert done[-1] == prod(shape)
    # The upper half is in no tile that is computed, but for those that reach into the lower half.
    assert tile > 20 or computed < len(plan(shape, predictor, tile=tile))


def test_nothing_is_in_doubt_outside_an_area():
    # Far above the limits of grey values rounding is large, and all pixels are in doubt.
    image = np.full((1, 40, 90), 0.5, np.float32)
    image[0, 0, 0] = 1e6
    np.testing.assert_array_equal(decide(image, FakePredictor(), [0.5], area=striped)[0], striped(()))
