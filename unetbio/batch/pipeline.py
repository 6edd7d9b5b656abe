"""A reader that runs ahead of the network, as far as memory allows."""

import functools
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from unetbio.batch.budget import MemoryBudget
from unetbio.batch.without_effect import say_for_image
from unetbio.errors import ImageError
from unetbio.files import Stamp, real_path, stamp, utf8_text
from unetbio.output_layout import NIFTI
from unetbio.postprocessing.instances import rows_in_memory
from unetbio.preprocessing.selection import Frame, ImageSelection
from unetbio.provenance import Fingerprint, fingerprint
from unetbio.results.band_files import BandFiles
from unetbio.results.disk_arrays import DiskArray
from unetbio.results.items import Item
from unetbio.results.journal import Entry
from unetbio.results.result_files import LabelStack, pending_path
from unetbio.results.reuse import EarlierResult, Policy, find_earlier_result
from unetbio.segmentation import Segmenter
from unetbio.segmentation.segmenter import BYTES_IN_BAND
from unetbio.settings.segmentation import Settings
from unetbio.timing import stage

__all__ = ["LABELLING_BYTES", "Job", "Reader", "frame_bytes", "in_parts_if_large", "streamed_if_large"]

BAND_BYTES = 256 << 20
"""Memory of the part of a streamed image that is worked on; larger parts are not faster."""

NAME_BYTES, PATH_BYTES = 255, 4096
"""Longest name, and path with its end, that Linux takes."""

MOST_FOLDERS = 500
"""Folders in each other in which results are written; Python's own functions fail at about 1000."""

# Reading further ahead gains nothing, even for small images.
MESSAGES_AHEAD = 16

LABELLING_BYTES = 18
"""Most bytes for each pixel that are held while decisions become a label image (measured: 9.7 to 16.8)."""


@dataclass
class Job:
    """State of one item in the batch.

    Parameters
    ----------
    item : Item
        The image.
    settings : dict
        Record of the settings.
    opened, fingerprint, companions
        The input, once it is open.
    earlier : EarlierResult
        Result of earlier runs.
    error : Exception, optional
        The failure.
    labels : LabelStack, optional
        Label images of the frames.
    frames : list of Future
        Frames that the workers finish.
    line : Entry, optional
        Line of the journal, once the mask is there.
    """

    item: Item
    settings: dict[str, Any]
    opened: ImageSelection | None = None
    fingerprint: Fingerprint | None = None
    companions: dict[str, Fingerprint] = field(default_factory=dict)
    earlier: EarlierResult = field(default_factory=EarlierResult)
    error: Exception | None = None
    labels: LabelStack | None = None
    frames: list[Future[Any]] = field(default_factory=list)
    line: Entry | None = None


@dataclass(frozen=True)
class Message:
    """A frame of a job, ``last`` if it is the job's last; ``size`` bytes of the memory budget are its own."""

    job: Job
    frame: Frame | None
    last: bool
    size: int = 0


class Reader(threading.Thread):
    """Read the items one after another in a thread; iterate to get the messages.

    It is a daemon thread, so that a file system that hangs does not keep the process from ending.
    """

    def __init__(
        self,
        items: Sequence[Item],
        out: Path,
        segmenter: Segmenter,
        policy: Policy,
        budget: MemoryBudget,
        asked: Settings,
    ) -> None:
        super().__init__(name="unetbio-reader", daemon=True)
        self._items = items
        self._out = out
        self._segmenter = segmenter
        self._policy = policy
        self._budget = budget
        self._asked = asked
        self._messages: queue.Queue[Message | BaseException | None] = queue.Queue(MESSAGES_AHEAD)
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[Message]:
        while (message := self._next()) is not None:
            if isinstance(message, BaseException):
                raise message
            yield message

    def _next(self) -> Message | BaseException | None:
        with stage("waiting for images"):
            return self._messages.get()

    def stop(self) -> None:
        """Read no further."""
        self._stopped.set()
        self._budget.close()
        # Make room for a message that waits for the queue.
        while not self._messages.empty():
            self._messages.get_nowait()

    def run(self) -> None:
        """Read until the last item, or until `stop` is called."""
        try:
            for item in self._items:
                for message in self._read(item):
                    self._messages.put(message)
                if self._stopped.is_set():
                    return
            self._messages.put(None)
        except BaseException as error:
            # An internal error: the thread that iterates must not wait for ever.
            self._messages.put(error)

    def _read(self, item: Item) -> Iterator[Message]:
        job = Job(item, self._segmenter.record(item.settings))
        try:
            _check_name(item, self._out)
            job.earlier = find_earlier_result(item, self._out, self._segmenter.model, job.settings, self._policy)
            if job.earlier.kept is None:
                yield from self._frames(job)
                return
        except Exception as error:
            job.error = error
        yield Message(job, None, last=True)

    def _frames(self, job: Job) -> Iterator[Message]:
        if job.item.error is not None:
            raise job.item.error
        with stage("reading"):
            opened = self._open(job)
        job.labels = LabelStack(len(opened.times), opened.shape, self._out)
        size = frame_bytes(opened, self._segmenter)
        for index, t in enumerate(opened.times):
            if not self._budget.acquire(size):
                return
            try:
                with stage("reading"):
                    frame = self._segmenter.read_frame(opened, t)
            except BaseException:
                self._budget.release(size)
                raise
            yield Message(job, frame, index == len(opened.times) - 1, size)

    def _open(self, job: Job) -> ImageSelection:
        before = _stamp(job.item.source)
        opened = self._segmenter.open(job.item.read(), job.item.settings)
        say_for_image(opened, self._segmenter.info, self._asked)
        job.opened = opened = streamed_if_large(
            opened, job.item, self._segmenter, self._policy, self._out, self._budget.limit
        )
        # Taken before the pixels are read, so that later changes show in the times; and only of images: a broken file
        # can claim any size.
        job.fingerprint = found = _fingerprint(job.item.source)
        if before != (found.size, found.mtime_ns, found.ctime_ns):
            raise ImageError("unreadable", "it was changed while it was opened: run again")
        source = real_path(job.item.source)
        for path in {real_path(file) for file in opened.image.files} - {source}:
            job.companions[os.path.relpath(path, source.parent)] = _fingerprint(path)
        if opened.streaming is not None:
            finished = BandFiles(self._out, job.item.result, self._facts(job, found))
            job.opened = opened = replace(opened, streaming=replace(opened.streaming, finished=finished))
        return opened

    def _facts(self, job: Job, found: Fingerprint) -> dict[str, Any]:
        """All that decisions of the network depend on."""
        return {
            "input": [found.sha256, *sorted(companion.sha256 for companion in job.companions.values())],
            "item": [job.item.settings.series, str(job.item.image_set)],
            "model": self._segmenter.model.sha256,
            "settings": job.settings,
            "device": [str(self._segmenter.device), self._segmenter.backend],
            "versions": self._segmenter.versions(),
        }


def _check_name(item: Item, out: Path) -> None:
    """Refuse names that tables or the file system cannot hold, which would stop the run where results are written."""
    if utf8_text(item.source) != os.fspath(item.source):
        raise ImageError("bad_name", "its name is not in UTF-8, and tables cannot hold it: rename it")
    longest = pending_path(out, item)
    name, path = len(os.fsencode(longest.name)), len(os.fsencode(longest.absolute()))
    if name > NAME_BYTES or path >= PATH_BYTES:
        of_what = f"a name of {name} bytes" if name > NAME_BYTES else f"a path of {path} bytes"
        raise ImageError("bad_name", f"its results need {of_what}, longer than file systems take: shorten its name")
    folders = len(PurePosixPath(item.labels).parts)
    if folders > MOST_FOLDERS:
        raise ImageError("bad_name", f"it lies {folders} folders below the input, at most {MOST_FOLDERS} are possible")


def _stamp(path: Path) -> Stamp:
    try:
        return stamp(path)
    except OSError as error:
        raise ImageError("unreadable", f"cannot be opened: {error.strerror or error}") from error


def _fingerprint(path: Path) -> Fingerprint:
    try:
        return fingerprint(path)
    except OSError as error:
        raise ImageError("unreadable", f"cannot be opened: {error.strerror or error}") from error


def streamed_if_large(
    opened: ImageSelection, item: Item, segmenter: Segmenter, policy: Policy, out: Path, memory: int
) -> ImageSelection:
    """The image, segmented in parts if a frame takes more than so many bytes of ``memory`` and if that is possible."""
    is_possible = not policy.save_probabilities and not item.labels.endswith(NIFTI)
    return in_parts_if_large(opened, segmenter, out, memory) if is_possible else opened


def in_parts_if_large(opened: ImageSelection, segmenter: Segmenter, out: Path, memory: int) -> ImageSelection:
    """The image, segmented in parts if a frame takes more than ``memory``; what is as large as it lies in ``out``."""
    if frame_bytes(opened, segmenter) <= memory:
        return opened
    return segmenter.streamed(opened, functools.partial(DiskArray, out), min(memory, BAND_BYTES))


def frame_bytes(opened: ImageSelection, segmenter: Segmenter) -> int:
    """Memory of a frame from reading to measuring, without the network's."""
    if opened.rows is not None:
        size = max(opened.shape, opened.grid, key=prod)
        rows = min(size[0], rows_in_memory(segmenter.info.postprocessing, opened.rows))
        return rows * prod(size[1:]) * BYTES_IN_BAND + _lazy_bytes(opened, segmenter)
    pixels, grid, channels = prod(opened.shape), prod(opened.grid), len(opened.channels)
    raw = pixels * channels * opened.image.dtype.itemsize
    normalized = 4 * grid * channels
    # Decisions, pixels near a threshold, and the cell probability in a byte, also at the size of the image.
    planes = grid * (len(segmenter.info.postprocessing.thresholds) + 2) + pixels
    # The label image exists at both sizes.
    labels = grid * LABELLING_BYTES + pixels * 8
    return raw + normalized + planes + labels


def _lazy_bytes(opened: ImageSelection, segmenter: Segmenter) -> int:
    """Rows of a tile over the width of the image: those that are kept, and a second copy while they are read."""
    *rows, _ = next(iter(segmenter.plan(opened.grid))).read_shape
    return 2 * prod(rows) * opened.shape[-1] * len(opened.channels) * opened.image.dtype.itemsize
