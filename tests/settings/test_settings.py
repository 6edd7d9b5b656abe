"""What can be asked of a segmentation, and how it is recorded."""

import json
from typing import Any

import numpy as np
import pytest

from unetbio.errors import ImageError, UsageError
from unetbio.postprocessing.instances import PostProcessing
from unetbio.postprocessing.objects import ObjectSettings
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings

MODEL = PostProcessing(0.5, (0.6, 0.8), min_area=10)


def test_without_wishes_the_model_decides() -> None:
    assert Settings().postprocessing(MODEL) == MODEL


def test_a_threshold_lifts_the_seeds_below_it() -> None:
    changed = Settings(threshold=0.7).postprocessing(MODEL)
    assert changed.thresholds == (0.7, 0.7, 0.8)


def test_a_lower_threshold_makes_seeds_of_dimmer_cells() -> None:
    # As much lower than the model's first as the foreground; the model's own go on parting cells.
    changed = Settings(threshold=0.3).postprocessing(MODEL)
    assert changed.thresholds == pytest.approx((0.3, 0.4, 0.6, 0.8))
    assert Settings(threshold=0.5).postprocessing(MODEL) == MODEL
    assert Settings(threshold=0.3).postprocessing(PostProcessing(0.5, ())).thresholds == (0.3,)
    equal = Settings(threshold=0.3).postprocessing(PostProcessing(0.5, (0.5,)))
    assert equal.thresholds == (0.3, 0.3, 0.5)


def test_areas_are_counted_in_pixels_of_the_image() -> None:
    # The model sees four pixels for each one of the image.
    changed = Settings(min_area=5, max_area=50).postprocessing(MODEL, 4.0)
    assert (changed.min_area, changed.max_area) == (20, 200)


def test_record_is_json_and_holds_what_the_model_decided() -> None:
    record = Settings(channel=("DAPI",), z="max").record(Normalization("range", 0, 5), MODEL)
    assert json.loads(json.dumps(record)) == record
    assert record["normalization"] == {"kind": "range", "low": 0, "high": 5}
    assert record["postprocessing"]["seed_thresholds"] == [0.6, 0.8]
    assert (record["channel"], record["z"]) == (["DAPI"], "max")


@pytest.mark.parametrize(
    "other",
    [
        Settings(channel=(1,)),
        Settings(series=0),
        Settings(t=0),
        Settings(z=0),
        Settings(axes="ZYX"),
        Settings(pixel_size_um=0.5),
        Settings(diameter_px=9),
        Settings(normalization=Normalization("range", 0, 5)),
        Settings(threshold=0.55),
        Settings(min_area=11),
        Settings(max_area=100),
        Settings(min_certain=0.2),
        Settings(exclude_border=True),
        Settings(crf="largefov"),
    ],
)
def test_every_wish_changes_the_record(other: Settings) -> None:
    assert other.record(Normalization(), MODEL) != Settings().record(Normalization(), MODEL)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"pixel_size_um": 0.0}, "pixel_size_um 0.0 must be a finite number above 0"),
        ({"pixel_size_um": (0.0, 0.5)}, "pixel_size_um 0.0 must be a finite number above 0"),
        ({"pixel_size_um": (1.0, 2.0, 3.0)}, r"give one number, or \(Z, YX\)"),
        ({"diameter_px": float("nan")}, "diameter_px nan must be a finite number above 0"),
        ({"diameter_px": "12"}, "diameter_px 12 must be a finite number above 0"),
        ({"t": -1}, "t -1 must be a number from 0$"),
        ({"t": "all"}, "t 'all' must be a number from 0$"),
        ({"series": 1.5}, "series 1.5 must be a number from 0$"),
        ({"z": "mean"}, "z 'mean' must be a number from 0, or 'max', or 'each'"),
        ({"z": "7"}, "z '7' must be a number from 0, or 'max', or 'each'"),
        ({"z": -2}, "z -2 must be a number from 0, or 'max', or 'each'"),
        ({"z": True}, "z True must be a number from 0, or 'max', or 'each'"),
        ({"axes": "QQ"}, "axes QQ must be letters of TCZYX"),
        ({"axes": "ZY"}, "axes ZY must be letters of TCZYX, each once and Y and X among them"),
        ({"axes": "ZZYX"}, "axes ZZYX must be letters"),
        ({"axes": ""}, "must be letters"),
        ({"series": ""}, "series: a number, a range such as 2-5, a name or all is needed"),
        ({"classes": "dim,"}, "classes: dim,: needs names with commas between"),
    ],
)
def test_wishes_that_cannot_be_meant(wish: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**wish)


def test_numbers_of_numpy_are_numbers() -> None:
    settings = Settings(z=np.int64(3), pixel_size_um=np.float32(0.5))  # type: ignore[arg-type]
    record = settings.record(Normalization(), MODEL)
    assert (settings.z, record["z"], record["pixel_size_um"]) == (3, 3, 0.5)


def test_numbers_of_numpy_are_told_from_words() -> None:
    # "auto" and "model" are words beside which a diameter is a number.
    settings = Settings(
        diameter_px=np.int64(30),  # type: ignore[arg-type]
        pixel_size_um=(np.float32(2), np.float32(0.5)),  # type: ignore[arg-type]
        channel=np.int64(1),  # type: ignore[arg-type]
    )
    assert (settings.diameter_px, settings.pixel_size_um, settings.channel) == (30, (2, 0.5), (1,))
    assert isinstance(settings.diameter_px, float)
    assert isinstance(settings.channel[0], int)
    assert Settings(diameter_px=30).diameter_px == 30


def test_one_value_and_text_are_read_as_on_the_command_line() -> None:
    settings = Settings(channel="DAPI", channel_names="DAPI, GFP", classes="dim", axes="cyx", series=" 3 ")  # type: ignore[arg-type]
    assert (settings.channel, settings.channel_names, settings.classes) == (("DAPI",), ("DAPI", "GFP"), ("dim",))
    assert (settings.axes, settings.series) == ("CYX", 3)
    assert Settings(channel_names=["DAPI", "GFP"]).channel_names == ("DAPI", "GFP")  # type: ignore[arg-type]
    assert Settings(channel=None, classes=None) == Settings()  # type: ignore[arg-type]


def test_a_largest_cell_below_the_smallest_is_refused_for_every_model() -> None:
    with pytest.raises(UsageError, match="max_area 5 is below min_area 6"):
        Settings(max_area=5, min_area=6)


def test_a_limit_is_compared_with_the_model_for_each_image() -> None:
    small = Settings(max_area=5)
    with pytest.raises(ImageError, match="--max-area 5 is 5 pixels at the scale of the model, which drops cells sma"):
        small.objects(ObjectSettings(min_area=6))
    with pytest.raises(ImageError, match="smaller than 10: none could remain; change it, or check the pixel size"):
        small.postprocessing(MODEL)
    assert small.postprocessing(MODEL, 4.0).max_area == 20
    # Before the scale of any image is known
    recorded = small.record(Normalization(), MODEL, ObjectSettings(min_area=6))
    limits = {name: (recorded[name]["min_area"], recorded[name]["max_area"]) for name in ("postprocessing", "objects")}
    assert limits == {"postprocessing": (10, 5), "objects": (6, 5)}
    both = Settings(threshold=0.7, min_area=11, max_area=100, exclude_border=True)
    record = both.postprocessing(MODEL).as_record()
    assert both.record(Normalization(), MODEL)["postprocessing"] == json.loads(json.dumps(record))


def test_a_model_that_finds_objects_has_a_threshold_of_their_score() -> None:
    model = ObjectSettings(0.7, 0.4, min_area=10, max_area=90)
    assert Settings().objects(model) == model
    changed = Settings(threshold=0.6, min_area=5, max_area=6, exclude_border=True).objects(model, 4.0)
    assert changed == ObjectSettings(0.6, 0.4, 20, 24, exclude_border=True)
    record = Settings(min_area=5).record(Normalization(), None, model)
    assert record["objects"]["score_threshold"] == 0.7
    assert (record["min_area"], record["objects"]["min_area"]) == (5, 5)
    assert not {"postprocessing", "threshold", "exclude_border", "classes"} & set(record)


def test_a_model_of_classes_records_classes_and_no_cells() -> None:
    record = Settings(classes=("dim",)).record(Normalization(), None)
    assert record["classes"] == ["dim"]
    assert not {"postprocessing", "threshold", "min_area", "max_area", "exclude_border"} & set(record)
    assert "classes" not in Settings().record(Normalization(), MODEL)


def test_options_for_cells_are_known() -> None:
    assert Settings(min_area=0, exclude_border=True).cell_options == ("min_area", "exclude_border")
    assert Settings(classes=("dim",)).cell_options == ()
