"""Slides whose glass is left out: the same cells as without, for all tiles and bands, and what is said of it."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unetbio.batch.plan import found_items
from unetbio.batch.rerun import rerun_masks
from unetbio.batch.run import BatchOptions, run_batch
from unetbio.io import damage, read_labels
from unetbio.models.model_file import Model
from unetbio.preprocessing import prepare, selection, tissue
from unetbio.provenance import Provenance, read_provenance
from unetbio.segmentation import Segmenter
from unetbio.segmentation.segmenter import BYTES_IN_BAND
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings

Array = NDArray[Any]

WHOLE = 1 << 30
# Cells are red of 255, glass of 246 at most.
ALL = Settings(diameter_px="model", channel=(0,), normalization=Normalization("range", 240.0, 255.0))
IN_TISSUE = replace(ALL, tissue="auto")


@pytest.fixture
def slide(discs: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Glass with tissue, and cells in it, at its edge and beside it."""
    monkeypatch.setattr(prepare, "CELL_REACH", 8)
    monkeypatch.setattr(selection, "CELL_REACH", 8)
    monkeypatch.setattr(tissue, "SQUARE", 4)
    picture = np.random.default_rng(0).integers(236, 246, (240, 320, 3)).astype(np.uint8)
    picture[60:140, 80:200] = (225, 180, 215)
    for top, left in ((70, 90), (110, 150), (20, 80)):
        picture[top : top + 64, left : left + 80][discs == 200] = (255, 150, 150)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, picture, photometric="rgb", tile=(64, 64))
    return path


def run(slide: Path, out: Path, segmenter: Segmenter, settings: Settings, memory: int = WHOLE) -> Provenance:
    run_batch(found_items([slide], settings, out), out, segmenter, BatchOptions(memory=memory), lambda outcome: None)
    found = read_provenance(next(out.glob("*_labels.json")))
    assert found is not None
    return found


def test_cells_are_those_of_the_whole_slide(slide: Path, tmp_path: Path, model: Model) -> None:
    whole = run(slide, tmp_path / "whole", Segmenter(model, "cpu"), ALL)
    assert (whole.frames[0].n_cells or 0) > 5
    assert "area" not in whole.run
    assert "tissue" not in whole.settings
    for name, tile, memory in (("one", None, WHOLE), ("tiles", 26, WHOLE), ("bands", 26, 50 * BYTES_IN_BAND * 320)):
        found = run(slide, tmp_path / name, Segmenter(model, "cpu", tile=tile), IN_TISSUE, memory)
        assert found.output.label_hash == whole.output.label_hash
        assert found.frames[0].confidences == whole.frames[0].confidences


def test_what_is_left_out_is_said(slide: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    out = tmp_path / "out"
    provenance = run(slide, out, segmenter, IN_TISSUE)
    area = provenance.run["area"]
    assert area["pixels"] + area["left_out"] == 240 * 320
    assert area["pixels"] < 240 * 320 / 2
    assert 0 < area["tissue_above"] <= 20
    assert provenance.settings["tissue"] == "auto"
    with open(out / "summary.csv", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert f"glass_left_out:{area['left_out'] / (240 * 320):.0%}" in row["warnings"]
    assert rerun_masks(out, 1, "cpu", lambda name: None) == (1, [])


def test_glass_is_not_computed(slide: Path, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = Segmenter(model, "cpu", tile=26)
    seen: list[int] = []
    compute = segmenter.decoder.runner.probabilities

    def noted(batch: Array) -> Array:
        seen.append(len(batch))
        return compute(batch)

    monkeypatch.setattr(segmenter.decoder.runner, "probabilities", noted)
    run(slide, tmp_path / "out", segmenter, IN_TISSUE)
    assert 0 < sum(seen) < len(segmenter.plan((240, 320))) * 0.7


def test_without_glass_all_is_segmented(slide: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    picture = tifffile.imread(slide)[60:140, 80:200]
    tifffile.imwrite(slide, picture, photometric="rgb", tile=(64, 64))
    found = run(slide, tmp_path / "out", segmenter, IN_TISSUE)
    assert "no_glass" in found.frames[0].warnings
    assert found.run["area"] == {"pixels": 80 * 120, "left_out": 0, "tissue_above": None}
    assert read_labels(next((tmp_path / "out").glob("*_labels.ome.tif"))).any()


def test_nothing_is_said_of_glass_where_none_is_left_out(slide: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    """Glass lies in stripes so narrow that all of it is near tissue."""
    picture = np.full((240, 320, 3), 245, np.uint8)
    picture[:, np.arange(320) % 24 < 8] = (225, 180, 215)
    tifffile.imwrite(slide, picture, photometric="rgb", tile=(64, 64))
    found = run(slide, tmp_path / "out", segmenter, IN_TISSUE)
    assert found.run["area"]["left_out"] == 0
    assert found.run["area"]["tissue_above"] is not None
    assert not any("glass" in warning for warning in found.frames[0].warnings)


@pytest.mark.parametrize(("smaller", "level", "damaged"), [(0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)])
def test_tissue_is_found_in_what_is_whole(
    slide: Path,
    tmp_path: Path,
    segmenter: Segmenter,
    monkeypatch: pytest.MonkeyPatch,
    smaller: int,
    level: int,
    damaged: int,
) -> None:
    """A tile of glass cannot be decoded, in the slide or in the smaller copy that shows its tissue."""
    monkeypatch.setattr(damage, "PART", 32)
    settings = replace(IN_TISSUE, level=level)
    picture = tifffile.imread(slide)
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(slide) as tif:
        tif.write(picture, subifds=smaller, **options)
        if smaller:
            tif.write(picture[::4, ::4], subfiletype=1, **options)
    whole = run(slide, tmp_path / "whole", segmenter, settings)
    with tifffile.TiffFile(slide) as tif:
        page, tile = tif.series[0].levels[damaged].pages[0], (19, 1)[damaged]
        place, size = page.dataoffsets[tile], page.databytecounts[tile]
    with open(slide, "r+b") as stream:
        stream.seek(place)
        stream.write(bytes(size))
    found = run(slide, tmp_path / "out", segmenter, replace(settings, partial=True))
    assert found.frames[0].n_cells == whole.frames[0].n_cells
