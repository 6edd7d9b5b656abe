"""The table of ``unetbio view``: the columns of the tables of the folder."""

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from page_client import index_of, serve

from unetbio.cli.main import main

OPTIONS = ("--pixel-size", "0.25", "--expand", "1", "--features", "all")


def test_cells_are_measured_as_in_the_tables_of_the_folder(results: Path) -> None:
    """With the pixel size, the rings and the features that `measure` was given."""
    result = CliRunner().invoke(main, ["measure", str(results), "--workers", "1", *OPTIONS])
    assert result.exit_code == 0, result.stderr
    with serve(results) as page:
        index = index_of(page, "x.tif")
        assert page.get(f"image/{index}")["pixel_size_um"] == 0.25
        columns = page.get(f"image/{index}/rows/0")["columns"]
    table = pl.read_parquet(results / "cells.parquet").filter(path="x.tif").drop("path", "series", "t")
    assert {"area_um2", "ring_area_px", "form_factor", "texture_entropy_0"} <= set(columns)
    assert set(columns) == set(table.columns)
    for name, values in columns.items():
        assert values == pytest.approx(table[name].to_list(), rel=1e-4), name
