"""Options and settings: written once, and everything that follows from them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from unetbio.errors import UsageError
from unetbio.pipelines.options import SegmentOptions
from unetbio.settings.base import Section
from unetbio.settings.normalization import Normalization
from unetbio.settings.options import Limits, Option, given, options_of
from unetbio.settings.runs import MeasureRun, RunOptions
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import Augmentation, TrainingConfig, given_settings
from unetbio.settings.training_runs import OVERRIDES, CompareRun, TrainRun, WeightMapRun

ROOT = Path(__file__).resolve().parents[2]
KINDS = (Settings, RunOptions, MeasureRun, TrainRun, CompareRun, WeightMapRun, Normalization)
OPTIONS = [option for kind in KINDS for option in options_of(kind).values()]
SECTIONS: tuple[type[Section], ...] = (TrainingConfig, Augmentation)
OWN = [
    str(field.description)
    for section in SECTIONS
    for name, field in section.model_fields.items()
    if section is Augmentation or name not in options_of(TrainRun)
]


def _strings() -> Iterator[str]:
    for folder in ("unetbio", "cli", "pipelines"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


STRINGS = list(_strings())


@pytest.mark.parametrize(
    "text", sorted({option.help.removesuffix(OVERRIDES) for option in OPTIONS} | {*OWN}), ids=lambda text: text[:40]
)
def test_every_option_and_setting_is_written_once(text: str) -> None:
    assert STRINGS.count(text) == 1


def test_every_setting_of_training_says_what_it_means() -> None:
    assert all(field.description for section in SECTIONS for field in section.model_fields.values())


def test_an_option_that_is_a_setting_takes_what_the_setting_takes() -> None:
    shared = {name: option for name, option in options_of(TrainRun).items() if name in TrainingConfig.model_fields}
    assert set(shared) == {
        *("network", "recipe", "target", "class_names", "class_values", "split_components"),
        *("steps", "folds", "seed", "border_weight"),
    }
    for name, option in shared.items():
        assert option.help.removesuffix(OVERRIDES) in str(TrainingConfig.model_fields[name].description)


def test_every_option_of_a_segmentation_is_a_key_of_the_workflow() -> None:
    assert {option.key for option in options_of(Settings).values()} <= set(SegmentOptions.model_fields)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (TrainRun, {"minutes": float("nan")}, "minutes nan must be a finite number above 0"),
        (TrainRun, {"steps": 0}, "steps 0 must be"),
        (MeasureRun, {"expand": -1.0}, "expand -1.0 must be a finite number above 0"),
        (MeasureRun, {"pixel_size": (2.0, float("inf"))}, "pixel_size inf must be"),
        (CompareRun, {"width": float("nan")}, "width nan must be"),
        (RunOptions, {"tile": 0}, "tile 0 must be"),
        (MeasureRun, {"features": "textures"}, "features 'textures' must be basic or shape or texture or all"),
        (MeasureRun, {"features": ["shape"]}, r"features \['shape'\] must be basic or shape or texture or all"),
        (CompareRun, {"lesson": ["crf", "skip"]}, "lesson 'skip' must be upsampling or "),
        (RunOptions, {"format": "zarr"}, "format 'zarr' must be ome-tiff or ome-zarr"),
    ],
)
def test_values_from_python_are_those_of_the_command_line(kind: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kind(**options)


def test_every_setting_is_on_the_page_of_settings() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    names = {option.flag for kind in KINDS[:-2] for option in options_of(kind).values()}
    names |= {name for section in SECTIONS for name in section.model_fields}
    assert names <= set(re.findall(r"^\| `([\w-]+)`", text, flags=re.MULTILINE))


def test_options_that_were_given_override_the_settings() -> None:
    """Numbers may be zero, and what is no setting of training stays out."""
    run = TrainRun(seed=0, border_weight=0.0, steps=3, minutes=2.0, split_components=True)
    assert given(run) == {"seed": 0, "border_weight": 0.0, "steps": 3, "minutes": 2.0, "split_components": True}
    assert given_settings(run) == {"seed": 0, "border_weight": 0.0, "steps": 3, "split_components": True}
    assert given_settings(TrainRun()) == given_settings(CompareRun()) == {}


@pytest.mark.parametrize(
    ("limits", "taken", "refused", "words"),
    [
        (Limits(ge=1), (1, 2.5), (0.9, "1", True), "from 1"),
        (Limits(gt=0, le=4), (1e-9, 4), (0, 4.1), "above 0 and at most 4"),
        (Limits(ge=0, lt=1), (0, 0.99), (-0.1, 1), "from 0 and below 1"),
        (Limits(), (-1e300, 0), (float("nan"), float("inf"), None), ""),
    ],
)
def test_limits(limits: Limits, taken: tuple[float, ...], refused: tuple[object, ...], words: str) -> None:
    for value in taken:
        limits.check("x", value)
    for value in refused:
        with pytest.raises(UsageError, match=f"x {value} must be a finite number {words}"):
            limits.check("x", value)


def test_names_of_an_option() -> None:
    option = options_of(Settings)["pixel_size_um"]
    assert (option.key, option.flag, options_of(RunOptions)["as_json"].flag) == ("pixel_size", "--pixel-size", "--json")
    assert Option("Help.", "More.").text == "Help. More."
