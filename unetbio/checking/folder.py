"""Check all inputs of a run: report each file, compare them, and write a table."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetbio.batch.budget import MemoryBudget
from unetbio.batch.plan import list_items
from unetbio.batch.without_effect import ALL_KNOWN
from unetbio.checking.check_cache import CheckCache
from unetbio.checking.file_report import FileReport, Finding, describe_for_models, report_file
from unetbio.checking.outliers import compare_with_model, compare_with_others
from unetbio.errors import UsageError
from unetbio.files import real_path
from unetbio.io.tables import csv_text
from unetbio.machine import available_cores
from unetbio.models import DEFAULT_MODEL
from unetbio.models.model_file import ModelInfo, read_info
from unetbio.notes import say_without_effect
from unetbio.output_layout import CHECK
from unetbio.preprocessing.grey_values import GreyFingerprint
from unetbio.results.items import Item
from unetbio.settings.options import options_of
from unetbio.settings.segmentation import Settings
from unetbio.targets import of_model

__all__ = ["CheckResult", "check"]

MEMORY = 1 << 30
"""Memory limit for the windows of all threads; a single file may exceed it."""

CODES_BETWEEN, MESSAGES_BETWEEN = ";", "; "

COLUMNS = (
    "path",
    "status",
    "code",
    "message",
    "axes",
    "shape",
    "dtype",
    "pixel_size_um",
    "pixel_size_trusted",
    "series",
    "series_count",
    "low",
    "median",
    "high",
    "pixel_hash",
)


@dataclass(frozen=True)
class CheckResult:
    """Result of a check.

    Parameters
    ----------
    files : tuple of FileReport
        One for each input, in the given order.
    findings : tuple of Finding
        In the order of the inputs.
    """

    files: tuple[FileReport, ...]
    findings: tuple[Finding, ...]

    @property
    def unreadable(self) -> int:
        """Inputs that cannot be read to their last pixel."""
        return sum(not report.is_readable for report in self.files)

    def groups(self) -> list[tuple[int, str]]:
        """Number and description of the images of each kind, the largest group first."""
        counts = Counter(report.stats.describe() for report in self.files if report.stats is not None)
        return [(count, text) for text, count in counts.most_common()]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each input, with `COLUMNS` and the columns of the user's table."""
        found: dict[str, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            found[finding.path].append(finding)
        return [_row(report, found[report.path]) for report in self.files]

    def table(self) -> str:
        """The rows as csv."""
        extra = dict.fromkeys(name for report in self.files for name in (*report.item.place, *report.item.columns))
        columns = [*COLUMNS, *(name for name in extra if name not in COLUMNS)]
        return csv_text([columns, *([row.get(name, "") for name in columns] for row in self.rows())])


def check(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    *,
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (DEFAULT_MODEL,),
    settings: Settings | None = None,
    group: str = "auto",
    table: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_file: Callable[[FileReport, int], None] = lambda report, total: None,
) -> CheckResult:
    """Decode every image, and compare images with the models and with each other, as ``unetbio check`` does.

    Parameters
    ----------
    inputs : path or sequence of paths
        Files, folders (searched with all folders below) or patterns; equal names of results are reported.
    models : str, path or sequence of them
        Shipped models or model files; with none, images are compared with each other alone.
    settings : Settings, optional
        Which part of each file is the image, and how grey values are scaled: `unetbio.settings.segmentation.Settings`.
    group : str
        How files are joined by their names: `unetbio.io.grouping.group_files`.
    table : path, optional
        csv or tsv with a column ``image``, instead of ``inputs``.
    out : path, optional
        Output folder of the later run, in which no input is searched; nothing is written there.
    cache : path, optional
        File for results: unchanged images are not decoded again.
    workers : int, optional
        Threads; all cores of this process unless given.
    on_file : callable
        Called with the report of each file and the number of all files, in the order of the inputs.

    Returns
    -------
    CheckResult
        Errors of files are findings.

    Raises
    ------
    UsageError
        When an input or model does not exist, or the cache would be written over an input.
    """
    models = [models] if isinstance(models, (str, os.PathLike)) else models
    infos = {str(model): read_info(model) for model in models}
    masks = of_model(next(iter(infos.values()))).masks if infos else "instances"
    items = list_items(inputs, table, settings or Settings(), out, masks, group=group)
    if cache is not None:
        tables = [*([Path(table)] if table else []), *([Path(out) / CHECK] if out else [])]
        _refuse_cache(Path(cache), [item.source for item in items], tables)
    result = _check_items(
        items, infos, workers or available_cores(), None if cache is None else CheckCache(Path(cache)), on_file
    )
    _say_without_effect(settings or Settings(), infos, result)
    return result


def _say_without_effect(settings: Settings, infos: Mapping[str, ModelInfo], result: CheckResult) -> None:
    """Say which options compare images with a model, where there is none, and whether pixels had to be filled."""
    for name in ("diameter_px", "normalization"):
        if not infos and getattr(settings, name) is not None:
            say_without_effect(options_of(Settings)[name].flag, "without a model images are compared with each other")
    is_known = all(
        report.stats is not None
        and not any(report.stats.levels[channel].not_finite for channel in report.channels.numbers)
        for report in result.files
    )
    if settings.nan == "fill" and is_known:
        say_without_effect("--nan fill", ALL_KNOWN)


def _refuse_cache(cache: Path, sources: list[Path], tables: list[Path]) -> None:
    """Refuse a cache that would be written over an image, into the folder of one, or over a table."""
    place = real_path(cache)
    for given in (*sources, *tables):
        if real_path(given) in (place, *place.parents) or (cache.exists() and given.exists() and cache.samefile(given)):
            what = "an image" if given in sources else "a table"
            raise UsageError(f"--cache {cache} is part of {given}, {what} of this check: give another file")


def _check_items(
    items: Sequence[Item],
    models: Mapping[str, ModelInfo],
    workers: int,
    cache: CheckCache | None,
    on_file: Callable[[FileReport, int], None],
) -> CheckResult:
    budget = MemoryBudget(MEMORY)
    reports = []
    with ThreadPoolExecutor(workers, thread_name_prefix="unetbio-check") as pool:
        try:
            for report in pool.map(lambda item: report_file(item, models, budget, cache), items):
                reports.append(report)
                on_file(report, len(items))
        except BaseException:
            # Ctrl-C must not wait for the remaining files.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    findings = [finding for report in reports for finding in report.findings]
    findings += _against_models(reports, models)
    findings += [*compare_with_others(reports), *_duplicates(reports), *_collisions(reports)]
    order = {report.path: number for number, report in reversed(list(enumerate(reports)))}
    findings.sort(key=lambda finding: order[finding.path])
    return CheckResult(tuple(reports), tuple(dict.fromkeys(findings)))


def _against_models(reports: Sequence[FileReport], models: Mapping[str, ModelInfo]) -> Iterator[Finding]:
    fingerprints = {
        name: GreyFingerprint.from_record(info.training.get("grey_values")) for name, info in models.items()
    }
    for report in reports:
        found = {
            name: list(
                compare_with_model(report, report.of_models.get(name, report.channels), info, fingerprints[name])
            )
            for name, info in models.items()
        }
        for code, message in describe_for_models(found):
            yield Finding(report.path, code, message)


def _duplicates(reports: Sequence[FileReport]) -> Iterator[Finding]:
    first: dict[str, FileReport] = {}
    for report in reports:
        # Constant images are equal without being copies.
        if report.stats is None or all(levels.is_constant for levels in report.levels):
            continue
        other = first.setdefault(report.stats.pixel_hash, report)
        if other is not report and not _are_of_one_image(report.item, other.item):
            yield Finding(report.path, "duplicate", f"the same pixels as {other.path}")


def _are_of_one_image(one: Item, other: Item) -> bool:
    """Whether they are regions of one image, of which all pixels are compared."""
    return (one.source, one.series) == (other.source, other.series)


def _collisions(reports: Sequence[FileReport]) -> Iterator[Finding]:
    taken: dict[str, FileReport] = {}
    for report in reports:
        # Many file systems ignore case.
        other = taken.setdefault(report.item.result.casefold(), report)
        if other is not report:
            yield Finding(
                report.path,
                "name_collision",
                f"would be written to {report.item.labels}, as {other.path} would: rename one, or use two output "
                "folders",
            )


def _row(report: FileReport, found: Sequence[Finding]) -> dict[str, Any]:
    stats = report.stats
    row: dict[str, Any] = {
        **report.item.place,
        **report.item.columns,
        "path": report.item.path,
        "status": "unreadable" if not report.is_readable else "found" if found else "ok",
        "code": CODES_BETWEEN.join(dict.fromkeys(finding.code for finding in found)),
        "message": MESSAGES_BETWEEN.join(finding.message for finding in found),
        "series": report.item.series,
    }
    if stats is None:
        return row
    levels = {
        name: " ".join(f"{getattr(level, name):g}" for level in stats.levels) for name in ("low", "median", "high")
    }
    return {
        **row,
        **levels,
        "axes": stats.axes,
        "shape": " ".join(map(str, stats.shape)),
        "dtype": stats.dtype,
        "pixel_size_um": " ".join(f"{axis}={size:g}" for axis, size in stats.pixel_size_um.items()),
        "pixel_size_trusted": stats.pixel_size_trusted,
        "series_count": stats.series_count,
        "pixel_hash": stats.pixel_hash,
    }
