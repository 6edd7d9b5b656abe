"""Images of a comparison: to train on, to choose thresholds on, and to be scored on."""

import csv
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from unetbio.config import TrainingConfig
from unetbio.datasets import AnnotatedFiles, Example, find_pairs, load_examples
from unetbio.errors import UsageError
from unetbio.files import sha256_file
from unetbio.io import stem

__all__ = ["ComparisonFiles", "Examples", "find_files", "load", "result_names"]

TEST = "test"
DELIMITERS = {".csv": ",", ".tsv": "\t"}

PathPair = tuple[Path, Path]


@dataclass(frozen=True)
class ComparisonFiles:
    """Images and label images.

    Parameters
    ----------
    trained : AnnotatedFiles
        What training sees; see `find_pairs`.
    test : sequence of (path, path)
        What it does not see; empty where the validation images have to do.
    """

    trained: AnnotatedFiles
    test: Sequence[PathPair] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the names of all files, what each is for, and their bytes."""
        parts = {"training": self.trained.training, "validation": self.trained.validation, TEST: self.test}
        digest = hashlib.sha256()
        for part, pairs in parts.items():
            for image, mask in pairs:
                digest.update(f"{part} {image.name} {sha256_file(image)} {sha256_file(mask)}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Examples:
    """Annotated images in memory; ``scored`` are the test images, or where there are none those of the validation."""

    training: list[Example]
    validation: list[Example]
    scored: list[Example]


def find_files(inputs: Sequence[Path], root: Path | None = None) -> ComparisonFiles:
    """Find annotated images as `find_pairs` does; the rows of a table may also say ``test`` in the column split.

    Raises
    ------
    UsageError
        As `find_pairs`.
    """
    if len(inputs) == 1 and inputs[0].suffix.lower() in DELIMITERS:
        rows, splits = _rows_and_splits(inputs[0])
        if TEST in splits:
            return _files_with_test(inputs[0], rows, splits, root or inputs[0].parent)
    return ComparisonFiles(find_pairs(inputs, root))


def load(files: ComparisonFiles, config: TrainingConfig) -> Examples:
    """Read all images.

    Raises
    ------
    ImageError, UsageError
        As `load_training_data`.
    """
    # Here, so that what can be refused without torch is.
    from unetbio.training import load_training_data

    training, validation = load_training_data(files.trained, config)
    test = load_examples(files.test, config, like=training[0])
    return Examples(training, validation, test or validation)


def result_names(examples: Sequence[Example]) -> list[str]:
    """A name for what is made of each image: its stem, with a number where others have the same."""
    stems = [stem(example.name) for example in examples]
    return [
        name if stems.count(name) == 1 else f"{name}_{stems[:number].count(name) + 1}"
        for number, name in enumerate(stems)
    ]


def _rows_and_splits(table: Path) -> tuple[list[list[str]], list[str]]:
    """Rows of a table, the heading first, and the split of each below it; no rows where it cannot be read."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream, delimiter=DELIMITERS[table.suffix.lower()]) if row]
    except (OSError, UnicodeDecodeError, csv.Error):
        return [], []  # find_pairs says why
    if not rows or "split" not in rows[0]:
        return rows, []
    column = rows[0].index("split")
    return rows, [row[column] if column < len(row) else "" for row in rows[1:]]


def _files_with_test(table: Path, rows: list[list[str]], splits: list[str], root: Path) -> ComparisonFiles:
    # find_pairs knows two parts: it gets the test images as further validation images, and they are told apart again.
    column = rows[0].index("split")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, table.name)
        with open(copy, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter=DELIMITERS[table.suffix.lower()])
            writer.writerow(rows[0])
            for row, split in zip(rows[1:], splits, strict=True):
                writer.writerow([*row[:column], "validation", *row[column + 1 :]] if split == TEST else row)
        try:
            found = find_pairs([copy], root)
        except UsageError as error:
            raise UsageError(str(error).replace(str(copy), str(table))) from error
    held_out = list(zip(found.validation, [split for split in splits if split in ("validation", TEST)], strict=True))
    validation = [pair for pair, split in held_out if split != TEST]
    return ComparisonFiles(
        AnnotatedFiles(found.training, validation, found.leftovers), [pair for pair, split in held_out if split == TEST]
    )
