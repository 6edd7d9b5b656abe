"""Output folders of images of discs, and the command that measures them."""

from pathlib import Path
from typing import Any

import polars as pl
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray

from unetbio.cli.main import main

__all__ = ["cells", "run_measure", "segment", "segment_in_jobs"]


def segment(tmp_path: Path, model: Path, images: dict[str, NDArray[Any]], *options: str) -> Path:
    """Output of one run over these images."""
    for name, image in images.items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / name, image)
    out = tmp_path / "out"
    line = ["segment", str(tmp_path / "images"), "-o", str(out), "-m", str(model), "--workers", "1", *options]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.stderr
    return out


def segment_in_jobs(tmp_path: Path, discs: NDArray[Any], tiny_model: Path) -> Path:
    """Output of two jobs, one of which met a bad file."""
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "a.tif", discs)
    tifffile.imwrite(images / "b.tif", discs[::-1])
    (images / "bad.tif").write_bytes(b"")
    out = tmp_path / "out"
    for part in ("1/2", "2/2"):
        line = ["segment", str(images), "-o", str(out), "-m", str(tiny_model), "--workers", "1", "--part", part]
        assert CliRunner().invoke(main, [*line, "--failed-ok"]).exit_code == 0
    return out


def cells(out: Path) -> pl.DataFrame:
    """The table of cells of an output folder."""
    return pl.read_parquet(out / "cells.parquet")


def run_measure(out: Path, *options: str) -> str:
    """Run `unetbio measure`; returns what it says on stderr."""
    result = CliRunner().invoke(main, ["measure", str(out), "--workers", "1", *options])
    assert result.exit_code == 0, result.stderr
    return result.stderr
