"""Grey values counted piece by piece agree with numpy on the whole."""

import json
from pathlib import Path

import numpy as np
import pytest

from unetbio.checking.folder import check
from unetbio.io import write_image
from unetbio.models.model_file import read_info
from unetbio.preprocessing.grey_values import GreyFingerprint, GreyLevels, LevelCounter, is_saturated
from unetbio.preprocessing.prepare import open_image, read_frame
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings


def levels_of(values: np.ndarray, pieces: int = 1) -> GreyLevels:
    counter = LevelCounter(values.dtype, values.size)
    for piece in np.array_split(values, pieces):
        counter.add(piece)
    return counter.result()


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "float32", "float16"])
def test_levels_are_those_of_numpy(dtype: str, pieces: int) -> None:
    rng = np.random.default_rng(3)
    values = (rng.normal(20 if dtype[0] == "u" else 0, 6, 20_001)).clip(0 if dtype[0] == "u" else -60, 60).astype(dtype)
    levels = levels_of(values, pieces)
    assert (levels.lowest, levels.highest) == (values.min(), values.max())
    expected = np.percentile(values.astype(float), (1, 50, 99.8), method="nearest")
    np.testing.assert_allclose((levels.low, levels.median, levels.high), expected, atol=0.05)
    assert levels.pixels == values.size
    assert levels.level == pytest.approx((levels.median - levels.low) / (levels.high - levels.low))


def test_a_large_image_of_real_numbers_is_sampled() -> None:
    values = np.random.default_rng(0).gamma(2, 100, (3, 1000, 700)).astype(np.float32)
    counter = LevelCounter(values.dtype, values.size)
    for section in values:
        counter.add(section)
    levels = counter.result()
    expected = np.percentile(values, (1, 50, 99.8))
    np.testing.assert_allclose((levels.low, levels.median, levels.high), expected, rtol=0.03)
    assert levels.highest == values.max()


def test_numbers_that_are_none_are_counted() -> None:
    levels = levels_of(np.array([1, np.nan, 3, np.inf, 2], np.float32))
    assert (levels.not_finite, levels.lowest, levels.highest) == (2, 1, 3)
    assert not levels.is_constant
    assert levels_of(np.full(3, np.nan)).not_finite == 3


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        pytest.param(np.full((40, 40), 5), ["constant"], id="one grey value"),
        pytest.param(np.full((40, 40), np.nan), ["constant"], id="none"),
        pytest.param(np.arange(1600).reshape(40, 40), [], id="several"),
    ],
)
def test_an_image_is_constant_as_it_is_filled(tmp_path: Path, inside: np.ndarray, found: list[str]) -> None:
    image = np.pad(inside.astype(np.float32), 4, constant_values=np.nan)
    for name in "ab":
        write_image(tmp_path / f"{name}.tif", image, axes="YX")
    opened = open_image(tmp_path / "a.tif", Settings(nan="fill"), read_info("nuclei"), 2)
    assert read_frame(opened, None, Normalization("percentile", 1, 99.8)).is_constant == bool(found)
    result = check(tmp_path, models=(), settings=Settings(nan="fill"), workers=1)
    # Constant images are equal without being copies.
    assert [finding.code for finding in result.findings] == (found * 2 or ["duplicate"])
    refused = check(tmp_path, models=(), settings=Settings(), workers=1)
    assert {finding.code for finding in refused.findings} == {"not_finite", "duplicate"}


def test_constant_and_saturated() -> None:
    assert levels_of(np.full(5, 7, np.uint8)).is_constant
    image = np.full(1000, 9, np.uint16)
    image[:11] = 4095
    assert levels_of(image).is_saturated
    assert not levels_of(image[:-900]).is_constant
    # 4000 is no detector's largest value; ten in a thousand are too few.
    assert not is_saturated(4000, 500, 1000)
    assert not is_saturated(4095, 10, 1000)
    wide = np.where(image == 4095, 65535, image).astype(np.uint32)
    assert levels_of(wide).is_saturated
    assert not levels_of(wide.astype(np.float32)).is_saturated


def test_a_fingerprint_survives_its_record() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, high, (2, 40, 40)).astype(np.uint8) for high in (50, 100, 200)]
    fingerprint = GreyFingerprint.of_images(images)
    assert fingerprint.dtypes == ("uint8",)
    low, high = fingerprint.channels[1]["high"]
    assert 48 <= low < 52
    assert 196 <= high < 200
    assert GreyFingerprint.from_record(json.loads(json.dumps(fingerprint.as_record()))) == fingerprint


@pytest.mark.parametrize("record", [None, {}, {"dtypes": [], "channels": [{"low": [1]}]}, "text", {"channels": 3}])
def test_other_records_are_no_fingerprint(record: object) -> None:
    assert GreyFingerprint.from_record(record) is None
