"""What `train` learns from: folders, tables, stacks and classes, and inputs that cannot be meant."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from annotated_folder import TINY, train, write_annotated

from unetbio.models.model_file import load_model, read_info

pytestmark = pytest.mark.usefixtures("quick_pictures", "quick_search")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_annotated(tmp_path)


def test_a_model_names_the_images_of_warnings_without_their_folder(data: Path) -> None:
    path = data / "masks" / "zelle_ü0_labels.tif"
    torn = tifffile.imread(path)
    torn[12] = 0
    tifffile.imwrite(path, torn)
    result = train(data, data)
    assert result.exit_code == 0, result.output
    assert f"the mask of {data}/images/zelle_ü0.tif: 1 cell of 2 in pieces" in result.stderr
    (warning,) = load_model(data / "out" / "m.safetensors").info.training["warnings"]
    assert warning.startswith("the mask of zelle_ü0.tif: 1 cell of 2 in pieces")


def test_marks_are_refused_where_no_cell_validates_too(data: Path) -> None:
    for path in (data / "masks").iterdir():
        marks = np.zeros((48, 56), np.uint16)
        marks[12, 15], marks[30, 25] = 1, 2
        tifffile.imwrite(path, marks)
    tifffile.imwrite(data / "masks" / "zelle_ü2_labels.tif", np.zeros((48, 56), np.uint16))
    rows = [f"images/zelle_ü{n}.tif,masks/zelle_ü{n}_labels.tif,{'validation' * (n == 2)}\n" for n in range(3)]
    (data / "pairs.csv").write_text("image,mask,split\n" + "".join(rows), encoding="utf-8")
    refused = train(data, data / "pairs.csv")
    assert refused.exit_code == 3
    assert "no cell has more than 3 pixels" in refused.stderr
    trusted = train(data, data / "pairs.csv", options=("--trust-masks",))
    assert "no validation mask holds a cell" in trusted.stderr
    assert "no cell has more than 3 pixels" in trusted.stderr


def test_pairs_are_shown_and_leftovers_listed(data: Path) -> None:
    (data / "masks" / "zelle_ü2_labels.tif").unlink()
    result = train(data, data)
    assert f"{data / 'images' / 'zelle_ü0.tif'} with {data / 'masks' / 'zelle_ü0_labels.tif'}" in result.stderr
    assert f"left out, nothing to pair it with: {data / 'images' / 'zelle_ü2.tif'}" in result.stderr


def test_names_that_are_not_in_utf_8_are_refused(data: Path) -> None:
    """As files from an old archive have."""
    image = data / "images" / os.fsdecode(b"Zelle_\xfc1.tif")
    mask = data / "masks" / os.fsdecode(b"Zelle_\xfc1_labels.tif")
    (data / "images" / "zelle_ü1.tif").rename(image)
    (data / "masks" / "zelle_ü1_labels.tif").rename(mask)
    result = train(data, data)
    assert result.exit_code == 3
    shown = data / "images" / "Zelle_\\udcfc1.tif"
    assert f"{shown}: its path is not in UTF-8: rename the file, or its folder" in result.stderr
    mask.unlink()
    result = train(data, data)
    assert result.exit_code == 0, result.output
    assert f"left out, nothing to pair it with: {shown}" in (data / "out" / "m.log").read_text(encoding="utf-8")


def test_images_and_masks_may_be_two_folders(data: Path) -> None:
    assert train(data, data / "images", data / "masks").exit_code == 0


def test_a_table_names_the_validation_images(data: Path) -> None:
    table = data / "pairs.csv"
    rows = [
        f"images/zelle_ü{n}.tif,masks/zelle_ü{n}_labels.tif,{'validation' if n else 'training'}\n" for n in range(3)
    ]
    table.write_text("image,mask,split\n" + "".join(rows), encoding="utf-8")
    result = train(data, table)
    assert result.exit_code == 0, result.output
    assert "1 image to train on, 2 to validate on" in result.stderr


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda data: [data / "images"], "has no folders images and masks, and no masks beside images"),
        (lambda data: [data / "images"] * 3, "3 inputs given: give IMAGES and MASKS"),
        (
            lambda data: [data / "images"] * 2,
            "images was given twice, as images and as masks: give two folders, or name",
        ),
        (lambda data: [data / "masks"] * 2, "masks was given twice, as images and as masks: give two folders, or name"),
    ],
)
def test_inputs_of_no_known_kind_are_refused(data: Path, prepare: object, message: str) -> None:
    result = train(data, *prepare(data))  # type: ignore[operator]
    assert message in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,truth\na,b\n", "has no column 'image'; it has file, truth"),
        ("image,mask,split\na,b,test\n", "line 2: split is 'test'; it must be training or validation"),
        ("", "has no column 'image'; it has none"),
        ("image,mask\na.tif\n", "line 2: the column 'mask' is empty"),
        ("image,mask,split\na,b,validation\n", "has no row to train on: split is validation everywhere"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(data: Path, content: str, message: str) -> None:
    (data / "pairs.csv").write_text(content)
    assert message in train(data, data / "pairs.csv").stderr


def test_an_image_and_a_mask_of_different_size_are_named(data: Path) -> None:
    tifffile.imwrite(data / "masks" / "zelle_ü1_labels.tif", np.ones((48, 50), np.uint16) * 3)
    message = train(data, data).stderr
    assert "zelle_ü1_labels.tif: it has (48, 50) pixels, its image" in message
    assert "zelle_ü1.tif has (48, 56): they must have the same size" in message


def test_images_with_different_channels_are_named(data: Path) -> None:
    colours = np.zeros((48, 56, 3), np.uint8)
    colours[0, 0, 0] = 1
    tifffile.imwrite(data / "images" / "zelle_ü1.tif", colours, photometric="rgb")
    assert "training images need the same channels" in train(data, data).stderr


def test_planes_and_stacks_are_not_mixed(data: Path) -> None:
    stack = np.ones((4, 48, 56), np.uint16)
    for folder, name in (("images", "zelle_ü1.tif"), ("masks", "zelle_ü1_labels.tif")):
        tifffile.imwrite(data / folder / name, stack, imagej=True, metadata={"axes": "ZYX"})
    assert "train on planes or on stacks, not on both" in train(data, data).stderr


def test_a_table_says_what_is_trained_on(data: Path) -> None:
    """Stacks of four channels: one channel and section, with pixel size and diameter for the model file."""
    for path in (data / "images").iterdir():
        plane = tifffile.imread(path)
        stack = np.stack([np.zeros_like(plane), plane])[:, np.newaxis].repeat(3, axis=1)
        metadata = {"axes": "CZYX", "Channel": {"Name": ["GFP", "DAPI"]}}
        tifffile.imwrite(path, stack, ome=True, photometric="minisblack", metadata=metadata)
    rows = [f"images\\zelle_ü{n}.tif;masks\\zelle_ü{n}_labels.tif;DAPI;1;0,65;{20 + n}" for n in range(3)]
    table = data / "pairs.csv"
    table.write_text("\n".join(["Image;Mask;Channel;z;pixel_size_um;diameter_px", *rows]), encoding="cp1252")
    result = train(data, table)
    assert result.exit_code == 0, result.output
    info = load_model(data / "out" / "m.safetensors").info
    assert info.channels == ("DAPI",)
    assert info.pixel_size_um == (0.65, 0.65)
    assert 20 <= info.cell_diameter_px <= 22


def test_plain_stacks_with_long_voxels_get_flat_kernels(data: Path) -> None:
    for path in [*(data / "images").iterdir(), *(data / "masks").iterdir()]:
        stack = np.repeat(tifffile.imread(path)[np.newaxis], 4, axis=0)
        tifffile.imwrite(path, stack, photometric="minisblack", metadata=None)
    refused = train(data, data)
    assert refused.exit_code == 3
    assert "zelle_ü0.tif: 4 pages of 48 x 56 pixels and no word what they are: say --axes ZYX" in refused.stderr
    (data / "tiny.yaml").write_text(TINY.replace("patch_size: 40", "patch_size: [24, 40, 40]"))
    result = train(data, data, options=("--axes", "ZYX", "--pixel-size", "2,0.5", "--steps", "1"))
    assert result.exit_code == 0, result.output
    info = load_model(data / "out" / "m.safetensors").info
    assert info.pixel_size_um == (2.0, 0.5, 0.5)
    assert info.parameters["poolings"] == [[1, 2, 2]] or info.parameters["poolings"] == ((1, 2, 2),)


def test_pixels_may_be_as_small_as_those_of_electron_microscopes(data: Path) -> None:
    assert train(data, data, options=("--pixel-size", "0.0002")).exit_code == 0
    assert load_model(data / "out" / "m.safetensors").info.pixel_size_um == (0.0002, 0.0002)


def test_a_model_that_cannot_be_described_is_refused_before_the_first_step(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY + "licence: " + 1001 * "x")
    result = train(data, data)
    assert result.exit_code == 2
    assert "no model file can say this of the model: licence: String should have at most 1000" in result.stderr
    assert not (data / "out").exists()


def test_images_that_are_reduced_are_counted(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY + "augmentation: {largest_diameter: 8}")
    assert "3 of 3 images have cells wider than 8 px: they are reduced" in train(data, data).stderr
    assert read_info(data / "out" / "m.safetensors").cell_diameter_px == pytest.approx(8, abs=1)


def test_ids_may_be_large(data: Path) -> None:
    path = data / "masks" / "zelle_ü1_labels.tif"
    tifffile.imwrite(path, tifffile.imread(path).astype(np.uint32) * 2_000_000_000)
    assert train(data, data).exit_code == 0


def as_classes(data: Path, values: tuple[int, int, int]) -> None:
    for path in (data / "masks").iterdir():
        tifffile.imwrite(path, np.array(values, np.uint8)[tifffile.imread(path)])


def test_class_masks_become_a_model_of_classes(data: Path) -> None:
    as_classes(data, (0, 128, 255))
    options = ("--target", "classes", "--class-names", "ground, leaf,root", "--class-values", "0,128,255")
    result = train(data, data, options=options)
    assert result.exit_code == 0, result.output
    assert "m.safetensors: mean_IoU" in result.stdout
    info = load_model(data / "out" / "m.safetensors").info
    assert (info.target, info.class_names) == ("classes", ("ground", "leaf", "root"))
    assert (data / "out" / "m.png").is_file()


def test_binary_masks_are_refused_for_cells_and_say_how_they_can_be_taken(data: Path) -> None:
    as_classes(data, (0, 255, 255))
    message = train(data, data).stderr
    assert "--split-components" in message
    assert "--target classes" in message
    assert train(data, data, options=("--split-components",)).exit_code == 0
    result = train(data, data, options=("--target", "classes", "--class-values", "0,255", "--overwrite"))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--target", "classes", "--class-values", "0,x"),
            "'--class-values': 0,x: needs whole numbers from 0 with commas",
        ),
        (("--target", "classes", "--class-names", "a,,b"), "'--class-names': a,,b: needs names with commas between"),
        (("--class-names", "a,b"), "class_names need target: classes"),
        (("--target", "classes", "--class-names", "a,b"), "_labels.tif: holds 2, which is none of the classes 0 to 1"),
    ],
)
def test_classes_that_cannot_be_meant_are_refused(data: Path, options: tuple[str, ...], message: str) -> None:
    result = train(data, data, options=options)
    assert message in result.stderr
    assert not (data / "out").exists()


def test_inputs_are_refused_before_torch_is_imported(data: Path) -> None:
    code = (
        "import sys; from unetbio.cli.main import main\n"
        f"try: main(['train', {str(data / 'images')!r}, '-o', 'm.safetensors'])\n"
        "except SystemExit as error: assert error.code == 2\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=data, check=False).returncode == 0
