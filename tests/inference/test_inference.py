"""Overlap-tile inference: tiles never change the answer."""

from itertools import pairwise
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inference_cases import DEPTH_2, NETWORKS, FakePredictor, SmallPredictor, case_of, random_image, trained_looking

from unetbio.errors import EnvironmentStoppedError, ImageError, UsageError
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import decide, plan, predict
from unetbio.networks.parameters import described
from unetbio.networks.unet.spec import UNetParameters

# --- The property: real networks, any tiles, any batch, any number of threads ---------------------------------------


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
@settings(max_examples=8, deadline=None)
def test_tiles_never_change_the_answer(name, tile, batch_size, threads):
    predictor, image, thresholds, probabilities, planes = case_of(name)
    torch.set_num_threads(threads)
    # Tiny tiles of a large context take long: no smaller than an eighth of the longest axis.
    tile = max(tile, max(image.shape[1:]) // 8)
    tiled = np.empty_like(probabilities)
    decided = decide(image, predictor, thresholds, tile=tile, batch_size=batch_size, probabilities_out=tiled)
    assert np.abs(tiled - probabilities).max() <= 1e-5
    assert np.array_equal(decided, planes)


@pytest.mark.parametrize("upsampling", list(described(UNetParameters)["upsampling"].choices))
def test_smooth_images_are_tiled_exactly(upsampling):
    # Ties between the values of a pooling window, which noise never has.
    parameters = {"base_channels": 8, "depth": 2, "upsampling": upsampling}
    predictor = TorchPredictor(trained_looking(parameters))
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32), (1, 48, 64)).copy()
    flat = np.full_like(ramp, 0.3)
    flat[:, 12:30, 20:50] = 0.8
    for image in (ramp, flat):
        whole = predict(image, predictor)
        for tile in (4, 12, 36):
            assert np.abs(predict(image, predictor, tile=tile) - whole).max() <= 1e-5


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
