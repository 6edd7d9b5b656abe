"""Averages over networks, and over mirrored and turned images: tiles never change the answer here either."""

from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inference_cases import NETWORKS, random_image, trained_looking

from unetbio.geometry import Geometry, unet_geometry
from unetbio.inference.averaging import AveragedPredictor, symmetries
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import decide, plan, predict
from unetbio.inference.tiling import read_mirrored

SHALLOW = {"base_channels": 4, "depth": 1}
DEEP = {"base_channels": 4, "depth": 2}


def network(parameters, seed=0):
    return TorchPredictor(trained_looking(parameters, seed))


@cache
def averaged_case(name):
    """Predictor, image, thresholds that are hard to meet, and the answers for the whole image."""
    if name == "two depths":
        predictor, shape = AveragedPredictor([network(DEEP), network(SHALLOW, 1)], augment=True), (31, 42)
    else:
        parameters, shape = NETWORKS[name]
        predictor = AveragedPredictor([network(parameters)], augment=True)
    channels = 2 if "two channels" in name else 1
    image = np.random.default_rng(1).random((channels, *shape), dtype=np.float32)
    probabilities = predict(image, predictor)
    thresholds = np.quantile(probabilities[1], [0.1, 0.9], method="nearest").clip(0.001, 0.999).tolist()
    return predictor, image, thresholds, probabilities, decide(image, predictor, thresholds)


@given(name=st.sampled_from([*sorted(NETWORKS), "two depths"]), tile=st.integers(9, 60))
@example(name="two depths", tile=12)
@example(name="3-D, anisotropic", tile=9)
@settings(max_examples=3, deadline=None)
def test_tiles_never_change_the_mean(name, tile):
    predictor, image, thresholds, probabilities, planes = averaged_case(name)
    tile = max(tile, max(image.shape[1:]) // 3)
    tiled = np.empty_like(probabilities)
    decided = decide(image, predictor, thresholds, tile=tile, batch_size=2, probabilities_out=tiled)
    assert np.abs(tiled - probabilities).max() <= predictor.error_bound
    assert np.array_equal(decided, planes)


def test_the_mean_is_that_of_eight_images():
    predictor = network(DEEP)
    # A size for which the mirrored image is pooled from the same pixels on
    image = random_image(24, 36)
    context = predictor.geometry.context
    padded = read_mirrored(image, [-lost for lost in context], [24 + 2 * context[0], 36 + 2 * context[1]])
    expected = []
    for turns in range(4):
        for mirrored in (False, True):
            seen = np.rot90(padded[:, :, ::-1] if mirrored else padded, turns, (1, 2))
            result = np.rot90(predictor.probabilities(np.ascontiguousarray(seen)[np.newaxis])[0], -turns, (1, 2))
            expected.append(result[:, :, ::-1] if mirrored else result)
    mean = predict(image, AveragedPredictor([predictor], augment=True), tile=12)
    np.testing.assert_allclose(mean, np.mean(expected, axis=0), atol=1e-6)
    assert np.abs(mean - predict(image, predictor)).max() > 1e-4, "the network sees a difference"


@pytest.mark.parametrize("axis", [0, 1])
def test_a_symmetric_image_has_a_symmetric_mask(axis):
    predictor = AveragedPredictor([network(DEEP)], augment=True)
    half = random_image(20, 28)
    image = np.concatenate([half, np.flip(half, axis + 1)], axis + 1)
    thresholds = np.quantile(predict(image, predictor)[1], [0.2, 0.8]).tolist()
    planes = decide(image, predictor, thresholds, tile=16)
    assert np.array_equal(planes, np.flip(planes, axis + 1))
    plain = decide(image, network(DEEP), thresholds)
    assert not np.array_equal(plain, np.flip(plain, axis + 1))


def test_a_turned_image_has_the_turned_mask():
    predictor = AveragedPredictor([network(DEEP)], augment=True)
    image = random_image(24, 40)
    thresholds = np.quantile(predict(image, predictor)[1], [0.2, 0.8]).tolist()
    turned = np.ascontiguousarray(np.rot90(image, 1, (1, 2)))
    assert np.array_equal(
        decide(turned, predictor, thresholds, tile=12), np.rot90(decide(image, predictor, thresholds), 1, (1, 2))
    )


def test_networks_of_different_depth_are_averaged():
    members = [network(DEEP), network(SHALLOW, 1)]
    image = random_image(45, 37)
    expected = np.mean([predict(image, member) for member in members], axis=0)
    np.testing.assert_allclose(predict(image, AveragedPredictor(members), tile=16), expected, atol=1e-6)


def test_float64_is_within_the_error_bound():
    predictor = AveragedPredictor([network(DEEP), network(DEEP, 1)], augment=True)
    batch = random_image(64, 52)[np.newaxis]
    difference = np.abs(predictor.probabilities(batch) - predictor.probabilities_float64(batch)).max()
    assert difference <= predictor.error_bound
    assert predictor.error_bound > max(network(DEEP).error_bound, 1e-5)


def test_work_counts_every_pass_and_memory_one():
    one, two = network(DEEP), network(DEEP, 1)
    both = AveragedPredictor([one, two], augment=True)
    shape = one.geometry.input_size((40, 40))
    assert both.multiply_adds(shape) == 16 * one.multiply_adds(shape)
    assert both.memory_bytes(shape) == one.memory_bytes(shape)
    assert plan((200, 200), both).cost == 16 * plan((200, 200), one).cost


@pytest.mark.parametrize(
    ("geometry", "count", "turns"),
    [
        (unet_geometry([(3, 3)] * 2, [(2, 2)]), 8, True),
        (Geometry((4, 6), (2, 2), (10, 14)), 4, False),
        (unet_geometry([(3, 3, 3)] * 2, [(2, 2, 2)]), 8, False),
    ],
    ids=["square", "axes of their own", "stack"],
)
def test_symmetries(geometry, count, turns):
    found = symmetries(geometry)
    assert len({*found}) == len(found) == count
    assert any(symmetry.transposed for symmetry in found) is turns
    batch = np.arange(2 * 3 * 4**geometry.ndim).reshape(2, 3, *(4,) * geometry.ndim)
    assert np.array_equal(found[0].apply(batch), batch)
    assert all(np.array_equal(symmetry.undo(symmetry.apply(batch)), batch) for symmetry in found)
    assert len({symmetry.apply(batch).tobytes() for symmetry in found}) == count
