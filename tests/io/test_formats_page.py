"""The page of formats says what the code does."""

import re
from pathlib import Path

import pytest

from unetbio.io.formats import FORMATS, Format

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")

# Of label images, which docs/command_line.md explains.
LABEL_REASONS = {
    *("ambiguous_labels", "binary_mask", "negative_labels", "no_classes", "not_integer", "several_images"),
    "too_many_labels",
}


def rows_after(mark: str) -> list[list[str]]:
    lines = PAGE.split(f"<!-- {mark} -->\n\n")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_libraries_are_those_imported(kind: Format) -> None:
    folder = (ROOT / kind.reader.partition(":")[0].replace(".", "/")).parent
    source = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    used = set(re.findall(r"^\s*import (tifffile|imagecodecs|nibabel|liffile|nd2|zarr)\b", source, flags=re.MULTILINE))
    # TIFF's tiles are unpacked by tifffile through imagecodecs.
    assert used | ({"imagecodecs"} if kind.name == "tiff" else set()) == set(kind.libraries)


def test_reasons_on_the_page_are_those_in_the_code() -> None:
    listed = {reason for row in rows_after("reasons") for reason in quoted(row[0])}
    # A name that tables cannot hold is refused before the file is opened.
    paths = (*(ROOT / "unetbio" / "io").rglob("*.py"), ROOT / "unetbio" / "batch" / "pipeline.py")
    source = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    constants = dict(re.findall(r'^([A-Z_]+) = "([a-z_]+)"$', source, flags=re.MULTILINE))
    used = set(re.findall(r'ImageError\(\s*"([a-z_]+)"', source))
    used |= {constants[name] for name in re.findall(r"ImageError\(\s*([A-Z_]+)\b", source)}
    assert listed == used - LABEL_REASONS


def test_what_is_not_read_is_named_so(tmp_path: Path) -> None:
    from unetbio.errors import ImageError
    from unetbio.io import read_image
    from unetbio.io.formats.unread import UNREAD_STARTS

    (line,) = re.findall(r"^Not read: (.*?)\. ", PAGE, flags=re.MULTILINE)
    for start, _ in UNREAD_STARTS:
        path = tmp_path / "x"
        path.write_bytes(start + bytes(200))
        with pytest.raises(ImageError, match="are read; convert it") as caught:
            read_image(path)
        assert caught.value.reason == "unsupported_format"
    for name in ("GIF", "BMP", "JPEG 2000", "HDF5", "LOF"):
        assert name in line
