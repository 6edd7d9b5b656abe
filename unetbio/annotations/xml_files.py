"""Read XML one element at a time; files that declare entities are refused."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from unetbio.annotations.outlines import number_of
from unetbio.errors import ImageError
from unetbio.files import open_regular

__all__ = ["decimal", "elements_of", "root_of"]

HEAD_BYTES = 4096
"""Bytes in which the first element has to begin."""

_ROOT = re.compile(r"<([A-Za-z_][\w.-]*)")


def root_of(path: Path) -> str:
    """Name of the first element; empty where a document type, which can declare entities, stands before it."""
    with open_regular(path) as stream:
        head = stream.read(HEAD_BYTES)
    is_utf_16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = head.decode("utf-16" if is_utf_16 else "utf-8", errors="replace")
    found = _ROOT.search(text)
    return found[1] if found and "<!DOCTYPE" not in text[: found.start()].upper() else ""


def elements_of(path: Path, names: Sequence[str]) -> Iterator[ElementTree.Element]:
    """The elements of these names, each of which is forgotten when the next one is read.

    Raises
    ------
    ImageError
        ``bad_xml``.
    """
    try:
        with open_regular(path) as stream:
            for _, element in ElementTree.iterparse(stream):
                if element.tag in names:
                    yield element
                    element.clear()
    except ElementTree.ParseError as error:
        raise ImageError("bad_xml", f"is no XML ({error}); export it again") from error


def decimal(element: ElementTree.Element, name: str, what: str, default: float | None = None) -> float:
    """A number among the attributes of an element.

    Raises
    ------
    ImageError
        ``bad_outline``: it is missing without a default, or no finite number near the image.
    """
    text = element.get(name)
    if text is None and default is not None:
        return default
    try:
        value: float | str | None = float(text or "")
    except ValueError:
        value = text
    return number_of(value, f"{what}: {name}")
