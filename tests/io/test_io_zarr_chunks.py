"""Chunks of OME-Zarr folders that are missing, left out, or cut."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr_folders import CODECS, chunk_of, grey_values, make, multiscales, set_attributes

from unetbio.errors import ImageError
from unetbio.io import read_image
from unetbio.io.image import NotStored

Array = NDArray[Any]


@pytest.fixture
def image() -> Array:
    return grey_values()


@pytest.mark.parametrize("name", ["zstd", "none", "gzip", "blosc", "checksum", "dots", "shards"])
def test_a_missing_chunk_is_the_fill_value_and_counted(tmp_path: Path, image: Array, name: str) -> None:
    # Its neighbours are no fill value, but nothing shows that the chunk held something else.
    image[1, 2, 16:32, 16:32] = 0
    options = {**CODECS[name], "chunks": (1, 1, 16, 16), "config": {"write_empty_chunks": False}}
    root = make(tmp_path / "x.zarr", image, "czyx", **options)
    found = read_image(root)
    assert found.not_stored == NotStored(1, 72, "0")
    np.testing.assert_array_equal(found.read(), image)


def with_smaller(root: Path, image: Array, chunk: tuple[int, ...]) -> Path:
    """Add a resolution of half the size, as means of 2 x 2 pixels, and take a chunk of the full one away."""
    small = image.reshape(image.shape[0], image.shape[1], 20, 2, 25, 2).mean((3, 5)).astype(np.uint16)
    array = zarr.create_array(root / "1", shape=small.shape, dtype=small.dtype, chunks=(1, 1, 16, 16))
    array[...] = small
    set_attributes(root, multiscales("czyx", count=2), 3)
    chunk_path = root.joinpath("0", "c", *map(str, chunk))
    chunk_path.unlink(missing_ok=True)
    return root


def test_a_smaller_resolution_shows_that_a_chunk_is_lost(tmp_path: Path, image: Array) -> None:
    options = {"chunks": (1, 1, 16, 16), "config": {"write_empty_chunks": False}}
    root = with_smaller(make(tmp_path / "x.zarr", image, "czyx", **options), image, (1, 2, 1, 1))
    with pytest.raises(ImageError, match=r"chunk 0/c/1/2/1/1 is missing, of 72 .* the smaller resolution") as caught:
        read_image(root)
    assert caught.value.reason == "truncated"
    # One that goes while the image is open is missed as well.
    opened = read_image(with_smaller(make(tmp_path / "y.zarr", image, "czyx", **options), image, ("9",)))
    (tmp_path / "y.zarr" / "0" / "c" / "1" / "2" / "1" / "1").unlink()
    with pytest.raises(ImageError, match="the smaller resolution of the image shows pixels there"):
        opened.read()


def test_a_smaller_resolution_agrees_with_a_chunk_that_was_left_out(tmp_path: Path, image: Array) -> None:
    image[1, 2, 16:32, 16:32] = 0
    options = {"chunks": (1, 1, 16, 16), "config": {"write_empty_chunks": False}}
    root = with_smaller(make(tmp_path / "x.zarr", image, "czyx", **options), image, (1, 2, 1, 1))
    np.testing.assert_array_equal(read_image(root).read(), image)


SPARSE = {name: options for name, options in CODECS.items() if name != "large chunks"}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("fill", [0, 7])
@pytest.mark.parametrize("name", SPARSE)
def test_chunks_of_the_fill_value_may_be_left_out(
    tmp_path: Path, image: Array, name: str, fill: int, version: int
) -> None:
    options = SPARSE[name] if version == 3 else {}
    sparse = np.full_like(image, fill)
    # In the middle of a chunk, and over the border of two.
    sparse[0, 1, 20:28, 3:12] = image[0, 1, 20:28, 3:12]
    sparse[1, :, 4:9, 14:19] = image[1, :, 4:9, 14:19]
    options = {**options, "version": version, "fill_value": fill, "config": {"write_empty_chunks": False}}
    root = make(tmp_path / "x.zarr", sparse, "czyx", **options)
    full = make(tmp_path / "full.zarr", sparse, "czyx", **{**options, "config": {"write_empty_chunks": True}})
    assert sum(p.stat().st_size for p in root.rglob("*")) < sum(p.stat().st_size for p in full.rglob("*"))
    found = read_image(root)
    np.testing.assert_array_equal(found.read(), sparse)
    np.testing.assert_array_equal(found.read(c=0, z=2), sparse[0, 2])
    # Counted one by one, as they are in shards too.
    sizes = [(1, 1, 16, 16) if name == "shards" and version == 3 else (2, 3, 16, 16)] * 2
    starts = list(itertools.product(*(range(0, n, step) for n, step in zip(sparse.shape, sizes[0], strict=True))))
    empty = 0
    for start in starts:
        box = tuple(slice(first, first + step) for first, step in zip(start, sizes[0], strict=True))
        empty += bool((sparse[box] == fill).all())
    assert empty
    assert found.not_stored == NotStored(empty, len(starts), str(fill))
    assert read_image(full).not_stored is None


def test_chunks_of_nan_may_be_left_out(tmp_path: Path) -> None:
    image = np.full((40, 50), np.nan, np.float32)
    image[4:9, 4:9] = 1
    options = {"fill_value": np.nan, "config": {"write_empty_chunks": False}}
    np.testing.assert_array_equal(read_image(make(tmp_path / "x.zarr", image, "yx", **options)).read(), image)


@pytest.mark.parametrize("chunks", [(8, 8), (2, 2)])
def test_an_array_with_hardly_any_chunk_is_refused(tmp_path: Path, chunks: tuple[int, int]) -> None:
    image = np.zeros((80, 80), np.uint16)
    options = {"chunks": chunks, "config": {"write_empty_chunks": False}}
    with pytest.raises(ImageError, match="is missing"):
        read_image(make(tmp_path / "none.zarr", image, "yx", **options))
    image[1, 1] = 5
    root = make(tmp_path / "one.zarr", image, "yx", **options)
    if chunks == (8, 8):
        np.testing.assert_array_equal(read_image(root).read(), image)
    else:
        with pytest.raises(ImageError, match="is missing, of 1600"):
            read_image(root)


def test_an_array_without_a_fill_value_needs_all_chunks(tmp_path: Path) -> None:
    image = np.zeros((40, 50), np.uint16)
    image[4:9, 4:9] = 1
    root = make(tmp_path / "x.zarr", image, "yx", version=2, config={"write_empty_chunks": False})
    metadata = json.loads((root / "0" / ".zarray").read_text())
    (root / "0" / ".zarray").write_text(json.dumps({**metadata, "fill_value": None}))
    with pytest.raises(ImageError, match="is missing"):
        read_image(root)


@pytest.mark.parametrize("name", ["zstd", "none", "gzip", "blosc", "checksum", "shards", "large chunks"])
@pytest.mark.parametrize("keep", [0, 3, 0.5])
def test_a_chunk_that_was_cut(tmp_path: Path, image: Array, name: str, keep: float) -> None:
    root = make(tmp_path / "x.zarr", image, "czyx", **CODECS[name])
    chunk = chunk_of(root)
    content = chunk.read_bytes()
    chunk.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(ImageError) as caught:
        read_image(root).read()
    assert caught.value.reason in ("truncated", "unreadable")
