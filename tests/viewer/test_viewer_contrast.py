"""The channels that ``unetbio view`` shows at first, and their grey values."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray
from page_client import serve

from unetbio.cli.main import main

Array = NDArray[Any]


def segmented(tmp_path: Path, model: Path, *options: str) -> Path:
    line = ("segment", tmp_path / "images", "-o", tmp_path / "results", "-m", model, "--normalize", "0,200", *options)
    result = CliRunner().invoke(main, [*map(str, line), "--workers", "1", "--overlays", "none", "--diameter", "model"])
    assert result.exit_code == 0, result.stderr
    return tmp_path / "results"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images" / "x.ome.tif"


@pytest.mark.parametrize("asked", ["1", "gfp", "GFP"])
def test_the_channel_that_the_model_saw_is_shown(
    image: Path, tmp_path: Path, tiny_model: Path, discs: Array, asked: str
) -> None:
    channels = np.stack([np.roll(discs, 20, axis=1), discs])
    tifffile.imwrite(image, channels, ome=True, metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}})
    with serve(segmented(tmp_path, tiny_model, "--channel", asked)) as page:
        found = page.get("image/0")["channels"]
    assert [channel["name"] for channel in found if channel["is_shown"]] == ["GFP"]


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_planes_behind_a_dark_first_one_are_not_white(
    image: Path, tmp_path: Path, tiny_model: Path, discs: Array, axes: str
) -> None:
    planes = np.stack([np.full_like(discs, 3), discs, discs])
    tifffile.imwrite(image, planes, ome=True, metadata={"axes": axes})
    options = ("--z", "each") if axes == "ZYX" else ()
    with serve(segmented(tmp_path, tiny_model, *options)) as page:
        found = page.get("image/0")["channels"][0]
    assert (found["low"], found["high"]) == (3, 200)
    assert (found["smallest"], found["largest"]) == (3, 200)


def test_small_grey_values_are_drawn(image: Path, tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    ground = np.where(np.indices(discs.shape).sum(axis=0) % 2, 1, 2)
    tifffile.imwrite(image, (np.where(discs > 100, 3000, ground) / 65535).astype(np.float32), ome=True)
    with serve(segmented(tmp_path, tiny_model)) as page:
        channel = page.get("image/0")["channels"][0]
        # JavaScript writes numbers from 1e-6 without an exponent.
        low, high = (format(Decimal(repr(channel[name])), "f") for name in ("low", "high"))
        assert len(low.partition(".")[2]) > 20
        picture = imagecodecs.jpeg8_decode(page.get(f"image/0/tile/0/0/0_0?layers=0:{low}:{high}:ffffff"))
    assert picture[discs > 100].mean() > 240
