"""Grey pictures that are stored as colours."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray

from unetbio import targets
from unetbio.cli.main import main
from unetbio.errors import ImageError
from unetbio.io import read_image, read_labels
from unetbio.io.grey_pictures import as_grey
from unetbio.models.model_file import load_model
from unetbio.preprocessing.prepare import open_image, read_frame
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.training.data.examples import load_examples
from unetbio.training.data.pairs import AnnotatedPair
from unetbio.training.setup import describe_model

GREY = np.random.default_rng(0).integers(0, 256, (40, 44)).astype(np.uint8)
RGB = np.dstack([GREY] * 3)
OPAQUE = np.full_like(GREY, 255)


def coloured() -> NDArray[np.uint8]:
    """The last pixel has a colour."""
    picture = RGB.copy()
    picture[-1, -1, 1] ^= 1
    return picture


def write(path: Path, picture: NDArray[Any]) -> Path:
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(picture))
    elif path.suffix == ".jpg":
        path.write_bytes(imagecodecs.jpeg_encode(picture, level=95))
    elif picture.ndim == 2:
        tifffile.imwrite(path, picture)
    else:
        channels = picture.shape[-1]
        alpha = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
        photometric = "minisblack" if channels == 2 else "rgb"
        tifffile.imwrite(path, picture, photometric=photometric, planarconfig="contig", metadata=None, **alpha)
    return path


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("rgb.png", RGB),
        ("rgba.png", np.dstack([RGB, OPAQUE])),
        ("grey_alpha.png", np.dstack([GREY, OPAQUE])),
        ("rgb16.png", RGB.astype(np.uint16) * 257),
        ("rgb.jpg", RGB),
        ("rgb.tif", RGB),
        ("rgba.tif", np.dstack([RGB, OPAQUE])),
        ("grey_alpha.tif", np.dstack([GREY, OPAQUE])),
    ],
)
def test_equal_colours_are_grey(tmp_path: Path, name: str, picture: NDArray[Any]) -> None:
    image = read_image(write(tmp_path / name, picture))
    grey = as_grey(image)
    assert grey is not None
    assert (grey.axes, grey.shape, grey.channel_names) == ("YX", (40, 44), ("",))
    np.testing.assert_array_equal(grey.read(), image.read(c=0))


@pytest.mark.parametrize(
    "picture",
    [coloured(), np.dstack([RGB, GREY]), np.dstack([GREY, GREY // 2])],
    ids=["one pixel of colour", "transparent", "grey and transparent"],
)
def test_colours_and_transparency_stay(tmp_path: Path, picture: NDArray[Any]) -> None:
    assert as_grey(read_image(write(tmp_path / "x.png", picture))) is None


def test_channels_of_a_microscope_stay(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.stack([GREY] * 3), imagej=True, metadata={"axes": "CYX"})
    assert as_grey(read_image(tmp_path / "x.tif")) is None
    two = np.dstack([GREY, OPAQUE])
    tifffile.imwrite(tmp_path / "y.tif", two, photometric="minisblack", planarconfig="contig", metadata=None)
    assert as_grey(read_image(tmp_path / "y.tif")) is None


def test_a_mask_stored_as_colours_is_read(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_labels(write(tmp_path / "m.png", RGB)), GREY)


def test_a_mixed_folder_is_one_run(tmp_path: Path, tiny_model: Path) -> None:
    """The same masks, rows and columns as for the grey file; colours fail, and ``check`` says so before."""
    (tmp_path / "in").mkdir()
    for name, picture in (("a.png", GREY), ("b.png", RGB), ("c.png", np.dstack([RGB, OPAQUE])), ("d.png", coloured())):
        write(tmp_path / "in" / name, picture)
    folder, out = str(tmp_path / "in"), tmp_path / "out"
    checked = CliRunner().invoke(main, ["check", folder, "--model", str(tiny_model)])
    refused = [line for line in checked.stdout.splitlines() if "wrong_channels" in line]
    assert [line.split(":")[0] for line in refused] == [f"{folder}/d.png"]
    result = CliRunner().invoke(
        main, ["segment", folder, "-o", str(out), "--model", str(tiny_model), "--device", "cpu"]
    )
    assert result.exit_code == 3, result.output
    assert "d.png: 3 channels (0: red, 1: green, 2: blue), but the model takes 1" in result.stderr
    labels = [read_labels(out / f"{name}_labels.ome.tif", allow_binary=True) for name in "abc"]
    np.testing.assert_array_equal(labels[0], labels[1])
    np.testing.assert_array_equal(labels[0], labels[2])
    before = (out / "cells.csv").read_text().splitlines()
    assert "red" not in before[0]
    again = CliRunner().invoke(main, ["measure", str(out)])
    assert again.exit_code in (0, 3), again.output
    assert (out / "cells.csv").read_text().splitlines() == before


@pytest.mark.parametrize(
    ("pictures", "channels"),
    [([GREY, RGB], 1), ([RGB, RGB], 1), ([RGB, coloured()], 3)],
    ids=["mixed", "grey", "colours"],
)
def test_a_training_takes_pictures_as_grey_where_all_are(
    tmp_path: Path, pictures: list[NDArray[Any]], channels: int
) -> None:
    mask = tmp_path / "m.tif"
    tifffile.imwrite(mask, np.pad(np.full((10, 10), 7, np.uint16), ((0, 30), (0, 34))))
    pairs = [(write(tmp_path / f"{number}.png", picture), mask) for number, picture in enumerate(pictures)]
    training = load_examples(pairs, TrainingConfig())
    assert [len(example.image) for example in training] == [channels] * 2
    (validation,) = load_examples(pairs[1:], TrainingConfig(), like=training[0])
    assert len(validation.image) == channels


def test_a_model_of_colours_takes_a_picture_in_which_nothing_is_transparent(tmp_path: Path, tiny_model: Path) -> None:
    info = load_model(tiny_model).info.model_copy(update={"channels": ("red", "green", "blue")})
    opaque = write(tmp_path / "a.png", np.dstack([coloured(), OPAQUE]))
    assert open_image(opaque, Settings(), info, 2).channels == (0, 1, 2)
    with pytest.raises(ImageError, match=r"4 channels .*, but the model takes 3"):
        open_image(write(tmp_path / "b.png", np.dstack([coloured(), GREY])), Settings(), info, 2)


def test_names_of_channels_leave_a_picture_a_picture(tmp_path: Path, tiny_model: Path) -> None:
    """The same grey values for the model, whatever the channels are called."""
    info = load_model(tiny_model).info
    of_colours = info.model_copy(update={"channels": ("red", "green", "blue")})
    colours = write(tmp_path / "a.png", coloured())
    frames = []
    for names in ((), ("R", "G", "B")):
        opened = open_image(colours, Settings(channel_names=names), of_colours, 2)
        frames.append(read_frame(opened, None, Normalization()))
        assert (frames[-1].scaling.low, frames[-1].scaling.high) == ((0.0,) * 3, (255.0,) * 3)
    np.testing.assert_array_equal(frames[0].image, frames[1].image)
    assert opened.selected_channel_names == ("R", "G", "B")
    opaque = write(tmp_path / "b.png", np.dstack([coloured(), OPAQUE]))
    assert open_image(opaque, Settings(channel_names=("R", "G", "B", "A")), of_colours, 2).channels == (0, 1, 2)
    grey = write(tmp_path / "c.png", RGB)
    assert open_image(grey, Settings(channel_names=("R", "G", "B")), info, 2).image.axes == "YX"


def test_a_check_takes_named_pictures_as_segment_does(tmp_path: Path, tiny_model: Path) -> None:
    write(tmp_path / "a.png", np.dstack([RGB, OPAQUE]))
    line = ["check", str(tmp_path), "--model", str(tiny_model), "--channel-names", "R,G,B,A"]
    assert "wrong_channels" not in CliRunner().invoke(main, line).stdout


def test_a_training_scales_named_pictures_as_segment_does(tmp_path: Path) -> None:
    mask = tmp_path / "m.tif"
    tifffile.imwrite(mask, np.pad(np.full((10, 10), 7, np.uint16), ((0, 30), (0, 34))))
    picture = write(tmp_path / "a.png", coloured())
    config = TrainingConfig()
    plain, named = (
        load_examples([AnnotatedPair(picture, mask, reading=Settings(channel_names=names))], config)[0]
        for names in ((), ("R", "G", "B"))
    )
    assert named.scaling == plain.scaling
    learner = targets.of_training(config).learner(config, [named.label_image])
    # So that an export of the model states the same range.
    assert describe_model([named], config, learner, {}, (64, 64)).channels == ("red", "green", "blue")
