"""Images and masks in one folder, as people and public data sets lay them out."""

from pathlib import Path

import pytest

from unetbio.errors import UsageError
from unetbio.io.layouts import find_layout


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


@pytest.mark.parametrize("names", [[], ["a.tif", "b.tif"], ["a/b.tif"], ["test/images/a.tif", "test/masks/a.tif"]])
def test_folders_without_masks_have_no_layout(tmp_path: Path, names: list[str]) -> None:
    assert find_layout(made(tmp_path, names)) is None
