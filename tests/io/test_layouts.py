"""Images and masks in one folder, as people and public data sets lay them out."""

from pathlib import Path

import pytest

from unetbio.errors import UsageError
from unetbio.io import find_inputs
from unetbio.io.pairing.layouts import find_layout


def made(root: Path, names: list[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["images/a.tif", "masks/a.tif"], {"images/a.tif": "masks/a.tif"}),
        (["raw/a.png", "gt/a_label.png"], {"raw/a.png": "gt/a_label.png"}),
        (["imagesTr/c_0000.nii.gz", "labelsTr/c.nii.gz"], {"imagesTr/c_0000.nii.gz": "labelsTr/c.nii.gz"}),
        (["000_img.png", "000_masks.png"], {"000_img.png": "000_masks.png"}),
        (["a.tif", "a_cp_masks.png"], {"a.tif": "a_cp_masks.png"}),
        (["d1/a.tif", "d1/a_mask.tif"], {"d1/a.tif": "d1/a_mask.tif"}),
        (["ab12/images/ab12.png", "ab12/masks/1f.png", "ab12/masks/2e.png"], {"ab12/images/ab12.png": "ab12/masks"}),
        (["images/images.png", "masks/1f.png"], {}),
        (
            ["01/t000.tif", "01/t001.tif", "01_GT/SEG/man_seg000.tif", "01_GT/TRA/man_track000.tif", "02/t000.tif"],
            {"01/t000.tif": "01_GT/SEG/man_seg000.tif"},
        ),
        (["01/t000.tif", "01_ST/SEG/man_seg000.tif"], {"01/t000.tif": "01_ST/SEG/man_seg000.tif"}),
    ],
)
def test_layouts_are_found(tmp_path: Path, names: list[str], pairs: dict[str, str]) -> None:
    made(tmp_path, names)
    if not pairs:
        with pytest.raises(UsageError, match="no image has a mask"):
            find_layout(tmp_path)
        return
    layout = find_layout(tmp_path)
    assert layout is not None
    assert {
        image.relative_to(tmp_path).as_posix(): mask.relative_to(tmp_path).as_posix() for image, mask in layout.training
    } == pairs


def test_parts_of_a_split_are_kept_apart(tmp_path: Path) -> None:
    names = [f"{part}/{kind}/{part}.tif" for part in ("train", "val", "test") for kind in ("images", "masks")]
    layout = find_layout(made(tmp_path, [*names, "train/images/left.tif"]))
    assert layout is not None
    assert [[image.stem for image, _ in pairs] for pairs in (layout.training, layout.validation, layout.test)] == [
        ["train"],
        ["val"],
        ["test"],
    ]
    assert [path.name for path in layout.leftovers] == ["left.tif"]


def test_images_without_pictures_of_objects_are_named(tmp_path: Path) -> None:
    names = ["a/images/a.png", "a/masks/1.png", "b/images/b.png", "c/images/c.png", "c/masks/c.txt", "notes/x.png"]
    for root, folder in ((tmp_path / "all", "."), (tmp_path / "parts", "train")):
        made(root / folder, names)
        layout = find_layout(root)
        assert layout is not None
        assert [image.name for image, _ in layout.training] == ["a.png"]
        assert [path.name for path in layout.leftovers] == ["b.png", "c.png"]


@pytest.mark.parametrize("names", [[], ["a.tif", "b.tif"], ["a/b.tif"], ["test/images/a.tif", "test/masks/a.tif"]])
def test_folders_without_masks_have_no_layout(tmp_path: Path, names: list[str]) -> None:
    assert find_layout(made(tmp_path, names)) is None


@pytest.mark.parametrize(
    "pairs",
    [
        {"Images/a.tif": "Masks/a.tif"},
        {"rawimages/a.tif": "ground_truth/a.tif"},
        {"img/a.tif": "annotations/a_seg.tif"},
        {"a.tif": "masks/a.tif"},
        {"a_img.tif": "labels/a_mask.tif"},
        {"000_img.png": "000_masks.png"},
        {"a.tif": "a_seg.tif"},
        {"01/t000.tif": "01_GT/SEG/man_seg000.tif"},
    ],
)
def test_what_train_takes_as_a_mask_is_no_image_of_segment(tmp_path: Path, pairs: dict[str, str]) -> None:
    """The two sides of one rule: masks are not segmented, and images have their masks."""
    made(tmp_path, [*pairs, *pairs.values()])
    layout = find_layout(tmp_path)
    assert layout is not None
    found = {
        (image.relative_to(tmp_path).as_posix(), mask.relative_to(tmp_path).as_posix())
        for image, mask in layout.training
    }
    assert found == set(pairs.items())
    assert [item.relative.as_posix() for item in find_inputs([tmp_path])] == list(pairs)


def test_parts_below_the_folders_of_images_and_masks_are_kept_apart(tmp_path: Path) -> None:
    names = [f"{kind}/{part}/{part}.tif" for part in ("train", "val", "test") for kind in ("images", "masks")]
    layout = find_layout(made(tmp_path, names))
    assert layout is not None
    parts = (layout.training, layout.validation, layout.test)
    assert [[image.stem for image, _ in pairs] for pairs in parts] == [["train"], ["val"], ["test"]]


def test_test_images_of_nnunet_are_left_out(tmp_path: Path) -> None:
    layout = find_layout(made(tmp_path, ["imagesTr/a_0000.tif", "imagesTs/b_0000.tif", "labelsTr/a.tif"]))
    assert layout is not None
    assert [image.name for image, _ in layout.training] == ["a_0000.tif"]
    assert not layout.leftovers
