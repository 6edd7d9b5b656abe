"""What all settings have in common."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from unetbio.errors import UsageError
from unetbio.pipelines.settings import WorkflowConfig
from unetbio.settings.base import Section, read_mapping, validated
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig

NOT_FINITE = [math.nan, math.inf, -math.inf]


def _sections(kind: type[Section]) -> list[type[Section]]:
    return [kind, *(inner for below in kind.__subclasses__() for inner in _sections(below))]


# The modules that are imported above define all of them.
SECTIONS = [kind for kind in _sections(Section) if kind.model_fields]


def test_all_settings_are_found() -> None:
    assert {WorkflowConfig, TrainingConfig} <= set(SECTIONS)


@pytest.mark.parametrize("value", [*NOT_FINITE, (1.0, math.inf), (math.nan, 1.0), {"low": math.nan}], ids=str)
@pytest.mark.parametrize("kind", SECTIONS, ids=lambda kind: kind.__name__)
def test_no_setting_takes_a_number_that_is_not_finite(kind: type[Section], value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(dict.fromkeys(kind.model_fields, value))
    refused = {error["loc"][0] for error in caught.value.errors()}
    takes_names = {name for name, field in kind.model_fields.items() if field.annotation == dict[str, Any]}
    assert refused == set(kind.model_fields) - (takes_names if isinstance(value, dict) else set())


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Settings) if "float" in str(field.type)])
def test_no_option_of_a_segmentation_takes_a_number_that_is_not_finite(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=name):
        Settings(**{name: value})


@pytest.mark.parametrize(
    "text",
    ["steps: 2001-99-99", f"steps: {'9' * 5000}", "steps: !!bool maybe", "steps: !!timestamp x", "a: " + "[" * 100_000],
    ids=["date", "number", "word", "time", "deep"],
)
def test_values_that_yaml_cannot_build_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"x\.yaml cannot be read as YAML: ") as caught:
        read_mapping(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["a: &a [*a]", "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30))],
    ids=["itself", "aliases"],
)
def test_aliases_that_stand_for_too_much_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"x\.yaml holds more than 100000 values"):
        read_mapping(tmp_path / "x.yaml")


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(UsageError, match=r"^steps: .* \(given: 'x{199}\.\.\.\)$"):
        validated(TrainingConfig, {"steps": "x" * 1000}, None)
