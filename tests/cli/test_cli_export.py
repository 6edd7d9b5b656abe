"""``unetbio export``: files that the libraries of their formats open, and areas that are those of the table."""

import json
import re
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import roifile
import shapely
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from shapely.geometry import shape as as_geometry
from skimage.io import imread

from unetbio.cli.export import command
from unetbio.cli.main import main
from unetbio.export.run import FORMATS
from unetbio.io import read_labels, write_labels
from unetbio.results.tables.cells import CachedCells

Array = NDArray[Any]
OUTLINES = ("geojson", "imagej", "coco")

# pycocotools decodes into arrays of its own, which do not know numpy 2's copy=False.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

# A cell with a hole that touches the outside, one of two parts, one pixel, one along the border; and ids with gaps.
DRAWN = np.array(
    [
        [1, 1, 1, 0, 0, 7, 7, 0],
        [1, 0, 1, 0, 0, 0, 0, 9],
        [1, 1, 0, 0, 7, 7, 0, 9],
        [0, 0, 0, 0, 7, 7, 0, 9],
        [0, 300, 0, 0, 0, 0, 0, 9],
    ],
    np.uint16,
)


def run(*line: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in line])


def export(out: Path, target: str, *options: object) -> Result:
    result = run("export", out, "--to", target, *options)
    assert result.exit_code == 0, result.stderr
    return result


def segment(tmp_path: Path, model: Path, images: dict[str, Array], *options: str) -> Path:
    for name, image in images.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, image, photometric="minisblack")
    out = tmp_path / "out"
    result = run("segment", tmp_path / "images", "-o", out, "-m", model, "--workers", "1", *options)
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture
def out(tmp_path: Path, tiny_model: Path, discs: Array) -> Path:
    """A segmented image with three discs, and one whose mask somebody has drawn."""
    options = ["--pixel-size", "0.5", "--metadata-regex", r"^sub/(?P<well>\w+)"]
    out = segment(tmp_path, tiny_model, {"a.tif": discs, "sub/B02.tif": np.zeros(DRAWN.shape, np.uint8)}, *options)
    write_labels(out / "sub" / "B02_labels.ome.tif", DRAWN, pixel_size_um={"Y": 0.5, "X": 0.5})
    assert run("measure", out, "--workers", "1").exit_code == 0
    return out


def areas_in_table(out: Path, path: str) -> dict[int, int]:
    table = pl.read_parquet(out / "cells.parquet").filter(path=path)
    return dict(zip(table["label"], table["area_px"], strict=True))


IMAGES = {"a.tif": "a", "sub/B02.tif": "sub/B02"}


@pytest.mark.parametrize("path", IMAGES)
def test_geojson_holds_the_pixels_and_the_table_of_each_cell(out: Path, path: str) -> None:
    assert export(out, "geojson").stdout == f"2 images, 7 outlines, 0 failed: {out}\n"
    collection = json.loads((out / f"{IMAGES[path]}_cells.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    labels = read_labels(out / f"{IMAGES[path]}_labels.ome.tif", allow_binary=True)
    rows, columns = np.mgrid[: labels.shape[0], : labels.shape[1]]
    table = {row["label"]: row for row in pl.read_parquet(out / "cells.parquet").filter(path=path).to_dicts()}
    for feature in collection["features"]:
        outline = as_geometry(feature["geometry"])
        assert outline.is_valid
        label = int(feature["properties"]["name"])
        row = table.pop(label)
        np.testing.assert_array_equal(shapely.contains_xy(outline, columns + 0.5, rows + 0.5), labels == label)
        measured = feature["properties"]["measurements"]
        assert outline.area == measured["area_px"] == row["area_px"]
        assert measured == {
            name: int(value) if isinstance(value, bool) else value
            for name, value in row.items()
            if value is not None and name not in ("path", "series", "t", "well")
        }
        assert feature["properties"]["objectType"] == "detection"
        assert feature["properties"]["metadata"] == {"well": "B02" if path.startswith("sub") else ""}
        assert "plane" not in feature["geometry"]
        assert uuid.UUID(feature["id"])
    assert not table


def test_groups_of_paths_are_metadata_and_the_last_expression_counts(out: Path) -> None:
    export(out, "geojson", "--metadata-regex", r"B(?P<column>\d\d)")
    features = json.loads((out / "sub" / "B02_cells.geojson").read_text())["features"]
    assert {tuple(feature["properties"]["metadata"].items()) for feature in features} == {(("column", "02"),)}
    assert run("export", out, "--to", "geojson", "--metadata-regex", "(").exit_code == 2


def test_geojson_has_holes_and_parts(out: Path) -> None:
    export(out, "geojson")
    features = json.loads((out / "sub" / "B02_cells.geojson").read_text())["features"]
    geometries = {feature["properties"]["name"]: feature["geometry"] for feature in features}
    assert {name: geometry["type"] for name, geometry in geometries.items()} == {
        "1": "Polygon",
        "7": "MultiPolygon",
        "9": "Polygon",
        "300": "Polygon",
    }
    assert len(geometries["1"]["coordinates"]) == 2
    assert geometries["300"]["coordinates"] == [[[2, 4], [2, 5], [1, 5], [1, 4], [2, 4]]]


@pytest.mark.parametrize("path", IMAGES)
def test_regions_of_imagej_hold_the_pixels_of_each_cell(out: Path, path: str) -> None:
    export(out, "imagej")
    labels = read_labels(out / f"{IMAGES[path]}_labels.ome.tif", allow_binary=True)
    rows, columns = np.mgrid[: labels.shape[0], : labels.shape[1]]
    areas = areas_in_table(out, path)
    for roi in roifile.roiread(out / f"{IMAGES[path]}_RoiSet.zip"):
        inside = np.zeros(labels.shape, bool)
        for ring in roi.coordinates(multi=True):
            inside ^= shapely.contains_xy(shapely.Polygon(ring), columns + 0.5, rows + 0.5)
        np.testing.assert_array_equal(inside, labels == int(roi.name))
        assert inside.sum() == areas.pop(int(roi.name))
        assert (roi.z_position, roi.t_position) == (0, 0)
    assert not areas


def test_coco_holds_the_pixels_of_each_cell(out: Path) -> None:
    export(out, "coco")
    coco = COCO(out / "coco.json")
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["cell"]
    assert [image["file_name"] for image in coco.dataset["images"]] == list(IMAGES)
    for image in coco.dataset["images"]:
        labels = read_labels(out / f"{IMAGES[image['file_name']]}_labels.ome.tif", allow_binary=True)
        assert (image["height"], image["width"]) == labels.shape
        areas = areas_in_table(out, image["file_name"])
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            np.testing.assert_array_equal(mask, labels == annotation["label"])
            assert annotation["area"] == areas.pop(annotation["label"])
            run_lengths = coco.annToRLE(annotation)
            assert coco_masks.area(run_lengths) == annotation["area"]
            assert coco_masks.toBbox(run_lengths).tolist() == annotation["bbox"]
            for polygon in annotation["polygons"]:
                assert shapely.Polygon(np.reshape(polygon, (-1, 2))).is_valid
        assert not areas


def test_confidences_are_scores(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    out = segment(tmp_path, tiny_model, {"a.tif": discs}, "--save-probabilities")
    export(out, "coco")
    annotations = json.loads((out / "coco.json").read_text())["annotations"]
    table = pl.read_parquet(out / "cells.parquet")
    assert [annotation["score"] for annotation in annotations] == table["confidence"].to_list()


def test_areas_of_real_nuclei(tmp_path: Path, tiny_model: Path, shared_data: Path) -> None:
    path = sorted((shared_data / "bbbc039" / "val" / "images").iterdir())[0]
    mask = imread(path.parents[1] / "masks" / path.name)
    out = segment(tmp_path, tiny_model, {"x.tif": imread(path)})
    write_labels(out / "x_labels.ome.tif", mask)
    assert run("measure", out, "--workers", "1").exit_code == 0
    areas = areas_in_table(out, "x.tif")
    assert len(areas) > 20
    for target in OUTLINES:
        export(out, target)
    features = json.loads((out / "x_cells.geojson").read_text())["features"]
    assert {int(f["properties"]["name"]): as_geometry(f["geometry"]).area for f in features} == areas
    annotations = json.loads((out / "coco.json").read_text())["annotations"]
    assert {a["label"]: coco_masks.area(a["segmentation"]) for a in annotations} == areas
    rois = roifile.roiread(out / "x_RoiSet.zip")
    found = {}
    for roi in rois:
        # Holes run the other way round.
        rings = [shapely.Polygon(ring) for ring in roi.coordinates(multi=True)]
        found[int(roi.name)] = sum(ring.area if not ring.exterior.is_ccw else -ring.area for ring in rings)
    assert {label: abs(area) for label, area in found.items()} == areas


def test_planes_of_stacks_and_times_have_places(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    # A time-lapse, one of two channels, and a stack of which the model has seen one section.
    movie = np.stack([discs, discs[::-1]])
    tifffile.imwrite(tmp_path / "movie.tif", movie, metadata={"axes": "TYX"}, ome=True)
    tifffile.imwrite(tmp_path / "colours.tif", np.stack([movie] * 2, 1), metadata={"axes": "TCYX"}, ome=True)
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([discs] * 3), metadata={"axes": "ZYX"}, ome=True)
    out = tmp_path / "out"
    for line in (["movie.tif"], ["colours.tif", "--channel", "1"], ["stack.tif", "--z", "2"]):
        result = run("segment", tmp_path / line[0], *line[1:], "-o", out, "-m", tiny_model, "--workers", "1")
        assert result.exit_code == 0, result.stderr
    for target in OUTLINES:
        export(out, target)

    def planes(name: str) -> list[dict[str, int]]:
        features = json.loads((out / f"{name}_cells.geojson").read_text())["features"]
        return [feature["geometry"]["plane"] for feature in features]

    assert planes("movie") == [{"c": -1, "z": 0, "t": 0}] * 3 + [{"c": -1, "z": 0, "t": 1}] * 3
    assert planes("stack") == [{"c": -1, "z": 2, "t": 0}] * 3
    rois = roifile.roiread(out / "movie_RoiSet.zip")
    assert [(roi.name, roi.position, roi.t_position) for roi in rois[2:4]] == [("t000_0003", 1, 0), ("t001_0001", 2, 0)]
    rois = roifile.roiread(out / "colours_RoiSet.zip")
    assert [(roi.name, roi.position, roi.t_position) for roi in rois[2:4]] == [("t000_0003", 0, 1), ("t001_0001", 0, 2)]
    assert roifile.roiread(out / "stack_RoiSet.zip")[0].position == 3
    images = json.loads((out / "coco.json").read_text())["images"]
    assert [(image["id"], image["file_name"], image.get("t"), image.get("z")) for image in images] == [
        (1, "colours.tif", 0, None),
        (2, "colours.tif", 1, None),
        (3, "movie.tif", 0, None),
        (4, "movie.tif", 1, None),
        (5, "stack.tif", None, 2),
    ]


def test_cells_of_a_stack_have_an_outline_a_section(out: Path) -> None:
    # Somebody's own stack, whose image is gone.
    (out.parent / "images" / "a.tif").unlink()
    stack = np.stack([DRAWN, np.zeros_like(DRAWN), DRAWN])
    write_labels(out / "a_labels.ome.tif", stack, axes="ZYX")
    export(out, "geojson")
    features = json.loads((out / "a_cells.geojson").read_text())["features"]
    assert [feature["geometry"]["plane"]["z"] for feature in features] == [0] * 4 + [2] * 4
    volumes = {f["properties"]["name"]: f["properties"]["measurements"]["volume_px"] for f in features}
    for name, volume in volumes.items():
        parts = [as_geometry(f["geometry"]).area for f in features if f["properties"]["name"] == name]
        assert sum(parts) == volume == (stack == int(name)).sum()


@pytest.mark.parametrize("target", OUTLINES)
def test_the_same_cells_make_the_same_files_in_any_folder(out: Path, tmp_path: Path, target: str) -> None:
    export(out, target)
    export(out, target, "-o", tmp_path / "elsewhere")
    written = sorted(path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file())
    assert len(written) == (1 if target == "coco" else 2)
    for path in written:
        assert path.read_bytes() == (out / path.relative_to(tmp_path / "elsewhere")).read_bytes()


@pytest.mark.parametrize("target", OUTLINES)
def test_an_image_without_cells_makes_an_empty_file(tmp_path: Path, tiny_model: Path, target: str) -> None:
    out = segment(tmp_path, tiny_model, {"dark.tif": np.full((20, 20), 3, np.uint8)})
    assert export(out, target).stdout == f"1 image, 0 outlines, 0 failed: {out}\n"
    if target == "geojson":
        assert json.loads((out / "dark_cells.geojson").read_text())["features"] == []
    elif target == "coco":
        content = json.loads((out / "coco.json").read_text())
        assert (len(content["images"]), content["annotations"]) == (1, [])
    else:
        assert zipfile.ZipFile(out / "dark_RoiSet.zip").namelist() == []


def test_failures_are_named_and_3(out: Path) -> None:
    (out / "a_labels.ome.tif").write_bytes(b"torn")
    result = run("export", out, "--to", "coco")
    assert result.exit_code == 3
    assert "a.tif: a_labels.ome.tif: a text file" in result.stderr
    assert result.stdout == f"2 images, 4 outlines, 1 failed: {out}\n"
    assert run("export", out, "--to", "coco", "--failed-ok").exit_code == 0


def test_images_beyond_the_reach_of_imagej_are_refused(out: Path) -> None:
    (out.parent / "images" / "a.tif").unlink()
    write_labels(out / "a_labels.ome.tif", np.ones((1, 60_536), np.uint16))
    result = run("export", out, "--to", "imagej")
    assert result.exit_code == 3
    assert (
        "a_labels.ome.tif is (1, 60536), and ImageJ's regions end at pixel 60535: export it with --to geojson"
        in result.stderr
    )


def test_class_masks_are_no_cells(out: Path, tmp_path: Path) -> None:
    for path in out.rglob("*_labels*"):
        path.rename(path.with_name(path.name.replace("_labels", "_classes")))
    for path in out.rglob("*_classes.json"):
        path.write_text(path.read_text().replace("_labels.ome.tif", "_classes.ome.tif"))
    (out / "run.jsonl").unlink()
    result = run("export", out, "--to", "coco")
    assert result.exit_code == 2
    assert "holds class masks alone: cells are exported, and these have none" in result.stderr


def test_anndata_holds_the_table_and_the_places(out: Path) -> None:
    anndata = pytest.importorskip("anndata", reason='needs anndata: pip install "unetbio[anndata]"')
    assert export(out, "anndata").stdout == f"2 images, 7 outlines, 0 failed: {out}\n"
    data = anndata.read_h5ad(out / "cells.h5ad")
    table = pl.read_parquet(out / "cells.parquet")
    assert data.obs["path"].tolist() == table["path"].to_list()
    assert data.obs["label"].tolist() == table["label"].to_list()
    assert data.obs["well"].tolist() == ["", "", "", *["B02"] * 4]
    for name in ("area_px", "area_um2", "intensity_mean_0", "confidence", "touches_border"):
        found = data.X[:, data.var_names.get_loc(name)]
        np.testing.assert_allclose(found, table[name].cast(pl.Float64).to_numpy())
    assert not {"label", "series", "t", "path"} & set(data.var_names)
    np.testing.assert_array_equal(data.obsm["spatial"], table.select("centroid_x_px", "centroid_y_px").to_numpy())
    (out / "sub" / "B02_labels.ome.tif").write_bytes(b"torn")
    assert run("export", out, "--to", "anndata").exit_code == 3
    assert anndata.read_h5ad(out / "cells.h5ad").n_obs == 3


def test_anndata_has_the_well_and_the_columns_of_a_table(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    anndata = pytest.importorskip("anndata", reason='needs anndata: pip install "unetbio[anndata]"')
    names = ["r01c01f01p01-ch1sk1fk1fl1.tiff", "r01c02f01p01-ch1sk1fk1fl1.tiff"]
    out = segment(tmp_path, tiny_model, dict.fromkeys(names, discs))
    export(out, "anndata")
    data = anndata.read_h5ad(out / "cells.h5ad")
    assert data.obs["well"].tolist() == pl.read_parquet(out / "cells.parquet")["well"].to_list()
    (tmp_path / "table.csv").write_text(
        f"image,path,table_path,status\n{tmp_path / 'images' / names[0]},/a/x.tif,b,treated\n"
    )
    line = ("segment", "--table", tmp_path / "table.csv", "-o", tmp_path / "listed", "-m", tiny_model, "--workers", "1")
    assert run(*line).exit_code == 0
    export(tmp_path / "listed", "anndata")
    data = anndata.read_h5ad(tmp_path / "listed" / "cells.h5ad")
    table = pl.read_csv(tmp_path / "listed" / "cells.csv")
    for name in ("path", "table_path", "table_table_path", "table_status"):
        assert data.obs[name].tolist() == table[name].to_list()


def test_anndata_of_images_without_cells_has_no_rows(tmp_path: Path, tiny_model: Path) -> None:
    anndata = pytest.importorskip("anndata", reason='needs anndata: pip install "unetbio[anndata]"')
    out = segment(tmp_path, tiny_model, {"dark.tif": np.full((20, 20), 3, np.uint8)})
    export(out, "anndata")
    assert anndata.read_h5ad(out / "cells.h5ad").n_obs == 0


def test_anndata_without_its_package_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anndata", None)
    result = run("export", out, "--to", "anndata")
    assert result.exit_code == 2
    assert '--to anndata needs a package: pip install "unetbio[anndata]"' in result.stderr


@pytest.mark.parametrize(("make", "message"), [(False, "is not a folder"), (True, "holds no results")])
def test_nothing_to_export_is_2(tmp_path: Path, make: bool, message: str) -> None:
    if make:
        (tmp_path / "out").mkdir()
    result = run("export", tmp_path / "out", "--to", "coco")
    assert result.exit_code == 2
    assert message in result.stderr


def test_formats_are_those_of_the_command_line() -> None:
    (option,) = [parameter for parameter in command.params if parameter.name == "target"]
    assert option.type.choices == tuple(FORMATS)


def test_a_table_is_read_a_part_at_a_time(out: Path) -> None:
    whole, parts = CachedCells(out), CachedCells(out, rows_at_once=4)
    hashes = {path.name: json.loads(path.read_text())["output"]["label_hash"] for path in out.rglob("*_labels.json")}
    expected = whole.find("a_labels.ome.tif", hashes["a_labels.json"])
    assert expected is not None
    assert len(expected) == 3
    for _ in range(2):
        found = parts.find("a_labels.ome.tif", hashes["a_labels.json"])
        assert found is not None
        assert found.equals(expected)
    assert parts.find("a_labels.ome.tif", "another") is None
    assert parts.find("other", hashes["a_labels.json"]) is None


# --- docs/viewing.md --------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "viewing.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def example(tmp_path: Path, tiny_model: Path, discs: Array) -> Path:
    """What the page speaks of: images/a/b/x.tif and results/."""
    out = segment(tmp_path, tiny_model, {"a/b/x.tif": discs})
    for target in OUTLINES:
        export(out, target)
    return out.rename(tmp_path / "results").parent


@pytest.mark.parametrize("snippet", [text for text in SNIPPETS if "napari" not in text], ids=lambda text: text[:20])
def test_the_python_of_the_page_runs(example: Path, snippet: str) -> None:
    script = f"import warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n{snippet}"
    run = subprocess.run([sys.executable, "-c", script], cwd=example, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "129" in run.stdout


def test_the_page_names_columns_files_and_commands_that_are_there(example: Path) -> None:
    (napari,) = [text for text in SNIPPETS if "napari" in text]
    columns = pl.read_csv(example / "results" / "cells.csv").columns
    assert set(re.findall(r'cells\["(\w+)"\]|features\["(\w+)"\]', napari)) == {("path", ""), ("", "label")}
    assert {"path", "label", "t"} <= set(columns)
    assert "index" not in columns
    for name in re.findall(r'imread\(f"([^"]+)"\)', napari):
        assert (example / name.replace("{name}", "a/b/x")).is_file()
    for name in re.findall(r"/data/((?:images|results)/[\w/.]+\.\w+)", PAGE):
        assert (example / name).is_file()
    assert set(re.findall(r"^    unetbio (.*)", PAGE, flags=re.MULTILINE)) == {
        f"export results/ --to {target}" for target in (*OUTLINES, "anndata")
    }


def test_a_mean_that_is_not_finite_is_left_out(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    ratio = np.where(discs > 100, np.inf, 1.0)
    image = np.stack([discs.astype(np.float32), ratio.astype(np.float32)])
    out = segment(tmp_path, tiny_model, {"a.tif": image}, "--axes", "CYX", "--channel", "0")
    export(out, "geojson")
    features = json.loads((out / "a_cells.geojson").read_text())["features"]
    assert len(features) == 3
    assert all("intensity_mean_1" not in feature["properties"]["measurements"] for feature in features)
