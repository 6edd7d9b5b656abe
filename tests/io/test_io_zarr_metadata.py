"""OME-Zarr folders that claim what is not so, or hold what is not read."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr_folders import CODECS, chunk_of, grey_values, make, multiscales, set_attributes

from unetbio.errors import ImageError
from unetbio.io import read_image
from unetbio.io.formats.zarr.chunks import ChunkFiles

Array = NDArray[Any]


@pytest.fixture
def image() -> Array:
    return grey_values()


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
