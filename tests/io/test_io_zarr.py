"""OME-Zarr folders: what is in them, what they claim, and what is missing."""

import itertools
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unetbio.errors import ImageError, UsageError
from unetbio.files import sha256_path
from unetbio.io import read_image, read_labels, write_labels
from unetbio.io.discover import find_inputs
from unetbio.io.formats.zarr.chunks import ChunkFiles
from unetbio.io.image import NotStored
from unetbio.io.mask_names import stem
from unetbio.io.pairing.pairs import pair
from unetbio.labels import label_hash

zarr = pytest.importorskip("zarr")

Array = NDArray[Any]


def multiscales(axes: str, count: int = 1, units: bool = True, scale: float = 0.5, **more: Any) -> dict[str, Any]:
    types = {"t": "time", "c": "channel"}
    listed: list[dict[str, str]] = [{"name": axis, "type": types.get(axis, "space")} for axis in axes]
    for axis in listed:
        if units and axis["type"] == "space":
            axis["unit"] = "micrometer"
    factors = [scale if axis in "zyx" else 1.0 for axis in axes]
    transformations = [{"type": "scale", "scale": factors}]
    datasets = [{"path": str(level), "coordinateTransformations": transformations} for level in range(count)]
    return {"multiscales": [{"version": "0.4", "axes": listed, "datasets": datasets, **more}]}


def set_attributes(folder: Path, attributes: dict[str, Any], version: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == 3:
        content = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": "0.5", **attributes}}}
        (folder / "zarr.json").write_text(json.dumps(content))
    else:
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps(attributes))


def make(
    folder: Path, image: Array, axes: str, *, version: int = 3, attributes: dict[str, Any] | None = None, **options: Any
) -> Path:
    options = {"chunks": tuple(min(n, 16) for n in image.shape), "config": {"write_empty_chunks": True}, **options}
    set_attributes(folder, attributes or multiscales(axes), version)
    array = zarr.create_array(folder / "0", shape=image.shape, dtype=image.dtype, zarr_format=version, **options)
    array[...] = image
    return folder


@pytest.fixture
def image() -> Array:
    """``(2, 3, 40, 50)`` uint16: channels, sections, rows, columns."""
    return np.random.default_rng(0).integers(0, 60000, (2, 3, 40, 50), dtype=np.uint16)


def chunk_of(folder: Path) -> Path:
    """The last chunk of the array."""
    return sorted(p for p in (folder / "0").rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr")))[-1]


CODECS = {
    "zstd": {},
    "none": {"compressors": None},
    "gzip": {"compressors": zarr.codecs.GzipCodec()},
    "blosc": {"compressors": zarr.codecs.BloscCodec(typesize=2)},
    "checksum": {"compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]},
    "shards": {"shards": (2, 3, 32, 64), "chunks": (1, 1, 16, 16)},
    "large chunks": {"chunks": (2, 3, 40, 50)},
    "dots": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
}


@pytest.mark.parametrize("codec", CODECS)
def test_pixels_of_version_3(tmp_path: Path, image: Array, codec: str) -> None:
    found = read_image(make(tmp_path / "x.ome.zarr", image, "czyx", **CODECS[codec]))
    assert (found.axes, found.shape, found.dtype, found.format) == ("CZYX", image.shape, np.dtype(np.uint16), "zarr")
    np.testing.assert_array_equal(found.read(), image)
    np.testing.assert_array_equal(found.read(c=1, z=2, y=slice(7, 30), x=slice(20, 50)), image[1, 2, 7:30, 20:50])
    np.testing.assert_array_equal(found.pixels.read(0, 1, [1, 0], slice(0, 4), slice(3, 9)), image[::-1, 1, :4, 3:9])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compressors": None},
        {"order": "F"},
        {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
        *({"compressors": {"id": name}} for name in ("gzip", "blosc", "lz4", "zlib", "bz2", "lzma")),
    ],
)
def test_pixels_of_version_2(tmp_path: Path, image: Array, options: dict[str, Any]) -> None:
    if isinstance(options.get("compressors"), dict):
        numcodecs = pytest.importorskip("numcodecs")
        options = {"compressors": numcodecs.get_codec(options["compressors"])}
    found = read_image(make(tmp_path / "x.zarr", image.astype(">u2"), "czyx", version=2, **options))
    assert found.dtype == np.dtype(np.uint16)
    np.testing.assert_array_equal(found.read(), image)


def test_axes_of_any_order_and_of_length_one(tmp_path: Path, image: Array) -> None:
    stored = image.transpose(3, 1, 2, 0)[:, :, :, :1]
    found = read_image(make(tmp_path / "x.zarr", stored, "xzyc"))
    assert found.axes == "ZYX"
    np.testing.assert_array_equal(found.read(), image[0])


def test_pixel_size_names_and_channels(tmp_path: Path, image: Array) -> None:
    attributes = multiscales("czyx", scale=0.25, name="field", coordinateTransformations=[])
    entry = attributes["multiscales"][0]
    entry["axes"][1]["unit"] = "nanometer"
    # A factor for all sizes stands beside the list of them.
    entry["coordinateTransformations"] = [{"type": "scale", "scale": [1, 1000, 2, 2]}, {"type": "translation"}]
    attributes["omero"] = {"channels": [{"label": "DAPI"}, {"color": "FF0000"}]}
    found = read_image(make(tmp_path / "x.zarr", image, "czyx", attributes=attributes))
    assert found.pixel_size_um == {"Z": 0.25, "Y": 0.5, "X": 0.5}
    assert (found.pixel_size_trusted, found.channel_names, found.name) == (True, ("DAPI", ""), "field")
    without = read_image(make(tmp_path / "y.zarr", image, "czyx", attributes=multiscales("czyx", units=False)))
    assert (without.pixel_size_um, without.pixel_size_trusted, without.channel_names) == ({}, False, ("", ""))


def test_axes_of_old_versions_and_of_people(tmp_path: Path, image: Array) -> None:
    names = {"multiscales": [{"version": "0.3", "axes": ["c", "z", "y", "x"], "datasets": [{"path": "0"}]}]}
    np.testing.assert_array_equal(read_image(make(tmp_path / "a.zarr", image, "", attributes=names)).read(), image)
    none = {"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]}
    found = read_image(make(tmp_path / "b.zarr", image[None], "", attributes=none, version=2))
    assert found.axes == "CZYX"
    assert read_image(tmp_path / "a.zarr", axes="zcyx").shape == (3, 2, 40, 50)
    # The time, of length one, need not be named.
    assert read_image(tmp_path / "b.zarr", axes="ZCYX").shape == (3, 2, 40, 50)
    make(tmp_path / "c.zarr", image, "", attributes=none)
    with pytest.raises(ImageError, match="0 axes are named for an array of 2 x 3 x 40 x 50: say --axes"):
        read_image(tmp_path / "c.zarr")


def test_collections_are_series(tmp_path: Path, image: Array) -> None:
    root = tmp_path / "x.zarr"
    set_attributes(root, {"bioformats2raw.layout": 3}, 2)
    make(root / "0", image[0], "zyx", version=2)
    make(root / "1", image[1, 0], "yx", version=2)
    found = read_image(root, series=1)
    assert (found.series, found.series_count, found.name) == (1, 2, "1")
    np.testing.assert_array_equal(found.read(), image[1, 0])
    # The order that the group OME lists.
    set_attributes(root / "OME", {"series": ["1", "0"]}, 2)
    np.testing.assert_array_equal(read_image(root).read(), image[1, 0])
    with pytest.raises(ImageError, match="no series 2: it holds 2 images, counted from 0"):
        read_image(root, series=2)


def test_fields_of_a_plate_are_series(tmp_path: Path, image: Array) -> None:
    root = tmp_path / "plate.zarr"
    set_attributes(root, {"plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}}, 3)
    for well in ("A/1", "B/2"):
        set_attributes(root / well, {"well": {"images": [{"path": "0"}]}}, 3)
        make(root / well / "0", image[0, 0] + (well == "B/2"), "yx")
    found = read_image(root, series=1)
    assert (found.name, found.series_count) == ("B/2/0", 2)
    np.testing.assert_array_equal(found.read(), image[0, 0] + 1)
    np.testing.assert_array_equal(read_image(root / "B" / "2").read(), image[0, 0] + 1)
    np.testing.assert_array_equal(read_image(root / "B" / "2" / "0").read(), image[0, 0] + 1)


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


def test_label_images_of_this_program_have_all_chunks(tmp_path: Path) -> None:
    labels = np.zeros((1100, 1100), np.uint16)
    labels[10:20, 10:20] = 1
    write_labels(tmp_path / "x_labels.ome.zarr", labels)
    chunk = tmp_path / "x_labels.ome.zarr" / "labels" / "cells" / "0" / "c" / "1" / "1"
    chunk.unlink()
    with pytest.raises(ImageError, match="c/1/1 is missing, of 4") as caught:
        read_labels(tmp_path / "x_labels.ome.zarr")
    assert caught.value.reason == "truncated"
    # Somebody else's may leave it out.
    root = make(tmp_path / "other.zarr", labels, "yx", chunks=(1024, 1024), config={"write_empty_chunks": False})
    assert not (root / "0" / "c" / "1" / "1").exists()
    np.testing.assert_array_equal(read_labels(root, allow_binary=True), labels)


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


@pytest.mark.parametrize("shape", [(6400, 6400), (10**6, 10**6), (10**15, 10**15)])
def test_an_array_that_claims_to_be_larger(tmp_path: Path, image: Array, shape: tuple[int, int]) -> None:
    for version, name in ((3, "zarr.json"), (2, ".zarray")):
        root = make(tmp_path / f"v{version}.zarr", image[0, 0], "yx", version=version, chunks=(40, 50))
        metadata = json.loads((root / "0" / name).read_text())
        metadata["shape"] = shape
        (root / "0" / name).write_text(json.dumps(metadata))
        with pytest.raises(ImageError, match="is missing"):
            read_image(root)


@pytest.mark.parametrize("name", ["zstd", "none", "gzip", "blosc", "checksum", "shards"])
@pytest.mark.parametrize("side", [200, 6400, 40000, 10**9])
def test_chunks_that_claim_to_be_larger(tmp_path: Path, image: Array, name: str, side: int) -> None:
    options = {**CODECS[name], "chunks": (40, 50)}
    if name == "shards":
        options["shards"] = (40, 50)
    root = make(tmp_path / "x.zarr", image[0, 0], "yx", **options)
    path = root / "0" / "zarr.json"
    text = path.read_text()
    metadata = json.loads(text.replace("40", str(side)).replace("50", str(side)))
    path.write_text(json.dumps(metadata))
    with pytest.raises(ImageError) as caught:
        read_image(root).read()
    assert caught.value.reason in ("truncated", "too_large", "unreadable")


def test_consolidated_metadata_are_not_believed(tmp_path: Path, image: Array) -> None:
    root = make(tmp_path / "x.zarr", image[0, 0], "yx", version=2)
    metadata = json.loads((root / "0" / ".zarray").read_text())
    metadata["shape"] = [6400, 6400]
    lie = {"zarr_consolidated_format": 1, "metadata": {"0/.zarray": metadata}}
    (root / ".zmetadata").write_text(json.dumps(lie))
    with pytest.raises(ImageError, match=r"consolidated metadata say shape \[6400, 6400\], 0/.zarray \["):
        read_image(root)


def broken(path: str, content: Any) -> Any:
    def change(root: Path) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        (root / path).write_text(text)

    return change


def changed(change: Any) -> Any:
    def apply(root: Path) -> None:
        metadata = json.loads((root / "zarr.json").read_text())
        change(metadata["attributes"]["ome"])
        (root / "zarr.json").write_text(json.dumps(metadata))

    return apply


def in_image(**values: Any) -> Any:
    return changed(lambda ome: ome["multiscales"][0].update(values))


def axis(**values: Any) -> Any:
    return changed(lambda ome: ome["multiscales"][0]["axes"][0].update(values))


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        (broken("zarr.json", "{"), "unreadable", "zarr.json is not JSON"),
        (broken("zarr.json", "[" * 100000), "unreadable", "zarr.json is not JSON"),
        (broken("zarr.json", "[]"), "unreadable", "zarr.json is no JSON object"),
        (broken("zarr.json", {"attributes": []}), "inconsistent", "the attributes of x.zarr are no JSON object"),
        (broken("zarr.json", {}), "unsupported_format", "a Zarr folder without an image"),
        (broken("zarr.json", {"node_type": "array"}), "unsupported_format", "does not say what its axes are"),
        (changed(lambda ome: ome.update(multiscales=[])), "inconsistent", "multiscales of x.zarr is empty"),
        (changed(lambda ome: ome.update(multiscales={})), "inconsistent", "multiscales is not a list of objects"),
        (changed(lambda ome: ome.update(multiscales=[3])), "inconsistent", "multiscales is not a list of objects"),
        (in_image(datasets=[]), "inconsistent", "an image without datasets"),
        (in_image(datasets=[{}]), "inconsistent", "the path 'None' is none below the folder"),
        (in_image(datasets=[{"path": "../0"}]), "inconsistent", r"the path '\.\./0' is none below the folder"),
        (in_image(datasets=[{"path": "/etc"}]), "inconsistent", "the path '/etc' is none below the folder"),
        (in_image(datasets=[{"path": "7"}]), "truncated", "7 is missing, which the metadata names"),
        (in_image(axes="yx"), "inconsistent", "axes are a list of 2 to 5"),
        (in_image(axes=[{"name": "y"}, {}]), "inconsistent", "an axis without a name"),
        (in_image(axes=[{"name": "z"}, {"name": "y"}, {"name": "x"}]), "inconsistent", "a scale of other length"),
        (axis(name="q"), "unknown_axes", "axes q, x: names of t, c, z, y, x"),
        (axis(name="x"), "unknown_axes", "axes x, x: names of t, c, z, y, x, each once"),
        (axis(type="channel"), "unknown_axes", "axis y is of type channel"),
        (
            in_image(coordinateTransformations=[{"type": "scale", "scale": ["a", 1]}]),
            "inconsistent",
            "a scale that is not of numbers",
        ),
        (broken("0/zarr.json", "{"), "unreadable", "the array 0 cannot be opened"),
        (lambda root: (root / "0" / "zarr.json").unlink(), "unreadable", "the array 0 cannot be opened"),
    ],
)
def test_broken_metadata(tmp_path: Path, image: Array, change: Any, reason: str, message: str) -> None:
    root = make(tmp_path / "x.zarr", image[0, 0], "yx")
    change(root)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(root)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_a_link_out_of_the_folder(tmp_path: Path, image: Array) -> None:
    make(tmp_path / "other.zarr", image[0, 0], "yx")
    root = make(tmp_path / "x.zarr", image[0, 0], "yx")
    shutil.rmtree(root / "0")
    (root / "0").symlink_to(tmp_path / "other.zarr" / "0")
    with pytest.raises(ImageError, match="0 is a pipe, a device or a link to a folder elsewhere"):
        read_image(root)


def test_the_first_array_is_the_largest(tmp_path: Path, image: Array) -> None:
    root = make(tmp_path / "x.zarr", image[0, 0, ::2, ::2], "yx", attributes=multiscales("yx", 2))
    zarr.create_array(root / "1", data=image[0, 0], chunks=(16, 16))
    with pytest.raises(ImageError, match=r"has the shape \(20, 25\), the next \(40, 50\)"):
        read_image(root)


@pytest.mark.parametrize("kind", ["complex64", "datetime64[s]", "U4"])
def test_pixels_that_are_no_grey_values(tmp_path: Path, kind: str) -> None:
    set_attributes(tmp_path / "x.zarr", multiscales("yx"), 2)
    zarr.create_array(tmp_path / "x.zarr" / "0", shape=(4, 5), dtype=kind, chunks=(4, 5), zarr_format=2)
    with pytest.raises(ImageError, match="grey values are needed") as caught:
        read_image(tmp_path / "x.zarr")
    assert caught.value.reason == "unsupported_type"


def test_a_smaller_array_of_objects_is_not_unpacked(tmp_path: Path) -> None:
    root = make(tmp_path / "x.zarr", np.ones((64, 64), np.uint16), "yx", version=2, attributes=multiscales("yx", 2))
    zarr.create_array(root / "1", shape=(32, 32), dtype="u2", chunks=(32, 32), zarr_format=2)
    metadata = json.loads((root / "1" / ".zarray").read_text())
    metadata |= {"dtype": "|O", "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "fill_value": ""}
    (root / "1" / ".zarray").write_text(json.dumps(metadata))
    (root / "1" / "0.0").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    chunk_of(root).unlink()
    with pytest.raises(ImageError, match=r"pixels of type .*: grey values are needed"):
        read_image(root)


PICKLED: list[dict[str, Any]] = [
    {"zarr_format": 2, "filters": [{"id": "pickle"}]},
    {"zarr_format": 2, "filters": None, "compressor": {"id": "pickle"}},
    {"zarr_format": 3, "codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]},
]


@pytest.mark.parametrize("metadata", PICKLED)
def test_chunks_that_can_hold_code_are_refused(tmp_path: Path, metadata: dict[str, Any]) -> None:
    """With old versions of zarr and numcodecs such an array opens, and its chunks run."""
    described = SimpleNamespace(fill_value=0, encode_chunk_key=str, to_dict=lambda: metadata)
    array = SimpleNamespace(
        shape=(4, 4), chunks=(4, 4), shards=None, dtype=np.dtype("u2"), fill_value=0, attrs={}, metadata=described
    )
    with pytest.raises(ImageError, match="packed with pickle, which can hold code") as caught:
        ChunkFiles(tmp_path, "0", array)
    assert caught.value.reason == "unsupported_type"


def test_an_empty_array(tmp_path: Path) -> None:
    root = make(tmp_path / "x.zarr", np.zeros((0, 4), np.uint8), "yx", chunks=(1, 4))
    with pytest.raises(ImageError, match=r"an array of shape \(0, 4\)"):
        read_image(root)


def test_without_the_package(tmp_path: Path, image: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "x.zarr", image[0, 0], "yx")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImageError, match=r'pip install "unetbio\[formats\]"'):
        read_image(root)
    with pytest.raises(UsageError, match=r'pip install "unetbio\[formats\]"'):
        write_labels(tmp_path / "y_labels.ome.zarr", np.zeros((4, 4), np.uint16))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="a folder, not an image"):
        read_image(tmp_path)


def test_folders_are_found_as_one_image(tmp_path: Path, image: Array) -> None:
    for name in ("b/x.ome.zarr", "a.zarr", "plain", "x_labels.ome.zarr"):
        make(tmp_path / name, image[0, 0], "yx")
    set_attributes(tmp_path / "c.zarr", {"bioformats2raw.layout": 3}, 2)
    found = [item.relative.as_posix() for item in find_inputs([tmp_path])]
    assert found == ["a.zarr", "b/x.ome.zarr", "c.zarr", "plain"]
    assert [item.path for item in find_inputs([tmp_path / "plain"])] == [tmp_path / "plain"]
    patterns = [item.path.name for item in find_inputs([f"{tmp_path}/**/*"])]
    assert patterns == ["a.zarr", "x.ome.zarr", "c.zarr", "plain"]
    assert (stem("d/x.ome.zarr"), stem("x.zarr")) == ("x", "x")


def test_pairs_of_folders(tmp_path: Path, image: Array) -> None:
    for name in ("images/x.ome.zarr", "masks/x_labels.ome.zarr"):
        make(tmp_path / name, image[0, 0], "yx")
    assert pair(tmp_path / "images", tmp_path / "masks").pairs == (
        (tmp_path / "images" / "x.ome.zarr", tmp_path / "masks" / "x_labels.ome.zarr"),
    )


def label_image(*shape: int) -> Array:
    return np.random.default_rng(1).integers(0, 900, shape, dtype=np.uint16)


@pytest.mark.parametrize(("shape", "axes"), [((70, 1100), "YX"), ((3, 40, 50), "ZYX"), ((2, 3, 40, 50), "TZYX")])
def test_label_images_come_back(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    labels = label_image(*shape)
    path = tmp_path / "x_labels.ome.zarr"
    write_labels(path, labels, axes=axes, pixel_size_um={"Y": 0.25, "X": 0.5})
    assert label_hash(read_labels(path)) == label_hash(labels)
    # Whoever opens the folder as an image sees the same pixels.
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


def test_real_folders(shared_data: Path) -> None:
    stack = read_image(shared_data / "formats" / "nuclei_1135_v0.5.ome.zarr")
    assert (stack.axes, stack.shape, stack.dtype) == ("ZYX", (100, 100, 100), np.dtype(np.uint8))
    assert stack.pixel_size_um == {}
    labels = read_labels(shared_data / "formats" / "nuclei_1135_v0.5.ome.zarr")
    pixels = stack.read()
    assert labels.max() == 54
    assert pixels[labels > 0].mean() > 2 * pixels[labels == 0].mean()
    channels = read_image(shared_data / "formats" / "czyx_int8_v0.4.ome.zarr")
    assert (channels.axes, channels.shape, channels.dtype) == ("CZYX", (3, 5, 167, 439), np.dtype(np.int8))
    assert channels.read(c=1, z=4).std() > 1
