"""``unetbio segment``: images to label images, with provenance, tables and a page."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unetbio.cli import options as shared
from unetbio.cli.process import keep_freed_memory
from unetbio.cli.progress import Progress
from unetbio.cli.terminal import say
from unetbio.errors import UsageError
from unetbio.settings.options import options_of
from unetbio.settings.runs import RunOptions, available_cores
from unetbio.settings.segmentation import READING, Settings

if TYPE_CHECKING:
    from unetbio.batch.run import BatchOptions
    from unetbio.results.collect_tables import Summary
    from unetbio.results.items import Item
    from unetbio.results.journal import Part
    from unetbio.results.result_files import Outcome
    from unetbio.segmentation import Segmenter

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.segment")


# Warnings that are printed on stderr; the summary holds all.
_LOGGED = {
    "above_limits": "all pixels are brighter than {}, which --normalize makes 1: percentiles are written p1,p99.8",
    "below_limits": "all pixels are darker than {}, which --normalize makes 0",
    "unknown": "{} pixels are NaN or infinite, and background in the mask",
    "constant": "one grey value everywhere: no cells",
    "more_series": "the file holds more images, the first was segmented: choose with --series",
    "missing_planes": "{} planes are missing; the others were used",
    "not_stored": "{} chunks are not stored; read as the fill value; if they were lost, copy the file again",
}

_CELL_OPTIONS = [name for name in options_of(Settings) if name not in READING]
_RUN_OPTIONS = [name for name in options_of(RunOptions) if name != "metadata_regex"]


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("-o", "--output", "out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder.")
@click.option("--table", type=click.Path(path_type=Path), help="csv or tsv with a column image, instead of INPUT.")
@shared.metadata_regex
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    default=("nuclei",),
    show_default="nuclei",
    metavar="NAME|FILE",
    help="Shipped model or model file; twice for nuclei and then cells.",
)
@shared.options(Settings, *READING, *_CELL_OPTIONS)
@shared.options(RunOptions, *_RUN_OPTIONS)
@shared.collected(settings=Settings, run=RunOptions)
def command(
    inputs: tuple[str, ...], out: Path, table: Path | None, models: tuple[str, ...], settings: Settings, run: RunOptions
) -> int | None:
    """Segment images: label images or class masks, provenance, tables and a page of overlays.

    INPUT is files, folders (searched with all folders below) or patterns in quotes. For a/b/x.tif, OUT gets
    a/b/x_labels.ome.tif and a/b/x_labels.json; a model of classes makes a/b/x_classes.ome.tif. Masks of the same
    input, model and settings are kept; so are masks edited by hand.

    With --model given twice, the results of each model are in the folder OUT/NAME of its name, and OUT/related says
    which object of the first (nuclei) lies in which of the second (cells), as unetbio relate does.

    \b
    Examples:
      unetbio segment plate1/ -o results/ --channel DAPI
      unetbio segment cells.czi -o results/ --model mine.safetensors --diameter 40
      unetbio segment plate1/ -o results/ --dry-run
    """  # noqa: D301
    from unetbio.io.decoding import decode_elsewhere

    # Its process starts while this one imports PyTorch.
    with decode_elsewhere(run.decode_timeout):
        if len(models) == 1:
            return _segment_by_one(inputs, out, table, models[0], settings, run)
        return _segment_by_each(inputs, out, table, models, settings, run)


def _segment_by_each(
    inputs: tuple[str, ...], out: Path, table: Path | None, models: tuple[str, ...], settings: Settings, run: RunOptions
) -> int | None:
    """Run one model after another, and relate the objects of two models of cells."""
    from unetbio.models.model_file import read_info
    from unetbio.relations import RELATED, relate_folders, share_channels
    from unetbio.targets import of_model

    infos = [read_info(model) for model in models]
    names = [info.name for info in infos]
    if len({*names, RELATED}) <= len(names):
        raise UsageError(
            f"--model {' and '.join(names)}: results of one name, or called {RELATED}; rename a model file"
        )
    channels = share_channels(settings.channel, [len(info.channels) for info in infos])
    codes = [
        _segment_by_one(inputs, out / name, table, model, replace(settings, channel=own), run)
        for model, name, own in zip(models, names, channels, strict=True)
    ]
    is_whole = not (run.dry_run or run.part or run.no_tables)
    if len(models) == 2 and is_whole and all(of_model(info).masks == "instances" for info in infos):
        done = relate_folders(out / names[0], out / names[1], out / RELATED, _log_unrelated)
        say(f"{done.nuclei} of {names[0]}, {done.nuclei - done.orphans} in {done.cells} of {names[1]}: {out / RELATED}")
        codes.append(shared.EXIT_SOME_FAILED if done.failed and not run.failed_ok else None)
    return max((code for code in codes if code), default=None)


def _log_unrelated(name: str, message: str) -> None:
    if message:
        logger.error("%s: %s", name, message)


def _segment_by_one(
    inputs: tuple[str, ...], out: Path, table: Path | None, model: str, settings: Settings, run: RunOptions
) -> int | None:
    listed = _list(inputs, table, out, settings, model, run)
    items, overlays = _choose(listed, out, run)
    gone = [] if run.dry_run else _forget_gone(listed, out, run)
    if run.failed_only and not items:
        _tidy(out, run, rewrite=bool(gone) and not run.no_tables)
        say(f"no image failed: {out}")
        return None
    keep_freed_memory()
    _limit_threads(run.workers)
    from unetbio.batch.plan import go_on_at_own_scale
    from unetbio.models.model_file import load_model
    from unetbio.segmentation import Segmenter

    segmenter = Segmenter(load_model(model), run.device, tile=run.tile, exact=run.exact_tiles, backend=run.backend)
    logger.info("%s on %s (%s)", segmenter.info.name, segmenter.device, segmenter.device_reason)
    if segmenter.looker is not None:
        items = go_on_at_own_scale(items, listed, out, segmenter.model.sha256)
    options = _batch_options(out, overlays, run)
    if run.dry_run:
        return _dry_run(items, out, segmenter, options, run)
    summary = _run(items, out, segmenter, options)
    say(_as_json(summary, out) if run.as_json else _last_line(summary, out, options.part))
    return shared.EXIT_SOME_FAILED if summary.failed and not run.failed_ok else None


def _forget_gone(listed: "list[Item]", out: Path, run: RunOptions) -> list[str]:
    from unetbio.batch.failures import forget_gone
    from unetbio.results.journal import parse_part

    gone = forget_gone(listed, out, parse_part(run.part) if run.part else None)
    if gone:
        verbs = "is gone and leaves" if len(gone) == 1 else "are gone and leave"
        logger.info("%s %s the tables: %s", shared.format_count(len(gone), "file"), verbs, gone[0])
    return gone


def _tidy(out: Path, run: RunOptions, *, rewrite: bool) -> None:
    """As a run over all images does at its start; and what it does at its end, where the tables have changed."""
    from unetbio.results.collect_tables import tidy

    if not (run.part or run.dry_run):
        tidy(out, _write_page if rewrite else None)


def _list(
    inputs: tuple[str, ...], table: Path | None, out: Path, settings: Settings, model: str, run: RunOptions
) -> "list[Item]":
    """All items that the inputs hold."""
    from unetbio.batch.plan import check_names, list_items
    from unetbio.models.model_file import read_info
    from unetbio.results.path_columns import add_path_columns
    from unetbio.targets import of_model

    if run.format == "ome-zarr":
        from unetbio.io.formats.zarr.writer import check_zarr

        check_zarr()
    items = list_items(inputs, table, settings, out, of_model(read_info(model)).masks, group=run.group)
    items = [replace(item, format=run.format or "auto") for item in items]
    check_names(items, out)
    return add_path_columns(items, run.metadata_regex)


def _choose(listed: "list[Item]", out: Path, run: RunOptions) -> "tuple[list[Item], dict[str, Path]]":
    """The items of this run, and the pictures to draw."""
    from unetbio.batch.failures import select_failed
    from unetbio.batch.plan import select_part, spread
    from unetbio.output_layout import overlay_name
    from unetbio.results.journal import parse_part

    items = listed[: run.limit]
    drawn = spread(items, _overlay_count(run.overlays))
    overlays = {item.result: out / overlay_name(item.labels) for item in drawn}
    if run.failed_only:
        items = select_failed(items, out)
    return select_part(items, parse_part(run.part)) if run.part else items, overlays


def _overlay_count(overlays: int | str) -> int | None:
    if isinstance(overlays, int):
        return overlays
    return None if overlays == "all" else 0


def _limit_threads(workers: int | None) -> None:
    import torch

    torch.set_num_threads(workers or available_cores())


def _batch_options(out: Path, overlays: dict[str, Path], run: RunOptions) -> "BatchOptions":
    from unetbio.batch.run import MAX_FINISHERS, BatchOptions
    from unetbio.report.overlays import write_overlay
    from unetbio.results.journal import parse_part
    from unetbio.results.reuse import Policy

    policy = Policy(run.overwrite, run.overwrite_edited, run.rehash, run.save_probabilities)
    return BatchOptions(
        policy=policy,
        overlays=overlays,
        draw=write_overlay,
        write_page=_write_page,
        part=parse_part(run.part) if run.part else None,
        tables=not run.no_tables,
        workers=min(MAX_FINISHERS, run.workers or available_cores()),
    )


def _write_page(out: Path) -> None:
    # Imported late, since a job of a part of a batch writes no page.
    from unetbio.report.page import write_page

    write_page(out)


def _run(items: "list[Item]", out: Path, segmenter: "Segmenter", options: "BatchOptions") -> "Summary":
    from unetbio.batch.run import run_batch

    with Progress(len(items)) as progress:

        def report(outcome: "Outcome") -> None:
            progress.clear()
            _log_outcome(outcome)
            progress.advance(failed=outcome.entry.status == "failed")

        return run_batch(items, out, segmenter, options, report)


def _log_outcome(outcome: "Outcome") -> None:
    """Log a failure, important warnings or a kept mask, one line each."""
    entry = outcome.entry
    if entry.status == "failed":
        logger.error("%s: %s [%s]", entry.input, entry.message, entry.reason)
    elif entry.status == "done":
        for warning in dict.fromkeys(warning for frame in outcome.frames for warning in frame.warnings):
            code, _, count = warning.partition(":")
            if code in _LOGGED:
                logger.warning("%s: %s [%s]", entry.input, _LOGGED[code].format(count.replace("/", " of ")), code)
    elif entry.reason == "edited":
        kept = "was edited by hand or has no provenance, and is kept (--overwrite-edited replaces it)"
        logger.info("%s %s", entry.output, kept)


def _last_line(summary: "Summary", out: Path, part: "Part | None") -> str:
    from unetbio.results.journal import journal_path

    line = shared.summary_line(shared.counts(summary), summary.failed, summary.table or journal_path(out, part))
    return "; ".join([line, *_unlike_training(summary)])


def _unlike_training(summary: "Summary") -> list[str]:
    """One phrase for the images that are unlike the training images of the model."""
    from unetbio.preprocessing.likeness import REASONS

    if not summary.unlike:
        return []
    count = sum(summary.unlike.values())
    reasons = "; ".join(REASONS.get(reason, reason) for reason in sorted(summary.unlike))
    verb = "is" if count == 1 else "are"
    return [f"{count} of {shared.format_count(summary.images, 'image')} {verb} unlike the training: {reasons}"]


def _as_json(summary: "Summary", out: Path) -> str:
    table = str(summary.table) if summary.table else None
    values: dict[str, Any] = {"images": summary.images, "cells": summary.cells, "failed": summary.failed}
    values |= {"unlike_training": dict(summary.unlike)} if summary.unlike else {}
    return json.dumps({**values, "output": str(out), "table": table})


def _dry_run(
    items: "list[Item]", out: Path, segmenter: "Segmenter", options: "BatchOptions", run: RunOptions
) -> int | None:
    from unetbio.batch.dry_run import estimate, process_seconds

    result = estimate(items, out, segmenter, options, startup=process_seconds())
    for item, message in result.failed:
        logger.error("%s: %s", item.title, message)
    for line in [json.dumps(result.values())] if run.as_json else result.lines():
        say(line)
    return shared.EXIT_SOME_FAILED if result.failed and not run.failed_ok else None
