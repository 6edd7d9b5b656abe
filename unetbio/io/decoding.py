"""Open and read images in processes of their own, so that a codec that crashes or hangs costs one file.

Within `decode_elsewhere`, `unetbio.io.read_image` asks such a process (`unetbio.io.decoder`). It has limits of time and
memory, and is replaced when it dies. It hands over JSON and pixels: nothing that it sends can run.
"""

import contextlib
import json
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import EnvironmentStoppedError, ImageError
from unetbio.io.image import Image, NotStored
from unetbio.io.missing import MissingPlanes

__all__ = ["decode_elsewhere", "open_elsewhere"]

PLATFORMS = ("linux",)
"""Systems whose files in memory and limits are used here; others decode in their own process."""

LOOK_SECONDS = 1.0
"""Time between looks at a process that decodes: one that was stopped is noticed."""

RECEIVED_BYTES = 1 << 16

_pools: list["_Pool"] = []


@contextlib.contextmanager
def decode_elsewhere(seconds: float) -> Iterator[None]:
    """Decode images in other processes while the block runs.

    Parameters
    ----------
    seconds : float
        Longest time to open an image or to read one of its planes; 0 decodes in this process.

    Raises
    ------
    EnvironmentStoppedError
        When no process can be started.
    """
    if not seconds or sys.platform not in PLATFORMS:
        yield
        return
    pool = _Pool(seconds)
    _pools.append(pool)
    try:
        yield
    finally:
        _pools.remove(pool)
        pool.close()


def open_elsewhere(path: Path, axes: str | None, series: int, labels: bool) -> Image | None:
    """The image as another process opened it; None where this process is to open it."""
    if not _pools:
        return None
    source = _Source(_pools[-1], os.fspath(path), axes, series, labels)
    described = source.ask("image")["image"]
    affine, files, missing = described.pop("affine"), described.pop("files"), described.pop("missing")
    windows_apart = described.pop("windows_apart")
    return Image(
        **{
            **described,
            "shape": tuple(described["shape"]),
            "dtype": np.dtype(described["dtype"]),
            "channel_names": tuple(described["channel_names"]),
        },
        source=path,
        pixels=_RemotePixels(
            source, tuple(map(Path, files)), missing and MissingPlanes.of_record(missing), windows_apart
        ),
        affine=None if affine is None else np.array(affine, np.float64),
    )


@dataclass(frozen=True)
class _Source:
    """An image that processes of a pool open when it is asked for."""

    pool: "_Pool"
    path: str
    axes: str | None
    series: int
    labels: bool
    level: int = 0

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        names = ("path", "axes", "series", "labels", "level")
        answer = self.pool.ask({"ask": what, **{name: getattr(self, name) for name in names}, **more})
        if "refused" in answer:
            # The cause tells a file that is broken from one that cannot be read here.
            raise ImageError(*answer["refused"]) from _cause(*(answer.get("cause") or ()))
        if "internal" in answer:
            raise RuntimeError(answer["internal"])
        return answer


def _cause(number: int | None = None, is_import: bool = False, text: str = "") -> Exception | None:
    """The error that led to another one, as the other process described it."""
    if number is not None:
        return OSError(number, text)
    if is_import:
        return ImportError(text)
    return RuntimeError(text) if text else None


@dataclass(frozen=True)
class _RemotePixels:
    source: _Source
    files: tuple[Path, ...]
    missing: MissingPlanes | None = None
    windows_apart: bool = False

    @property
    def not_stored(self) -> NotStored | None:
        found = self.source.ask("not_stored")["not_stored"]
        return found and NotStored(*found)

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        return tuple((rows, columns) for rows, columns in self.source.ask("levels")["levels"])

    def at_level(self, level: int) -> "_RemotePixels":
        return replace(self, source=replace(self.source, level=level))

    def read(self, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        window = [t, z, list(channels), [y.start, y.stop], [x.start, x.stop]]
        answer = self.source.ask("pixels", window=window)
        shape, dtype = tuple(answer["shape"]), np.dtype(answer["dtype"])
        return np.frombuffer(answer["content"], dtype).reshape(shape)


class _Pool:
    """Processes that wait for requests; as many as there are threads that ask at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._idle = [_Process(seconds)]
        self._busy: set[_Process] = set()
        self._is_closed = False

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._take(request["path"])
        try:
            answer = process.ask(request)
        finally:
            with self._lock:
                self._busy.discard(process)
                if process.is_alive and not self._is_closed:
                    self._idle.append(process)
                else:
                    process.end()
        return answer

    def _take(self, path: str) -> "_Process":
        with self._lock:
            # The process that had the image open last, since readers keep what they have unpacked, or the last one.
            numbers = range(len(self._idle) - 1, -1, -1)
            number = next((number for number in numbers if self._idle[number].last == path), -1)
            process = self._idle.pop(number) if self._idle else _Process(self._seconds)
            process.last = path
            self._busy.add(process)
        return process

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            processes = [*self._idle, *self._busy]
        for process in processes:
            process.end()


class _Process:
    """One process that decodes."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.last = ""
        self._connection, other = socket.socketpair()
        self._poll = select.poll()
        self._poll.register(self._connection, select.POLLIN)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        # -P: the working directory holds data, not modules.
        command = [sys.executable, "-P", "-m", "unetbio.io.decoder", str(other.fileno()), str(memory), f"{seconds:.0f}"]
        try:
            self._child = subprocess.Popen(
                command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            self._connection.close()
            raise EnvironmentStoppedError(
                f"no process to decode images can be started ({error.strerror}): raise the limit of processes "
                "(ulimit -u), or give --decode-timeout 0"
            ) from error
        finally:
            other.close()

    @property
    def is_alive(self) -> bool:
        return self._connection.fileno() >= 0 and self._child.poll() is None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer; ends the process when none comes."""
        try:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            line, descriptors = self._receive(monotonic() + self._seconds)
        except (OSError, EOFError) as error:
            self.end()
            raise self._died() from error
        except BaseException:
            self.end()
            raise
        answer: dict[str, Any] = json.loads(line)
        for descriptor in descriptors:
            answer["content"] = _mapped(descriptor)
        return answer

    def _receive(self, deadline: float) -> tuple[bytes, list[int]]:
        line, descriptors = b"", []
        while not line.endswith(b"\n"):
            if self._poll.poll(LOOK_SECONDS * 1000):
                part, found, _, _ = socket.recv_fds(self._connection, RECEIVED_BYTES, 1)
                if not part:
                    raise EOFError
                line += part
                descriptors += found
            elif self._is_stopped():
                raise ImageError("decoding_failed", "the process that decoded it was stopped: run again")
            elif monotonic() > deadline:
                raise ImageError(
                    "decoding_timeout",
                    f"decoding took longer than {self._seconds:g} s: a broken file, or give a larger --decode-timeout",
                )
        return line, descriptors

    def _is_stopped(self) -> bool:
        with contextlib.suppress(OSError), open(f"/proc/{self._child.pid}/stat", encoding="utf-8") as stream:
            return stream.read().rpartition(")")[2].split()[0] in "Tt"
        return False

    def _died(self) -> ImageError:
        code = self._child.wait()
        name = signal.Signals(-code).name if code < 0 and -code in list(signal.Signals) else f"exit code {code}"
        return ImageError(
            "decoding_failed", f"the process that decoded it died ({name}): a broken file, or too little memory"
        )

    def end(self) -> None:
        """End the process."""
        self._connection.close()
        if self._child.poll() is None:
            # It may wait in a codec forever, and has no files to finish.
            self._child.kill()
        self._child.wait()


def _mapped(descriptor: int) -> mmap.mmap | bytes:
    try:
        size = os.fstat(descriptor).st_size
        return mmap.mmap(descriptor, size, prot=mmap.PROT_READ) if size else b""
    finally:
        os.close(descriptor)
