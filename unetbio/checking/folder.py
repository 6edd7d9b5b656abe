"""All inputs of a run: surveyed side by side, compared with each other, and written as a table."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unetbio.batch.budget import MemoryBudget
from unetbio.checking.check_cache import KnownFiles
from unetbio.checking.file_report import Finding, Survey, describe_for_models, survey
from unetbio.checking.outliers import compare_with_model, compare_with_others
from unetbio.preprocessing.grey_values import GreyFingerprint
from unetbio.results.items import Item

if TYPE_CHECKING:
    from unetbio.models.model_file import ModelInfo

__all__ = ["CheckResult", "check_items"]

MEMORY = 1 << 30
"""Bytes that the windows of all threads may take together; one file is always let in."""

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
    """What is known before the run.

    Parameters
    ----------
    surveys : tuple of Survey
        One an input, in the order given.
    findings : tuple of Finding
        In the order of the inputs.
    """

    surveys: tuple[Survey, ...]
    findings: tuple[Finding, ...]

    @property
    def unreadable(self) -> int:
        """Inputs that cannot be read to their last pixel."""
        return sum(not survey.is_readable for survey in self.surveys)

    def groups(self) -> list[tuple[int, str]]:
        """How many images there are of each kind, the largest group first."""
        counts = Counter(survey.facts.describe() for survey in self.surveys if survey.facts is not None)
        return [(count, text) for text, count in counts.most_common()]

    def rows(self) -> list[dict[str, Any]]:
        """One row an input, with `COLUMNS` and the columns of the user's table."""
        found: dict[str, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            found[finding.path].append(finding)
        return [_row(survey, found[survey.path]) for survey in self.surveys]

    def table(self) -> str:
        """The rows as csv."""
        stream = io.StringIO()
        extra = dict.fromkeys(name for survey in self.surveys for name in survey.item.columns)
        columns = [*COLUMNS, *(name for name in extra if name not in COLUMNS)]
        writer = csv.DictWriter(stream, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows())
        return stream.getvalue()


def check_items(
    items: Sequence[Item],
    models: Mapping[str, "ModelInfo"],
    *,
    workers: int,
    known: KnownFiles | None = None,
    report: Callable[[Survey], None] = lambda survey: None,
) -> CheckResult:
    """Decode every file, and compare the files with the models and with each other.

    Parameters
    ----------
    items : sequence of Item
        Inputs; two may have the same name, which is found here.
    models : dict
        What messages call each model, and what it says of itself; without any, files are compared with each other.
    workers : int
        Threads.
    known : KnownFiles, optional
        What earlier checks have found: files that have not changed since are not decoded again.
    report : callable
        Called with each survey, in the order of the items, as soon as it is known.

    Returns
    -------
    CheckResult
        Whatever the files hold: none stops the others.
    """
    budget = MemoryBudget(MEMORY)
    surveys = []
    with ThreadPoolExecutor(workers, thread_name_prefix="unetbio-check") as pool:
        try:
            for done in pool.map(lambda item: survey(item, models, budget, known), items):
                surveys.append(done)
                report(done)
        except BaseException:
            # Whoever pressed Ctrl-C does not want the rest read first.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    findings = [finding for done in surveys for finding in done.findings]
    findings += _against_models(surveys, models)
    findings += [*compare_with_others(surveys), *_duplicates(surveys), *_collisions(surveys)]
    order = {done.path: number for number, done in reversed(list(enumerate(surveys)))}
    findings.sort(key=lambda finding: order[finding.path])
    return CheckResult(tuple(surveys), tuple(dict.fromkeys(findings)))


def _against_models(surveys: Sequence[Survey], models: Mapping[str, "ModelInfo"]) -> Iterator[Finding]:
    fingerprints = {
        name: GreyFingerprint.from_record(info.training.get("grey_values")) for name, info in models.items()
    }
    for done in surveys:
        found = {name: list(compare_with_model(done, info, fingerprints[name])) for name, info in models.items()}
        for code, message in describe_for_models(found):
            yield Finding(done.path, code, message)


def _duplicates(surveys: Sequence[Survey]) -> Iterator[Finding]:
    first: dict[str, Survey] = {}
    for done in surveys:
        # Empty images are alike without being copies.
        if done.facts is None or all(levels.is_constant for levels in done.facts.levels):
            continue
        other = first.setdefault(done.facts.pixel_hash, done)
        if other is not done:
            yield Finding(done.path, "duplicate", f"the same pixels as {other.path}")


def _collisions(surveys: Sequence[Survey]) -> Iterator[Finding]:
    taken: dict[str, Survey] = {}
    for done in surveys:
        # On many file systems upper and lower case are the same.
        other = taken.setdefault(done.item.result.casefold(), done)
        if other is not done:
            yield Finding(
                done.path,
                "name_collision",
                f"would be written to {done.item.labels}, as {other.path} would: rename one, or use two output folders",
            )


def _row(survey: Survey, found: Sequence[Finding]) -> dict[str, Any]:
    facts = survey.facts
    row: dict[str, Any] = {
        **survey.item.columns,
        "path": survey.item.path,
        "status": "unreadable" if not survey.is_readable else "found" if found else "ok",
        "code": CODES_BETWEEN.join(dict.fromkeys(finding.code for finding in found)),
        "message": MESSAGES_BETWEEN.join(finding.message for finding in found),
        "series": survey.item.settings.series,
    }
    if facts is None:
        return row
    levels = {
        name: " ".join(f"{getattr(level, name):g}" for level in facts.levels) for name in ("low", "median", "high")
    }
    return {
        **row,
        **levels,
        "axes": facts.axes,
        "shape": " ".join(map(str, facts.shape)),
        "dtype": facts.dtype,
        "pixel_size_um": " ".join(f"{axis}={size:g}" for axis, size in facts.pixel_size_um.items()),
        "pixel_size_trusted": facts.pixel_size_trusted,
        "series_count": facts.series_count,
        "pixel_hash": facts.pixel_hash,
    }
