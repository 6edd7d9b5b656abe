"""Cell types on the command line: import, train, segment, correct, measure, export, evaluate."""

import json
import re
from pathlib import Path

import imagecodecs
import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from scipy import ndimage

from unetbio.classes import class_colours
from unetbio.cli.main import main
from unetbio.io import read_labels, write_labels
from unetbio.models.model_file import read_info
from unetbio.results.corrections import find_masks_of_run
from unetbio.viewer.document import Document

SETTINGS = """
parameters: {base_channels: 6, depth: 2, batch_norm: true, dropout: 0.0}
patch_size: 60
batch_size: 2
steps: 60
learning_rate: 0.01
validate_every: 60
normalization: {kind: range, low: 0, high: 255}
"""


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def sample(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16], dict[int, str]]:
    """Bright and dim discs of two classes on a dark background."""
    rng = np.random.default_rng(seed)
    image = rng.normal(20, 3, (96, 96))
    labels = np.zeros((96, 96), np.uint16)
    rows, columns = np.indices(labels.shape)
    classes = {}
    for number, (row, column) in enumerate([(y, x) for y in (16, 48, 80) for x in (16, 48, 80)], start=1):
        disc = (rows - row) ** 2 + (columns - column) ** 2 < 81
        labels[disc] = number
        classes[number] = ("tumour", "lymphocyte")[number % 2]
        image[disc] += (200, 90)[number % 2]
    return image.clip(0, 255).astype(np.uint8), labels, classes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, masks, tables of classes, a model and its results."""
    folder = tmp_path_factory.mktemp("cell_classes")
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for seed in range(4):
        image, labels, classes = sample(seed)
        tifffile.imwrite(folder / f"images/{seed}.tif", image)
        tifffile.imwrite(folder / f"masks/{seed}.tif", labels)
        rows = "".join(f"{number},{name}\n" for number, name in classes.items())
        (folder / f"masks/{seed}_objects.csv").write_text(f"label,class\n{rows}")
    (folder / "settings.yaml").write_text(SETTINGS)
    model, config = folder / "types.safetensors", folder / "settings.yaml"
    run("train", folder / "images", folder / "masks", "-o", model, "--target", "cell_classes", "--config", config)
    segment(folder, folder / "out")
    return folder


def segment(folder: Path, out: Path, *more: object) -> Result:
    model = folder / "types.safetensors"
    return run("segment", folder / "images", "-o", out, "--model", model, "--diameter", "model", *more)


def test_a_model_names_the_classes_of_the_tables(trained: Path) -> None:
    info = read_info(trained / "types.safetensors")
    assert info.class_names == ("background", "lymphocyte", "tumour")
    assert info.target == "cell_classes"
    assert info.scores["validation"]["class_accuracy"] == 1
    assert info.scores["validation"]["F1@.5 tumour"] > 0.9


def test_tables_hold_the_class_of_each_cell(trained: Path) -> None:
    cells = pl.read_csv(trained / "out/cells.csv")
    _, labels, classes = sample(0)
    for row in cells.filter(pl.col("path") == "0.tif").iter_rows(named=True):
        true = labels[round(row["centroid_y_px"]), round(row["centroid_x_px"])]
        assert classes[int(true)] == row["class"]
    summary = pl.read_csv(trained / "out/summary.csv")
    assert summary["n_cells_tumour"].to_list() == [4] * 4
    assert summary["n_cells_lymphocyte"].to_list() == [5] * 4


def test_tiles_change_no_class_of_a_cell(trained: Path, tmp_path: Path) -> None:
    segment(trained, tmp_path, "--tile", 24)
    for seed in range(4):
        whole, tiled = (folder / f"{seed}_objects.csv" for folder in (trained / "out", tmp_path))
        assert whole.read_text() == tiled.read_text()
        labels = [read_labels(folder / f"{seed}_labels.ome.tif") for folder in (trained / "out", tmp_path)]
        assert np.array_equal(*labels)


def test_a_result_without_its_table_is_made_again(trained: Path) -> None:
    path = trained / "out/0_objects.csv"
    before = path.read_text()
    path.unlink()
    segment(trained, trained / "out")
    assert path.read_text() == before


def test_classes_that_a_person_named_are_not_replaced(trained: Path, tmp_path: Path, tiny_model: Path) -> None:
    out, model = tmp_path / "out", trained / "types.safetensors"
    line = ("segment", trained / "images", "-o", out, "--diameter", "model", "--workers", 1, "--overlays", "none")
    run(*line, "--model", tiny_model)
    table, named = out / "0_objects.csv", "label,class\n1,tumour\n"
    table.write_text(named)
    refused = run(*line, "--model", model, code=3)
    message = "the run that made this mask did not write 0_objects.csv, which this one would replace: move it away"
    assert message in refused.stderr
    assert table.read_text() == named
    assert len(pl.read_csv(out / "1_objects.csv")) == 9
    would_fail = run(*line, "--model", model, "--dry-run", code=3)
    assert message in would_fail.stderr
    # A run without classes of cells leaves it as it is, and goes on.
    run(*line, "--model", tiny_model)
    assert table.read_text() == named
    run(*line, "--model", model, "--overwrite-edited")
    assert len(pl.read_csv(table)) == 9
    run(*line, "--model", model, "--overwrite")


def test_masks_that_were_removed_are_made_again_with_their_tables(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(trained, out)
    before = (out / "0_objects.csv").read_text()
    for path in out.glob("0_labels*"):
        path.unlink()
    segment(trained, out)
    assert (out / "0_objects.csv").read_text() == before


def test_a_corrected_class_is_measured_and_exported(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(trained, out)
    table = out / "0_objects.csv"
    table.write_text(table.read_text().replace("1,lymphocyte", "1,plasma cell").replace("1,tumour", "1,plasma cell"))
    run("measure", out)
    first = pl.read_csv(out / "cells.csv").filter(pl.col("path") == "0.tif").sort("label").row(0, named=True)
    assert first["class"] == "plasma cell"
    assert class_counts(out) == {"n_cells_lymphocyte": 4, "n_cells_tumour": 4, "n_cells_plasma cell": 1}
    for kind in ("geojson", "coco"):
        run("export", out, "--to", kind, "-o", tmp_path / "exported")
    features = json.loads((tmp_path / "exported/0_cells.geojson").read_text())["features"]
    assert features[0]["properties"]["classification"] == {"name": "plasma cell"}
    assert all(isinstance(value, int | float) for value in features[0]["properties"]["measurements"].values())
    # Outlines that come back keep the classes that they left with.
    run("import", tmp_path / "exported/0_cells.geojson", "--into", out)
    assert pl.read_csv(table).sort("label").row(0, named=True) == {"label": 1, "class": "plasma cell"}
    coco = json.loads((tmp_path / "exported/coco.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert sorted(names.values()) == ["lymphocyte", "plasma cell", "tumour"]
    assert names[coco["annotations"][0]["category_id"]] == "plasma cell"


def class_counts(out: Path) -> dict[str, int]:
    """Cells of each class in the row of the first image."""
    row = pl.read_csv(out / "summary.csv").filter(pl.col("path") == "0.tif").row(0, named=True)
    return {name: count for name, count in row.items() if name.startswith("n_cells_")}


def test_classes_are_counted_where_a_mask_was_edited(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(trained, out)
    gone = next(label for label, name in _classes(out).items() if name == "lymphocyte")
    labels = read_labels(out / "0_labels.ome.tif")
    write_labels(out / "0_labels.ome.tif", np.where(labels == gone, 0, labels))
    run("measure", out)
    assert class_counts(out) == {"n_cells_lymphocyte": 4, "n_cells_tumour": 4}


def test_cells_of_a_class_have_one_colour_in_pictures_and_in_the_browser(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(trained, out)
    colours = dict(zip(("lymphocyte", "tumour"), class_colours(3)[1:].astype(int), strict=True))
    assert _classes(out) == classes_of_outlines(out, colours)
    page = (out / "index.html").read_text()
    legend = [f'<i style="--class:#{"".join(f"{part:02x}" for part in colours[name])}"></i>{name}' for name in colours]
    assert all(line in page for line in legend)
    # A class that was corrected by hand has the next colour, and the picture is drawn again.
    table = out / "0_objects.csv"
    table.write_text(re.sub(r"^1,\w+", "1,plasma cell", table.read_text(), flags=re.MULTILINE))
    segment(trained, out)
    colours["plasma cell"] = class_colours(4)[3].astype(int)
    assert _classes(out) == classes_of_outlines(out, colours)
    document = Document(out, find_masks_of_run(out)[0])
    rows = document.rows(0)
    assert list(document.class_colours(0)) == ["lymphocyte", "tumour", "plasma cell"]
    assert rows["class"] == [_classes(out)[number] for number in rows["label"]]


def classes_of_outlines(out: Path, colours: dict[str, NDArray[np.int64]]) -> dict[int, str]:
    """Name of the class whose colour is nearest to that of each outline."""
    picture = imagecodecs.imread(next((out / "overlays").glob("0*.jpg"))).astype(int)
    labels = read_labels(out / "0_labels.ome.tif")
    found = {}
    for number in range(1, labels.max() + 1):
        inside = labels == number
        outline = picture[inside & ~ndimage.binary_erosion(inside)].mean(axis=0)
        found[number] = min(colours, key=lambda name: float(np.abs(colours[name] - outline).sum()))
    return found


def test_exported_classes_come_back_with_an_import(trained: Path, tmp_path: Path) -> None:
    run("export", trained / "out", "--to", "geojson", "-o", tmp_path / "drawn")
    run("import", tmp_path / "drawn", "--images", trained / "images", "-o", tmp_path / "masks")
    for seed in range(4):
        imported, own = (
            pl.read_csv(folder / f"{seed}_objects.csv") for folder in (tmp_path / "masks", trained / "out")
        )
        assert imported["class"].to_list() == own["class"].to_list()
    scored = run("evaluate", trained / "out", tmp_path / "masks", "--cell-classes", "--json")
    pooled = json.loads(scored.stdout)["pooled"]
    assert pooled["class_accuracy"] == pooled["class_mean_AP"] == pooled["mean_AP"] == 1
    assert pooled["n_true tumour"] == 16


def test_cells_numbered_anew_lose_the_classes_of_the_old_ids(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(trained, out)
    run("export", out, "--to", "geojson", "-o", tmp_path)
    drawn = tmp_path / "0_cells.geojson"
    collection = json.loads(drawn.read_text())
    first, second, *others = collection["features"]
    for feature in collection["features"]:
        del feature["properties"]["classification"]
    old = _classes(out)
    # The first cell is drawn anew; the others keep their names, which are their ids.
    del first["properties"]["name"], first["id"]
    drawn.write_text(json.dumps({**collection, "features": [*others, first]}))
    run("import", drawn, "--into", out)
    assert _classes(out) == {number: name for number, name in old.items() if number > 2}
    assert second["properties"]["name"] == "2"
    run("measure", out)
    rows = pl.read_csv(out / "cells.csv").filter(pl.col("path") == "0.tif").sort("label")
    assert rows["label"].to_list() == list(range(3, 11))
    assert rows["class"].to_list() == [*(old[number] for number in range(3, 10)), None]


def test_cells_of_colours_lose_the_classes_of_the_old_ids(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(trained, out)
    (tmp_path / "colours").mkdir()
    labels = read_labels(out / "0_labels.ome.tif").astype(np.uint8)
    colours = np.stack([255 - labels, labels, labels], axis=-1) * (labels > 0)[..., None]
    tifffile.imwrite(tmp_path / "colours" / "0.tif", colours.astype(np.uint8), photometric="rgb")
    run("import", tmp_path / "colours", "--into", out)
    assert read_labels(out / "0_labels.ome.tif").max() == 9
    assert _classes(out) == {}


def test_times_without_a_file_of_tracks_keep_their_classes(trained: Path, tmp_path: Path) -> None:
    planes = np.stack([sample(seed)[0] for seed in (0, 1)])
    (tmp_path / "images").mkdir()
    (tmp_path / "tracks" / "x_RES").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "images" / "x.tif", planes, imagej=True, metadata={"axes": "TYX"})
    out = tmp_path / "out"
    model = trained / "types.safetensors"
    run("segment", tmp_path / "images", "-o", out, "--model", model, "--diameter", "model")
    before = pl.read_csv(out / "x_objects.csv").select("t", "label", "class")
    labels = read_labels(out / "x_labels.ome.tif")
    tracks = np.where(labels[1] > 0, 10 - labels[1], 0)
    tifffile.imwrite(tmp_path / "tracks" / "x_RES" / "mask001.tif", tracks)
    run("import", tmp_path / "tracks", "--into", out)
    np.testing.assert_array_equal(read_labels(out / "x_labels.ome.tif"), np.stack([labels[0], tracks]))
    after = pl.read_csv(out / "x_objects.csv").select("t", "label", "class")
    assert after.equals(before.filter(pl.col("t") == 0))


def test_classes_that_come_back_for_a_chosen_time_are_measured(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    planes = np.stack([sample(seed)[0] for seed in (1, 0)])
    tifffile.imwrite(tmp_path / "images" / "0.tif", planes, imagej=True, metadata={"axes": "TYX"})
    out, model = tmp_path / "out", trained / "types.safetensors"
    run("segment", tmp_path / "images", "-o", out, "--model", model, "--diameter", "model", "--t", 1)
    run("export", out, "--to", "geojson", "-o", tmp_path / "drawn")
    drawn = tmp_path / "drawn" / "0_cells.geojson"
    drawn.write_text(drawn.read_text().replace('"tumour"', '"plasma cell"'))
    run("import", drawn, "--into", out)
    expected = {"n_cells_lymphocyte": 5, "n_cells_tumour": 0, "n_cells_plasma cell": 4}
    assert pl.read_csv(out / "0_objects.csv").columns == ["label", "class"]
    run("measure", out, "--overwrite")
    assert class_counts(out) == expected
    # As earlier versions wrote the table.
    table = pl.read_csv(out / "0_objects.csv")
    table.select(pl.lit(1).alias("t"), "label", "class").write_csv(out / "0_objects.csv")
    run("measure", out, "--overwrite")
    assert class_counts(out) == expected


PARTIAL = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="96" SizeY="96" SizeZ="1" SizeC="1" SizeT="3">'
    '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData FirstT="0" IFD="0"/><TiffData FirstT="2" IFD="1"/>'
    "</Pixels></Image></OME>"
)


def test_classes_of_a_time_lapse_that_lacks_a_time_are_scored(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with tifffile.TiffWriter(tmp_path / "images" / "x.ome.tif") as writer:
        for seed, text in ((0, PARTIAL), (1, None)):
            writer.write(sample(seed)[0], photometric="minisblack", metadata=None, description=text, contiguous=False)
    out, masks, model = tmp_path / "out", tmp_path / "masks", trained / "types.safetensors"
    run("segment", tmp_path / "images", "-o", out, "--model", model, "--diameter", "model", "--partial")
    run("export", out, "--to", "geojson", "-o", tmp_path / "drawn")
    run("import", tmp_path / "drawn", "--into", out, "-o", masks)
    table = pl.read_csv(masks / "x_objects.csv")
    assert set(table["t"]) == {0, 2}
    # Tables of other programs count the frames of the mask.
    for t in (pl.col("t"), pl.col("t") // 2):
        table.with_columns(t.alias("t")).write_csv(masks / "x_objects.csv")
        pooled = json.loads(run("evaluate", out, masks, "--cell-classes", "--json").stdout)["pooled"]
        assert (pooled["n_true tumour"], pooled["n_true lymphocyte"], pooled["class_accuracy"]) == (8, 10, 1)


def _classes(out: Path) -> dict[int, str]:
    return dict(pl.read_csv(out / "0_objects.csv").select("label", "class").iter_rows())


def test_results_teach_the_next_model(trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "next.safetensors"
    data = (trained / "images", trained / "out")
    run("train", *data, "-o", model, "--start", trained / "types.safetensors", "--steps", 2)
    info = read_info(model)
    assert (info.target, info.class_names) == ("cell_classes", ("background", "lymphocyte", "tumour"))
    # The weights are those of the trained model, which know the classes.
    assert info.scores["validation"]["class_accuracy"] == 1


def test_thresholds_are_searched_for_cells_with_classes(trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "calibrated.safetensors"
    data = (trained / "images", trained / "masks")
    run("calibrate", trained / "types.safetensors", *data, "-o", model)
    assert read_info(model).calibration["scores"]["class_accuracy"] == 1


def test_files_of_several_images_are_refused(trained: Path, tmp_path: Path) -> None:
    labels = sample(0)[1]
    for name in ("found", "true"):
        (tmp_path / name).mkdir()
        with tifffile.TiffWriter(tmp_path / name / "0.ome.tif", ome=True) as writer:
            for _ in range(2):
                writer.write(labels, metadata={"axes": "YX"})
        table = (trained / "masks/0_objects.csv").read_text()
        (tmp_path / name / "0_objects.csv").write_text(table)
    failed = run("evaluate", tmp_path / "found", tmp_path / "true", "--cell-classes", code=3)
    assert "classes of cells are of files with one image: save each as a file" in failed.output


def test_a_mask_without_a_table_fails_alone(trained: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "0.tif", sample(0)[1])
    failed = run("evaluate", trained / "out/0_labels.ome.tif", tmp_path / "0.tif", "--cell-classes", code=3)
    assert "0_objects.csv is missing" in failed.output


def test_training_without_tables_is_refused(trained: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "0.tif", sample(0)[1])
    model = tmp_path / "m.safetensors"
    refused = run("train", trained / "images", tmp_path, "-o", model, "--target", "cell_classes", code=3)
    assert "0_objects.csv is missing" in refused.output


def test_comparisons_of_networks_refuse_classes_of_cells(trained: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("target: cell_classes")
    data = (trained / "images", trained / "masks")
    refused = run("compare", *data, "-o", tmp_path / "c", "--networks", "unet", "--config", settings, code=2)
    assert "target: cell_classes cannot be compared" in refused.output
