"""The table of ``unetbio view``."""

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from page_client import index_of, serve

from unetbio.cli.main import main

OPTIONS = ("--pixel-size", "0.25", "--expand", "1", "--features", "all")
LEFT_TO_MEASURE = ("ring_area_px", "form_factor", "texture_entropy_0")


def test_cells_have_the_pixel_size_of_the_tables_of_the_folder(results: Path) -> None:
    """But no rings and further features, which would take seconds after each correction."""
    result = CliRunner().invoke(main, ["measure", str(results), "--workers", "1", *OPTIONS])
    assert result.exit_code == 0, result.stderr
    with serve(results) as page:
        index = index_of(page, "x.tif")
        assert page.get(f"image/{index}")["pixel_size_um"] == 0.25
        columns = page.get(f"image/{index}/rows/0")["columns"]
    table = pl.read_parquet(results / "cells.parquet").filter(path="x.tif")
    assert {"label", "area_um2", "confidence"} <= set(columns)
    assert set(LEFT_TO_MEASURE) <= set(table.columns)
    assert not set(LEFT_TO_MEASURE) & set(columns)
    for name, values in columns.items():
        assert values == pytest.approx(table[name].to_list(), rel=1e-4), name
