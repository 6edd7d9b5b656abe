"""Base of all settings: unknown keys, and numbers that are NaN or infinite, are refused."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from unetbio.errors import UsageError
from unetbio.files import read_bytes

__all__ = ["YAML_ERRORS", "Section", "flattened", "read_mapping", "validated"]

YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises for a text that is no YAML: for impossible dates and numbers, errors of Python itself."""

MOST_VALUES = 100_000
"""Values in a file of settings, each counted as often as it is used: aliases can stand for more than memory holds."""

SHOWN_CHARACTERS = 200


class Section(BaseModel):
    """Base of all settings: unknown keys are errors, numbers are finite, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SectionT = TypeVar("SectionT", bound=Section)


def read_mapping(path: str | Path | None) -> dict[str, Any]:
    """Read a YAML file of settings; an empty mapping without a file.

    Raises
    ------
    UsageError
        When it cannot be read, or is not a mapping of names to values.
    """
    if path is None:
        return {}
    try:
        content = yaml.safe_load(read_bytes(path).decode("utf-8"))
    except (OSError, *YAML_ERRORS) as error:
        raise UsageError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds {type(content).__name__}, settings are a mapping of names to values")
    if _is_too_large(content):
        raise UsageError(f"{path} holds more than {MOST_VALUES} values: settings are few; leave out aliases (*name)")
    return content


def _is_too_large(content: Any) -> bool:
    """Whether there are more than `MOST_VALUES`, as without end in a list that holds itself."""
    left, count = [content], 0
    while left and count <= MOST_VALUES:
        value = left.pop()
        count += 1
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple | set):
            left += value
    return count > MOST_VALUES


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of dictionaries in dictionaries, with dots in their names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flattened(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def validated(kind: type[SectionT], content: Mapping[str, Any], path: str | Path | None) -> SectionT:
    """Validate settings.

    Parameters
    ----------
    kind : type
        A `Section`.
    content : mapping
        Settings to validate.
    path : pathlib.Path, optional
        The file that holds them, for messages.

    Raises
    ------
    UsageError
        One line that names the key, the given value and, for an unknown key, the known keys.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        place = f"{path}: " if path else ""
        raise UsageError(place + _explain(kind, error)) from error


def _explain(kind: type[BaseModel], error: ValidationError) -> str:
    """Describe pydantic's first error in one line, with the key as written in the file."""
    problems = error.errors()
    problem = problems[0]
    key, known = _locate(kind, problem["loc"])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key.rpartition(".")[2], known, n=1)
        advice = f"did you mean {near[0]}? " if near else ""
        return f"unknown key {key}: {advice}known are {', '.join(known)}"
    if problem["type"] in ("model_type", "dataclass_type"):
        return f"{key}: names with values are needed (given: {_shown(problem['input'])})"
    # Where several types are allowed, pydantic gives one message for each.
    messages = dict.fromkeys(
        p["msg"].removeprefix("Value error, ") for p in problems if _locate(kind, p["loc"])[0] == key
    )
    text = ", or ".join(messages)
    return f"{key}: {text} (given: {_shown(problem['input'])})" if key else text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _locate(kind: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """Dotted key of a pydantic location, without pydantic's names for members of a union, and its sibling keys."""
    words: list[str] = []
    known = list(kind.model_fields)
    inner: Any = kind
    for part in location:
        fields = getattr(inner, "model_fields", None) or getattr(inner, "__dataclass_fields__", {})
        if isinstance(part, int):
            words.append(str(part))
            continue
        if get_origin(inner) is dict and part != "[key]":
            words.append(part)
            inner = get_args(inner)[1]
            continue
        if fields:
            known = list(fields)
        elif words:
            break
        words.append(part)
        inner = getattr(fields.get(part), "annotation", None)
    return ".".join(words), known
