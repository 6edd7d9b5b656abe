"""Read JSON one value at a time, so that the memory it takes does not grow with the file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from unetbio.errors import ImageError
from unetbio.files import open_regular

__all__ = ["ARRAY", "members", "members_of"]

ARRAY = object()
"""Stands for an array whose elements follow one by one."""

MAX_CHARACTERS = 1 << 26
"""Longest single value, such as an outline."""

CHUNK = 1 << 16
_SPACE = " \t\n\r"
_IN_NUMBERS = ".eE+-"


def members_of(path: Path) -> Iterator[tuple[str, Any]]:
    """As `members`, of a file in UTF-8 or UTF-16."""
    with open_regular(path) as raw:
        is_utf_16 = raw.read(2) in (b"\xff\xfe", b"\xfe\xff")
    with open_regular(path, "r", encoding="utf-16" if is_utf_16 else "utf-8-sig") as stream:
        yield from members(stream)


def members(stream: IO[str]) -> Iterator[tuple[str, Any]]:
    """Members of the object in a file, each with its name.

    An array is given as `ARRAY`, then its elements one by one under the same name. The elements of a file that is an
    array have the name "".

    Raises
    ------
    ImageError
        ``bad_json``: the text is no JSON object or array, or holds a value that is too long.

    Notes
    -----
    NaN and infinity, which QuPath writes among the measurements, are numbers; coordinates refuse them.
    """
    reader = _Reader(stream)
    try:
        if reader.peek() == "[":
            yield "", ARRAY
            yield from (("", element) for element in reader.elements())
        else:
            yield from reader.members()
    except UnicodeDecodeError as error:
        raise ImageError("bad_json", f"not in UTF-8 (byte {error.start}); export it again") from error


class _Reader:
    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._read(CHUNK):
                return ""

    def members(self) -> Iterator[tuple[str, Any]]:
        self._skip("{")
        while not self._ends("}"):
            name = self._value()
            if not isinstance(name, str):
                _refuse("is no JSON")
            self._skip(":")
            if self.peek() == "[":
                yield name, ARRAY
                yield from ((name, element) for element in self.elements())
            else:
                yield name, self._value()
            self._next("}")

    def elements(self) -> Iterator[Any]:
        self._skip("[")
        while not self._ends("]"):
            yield self._value()
            self._next("]")

    def _value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                _refuse("is nested too deeply")
            except json.JSONDecodeError as error:
                # The value may go on in what was not read yet.
                if not self._read(max(CHUNK, len(self._text) - self._at)):
                    _refuse(f"is no JSON ({error.msg})")
                continue
            except ValueError as error:
                # A whole number of thousands of digits.
                _refuse(str(error))
            # A number may go on, too: of 12.5 only 12. may have been read.
            if not self._text[end:].strip(_IN_NUMBERS) and self._read(CHUNK):
                continue
            self._at = end
            return value

    def _read(self, size: int) -> bool:
        if len(self._text) - self._at > MAX_CHARACTERS:
            _refuse(f"holds a value of more than {MAX_CHARACTERS >> 20} MiB of text, or an end is missing")
        more = self._stream.read(size)
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)

    def _skip(self, wanted: str) -> None:
        if self.peek() != wanted:
            _refuse(f"is no JSON ({wanted} expected, {self._text[self._at : self._at + 20]!r} found)")
        self._at += 1

    def _ends(self, end: str) -> bool:
        if self.peek() != end:
            return False
        self._at += 1
        return True

    def _next(self, end: str) -> None:
        """Go over the comma between values; the end stays."""
        if self.peek() != end:
            self._skip(",")
            if self.peek() == end:
                _refuse(f"is no JSON (a comma before {end})")


def _refuse(what: str) -> NoReturn:
    raise ImageError("bad_json", f"{what}; export it again")
