"""Grey values by themselves: sparse fields, images unlike the training, limits that were meant as percentiles."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from tiny_model import write_tiny_model

import unetbio
from unetbio.models.model_file import Model, load_model, save_model
from unetbio.settings.normalization import Normalization

Array = NDArray[Any]

FINGERPRINT = {
    "dtypes": ["uint8"],
    "channels": [{"low": [5, 15], "median": [5, 15], "high": [150, 250], "level": [0.0, 0.1]}],
}


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    """Scales by percentiles, and knows the grey values of its training images."""
    known = load_model(tiny_model)
    update = {"normalization": Normalization(), "training": {"grey_values": FINGERPRINT}}
    return Model(known.info.model_copy(update=update), known.network, known.sha256, known.path)


def noisy(image: Array, sigma: float = 2.0) -> Array:
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def warnings_of(image: Array, model: Model, **options: Any) -> tuple[str, ...]:
    warnings: tuple[str, ...] = unetbio.segment(image, model, device="cpu", **options)[1]["frames"][0]["warnings"]
    return warnings


def test_images_like_the_training_have_no_warning(model: Model, discs: Array) -> None:
    assert warnings_of(noisy(discs), model) == ()
    # Percentiles hide the brightness.
    assert warnings_of(noisy(discs) // 2, model) == ()


def test_dark_cells_on_a_bright_ground_are_unlike_the_training(model: Model, discs: Array) -> None:
    assert "unlike_training:dark_on_bright" in warnings_of(255 - noisy(discs), model)


def test_haze_is_unlike_the_training(model: Model) -> None:
    rows = np.broadcast_to(np.linspace(0, 200, 80), (64, 80))
    assert "unlike_training:haze" in warnings_of(noisy(rows), model)


@pytest.mark.parametrize(("factor", "reason"), [(0.3, "dim"), (1.0, None)])
def test_a_model_of_grey_values_compares_brightness(
    tiny_model: Path, discs: Array, factor: float, reason: str | None
) -> None:
    known = load_model(tiny_model)
    info = known.info.model_copy(update={"training": {"grey_values": FINGERPRINT}})
    model = Model(info, known.network, known.sha256, known.path)
    found = [one for one in warnings_of((discs * factor).astype(np.uint8), model) if one.startswith("unlike_training")]
    assert found == ([f"unlike_training:{reason}"] if reason else [])


@pytest.mark.parametrize(
    ("factor", "normalize", "reason"),
    [(100, "100,30000", None), (1, "0,200", None), (1, "0,4095", "made_dim"), (1, "none", "made_bright")],
)
def test_limits_are_compared_with_what_percentiles_make(
    model: Model, discs: Array, factor: int, normalize: str, reason: str | None
) -> None:
    found = warnings_of(noisy(discs).astype(np.uint16) * factor, model, normalize=normalize)
    assert [one for one in found if one.startswith("unlike")] == ([f"unlike_training:{reason}"] if reason else [])


@pytest.mark.parametrize(
    ("factor", "normalize", "reason"),
    [(100, "0,25500", None), (100, "0,2550", "made_bright"), (1, "0,25500", "made_dim"), (1, "none", "made_bright")],
)
def test_limits_are_compared_with_what_those_of_the_model_made(
    model: Model, discs: Array, factor: int, normalize: str, reason: str | None
) -> None:
    info = model.info.model_copy(update={"normalization": Normalization("range", 0, 255)})
    own = Model(info, model.network, model.sha256, model.path)
    found = warnings_of(noisy(discs).astype(np.uint16) * factor, own, normalize=normalize)
    assert [one for one in found if one.startswith("unlike")] == ([f"unlike_training:{reason}"] if reason else [])


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_the_limits_of_the_automatic_scaling_are_not_too_narrow(model: Model, kind: type) -> None:
    """It leaves out a crystal, in which the upper percentile lies."""
    image = np.random.default_rng(0).normal(200, 6, (320, 320))
    for number in range(16):
        image[80 * (number // 4) + 30 :, 80 * (number % 4) + 30 :][:20, :20] += 1500
    image[70:90, 70:90] = 60000
    image = np.round(image).astype(kind)
    labels, info = unetbio.segment(image, model, device="cpu")
    scaling = info["run"]["scaling"][0]
    assert scaling["outshone"] == [True]
    given = Normalization("range", scaling["low"][0], scaling["high"][0])
    same, info = unetbio.segment(image, model, device="cpu", normalize=given)
    assert np.array_equal(same, labels)
    assert not any(one.startswith("unlike") for one in info["frames"][0]["warnings"])
    assert "unlike_training:made_bright" in warnings_of(image, model, normalize="150,500")


@pytest.mark.parametrize("normalize", ["auto", "p1,p99.9", "0,200"])
def test_a_few_cells_on_an_even_ground_are_not_dim(model: Model, normalize: str) -> None:
    """They are less than .1 % of the pixels, so that the percentiles meet."""
    image = np.zeros((300, 300), np.uint8)
    image[100:109, 100:108] = 200
    assert not any(one.startswith("unlike") for one in warnings_of(image, model, normalize=normalize))


def test_a_constant_channel_of_several_is_named(tmp_path: Path, discs: Array) -> None:
    path = write_tiny_model(tmp_path / "two.safetensors", ("DAPI", "GFP"))
    model, dark = load_model(path), np.zeros_like(discs)
    assert warnings_of(np.stack([discs, dark]), model, axes="CYX") == ("constant_channel:1",)
    # By the number in the file, whichever channel of the model it is.
    assert "constant_channel:0" in warnings_of(np.stack([dark, discs, dark]), model, axes="CYX", channel=(1, 0))
    both = warnings_of(np.stack([dark, dark]), model, axes="CYX")
    assert "constant" in both
    assert not any(one.startswith("constant_channel") for one in both)


@pytest.mark.parametrize(("brightness", "said"), [(1.0, False), (0.3, True)])
def test_colour_pictures_are_compared_as_a_model_of_percentiles_takes_them(
    tmp_path: Path, discs: Array, brightness: float, said: bool
) -> None:
    """By brightness: colours of 8 bits are scaled by their range, so that percentiles say nothing."""
    path = write_tiny_model(tmp_path / "colours.safetensors", ("red", "green", "blue"))
    known = load_model(path)
    fingerprint = {"dtypes": ["uint8"], "channels": FINGERPRINT["channels"] * 3}
    update = {"normalization": Normalization(), "training": {"grey_values": fingerprint}}
    save_model(path, known.info.model_copy(update=update), known.network)
    colours = np.stack([noisy(discs * brightness), noisy(discs * brightness, 3), noisy(discs * brightness, 4)], axis=-1)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", colours, photometric="rgb")
    found = unetbio.segment(tmp_path / "images" / "a.tif", model=path, device="cpu")[1]["frames"][0]["warnings"]
    assert ("unlike_training:dim" in found) == said
    checked = unetbio.check(tmp_path / "images", models=[path])
    assert ("odd_intensity" in {finding.code for finding in checked.findings}) == said


@pytest.mark.parametrize(("ground", "said"), [(255, False), (40, True)])
def test_white_glass_is_not_saturation(tmp_path: Path, ground: int, said: bool) -> None:
    """Dark things on a bright ground in colour, against bright things on a dark one."""
    path = write_tiny_model(tmp_path / "colours.safetensors", ("red", "green", "blue"))
    colours = np.full((64, 80, 3), ground, np.uint8)
    colours[20:40, 20:40] = (90, 40, 120) if ground == 255 else (255, 200, 100)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", colours, photometric="rgb")
    found = unetbio.segment(tmp_path / "images" / "a.tif", model=path, device="cpu")[1]["frames"][0]["warnings"]
    assert ("saturated" in found) == said
    checked = unetbio.check(tmp_path / "images", models=[path])
    assert ("saturated" in {finding.code for finding in checked.findings}) == said


def test_models_of_earlier_versions_know_no_training_images(tiny_model: Path, discs: Array) -> None:
    assert not any(one.startswith("unlike") for one in warnings_of(255 - discs, load_model(tiny_model)))


def test_percentiles_written_as_grey_values(model: Model) -> None:
    # As users of other programs type them
    image = np.full((64, 64), 200.0)
    image[20:34, 20:34] = 1100
    image = np.round(image + np.random.default_rng(0).normal(0, 5, image.shape)).astype(np.uint16)
    assert "above_limits:99.8" in warnings_of(image, model, normalize="1,99.8")
    assert "below_limits:4000" in warnings_of(image, model, normalize="4000,5000")
    for normalize in ("100,1200", "p1,p99.8", "none", "auto"):
        assert not any("limits" in one for one in warnings_of(image, model, normalize=normalize))


def test_a_crystal_does_not_hide_the_nuclei() -> None:
    """It is .3 % of the pixels and forty times as bright, so that the upper percentile lies in it."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:320, :320]
    image = rng.normal(200, 6, y.shape)
    for number in range(16):
        centre_y, centre_x = 40 + 80 * (number // 4), 40 + 80 * (number % 4)
        inside = ((y - centre_y) / 13) ** 2 + ((x - centre_x) / 11) ** 2 <= 1
        image[inside] += 1500 + rng.normal(0, 120, inside.sum())
    plain, _ = unetbio.segment(np.round(image).astype(np.uint16), "nuclei", device="cpu")
    image[73:89, 70:90] = 60000
    labels, info = unetbio.segment(np.round(image).astype(np.uint16), "nuclei", device="cpu")
    assert plain.max() == 16
    assert info["n_cells"] in (16, 17)
    away = (np.abs(y - 80) > 20) | (np.abs(x - 80) > 20)
    assert ((labels > 0) == (plain > 0))[away].mean() > 0.99
    assert info["run"]["scaling"][0]["outshone"] == [True]


def test_a_large_field_with_few_nuclei() -> None:
    """Cells are 0.15 % of the pixels, so that percentiles 1 and 99.8 lie in the noise of the camera."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:800, :800]
    image = rng.normal(200, 6, y.shape)
    truth = np.zeros(y.shape, np.uint16)
    for number, (centre_y, centre_x) in enumerate([(100, 120), (500, 640)], 1):
        inside = ((y - centre_y) / 13) ** 2 + ((x - centre_x) / 11) ** 2 <= 1
        image[inside] += 1500 + rng.normal(0, 120, inside.sum())
        truth[inside] = number
    labels, info = unetbio.segment(np.round(image).astype(np.uint16), "nuclei", device="cpu")
    assert info["n_cells"] == 2
    overlap = (labels > 0) & (truth > 0)
    assert overlap.sum() / ((labels > 0) | (truth > 0)).sum() > 0.8
    assert info["run"]["scaling"][0]["sparse"] == [True]
    assert info["frames"][0]["warnings"] == ()
    # No nucleus at all
    labels, info = unetbio.segment(np.round(rng.normal(200, 6, (300, 300))).astype(np.uint16), "nuclei", device="cpu")
    assert info["frames"][0]["warnings"] == ("no_cells",)
