"""Resolutions and regions of a table are checked as they would be segmented."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from unetbio.checking.folder import CheckResult, check
from unetbio.io import image as images


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """OME-TIFF in two resolutions."""
    path = tmp_path / "slide.ome.tif"
    pixels = np.random.default_rng(0).poisson(100, (256, 256)).astype(np.uint16)
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels, subifds=1, metadata={"axes": "YX"})
        file.write(pixels[::2, ::2], subfiletype=1)
    return path


def check_table(slide: Path, rows: str, *models: Path, cache: Path | None = None) -> CheckResult:
    table = slide.with_name("images.csv")
    table.write_text(rows)
    return check(table=table, models=models, cache=cache, workers=1)


def codes(result: CheckResult) -> list[list[str]]:
    """Of each row of the table."""
    return [[code for code in row["code"].split(";") if code] for row in result.rows()]


def test_the_resolutions_of_a_pyramid_are_there(
    slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "image,image_level\nslide.ome.tif,LEVEL\n"
    cache = tmp_path / "check.jsonl"
    assert codes(check_table(slide, rows.replace("LEVEL", "1"), tiny_model, cache=cache)) == [[]]
    # What is known is not opened again, and is still no other option's answer.
    monkeypatch.delattr(images.Image, "read")
    assert codes(check_table(slide, rows.replace("LEVEL", "1"), tiny_model, cache=cache)) == [[]]
    (finding,) = check_table(slide, rows.replace("LEVEL", "2"), tiny_model, cache=cache).findings
    assert finding.code == "no_such_level"
    assert "0: 256 x 256, 1: 128 x 128" in finding.message


def test_a_finding_of_a_region_is_in_its_row_alone(slide: Path, tiny_model: Path) -> None:
    rows = 'image,image_region\nslide.ome.tif,"0,0,200,200"\nslide.ome.tif,"900,900,50,50"\n'
    result = check_table(slide, rows, tiny_model)
    assert codes(result) == [[], ["no_such_region"]]
    assert [finding.path for finding in result.findings] == [f"{slide}#xywh=900,900,50,50"]


def test_one_model_needs_no_list(tmp_path: Path, tiny_model: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.full((64, 64), 7, np.uint8))
    alone, listed = (check(tmp_path, models=models, workers=1).findings for models in (str(tiny_model), [tiny_model]))
    assert [finding.code for finding in alone] == [finding.code for finding in listed] == ["constant"]
