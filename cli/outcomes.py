"""What ``unetbio segment`` shows: a line for each failed image or important warning, and the last line of a run."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetbio.cli.options import counts, format_count, summary_line
from unetbio.cli.process import limit_threads
from unetbio.cli.progress import Progress

if TYPE_CHECKING:
    from unetbio.batch.folders import Finished, View
    from unetbio.results.result_files import Outcome
    from unetbio.results.tables.collect_tables import Summary

__all__ = ["lines_of", "view"]

logger = logging.getLogger("unetbio.cli.segment")

# Warnings that are printed on stderr; the summary holds all.
_LOGGED = {
    "above_limits": "all pixels are brighter than {}, which --normalize makes 1: percentiles are written p1,p99.8",
    "below_limits": "all pixels are darker than {}, which --normalize makes 0",
    "unknown": "{} pixels are NaN or infinite, and background in the mask",
    "constant": "one grey value everywhere: no cells",
    "constant_channel": "channel {} has one grey value everywhere",
    "more_series": "the file holds more images, the first was segmented: choose with --series",
    "cut_file": "the file was cut; what is whole was used",
    "damaged": "{} parts of 256 x 256 pixels cannot be decoded, and are background",
    "missing_planes": "{} planes are missing; the others were used",
    "not_stored": "{} chunks are not stored; read as the fill value; if they were lost, copy the file again",
}


def view() -> "View":
    """Progress on stderr, overlays and a page."""
    from unetbio.batch.folders import View
    from unetbio.report.overlays import write_overlay

    return View(_progress, write_overlay, _write_page, limit_threads)


def _write_page(out: Path) -> None:
    # Imported late, since a job of a part of a batch writes no page.
    from unetbio.report.page import write_page

    write_page(out)


@contextmanager
def _progress(total: int) -> "Iterator[tuple[Callable[[Outcome], None], Callable[[float], None]]]":
    with Progress(total) as progress:

        def report(outcome: "Outcome") -> None:
            progress.clear()
            _log_outcome(outcome)
            progress.advance(failed=outcome.entry.status == "failed")

        yield report, progress.begin


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


def lines_of(finished: "Finished", *, as_json: bool, part: str | None) -> list[str]:
    """Lines on stdout for the result of one model, or of the relation of two; as JSON each is one line."""
    from unetbio.relations import Related
    from unetbio.results.tables.collect_tables import Summary

    result, out = finished.result, finished.out
    if result is None:
        return [json.dumps({"images": 0, "failed": 0, "output": str(out)}) if as_json else f"no image failed: {out}"]
    if isinstance(result, Summary):
        profile = finished.profile
        if as_json:
            return [_as_json(result, out, {} if profile is None else {"profile": profile.values()})]
        return [*([] if profile is None else profile.lines()), _last_line(result, out, part)]
    if isinstance(result, Related):
        if as_json:
            return [json.dumps({**asdict(result), "output": str(out)})]
        nuclei, cells = finished.models
        return [f"{result.nuclei} of {nuclei}, {result.nuclei - result.orphans} in {result.cells} of {cells}: {out}"]
    return [json.dumps(result.values())] if as_json else result.lines()


def _last_line(summary: "Summary", out: Path, part: str | None) -> str:
    from unetbio.results.journal import journal_path, parse_part

    where = summary.table or journal_path(out, parse_part(part) if part else None)
    return "; ".join([summary_line(counts(summary), summary.failed, where), *_notes(summary)])


def _notes(summary: "Summary") -> Iterator[str]:
    """Phrases about the masks of a run that need another look."""
    yield from _unlike_training(summary)
    for reason, count in summary.not_exact.items():
        images = format_count(count, "image")
        yield f"{images} in {reason}, which is not exact: tiles and processors may change masks"


def _unlike_training(summary: "Summary") -> list[str]:
    """One phrase for the images that are unlike the training images of the model."""
    from unetbio.preprocessing.likeness import REASONS

    if not summary.unlike:
        return []
    count = sum(summary.unlike.values())
    reasons = "; ".join(REASONS.get(reason, reason) for reason in sorted(summary.unlike))
    verb = "is" if count == 1 else "are"
    return [f"{count} of {format_count(summary.images, 'image')} {verb} unlike the training: {reasons}"]


def _as_json(summary: "Summary", out: Path, more: dict[str, Any]) -> str:
    table = str(summary.table) if summary.table else None
    values: dict[str, Any] = {"images": summary.images, "cells": summary.cells, "failed": summary.failed}
    values |= {"unlike_training": dict(summary.unlike)} if summary.unlike else {}
    values |= {"not_exact": dict(summary.not_exact)} if summary.not_exact else {}
    return json.dumps({**values, **more, "output": str(out), "table": table})
