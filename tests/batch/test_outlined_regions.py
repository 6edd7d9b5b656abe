"""Regions with an outline: the same masks for all tiles and bands, cells that are whole, names, tables, and reuse."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unetbio.annotations.outlines import Polygons
from unetbio.batch.plan import found_items, read_table
from unetbio.batch.rerun import rerun_masks
from unetbio.batch.run import BatchOptions, run_batch
from unetbio.errors import UsageError
from unetbio.io import read_labels
from unetbio.io.arrays import image_of_array
from unetbio.models.model_file import Model
from unetbio.preprocessing import selection
from unetbio.provenance import read_provenance
from unetbio.results.items import Item
from unetbio.segmentation import Segmenter, segment
from unetbio.segmentation.segmenter import BYTES_IN_BAND
from unetbio.settings.image_tables import read_image_table
from unetbio.settings.segmentation import Settings

Array = NDArray[Any]

WHOLE = 1 << 30
AT_MODEL_SCALE = Settings(diameter_px="model")
DIAMOND = [[120, 10], [230, 95], [118.5, 180], [8, 92.25], [120, 10]]
DIAMOND_TEXT = "POLYGON ((120 10, 230 95, 118.5 180, 8 92.25, 120 10))"


@pytest.fixture
def mosaic(discs: Array) -> Array:
    return np.tile(discs, (3, 3)).astype(np.uint8)


@pytest.fixture
def slide(mosaic: Array, tmp_path: Path) -> Path:
    path = tmp_path / "slides" / "slide.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, mosaic, tile=(32, 32))
    return path


@pytest.fixture
def drawn(slide: Path) -> Path:
    """A diamond with a name, and a box, beside the slide."""
    square = [[10, 10], [60, 10], [60, 60], [10, 60], [10, 10]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "annotation", **properties},
        }
        for ring, properties in (
            (DIAMOND, {"name": "core 1", "classification": {"name": "Tumor"}}),
            (square, {}),
        )
    ]
    path = slide.with_name("regions.geojson")
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def run(items: list[Item], out: Path, segmenter: Segmenter, memory: int = WHOLE) -> list[str]:
    """Status of each item."""
    found: list[str] = []
    run_batch(items, out, segmenter, BatchOptions(memory=memory), lambda outcome: found.append(outcome.entry.status))
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def diamond(box: tuple[slice, slice] = (slice(10, 180), slice(8, 230))) -> Array:
    return Polygons([[np.array(DIAMOND)]]).covers(*box)


def test_annotations_are_images_of_a_run(slide: Path, drawn: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    out, settings = tmp_path / "out", replace(AT_MODEL_SCALE, region=(str(drawn),))
    assert run(found_items([slide], settings, out), out, segmenter) == ["done", "done"]
    first, second = sorted(rows(out / "summary.csv"), key=lambda row: row["path"])
    assert (first["path"], first["region_name"]) == ("slide.tif#xywh=10,10,50,50", "")
    digest = second["path"][-8:]
    assert second["path"] == f"slide.tif#xywh=8,10,222,170&outline={digest}"
    assert (second["image_region"], second["region_name"], second["region_class"]) == (
        f"8,10,222,170 outline {digest}",
        "core 1",
        "Tumor",
    )
    name = f"slide_x8_y10_w222_h170_{digest}_labels"
    labels = read_labels(out / f"{name}.ome.tif")
    assert labels.shape == (170, 222)
    assert labels.any()
    # Cells are whole, and have most of their pixels inside.
    assert all(diamond()[labels == cell].mean() >= 0.5 for cell in range(1, labels.max() + 1))
    provenance = read_provenance(out / f"{name}.json")
    assert provenance is not None
    assert provenance.settings["region"] == [DIAMOND_TEXT]
    pixels = int(diamond().sum())
    assert provenance.run["area"] == {"pixels": pixels, "left_out": 170 * 222 - pixels}
    # The file may move: outlines are recorded as text.
    assert run(found_items([slide], settings, out), out, segmenter) == ["skipped", "skipped"]
    again = replace(AT_MODEL_SCALE, region=(DIAMOND_TEXT,))
    assert run(found_items([slide], again, out), out, segmenter) == ["skipped"]
    assert rerun_masks(out, 2, "cpu", lambda name: None) == (2, [])


def test_cells_are_those_of_the_box_with_half_of_their_pixels_inside(mosaic: Array, segmenter: Segmenter) -> None:
    boxed, _ = segment(mosaic, segmenter.model, diameter="model", region=("8,10,222,170",))
    outlined, info = segment(mosaic, segmenter.model, diameter="model", region=(DIAMOND_TEXT,))
    cells = range(1, boxed.max() + 1)
    kept = [cell for cell in cells if diamond()[boxed == cell].mean() >= 0.5]
    np.testing.assert_array_equal(outlined > 0, np.isin(boxed, kept))
    assert info["n_cells"] == len(kept)
    # Some cells cross the outline, others lie outside.
    shares = [diamond()[boxed == cell].mean() for cell in cells]
    assert any(0.5 < share < 1 for share in shares)
    assert any(0 < share < 0.5 for share in shares)


@pytest.mark.parametrize("settings", [AT_MODEL_SCALE, replace(AT_MODEL_SCALE, exclude_border=True), Settings()])
def test_tiles_and_bands_change_nothing(
    slide: Path, drawn: Path, tmp_path: Path, model: Model, settings: Settings
) -> None:
    settings = replace(settings, region=(str(drawn),))
    for name, tile, memory in (
        ("whole", None, WHOLE),
        ("tiles", 26, WHOLE),
        ("bands", 26, 50 * BYTES_IN_BAND * 222),
        ("thin", 64, 9 * BYTES_IN_BAND * 222),
    ):
        out = tmp_path / name
        assert run(found_items([slide], settings, out), out, Segmenter(model, "cpu", tile=tile), memory) == ["done"] * 2
    for table in ("cells.csv", "summary.csv"):
        assert len({(tmp_path / name / table).read_bytes() for name in ("whole", "tiles", "bands", "thin")}) == 1
    hashes = [
        {read.output.label_hash for path in (tmp_path / name).glob("*_labels.json") if (read := read_provenance(path))}
        for name in ("whole", "tiles", "bands", "thin")
    ]
    assert hashes == [hashes[0]] * 4
    assert len(hashes[0]) == 2


def test_tiles_far_outside_are_not_computed(mosaic: Array, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "CELL_REACH", 8)
    segmenter = Segmenter(model, "cpu", tile=26)
    seen: list[Array] = []
    compute = segmenter.decoder.runner.probabilities

    def noted(batch: Array) -> Array:
        seen.append(batch)
        return compute(batch)

    monkeypatch.setattr(segmenter.decoder.runner, "probabilities", noted)
    done: list[int] = []
    corners = "MULTIPOLYGON (((0 0, 30 0, 30 30, 0 30)), ((200 100, 230 100, 230 150)))"
    opened = segmenter.open(image_of_array(mosaic, "YX"), Settings(diameter_px="model", region=(corners,)))
    frame = segmenter.read_frame(opened, None)
    made = segmenter.decide_frame(opened, frame, progress=lambda pixels, total: done.append(pixels))
    assert 0 < len(seen) < len(segmenter.plan(opened.grid)) / 2
    assert done[-1] == 230 * 150
    labels = segmenter.finish(opened, made.frame, made.decided).label_image
    every, _ = segment(mosaic[:150, :230], model, diameter="model")
    assert opened.area is not None
    inside = opened.area(())
    kept = [cell for cell in range(1, every.max() + 1) if inside[every == cell].mean() >= 0.5]
    np.testing.assert_array_equal(labels > 0, np.isin(every, kept))
    assert kept


def test_files_of_regions_stand_in_tables(slide: Path, drawn: Path, tmp_path: Path) -> None:
    table = slide.with_name("slides.csv")
    table.write_text(f'image,image_region\nslide.tif,"{drawn.name};1,2,30,40"\nslide.tif,"{DIAMOND_TEXT}"\n')
    items = read_table(table, Settings())
    assert [item.settings.region for item in items] == [
        (DIAMOND_TEXT,),
        ("10,10,50,50",),
        ("1,2,30,40",),
        (DIAMOND_TEXT,),
    ]
    assert [item.place.get("region_class") for item in items] == ["Tumor", None, None, None]
    # The name of an outline in a table of results is no outline.
    table.write_text('image,image_region\nslide.tif,"8,10,222,170 outline 0123abcd"\n')
    with pytest.raises(UsageError, match=r"or a file of QuPath that ends in \.geojson"):
        read_image_table(table, Settings())


def test_one_image_of_python_takes_one_region(mosaic: Array, slide: Path, drawn: Path, segmenter: Segmenter) -> None:
    with pytest.raises(UsageError, match=r"8,10,222,170 outline \w{8} and 10,10,50,50 are 2 images: give one"):
        segment(slide, segmenter.model, region=(str(drawn),))
    features = json.loads(drawn.read_text())["features"]
    drawn.write_text(json.dumps(features[0]))
    _, info = segment(slide, segmenter.model, diameter="model", region=(str(drawn),))
    assert info["settings"]["region"] == [DIAMOND_TEXT]
