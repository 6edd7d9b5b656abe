"""Each option and column that says how an image is read: it changes what is read, is refused, or is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from unetbio.errors import ImageError
from unetbio.io import read_image
from unetbio.models.model_file import ModelInfo
from unetbio.preprocessing.prepare import open_annotated, open_image
from unetbio.preprocessing.selection import ImageSelection
from unetbio.settings.image_tables import COLUMNS, read_image_table
from unetbio.settings.options import options_of
from unetbio.settings.segmentation import READING, Settings
from unetbio.training.data.pairs import AnnotatedPair
from unetbio.training.data.series import pair_series

KINDS = {"YX": (6, 7), "CYX": (2, 6, 7), "ZYX": (3, 6, 7), "TYX": (3, 6, 7), "TCZYX": (2, 2, 3, 6, 7)}
VALUES = {
    "channel": ("0", "1", "9", "DAPI"),
    "channel_names": ("A", "A,B"),
    "series": ("0", "1", "pos1", "1-2", "all"),
    "t": ("0", "1", "9"),
    "z": ("0", "1", "9", "max", "each"),
    "axes": ("YX", "ZYX", "TYX", "CYX"),
    "pixel_size_um": ("0.5", "2.0;0.5"),
    "diameter_px": ("9", "auto"),
}
DEFAULTS = {("series", "all"), ("diameter_px", "auto")}
"""Words for what happens without the option."""


CASES = [(axes, name, text) for axes in KINDS for name in READING for text in VALUES[name]]


def first_of_one(axes: str, name: str, text: str) -> bool:
    """The number 0 chooses the only one, and axes may be said again."""
    letter = {"channel": "C", "t": "T", "z": "Z", "series": "S"}.get(name)
    return (text == "0" and letter is not None and letter not in axes) or (name == "axes" and text == axes)


def facts(selection: ImageSelection) -> list[Any]:
    image = selection.image
    return [
        *(image.axes, image.source, image.series, image.pixel_size_um, image.channel_names),
        *(selection.channels, selection.times, selection.axes, selection.shape),
        *(selection.in_sections, selection.settings.diameter_px),
    ]


def read_with(image: Path, settings: Settings) -> tuple[list[Any], str]:
    """What is read, as a training reads it, or why it is refused."""
    try:
        (pair,) = pair_series([AnnotatedPair(image, image, settings)])
        return facts(open_annotated(pair.image, pair.reading)), ""
    except ImageError as error:
        return [], str(error)


def test_all_options_that_read_are_here() -> None:
    assert tuple(VALUES) == READING
    assert set(READING) < set(COLUMNS)
    assert set(READING) < set(options_of(Settings))


@pytest.mark.parametrize(("axes", "name", "text"), CASES)
def test_no_option_or_column_is_ignored_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, axes: str, name: str, text: str
) -> None:
    image = tmp_path / "x.tif"
    tifffile.imwrite(
        image, np.zeros(KINDS[axes], np.uint16), ome=True, photometric="minisblack", metadata={"axes": axes}
    )
    table = tmp_path / "t.csv"
    cell = text.replace(";", ",")
    table.write_text(f'image,{name}\nx.tif,"{cell}"\n')
    (row,) = read_image_table(table, Settings()).rows
    caplog.set_level("INFO")
    found, refusal = read_with(image, row.settings)
    word = name.partition("_")[0]
    if refusal:
        assert any(part in refusal for part in (cell, word))
        return
    is_said = any(word in line.replace("-", "_") for line in caplog.messages)
    is_default = (name, text) in DEFAULTS or first_of_one(axes, name, text)
    assert found != facts(open_annotated(image, Settings())) or is_said or is_default


def test_what_changes_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((6, 7), np.uint16))
    caplog.set_level("INFO")
    open_annotated(tmp_path / "x.tif", Settings(z="max", pixel_size_um=(2.0, 0.5)))
    assert caplog.messages == [
        "--pixel-size Z,YX: images without sections have the second of them alone",
        "--z max changes nothing here: images without sections are taken as they are",
    ]


def test_a_distance_of_sections_that_is_taken_from_the_model_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.tif"
    stack = np.zeros((4, 6, 7), np.uint16)
    known = {"axes": "ZYX", "PhysicalSizeX": 0.4, "PhysicalSizeY": 0.4}
    tifffile.imwrite(path, stack, ome=True, photometric="minisblack", metadata=known)
    info = ModelInfo(name="deep", architecture="unet", channels=("",), parameters={}, pixel_size_um=(1.75, 0.8, 0.8))
    caplog.set_level("INFO")
    said = (
        "images that do not state the distance of their sections are taken to have the model's, 1.75 um: "
        "give --pixel-size Z,YX"
    )
    for settings in (Settings(), Settings(pixel_size_um=0.4)):
        assert open_image(path, settings, info, 3).zoom == (1, 0.5, 0.5)
        assert caplog.messages == [said]
        caplog.clear()
    # Nothing is assumed where the distance is given, nor where the sections are segmented one by one.
    assert open_image(path, Settings(pixel_size_um=(3.5, 0.4)), info, 3).zoom == (2, 0.5, 0.5)
    plane = info.model_copy(update={"pixel_size_um": (0.8, 0.8)})
    assert open_image(path, Settings(z="each"), plane, 2).zoom == (1, 0.5, 0.5)
    assert caplog.messages == []


def test_a_distance_of_sections_that_cannot_be_trusted_is_not_kept(tmp_path: Path) -> None:
    """A volume of 1 angstrom along each axis, which programs write where they know no size."""
    mrcfile = pytest.importorskip("mrcfile")
    path = tmp_path / "x.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.zeros((4, 6, 7), np.int16))
        mrc.voxel_size = 1
    assert read_image(path).pixel_size_um["Z"] == 1e-4
    info = ModelInfo(name="deep", architecture="unet", channels=("",), parameters={}, pixel_size_um=(1.75, 0.8, 0.8))
    opened = open_image(path, Settings(pixel_size_um=0.4), info, 3)
    assert opened.trusted_pixel_size_um == {"Y": 0.4, "X": 0.4}
    assert opened.zoom == (1, 0.5, 0.5)
