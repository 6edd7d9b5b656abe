"""JSON one value at a time: what Python's own reader gives, and one line for what it refuses."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetbio.annotations import json_stream
from unetbio.annotations.json_stream import ARRAY, members
from unetbio.errors import ImageError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def collected(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    arrays = set()
    for name, value in members(io.StringIO(text)):
        if value is ARRAY:
            arrays.add(name)
            found[name] = []
        elif name in arrays:
            found[name].append(value)
        else:
            found[name] = value
    return found


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.sampled_from([None, 2]), st.sampled_from([1, 7, 1 << 16]))
def test_members_are_those_of_the_whole_text(value: dict[str, Any], indent: int | None, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        assert collected(json.dumps(value, indent=indent)) == value
        assert collected(json.dumps(list(value.values()), indent=indent)) == {"": list(value.values())}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON"),
        ("[1, 2", "is no JSON"),
        ("[1 2]", "is no JSON"),
        ("[1,]", "is no JSON"),
        ('{"a" 1}', "is no JSON"),
        ("{1: 2}", "is no JSON"),
        ('{"a": nothing}', "is no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "4300 digits"),
        ("<html>", "is no JSON"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        collected(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("chunk", [1, 100])
def test_numbers_that_are_not_finite_are_read(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """QuPath writes them among its measurements."""
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    assert str(collected('{"a": NaN, "b": [-Infinity, Infinity]}')) == "{'a': nan, 'b': [-inf, inf]}"


def test_endless_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_CHARACTERS", 1000)
    monkeypatch.setattr(json_stream, "CHUNK", 100)
    with pytest.raises(ImageError, match="more than 0 MiB of text, or an end is missing"):
        collected('{"a": "' + "x" * 3000)
