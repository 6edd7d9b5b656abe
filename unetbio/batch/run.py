"""Run a batch: read ahead, run the network, let workers finish and write each image."""

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from unetbio.batch.budget import DEFAULT_MEMORY, MemoryBudget
from unetbio.batch.overlays import Draw, Overlays
from unetbio.batch.pipeline import Job, Message, Reader, frame_bytes, streamed_if_large
from unetbio.errors import ImageError, UnetbioError
from unetbio.files import real_path, utf8_text
from unetbio.inference.executors import part_of
from unetbio.io.grey_pictures import picture_names
from unetbio.machine import return_freed_memory
from unetbio.output_layout import SUMMARY
from unetbio.postprocessing.objects import ObjectTable
from unetbio.preprocessing.normalization import Scaling
from unetbio.preprocessing.selection import Frame, ImageSelection
from unetbio.provenance import PROBABILITIES, FrameRecord, InputRecord, ModelRecord
from unetbio.results.band_files import remove_bands
from unetbio.results.items import Item
from unetbio.results.journal import Entry, Journal, Part, hold_output, journal_path
from unetbio.results.recorded_input import follow_input, place_of_input, record_part, record_set
from unetbio.results.result_files import Outcome, write_image_probabilities, write_result
from unetbio.results.reuse import KeptResult, Policy, remove_leftovers
from unetbio.results.tables.cells import CachedCells, CellStore, known_options
from unetbio.results.tables.collect_tables import OnOutcome, Summary, reuse_or_measure, summarize, write_all_tables
from unetbio.results.tables.confidences import classes_by_id
from unetbio.results.tables.measure_cells import concatenate, measure_frame, pixel_size_of
from unetbio.results.tables.measured_from import TableOptions, sources_of
from unetbio.results.tables.write import write_classes
from unetbio.segmentation import DecidedFrame, Segmenter
from unetbio.settings.segmentation import Settings
from unetbio.timing import stage

__all__ = ["MAX_FINISHERS", "BatchOptions", "check_run", "run_batch"]

logger = logging.getLogger(__name__)

OnShare = Callable[[float], object]

# More threads would only wait for the network.
MAX_FINISHERS = 4

IMAGES_BEHIND = 32
"""Images that wait for the workers at most. Where disks are slower than the network more would fill the memory, since
the budget counts pixels, of which small images have few; and a kill would lose them."""

_REPLACED = "%s was made with %s and is made again, like all others that differ; another -o keeps both"
_KEPT = (
    "%s was edited by hand and is kept as it was made, with %s, like all others that were edited; --overwrite-edited "
    "replaces them"
)


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run; nothing here changes a pixel.

    Parameters
    ----------
    asked : Settings
        Settings of all images, as they were given: the notes are about them.
    policy : Policy
        Which results of earlier runs are made again.
    overlays : dict
        Paths of the overlays to draw, by the name of the result (`Item.result`).
    draw : callable, optional
        Called with the path of an overlay, an image ``(Y, X)`` and a label image ``(Y, X)``.
    write_page : callable, optional
        Write the page of a whole run, after its tables and while the folder is locked.
    part : Part, optional
        The items belong to one of several jobs; `measure` and `report` write tables and page.
    tables : bool
        Whether a whole run writes tables.
    workers : int
        Threads that finish, write and measure.
    memory : int
        Bytes that frames in progress may take together.
    on_share : callable
        Called with the part of an image that the network has seen, from 0 to 1, after each tile of each section and
        time.
    """

    asked: Settings = field(default_factory=Settings)
    policy: Policy = field(default_factory=Policy)
    overlays: Mapping[str, Path] = field(default_factory=dict)
    draw: Draw | None = None
    write_page: Callable[[Path], object] | None = None
    part: Part | None = None
    tables: bool = True
    workers: int = 2
    memory: int = DEFAULT_MEMORY
    on_share: OnShare = lambda share: None


@dataclass(frozen=True)
class _DecidedFrame:
    """A frame and the network's decisions; ``size`` bytes of the memory budget are its own."""

    index: int
    made: DecidedFrame
    seconds: float
    size: int


@dataclass(frozen=True)
class _FinishedFrame:
    record: FrameRecord
    scaling: Scaling
    cells: Any
    seconds: float
    objects: ObjectTable | None


def run_batch(
    items: Sequence[Item], out: Path, segmenter: Segmenter, options: BatchOptions, on_outcome: OnOutcome
) -> Summary:
    """Segment items into an output folder.

    Parameters
    ----------
    items : sequence of Item
        With different names.
    out : pathlib.Path
        Made if missing.
    segmenter : Segmenter
        The model on its device.
    options : BatchOptions
        How the batch is run.
    on_outcome : callable
        Called with each `Outcome` as soon as it is known, in this thread.

    Returns
    -------
    Summary

    Raises
    ------
    UsageError
        When settings and model do not fit; nothing is written then.
    EnvironmentStoppedError
        When the disk is full, the folder cannot be written or is in use. Finished images stay.
    """
    check_run(items, segmenter, save_probabilities=options.policy.save_probabilities)
    with ExitStack() as stack:
        stack.enter_context(hold_output(out, options.part))
        if options.part is None:
            remove_leftovers(out)
        journal = stack.enter_context(Journal(journal_path(out, options.part)))
        batch = _Batch(out, segmenter, options, journal, on_outcome)
        outcomes = batch.run(items)
        if segmenter.target.masks == "classes":
            write_classes(out, segmenter.info.class_names)
        with stage("tables"):
            table = batch.write_tables(outcomes)
    return summarize(outcomes, table)


def check_run(items: Sequence[Item], segmenter: Segmenter, *, save_probabilities: bool) -> None:
    """Refuse settings that do not fit the model, as `run_batch` does before it writes anything.

    Raises
    ------
    UsageError
        Naming the first of them.
    """
    if save_probabilities:
        segmenter.check_probabilities()
    for item in items:
        segmenter.record(item.settings)


class _Batch:
    """One run of `run_batch`."""

    def __init__(
        self, out: Path, segmenter: Segmenter, options: BatchOptions, journal: Journal, on_outcome: OnOutcome
    ) -> None:
        self.out = out
        self.segmenter = segmenter
        self.options = options
        self.journal = journal
        self.on_outcome = on_outcome
        self.whole = options.part is None and options.tables
        self.known = CachedCells(out) if self.whole else None
        self.cells = CellStore(out, options.part, self.known.options if self.known else known_options(out))
        # Options of an earlier `measure` need the written files, so cells are measured after them.
        self.measures_later = self.cells.options != TableOptions()
        self.measures = not self.measures_later and segmenter.target.masks == "instances"
        self.overlays = Overlays(out, segmenter.info.class_names, options.overlays, options.draw)
        self.budget = MemoryBudget(options.memory)
        self.outcomes: list[Outcome] = []
        self.waiting: dict[Future[Outcome], Job] = {}
        self.warned_of_kept: set[bool] = set()
        self.versions = segmenter.versions()

    def write_tables(self, outcomes: Sequence[Outcome]) -> Path | None:
        """Write the tables and the page of a whole run, and give the summary's path; or keep the cells of a job."""
        if self.known is None:
            self.cells.keep()
            return None
        write_all_tables(self.out, outcomes, self.cells, self.known)
        if self.options.write_page is not None:
            self.options.write_page(self.out)
        return self.out / SUMMARY

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        reader = Reader(items, self.out, self.segmenter, self.options.policy, self.budget, self.options.asked)
        pool = ThreadPoolExecutor(self.options.workers, thread_name_prefix="unetbio-worker")
        reader.start()
        try:
            for message in reader:
                self._process(message, pool)
                self._collect(block=len(self.waiting) > IMAGES_BEHIND)
            while self.waiting:
                self._collect(block=True)
        finally:
            reader.stop()
            # Workers finish the frames that they have begun, which takes moments.
            pool.shutdown(wait=True, cancel_futures=True)
            # A run that is stopped has drawn overlays of images that it does not write.
            self.overlays.discard_all()
        return self.outcomes

    def _process(self, message: Message, pool: ThreadPoolExecutor) -> None:
        """Run the network on a frame and hand it to the workers."""
        job = message.job
        self._warn_of_differing(job)
        if message.frame is not None:
            if job.error is None:
                self._decide(job, message.frame, message.size, pool)
            else:
                self.budget.release(message.size)
        if message.last:
            self.waiting[pool.submit(self._conclude, job)] = job

    def _warn_of_differing(self, job: Job) -> None:
        """Warn once of each kind, at the first, so that a user who forgot an option can still stop the run."""
        is_kept = job.earlier.kept is not None
        if not job.earlier.changes or is_kept in self.warned_of_kept:
            return
        self.warned_of_kept.add(is_kept)
        logger.warning(_KEPT if is_kept else _REPLACED, job.item.labels, job.earlier.changes)

    def _decide(self, job: Job, frame: Frame, size: int, pool: ThreadPoolExecutor) -> None:
        start = perf_counter()
        try:
            opened = _present(job.opened)
            made = self.segmenter.decide_frame(
                opened,
                frame,
                with_probabilities=self.options.policy.save_probabilities,
                progress=part_of(self._report_share, len(job.frames), len(opened.times)),
            )
        except Exception as error:
            self.budget.release(size)
            if isinstance(error, UnetbioError) and not isinstance(error, ImageError):
                raise
            job.error = error
            return
        if made.opened.streaming is not None:
            return_freed_memory()
        # The scale that was found for the first frame is that of all.
        job.opened = made.opened
        size = self.budget.resize(size, frame_bytes(made.opened, self.segmenter))
        waiting = _DecidedFrame(len(job.frames), made, perf_counter() - start, size)
        job.frames.append(pool.submit(self._finish, job, waiting))

    def _report_share(self, done: int, total: int) -> None:
        self.options.on_share(done / total)

    def _finish(self, job: Job, waiting: _DecidedFrame) -> _FinishedFrame:
        """In a worker: cells of a frame, its overlay and its measurements."""
        try:
            opened, frame = waiting.made.opened, waiting.made.frame
            with stage("postprocessing"):
                result = self.segmenter.finish(opened, frame, waiting.made.decided)
            if opened.streaming is not None:
                return_freed_memory()
            _present(job.labels).store(waiting.index, result.label_image)
            if waiting.made.probabilities is not None:
                names = self.segmenter.info.class_names
                write_image_probabilities(self.out, job.item, opened, frame.t, waiting.made.probabilities, names)
            if waiting.index == 0:
                self.overlays.draw(job.item, frame.raw, result.label_image, classes_by_id(result.objects))
            cells = None
            if self.measures:
                with stage("measuring"):
                    cells = measure_frame(
                        opened,
                        frame.t,
                        result.label_image,
                        frame.raw,
                        confidences=result.record.confidences,
                        objects=result.objects,
                    )
            return _FinishedFrame(result.record, result.scaling, cells, waiting.seconds, result.objects)
        finally:
            self.budget.release(waiting.size)

    def _conclude(self, job: Job) -> Outcome:
        """In a worker: write an item once its frames are done. They were queued before it, so this ends."""
        try:
            return self._write(job)
        finally:
            self.overlays.discard(job.item.result)

    def _write(self, job: Job) -> Outcome:
        frames = [future.result() for future in job.frames]
        if job.error is not None:
            raise job.error
        if job.earlier.kept is not None:
            return self._reuse(job, job.earlier.kept)
        opened = _present(job.opened)
        labels = _present(job.labels).label_image
        records = tuple(frame.record for frame in frames)
        described = {
            "input": self._input_record(job, opened),
            "model": self._model_record(),
            "settings": job.settings,
            "frames": records,
            "columns": job.item.columns,
            "path_columns": tuple(job.item.path_columns),
            "place": dict(job.item.place),
            "run": {
                **self.segmenter.run_record(opened, [frame.scaling for frame in frames]),
                PROBABILITIES: self.options.policy.save_probabilities,
                "network_seconds": round(sum(frame.seconds for frame in frames), 3),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            "versions": self.versions,
        }
        with stage("writing"):
            provenance = write_result(
                self.out,
                job.item,
                opened,
                labels,
                described,
                with_probabilities=self.options.policy.save_probabilities,
                objects=[frame.objects for frame in frames if frame.objects is not None],
            )
        remove_bands(self.out, job.item.result)
        self.overlays.show(job.item)
        entry = job.line = self._entry(job, "done")
        if self.measures_later:
            return reuse_or_measure(self.out, entry, None, KeptResult(False, provenance), asked=self.cells.options)
        outcome = Outcome(entry, records, pixel_size_of(provenance), provenance.output.label_hash)
        if not self.measures:
            return outcome
        cells = concatenate([frame.cells for frame in frames])
        sources = sources_of(self.out, entry, provenance, TableOptions(), as_segmented=True)
        return replace(outcome, cells=cells, measured_from=sources or "")

    def _open_again(self, item: Item) -> ImageSelection:
        """Open the image of a kept result; as it was segmented, in parts or not."""
        opened = self.segmenter.open(item.read(), item.settings)
        return streamed_if_large(opened, item, self.segmenter, self.options.policy, self.out, self.options.memory)

    def _reuse(self, job: Job, kept: KeptResult) -> Outcome:
        """The outcome of a kept result; its cells come from the table if they were measured on this label image."""
        entry = job.line = self._entry(job, "skipped", "edited" if kept.edited else "unchanged")
        if kept.provenance is not None:
            kept = replace(kept, provenance=follow_input(self.out, job.item, kept.provenance))
        self.overlays.draw_kept(job.item, kept, self._open_again)
        if self.known is None:
            frames = kept.provenance.frames if kept.provenance else ()
            return Outcome(entry, frames, pixel_size_of(kept.provenance))
        return reuse_or_measure(self.out, entry, self.known, kept)

    def _entry(self, job: Job, status: Any, reason: str = "", message: str = "") -> Entry:
        item = job.item
        return Entry(
            output=item.labels,
            path=item.path,
            input=utf8_text(real_path(item.source)),
            status=status,
            series=item.series,
            reason=reason,
            message=message,
            columns=item.columns,
            path_columns=item.path_columns,
            place=dict(item.place),
        )

    def _input_record(self, job: Job, opened: ImageSelection) -> InputRecord:
        image = opened.image
        return InputRecord(
            **place_of_input(self.out, job.item),
            fingerprint=_present(job.fingerprint),
            companions=job.companions,
            image_set=record_set(job.item.image_set),
            missing_files=image.missing.files if image.missing else (),
            part=record_part(image),
            axes=image.axes,
            shape=image.shape,
            dtype=str(image.dtype),
            pixel_size_um=image.pixel_size_um,
            pixel_size_trusted=image.pixel_size_trusted,
            channel_names=picture_names(image),
        )

    def _model_record(self) -> ModelRecord:
        model = self.segmenter.model
        return ModelRecord(
            name=model.info.name,
            sha256=model.sha256,
            path=str(real_path(model.path)),
            architecture=model.info.architecture,
        )

    def _collect(self, *, block: bool) -> None:
        """Write the journal lines of all finished items."""
        with stage("waiting for results"):
            done = wait(self.waiting, timeout=None if block else 0, return_when=FIRST_COMPLETED).done
        for future in done:
            job = self.waiting.pop(future)
            outcome = self._outcome(job, future)
            # A mask that is there and cannot be measured is no failure of `segment`: `measure` tries it again.
            line = outcome.entry if job.line is None else replace(job.line, message=outcome.entry.message)
            self.journal.append(line)
            with stage("tables"):
                self.outcomes.append(self.cells.add(outcome))
            self.on_outcome(outcome)

    def _outcome(self, job: Job, future: Future[Outcome]) -> Outcome:
        try:
            return future.result()
        except ImageError as error:
            return Outcome(self._entry(job, "failed", error.reason, str(error)))
        except UnetbioError:
            raise
        except MemoryError:
            return Outcome(self._entry(job, "failed", "out_of_memory", "it does not fit into memory"))
        except Exception as error:
            logger.debug("%s", "".join(traceback.format_exception(error)))
            text = " ".join(f"{type(error).__name__}: {error}".split())
            message = f"internal error ({text}); -v shows where"
            return Outcome(self._entry(job, "failed", "internal", message))


def _present(value: Any) -> Any:
    if value is None:
        raise ValueError("an item was finished before it was opened")
    return value
