"""``unetbio evaluate``: scores of predicted label images or class masks against the truth."""

import csv
import io
import json
import logging
import math
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from unetbio.cli import options as shared
from unetbio.errors import ImageError, UsageError
from unetbio.settings.options import split_numbers

if TYPE_CHECKING:
    from unetbio.io import Pairing

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.evaluate")

POOLED = "pooled"


class _Comparer(Protocol):
    """What the two kinds of masks differ in."""

    @property
    def allow_binary(self) -> bool:
        """Whether masks of 0 and 1 (or 255) are taken."""

    def prepare(self, mask: Any, *, is_truth: bool) -> Any:
        """A mask of one time, as it is compared."""

    def compare(self, found: Any, true: Any) -> Any:
        """Counts that can be added."""

    def scores(self, comparison: Any) -> dict[str, float]:
        """Scores by name."""

    def columns(self) -> dict[str, str]:
        """Scores in the table for people, and their headings."""

    def settings(self) -> dict[str, Any]:
        """How it was compared, for the JSON."""


@dataclass(frozen=True)
class _Cells:
    """Label images."""

    thresholds: tuple[float, ...]
    tolerance: float
    allow_binary: bool

    def prepare(self, mask: Any, *, is_truth: bool) -> Any:
        from unetbio import labels

        return labels.split_components(mask) if self.allow_binary and labels.is_binary_mask(mask) else mask

    def compare(self, found: Any, true: Any) -> Any:
        from unetbio.metrics.instances import compare

        return compare(found, true, thresholds=self.thresholds, tolerance=self.tolerance)

    def scores(self, comparison: Any) -> dict[str, float]:
        scores: dict[str, float] = comparison.scores()
        return scores

    def columns(self) -> dict[str, str]:
        first = f"{self.thresholds[0]:g}".removeprefix("0")
        return {
            "n_true": "true",
            "n_predicted": "found",
            "mean_AP": "mean AP",
            **{f"{name}@{first}": f"{name}@{first}" for name in ("AP", "F1", "PQ")},
            "merges_per_100": "merges/100",
            "splits_per_100": "splits/100",
            "foreground_IoU": "pixel IoU",
            "boundary_F1": "boundary F1",
        }

    def settings(self) -> dict[str, Any]:
        return {"thresholds": list(self.thresholds), "boundary_tolerance_px": self.tolerance}


@dataclass
class _Classes:
    """Class masks; ``names`` grows when a mask holds a class that has none."""

    tolerance: float
    values: tuple[int, ...]
    ignore_label: int | None
    names: tuple[str, ...]
    most_classes: int = field(init=False)
    allow_binary = True

    def __post_init__(self) -> None:
        # Where values are given there are as many classes, or as many as have names; 0 where nobody knows.
        self.most_classes = max(len(self.values), len(self.names)) if self.values else 0

    def prepare(self, mask: Any, *, is_truth: bool) -> Any:
        from unetbio.settings.training import MAX_CLASSES
        from unetbio.supervision.annotations import map_classes

        if is_truth:
            return map_classes(mask, self.values or range(MAX_CLASSES), self.ignore_label)
        # Not mapped as the truth is: of a prediction of 0 and 1 nobody could tell whether 1 is a class or a value.
        most = self.most_classes or MAX_CLASSES
        if mask.size and mask.max() >= most:
            raise ImageError(
                "unknown_class",
                f"holds {mask.max()}, which is none of the classes 0 to {most - 1}: a prediction holds the number of "
                "the class, as unetbio segment writes it; --class-values is about the truth",
            )
        return mask

    def compare(self, found: Any, true: Any) -> Any:
        from unetbio.classes import default_class_names
        from unetbio.metrics.classes import compare_classes
        from unetbio.supervision.annotations import UNANNOTATED

        comparison = compare_classes(found, true, ignore_label=UNANNOTATED, tolerance=self.tolerance)
        self.names += default_class_names(len(comparison.confusion))[len(self.names) :]
        return comparison

    def scores(self, comparison: Any) -> dict[str, float]:
        scores: dict[str, float] = comparison.scores(self.names)
        return scores

    def columns(self) -> dict[str, str]:
        pooled = {"mean_IoU": "mean IoU", "pixel_accuracy": "pixel accuracy", "boundary_F1": "boundary F1"}
        return pooled | {f"IoU {name}": f"IoU {name}" for name in self.names}

    def settings(self) -> dict[str, Any]:
        return {"classes": list(self.names), "boundary_tolerance_px": self.tolerance}


@dataclass
class _Evaluation:
    """What came of every pair."""

    comparer: _Comparer
    axes: str | None
    compared: list[tuple[Path, Path, Any]] = field(default_factory=list)
    failed: list[tuple[Path, Path, ImageError]] = field(default_factory=list)

    def rows(self) -> list[tuple[Path, Path, dict[str, float]]]:
        return [(found, true, self.comparer.scores(comparison)) for found, true, comparison in self.compared]

    def pooled(self) -> dict[str, float]:
        return self.comparer.scores(reduce(add, (comparison for _, _, comparison in self.compared)))


@click.command()
@click.argument("predicted", type=click.Path(path_type=Path))
@click.argument("truth", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="OUT", type=click.Path(path_type=Path), help="Folder for the full scores.")
@click.option("--thresholds", metavar="IOU,...", help="IoU from which cells match.  [default: 0.5,0.55 ... 0.95]")
@click.option(
    "--tolerance",
    default=2.0,
    show_default=True,
    type=shared.Number(),
    metavar="PX",
    help="How far boundary pixels may lie apart.",
)
@shared.split_components
@click.option("--classes", is_flag=True, help="The masks hold classes, not cells.")
@click.option(
    "--class-values",
    type=shared.Text(split_numbers),
    metavar="N,...",
    help="With --classes: value in the truth for each class, such as 0,255. Predictions hold 0, 1, 2 ...",
)
@click.option(
    "--ignore-label", type=click.IntRange(min=0), metavar="N", help="With --classes: not annotated in the truth."
)
@click.option("--axes", metavar="LETTERS", help="Axes of files that do not say, such as ZYX or TYX.")
@shared.failed_ok
@shared.as_json
def command(
    predicted: Path,
    truth: Path,
    output: Path | None,
    thresholds: str | None,
    tolerance: float,
    split_components: bool,
    classes: bool,
    class_values: tuple[int, ...] | None,
    ignore_label: int | None,
    axes: str | None,
    failed_ok: bool,
    as_json: bool,
) -> int:
    """Score predicted label images, or class masks, against the truth.

    PREDICTED and TRUTH are folders or files, paired by their names: x_labels.ome.tif belongs to x.tif, x_mask.png ...
    Prints the scores of every image and those pooled over all images; with -o, OUT/evaluation.csv and
    OUT/evaluation.json hold all of them. AP is TP / (TP + FP + FN). classes.csv in PREDICTED names the classes.
    """
    from unetbio.files import write_json, write_text
    from unetbio.metrics.instances import THRESHOLDS

    comparer: _Comparer
    if classes:
        if thresholds is not None or split_components:
            raise UsageError("--thresholds and --split-components are about cells: leave them out with --classes")
        comparer = _Classes(tolerance, class_values or (), ignore_label, _class_names(predicted))
    else:
        if class_values is not None or ignore_label is not None:
            raise UsageError("--class-values and --ignore-label are about classes: say --classes too")
        iou_thresholds = THRESHOLDS if thresholds is None else _parse_thresholds(thresholds)
        comparer = _Cells(iou_thresholds, tolerance, split_components)
    evaluation = _Evaluation(comparer, axes)
    pairing = _pair(predicted, truth)
    for path in pairing.images_left:
        logger.warning("%s has no truth", path)
    for path in pairing.masks_left:
        logger.warning("%s has no prediction", path)
    for found, true in pairing.pairs:
        _compare(found, true, evaluation)
    content = _content(evaluation)
    content["predictions_without_truth"] = [str(path) for path in pairing.images_left]
    content["truth_without_prediction"] = [str(path) for path in pairing.masks_left]
    if output is not None:
        write_text(output / "evaluation.csv", _csv(evaluation))
        write_json(output / "evaluation.json", content)
    if as_json:
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
    elif evaluation.compared:
        click.echo(_table(evaluation))
    if output is not None and not as_json:
        counts = [(len(pairing.pairs), "pair")]
        click.echo(shared.summary_line(counts, len(evaluation.failed), output / "evaluation.csv"))
    return shared.EXIT_SOME_FAILED if evaluation.failed and not failed_ok else 0


def _class_names(predicted: Path) -> tuple[str, ...]:
    """Names of the classes, from the palette that was written along with the masks."""
    from unetbio.output_layout import CLASSES

    path = (predicted if predicted.is_dir() else predicted.parent) / CLASSES
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            return tuple(row["name"] for row in csv.DictReader(stream))
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise UsageError(f"{path} cannot be read as a table of classes: {error}") from error


def _pair(predicted: Path, truth: Path) -> "Pairing":
    from unetbio.io import Pairing, pair

    # Two files belong together whatever they are called.
    if predicted.is_file() and truth.is_file():
        return Pairing(((predicted, truth),), (), ())
    return pair(predicted, truth, predictions=True)


def _parse_thresholds(text: str) -> tuple[float, ...]:
    try:
        thresholds = tuple(float(part) for part in text.split(","))
    except ValueError:
        thresholds = ()
    if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
        raise UsageError(
            f"--thresholds {text}: needs numbers above 0 and at most 1 with commas between, such as 0.5,0.75"
        )
    return tuple(sorted(set(thresholds)))


def _compare(found: Path, true: Path, evaluation: _Evaluation) -> None:
    """Compare one pair, or note why that failed and go on."""
    logger.info("%s against %s", found, true)
    try:
        one = _read(found, evaluation, is_truth=False)
        other = _read(true, evaluation, is_truth=True)
        evaluation.compared.append((found, true, _compare_frames(one, other, evaluation)))
    except ImageError as error:
        logger.error("%s against %s: %s [%s]", found, true, error, error.reason)
        evaluation.failed.append((found, true, error))


def _read(path: Path, evaluation: _Evaluation, *, is_truth: bool) -> tuple[Any, bool]:
    """A mask as it is compared, and whether its first axis is time."""
    import numpy as np

    from unetbio.labels import check_plausible

    try:
        mask, axes = _read_with_axes(path, evaluation)
        check_plausible(mask, "the mask")
        has_time = axes.startswith("T")
        frames = [evaluation.comparer.prepare(frame, is_truth=is_truth) for frame in (mask if has_time else [mask])]
    except ImageError as error:
        raise ImageError(error.reason, f"{path.name}: {error}") from error
    return np.stack(frames) if has_time else frames[0], has_time


def _read_with_axes(path: Path, evaluation: _Evaluation) -> tuple[Any, str]:
    """A label image and its axes: those of the file, and where it does not say, those of the option."""
    from unetbio.io import read_image, read_labels

    def read(axes: str | None) -> tuple[Any, str]:
        return (
            read_labels(path, axes=axes, allow_binary=evaluation.comparer.allow_binary),
            read_image(path, axes=axes).axes,
        )

    try:
        return read(None)
    except ImageError as error:
        if error.reason != "unknown_axes" or evaluation.axes is None:
            raise
    return read(evaluation.axes)


def _compare_frames(found: tuple[Any, bool], true: tuple[Any, bool], evaluation: _Evaluation) -> Any:
    """Compare masks; each time point is an image of its own, since ids need not agree over time."""
    (one, one_has_time), (other, other_has_time) = found, true
    in_time = one_has_time and other_has_time and one.shape == other.shape
    frames = zip(one, other, strict=True) if in_time else [(one, other)]
    return reduce(add, (evaluation.comparer.compare(*frame) for frame in frames))


def _content(evaluation: _Evaluation) -> dict[str, Any]:
    return {
        **evaluation.comparer.settings(),
        POOLED: _without_nan(evaluation.pooled()) if evaluation.compared else None,
        "images": [
            {"predicted": str(found), "truth": str(true), **_without_nan(scores)}
            for found, true, scores in evaluation.rows()
        ],
        "failed": [
            {"predicted": str(found), "truth": str(true), "reason": error.reason, "message": str(error)}
            for found, true, error in evaluation.failed
        ],
    }


def _without_nan(scores: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in scores.items()}


def _csv(evaluation: _Evaluation) -> str:
    """One row a pair, then the pooled scores."""
    rows = [(str(found), str(true), scores) for found, true, scores in evaluation.rows()]
    if rows:
        rows.append((POOLED, "", evaluation.pooled()))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["predicted", "truth", *(rows[0][2] if rows else ())])
    for found, true, scores in rows:
        writer.writerow([found, true, *("" if math.isnan(value) else value for value in scores.values())])
    return stream.getvalue()


def _table(evaluation: _Evaluation) -> str:
    """The main scores, for people."""
    columns = evaluation.comparer.columns()
    rows = [(found.name, scores) for found, _, scores in evaluation.rows()]
    cells = [["image", *columns.values()]]
    for name, scores in [*rows, (POOLED, evaluation.pooled())]:
        cells.append([name, *(_format(column, scores[column]) for column in columns)])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    )


def _format(column: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if column.startswith("n_"):
        return str(int(value))
    return f"{value:.1f}" if column.endswith("per_100") else f"{value:.3f}"
