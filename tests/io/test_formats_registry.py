"""Formats register themselves, and bytes decide between them."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from click.testing import CliRunner

from unetbio.cli.main import main
from unetbio.io import Image, read_image, read_labels
from unetbio.io.formats import FORMATS, SUFFIXES, SUPPORTED, Format, find_by_name, find_file, load, register
from unetbio.io.series import list_series


@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_every_function_is_where_the_format_says(kind: Format) -> None:
    for place in (kind.reader, kind.label_reader or kind.reader):
        assert {"path", "axes", "series"} <= set(inspect.signature(load(place)).parameters)
    for place in kind.writers.values():
        assert {"axes", "pixel_size_um", "affine"} <= set(inspect.signature(load(place)).parameters)
    assert kind.title in SUPPORTED


@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_every_ending_leads_to_its_format(kind: Format) -> None:
    for suffix in (*kind.suffixes, *kind.long_suffixes):
        assert find_by_name(f"x{suffix}") is kind
        assert (suffix in SUFFIXES) == (not kind.folder_markers and suffix in kind.suffixes)


def test_bytes_decide_not_names(tmp_path: Path) -> None:
    for kind in FORMATS.values():
        for start in kind.starts:
            assert find_file("x.png", start + bytes(500)) is kind
    # One image of the old kind and one piece of another, which begin alike.
    lif = b"\x70\0\0\0" + bytes(4) + b"\x2a" + bytes(4)
    assert find_file("x", lif + "<LMSDataContainerHeader".encode("utf-16-le")) is FORMATS["lif"]
    assert find_file("x", lif + "LMS_Object_File".encode("utf-16-le")) is None
    # gzip alone does not make a volume.
    assert find_file("x.nii.gz", b"\x1f\x8b" + bytes(500)) is FORMATS["nifti"]
    assert find_file("x.gz", b"\x1f\x8b" + bytes(500)) is None
    assert find_file("x", b"") is None


def test_no_name_and_no_ending_twice() -> None:
    png = FORMATS["png"]
    with pytest.raises(ValueError, match=r"png: registered already, by the format 'png'"):
        register(dataclasses.replace(png, suffixes=(".new",)))
    with pytest.raises(ValueError, match=r"\.tif: registered already, by the format 'tiff'"):
        register(dataclasses.replace(png, name="new", suffixes=(".tif",)))
    assert set(FORMATS) == {kind.name for kind in FORMATS.values()}


def test_listing_files_imports_no_library_that_reads_them(tmp_path: Path) -> None:
    (tmp_path / "x.czi").touch()
    libraries = sorted({library for kind in FORMATS.values() for library in kind.libraries})
    script = (
        f"import sys; from unetbio.io.discover import find_inputs; assert find_inputs([{str(tmp_path)!r}]); "
        f"print(set(sys.modules) & set({libraries}))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.stdout == "set()\n", run


def read_new(path: Path, *, axes: str | None = None, series: int = 0) -> Image:
    return dataclasses.replace(read_image(path.parent / "x.png", axes=axes, series=series), source=path, format="new")


def test_a_new_format_is_found_read_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered, it needs no other place: here it is a picture beside a file."""
    monkeypatch.setitem(FORMATS, "new", FORMATS["png"])  # is taken out again after the test
    del FORMATS["new"]
    register(
        Format(
            name="new", title="New", suffixes=(".new",), contents="", reader=f"{__name__}:read_new", starts=(b"NEW",)
        )
    )
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(np.eye(3, dtype=np.uint8)))
    (tmp_path / "y.tif").write_bytes(b"NEW")
    assert [series.image and series.image.format for series in list_series(tmp_path / "y.tif")] == ["new"]
    np.testing.assert_array_equal(read_labels(tmp_path / "y.tif", allow_binary=True), np.eye(3))
    result = CliRunner().invoke(main, ["inspect", str(tmp_path / "y.tif")])
    assert result.stdout.startswith(f"{tmp_path / 'y.tif'}: New, 1 image")
