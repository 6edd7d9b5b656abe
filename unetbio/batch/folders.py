"""Segment inputs into output folders: list the images, choose those of this run, and run one or several models."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from unetbio.batch.budget import MemoryShares
from unetbio.batch.failures import forget_gone, select_failed
from unetbio.batch.plan import (
    check_names,
    check_probabilities,
    go_on_at_own_scale,
    leave_out_absent,
    list_items,
    refuse_others_files,
    select_part,
    spread,
)
from unetbio.batch.profile import RunProfile, profiled
from unetbio.batch.without_effect import Permissions, say_for_run
from unetbio.errors import UsageError
from unetbio.machine import available_cores, available_memory, process_seconds
from unetbio.models.model_file import load_model, read_info
from unetbio.models.precision import find_model
from unetbio.notes import say_without_effect
from unetbio.output_layout import TABLES_AND_PAGE, overlay_name
from unetbio.relations import RELATED, Related, relate_folders, share_channels
from unetbio.results.items import Item
from unetbio.results.journal import parse_part
from unetbio.results.tables.collect_tables import OnOutcome, Summary, tidy
from unetbio.results.tables.path_columns import add_path_columns
from unetbio.settings.runs import RunOptions, local_workers
from unetbio.settings.segmentation import Settings

if TYPE_CHECKING:
    from unetbio.batch.dry_run import Estimate
    from unetbio.batch.overlays import Draw
    from unetbio.batch.run import BatchOptions, OnShare
    from unetbio.results.result_files import Outcome
    from unetbio.segmentation import Segmenter

__all__ = ["Finished", "SegmentRequest", "View", "segment_folders"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmentRequest:
    """What a run of `segment_folders` segments, and how.

    Parameters
    ----------
    inputs : tuple of str
        Files, folders and patterns; empty with a table.
    table : pathlib.Path, optional
        csv or tsv with a column ``image``.
    out : pathlib.Path
        The output folder.
    settings : Settings
        Options that change the masks.
    run : RunOptions
        All others.
    """

    inputs: tuple[str, ...]
    table: Path | None
    out: Path
    settings: Settings
    run: RunOptions

    def list_items(self, model: str) -> list[Item]:
        """List all images of the inputs.

        Raises
        ------
        UsageError
            As `list_items`, `check_names`, `check_probabilities` and `refuse_others_files` of `unetbio.batch.plan`, or
            when a library for the output is missing.
        """
        from unetbio.targets import of_model

        if self.run.format == "ome-zarr":
            from unetbio.io.formats.zarr.writer import check_zarr

            check_zarr()
        target = of_model(read_info(model))
        items = list_items(self.inputs, self.table, self.settings, self.out, target.masks, group=self.run.group)
        items = [replace(item, format=self.run.format or "auto") for item in items]
        check_names(items, self.out)
        if self.run.save_probabilities:
            check_probabilities(items)
        has_objects = target.output == "objects" or target.has_cell_classes
        refuse_others_files(self._replaced(items, has_objects), self.out)
        return add_path_columns(items, self.run.metadata_regex)

    def _replaced(self, items: list[Item], has_objects: bool) -> Iterator[str]:
        """Names of files that the run writes without asking whose they are, as it does for masks."""
        yield from () if self.run.no_tables else TABLES_AND_PAGE
        yield from (item.probabilities_of(None) for item in items if self.run.save_probabilities)
        yield from (item.objects for item in items if has_objects)

    def choose(self, listed: list[Item]) -> tuple[list[Item], dict[str, Path]]:
        """Choose the items of this run, and the overlays to draw."""
        items = listed[: self.run.limit]
        drawn = spread(items, _overlay_count(self.run.overlays))
        overlays = {item.result: self.out / overlay_name(item.labels) for item in drawn}
        if self.run.failed_only:
            items = select_failed(items, self.out)
        return select_part(items, parse_part(self.run.part)) if self.run.part else items, overlays


@dataclass(frozen=True)
class View:
    """What a command shows of a run, and what it changes in its process.

    Parameters
    ----------
    progress : callable
        Called with the number of images; a context that gives two functions: for the `Outcome` of each, and
        `BatchOptions.on_share`.
    draw : callable, optional
        Draws an overlay: `BatchOptions.draw`.
    write_page : callable, optional
        Writes the page of an output folder: `BatchOptions.write_page`.
    limit_threads : callable, optional
        Called with the number of processor cores before a network runs.
    """

    progress: "Callable[[int], AbstractContextManager[tuple[OnOutcome, OnShare]]]"
    draw: "Draw | None" = None
    write_page: Callable[[Path], object] | None = None
    limit_threads: Callable[[int], object] | None = None


@dataclass(frozen=True)
class Finished:
    """Result of one model in its folder, or of the relation of two.

    Parameters
    ----------
    out : pathlib.Path
        The folder.
    models : tuple of str
        Names or files of the models.
    result : Summary, Estimate or Related, optional
        None where only images that had failed were asked for, and none had.
    failed : int
        Number of images that failed.
    profile : RunProfile, optional
        Where the time went, if it was asked for.
    """

    out: Path
    models: tuple[str, ...]
    result: "Summary | Estimate | Related | None"
    failed: int = 0
    profile: RunProfile | None = None


def segment_folders(request: SegmentRequest, models: tuple[str, ...], view: View) -> Iterator[Finished]:
    """Run one model, or several one after another, and relate the objects of two models of cells.

    Parameters
    ----------
    request : SegmentRequest
        Inputs, output folder and options.
    models : tuple of str
        Names or files. With more than one, each has a folder of its name in the output folder.
    view : View
        What is shown.

    Yields
    ------
    Finished
        For each model, and for the relation.

    Raises
    ------
    UsageError
        When inputs, models and options do not go together; nothing is written then.
    EnvironmentStoppedError
        As `run_batch`.
    """
    from unetbio.targets import of_model

    models = tuple(str(find_model(model, request.settings.precision)) for model in models)
    if len(models) == 1:
        yield _segment_by(models[0], request, view, request.list_items(models[0]))
        return
    if request.settings.ensemble:
        raise UsageError("--ensemble averages with one model: give --model once, and a run of its own for the other")
    infos = [read_info(model) for model in models]
    names = [info.name for info in infos]
    _check_folders_of(names)
    channels = share_channels(request.settings.channel, [len(info.channels) for info in infos])
    requests = [
        replace(request, out=request.out / name, settings=replace(request.settings, channel=own))
        for name, own in zip(names, channels, strict=True)
    ]
    turns = [(model, each, each.list_items(model)) for model, each in zip(models, requests, strict=True)]
    # The run of the first model checks that one itself.
    for turn in turns[1:]:
        _check(*turn)
    for model, each, found in turns:
        since = process_seconds() if model != models[0] else 0.0
        yield _segment_by(model, each, view, found, since)
    is_whole = not (request.run.dry_run or request.run.part or request.run.no_tables)
    if len(models) == 2 and is_whole and all(of_model(info).masks == "instances" for info in infos):
        yield from _relate(request.out, names)


def _check_folders_of(names: Sequence[str]) -> None:
    """Refuse models of which not each can have a folder of its name, whatever its file is called."""
    if len({*names, RELATED}) <= len(names):
        what = f"results of one name, or called {RELATED}"
    elif any(PurePath(name).name != name or name == ".." for name in names):
        what = "results of a name that no folder can have"
    else:
        return
    raise UsageError(
        f"--model {' and '.join(names)}: {what}; renaming a file does not rename its model: segment with each by "
        "itself into a folder of its own, and give two of these to unetbio relate"
    )


def _relate(out: Path, names: Sequence[str]) -> Iterator[Finished]:
    """Relate the objects of two models; where images failed with one of them, there may be none to relate."""
    related = out / RELATED
    try:
        done = relate_folders(out / names[0], out / names[1], related, _log_unrelated)
    except UsageError as error:
        logger.error("nothing to relate: %s", error)
        return
    yield Finished(related, tuple(names), done, done.failed)


def _log_unrelated(name: str, message: str) -> None:
    if message:
        logger.error("%s: %s", name, message)


def _check(model: str, request: SegmentRequest, found: list[Item]) -> None:
    """Refuse what the run of a model would refuse before it writes; raises `UsageError`."""
    items, _ = request.choose(found)
    if items:
        from unetbio.batch.run import check_run

        segmenter = _open_segmenter(model, request.settings, request.run, None)
        check_run(items, segmenter, save_probabilities=request.run.save_probabilities)


def _open_segmenter(model: str, settings: Settings, run: RunOptions, memory: int | None) -> "Segmenter":
    from unetbio.segmentation import Segmenter

    return Segmenter(
        load_model(model),
        # Workers have the device; this process plans their tiles.
        "cpu" if run.scheduler else run.device,
        tile=run.tile,
        memory_budget=memory,
        exact=run.exact_tiles,
        backend=run.backend,
        augment=settings.augment,
        ensemble=[load_model(find_model(member, settings.precision)) for member in settings.ensemble],
        precision=settings.precision,
    )


def _segment_by(model: str, request: SegmentRequest, view: View, found: list[Item], since: float = 0.0) -> Finished:
    """Run one model over the images that were listed; its turn began at an age of the process."""
    out, run = request.out, request.run
    listed = leave_out_absent(found)
    items, overlays = request.choose(listed)
    gone = [] if run.dry_run else _forget_gone(listed, request)
    if run.failed_only and not items:
        _tidy(out, run, view.write_page if gone and not run.no_tables else None)
        return Finished(out, (model,), None)
    if view.limit_threads is not None:
        view.limit_threads(run.workers or available_cores())
    # PyTorch is imported from here on, so that errors of the inputs come at once.
    from unetbio.batch.run import run_batch

    if run.dry_run and run.profile:
        raise UsageError("--profile says where the time of a run went, and --dry-run runs nothing: leave one out")
    if run.dry_run and run.scheduler is not None:
        say_without_effect("--scheduler", "--dry-run takes its times on this machine, without workers")
        run = replace(run, scheduler=None)
    memory = MemoryShares.of(run.memory or available_memory(), local_workers(run.scheduler or ""))
    segmenter = _open_segmenter(model, request.settings, run, memory.tile)
    if run.scheduler is None:
        where = f"{segmenter.device} ({segmenter.device_reason})"
        logger.info("%s in %s on %s", segmenter.info.name, segmenter.precision, where)
    say_for_run(request.settings, run, segmenter)
    if segmenter.looker is not None:
        items = go_on_at_own_scale(items, listed, out, segmenter.model.sha256)
    options = _batch_options(overlays, run, view, memory.frames)
    if run.dry_run:
        from unetbio.batch.dry_run import estimate

        predicted = estimate(items, out, segmenter, options, startup=process_seconds())
        for item, message in predicted.failed:
            logger.error("%s: %s", item.title, message)
        return Finished(out, (model,), predicted, len(predicted.failed))
    permissions = Permissions(request.settings, lacks_images=len(listed) < len(found))
    with (
        _on_workers(segmenter, run),
        profiled(process_seconds() - since) as profile,
        view.progress(len(items)) as (on_outcome, on_share),
    ):

        def report(outcome: "Outcome") -> None:
            permissions.collect(outcome.frames)
            on_outcome(outcome)

        summary = run_batch(items, out, segmenter, replace(options, asked=request.settings, on_share=on_share), report)
    if not (summary.failed or run.part):
        permissions.say()
    return Finished(out, (model,), summary, summary.failed, profile if run.profile else None)


def _on_workers(segmenter: "Segmenter", run: RunOptions) -> AbstractContextManager[None]:
    if run.scheduler is None:
        return nullcontext()
    from unetbio.segmentation.cluster import on_workers

    return on_workers(segmenter, run.scheduler, run.device)


def _forget_gone(listed: list[Item], request: SegmentRequest) -> list[str]:
    part = parse_part(request.run.part) if request.run.part else None
    # A run over another table into the same folder keeps the failures of the first.
    unlisted = request.run.failed_only and request.table is not None
    gone = forget_gone(listed, request.out, part, unlisted=unlisted)
    if len(gone) == 1:
        logger.info("1 image leaves the tables: %s", gone[0])
    elif gone:
        logger.info("%d images leave the tables, such as %s", len(gone), gone[0])
    return gone


def _tidy(out: Path, run: RunOptions, write_page: Callable[[Path], object] | None) -> None:
    """As a run over all images does at its start; and what it does at its end, where the tables have changed."""
    if not (run.part or run.dry_run):
        tidy(out, write_page)


def _overlay_count(overlays: int | str) -> int | None:
    if isinstance(overlays, int):
        return overlays
    return None if overlays == "all" else 0


def _batch_options(overlays: dict[str, Path], run: RunOptions, view: View, memory: int) -> "BatchOptions":
    from unetbio.batch.run import MAX_FINISHERS, BatchOptions
    from unetbio.results.reuse import Policy

    return BatchOptions(
        policy=Policy(run.overwrite, run.overwrite_edited, run.rehash, run.save_probabilities),
        overlays=overlays,
        draw=view.draw,
        write_page=view.write_page,
        part=parse_part(run.part) if run.part else None,
        tables=not run.no_tables,
        workers=min(MAX_FINISHERS, run.workers or available_cores()),
        memory=memory,
    )
