"""Cases from public reports of users of other tools; the head of each script says what a good tool does."""

import csv
import functools
import runpy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio.cli.main import main
from unetbio.io import read_labels
from unetbio.models.model_file import read_info

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"

TINY = "parameters: {base_channels: 2, depth: 1}\npatch_size: 40\nbatch_size: 1\nsteps: 1\nvalidate_every: 1\n"
TINY_3D = TINY.replace("40", "24")

AS_THEY_ARE = ("--diameter", "model", "--normalize", "0,1200", "--overlays", "none")
"""Options with which the tiny model finds just the drawn cells of most cases."""

pytestmark = [
    pytest.mark.skipif(not CASES.is_dir(), reason=f"the scripts of cases are missing: no folder {CASES}"),
    pytest.mark.usefixtures("quick_pictures", "quick_search"),
]

Make = Callable[[str], Path]
Segment = Callable[..., Result]
Train = Callable[..., Result]


def run_script(name: str, folder: Path, *arguments: object) -> Path:
    """Let a script fill a folder."""
    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
        patched.setattr(sys, "argv", [name, str(folder), *map(str, arguments)])
        warnings.simplefilter("ignore")
        runpy.run_path(str(CASES / f"{name}.py"))
    return folder


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Give the folder that a script fills, once for all tests."""
    return functools.cache(lambda name: run_script(name, tmp_path_factory.mktemp(name)))


def unetbio(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def segment(tmp_path: Path, tiny_model: Path) -> Segment:
    """Segment with the tiny model into ``out``."""

    def run(*arguments: object) -> Result:
        options = ("-o", tmp_path / "out", "-m", tiny_model, "--workers", 1, *AS_THEY_ARE)
        return unetbio("segment", *options, *arguments)

    return run


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Train a tiny network for a step, into ``m.safetensors``."""

    def run(*arguments: object, config: str = TINY) -> Result:
        (tmp_path / "tiny.yaml").write_text(config)
        options = ("-o", tmp_path / "m.safetensors", "--config", tmp_path / "tiny.yaml", "--device", "cpu")
        return unetbio("train", *arguments, *options, "--overwrite")

    return run


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def counted(path: Path) -> dict[str, str]:
    """Cells of each image in a ``summary.csv``."""
    return {row["path"]: row["n_cells"] for row in table(path)}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("wrapped", "save label images as 16 bit"),
        ("resized", "looks like an image, not like labels"),
        ("jpeg", "looks like an image, not like labels"),
        ("aliased", "looks like an image, not like labels"),
        ("minus_one", "set negative numbers to 0"),
        ("float01", "with fractions"),
        ("transposed", "transposed"),
        ("one_number", "the mask holds only 0 and 1"),
        ("empty", "all masks are empty"),
    ],
)
def test_masks_that_are_not_what_they_seem_are_refused(make: Make, train: Train, kind: str, said: str) -> None:
    result = train(make("bad_masks") / kind)
    assert result.exit_code == 3
    assert said in result.stderr.splitlines()[-1]


def test_whole_numbers_in_floating_point_are_taken(make: Make, tmp_path: Path) -> None:
    folder = make("bad_masks") / "floatint"
    result = unetbio("import", folder, "-o", tmp_path / "masks")
    assert result.exit_code == 0, result.stderr
    labels = read_labels(tmp_path / "masks" / "images" / "s0_labels.ome.tif")
    np.testing.assert_array_equal(labels, tifffile.imread(folder / "masks" / "s0.tif"))


def test_masks_that_were_edited_in_other_programs_are_measured(
    segment: Segment, tmp_path: Path, discs: np.ndarray
) -> None:
    (tmp_path / "images").mkdir()
    for name in "abcd":
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", discs, resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    assert segment(tmp_path / "images", "--normalize", "0,200").exit_code == 0
    out = tmp_path / "out"
    run_script("edited_masks", tmp_path / "said", out)
    result = unetbio("measure", out, "--workers", 1)
    assert result.exit_code == 0, result.stderr
    cells = table(out / "cells.csv")
    # Of three discs the third was deleted, and a square of 12 x 12 pixels was added.
    assert {row["path"]: sum(row["path"] == other["path"] for other in cells) for row in cells} == dict.fromkeys(
        ("a.tif", "b.tif", "c.tif", "d.tif"), 3
    )
    assert [row["area_px"] for row in cells if row["label"] == "9"] == ["144"] * 4


def test_grey_images_stored_as_colour_are_grey(make: Make, segment: Segment, tmp_path: Path) -> None:
    result = segment(make("grey_as_rgb"), "--normalize", "0,160")
    assert result.exit_code == 0, result.stderr
    names = ("grey.png", "rgb.png", "rgb_from_jpeg.jpg", "rgb_from_tiff.tif", "rgba.png")
    assert counted(tmp_path / "out" / "summary.csv") == dict.fromkeys(names, "16")


def test_all_fields_of_a_plate_with_an_absent_well(make: Make, segment: Segment, tmp_path: Path) -> None:
    result = segment(make("hcs_plate"), "--channel", "DAPI")
    assert result.exit_code == 3
    assert "the well B01 is listed by the plate, and its folder B/1 is missing" in result.stderr
    rows = [row for row in table(tmp_path / "out" / "summary.csv") if row["status"] == "done"]
    places = [tuple(row[name] for name in ("row", "column", "field", "acquisition", "n_cells")) for row in rows]
    assert places == [("A", str(w), str(f), str(f % 2), str(3 * w + f)) for w in (1, 2) for f in range(3)]


def test_positions_of_different_sizes_and_order_of_channels(make: Make, segment: Segment, tmp_path: Path) -> None:
    result = segment(make("jagged_series"), "--channel", "DAPI")
    assert result.exit_code == 0, result.stderr
    rows = table(tmp_path / "out" / "summary.csv")
    assert [(row["position"], row["n_cells"]) for row in rows] == [
        ("Position1", "9"),
        ("Position2", "12"),
        ("Position3", "12"),
    ]


@pytest.mark.parametrize("layout", ["cellpose", "kaggle", "ctc", "stardist"])
def test_public_training_sets_are_read_as_they_lie_there(make: Make, tmp_path: Path, layout: str) -> None:
    """By ``import``, which finds pairs as ``train`` does, and takes no time for a network."""
    result = unetbio("import", make("known_layouts") / layout, "-o", tmp_path / "masks")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("3 images, 48 cells, 0 failed")


def test_a_training_set_of_nnunet(make: Make, train: Train) -> None:
    folder = make("known_layouts") / "nnunet"
    result = train(folder)
    assert result.exit_code == 3
    assert "use train --target classes" in result.stderr
    assert train(folder, "--target", "classes", config=TINY_3D).exit_code == 0


@pytest.mark.parametrize("kind", ["roi", "geojson", "coco", "colour"])
def test_outlines_that_were_drawn_elsewhere_become_masks(make: Make, tmp_path: Path, train: Train, kind: str) -> None:
    folder = make("masks_other_formats") / kind
    result = train(folder)
    assert result.exit_code in (2, 3)
    assert "unetbio import" in result.stderr
    result = unetbio("import", folder / "masks", "--images", folder / "images", "-o", tmp_path / "masks")
    assert result.exit_code == 0, result.stderr
    for number in range(3):
        image = tifffile.imread(folder / "images" / f"f{number}.tif")
        labels = read_labels(tmp_path / "masks" / f"f{number}_labels.ome.tif")
        assert len(np.unique(labels)) == 17
        # Cells are the bright ones, up to pixels that a polygon cuts.
        assert np.mean((labels > 0) != (image > 600)) < 0.01


@pytest.mark.parametrize(("kind", "code"), [("float", 0), ("flipped", 0), ("moved", 3)])
def test_class_masks_in_nifti(make: Make, train: Train, kind: str, code: int) -> None:
    result = train(make("nifti_labels") / kind, "--target", "classes", config=TINY_3D)
    assert result.exit_code == code, result.stderr
    said = {"flipped": "its voxels are turned into the order of v0.nii.gz", "moved": "begin at voxel 40, 0, 0"}
    assert said.get(kind, "") in result.stderr


def test_percentiles_without_their_letter_are_said(make: Make, segment: Segment) -> None:
    result = segment(make("normalize_trap"), "--normalize", "1,99.8")
    assert "which --normalize makes 1: percentiles are written p1,p99.8 [above_limits]" in result.stderr


def test_a_time_lapse_that_was_aborted(make: Make, segment: Segment, tmp_path: Path) -> None:
    folder = make("ome_sets") / "aborted"
    result = segment(folder)
    assert result.exit_code == 3
    assert "8 of 24 planes are missing (t 16 to 23): --partial of segment and suggest takes what" in result.stderr
    assert segment(folder, "--partial").exit_code == 0
    assert read_labels(tmp_path / "out" / "run1_labels.ome.tif").shape == (16, 200, 200)


@pytest.mark.parametrize("kind", ["copied_first", "copied_second"])
def test_one_file_of_a_set_of_two_channels(make: Make, segment: Segment, kind: str) -> None:
    result = segment(make("ome_sets") / kind, "--channel", "DAPI")
    assert result.exit_code == (3 if kind == "copied_first" else 0), result.stderr
    missing = "scan_Ch2.ome.tif" if kind == "copied_first" else "[missing_planes]"
    assert missing in result.stderr


def test_four_files_that_name_each_other_are_one_image(make: Make, segment: Segment, tmp_path: Path) -> None:
    assert segment(make("ome_sets") / "xenium", "--channel", "DAPI").exit_code == 0
    (row,) = table(tmp_path / "out" / "summary.csv")
    assert row["n_cells"] == "9"
    assert {"intensity_mean_DAPI", "intensity_mean_SMA"} <= set(table(tmp_path / "out" / "cells.csv")[0])


@pytest.mark.parametrize(
    ("kind", "channels"), [("phenix", ("ch1", "ch2")), ("metaxpress", ("w1", "w2")), ("nis", ("DAPI", "GFP"))]
)
def test_a_plate_with_a_file_for_each_channel(
    make: Make, segment: Segment, tmp_path: Path, kind: str, channels: tuple[str, str]
) -> None:
    result = segment(make("plate_files") / kind, "--channel", channels[0])
    assert result.exit_code == 0, result.stderr
    rows = table(tmp_path / "out" / "summary.csv")
    assert [(row["well"], row["n_cells"]) for row in rows] == [("A01", "16")] * 2 + [("A02", "16")] * 2
    for cell in table(tmp_path / "out" / "cells.csv"):
        assert float(cell[f"intensity_mean_{channels[0]}"]) == pytest.approx(1100, abs=10)
        assert float(cell[f"intensity_mean_{channels[1]}"]) == pytest.approx(
            800 if cell["well"] == "A02" else 100, abs=10
        )


def test_six_nuclei_in_a_large_field(make: Make, tmp_path: Path) -> None:
    folder = make("sparse_field")
    options = ("-o", tmp_path / "out", "--workers", 1, "--overlays", "none")
    assert unetbio("segment", folder / "sparse.tif", *options).exit_code == 0
    found, truth = read_labels(tmp_path / "out" / "sparse_labels.ome.tif"), tifffile.imread(folder / "sparse_truth.tif")
    assert found.max() == 6
    assert set(found[truth > 0]) >= set(range(1, 7))


def test_a_table_chooses_the_channel_of_a_training(make: Make, train: Train, tmp_path: Path) -> None:
    assert train(make("train_channels") / "pairs.csv").exit_code == 0
    info = read_info(tmp_path / "m.safetensors")
    assert info.channels == ("DAPI",)
    assert info.pixel_size_um == (0.65, 0.65)


def test_plain_stacks_train(make: Make, train: Train, tmp_path: Path) -> None:
    folder = make("train_plain_stacks")
    result = train(folder / "images", folder / "masks", config=TINY_3D)
    assert result.exit_code == 3
    assert "--axes" in result.stderr
    assert train(folder / "images", folder / "masks", "--axes", "ZYX", config=TINY_3D).exit_code == 0
    assert train(folder / "named_images", folder / "masks", config=TINY_3D).exit_code == 0


@pytest.mark.parametrize("name", ["backslash.csv", "semicolon_bom.csv", "latin1.csv", "utf16.txt", "capital.csv"])
def test_tables_of_spreadsheets(make: Make, segment: Segment, tmp_path: Path, name: str) -> None:
    result = segment("--table", make("windows_table") / name)
    assert result.exit_code == 0, result.stderr
    rows = table(tmp_path / "out" / "summary.csv")
    assert [row["n_cells"] for row in rows] == ["4"] * (1 if name == "utf16.txt" else 2)
    if name == "semicolon_bom.csv":
        assert {row["pixel_size_um"] for row in rows} == {"0.65"}
