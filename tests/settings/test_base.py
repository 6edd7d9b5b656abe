"""What all settings have in common."""

import dataclasses
import math
from typing import Any

import pytest
from pydantic import ValidationError

from unetbio.errors import UsageError
from unetbio.pipelines.settings import WorkflowConfig
from unetbio.settings.base import Section
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
