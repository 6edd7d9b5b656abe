"""Score predicted label images or class masks against the truth; files are paired by their names."""

import contextlib
import csv
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetbio.classes import default_class_names
from unetbio.errors import ImageError, UsageError
from unetbio.files import open_regular
from unetbio.io import Image, Pairing, pair, read_image
from unetbio.io.cell_classes import CellClasses, cell_classes_path, check_one_image, read_cell_classes
from unetbio.io.grey_pictures import COLOURS
from unetbio.io.labels import labels_of
from unetbio.io.pairing.matching import open_mask, read_mask
from unetbio.io.tables import csv_text, plain_cell
from unetbio.labels import check_plausible, is_binary_mask, split_components
from unetbio.metrics.cell_classes import ClassedComparison, compare_classed
from unetbio.metrics.classes import ClassComparison, compare_classes
from unetbio.metrics.instances import THRESHOLDS, Comparison, compare, short
from unetbio.notes import say_without_effect
from unetbio.output_layout import CLASSES, provenance_name
from unetbio.provenance import read_provenance
from unetbio.settings.training import MAX_CLASSES
from unetbio.supervision.annotations import NUMBERED, UNANNOTATED, map_classes

__all__ = ["Evaluation", "evaluate"]

logger = logging.getLogger(__name__)

POOLED = "pooled"

FEW_CLASSES = 32
"""A prediction of fewer classes may be noise; images have more grey values."""

_Mask = NDArray[Any]
_Times = tuple[int | None, ...]
_Comparison = Comparison | ClassedComparison | ClassComparison
_Scored = tuple[Path, Path, _Comparison]


class _Comparer(Protocol):
    """Comparison of one kind of mask: label images, or class masks."""

    @property
    def allow_binary(self) -> bool:
        """Whether masks of 0 and 1 (or 255) are accepted."""

    @property
    def noise_below(self) -> int:
        """Predictions of numbers below it alone may be noise; others are images given by mistake."""

    def prepare(self, mask: _Mask, *, is_truth: bool) -> _Mask:
        """Prepare the mask of one time point for the comparison."""

    def of_pair(self, found: Path, true: Path, series_count: int) -> "_Comparer":
        """The comparison of two files, with what stands beside them."""

    def compare(self, found: _Mask, true: _Mask, t: int) -> Any:
        """Counts that can be added; of the frame ``t``."""

    def scores(self, comparison: Any) -> dict[str, float]:
        """Scores by name."""

    def columns(self) -> dict[str, str]:
        """Scores of the printed table, and their headings."""

    def settings(self) -> dict[str, Any]:
        """Settings of the comparison, for the JSON."""


@dataclass(frozen=True)
class _Cells:
    """Label images; ``parted`` counts those that were made of the connected parts of a mask."""

    thresholds: tuple[float, ...]
    tolerance: float
    allow_binary: bool
    parted: list[bool] = field(default_factory=list)
    noise_below = 0

    def prepare(self, mask: _Mask, *, is_truth: bool) -> _Mask:
        if not (self.allow_binary and is_binary_mask(mask)):
            return mask
        self.parted.append(is_truth)
        return split_components(mask)

    def of_pair(self, found: Path, true: Path, series_count: int) -> _Comparer:
        return self

    def compare(self, found: _Mask, true: _Mask, t: int) -> Any:
        return compare(found, true, thresholds=self.thresholds, tolerance=self.tolerance)

    def scores(self, comparison: Any) -> dict[str, float]:
        scores: dict[str, float] = comparison.scores()
        return scores

    def columns(self) -> dict[str, str]:
        first = short(self.thresholds[0])
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


@dataclass(frozen=True)
class _ClassedCells(_Cells):
    """Label images, with the classes of cells in the tables beside them."""

    tables: tuple[CellClasses, CellClasses] = ({}, {})
    times: tuple[_Times, _Times] = ((), ())
    """Of the frames, where the tables name them: by the provenance of the prediction."""

    def prepare(self, mask: _Mask, *, is_truth: bool) -> _Mask:
        return mask

    def of_pair(self, found: Path, true: Path, series_count: int) -> _Comparer:
        with _naming(found):
            check_one_image(series_count)
        predicted, truth = (read_cell_classes(cell_classes_path(path)) for path in (found, true))
        provenance = read_provenance(found.with_name(provenance_name(found.name)))
        times = tuple(frame.t for frame in provenance.frames) if provenance else ()
        return replace(self, tables=(predicted, truth), times=(times, times if _names(truth, times) else ()))

    def compare(self, found: _Mask, true: _Mask, t: int) -> Any:
        predicted, truth = (_at(t, *table) for table in zip(self.tables, self.times, strict=True))
        return compare_classed((found, predicted), (true, truth), thresholds=self.thresholds, tolerance=self.tolerance)

    def columns(self) -> dict[str, str]:
        quality = f"class_PQ@{short(self.thresholds[0])}"
        more = {"class_mean_AP": "class mean AP", quality: quality.replace("_", " "), "class_accuracy": "class acc."}
        return {**super().columns(), **more}


def _names(table: CellClasses, times: _Times) -> bool:
    """Whether a table names these times, and does not count frames: one of them is the number of no frame."""
    return set(table) <= {None, *times} and any(t is not None and t >= len(times) for t in table)


def _at(frame: int, table: CellClasses, times: _Times) -> Mapping[int, str]:
    """Classes of the cells of a frame."""
    return table.get(times[frame] if frame < len(times) else frame, table.get(None, {}))


@dataclass
class _Classes:
    """Class masks; ``names`` grows when a mask holds a class that has none."""

    tolerance: float
    values: tuple[int, ...]
    ignore_label: int | None
    names: tuple[str, ...]
    most_classes: int = field(init=False)
    allow_binary = True
    noise_below = FEW_CLASSES

    def __post_init__(self) -> None:
        # The number of classes follows from the values or the names, whichever are more; 0 = unknown.
        self.most_classes = max(len(self.values), len(self.names)) if self.values else 0

    def prepare(self, mask: _Mask, *, is_truth: bool) -> _Mask:
        if is_truth:
            return map_classes(mask, self.values or range(MAX_CLASSES), self.ignore_label)
        # Predictions are not mapped: in a prediction of 0 and 1, a 1 could be a class or a value.
        most = self.most_classes or MAX_CLASSES
        if mask.size and mask.max() >= most:
            raise ImageError(
                "unknown_class",
                f"holds {mask.max()}, which is none of the classes 0 to {most - 1}: a prediction holds the number of "
                "the class, as unetbio segment writes it; --class-values is about the truth",
            )
        return mask

    def of_pair(self, found: Path, true: Path, series_count: int) -> _Comparer:
        return self

    def compare(self, found: _Mask, true: _Mask, t: int) -> Any:
        comparison = compare_classes(found, true, ignore_label=UNANNOTATED, tolerance=self.tolerance)
        self.names += default_class_names(len(comparison.confusion))[len(self.names) :]
        return comparison

    def scores(self, comparison: ClassComparison) -> dict[str, float]:
        return comparison.scores(self.names)

    def columns(self) -> dict[str, str]:
        pooled = {
            "mean_IoU": "mean IoU",
            "mean_Dice": "mean Dice",
            "pixel_accuracy": "pixel accuracy",
            "boundary_F1": "boundary F1",
        }
        return pooled | {f"IoU {name}": f"IoU {name}" for name in self.names}

    def settings(self) -> dict[str, Any]:
        return {"classes": list(self.names), "boundary_tolerance_px": self.tolerance}


@dataclass(frozen=True)
class Evaluation:
    """Scores of every pair, and of all pairs together.

    Parameters
    ----------
    pairing : Pairing
        Compared files, and files without a partner.
    compared : list of (path, path, comparison)
        Prediction, truth, and counts for the two.
    failed : list of (path, path, ImageError)
        Pairs that could not be compared, with the reason.
    """

    pairing: Pairing
    _comparer: _Comparer
    compared: list[_Scored] = field(default_factory=list)
    failed: list[tuple[Path, Path, ImageError]] = field(default_factory=list)

    def rows(self) -> list[tuple[Path, Path, dict[str, float]]]:
        """Prediction, truth and scores by name, of each pair; NaN where a score has no value."""
        return [(found, true, self._comparer.scores(comparison)) for found, true, comparison in self.compared]

    def pooled(self) -> dict[str, float]:
        """Scores over all pairs, which count pixels and cells of all as if they were one image; empty without pairs."""
        comparisons: list[Any] = [comparison for _, _, comparison in self.compared]
        return self._comparer.scores(reduce(add, comparisons)) if comparisons else {}

    def as_dict(self) -> dict[str, object]:
        """Scores, pairs and failures as plain values for JSON; None for NaN."""
        return {
            **self._comparer.settings(),
            POOLED: _without_nan(self.pooled()) or None,
            "images": [
                {"predicted": str(found), "truth": str(true), **_without_nan(scores)}
                for found, true, scores in self.rows()
            ],
            "failed": [
                {"predicted": str(found), "truth": str(true), "reason": error.reason, "message": str(error)}
                for found, true, error in self.failed
            ],
            "predictions_without_truth": [str(path) for path in self.pairing.images_left],
            "truth_without_prediction": [str(path) for path in self.pairing.masks_left],
        }

    def csv(self) -> str:
        """One row a pair, then the pooled scores."""
        rows = [(str(found), str(true), scores) for found, true, scores in self.rows()]
        if rows:
            rows.append((POOLED, "", self.pooled()))
        # Images can hold different classes.
        names = list(dict.fromkeys(name for *_, scores in rows for name in scores))
        texts = [
            [found, true, *("" if math.isnan(value := scores.get(name, math.nan)) else value for name in names)]
            for found, true, scores in rows
        ]
        return csv_text([["predicted", "truth", *names], *texts])

    def table(self) -> str:
        """Main scores as a text table."""
        columns = self._comparer.columns()
        rows = [(found.name, scores) for found, _, scores in self.rows()]
        cells = [["image", *columns.values()]]
        for name, scores in [*rows, (POOLED, self.pooled())]:
            cells.append([name, *(_format(column, scores.get(column, math.nan)) for column in columns)])
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        return "\n".join(
            "  ".join(
                [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in cells
        )


def evaluate(
    predicted: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    *,
    thresholds: Sequence[float] | None = None,
    tolerance: float = 2.0,
    split_components: bool = False,
    classes: bool = False,
    class_values: Sequence[int] | None = None,
    ignore_label: int | None = None,
    axes: str | None = None,
    cell_classes: bool = False,
) -> Evaluation:
    """Score predicted label images, or class masks, against the truth, as the command ``unetbio evaluate`` does.

    Parameters
    ----------
    predicted, truth : path
        Folders or files, paired by their names: ``x_labels.ome.tif`` belongs to ``x.tif``, ``x_mask.png`` ... Two files
        form a pair under any names. ``classes.csv`` beside predictions names the classes.
    thresholds : sequence of float, optional
        IoU from which cells match; 0.5, 0.55 ... 0.95 unless given.
    tolerance : float
        Pixels that boundaries may lie apart.
    split_components : bool
        Take each connected part of a 0/1 or 0/255 mask as a cell.
    classes : bool
        The masks hold classes, not cells.
    class_values : sequence of int, optional
        With ``classes``: the value in the truth for each class, such as ``(0, 255)``. Predictions hold 0, 1, 2 ...
    ignore_label : int, optional
        With ``classes``: the value in the truth of pixels that are not annotated.
    axes : str, optional
        Axes of files that do not state them, such as ``ZYX`` or ``TYX``.
    cell_classes : bool
        Score the classes of cells too, which stand in ``x_objects.csv`` beside prediction and truth
        (`unetbio.io.cell_classes`).

    Returns
    -------
    Evaluation
        Pairs that cannot be compared are in its ``failed``; the other pairs are scored.

    Raises
    ------
    UsageError
        When options do not go together, or nothing can be paired.
    """
    comparer: _Comparer
    predicted, truth = Path(predicted), Path(truth)
    if classes:
        if thresholds is not None or split_components or cell_classes:
            raise UsageError(
                "--thresholds, --split-components and --cell-classes are about cells: leave them out with --classes"
            )
        comparer = _Classes(tolerance, tuple(class_values or ()), ignore_label, _class_names(predicted))
    else:
        if class_values is not None or ignore_label is not None:
            raise UsageError("--class-values and --ignore-label are about classes: say --classes too")
        if split_components and cell_classes:
            raise UsageError("--split-components numbers cells anew: leave it out with --cell-classes")
        kind = _ClassedCells if cell_classes else _Cells
        # A mask of 0 and 1 beside a table of classes has one cell.
        allow_binary = split_components or cell_classes
        comparer = kind(THRESHOLDS if thresholds is None else tuple(thresholds), tolerance, allow_binary)
    evaluation = Evaluation(_pair(predicted, truth), comparer)
    for path in evaluation.pairing.images_left:
        logger.warning("%s has no truth", path)
    for path in evaluation.pairing.masks_left:
        logger.warning("%s has no prediction", path)
    for found, true in evaluation.pairing.pairs:
        logger.info("%s against %s", found, true)
        try:
            evaluation.compared.append((found, true, _compare_files(found, true, comparer, axes)))
        except ImageError as error:
            logger.error("%s against %s: %s [%s]", found, true, error, error.reason)
            evaluation.failed.append((found, true, error))
    if split_components and evaluation.compared and not (isinstance(comparer, _Cells) and comparer.parted):
        say_without_effect("--split-components", NUMBERED)
    return evaluation


def _class_names(predicted: Path) -> tuple[str, ...]:
    """Names of the classes, from the palette beside the masks."""
    path = (predicted if predicted.is_dir() else predicted.parent) / CLASSES
    try:
        with open_regular(path, "r", newline="", encoding="utf-8") as stream:
            return tuple(plain_cell(row["name"]) for row in csv.DictReader(stream))
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise UsageError(f"{path} cannot be read as a table of classes: {error}") from error


def _pair(predicted: Path, truth: Path) -> Pairing:
    # Two files form a pair under any names.
    if predicted.is_file() and truth.is_file():
        return Pairing(((predicted, truth),), (), ())
    return pair(predicted, truth, predictions=True)


def _compare_files(found: Path, true: Path, comparer: _Comparer, axes: str | None) -> _Comparison:
    """Compare masks, each image of files that hold as many images."""
    with _naming(found):
        first = _open(found, true, axes, 0)
        others = [_open(found, true, axes, number) for number in range(1, first.series_count)]
    with _naming(true):
        count = open_mask(true, first, axes).series_count
        if count != first.series_count:
            raise ImageError(
                "series_differ",
                f"images in it: {count}, in {found.name}: {first.series_count}; give files of as many",
            )
    compared: _Comparison = reduce(
        add, (_compare_images(found, image, true, comparer, axes) for image in (first, *others))
    )
    return compared


def _compare_images(found: Path, image: Image, true: Path, comparer: _Comparer, axes: str | None) -> _Comparison:
    """Compare a mask with the truth; each time point is an image of its own, since ids need not agree over time."""
    with _naming(found):
        predicted = labels_of(image, allow_binary=comparer.allow_binary)
        one, one_has_time = _prepared(predicted, image.axes, comparer, is_truth=False)
    with _naming(true):
        mask, mask_axes = read_mask(true, image, axes=axes, allow_binary=comparer.allow_binary)
        other, other_has_time = _prepared(mask, mask_axes, comparer, is_truth=True)
    in_time = one_has_time and other_has_time and one.shape == other.shape
    frames = zip(one, other, strict=True) if in_time else [(one, other)]
    with_tables = comparer.of_pair(found, true, image.series_count)
    compared: _Comparison = reduce(add, (with_tables.compare(*frame, t) for t, frame in enumerate(frames)))
    return compared


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file at fault in front of an error."""
    try:
        yield
    except ImageError as error:
        raise ImageError(error.reason, f"{path.name}: {error}") from error


def _open(found: Path, true: Path, axes: str | None, series: int) -> Image:
    """Open a prediction.

    Axes of the option stand over those of a file with as many, unless its channels are colours. Without it, a file that
    does not name them, or calls times or sections channels as ImageJ does by default, has those of the truth.
    """
    try:
        image = read_image(found, labels=True, series=series)
    except ImageError as error:
        if error.reason != "unknown_axes":
            raise
        if axes is not None:
            return read_image(found, axes=axes, labels=True, series=series)
        with contextlib.suppress(ImageError):
            return open_mask(found, read_image(true, labels=True, series=series))
        raise
    is_colour = image.channel_names[: len(COLOURS)] == COLOURS
    if axes is not None and len(axes) == len(image.axes) and not is_colour:
        return read_image(found, axes=axes, labels=True, series=series)
    if "C" in image.axes and not any(image.channel_names):
        with contextlib.suppress(ImageError):
            truth = read_image(true, labels=True, series=series)
            if truth.shape == image.shape:
                return read_image(found, axes=truth.axes, labels=True, series=series)
    return image


def _prepared(mask: _Mask, axes: str, comparer: _Comparer, *, is_truth: bool) -> tuple[_Mask, bool]:
    """A mask for the comparison, and whether its first axis is time."""
    if is_truth or mask.max(initial=0) >= comparer.noise_below:
        check_plausible(mask, "the mask")
    has_time = axes.startswith("T")
    frames = [comparer.prepare(frame, is_truth=is_truth) for frame in (mask if has_time else [mask])]
    return np.stack(frames) if has_time else frames[0], has_time


def _without_nan(scores: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in scores.items()}


def _format(column: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if column.startswith("n_"):
        return str(int(value))
    return f"{value:.1f}" if column.endswith("per_100") else f"{value:.3f}"
