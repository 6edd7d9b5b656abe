"""Masks that lie beside their images are no inputs of a search."""

from pathlib import Path

import pytest
from searched_folder import relative, touch

from unetbio.io import find_inputs


@pytest.mark.parametrize(("images", "masks"), [("images", "masks"), ("imagesTr", "labelsTr"), ("raw", "GT")])
def test_masks_in_a_folder_beside_the_images_are_left_out(
    tmp_path: Path, images: str, masks: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    touch(tmp_path, *(f"{folder}/{name}" for folder in (images, masks) for name in ("a.tif", "sub/b.tif")))
    touch(tmp_path, "other/masks/c.tif")
    found = {item.relative.as_posix() for item in find_inputs([tmp_path])}
    assert found == {f"{images}/a.tif", f"{images}/sub/b.tif", "other/masks/c.tif"}
    assert (
        f"2 files left out, such as {tmp_path / masks / 'a.tif'}: masks of the images beside them; give" in caplog.text
    )
    assert len(find_inputs([tmp_path / masks])) == 2
    assert len(find_inputs([tmp_path], masks=True)) == 5
    assert [item.path for item in find_inputs([f"{tmp_path}/*/a.tif"])] == [tmp_path / images / "a.tif"]


def test_masks_of_deleted_images_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "b.tif", "masks/a.tif", "masks/b_mask.tif", "masks/deleted.tif")
    assert {item.relative.as_posix() for item in find_inputs([tmp_path])} == {"a.tif", "b.tif"}


def test_masks_named_after_their_images_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a_mask.png", "b_mask.png", "c.tif", "c_cp_masks.png")
    for searched in (tmp_path, f"{tmp_path}/*"):
        assert relative(find_inputs([searched])) == ["a.png", "b_mask.png", "c.tif"]
    assert relative(find_inputs([f"{tmp_path}/*_mask.png"])) == ["a_mask.png", "b_mask.png"]


@pytest.mark.parametrize("image", ["a_label.tif", "labels/a.tif"])
def test_no_masks_lie_beside_tables(tmp_path: Path, image: str) -> None:
    touch(tmp_path, "a.csv", "images/notes.txt", image)
    assert tmp_path / image in [item.path for item in find_inputs([f"{tmp_path}/**/*"])]
