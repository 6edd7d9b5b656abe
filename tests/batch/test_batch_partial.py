"""Images that lack planes: what is whole can be had, and only when it is asked for."""

import csv
import itertools
import json
import uuid
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.io import read_image, read_labels
from unetbio.io.missing import longest_run

Array = NDArray[Any]
Segment = Callable[..., Result]

HEAD = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XY{order}" Type="uint8" SizeX="80" SizeY="64" '
    'SizeZ="{z}" SizeC="{c}" SizeT="{t}">{inside}</Pixels></Image></OME>'
)


def write_ome(path: Path, planes: list[Array], inside: str, own: object = "", **sizes: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    xml = HEAD.format(own=own, inside=inside, **{"order": "ZCT", "z": 1, "c": 1, "t": 1, **sizes})
    with tifffile.TiffWriter(path) as writer:
        for number, plane in enumerate(planes):
            description = None if number else xml
            writer.write(plane, photometric="minisblack", metadata=None, description=description, contiguous=False)


def channels(*names: str) -> str:
    return "".join(f'<Channel ID="Channel:0:{n}" Name="{n}" SamplesPerPixel="1"/>' for n in names)


def write_set(folder: Path, names: list[str], planes: list[Array | None], axis: str = "C") -> None:
    """A file for each channel, or time, each with OME-XML that names all; those of None are not written."""
    ids = [uuid.UUID(int=number + 1) for number in range(len(names))]
    places = "".join(
        f'<TiffData First{axis}="{at}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{n}.ome.tif">urn:uuid:{i}</UUID></TiffData>'
        for at, (n, i) in enumerate(zip(names, ids, strict=True))
    )
    named = channels(*names) if axis == "C" else channels("DAPI")
    for name, own, plane in zip(names, ids, planes, strict=True):
        if plane is not None:
            write_ome(folder / f"{name}.ome.tif", [plane], named + places, own, **{axis.lower(): len(names)})


@pytest.fixture
def segment(tmp_path: Path, tiny_model: Path) -> Segment:
    def invoke(*arguments: str) -> Result:
        line = [str(tmp_path / "images"), "-o", str(tmp_path / "out"), "-m", str(tiny_model), "--workers", "1"]
        return CliRunner().invoke(main, ["segment", *line, *arguments])

    return invoke


def rows(folder: Path, name: str = "summary.csv") -> list[dict[str, str]]:
    with open(folder / "out" / name, newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_time_lapse_that_stopped(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_ome(tmp_path / "images" / "run.ome.tif", [discs] * 4, channels("DAPI") + "<TiffData/>", t=6)
    result = segment()
    assert result.exit_code == 3
    assert "2 of 6 planes are missing (t 4 to 5): --partial of segment and suggest takes what is there" in result.stderr
    assert "[missing_plane]" in result.stderr
    result = segment("--partial")
    assert result.exit_code == 0, result.stderr
    assert "2 of 6 planes are missing; the others were used [missing_planes]" in result.stderr
    assert [(row["t"], row["n_cells"], row["warnings"]) for row in rows(tmp_path)] == [
        (str(t), "3", "missing_planes:2/6") for t in range(4)
    ]
    assert read_labels(tmp_path / "out" / "run_labels.ome.tif").shape == (4, 64, 80)
    # Kept while partial images are asked for, and refused again otherwise.
    assert '"skipped"' in segment("--partial").stdout + (tmp_path / "out" / "run.jsonl").read_text().splitlines()[-1]
    measured = CliRunner().invoke(main, ["measure", str(tmp_path / "out"), "--overwrite"])
    assert measured.exit_code == 0, measured.output
    assert {row["t"] for row in rows(tmp_path, "cells.csv")} == set("0123")
    again = CliRunner().invoke(main, ["verify", str(tmp_path / "out"), "--rerun", "1"])
    assert again.exit_code == 0, again.output
    assert segment().exit_code == 3


def test_one_time_of_a_time_lapse_that_stopped(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_ome(tmp_path / "images" / "run.ome.tif", [discs] * 4, channels("DAPI") + "<TiffData/>", t=6)
    assert segment("--t", "3").exit_code == 0
    assert [(row["t"], row["warnings"]) for row in rows(tmp_path)] == [("3", "missing_planes:2/6")]
    assert segment("--t", "4", "--partial").exit_code == 3


def test_a_time_lapse_that_was_cut(segment: Segment, tmp_path: Path, discs: Array) -> None:
    noisy = np.stack(
        [discs + np.random.default_rng(t).integers(0, 9, discs.shape).astype(discs.dtype) for t in range(6)]
    )
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "run.tif"
    tifffile.imwrite(path, noisy, imagej=True, metadata={"axes": "TYX"}, compression="zlib")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = segment()
    assert result.exit_code == 3
    assert "the file was cut: 4 of 6 planes are missing (t 2 to 5): --partial of segment and" in result.stderr
    assert segment("--partial").exit_code == 0
    assert [(row["t"], row["n_cells"], row["warnings"]) for row in rows(tmp_path)] == [
        (str(t), "3", "missing_planes:4/6 cut_file") for t in range(2)
    ]


@pytest.mark.parametrize("options", [("--partial",), ("--t", "1"), ("--partial", "--t", "1")])
def test_a_time_lapse_of_grey_pictures_that_was_cut(
    segment: Segment, tmp_path: Path, discs: Array, options: tuple[str, ...]
) -> None:
    """Whether pictures are grey is seen in the planes that are there."""
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "run.tif"
    tifffile.imwrite(path, np.stack([np.dstack([discs] * 3)] * 6), imagej=True, metadata={"axes": "TYXS"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 2 * 3 * discs.size - 200])
    assert segment().exit_code == 3
    result = segment(*options)
    assert result.exit_code == 0, result.stderr
    times = ["1"] if "--t" in options else ["0", "1", "2", "3"]
    assert [(row["t"], row["n_cells"]) for row in rows(tmp_path)] == [(t, "3") for t in times]


def test_positions_that_were_never_recorded(segment: Segment, tmp_path: Path, discs: Array) -> None:
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "run.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for name in ("A", "B", "C"):
            tif.write(discs, photometric="minisblack", metadata={"axes": "YX", "Name": name})
    xml = tifffile.tiffcomment(path)
    tifffile.tiffcomment(path, xml.replace('IFD="2"', 'IFD="9"').encode())
    result = segment()
    assert result.exit_code == 3
    assert "position C: none of its 1 planes is there" in result.stderr
    assert [(row["series"], row["n_cells"], row["position"]) for row in rows(tmp_path)] == [
        ("0", "3", "A"),
        ("1", "3", "B"),
        ("2", "", ""),
    ]
    # Other images of the file do not mend it, and it leaves the tables where it is left out.
    assert segment("--series", "0").exit_code == 0
    assert [row["status"] for row in rows(tmp_path)] == ["done", "done", "failed"]
    result = segment("--partial")
    assert result.exit_code == 0, result.stderr
    assert "position C: none of its 1 planes is there" in result.stderr
    assert [row["status"] for row in rows(tmp_path)] == ["done", "done"]
    assert segment("--partial", "--overwrite").exit_code == 0


def test_the_position_of_a_chosen_series(segment: Segment, tmp_path: Path, discs: Array) -> None:
    (tmp_path / "images").mkdir()
    with tifffile.TiffWriter(tmp_path / "images" / "run.ome.tif", ome=True) as tif:
        for name in ("A", "B"):
            tif.write(discs, photometric="minisblack", metadata={"axes": "YX", "Name": name})
    assert segment("--series", "1").exit_code == 0
    assert [(row["series"], row["position"]) for row in rows(tmp_path)] == [("1", "B")]


def test_a_time_lapse_of_stacks_keeps_whole_stacks(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_ome(tmp_path / "images" / "run.ome.tif", [discs] * 7, channels("DAPI") + "<TiffData/>", t=3, z=3)
    assert segment("--partial", "--z", "max").exit_code == 0
    assert [row["t"] for row in rows(tmp_path)] == ["0", "1"]


def test_a_stack_that_stopped_keeps_its_first_sections(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_ome(tmp_path / "images" / "run.ome.tif", [discs] * 5, channels("DAPI") + "<TiffData/>", z=8)
    assert segment("--partial", "--z", "each").exit_code == 0
    assert read_labels(tmp_path / "out" / "run_labels.ome.tif").shape == (5, 64, 80)
    measured = CliRunner().invoke(main, ["measure", str(tmp_path / "out"), "--overwrite"])
    assert measured.exit_code == 0, measured.output
    assert {row["z"] for row in rows(tmp_path, "cells.csv")} == set("01234")


def test_sections_keep_the_numbers_that_they_have_in_the_file(segment: Segment, tmp_path: Path, discs: Array) -> None:
    places = "".join(f'<TiffData FirstZ="{z}" IFD="{z - 1}"/>' for z in (1, 2, 3))
    write_ome(tmp_path / "images" / "run.ome.tif", [discs] * 3, channels("DAPI") + places, z=5)
    out = tmp_path / "out"
    assert segment("--partial", "--z", "each").exit_code == 0
    for line in (["export", "--to", "geojson"], ["export", "--to", "imagej"], ["measure", "--overwrite"]):
        assert {row["z"] for row in rows(tmp_path, "cells.csv")} == set("123")
        done = CliRunner().invoke(main, [line[0], str(out), *line[1:]])
        assert done.exit_code == 0, done.output
    features = json.loads((out / "run_cells.geojson").read_text())["features"]
    assert {feature["geometry"]["plane"]["z"] for feature in features} == {1, 2, 3}
    assert all(feature["properties"]["measurements"]["area_px"] for feature in features)
    # What comes back lies where it lay.
    before = read_labels(out / "run_labels.ome.tif")
    for drawn in ("run_cells.geojson", "run_RoiSet.zip"):
        done = CliRunner().invoke(main, ["import", str(out / drawn), "--into", str(out)])
        assert done.exit_code == 0, done.output
        np.testing.assert_array_equal(read_labels(out / "run_labels.ome.tif") > 0, before > 0)
    (tmp_path / "images" / "run.ome.tif").unlink()
    assert CliRunner().invoke(main, ["measure", str(out), "--overwrite"]).exit_code == 0
    assert {row["z"] for row in rows(tmp_path, "cells.csv")} == set("123")


@pytest.mark.parametrize(("kept", "names"), [((3,), ("DAPI",)), ((3, 4), ("DAPI",)), ((3,), ("DAPI", "GFP"))])
def test_cells_of_sections_that_are_left_out_stay_out_of_the_mask(
    segment: Segment, tmp_path: Path, discs: Array, kept: tuple[int, ...], names: tuple[str, ...]
) -> None:
    planes = list(itertools.product(range(len(names)), kept))
    places = "".join(f'<TiffData FirstC="{c}" FirstZ="{z}" IFD="{number}"/>' for number, (c, z) in enumerate(planes))
    file = tmp_path / "images" / "run.ome.tif"
    write_ome(file, [discs] * len(planes), channels(*names) + places, c=len(names), z=5)
    out = tmp_path / "out"
    assert segment("--partial", "--z", "each", "--channel", "0").exit_code == 0
    before = read_labels(out / "run_labels.ome.tif")
    for form in ("geojson", "imagej"):
        assert CliRunner().invoke(main, ["export", str(out), "--to", form]).exit_code == 0
    exported = out / "run_cells.geojson"
    collection = json.loads(exported.read_text())
    assert {feature["geometry"]["plane"]["z"] for feature in collection["features"]} == set(kept)
    with zipfile.ZipFile(out / "run_RoiSet.zip") as rois:
        assert {name[:5] for name in rois.namelist()} == {f"z{z:03}_" for z in kept}
    ring = [[60, 2], [70, 2], [70, 8], [60, 8], [60, 2]]
    plane = {"c": -1, "z": 1, "t": 0}
    geometry = {"type": "Polygon", "coordinates": [ring], "plane": plane}
    collection["features"].append({"type": "Feature", "properties": {"objectType": "detection"}, "geometry": geometry})
    exported.write_text(json.dumps(collection))
    for drawn in (exported, out / "run_RoiSet.zip"):
        done = CliRunner().invoke(main, ["import", str(drawn), "--into", str(out)])
        assert done.exit_code == 0, done.output
        assert ("regions left out, since they lie in other times or sections: 1" in done.output) == (drawn == exported)
        np.testing.assert_array_equal(read_labels(out / "run_labels.ome.tif") > 0, before > 0)


def test_regions_of_a_first_section_that_was_left_out_empty_no_mask(
    segment: Segment, tmp_path: Path, discs: Array
) -> None:
    """QuPath names no section for regions in the first one."""
    places = "".join(f'<TiffData FirstZ="{z}" IFD="{z - 1}"/>' for z in (1, 2, 3))
    write_ome(tmp_path / "images" / "run.ome.tif", [discs] * 3, channels("DAPI") + places, z=5)
    out = tmp_path / "out"
    assert segment("--partial", "--z", "each").exit_code == 0
    before = read_labels(out / "run_labels.ome.tif")
    geometry = {"type": "Polygon", "coordinates": [[[60, 2], [70, 2], [70, 8], [60, 8], [60, 2]]]}
    feature = {"type": "Feature", "properties": {"objectType": "annotation"}, "geometry": geometry}
    drawn = tmp_path / "run.geojson"
    drawn.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    done = CliRunner().invoke(main, ["import", str(drawn), "--into", str(out)])
    assert done.exit_code == 3
    assert "all regions lie in sections that were left out, such as 0; the mask has 1, 2, 3: give" in done.stderr
    np.testing.assert_array_equal(read_labels(out / "run_labels.ome.tif"), before)


def test_cells_of_times_that_one_channel_lacks_are_not_related(segment: Segment, tmp_path: Path, discs: Array) -> None:
    planes = [(0, 0), (0, 2), (0, 3), (1, 0), (1, 1), (1, 3)]
    places = "".join(f'<TiffData FirstC="{c}" FirstT="{t}" IFD="{number}"/>' for number, (c, t) in enumerate(planes))
    write_ome(tmp_path / "images" / "run.ome.tif", [discs] * 6, channels("DAPI", "GFP") + places, c=2, t=4)
    nuclei, cells = str(tmp_path / "nuclei"), str(tmp_path / "cells")
    assert segment("--partial", "--channel", "DAPI", "-o", nuclei).exit_code == 0
    assert segment("--partial", "--channel", "GFP", "-o", cells).exit_code == 0
    related = CliRunner().invoke(main, ["relate", nuclei, cells, "-o", str(tmp_path / "related")])
    assert related.exit_code == 3
    assert "run.ome.tif: nuclei of time 2 lie over cells of time 1: segment both alike" in related.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_trackmate_has_the_times_and_sections_of_the_file(segment: Segment, tmp_path: Path, discs: Array) -> None:
    pytest.importorskip("laptrack", reason='needs laptrack: pip install "unetbio[track]"')
    planes = list(itertools.product((0, 1, 3), (1, 2)))
    places = "".join(f'<TiffData FirstT="{t}" FirstZ="{z}" IFD="{number}"/>' for number, (t, z) in enumerate(planes))
    write_ome(tmp_path / "images" / "run.ome.tif", [discs] * 6, channels("DAPI") + places, t=5, z=4)
    out = tmp_path / "out"
    assert segment("--partial", "--z", "each", "--link", ".25").exit_code == 0
    for line in (["track", str(out)], ["export", str(out), "--to", "trackmate"]):
        done = CliRunner().invoke(main, line)
        assert done.exit_code == 0, done.output
    root = ElementTree.parse(out / "run_TrackMate.xml").getroot()
    assert [frame.get("frame") for frame in root.iter("SpotsInFrame")] == ["0", "1", "3"]
    spots = {(spot.get("FRAME"), spot.get("POSITION_T"), spot.get("POSITION_Z")) for spot in root.iter("Spot")}
    assert spots == {(t, f"{t}.0", "1.500") for t in ("0", "1", "3")}
    assert {image.get("nframes") for image in root.iter("ImageData")} == {"5"}


def test_a_projection_of_one_section_has_no_section(segment: Segment, tmp_path: Path, discs: Array) -> None:
    """Cells may be drawn on the projection, which has no sections, or on any of the stack."""
    places = '<TiffData FirstZ="3" IFD="0"/>'
    write_ome(tmp_path / "images" / "run.ome.tif", [discs], channels("DAPI") + places, z=5)
    assert segment("--partial", "--z", "max").exit_code == 0
    assert CliRunner().invoke(main, ["export", str(tmp_path / "out"), "--to", "geojson"]).exit_code == 0
    features = json.loads((tmp_path / "out" / "run_cells.geojson").read_text())["features"]
    assert ["plane" in feature["geometry"] for feature in features] == [False] * 3


def test_images_without_sections_have_none_where_times_are_left_out(
    segment: Segment, tmp_path: Path, discs: Array
) -> None:
    write_ome(tmp_path / "images" / "run.ome.tif", [discs] * 2, channels("DAPI") + "<TiffData/>", t=4)
    assert segment("--partial", "--z", "each").exit_code == 0
    assert CliRunner().invoke(main, ["export", str(tmp_path / "out"), "--to", "imagej"]).exit_code == 0
    with zipfile.ZipFile(tmp_path / "out" / "run_RoiSet.zip") as rois:
        assert {name[:5] for name in rois.namelist()} == {"t000_", "t001_"}


def test_a_set_without_one_of_its_files(segment: Segment, tmp_path: Path, discs: Array) -> None:
    names = ["mito", "DAPI", "GFP"]
    write_set(tmp_path / "images", names, [None, discs, discs[::-1]])
    assert len(list((tmp_path / "images").iterdir())) == 2
    result = segment()
    assert "3 channels (0: mito (missing), 1: DAPI, 2: GFP)" in result.stderr
    result = segment("--channel", "mito")
    assert "1 of 3 planes is missing (channel 0; not in the folder: mito.ome.tif): --partial of" in result.stderr
    assert "[missing_companion]" in result.stderr
    # What is there needs no option; the files that are left are one image.
    assert segment("--channel", "DAPI").exit_code == 0
    (row,) = rows(tmp_path)
    assert (row["path"], row["n_cells"], row["warnings"]) == ("DAPI.ome.tif", "3", "missing_planes:1/3")
    cells = rows(tmp_path, "cells.csv")
    assert "intensity_mean_GFP" in cells[0]
    assert "intensity_mean_mito" not in cells[0]
    # A file that comes later is noticed.
    write_set(tmp_path / "images", names, [discs, discs, discs[::-1]])
    assert segment("--channel", "DAPI").exit_code == 0
    assert {row["warnings"] for row in rows(tmp_path) if row["path"] == "mito.ome.tif"} == {""}


def test_the_one_channel_that_is_there(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_set(tmp_path / "images", ["mito", "DAPI"], [None, discs])
    assert segment("--partial").exit_code == 0
    assert [row["n_cells"] for row in rows(tmp_path)] == ["3"]


def test_an_image_of_which_nothing_is_whole(segment: Segment, tmp_path: Path, discs: Array) -> None:
    places = "".join(f'<TiffData FirstC="{i % 2}" FirstT="{i}" IFD="{i}"/>' for i in range(4))
    write_ome(tmp_path / "images" / "x.ome.tif", [discs] * 4, channels("a", "b") + places, c=2, t=4)
    image = read_image(tmp_path / "images" / "x.ome.tif")
    assert str(image.missing) == "4 of 8 planes are missing (t 0 to 3, channel 0 to 1)"
    result = segment("--partial", "--channel", "a")
    assert result.exit_code == 0
    assert [row["t"] for row in rows(tmp_path)] == ["0", "2"]


@pytest.mark.parametrize(
    ("flags", "run"), [("", range(0)), ("0110111", range(4, 7)), ("11011", range(2)), ("0", range(0))]
)
def test_the_longest_run(flags: str, run: range) -> None:
    assert longest_run(np.array([flag == "1" for flag in flags], bool)) == run


def test_a_time_whose_file_is_gone_is_measured_without_grey_values(
    segment: Segment, tmp_path: Path, discs: Array
) -> None:
    write_set(tmp_path / "images", ["a", "b"], [discs, discs[::-1]], "T")
    assert segment().exit_code == 0
    (tmp_path / "images" / "b.ome.tif").unlink()
    result = CliRunner().invoke(main, ["measure", str(tmp_path / "out"), "--workers", "1", "--overwrite"])
    assert result.exit_code == 0, result.stderr
    known = [(row["t"], row["intensity_mean_DAPI"] != "") for row in rows(tmp_path, "cells.csv")]
    assert known == [("0", True)] * 3 + [("1", False)] * 3
