"""Process that opens and reads images for another one, which replaces it when it dies: `unetbio.io.decoding`.

``python -m unetbio.io.decoder SOCKET MEMORY SECONDS`` answers requests, one JSON object a line. Pixels travel as a file
in memory, whose descriptor goes with the line.
"""

import dataclasses
import json
import os
import resource
import signal
import socket
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.image import Image
from unetbio.io.read import read_image

__all__ = ["main"]

OPENED = 2
"""Images that stay open: readers of some formats keep what they have decoded."""

APART = ("source", "pixels", "part", "stored_names")
"""Fields of an image that the other process sets."""

_Key = tuple[str, str | None, int, bool, int]
_FileState = tuple[int, int, int]


class _Images:
    def __init__(self) -> None:
        self._opened: OrderedDict[_Key, tuple[_FileState, Image]] = OrderedDict()

    def get(self, key: _Key) -> Image:
        path, axes, series, labels, level = key
        state = _state_of(path)
        known = self._opened.pop(key, None)
        if known is None or known[0] != state:
            # A file that was replaced, as masks are that are corrected, is opened again.
            known = state, read_image(path, axes=axes, series=series, labels=labels).at_level(level)
        self._opened[key] = known
        while len(self._opened) > OPENED:
            self._opened.popitem(last=False)
        return known[1]

    def forget(self, key: _Key) -> None:
        self._opened.pop(key, None)


def _state_of(path: str) -> _FileState:
    try:
        found = Path(path).stat()
    except OSError:
        return 0, 0, 0  # Opening it says why.
    return found.st_ino, found.st_size, found.st_mtime_ns


def main(arguments: list[str]) -> None:
    """Answer requests until the other process ends."""
    connection = socket.socket(fileno=int(arguments[0]))
    memory, seconds = int(arguments[1]), int(arguments[2])
    # Ctrl-C is for the process that asks, which ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _lower(resource.RLIMIT_AS, memory)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _watch(os.getppid())
    # Most images are TIFF: its libraries are imported while the other process imports PyTorch.
    import unetbio.io.formats.tiff.reader  # noqa: F401

    images = _Images()
    with connection.makefile("rb") as requests:
        for line in requests:
            _limit_processor(seconds)
            answer, pixels = _answer(images, json.loads(line))
            _send(connection, answer, pixels)


def _watch(parent: int) -> None:
    """End this process when the other one is gone, also while a codec runs."""

    def wait() -> None:
        while os.getppid() == parent:
            threading.Event().wait(1)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def _limit_processor(seconds: int) -> None:
    """Let the kernel end this process if a codec never does and the other process cannot."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(spent.ru_utime + spent.ru_stime) + (seconds + 10) * (os.cpu_count() or 1)
    _lower(resource.RLIMIT_CPU, soft)


def _lower(kind: int, limit: int) -> None:
    """Set a limit, below those that hold already."""
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _answer(images: _Images, request: dict[str, Any]) -> tuple[dict[str, Any], NDArray[Any] | None]:
    key: _Key = tuple(request[name] for name in ("path", "axes", "series", "labels", "level"))
    try:
        image = images.get(key)
        if request["ask"] == "pixels":
            t, z, channels, y, x = request["window"]
            window = image.pixels.read(t, z, channels, slice(*y), slice(*x))
            return {"shape": window.shape, "dtype": window.dtype.newbyteorder("=").str}, window
        if request["ask"] == "levels":
            return {"levels": image.levels[1:]}, None
        if request["ask"] == "not_stored":
            lost = image.not_stored
            return {"not_stored": lost and [lost.chunks, lost.total, lost.fill]}, None
        return {"image": _described(image)}, None
    except ImageError as error:
        return {"refused": [error.reason, str(error)], "cause": _described_cause(error.__cause__)}, None
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        return {"refused": ["unreadable", message], "cause": _described_cause(error)}, None
    except MemoryError:
        images.forget(key)
        return {"refused": ["too_large", "does not fit into memory"]}, None
    except Exception as error:
        return {"internal": " ".join(f"{type(error).__name__}: {error}".split())}, None


def _described_cause(cause: BaseException | None) -> list[Any] | None:
    """What led to an error: the number that the system gave it, whether a library is missing, and its text."""
    if cause is None:
        return None
    number, text = (cause.errno, cause.strerror) if isinstance(cause, OSError) else (None, None)
    # A library can put anything there.
    return [number if isinstance(number, int) else None, isinstance(cause, ImportError), str(text or cause)]


def _described(image: Image) -> dict[str, Any]:
    """The other fields of an image, as JSON holds them, its files, and how they are read."""
    names = [field.name for field in dataclasses.fields(image) if field.name not in APART]
    return {
        **{name: getattr(image, name) for name in names},
        "dtype": image.dtype.str,
        "affine": None if image.affine is None else image.affine.tolist(),
        "files": [os.fspath(path) for path in image.files],
        "missing": image.missing and image.missing.record(),
        "windows_apart": getattr(image.pixels, "windows_apart", False),
    }


def _send(connection: socket.socket, answer: dict[str, Any], pixels: NDArray[Any] | None) -> None:
    line = json.dumps(answer).encode() + b"\n"
    if pixels is None:
        connection.sendall(line)
        return
    descriptor = os.memfd_create("unetbio")
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("=")).reshape(-1).view(np.uint8).data)
        socket.send_fds(connection, [line], [descriptor])
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main(sys.argv[1:])
