"""``unetbio inspect``: what files hold, and which cannot be opened."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio.cli.main import main
from unetbio.io import write_image


def inspect(*line: Any) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, line)])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cells.ome.tif"
    metadata = {
        "axes": "CZYX",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeY": 0.5,
        "PhysicalSizeZ": 2.0,
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(path, np.zeros((2, 3, 8, 9), np.uint16), ome=True, metadata=metadata)
    return path


def test_what_a_file_holds(picture: Path) -> None:
    result = inspect(picture)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"{picture}: OME-TIFF, 1 image",
        '  series 0 "Image0": C=2 Z=3 Y=8 X=9 uint16',
        "    pixel size: Z 2, Y 0.5, X 0.25 um (trusted)",
        "    channels: 0: DAPI, 1: GFP",
    ]
    assert not result.stderr


def test_for_programs(picture: Path) -> None:
    result = inspect(picture, "--json")
    assert json.loads(result.stdout) == [
        {
            "path": str(picture),
            "format": "tiff",
            "variant": "OME-TIFF",
            "files": [str(picture)],
            "series": [
                {
                    "series": 0,
                    "name": "Image0",
                    "axes": "CZYX",
                    "shape": [2, 3, 8, 9],
                    "levels": [[9, 8]],
                    "dtype": "uint16",
                    "bytes": 864,
                    "pixel_size_um": {"Z": 2.0, "Y": 0.5, "X": 0.25},
                    "pixel_size_trusted": True,
                    "channels": ["DAPI", "GFP"],
                }
            ],
        }
    ]


def test_which_tiff_it_is(tmp_path: Path) -> None:
    grey = np.zeros((64, 64), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", grey, metadata=None)
    tifffile.imwrite(tmp_path / "b.tif", grey, imagej=True)
    for name in ("c.tif", "d.ome.tif"):
        with tifffile.TiffWriter(tmp_path / name) as tif:
            tif.write(grey, tile=(16, 16), subifds=1)
            tif.write(grey[::2, ::2], tile=(16, 16), subfiletype=1)
    result = inspect(tmp_path)
    titles = [line.partition(": ")[2] for line in result.stdout.splitlines() if line.startswith("/")]
    kinds = ["TIFF", "ImageJ TIFF", "TIFF pyramid", "OME-TIFF pyramid"]
    assert titles == [f"{kind}, 1 image" for kind in kinds]


def test_one_bad_file_is_one_line(picture: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(picture.read_bytes()[:300])
    result = inspect(bad, picture)
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"unetbio: error: {bad}: ")
    assert line.endswith("[truncated]")
    assert result.stdout.startswith(f"{picture}: ")
    refused, whole = json.loads(inspect(bad, picture, "--json").stdout)
    assert (refused["path"], refused["reason"], refused["series"]) == (str(bad), "truncated", [])
    assert whole["format"] == "tiff"


def test_axes_that_the_file_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((5, 8, 9), np.uint8), metadata=None, photometric="minisblack")
    result = inspect(path)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "say --axes ZYX, TYX or CYX [unknown_axes]" in result.stderr
    result = inspect(path, "--axes", "TYX")
    assert result.exit_code == 0
    assert "series 0: T=5 Y=8 X=9 uint8" in result.stdout
    assert "pixel size: unknown" in result.stdout


def test_folders_are_searched(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write_image(tmp_path / "more" / "grey.tif", np.zeros((4, 5), np.uint8), axes="YX")
    rows = json.loads(inspect(tmp_path, "--json").stdout)
    assert [Path(row["path"]).name for row in rows] == ["cells.ome.tif", "grey.tif"]
    result = inspect(tmp_path / "nothing")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_every_file_of_a_set_and_every_series(shared_data: Path) -> None:
    pytest.importorskip("liffile")
    folder = shared_data / "formats"
    (row,) = json.loads(inspect(folder / "companion" / "multifile.companion.ome", "--json").stdout)
    assert [Path(name).name for name in row["files"]] == [
        "multifile.companion.ome",
        *(f"multifile-Z{i}.ome.tiff" for i in range(1, 6)),
    ]
    assert "6 files: " in inspect(folder / "companion" / "multifile.companion.ome").stdout
    # Two of three images do not say where their rows are; the third is shown.
    result = inspect(folder / "testdata_2channel_xz.lif", "--json")
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 2
    (row,) = json.loads(result.stdout)
    assert [series.get("reason") for series in row["series"]] == ["unknown_axes", None, "unknown_axes"]
    assert row["series"][1]["axes"] == "CZYX"
    text = inspect(folder / "testdata_2channel_xz.lif").stdout
    assert '  series 1 "xzy": C=2 Z=128 Y=23 X=128 uint8' in text
    assert "  series 0: stored axes T=20 C=2 Z=128 X=128" in text


def test_pictures_of_a_slide(shared_data: Path) -> None:
    (row,) = json.loads(inspect(shared_data / "formats" / "CMU-1-Small-Region.svs", "--json").stdout)
    assert row["variant"] == "Aperio SVS"
    sizes = {series["name"]: series["pixel_size_um"] for series in row["series"]}
    assert sizes == {"Baseline": {"Y": 0.499, "X": 0.499}, "Thumbnail": {}, "Label": {}, "Macro": {}}


def test_a_cut_file_of_many_series_is_one_line(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("liffile")
    content = (shared_data / "formats" / "testdata_2channel_xz.lif").read_bytes()
    (tmp_path / "x.lif").write_bytes(content[:5000])
    result = inspect(tmp_path / "x.lif")
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1
