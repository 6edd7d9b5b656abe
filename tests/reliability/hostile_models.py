"""Model files that try to run code, to take memory or to write: each must be refused."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["write_hostile_models"]

_PICKLE = b"cos\nsystem\n(S'touch hacked; curl http://127.0.0.1:9/'\ntR."


def write_hostile_models(folder: Path, model: Path) -> list[Path]:
    """Write a hostile file of each kind, made from a good model."""
    folder.mkdir()
    for name, content in _contents(model):
        (folder / name).write_bytes(content)
    (folder / "zero.safetensors").symlink_to("/dev/zero")
    (folder / "loop.safetensors").symlink_to("loop.safetensors")
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "folder.safetensors").mkdir()
    return sorted(folder.iterdir())


def _contents(model: Path) -> Iterator[tuple[str, bytes]]:
    yield "pickle.safetensors", _PICKLE
    yield "pickle4.pt", b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x0ctouch hacked\x94\x85\x94R\x94."
    yield "torch.pt", _archive({"archive/data.pkl": _PICKLE, "archive/version": b"3\n"})
    yield "traversal.safetensors", _archive({"../../hacked": b"x"})
    yield "joblib.pkl", b"\x80\x04" + _PICKLE
    yield (
        "numpy.npz",
        _archive(
            {"a.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n" + _PICKLE}
        ),
    )
    yield "script.safetensors", b"#!/bin/sh\ntouch hacked\n"
    yield "yaml.safetensors", b"!!python/object/apply:os.system ['touch hacked']\n"
    yield "pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    yield "page.safetensors", b"<html><meta http-equiv=refresh content='0;url=http://127.0.0.1:9/m'>"
    yield "onnx.onnx", b"\x08\x08\x12\x04evil:\x10\x0a\x0eexternal_data/."
    yield "empty.safetensors", b""
    yield "length.safetensors", struct.pack("<Q", 1 << 62) + b"{}"
    yield "short.safetensors", struct.pack("<Q", 1 << 20) + b"{}"
    yield "deep.safetensors", _packed(b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", b"")
    header, tensors = _split(model)
    yield "cut.safetensors", _packed(json.dumps(header).encode(), tensors[: len(tensors) // 2])
    name = next(key for key in header if key != "__metadata__")
    for kind, change in {
        "overlap": {"data_offsets": [0, 1 << 40]},
        "negative": {"shape": [-1, 2]},
        "type": {"dtype": "OBJECT"},
        "huge": {"shape": [1 << 31, 1 << 31]},
    }.items():
        yield f"{kind}.safetensors", _packed(json.dumps({**header, name: {**header[name], **change}}).encode(), tensors)
    yield "nan.safetensors", _packed(json.dumps(header).encode(), b"\xff" * len(tensors))
    for kind, change in _DESCRIPTIONS.items():
        metadata = {**header["__metadata__"], "unetbio": _described(header, change)}
        yield f"said_{kind}.safetensors", _packed(json.dumps({**header, "__metadata__": metadata}).encode(), tensors)


_DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "module": {"architecture": "os.system"},
    "path": {"architecture": "../../../tmp/evil"},
    "dunder": {"architecture": "__import__('os').system('touch hacked')"},
    "channels": {"parameters": {"base_channels": 10**9}},
    "depth": {"parameters": {"depth": 10**6}},
    "code": {"parameters": {"base_channels": "__import__('os').system('touch hacked')"}},
    "diameter": {"cell_diameter_px": -1.0},
    "tiny": {"cell_diameter_px": 1e-9},
    "many": {"channels": ["c"] * 100_000},
    "unknown": {"run_at_load": "touch hacked"},
    "thresholds": {"postprocessing": {"mask_threshold": 1e999}},
}
"""Descriptions that no model has."""


def _described(header: dict[str, Any], change: dict[str, Any]) -> str:
    said = json.loads(header["__metadata__"]["unetbio"])
    for key, value in change.items():
        said[key] = {**said[key], **value} if isinstance(value, dict) and isinstance(said.get(key), dict) else value
    return json.dumps(said)


def _archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _split(model: Path) -> tuple[dict[str, Any], bytes]:
    content = model.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def _packed(header: bytes, tensors: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + tensors
