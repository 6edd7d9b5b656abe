"""Tables of options and settings for the documentation, from the definitions in ``unetbio.settings``."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from unetbio.pipelines.options import WORKFLOW_RUN
from unetbio.settings.base import Section
from unetbio.settings.normalization import Normalization
from unetbio.settings.options import Limits, Option, options_of
from unetbio.settings.runs import LEAST_MEMORY, ImportRun, MeasureRun, RunOptions, TrackRun, ViewRun, parse_bytes
from unetbio.settings.segmentation import READING, Settings
from unetbio.settings.training import Augmentation, TrainingConfig
from unetbio.settings.training_runs import (
    OF_CALIBRATION,
    OF_TRAINING,
    CalibrateRun,
    CompareRun,
    LearnCurveRun,
    TrainRun,
    WeightMapRun,
)

__all__ = ["TABLES"]

SEGMENTATION = options_of(Settings)
IN_WORKFLOW = {*SEGMENTATION, *WORKFLOW_RUN}
RUNS = {"segment": RunOptions, "measure": MeasureRun, "train": TrainRun, "compare": CompareRun}


def of_command(options: Iterable[Option]) -> str:
    """Options as the command's page lists them."""
    return _table(("option", "meaning"), ((f"`{option.flag}`", _sentence(option.help)) for option in options))


def of_workflow(options: Iterable[Option]) -> str:
    """Options as keys of the workflow."""
    rows = ((f"`{option.key}`", _default(option.default), _sentence(option.help)) for option in options)
    return _table(("`segment:`", "default", "meaning"), rows)


def in_full(options: Iterable[Option], workflow: Iterable[str] = ()) -> str:
    """All that is known of options."""

    def row(option: Option) -> tuple[str, ...]:
        key = f"`{option.key}`" if option.field in workflow else ""
        names = (f"`{option.flag}`", key) if workflow else (f"`{option.flag}`",)
        default = f"`{option.unset}`" if option.unset else option.default_text or _default(option.default)
        return (*names, _values(option), default, _sentence(option.text))

    names = ("command line", "workflow") if workflow else ("command line",)
    return _table((*names, "values", "default", "meaning"), map(row, options))


def of_section(section: type[Section]) -> str:
    """Settings of training."""

    def row(name: str, field: FieldInfo) -> tuple[str, ...]:
        limits = {kind: getattr(limit, kind) for limit in field.metadata for kind in _KINDS if hasattr(limit, kind)}
        option = Option("", hint=field.annotation, limits=Limits(**limits))
        values = ("below", "") if isinstance(field.default, _INNER) else (_values(option), _default(field.default))
        return f"`{name}`", *values, _sentence(str(field.description))

    return _table(("key", "values", "default", "meaning"), (row(*item) for item in section.model_fields.items()))


def of_normalization() -> str:
    """Fields of the normalization."""
    options = options_of(Normalization)
    rows = (
        (f"`{f.name}`", _values(options[f.name]), _default(f.default), options[f.name].help)
        for f in fields(Normalization)
    )
    return _table(("key", "values", "default", "meaning"), rows)


_INNER = (Section, Normalization)
_KINDS = ("ge", "gt", "le", "lt")
_NAMES = {
    bool: "yes or no",
    int: "whole number",
    float: "number",
    Path: "file",
    tuple: "list",
    dict: "names and values",
    Literal: "",
}


def _values(option: Option) -> str:
    if option.read is parse_bytes:
        return f"size from {LEAST_MEMORY >> 30}G"
    words = [f"`{word}`" for word in ((option.unset,) if option.unset and option.words else ()) + option.words]
    given = [kind for kind in option.kinds if kind is not str or Path not in option.kinds]
    kinds = dict.fromkeys(filter(None, (_kind(kind, option.limits) for kind in given)))
    return ", ".join([*kinds, *words])


def _kind(kind: Any, limits: Limits) -> str:
    if get_origin(kind) is Annotated:
        return _kind(get_args(kind)[0], _limits_of(kind))
    return f"{_NAMES[kind]} {limits}".strip() if kind in (int, float) else _NAMES.get(get_origin(kind) or kind, "text")


def _limits_of(kind: Any) -> Limits:
    return Limits(
        **{name: getattr(limit, name) for limit in get_args(kind)[1:] for name in _KINDS if hasattr(limit, name)}
    )


def _default(value: Any) -> str:
    if value is None or value is False or value in ((), ""):
        return ""
    if isinstance(value, dict):
        return ", ".join(f"`{name}: {_plain(inner)}`" for name, inner in value.items())
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _sentence(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in _lines(tuple(head), rows))


def _lines(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> Iterator[Iterable[str]]:
    yield head
    yield ("---",) * len(head)
    yield from rows


def _full(kind: type, workflow: Iterable[str] = ()) -> Callable[[], str]:
    return lambda: in_full(options_of(kind).values(), workflow)


_CELLS = [option for name, option in SEGMENTATION.items() if name not in READING]

ON_ANNOTATED: dict[str, type] = {
    "train": TrainRun,
    "learn-curve": LearnCurveRun,
    "calibrate": CalibrateRun,
    "compare": CompareRun,
}
"""Commands that read annotated images."""


def _with_reading(kind: type) -> str:
    told = OF_CALIBRATION if kind is CalibrateRun else OF_TRAINING
    reading = [replace(SEGMENTATION[name], **told.get(name, {})) for name in READING]
    return of_command([*reading, *options_of(kind).values()])


TABLES: dict[str, Callable[[], str]] = {
    "options: segment": lambda: of_command(
        [*(SEGMENTATION[name] for name in READING), *_CELLS, *options_of(RunOptions).values()]
    ),
    "options: import": lambda: of_command(
        [*options_of(ImportRun).values(), *(SEGMENTATION[name] for name in ("series", "t", "z", "axes"))]
    ),
    "options: track": lambda: of_command(options_of(TrackRun).values()),
    "options: view": lambda: of_command(options_of(ViewRun).values()),
    "options: weight-map": lambda: of_command(options_of(WeightMapRun).values()),
    **{f"options: {name}": lambda kind=kind: _with_reading(kind) for name, kind in ON_ANNOTATED.items()},
    "options: workflow": lambda: of_workflow(
        [*SEGMENTATION.values(), *(options_of(RunOptions)[name] for name in WORKFLOW_RUN)]
    ),
    "options: segmentation in full": _full(Settings, IN_WORKFLOW),
    "options: segment in full": _full(RunOptions, IN_WORKFLOW),
    **{f"options: {name} in full": _full(kind) for name, kind in RUNS.items() if name != "segment"},
    "settings: training": lambda: of_section(TrainingConfig),
    "settings: augmentation": lambda: of_section(Augmentation),
    "settings: normalization": of_normalization,
}
