"""Options, settings and columns that change nothing: one line on stderr says so, once, and the exit code stays."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio.cli.main import main
from unetbio.io import write_labels
from unetbio.models.model_file import load_model, save_model
from unetbio.notes import without_effect

TINY = {
    "parameters": {"base_channels": 2, "depth": 1},
    "patch_size": 40,
    "batch_size": 1,
    "steps": 1,
    "validate_every": 1,
}

pytestmark = pytest.mark.usefixtures("quick_pictures", "quick_search")

Segment = Callable[..., Result]


def unetbio(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def notes(result: Result) -> list[str]:
    """Options of a run that changed nothing, in the order of the lines, each with its reason."""
    marker = without_effect("", "")
    lines = [line.removeprefix("unetbio: ") for line in result.stderr.splitlines()]
    return [line for line in lines if marker in line]


def note(option: str, reason: str) -> list[str]:
    return [without_effect(option, reason)]


@pytest.fixture
def images(tmp_path: Path, discs: np.ndarray) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "ab":
        tifffile.imwrite(folder / f"{name}.tif", discs)
    return folder


@pytest.fixture
def segment(images: Path, tmp_path: Path, tiny_model: Path) -> Segment:
    def run(*options: object) -> Result:
        line = (images, "-o", tmp_path / "out", "-m", tiny_model, "--workers", 1, "--overlays", "none")
        result = unetbio("segment", *line, *options)
        assert result.exit_code == 0, result.stderr
        return result

    return run


# --- Segmentation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "option", "reason"),
    [
        (("--z", "max"), "--z max", "images without sections are taken as they are"),
        (("--level", "auto"), "--level auto", "images without a pyramid have one resolution"),
        (("--group", "none"), "--group none", "names of files join none of them"),
        (("--partial",), "--partial", "no plane is missing"),
        (("--nan", "fill"), "--nan fill", "no pixel is NaN or infinite"),
        (("--exact-tiles",), "--exact-tiles", "tiles of model tiny are exact without it"),
        (("--no-tables", "--part", "1/1"), "--no-tables", "jobs of --part write no tables"),
    ],
)
def test_an_option_without_a_meaning_is_said_once(
    segment: Segment, options: tuple[str, ...], option: str, reason: str
) -> None:
    assert notes(segment(*options)) == note(option, reason)


def test_defaults_say_nothing(segment: Segment) -> None:
    assert notes(segment()) == []
    assert notes(segment("--nan", "refuse", "--group", "auto", "--series", "all")) == []


def test_permissions_that_were_needed_say_nothing(images: Path, segment: Segment, discs: np.ndarray) -> None:
    image = discs.astype(np.float32)
    image[3, 3] = np.nan
    tifffile.imwrite(images / "b.tif", image)
    assert notes(segment("--nan", "fill")) == []
    # Kept results count too.
    assert notes(segment("--nan", "fill")) == []


@pytest.mark.parametrize("word", ["auto", "model"])
def test_a_scale_that_pixel_sizes_give(images: Path, segment: Segment, discs: np.ndarray, word: str) -> None:
    tifffile.imwrite(
        images / "b.tif", discs, ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    )
    assert notes(segment("--diameter", word)) == note(
        f"--diameter {word}", "the scale follows from the pixel sizes of image and model"
    )


def test_names_that_join_files_say_nothing(images: Path, segment: Segment) -> None:
    for name in "ab":
        (images / f"{name}.tif").rename(images / f"r01c01f01p01-ch{'ab'.index(name) + 1}sk1fk1fl1.tif")
    assert notes(segment("--group", "none")) == []


# --- Other commands ---------------------------------------------------------------------------------------------------


def test_a_check_without_a_model(images: Path) -> None:
    options = ("--no-model", "--diameter", "9", "--normalize", "none", "--nan", "fill", "--failed-ok")
    reason = "without a model images are compared with each other"
    assert notes(unetbio("check", images, *options)) == [
        *note("--diameter", reason),
        *note("--normalize", reason),
        *note("--nan fill", "no pixel is NaN or infinite"),
    ]


def test_columns_of_paths_in_formats_without_columns(segment: Segment, tmp_path: Path) -> None:
    segment()
    options = (tmp_path / "out", "--metadata-regex", "(?P<name>.)")
    for kind in ("coco", "imagej"):
        result = unetbio("export", *options, "--to", kind)
        assert notes(result) == note("--metadata-regex", f"files of {kind} hold no further columns")
    assert notes(unetbio("export", *options, "--to", "geojson")) == []
    assert notes(unetbio("verify", tmp_path / "out", "--device", "cpu")) == note(
        "--device", "masks are segmented again with --rerun alone"
    )
    assert notes(unetbio("verify", tmp_path / "out", "--device", "cpu", "--rerun", "1")) == []


def test_networks_are_drawn_or_described() -> None:
    result = unetbio("networks", "unet", "--draw", "x", "--json")
    assert result.exit_code == 2
    assert "--json describes networks, and --draw draws them: leave one out" in result.stderr


@pytest.fixture
def touching() -> np.ndarray:
    """Two cells that touch."""
    labels = np.zeros((48, 56), np.uint16)
    labels[5:20, 5:15], labels[5:20, 15:25] = 1, 2
    return labels


def test_connected_parts_of_a_label_image(tmp_path: Path, touching: np.ndarray) -> None:
    """Cells of a label image that touch stay apart, also where each connected part of a mask is to be a cell."""
    reason = "cells that have numbers of their own in a mask keep them"
    for folder in ("masks", "plain"):
        (tmp_path / folder).mkdir()
    write_labels(tmp_path / "masks" / "x.tif", touching)
    options = ("-o", tmp_path / "weights", "--overwrite")
    assert notes(unetbio("weight-map", tmp_path / "masks", *options)) == []
    weights = tifffile.imread(tmp_path / "weights" / "x_weights.tif")
    result = unetbio("weight-map", tmp_path / "masks", *options, "--split-components")
    assert notes(result) == note("--split-components", reason)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "weights" / "x_weights.tif"), weights)
    assert notes(unetbio("evaluate", tmp_path / "masks", tmp_path / "masks" / "x.tif")) == []

    tifffile.imwrite(tmp_path / "plain" / "x.tif", (touching > 0).astype(np.uint8) * 255)
    for truth, expected in (("plain", []), ("masks", note("--split-components", reason))):
        found = next((tmp_path / truth).iterdir())
        result = unetbio("evaluate", tmp_path / "masks" / "x.tif", found, "--split-components")
        assert result.exit_code == 0, result.stderr
        assert notes(result) == expected


def test_a_border_term_of_0(tmp_path: Path, touching: np.ndarray) -> None:
    write_labels(tmp_path / "x.tif", touching)
    options = ("-o", tmp_path / "weights", "--border-weight", "0", "--border-sigma", "3", "--spacing", "1,1")
    lines = notes(unetbio("weight-map", tmp_path / "x.tif", *options))
    assert lines == [*note("--border-sigma", "--border-weight is 0"), *note("--spacing", "--border-weight is 0")]


# --- Training ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path, touching: np.ndarray) -> Path:
    """A table of three annotated images, each of a group, the last for validation."""
    rng = np.random.default_rng(0)
    rows = ["image,mask,split,group"]
    for number in range(3):
        image = (touching > 0) * 500 + rng.normal(100, 10, touching.shape)
        tifffile.imwrite(tmp_path / f"i{number}.tif", image.astype(np.uint16))
        write_labels(tmp_path / f"m{number}.tif", np.roll(touching, number, axis=1))
        rows.append(f"i{number}.tif,m{number}.tif,{'validation' if number == 2 else 'training'},A")
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "pairs.csv"


def test_a_training_says_what_changes_nothing(tmp_path: Path, pairs: Path) -> None:
    settings = {**TINY, "momentum": 0.9, "validation_fraction": 0.5, "augmentation": {"probability": 0, "noise": 0.2}}
    (tmp_path / "tiny.yaml").write_text(json.dumps(settings))
    options = ("-o", tmp_path / "m.safetensors", "--config", tmp_path / "tiny.yaml", "--device", "cpu")
    result = unetbio("train", pairs, *options, "--split-components", "--minutes", "0.001")
    assert result.exit_code == 0, result.stderr
    assert notes(result) == [
        *note("--split-components", "cells that have numbers of their own in a mask keep them"),
        *note("momentum", "optimizer adamw has none"),
        *note("steps", "the training ends after its minutes"),
        *note("augmentation.noise", "the probability of changes is 0"),
        *note("the column group", "sampling is cells, and not groups"),
        *note("validation_fraction", "the validation images are named"),
    ]


def test_a_calibration_takes_all_images(tmp_path: Path, pairs: Path, tiny_model: Path) -> None:
    known = load_model(tiny_model)
    info = known.info.model_copy(update={"pixel_size_um": None, "cell_diameter_px": None})
    save_model(tmp_path / "of_no_size.safetensors", info, known.network)
    options = ("-o", tmp_path / "c.safetensors", "--device", "cpu", "--diameter", "12", "--pixel-size", "0.5")
    result = unetbio("calibrate", tmp_path / "of_no_size.safetensors", pairs, *options)
    assert result.exit_code == 0, result.stderr
    assert notes(result) == [
        *note("the split of the images", "thresholds are searched on all of them"),
        *note("the column group", "thresholds are searched on all images alike"),
        *note("--diameter", "model tiny knows no diameter to rescale to"),
        *note("--pixel-size", "model tiny knows no pixel size to rescale to"),
    ]
