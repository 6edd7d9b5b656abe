"""Regions and resolutions of one image as images of a run: their names, places, tables and reuse."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unetbio.batch.plan import check_names, found_items, read_table
from unetbio.batch.rerun import rerun_masks
from unetbio.batch.run import BatchOptions, run_batch
from unetbio.errors import UsageError
from unetbio.export.run import export_folder
from unetbio.imports.run import import_annotations
from unetbio.io import read_image, read_labels, write_labels
from unetbio.output_layout import CORRECTIONS
from unetbio.results.items import Item
from unetbio.results.reuse import hash_labels
from unetbio.results.tables.collect_tables import measure
from unetbio.segmentation import Segmenter, segment
from unetbio.settings.image_tables import read_image_table
from unetbio.settings.runs import ImportRun
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.training.data.examples import load_examples
from unetbio.training.data.pairs import AnnotatedPair
from unetbio.viewer.folder import list_images, write_corrections

Array = NDArray[Any]

AT_MODEL_SCALE = Settings(diameter_px="model")


@pytest.fixture
def mosaic(discs: Array) -> Array:
    return np.tile(discs, (3, 3)).astype(np.uint8)


@pytest.fixture
def slide(mosaic: Array, tmp_path: Path) -> Path:
    """The mosaic at .25 um a pixel, and a smaller resolution."""
    path = tmp_path / "slides" / "slide.ome.tif"
    path.parent.mkdir()
    large = mosaic.repeat(2, axis=0).repeat(2, axis=1)
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(large, subifds=1, tile=(64, 64), metadata={"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25})
        file.write(mosaic, subfiletype=1, tile=(64, 64))
    return path


def run(items: Sequence[Item], out: Path, segmenter: Segmenter) -> list[str]:
    """Status of each item."""
    found: list[str] = []
    run_batch(items, out, segmenter, BatchOptions(), lambda outcome: found.append(outcome.entry.status))
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_region_is_as_the_same_region_of_the_whole(mosaic: Array, segmenter: Segmenter) -> None:
    # Grey values are scaled by the limits of the model.
    whole, _ = segment(mosaic, segmenter.model, diameter="model")
    part, info = segment(mosaic, segmenter.model, diameter="model", region=("40,30,120,90",))
    inner = (slice(12, -12), slice(12, -12))
    cells = (whole[30:120, 40:160] > 0)[inner]
    np.testing.assert_array_equal((part > 0)[inner], cells)
    assert cells.any()
    assert info["settings"]["region"] == ["40,30,120,90"]


def test_several_regions_are_several_images(slide: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    out = tmp_path / "out"
    settings = replace(AT_MODEL_SCALE, level=1, region=("80,60,240,180", "0,0,100,100"))
    items = found_items([slide], settings, out)
    assert run(items, out, segmenter) == ["done", "done"]
    name = "slide_x80_y60_w240_h180"
    labels = read_image(out / f"{name}_labels.ome.tif")
    # Of the smaller resolution, with its pixel size.
    assert (labels.shape, labels.pixel_size_um) == ((90, 120), {"Y": 0.5, "X": 0.5})
    xml = tifffile.tiffcomment(out / f"{name}_labels.ome.tif")
    assert 'PositionX="20.0" PositionXUnit="&#181;m" PositionY="15.0" PositionYUnit="&#181;m"' in xml
    summary = {row["path"]: row for row in rows(out / "summary.csv")}
    assert summary["slide.ome.tif#xywh=80,60,240,180"]["image_region"] == "80,60,240,180"
    assert set(summary) == {"slide.ome.tif#xywh=80,60,240,180", "slide.ome.tif#xywh=0,0,100,100"}
    # Nothing is made again; other regions come beside those that are there.
    more = found_items([slide], replace(settings, region=(*settings.region, "50,50,99,99")), out)
    assert sorted(run(more, out, segmenter)) == ["done", "skipped", "skipped"]
    assert len(rows(out / "summary.csv")) == 3


def test_results_of_a_region_are_measured_and_made_again(slide: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    out = tmp_path / "out"
    run(found_items([slide], replace(AT_MODEL_SCALE, level=1, region=("80,60,240,180",)), out), out, segmenter)
    before = rows(out / "cells.csv")
    measure(out, overwrite=True)
    assert rows(out / "cells.csv") == before
    assert before[0]["intensity_mean_0"]
    assert rerun_masks(out, 1, "cpu", lambda name: None) == (1, [])


def test_outlines_lie_where_the_cells_are_in_the_slide(slide: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    out = tmp_path / "out"
    run(found_items([slide], replace(AT_MODEL_SCALE, level=1, region=("80,60,240,180",)), out), out, segmenter)
    export_folder(out, "geojson", tmp_path / "shapes", lambda entry: None)
    features = json.loads(next((tmp_path / "shapes").glob("*.geojson")).read_text())["features"]
    labels = read_labels(next(out.glob("*_labels.ome.tif")))
    ys, xs = np.nonzero(labels == 1)
    corners = np.array(features[0]["geometry"]["coordinates"][0])
    assert corners.min(axis=0).tolist() == [(xs.min() + 40) * 2, (ys.min() + 30) * 2]
    assert corners.max(axis=0).tolist() == [(xs.max() + 41) * 2, (ys.max() + 31) * 2]


def test_outlines_come_back_from_qupath(slide: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    out, shapes = tmp_path / "out", tmp_path / "shapes"
    run(found_items([slide], replace(AT_MODEL_SCALE, level=1, region=("80,60,240,180",)), out), out, segmenter)
    (path,) = out.glob("*_labels.ome.tif")
    before, xml = read_labels(path), tifffile.tiffcomment(path)
    export_folder(out, "geojson", shapes, lambda entry: None)
    write_labels(path, np.where(before == 1, 0, before))
    assert import_annotations([shapes], None, ImportRun(into=out)).cells == before.max()
    np.testing.assert_array_equal(read_labels(path), before)
    assert tifffile.tiffcomment(path) == xml


def test_zarr_says_where_a_region_lies(slide: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    pytest.importorskip("zarr")
    items = found_items([slide], replace(AT_MODEL_SCALE, level=1, region=("80,60,240,180",)), None)
    run([replace(item, format="ome-zarr") for item in items], tmp_path / "out", segmenter)
    folder = next((tmp_path / "out").glob("*.ome.zarr"))
    dataset = json.loads((folder / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"][0]
    assert dataset["coordinateTransformations"] == [
        {"type": "scale", "scale": [0.5, 0.5]},
        {"type": "translation", "translation": [15.0, 20.0]},
    ]
    assert read_labels(folder).shape == (90, 120)


def test_rows_of_a_table_choose_parts(slide: Path, tmp_path: Path) -> None:
    table = tmp_path / "slides.csv"
    table.write_text(f'image,image_level,image_region,region\n{slide},1,"0,0,99,99;1,1,9,9",cortex\n{slide},auto,,\n')
    first, second, third = read_table(table, Settings())
    assert (first.settings.level, first.settings.region) == (1, ("0,0,99,99",))
    assert (second.settings.region, third.settings.level) == (("1,1,9,9",), "auto")
    # A column of the user.
    assert first.columns == {"region": "cortex"}


def test_one_region_twice(slide: Path, tmp_path: Path) -> None:
    items = found_items([slide], Settings(region=("0,0,9,9", "0, 0, 9, 9")), None)
    with pytest.raises(UsageError, match=r"give each a series or a region of its own"):
        check_names(items, tmp_path)


def test_corrected_masks_of_regions_can_be_trained_on(slide: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    out = tmp_path / "out"
    settings = Settings(level="auto", region=("80,60,240,180",))
    run(found_items([slide], settings, out), out, segmenter)
    (image,) = list_images(out)
    write_corrections(out, [replace(image, accepted_hash=hash_labels(out / image.entry.output, None))])
    (row,) = read_image_table(out / CORRECTIONS, Settings()).rows
    assert (row.settings.level, row.settings.region) == (1, ("80,60,240,180",))
    pair = AnnotatedPair(Path(row.cells["image"]), out / row.cells["mask"], row.settings)
    (example,) = load_examples([pair], TrainingConfig())
    assert example.image.shape == (1, 90, 120)
    assert example.pixel_size_um == (0.5, 0.5)
