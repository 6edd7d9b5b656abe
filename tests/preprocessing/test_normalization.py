"""Normalization: exact percentiles of the whole image, recorded, applied pixel by pixel."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from unetbio.errors import ImageError, UsageError
from unetbio.preprocessing import normalization
from unetbio.preprocessing.normalization import Scaling, apply, for_picture, measure
from unetbio.settings.normalization import Normalization, parse

SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=12)


@settings(max_examples=150, deadline=None)
@given(
    image=st.sampled_from(["u1", "i1", ">u2", "u2", "i2", "u4", "i4", "f4", "f8", "f2", "?"]).flatmap(
        lambda dtype: hnp.arrays(
            dtype, SHAPES, elements={"allow_nan": False, "allow_infinity": False} if "f" in dtype else None
        )
    ),
    percentiles=st.tuples(st.floats(0, 100), st.floats(0, 100)).filter(lambda p: p[0] < p[1]),
)
def test_percentiles_are_those_of_numpy(image: np.ndarray, percentiles: tuple[float, float]) -> None:
    scaling = measure(image, Normalization("percentile", *percentiles))
    for channel, low, high in zip(image, scaling.low, scaling.high, strict=True):
        values = channel.astype(np.float64)
        expected = np.percentile(values, percentiles)
        if expected[0] >= expected[1]:
            expected = (values.min(), values.max())
        scale = max(1.0, np.abs(values).max())
        np.testing.assert_allclose([low, high], expected, rtol=0, atol=1e-9 * scale)


@settings(max_examples=60, deadline=None)
@given(
    image=st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"]).flatmap(
        lambda dtype: hnp.arrays(dtype, SHAPES, elements=st.integers(0, 100))
    ),
    data=st.data(),
)
def test_a_part_gets_the_values_of_the_whole(image: np.ndarray, data: st.DataObject) -> None:
    scaling = measure(image, Normalization())
    whole = apply(image, scaling)
    assert whole.dtype == np.float32
    part = tuple(slice(*sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n))))) for n in image.shape[1:])
    np.testing.assert_array_equal(apply(image[(slice(None), *part)], scaling), whole[(slice(None), *part)])


def test_values_beyond_the_limits_are_not_clipped() -> None:
    image = np.array([[[0, 100, 200, 300]]], np.uint16)
    np.testing.assert_allclose(apply(image, Scaling((100.0,), (200.0,))), [[[-1, 0, 1, 2]]])


def test_channels_are_scaled_on_their_own() -> None:
    image = np.stack([np.arange(1000).reshape(10, 100), np.arange(1000).reshape(10, 100) * 10 + 7]).astype(np.uint16)
    scaled = apply(image, measure(image, Normalization()))
    np.testing.assert_allclose(scaled[0], scaled[1], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_a_constant_channel_becomes_zeros(dtype: Any) -> None:
    image = np.stack([np.full((4, 5), 7), np.arange(20).reshape(4, 5)]).astype(dtype)
    scaling = measure(image, Normalization())
    assert scaling.low[0] == scaling.high[0] == 7
    scaled = apply(image, scaling)
    assert not scaled[0].any()
    assert scaled[1].max() > 0.9


def test_a_few_bright_pixels_on_an_even_background_are_kept() -> None:
    # Both percentiles are the background: without the wider limits the cell would be lost.
    image = np.full((1, 100, 100), 50, np.uint8)
    image[0, 10, 10:14] = 200
    scaling = measure(image, Normalization())
    assert (scaling.low, scaling.high) == ((50.0,), (200.0,))
    assert apply(image, scaling)[0, 10, 12] == 1


def test_large_numbers_keep_their_differences() -> None:
    # float32 alone would make 2**30 and 2**30 + 10 the same.
    for dtype in (np.int32, np.float64):
        image = (2**30 + np.arange(20).reshape(1, 4, 5)).astype(dtype)
        scaled = apply(image, measure(image, Normalization("percentile", 0, 100)))
        np.testing.assert_allclose(scaled.ravel(), np.arange(20) / 19, atol=1e-6)


def test_fixed_ranges_and_no_scaling() -> None:
    image = np.array([[[0, 1000, 4095]]], np.uint16)
    fixed = measure(image, Normalization("range", 0, 4095))
    assert fixed == Scaling((0.0,), (4095.0,))
    np.testing.assert_allclose(apply(image, fixed).ravel(), [0, 1000 / 4095, 1], rtol=1e-6)
    np.testing.assert_array_equal(apply(image, measure(image, Normalization("none"))), image)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_counted(bad: float) -> None:
    image = np.zeros((1, 10, 10), np.float32)
    image[0, 3, 4:6] = bad
    for wanted in (Normalization(), Normalization("range", 0, 1)):
        with pytest.raises(ImageError, match="2 of 100 pixels are NaN or infinite") as caught:
            measure(image, wanted)
        assert caught.value.reason == "not_finite"


def test_finite_numbers_whose_sum_is_not_are_fine() -> None:
    image = np.array([[[1e308, 1e308, 0.0]]])
    assert measure(image, Normalization("range", 0, 1)) == Scaling((0.0,), (1.0,))


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(ImageError, match="complex64"):
        measure(np.zeros((1, 2, 2), np.complex64), Normalization())


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ImageError, match="2 channels, but 1 were measured"):
        apply(np.zeros((2, 3, 3)), Scaling((0.0,), (1.0,)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The model's own
        ("auto", None),
        (" AUTO", None),
        ("none", Normalization("none", 0.0, 1.0)),
        ("p1,p99.8", Normalization("percentile", 1, 99.8)),
        (" P0 , P100 ", Normalization("percentile", 0, 100)),
        ("0,4095", Normalization("range", 0, 4095)),
        ("-1.5,2e3", Normalization("range", -1.5, 2000)),
    ],
)
def test_the_command_line_form(text: str, expected: Normalization | None) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "1", "p1", "p1,99", "1,2,3", "a,b", "p,p", "1;2"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"two percentiles such as p1,p99\.8, or two grey values such as 0,4095"):
        parse(text)


@pytest.mark.parametrize("text", ["5,5", "9,1", "nan,1", "0,inf", "p99,p1"])
def test_limits_that_do_not_rise_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="two rising numbers"):
        parse(text)


@pytest.mark.parametrize("text", ["-1e308,1e308", "0,1e-300"])
def test_grey_values_that_float32_cannot_scale_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"numbers at most 1e\+30 from zero, and at least 1e-30 apart"):
        parse(text)


def test_percentiles_beyond_100_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(UsageError, match="0 to 100"):
        parse("p1,p101")
    with pytest.raises(UsageError, match="unknown normalization 'minmax'"):
        Normalization("minmax")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("automatic", "dtype", "names", "kind"),
    [
        (Normalization(), np.uint8, ("red", "green", "blue"), "range"),
        (
            Normalization(),
            np.uint16,
            ("red", "green", "blue"),
            "percentile",
        ),  # most often fluorescence in three colours
        (Normalization(), np.uint8, ("red",), "percentile"),
        (Normalization(), np.uint8, ("DAPI", "GFP", "Cy5"), "percentile"),
        (Normalization("none", 0, 1), np.uint8, ("red", "green", "blue"), "none"),
        (Normalization("range", 10, 20), np.uint8, ("red", "green", "blue"), "range"),
    ],
)
def test_colour_pictures_are_scaled_by_their_range(
    automatic: Normalization, dtype: Any, names: tuple[str, ...], kind: str
) -> None:
    chosen = for_picture(automatic, dtype, names)
    assert chosen.kind == kind
    assert (chosen.low, chosen.high) == (
        (0, 255) if automatic == Normalization() and kind == "range" else (automatic.low, automatic.high)
    )


def field(side: int = 300, noise: float = 6.0) -> np.ndarray:
    """``(1, side, side)``: a camera's background of 200 with noise."""
    return np.random.default_rng(1).normal(200, noise, (1, side, side))


def as_16_bit(image: np.ndarray) -> np.ndarray:
    return np.clip(np.round(image), 0, 65535).astype(np.uint16)


def test_a_few_cells_in_a_large_field_are_scaled_by_their_own_brightness() -> None:
    image = field()
    image[0, 100:110, 100:115] += 1500
    image = as_16_bit(image)
    by_noise = measure(image, Normalization())
    assert by_noise.high[0] < 230, "both percentiles lie in the noise"
    scaling = measure(image, Normalization(), is_automatic=True)
    assert scaling.sparse == (True,)
    assert scaling.low == by_noise.low
    assert 1700 < scaling.high[0] < 2700
    assert scaling.as_record()["sparse"] == [True]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_few_cells_on_an_even_ground_are_scaled_by_their_own_brightness(kind: type) -> None:
    """Both percentiles are the ground, and a fault of the detector is the brightest pixel."""
    image = np.full((1, 300, 300), 20, kind)
    image[0, 100:110, 100:115] = 120
    image[0, 30, 30] = 255 if kind == np.uint8 else 60000
    scaling = measure(image, Normalization(), is_automatic=True)
    assert (scaling.low, scaling.high, scaling.sparse) == ((20.0,), (170.0,), (True,))
    assert measure(image, Normalization()).high == (image.max(),)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_dark_spot_on_an_even_ground_has_the_extremes(kind: type) -> None:
    image = np.full((1, 300, 300), 200, kind)
    image[0, 100:110, 100:115] = 20
    assert measure(image, Normalization(), is_automatic=True) == measure(image, Normalization())


def test_bright_faults_of_a_detector_do_not_scale_an_image() -> None:
    image = field()
    image[0, 100:110, 100:115] += 1500
    faults = np.random.default_rng(2).integers(0, 100, (20, 2)) * 3
    image[0, faults[:, 0], faults[:, 1]] = 60000
    assert measure(as_16_bit(image), Normalization(), is_automatic=True).high[0] < 2700


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
@pytest.mark.parametrize("cells", [30, 4])
def test_what_outshines_the_cells_does_not_scale_an_image(kind: type, cells: int) -> None:
    """A crystal of dye, .4 % of the pixels: a tenth of what is bright, or nearly half of it."""
    rng = np.random.default_rng(3)
    image = field()
    for number in range(cells):
        y, x = 20 + 45 * (number // 6), 5 + 45 * (number % 6)
        image[0, y : y + 12, x : x + 12] += rng.normal(1500, 200, (12, 12))
    alone = measure(as_16_bit(image).astype(kind), Normalization(), is_automatic=True)
    assert alone.outshone == (False,)
    image[0, 270:289, 270:289] += 60000
    found = as_16_bit(image).astype(kind)
    assert measure(found, Normalization()).high[0] > 50000
    scaling = measure(found, Normalization(), is_automatic=True)
    assert scaling.low == alone.low
    assert scaling.high[0] == pytest.approx(alone.high[0], rel=0.3)
    assert (scaling.outshone, scaling.sparse) == ((True,), (False,))
    assert scaling.as_record()["outshone"] == [True]


def nuclei(number: int) -> np.ndarray:
    """``(1, 300, 300)``: discs of diameter 17 and contrast 3000."""
    rows, columns = np.ogrid[:300, :300]
    image = np.zeros((1, 300, 300))
    for index in range(number):
        y, x = 30 + 40 * (index // 7), 30 + 40 * (index % 7)
        image[0][(rows - y) ** 2 + (columns - x) ** 2 <= 70] = 3000
    return image


@pytest.mark.parametrize("number", [3, 5, 30])
@pytest.mark.parametrize("ground", ["haze", "slope"])
def test_nuclei_outshine_haze_and_an_uneven_ground_as_they_should(number: int, ground: str) -> None:
    image = field(noise=2.0)
    if ground == "haze":
        image += ndimage.gaussian_filter(nuclei(number), (0, 12, 12)) / 4
    else:
        image += np.linspace(0, 150, 300)
    found = as_16_bit(image + nuclei(number))
    plain, scaling = measure(found, Normalization()), measure(found, Normalization(), is_automatic=True)
    assert (scaling.low, scaling.high, scaling.outshone) == (plain.low, plain.high, (False,))


def test_things_that_outshine_cells_are_looked_for_in_a_part_of_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    image = field(noise=2.0) + nuclei(30)
    image[0, 270:289, 270:289] += 60000
    every = measure(as_16_bit(image), Normalization(), is_automatic=True)
    monkeypatch.setattr(normalization, "SAMPLED_PIXELS", 10_000)
    assert measure(as_16_bit(image), Normalization(), is_automatic=True) == every
    assert every.outshone == (True,)


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_noise_alone_stays_dim(kind: type) -> None:
    image = as_16_bit(field()).astype(kind)
    scaling = measure(image, Normalization(), is_automatic=True)
    assert np.abs(apply(image, scaling)).max() < 0.4


def test_usual_images_have_their_percentiles_to_the_bit() -> None:
    usual = field()
    usual[0, 100:130, 100:130] += 1500
    tissue = np.broadcast_to(np.linspace(0, 255, 300), (1, 300, 300)) + field(noise=1.0) - 200
    for image in (as_16_bit(usual), as_16_bit(tissue), as_16_bit(tissue)[:, ::-1] * 0 + 7, usual):
        plain, scaling = measure(image, Normalization()), measure(image, Normalization(), is_automatic=True)
        assert (scaling.low, scaling.high) == (plain.low, plain.high)
        assert set(scaling.as_record()) == {"low", "high"}


def test_channels_and_stacks_are_sparse_on_their_own() -> None:
    image = np.stack([field()[0], field()[0]])
    image[0, 100:130, 100:130] += 1500
    image[1, 100:110, 100:115] += 1500
    assert measure(as_16_bit(image), Normalization(), is_automatic=True).sparse == (False, True)
    stack = np.stack([field(150)[0]] * 4)[np.newaxis]
    stack[0, 1, 100:110, 100:110] += 1500
    assert measure(as_16_bit(stack), Normalization(), is_automatic=True).sparse == (True,)


def test_columns_of_one_pixel_have_no_neighbours() -> None:
    image = np.arange(20, dtype=np.uint16).reshape(1, 20, 1)
    plain, scaling = measure(image, Normalization()), measure(image, Normalization(), is_automatic=True)
    assert (scaling.low, scaling.high) == (plain.low, plain.high)
