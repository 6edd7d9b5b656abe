"""Regions as ImageJ itself understands them; ``make test-imagej`` installs it on Debian."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray

from unetbio.annotations.formats.imagej import read_rois
from unetbio.cli.main import main
from unetbio.io import read_labels

JAR = Path(os.environ.get("IMAGEJ_JAR", "/usr/share/java/ij.jar"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (JAR.is_file() and shutil.which("java") and shutil.which("xvfb-run")),
        reason=f"needs ImageJ ({JAR}), Java and Xvfb: make test-imagej",
    ),
]

# As docs/viewing.md has it, and a line a region of what ImageJ then shows and measures.
MACRO = """
given = split(getArgument(), ",");
open(given[0]);
roiManager("reset");
roiManager("open", given[1]);
roiManager("show all with labels");
file = File.open(given[2]);
for (i = 0; i < roiManager("count"); i++) {
  run("Select None");
  if (Stack.isHyperstack) Stack.setPosition(1, 1, 1); else setSlice(1);
  roiManager("select", i);
  getRawStatistics(pixels, mean);
  Roi.getBounds(x, y, width, height);
  Stack.getPosition(channel, section, time);
  if (!Stack.isHyperstack) time = getSliceNumber();
  print(file, Roi.getName + "," + pixels + "," + mean + "," + x + "," + y + "," + width + "," + height + "," + time);
}
File.close(file);
run("Quit");
"""


# Every kind of region that encloses an area, drawn in ImageJ: apart from each other, in a grid of 100 pixels.
DRAWING = """
given = split(getArgument(), ",");
newImage("x", "8-bit black", 1000, 400, 1);
saveAs("tiff", given[0]);
roiManager("reset");
makeRectangle(3, 5, 40, 31);               roiManager("add");
makeOval(103, 7, 51, 38);                  roiManager("add");
makeOval(203, 7, 1, 2);                    roiManager("add");
makePolygon(310, 10, 370, 20, 350, 77, 330, 40, 301, 61);                     roiManager("add");
makeSelection("freehand", newArray(410, 470, 455, 470, 420), newArray(10, 13, 40, 80, 75));   roiManager("add");
makeSelection("traced", newArray(510, 540, 540, 520, 520, 510), newArray(10, 10, 30, 30, 50, 50));   roiManager("add");
makeSelection("polygon", newArray(610.25, 660.5, 650.75, 612.1), newArray(10.3, 12.7, 70.9, 66.6));  roiManager("add");
makeEllipse(710, 60, 770, 15, 0.45);       roiManager("add");
makeRotatedRectangle(810, 60, 860, 15, 22); roiManager("add");
makeRectangle(905, 5, 60, 50, 20);         roiManager("add");
makeOval(10, 110, 60, 50); setKeyDown("alt"); makeOval(25, 120, 20, 20);      roiManager("add");
makeRectangle(110, 110, 30, 40); setKeyDown("shift"); makeRectangle(150, 130, 30, 40);               roiManager("add");
makePolygon(210, 110, 280, 110, 220, 180); setKeyDown("shift"); makeOval(230, 120, 60, 50);          roiManager("add");
makeRectangle(310, 110, 60, 60); run("Rotate...", "angle=17"); roiManager("add");
makeOval(410, 110, 60, 60); run("Enlarge...", "enlarge=3"); roiManager("add");
makeOval(510, 110, 60, 40); run("Interpolate", "interval=2 smooth"); roiManager("add");
makePolygon(610, 110, 670, 120, 650, 177, 630, 140); run("Fit Spline"); roiManager("add");
makeOval(705, 105, 70, 60); run("Convex Hull"); roiManager("add");
roiManager("save", given[1]);
file = File.open(given[2]);
for (i = 0; i < roiManager("count"); i++) {
  roiManager("select", i);
  getRawStatistics(pixels);
  Roi.getBounds(x, y, width, height);
  print(file, Roi.getType + "," + pixels + "," + Roi.getName);
}
File.close(file);
run("Quit");
"""


def measured(image: Path, regions: Path, folder: Path, program: str = MACRO) -> list[list[str]]:
    macro, found = folder / "macro.ijm", folder / "found.csv"
    macro.write_text(program)
    command = ["xvfb-run", "-a", "java", "-jar", str(JAR), "-macro", str(macro), f"{image},{regions},{found}"]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    return [line.split(",") for line in found.read_text().splitlines()]


def test_regions_drawn_in_imagej_have_the_same_areas_when_they_are_imported(tmp_path: Path) -> None:
    image, regions = tmp_path / "x.tif", tmp_path / "x_RoiSet.zip"
    found = measured(image, regions, tmp_path, DRAWING)
    sheet = read_rois([regions])
    areas = [int(region.shape.pixels(400, 1000).mask.sum()) for region in sheet.regions]
    expected = [int(pixels) for _, pixels, _ in found]
    # ImageJ draws the spline of this region through points that it rounds.
    splined = 16
    assert areas[splined] == pytest.approx(expected[splined], rel=0.03)
    areas[splined] = expected[splined] = 0
    assert areas == expected
    result = CliRunner().invoke(main, ["import", str(regions), "--images", str(image), "-o", str(tmp_path / "masks")])
    assert result.exit_code == 0, result.stderr
    labels = read_labels(tmp_path / "masks" / "x_labels.ome.tif")
    imported = np.bincount(labels.ravel())[1:]
    imported[splined] = 0
    assert imported.tolist() == expected


@pytest.mark.parametrize(
    ("axes", "chosen"), [("YX", []), ("TYX", []), ("TCYX", ["--channel", "0"]), ("ZYX", ["--z", "1"])]
)
def test_imagej_measures_what_the_table_says_where_it_lies(
    tmp_path: Path, tiny_model: Path, discs: NDArray[Any], axes: str, chosen: list[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    frames = np.stack([discs, np.roll(discs[::-1], 3, axis=1)])
    image = {"YX": discs, "TCYX": np.stack([frames, 255 - frames], axis=1)}.get(axes, frames)
    tifffile.imwrite(images / "x.tif", image, imagej=True, metadata={"axes": axes})
    out = tmp_path / "out"
    for line in (
        ["segment", str(images), "-o", str(out), "-m", str(tiny_model), "--workers", "1", *chosen],
        ["export", str(out), "--to", "imagej"],
    ):
        result = CliRunner().invoke(main, line)
        assert result.exit_code == 0, result.stderr
    cells = pl.read_parquet(out / "cells.parquet").to_dicts()
    found = measured(images / "x.tif", out / "x_RoiSet.zip", tmp_path)
    assert len(found) == len(cells) > 0
    plane = {"YX": 1, "ZYX": 2}.get(axes)
    for cell, (name, pixels, mean, x, y, width, height, shown) in zip(cells, found, strict=True):
        assert int(name.split("_")[-1]) == cell["label"]
        assert int(pixels) == cell["area_px"]
        assert float(mean) == pytest.approx(cell["intensity_mean_0"], rel=1e-4)
        assert [int(x), int(y)] == [cell["bbox_x_start"], cell["bbox_y_start"]]
        assert [int(x) + int(width), int(y) + int(height)] == [cell["bbox_x_stop"], cell["bbox_y_stop"]]
        assert int(shown) == (cell["t"] + 1 if plane is None else plane)
