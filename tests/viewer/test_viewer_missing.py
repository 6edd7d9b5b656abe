"""Images that lack files, in ``unetbio view``: what is there is shown and measured, with its numbers in the file."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray
from page_client import serve

from unetbio.cli.main import main
from unetbio.errors import ImageError
from unetbio.settings.training import TrainingConfig
from unetbio.training.data.examples import load_examples
from unetbio.training.data.pairs import find_pairs

Array = NDArray[Any]


def segmented(folder: Path, model: Path, axis: str, images: dict[str, Array], *options: str) -> Path:
    """A run over files of one channel and one time or section each, which are one image."""
    (folder / "images").mkdir()
    for name, image in images.items():
        tifffile.imwrite(folder / "images" / f"a_{name}.tif", image)
    line = ("segment", folder / "images", "-o", folder / "results", "-m", model, "--normalize", "0,200")
    group = rf"(?P<field>a)_(?P<channel>DAPI|GFP)_{axis}(?P<{axis}>\d)"
    words = [*map(str, line), "--workers", "1", "--overlays", "none", "--diameter", "model"]
    result = CliRunner().invoke(main, [*words, "--group", group, "--channel", "DAPI", *options])
    assert result.exit_code == 0, result.stderr
    return folder / "results"


def test_a_time_without_the_file_of_a_channel_is_shown_and_measured(
    tmp_path: Path, tiny_model: Path, discs: Array
) -> None:
    images = {"DAPI_t0": discs, "GFP_t0": discs, "DAPI_t1": np.roll(discs, 5, axis=1)}
    with serve(segmented(tmp_path, tiny_model, "t", images)) as page:
        both, alone = (page.get(f"image/0/rows/{plane}")["columns"] for plane in (0, 1))
        tiles = [
            imagecodecs.jpeg8_decode(page.get(f"image/0/tile/1/0/0_0?layers={layers}"))
            for layers in ("0:10:200:ffffff", "0:10:200:ffffff,1:10:200:ffffff")
        ]
        status, answer = page.ask("GET", "image/0/tile/1/0/0_0?layers=1:10:200:ffffff")
    assert both["label"] == alone["label"] == [1, 2, 3]
    assert alone["centroid_x_px"] == pytest.approx([x + 5 for x in both["centroid_x_px"]])
    assert [name for name in both if name.startswith("intensity")] == ["intensity_mean_DAPI", "intensity_mean_GFP"]
    assert [name for name in alone if name.startswith("intensity")] == ["intensity_mean_DAPI"]
    # The picture has the channels that are there.
    np.testing.assert_array_equal(*tiles)
    assert (status, "1 of 4 planes is missing" in answer["error"]) == (422, True)


@pytest.mark.parametrize(
    ("axis", "options", "planes_of_volume"),
    [("t", (), 1), ("z", ("--z", "each"), 1), ("z", ("--z", "each", "--link", "0.5"), 3)],
)
def test_planes_have_the_numbers_that_tables_give_them(
    tmp_path: Path, tiny_model: Path, discs: Array, axis: str, options: tuple[str, ...], planes_of_volume: int
) -> None:
    names = ["GFP_{}0", *(f"{channel}_{{}}{number}" for channel in ("DAPI", "GFP") for number in (1, 2, 3))]
    images = {name.format(axis): discs for name in names}
    results = segmented(tmp_path, tiny_model, axis, images, "--partial", *options)
    with serve(results) as page:
        found = page.get("image/0")
    cells = pl.read_csv(results / "cells.csv")
    if axis == "t":
        assert found["time_numbers"] == cells["t"].unique().sort().to_list() == [1, 2, 3]
    elif planes_of_volume == 1:
        assert cells["z"].unique().sort().to_list() == [1, 2, 3]
    assert (found["times"] * found["sections"], found["first_section"]) == (3, int(axis == "z"))
    assert found["planes_of_volume"] == planes_of_volume


def test_training_says_what_an_image_lacks_that_was_segmented_in_part(
    tmp_path: Path, tiny_model: Path, discs: Array
) -> None:
    images = dict.fromkeys(("GFP_t0", "DAPI_t1", "GFP_t1"), discs)
    results = segmented(tmp_path, tiny_model, "t", images, "--partial")
    with serve(results) as page:
        page.post("image/0/accept-image", accept=True)
    lacking = r"1 of 4 planes is missing \(t 0, channel 0\): --partial of segment and suggest takes what is there"
    with pytest.raises(ImageError, match=lacking):
        load_examples(find_pairs([results / "corrections.csv"]).training, TrainingConfig())
