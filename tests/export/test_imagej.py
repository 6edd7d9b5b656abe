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

from unetbio.cli.main import main

JAR = Path(os.environ.get("IMAGEJ_JAR", "/usr/share/java/ij.jar"))

pytestmark = pytest.mark.skipif(
    not (JAR.is_file() and shutil.which("java") and shutil.which("xvfb-run")),
    reason=f"needs ImageJ ({JAR}), Java and Xvfb: make test-imagej",
)

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


def measured(image: Path, regions: Path, folder: Path) -> list[list[str]]:
    macro, found = folder / "macro.ijm", folder / "found.csv"
    macro.write_text(MACRO)
    command = ["xvfb-run", "-a", "java", "-jar", str(JAR), "-macro", str(macro), f"{image},{regions},{found}"]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    return [line.split(",") for line in found.read_text().splitlines()]


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
