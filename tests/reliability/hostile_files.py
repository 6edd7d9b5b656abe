"""Awkward files: names, kinds of files and broken contents, with a manifest of what each must give."""

import gzip
import json
import os
import random
import socket
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from mutants import change, images

from unetbio.files import utf8_text

GOOD, REFUSED, EITHER, UNSEEN = "good", "refused", "either", "unseen"
"""Done with the label hash of the clean image; a failed row with a reason; one of both; no image at all."""

NAMES = [
    "=cmd|' C calc'!A0",
    "+1",
    "-rf",
    "--help",
    "@SUM(A1)",
    "$(touch hacked)",
    "`touch hacked`",
    "; touch hacked;",
    "&& touch hacked",
    "| touch hacked",
    "a b",
    " lead",
    "quote'quote",
    'quote"quote',
    "<script>alert(1)<script>",
    "&amp;<b>",
    "{{7*7}}",
    "{% raw %}",
    "{wildcard}",
    "%s%n",
    "new\nline",
    "carriage\rreturn",
    "tab\ttab",
    "bell\x07",
    "red\x1b[31m",
    "right\u202eleft",
    "zero\u200bwidth",
    "snow\u2603",
    "\U0001f9ec",
    "e\u0301",
    "\u00e9",
    "no\udcffutf8",
    "comma,comma",
    "semi;colon",
    "star*",
    "question?",
    "[a-z]",
    "~",
    "#hash",
    "back\\slash",
    "x" * 200,
    "CON",
    "nul",
    "...",
    "a.b.c",
    "sub_labels_x",
    "null",
    "NaN",
    "1e5",
    "${HOME}",
]
"""Stems of good images."""


@dataclass(frozen=True)
class Expected:
    """A line of the manifest: a file below the folder, and what it must give."""

    path: Path
    outcome: str


def make(folder: Path, image: np.ndarray, count: int = 400, seed: int = 1) -> list[Expected]:
    """Write at least ``count`` awkward files, and return the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [*_named(folder / "names", image), *_kinds(folder / "kinds", image), *_contents(folder / "contents", image)]
    return [*found, *_mutants(folder / "mutants", max(0, count - len(found)), seed)]


def _named(folder: Path, image: np.ndarray) -> list[Expected]:
    folder.mkdir()
    found = []
    for name in NAMES:
        path = folder / f"{name}.tif"
        tifffile.imwrite(path, image, metadata=None)
        outcome = UNSEEN if name.startswith(".") else REFUSED if utf8_text(name) != name else GOOD
        found.append(Expected(path, outcome))
    return found


def _kinds(folder: Path, image: np.ndarray) -> list[Expected]:
    """Everything that can have a name and is no file of its own."""
    folder.mkdir()
    tifffile.imwrite(folder / "target.tif", image, metadata=None)
    # One file is segmented once, under the first of its names.
    found = [Expected(folder / "target.tif", UNSEEN)]

    def add(name: str, outcome: str) -> Path:
        found.append(Expected(folder / name, outcome))
        return folder / name

    # No room is left for the endings of its results.
    tifffile.imwrite(add("y" * 245 + ".tif", REFUSED), image, metadata=None)
    add("link.tif", GOOD).symlink_to("target.tif")
    add("dangling.tif", REFUSED).symlink_to("nothing.tif")
    add("circle_a.tif", REFUSED).symlink_to("circle_b.tif")
    add("circle_b.tif", REFUSED).symlink_to("circle_a.tif")
    add("itself.tif", REFUSED).symlink_to("itself.tif")
    add("zero.tif", REFUSED).symlink_to("/dev/zero")
    add("full.tif", REFUSED).symlink_to("/dev/full")
    add("tty.tif", REFUSED).symlink_to("/dev/tty")
    add("proc.tif", REFUSED).symlink_to("/proc/self/mem")
    os.mkfifo(add("pipe.tif", REFUSED))
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)
    server.bind("socket.tif")
    os.chdir(here)
    server.close()
    add("socket.tif", REFUSED)
    add("empty.tif", REFUSED).touch()
    with open(add("sparse.tif", REFUSED), "wb") as stream:
        stream.truncate(1 << 40)
    (folder / "folder.tif").mkdir()
    (folder / "loop").symlink_to(".")
    for name, target in (("zero", "/dev/zero"), ("root", "/"), ("pipe", None)):
        root = add(f"{name}_chunk.ome.zarr", REFUSED)
        (root / "0").mkdir(parents=True)
        (root / ".zattrs").write_text('{"multiscales": [{"datasets": [{"path": "0"}]}]}')
        if target:
            (root / "0" / "0.0").symlink_to(target)
        else:
            os.mkfifo(root / "0" / "0.0")
    return found


def _contents(folder: Path, image: np.ndarray) -> list[Expected]:
    """Contents that are no image, or one that claims too much."""
    folder.mkdir()
    found = []
    broken = {
        "text.tif": b"not an image\n",
        "lfs.tif": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "pickle.tif": b"cos\nsystem\n(S'touch hacked'\ntR.",
        "zip.tif": b"PK\x03\x04" + bytes(40),
        "header.tif": b"II*\0\x08\0\0\0",
        "loop.tif": b"II*\0\x08\0\0\0\x01\0\0\x01\x03\0\x01\0\0\0\x01\0\0\0\x08\0\0\0",
        "bigtiff.tif": b"II+\0\x08\0\0\0" + (1 << 62).to_bytes(8, "little"),
        "bomb.png": _png(1 << 30, 1 << 30),
        "large.nii": struct.pack("<i", 348) + bytes(36) + struct.pack("<8h", 7, *[32767] * 7) + bytes(288) + b"n+1\0",
        "gzip.nii.gz": gzip.compress(bytes(1 << 22))[:-9],
        "cut.jpg": b"\xff\xd8\xff\xe0",
    }
    for name, content in broken.items():
        (folder / name).write_bytes(content)
        found.append(Expected(folder / name, REFUSED))
    for dtype in ("complex64", "float16", "int8", "uint64"):
        tifffile.imwrite(folder / f"{dtype}.tif", image.astype(dtype), metadata=None)
        found.append(Expected(folder / f"{dtype}.tif", EITHER))
    for name, values in {
        "nan": np.full((32, 32), np.nan, np.float32),
        "inf": np.full((32, 32), np.inf, np.float32),
        "huge": np.full((32, 32), 3e38, np.float32),
        "one": np.ones((1, 1), np.uint8),
        "thin": np.ones((1, 5000), np.uint8),
        "planes": np.zeros((5, 32, 32), np.uint8),
    }.items():
        tifffile.imwrite(folder / f"{name}.tif", values, photometric="minisblack", metadata=None)
        found.append(Expected(folder / f"{name}.tif", EITHER))
    for part in range(1, 40):
        content = (folder / "float16.tif").read_bytes()
        (folder / f"cut_{part:02}.tif").write_bytes(content[: len(content) * part // 40])
        found.append(Expected(folder / f"cut_{part:02}.tif", REFUSED))
    return found


def _png(width: int, height: int) -> bytes:
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels, end = b"IDAT" + zlib.compress(bytes(100)), b"IEND"
    parts = (header, pixels, end)
    packed = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _mutants(folder: Path, count: int, seed: int) -> list[Expected]:
    """Changed copies of files of every format; each must be read or refused."""
    with tempfile.TemporaryDirectory() as temporary:
        sources = [(path.name, path.read_bytes()) for path in images(Path(temporary, "sources")) if path.is_file()]
    folder.mkdir()
    found = []
    for number in range(count):
        name, content = sources[number % len(sources)]
        path = folder / f"{number:04}_{name}"
        path.write_bytes(change(content, random.Random(f"awkward {seed} {number}")))
        found.append(Expected(path, EITHER))
    return found


def save(manifest: list[Expected], path: Path) -> None:
    """Write the manifest as JSON."""
    path.write_text(json.dumps([[os.fspath(line.path), line.outcome] for line in manifest], indent=1))


def load(path: Path) -> list[Expected]:
    """Read what `save` wrote."""
    return [Expected(Path(name), outcome) for name, outcome in json.loads(path.read_text())]
