"""OME-Zarr folders of the tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

__all__ = ["CODECS", "chunk_of", "grey_values", "make", "multiscales", "set_attributes"]

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


def grey_values() -> Array:
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
