"""Put the tables and pictures of a comparison into the documentation.

    python benchmarks/comparison_docs.py COMPARISON LEARNING

COMPARISON is the output folder of ``unetbio compare`` over all networks and lessons, LEARNING that of the short
training of every network; see benchmarks/README.md. Their tables are copied to ``docs/comparison.csv`` and
``docs/learning.csv``, the pictures are made smaller and go to ``docs/images/comparison/``, and in ``docs/*.md`` each
table behind a comment such as ``<!-- comparison: fcn16s, fcn8s -->``, ``<!-- comparison: all -->``,
``<!-- lesson: skips -->`` or ``<!-- learning: all -->`` is written anew.
"""

import argparse
import csv
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from unetbio.compare.lessons import LESSONS
from unetbio.compare.table import COLUMNS

DOCS = Path(__file__).resolve().parents[1] / "docs"
TABLE = re.compile(r"<!-- (comparison|lesson|learning): (.*?) -->\n(?:\|.*\n)*")
FEW = ("AP@.5", "foreground_IoU", "IoU_of_oracle", "boundary_F1", "merges_per_100", "seconds_per_megapixel")
LEARNING = ("AP@.5", "foreground_IoU", "output_stride", "oracle_IoU", "IoU_of_oracle", "seconds_trained")
MANY = tuple(column.key for column in COLUMNS if column.key not in ("mean_AP", "F1@.5", "steps", "seconds_trained"))
PICTURE_WIDTH = 1600

Rows = Mapping[str, Mapping[str, str]]
"""Rows of a table in CSV, by network."""


def read_rows(path: Path) -> Rows:
    """The rows of ``comparison.csv``."""
    with open(path, newline="", encoding="utf-8") as stream:
        return {row["network"]: row for row in csv.DictReader(stream)}


def tables(text: str, comparison: Rows, learning: Rows) -> str:
    """A page with its tables written anew."""

    def table(kind: str, names: str) -> str:
        if kind == "lesson":
            return markdown([comparison[name] for name in LESSONS[names].names], MANY)
        if kind == "learning":
            return markdown(list(learning.values()), LEARNING)
        if names == "all":
            return markdown([row for name, row in comparison.items() if re.fullmatch(r"\w+", name)], MANY)
        return markdown([comparison[name.strip()] for name in names.split(",")], FEW)

    return TABLE.sub(lambda found: f"{found[0].splitlines()[0]}\n{table(found[1], found[2])}", text)


def markdown(rows: Sequence[Mapping[str, str]], keys: Sequence[str]) -> str:
    """A table in Markdown."""
    columns = [column for column in COLUMNS if column.key in keys]
    lines = [f"| network | {' | '.join(column.heading for column in columns)} |", f"|---|{'---:|' * len(columns)}"]
    for row in rows:
        texts = [row[c.key] and (row[c.key] if c.form is str else c.form(float(row[c.key]))) for c in columns]
        lines.append(f"| `{row['network']}` | {' | '.join(texts)} |")
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("learning", type=Path)
    arguments = parser.parse_args()
    rows = []
    for folder, name in ((arguments.comparison, "comparison.csv"), (arguments.learning, "learning.csv")):
        shutil.copyfile(folder / "comparison.csv", DOCS / name)
        rows.append(read_rows(DOCS / name))
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(tables(page.read_text(encoding="utf-8"), *rows), encoding="utf-8")
    pictures = DOCS / "images" / "comparison"
    pictures.mkdir(exist_ok=True)
    for stem in ("comparison", *(f"lesson_{name}" for name in LESSONS)):
        with Image.open(arguments.comparison / f"{stem}.png") as picture:
            picture.thumbnail((PICTURE_WIDTH, 100 * PICTURE_WIDTH))
            picture.convert("RGB").save(pictures / f"{stem}.jpg", quality=85)


if __name__ == "__main__":
    main()
