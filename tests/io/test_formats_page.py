"""The page of formats says what the code does."""

import re
from pathlib import Path

import pytest

from unetbio.io.read import FORMATS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")

# Of label images, which docs/command_line.md explains.
LABEL_REASONS = {"ambiguous_labels", "binary_mask", "negative_labels", "not_integer", "too_many_labels"}


def rows_after(mark: str) -> list[list[str]]:
    lines = PAGE.split(f"<!-- {mark} -->\n\n")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_formats_on_the_page_are_those_in_the_code() -> None:
    rows = rows_after("formats")
    assert [quoted(row[0]) for row in rows] == [[name] for name in FORMATS]
    for row, kind in zip(rows, FORMATS.values(), strict=True):
        assert quoted(row[1]) == list(kind.suffixes)
        assert quoted(row[2]) == [kind.reader]


@pytest.mark.parametrize("name", FORMATS)
def test_libraries_on_the_page_are_those_imported(name: str) -> None:
    (row,) = [row for row in rows_after("formats") if quoted(row[0]) == [name]]
    module = FORMATS[name].reader.partition(":")[0].replace(".", "/")
    source = (ROOT / f"{module}.py").read_text(encoding="utf-8")
    for library in ("tifffile", "imagecodecs", "nibabel", "liffile", "nd2", "zarr"):
        used = re.search(rf'^\s*import {library}\b|need\("{library}"', source, flags=re.MULTILINE) is not None
        # TIFF's tiles are unpacked by tifffile through imagecodecs.
        assert (re.search(rf"\b{library}\b", row[3]) is not None) == (
            used or (name, library) == ("tiff", "imagecodecs")
        )
    extra = 'need("' in source or "INSTALL" in source
    assert ("extra `formats`" in row[3]) == extra


def test_reasons_on_the_page_are_those_in_the_code() -> None:
    listed = {reason for row in rows_after("reasons") for reason in quoted(row[0])}
    used: set[str] = set()
    for path in (ROOT / "unetbio" / "io").rglob("*.py"):
        used |= set(re.findall(r'ImageError\(\s*"([a-z_]+)"', path.read_text(encoding="utf-8")))
    assert listed == used - LABEL_REASONS


def test_what_is_not_read_is_named_so(tmp_path: Path) -> None:
    from unetbio.errors import ImageError
    from unetbio.io import read_image
    from unetbio.io.read import _OTHERS

    (line,) = re.findall(r"^Not read: (.*?)\. ", PAGE, flags=re.MULTILINE)
    for start, _ in _OTHERS:
        path = tmp_path / "x"
        path.write_bytes(start + bytes(200))
        with pytest.raises(ImageError, match="are read; convert it") as caught:
            read_image(path)
        assert caught.value.reason == "unsupported_format"
    for name in ("GIF", "BMP", "JPEG 2000", "HDF5", "LOF"):
        assert name in line
