"""Label images as OME-Zarr folders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr_folders import grey_values, make, multiscales, set_attributes

from unetbio.errors import ImageError
from unetbio.files import sha256_path
from unetbio.io import read_image, read_labels, write_labels
from unetbio.labels import label_hash

Array = NDArray[Any]


@pytest.fixture
def image() -> Array:
    return grey_values()


def test_label_images_within_an_image(tmp_path: Path, image: Array) -> None:
    root = make(tmp_path / "x.ome.zarr", image[0, 0], "yx")
    labels = (image[0, 0] // 20000).astype(np.uint16)
    set_attributes(root / "labels", {"labels": ["nuclei"]}, 3)
    label_attributes = {**multiscales("yx"), "image-label": {}}
    make(root / "labels" / "nuclei", labels, "yx", attributes=label_attributes)
    np.testing.assert_array_equal(read_image(root).read(), image[0, 0])
    for folder in (root, root / "labels", root / "labels" / "nuclei"):
        np.testing.assert_array_equal(read_labels(folder), labels)
    with pytest.raises(ImageError, match="a group of label images, not an image: give the folder above it"):
        read_image(root / "labels")
    set_attributes(root / "labels", {"labels": ["nuclei", "cells"]}, 3)
    with pytest.raises(ImageError, match=r"it holds 2 label images \(nuclei, cells\): give the folder of one"):
        read_labels(root)
    set_attributes(root / "labels", {"labels": []}, 3)
    with pytest.raises(ImageError, match="the group labels lists no label images"):
        read_labels(root)


def test_label_images_of_this_program_have_all_chunks(tmp_path: Path) -> None:
    labels = np.zeros((1100, 1100), np.uint16)
    labels[10:20, 10:20] = 1
    write_labels(tmp_path / "x_labels.ome.zarr", labels)
    chunk = tmp_path / "x_labels.ome.zarr" / "labels" / "cells" / "0" / "c" / "1" / "1"
    chunk.unlink()
    with pytest.raises(ImageError, match="c/1/1 is missing, of 4") as caught:
        read_labels(tmp_path / "x_labels.ome.zarr")
    assert caught.value.reason == "truncated"
    # Other programs may leave the chunk out.
    root = make(tmp_path / "other.zarr", labels, "yx", chunks=(1024, 1024), config={"write_empty_chunks": False})
    assert not (root / "0" / "c" / "1" / "1").exists()
    np.testing.assert_array_equal(read_labels(root, allow_binary=True), labels)


def label_image(*shape: int) -> Array:
    return np.random.default_rng(1).integers(0, 900, shape, dtype=np.uint16)


@pytest.mark.parametrize(("shape", "axes"), [((70, 1100), "YX"), ((3, 40, 50), "ZYX"), ((2, 3, 40, 50), "TZYX")])
def test_label_images_come_back(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    labels = label_image(*shape)
    path = tmp_path / "x_labels.ome.zarr"
    write_labels(path, labels, axes=axes, pixel_size_um={"Y": 0.25, "X": 0.5})
    assert label_hash(read_labels(path)) == label_hash(labels)
    # Opened as an image, the folder has the same pixels.
    found = read_image(path)
    assert found.axes == axes
    assert found.pixel_size_um == {"Y": 0.25, "X": 0.5}
    assert not [p for p in tmp_path.iterdir() if p != path]


def test_what_viewers_look_for(tmp_path: Path) -> None:
    labels = label_image(70, 1100)
    path = tmp_path / "x_labels.ome.zarr"
    write_labels(path, labels, pixel_size_um={"Y": 0.25, "X": 0.5}, name="nuclei")
    root = zarr.open_group(path, mode="r")
    assert root["labels"].attrs["ome"] == {"version": "0.5", "labels": ["nuclei"]}
    attributes = root["labels/nuclei"].attrs["ome"]
    assert attributes["version"] == "0.5"
    assert attributes["image-label"] == {"source": {"image": "../../"}}
    (entry,) = attributes["multiscales"]
    assert [axis["unit"] for axis in entry["axes"]] == ["micrometer"] * 2
    assert [dataset["path"] for dataset in entry["datasets"]] == ["0", "1", "2", "3"]
    for level, dataset in enumerate(entry["datasets"]):
        step = 2**level
        # Labels are never averaged.
        np.testing.assert_array_equal(root[f"labels/nuclei/{level}"][...], labels[::step, ::step])
        (scale,) = dataset["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [0.25 * step, 0.5 * step]}
    (shown,) = root.attrs["ome"]["multiscales"]
    assert [dataset["path"] for dataset in shown["datasets"]] == [f"labels/nuclei/{level}" for level in range(4)]


def test_equal_label_images_are_equal_folders(tmp_path: Path) -> None:
    # Also where chunks are empty, which are written all the same.
    labels = label_image(1200, 1300)
    labels[:, 1024:] = 0
    for name in ("a", "b"):
        write_labels(tmp_path / f"{name}.ome.zarr", labels)
    assert sha256_path(tmp_path / "a.ome.zarr") == sha256_path(tmp_path / "b.ome.zarr")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.ome.zarr"), labels)
    # A folder that is there is replaced, whole.
    write_labels(tmp_path / "a.ome.zarr", labels[:20, :20])
    assert read_labels(tmp_path / "a.ome.zarr").shape == (20, 20)
