"""Plates and files of many images through the commands: as files, as OME-Zarr, as positions of a file."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.io import read_labels, write_labels
from unetbio.labels import label_hash
from unetbio.pipelines.settings import load_config
from unetbio.provenance import read_provenance

zarr = pytest.importorskip("zarr")

Array = NDArray[Any]
Segment = Callable[..., Result]
Rows = list[dict[str, str]]

WELLS = ("A", "1"), ("A", "2"), ("B", "2")
FIELDS = 2
WHERE = ("well", "row", "column")


def field_image(discs: Array, number: int) -> Array:
    """DAPI and GFP ``(2, 64, 80)`` of a field, each unlike the others."""
    dapi = np.roll(discs, number, axis=1)
    return np.stack([dapi, np.where(dapi > 100, 20 + 10 * number, 5).astype(np.uint8)])


def fields(discs: Array) -> list[tuple[str, str, int, Array]]:
    """Row, column and field of each image."""
    places = [(row, column, field) for row, column in WELLS for field in range(FIELDS)]
    return [(*place, field_image(discs, number)) for number, place in enumerate(places)]


def write_phenix(folder: Path, discs: Array) -> None:
    (folder / "Images").mkdir(parents=True)
    for row, column, field, image in fields(discs):
        name = f"r{'_AB'.index(row):02d}c{int(column):02d}f{field + 1:02d}p01"
        for c in range(2):
            tifffile.imwrite(folder / "Images" / f"{name}-ch{c + 1}sk1fk1fl1.tiff", image[c])


def write_metaxpress(folder: Path, discs: Array) -> None:
    (folder / "TimePoint_1").mkdir(parents=True)
    (folder / "x.HTD").write_text('"WaveName1", "DAPI"\n"WaveName2", "GFP"\n')
    for row, column, field, image in fields(discs):
        for c in range(2):
            tifffile.imwrite(folder / "TimePoint_1" / f"P_{row}0{column}_s{field + 1}_w{c + 1}.TIF", image[c])


def group(folder: Path, **attributes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zattrs").write_text(json.dumps(attributes))


def write_zarr(root: Path, discs: Array, *, without: tuple[str, ...] = ()) -> None:
    """A plate of OME-Zarr 0.4; folders of ``without`` are listed and not written."""
    rows, columns = ["A", "B"], ["1", "2"]
    wells = [{"path": f"{r}/{c}", "rowIndex": rows.index(r), "columnIndex": columns.index(c)} for r, c in WELLS]
    names: dict[str, Any] = {"rows": [{"name": row} for row in rows], "columns": [{"name": c} for c in columns]}
    group(root, plate={"version": "0.4", "wells": wells, **names})
    images = [{"path": str(field), "acquisition": 0} for field in range(FIELDS)]
    for row, column, field, image in fields(discs):
        if f"{row}/{column}" in without:
            continue
        group(root / row / column, well={"version": "0.4", "images": images})
        if f"{row}/{column}/{field}" in without:
            continue
        entry = {"axes": [{"name": axis} for axis in "cyx"], "datasets": [{"path": "0"}]}
        channels = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
        group(root / row / column / str(field), multiscales=[entry], omero=channels)
        array = zarr.create_array(
            root / row / column / str(field) / "0",
            shape=image.shape,
            dtype=image.dtype,
            chunks=(1, 64, 80),
            zarr_format=2,
        )
        array[...] = image


@pytest.fixture
def segment(tmp_path: Path, tiny_model: Path) -> Segment:
    def invoke(given: Path, *arguments: str, out: str = "out") -> Result:
        line = ["segment", str(given), "-o", str(tmp_path / out), "-m", str(tiny_model), "--workers", "1"]
        return CliRunner().invoke(main, [*line, *arguments])

    return invoke


def table(out: Path, name: str = "summary.csv") -> Rows:
    with open(out / name, newline="") as stream:
        return list(csv.DictReader(stream))


def wells(out: Path) -> list[tuple[str, ...]]:
    """Place and cells of each image, in the order of the plate."""
    return sorted(tuple(row[name] for name in (*WHERE, "n_cells")) for row in table(out))


def hashes(out: Path) -> list[str]:
    found = (read_provenance(path) for path in sorted(out.rglob("*_labels.json")))
    return [provenance.output.label_hash for provenance in found if provenance]


def test_a_plate_in_three_forms_gives_the_same(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_phenix(tmp_path / "phenix", discs)
    write_metaxpress(tmp_path / "metaxpress", discs)
    write_zarr(tmp_path / "p.zarr", discs)
    for name, given, channel in (("a", "phenix", "ch1"), ("b", "metaxpress", "DAPI"), ("c", "p.zarr", "DAPI")):
        result = segment(tmp_path / given, "--channel", channel, out=name)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith("6 images, 18 cells, 0 failed")
    assert wells(tmp_path / "a") == wells(tmp_path / "b") == wells(tmp_path / "c")
    assert wells(tmp_path / "a")[-1] == ("B02", "B", "2", "3")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b") == hashes(tmp_path / "c")
    assert [row["field"] for row in table(tmp_path / "a")] == ["1", "2"] * 3
    # GFP is measured within the nuclei of DAPI.
    means = [{row["intensity_mean_GFP"] for row in table(tmp_path / name, "cells.csv")} for name in "bc"]
    assert means[0] == means[1] == {"20.0", "30.0", "40.0", "50.0", "60.0", "70.0"}
    assert {row["well"] for row in table(tmp_path / "c", "cells.csv")} == {"A01", "A02", "B02"}
    page = (tmp_path / "c" / "index.html").read_text(encoding="utf-8")
    assert 'title="B02: 3 cells an image, 2 images"' in page
    assert 'title="B01: no image"' in page


def test_a_set_is_kept_measured_and_verified(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_phenix(tmp_path / "p", discs)
    assert segment(tmp_path / "p", "--channel", "0").exit_code == 0
    made = [
        (tmp_path / "out" / row["path"]).with_name(row["path"][7:] + "_labels.ome.tif")
        for row in table(tmp_path / "out")
    ]
    before = [path.stat().st_mtime_ns for path in made]
    assert segment(tmp_path / "p", "--channel", "0").exit_code == 0
    assert [path.stat().st_mtime_ns for path in made] == before
    cells = (tmp_path / "out" / "cells.csv").read_text()
    for line in (["measure", "--overwrite"], ["verify", "--rerun", "2"]):
        result = CliRunner().invoke(main, [line[0], str(tmp_path / "out"), *line[1:]])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "cells.csv").read_text() == cells
    # A file that changes, and one that goes, concern their field alone.
    tifffile.imwrite(tmp_path / "p" / "Images" / "r01c01f01p01-ch2sk1fk1fl1.tiff", discs)
    (tmp_path / "p" / "Images" / "r01c02f01p01-ch2sk1fk1fl1.tiff").unlink()
    result = segment(tmp_path / "p", "--channel", "0")
    assert result.exit_code == 0
    after = [path.stat().st_mtime_ns for path in made]
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, False, True, False, False, False]
    assert [row["warnings"] for row in table(tmp_path / "out")] == ["", "", "missing_planes:1/2", "", "", ""]
    checked = CliRunner().invoke(main, ["check", str(tmp_path / "p"), "--no-model"])
    assert checked.exit_code == 3
    assert "r01c02f01: missing_plane: 1 of 2 planes is missing (channel 1)" in checked.stdout


def test_parts_of_a_plate_are_the_jobs_of_the_workflow(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_metaxpress(tmp_path / "p", discs)
    config = load_config({"images": str(tmp_path / "p"), "output": str(tmp_path / "out"), "images_per_job": 3})
    ((count, parts),) = config.batches().values()
    assert count == 2
    assert sum(map(len, parts.values())) == 12
    for part in parts:
        assert segment(tmp_path / "p", "--channel", "0", "--part", f"{part}/{count}").exit_code == 0
    assert CliRunner().invoke(main, ["measure", str(tmp_path / "out")]).exit_code == 0
    assert [row["n_cells"] for row in table(tmp_path / "out")] == ["3"] * 6
    assert "6 images: 0 to do, 6 done already" in segment(tmp_path / "p", "--channel", "0", "--dry-run").stdout


def test_an_absent_well_and_an_absent_field(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_zarr(tmp_path / "p.zarr", discs, without=("A/2", "B/2/1"))
    result = segment(tmp_path / "p.zarr", "--channel", "DAPI")
    assert result.exit_code == 3
    assert "the well A02 is listed by the plate, and its folder A/2 is missing" in result.stderr
    assert "the field 1 is listed by the well, and its folder B/2/1 is missing" in result.stderr
    found = [(row["path"], row["status"], row["reason"], row["well"]) for row in table(tmp_path / "out")]
    assert found == [
        ("p.zarr/A/1/0", "done", "", "A01"),
        ("p.zarr/A/1/1", "done", "", "A01"),
        ("p.zarr/A/2", "failed", "missing_well", "A02"),
        ("p.zarr/B/2/0", "done", "", "B02"),
        ("p.zarr/B/2/1", "failed", "missing_field", "B02"),
    ]
    assert 'title="A02: 1 failed"' in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    result = segment(tmp_path / "p.zarr", "--channel", "DAPI", "--partial")
    assert result.exit_code == 0, result.stderr
    assert "[missing_well]" in result.stderr
    assert [row["status"] for row in table(tmp_path / "out")] == ["done"] * 3


def test_masks_of_a_plate_are_a_plate(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_zarr(tmp_path / "p.zarr", discs)
    out = tmp_path / "out"
    assert segment(tmp_path / "p.zarr", "--channel", "DAPI", "--format", "ome-zarr").exit_code == 0
    plate = out / "p_labels.ome.zarr"
    models = pytest.importorskip("ome_zarr_models.v05.hcs")
    found = models.HCS.from_zarr(zarr.open_group(plate, mode="r"))
    assert [well.path for well in found.ome_attributes.plate.wells] == ["A/1", "A/2", "B/2"]
    assert len(list(found.well_groups)) == 3
    image = pytest.importorskip("ome_zarr_models.v05.image")
    image.Image.from_zarr(zarr.open_group(plate / "B" / "2" / "1", mode="r"))
    assert label_hash(read_labels(plate / "B" / "2" / "1")) == hashes(out)[-1]
    assert sorted(path.name for path in out.iterdir() if path.suffix == ".zarr") == ["p_labels.ome.zarr"]
    # They are kept, verified, measured and exported like all others.
    before = (plate / "A" / "1" / "0" / "zarr.json").stat().st_mtime_ns
    assert segment(tmp_path / "p.zarr", "--channel", "DAPI", "--format", "ome-zarr").exit_code == 0
    assert (plate / "A" / "1" / "0" / "zarr.json").stat().st_mtime_ns == before
    for line in (["verify"], ["verify", "--rerun", "1"], ["measure", "--overwrite"], ["export", "--to", "geojson"]):
        result = CliRunner().invoke(main, [line[0], str(out), *line[1:]])
        assert result.exit_code == 0, result.output
    assert (out / "p" / "B" / "2" / "1_cells.geojson").is_file()
    # The provenance alone is enough to find them again.
    (out / "run.jsonl").unlink()
    assert CliRunner().invoke(main, ["measure", str(out)]).exit_code == 0
    assert [(row["path"], row["well"]) for row in table(out)][-1] == ("p.zarr/B/2/1", "B02")
    # Another format replaces them.
    assert segment(tmp_path / "p.zarr", "--channel", "DAPI").exit_code == 0
    assert (out / "p" / "B" / "2" / "1_labels.ome.tif").is_file()
    assert not list(plate.glob("*/*/*/labels"))
    assert len(table(out)) == 6


def test_masks_of_a_well_alone_are_verified(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_zarr(tmp_path / "p.zarr", discs)
    assert segment(tmp_path / "p.zarr" / "B" / "2", "--channel", "DAPI", "--format", "ome-zarr").exit_code == 0
    out = tmp_path / "out"
    assert [row["plate"] for row in table(out)] == ["p", "p"]
    assert [read_labels(out / "2" / f"{field}_labels.ome.zarr").max() for field in range(FIELDS)] == [3, 3]
    result = CliRunner().invoke(main, ["verify", str(out)])
    assert (result.exit_code, "2 masks verified" in result.output) == (0, True), result.output


def test_an_edited_mask_in_a_plate_is_kept(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_zarr(tmp_path / "p.zarr", discs)
    out = tmp_path / "out"
    assert segment(tmp_path / "p.zarr", "--channel", "DAPI", "--format", "ome-zarr").exit_code == 0
    array = zarr.open_array(out / "p_labels.ome.zarr" / "A" / "1" / "0" / "labels" / "cells" / "0", mode="r+")
    array[...] = np.where(array[...] == 1, 0, array[...])
    assert segment(tmp_path / "p.zarr", "--channel", "DAPI", "--format", "ome-zarr").exit_code == 0
    assert next((row["n_cells"], row["warnings"]) for row in table(out)) == ("2", "edited")


@pytest.mark.parametrize(("series", "count"), [("A02", 2), ("a/2", 2), ("B/2/1", 1), ("3", 1), ("1-4", 4), ("all", 6)])
def test_some_fields_of_a_plate(segment: Segment, tmp_path: Path, discs: Array, series: str, count: int) -> None:
    write_zarr(tmp_path / "p.zarr", discs)
    result = segment(tmp_path / "p.zarr", "--channel", "DAPI", "--series", series, "--dry-run")
    assert f"{count} images: {count} to do" in result.stdout


@pytest.mark.parametrize("series", ["C07", "9", "4-9"])
def test_fields_that_a_plate_does_not_hold(segment: Segment, tmp_path: Path, discs: Array, series: str) -> None:
    write_zarr(tmp_path / "p.zarr", discs)
    result = segment(tmp_path / "p.zarr", "--channel", "DAPI", "--series", series)
    assert result.exit_code == 3
    assert f"no series {series}: it holds 6, counted from 0 (0: A/1/0, 1: A/1/1" in result.stderr


def write_positions(path: Path, discs: Array) -> None:
    """Three images of different sizes and order of channels."""
    with tifffile.TiffWriter(path, ome=True) as writer:
        for number, names in enumerate((["DAPI", "GFP"], ["GFP", "DAPI"], ["DAPI"])):
            image = np.stack([discs if name == "DAPI" else np.full_like(discs, 9) for name in names])[:, : 64 - number]
            metadata = {"axes": "CYX", "Name": f"Position{number + 1}", "Channel": {"Name": names}}
            writer.write(image, photometric="minisblack", metadata=metadata)


def test_all_positions_of_a_file(segment: Segment, tmp_path: Path, discs: Array) -> None:
    (tmp_path / "images").mkdir()
    write_positions(tmp_path / "images" / "x.ome.tif", discs)
    tifffile.imwrite(
        tmp_path / "images" / "one.tif",
        np.stack([discs, discs]),
        photometric="minisblack",
        imagej=True,
        metadata={"axes": "CYX"},
    )
    result = segment(tmp_path / "images", "--channel", "DAPI")
    assert result.exit_code == 3  # the other file has no such channel
    assert [(row["path"], row["series"], row["position"], row["n_cells"]) for row in table(tmp_path / "out")] == [
        ("one.tif", "", "", ""),
        ("x.ome.tif", "0", "Position1", "3"),
        ("x.ome.tif", "1", "Position2", "3"),
        ("x.ome.tif", "2", "Position3", "3"),
    ]
    assert (tmp_path / "out" / "x_s02_labels.ome.tif").is_file()
    assert segment(tmp_path / "images" / "x.ome.tif", "--channel", "DAPI").stdout.startswith("3 images")
    chosen = segment(tmp_path / "images" / "x.ome.tif", "--channel", "DAPI", "--series", "position2", out="two")
    assert chosen.stdout.startswith("1 image, 3 cells")
    assert (tmp_path / "two" / "x_s01_labels.ome.tif").is_file()
    result = segment(tmp_path / "images" / "x.ome.tif", "--channel", "DAPI", "--series", "Pos9", out="two")
    assert "no series Pos9: it holds 3, counted from 0 (0: Position1, 1: Position2, 2: Position3)" in result.stderr


def test_a_first_position_of_an_earlier_version_keeps_its_name(segment: Segment, tmp_path: Path, discs: Array) -> None:
    write_positions(tmp_path / "x.ome.tif", discs)
    assert segment(tmp_path / "x.ome.tif", "--channel", "DAPI", "--series", "0").exit_code == 0
    # As version 0.1.0 named it.
    out = tmp_path / "out"
    for path in list(out.glob("x_s00_labels.*")):
        shutil.move(path, out / path.name.replace("_s00", ""))
    text = (
        (out / "x_labels.json").read_text().replace("x_s00_labels", "x_labels").replace('"series": 0', '"series": null')
    )
    (out / "x_labels.json").write_text(text)
    (out / "run.jsonl").unlink()
    assert segment(tmp_path / "x.ome.tif", "--channel", "DAPI").exit_code == 0
    assert [(row["series"], row["n_cells"]) for row in table(out)] == [("", "3"), ("1", "3"), ("2", "3")]
    assert not list(out.glob("x_s00*"))


def test_a_table_of_plates_and_positions(segment: Segment, tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    write_positions(tmp_path / "x.ome.tif", discs)
    write_zarr(tmp_path / "p.zarr", discs)
    given = tmp_path / "table.csv"
    given.write_text("image,series,drug,well\nx.ome.tif,1-2,a,\np.zarr,B02,b,mine\np.zarr,0,c,\n")
    line = ["segment", "--table", str(given), "-o", str(tmp_path / "out"), "-m", str(tiny_model), "--channel", "DAPI"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.stderr
    found = [(row["path"], row["series"], row["drug"], row["well"]) for row in table(tmp_path / "out")]
    assert found == [
        ("p.zarr/A/1/0", "", "c", ""),
        ("p.zarr/B/2/0", "", "b", "mine"),
        ("p.zarr/B/2/1", "", "b", "mine"),
        ("x.ome.tif", "1", "a", ""),
        ("x.ome.tif", "2", "a", ""),
    ]
    refused = CliRunner().invoke(main, [*line, "--group", "none"])
    assert (refused.exit_code, "--group joins the files of INPUT" in refused.stderr) == (2, True)


@pytest.mark.parametrize("form", ["phenix", "zarr"])
@pytest.mark.parametrize("target", ["geojson", "imagej", "coco"])
def test_what_is_exported_of_a_plate_is_imported_without_the_run(
    segment: Segment, tmp_path: Path, discs: Array, form: str, target: str
) -> None:
    plate = tmp_path / "plate"
    if form == "zarr":
        write_zarr(plate / "p.zarr", discs, without=("B/2",))
    else:
        write_phenix(plate, discs)
    assert segment(plate, "--channel", "0", *(["--partial"] if form == "zarr" else [])).exit_code == 0
    out, masks = tmp_path / "out", tmp_path / "masks"
    done = [CliRunner().invoke(main, ["export", str(out), "--to", target, "-o", str(tmp_path / "drawn")])]
    line = ["import", tmp_path / "drawn", "--images", plate, "-o", masks]
    done.append(CliRunner().invoke(main, [str(word) for word in line]))
    assert [result.exit_code for result in done] == [0, 0], done[-1].stderr
    assert "--group" not in done[-1].stderr
    names = sorted(path.relative_to(out) for path in out.rglob("*_labels.ome.tif"))
    assert names == sorted(path.relative_to(masks) for path in masks.rglob("*_labels.ome.tif"))
    assert len(names) == (4 if form == "zarr" else 6)
    for name in names:
        np.testing.assert_array_equal(read_labels(masks / name), read_labels(out / name))


def test_regions_drawn_on_one_channel_of_a_plate_are_its_own(tmp_path: Path, discs: Array) -> None:
    write_phenix(tmp_path / "plate", discs)
    drawn = tmp_path / "drawn" / "Images"
    drawn.mkdir(parents=True)
    ring = [[10, 10], [20, 10], [20, 20], [10, 20], [10, 10]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    (drawn / "r01c01f01p01-ch1sk1fk1fl1.geojson").write_text(json.dumps(feature))
    line = ["import", tmp_path / "drawn", "--images", tmp_path / "plate", "-o", tmp_path / "masks"]
    result = CliRunner().invoke(main, [str(word) for word in line])
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "masks" / "Images" / "r01c01f01p01-ch1sk1fk1fl1_labels.ome.tif").exists()
    assert "5 of 6 images have no annotations" in result.stderr


def test_annotations_of_a_whole_plate_name_its_fields(tmp_path: Path, discs: Array) -> None:
    """As results name them, which `--series` would not."""
    write_zarr(tmp_path / "plate" / "p.zarr", discs)
    write_labels(tmp_path / "drawn" / "p.tif", (discs > 100).astype(np.uint8))
    line = ["import", tmp_path / "drawn", "--images", tmp_path / "plate", "-o", tmp_path / "masks"]
    result = CliRunner().invoke(main, [str(word) for word in [*line, "--split-components"]])
    assert result.exit_code == 3
    assert "call the annotations p/A/1/0, p/A/1/1, p/A/2/0 ...; to train" in result.stderr
    (tmp_path / "drawn" / "p" / "A" / "1").mkdir(parents=True)
    (tmp_path / "drawn" / "p.tif").rename(tmp_path / "drawn" / "p" / "A" / "1" / "1.tif")
    result = CliRunner().invoke(main, [str(word) for word in [*line, "--split-components"]])
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "masks" / "p" / "A" / "1" / "1_labels.ome.tif").exists()
