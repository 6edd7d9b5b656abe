"""Tables, pictures and page of a comparison."""

import functools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import jinja2
import numpy as np
from numpy.typing import NDArray

from unetbio.compare.data import Examples, result_names
from unetbio.compare.lessons import LESSONS
from unetbio.compare.pictures import choose_panels, draw_panel
from unetbio.compare.runs import Row, prediction_path
from unetbio.compare.table import COLUMNS, caption, cells, write_csv, write_markdown
from unetbio.compare.variants import lesson_variants
from unetbio.files import stopping, write_text
from unetbio.io import read_labels
from unetbio.output_layout import PAGE
from unetbio.settings.training import TrainingConfig
from unetbio.targets.cells import mask_annotated
from unetbio.training.data.dataset import Example

__all__ = ["STEM", "write_results"]

STEM = "comparison"
PANELS = "panels"
MOST_PANELS = 12

SHOWN_QUANTILE = 0.75
"""Quantile, by number of cells, of the image beside each table."""


@dataclass(frozen=True)
class _Section:
    """A table and its picture."""

    stem: str
    title: str
    question: str
    rows: Sequence[Row]


def write_results(
    out: Path,
    rows: Sequence[Row],
    examples: Examples,
    config: TrainingConfig,
    scored_on: str,
    lessons: Sequence[str],
) -> Path:
    """Write tables and pictures of all variants and of each lesson, and a page that shows them.

    Parameters
    ----------
    out : path
        Folder with the results of `compare_variants`.
    rows, examples
        Results and images of `compare_variants`.
    config : TrainingConfig
        Settings of the comparison, for the ignored label.
    scored_on : str
        Images that the scores were measured on, for the caption.
    lessons : sequence of str
        Names of `LESSONS`; each gets a table and a picture.

    Returns
    -------
    path
        The table of all variants, in Markdown.
    """
    sections = [_Section(STEM, "Comparison", "", rows), *(_lesson_section(name, rows) for name in lessons)]
    for section in sections:
        table = write_markdown(section.title, section.question, section.rows, scored_on)
        write_text(out / f"{section.stem}.md", table)
        write_text(out / f"{section.stem}.csv", write_csv(section.rows))
    panels = _draw(out, sections, _annotated(examples.scored, config))
    write_text(out / PAGE, _page(sections, caption(rows, scored_on), panels))
    return out / f"{STEM}.md"


def _lesson_section(name: str, rows: Sequence[Row]) -> _Section:
    by_variant = {row.variant: row for row in rows}
    lesson = LESSONS[name]
    return _Section(
        f"lesson_{name}", lesson.title, lesson.question, [by_variant[variant] for variant in lesson_variants(name)]
    )


def _annotated(examples: Sequence[Example], config: TrainingConfig) -> list[Example]:
    """Examples whose truth holds cells alone, and no area without annotation."""
    return [
        replace(example, label_image=mask_annotated(example.label_image, example.label_image, config))
        for example in examples
    ]


def _draw(out: Path, sections: Sequence[_Section], scored: Sequence[Example]) -> list[Path]:
    """Draw panels of some images, and for each table one of an image with many cells, but not the most."""
    names = result_names(scored)
    with stopping(out):
        # Remove panels of other images from an earlier run.
        shutil.rmtree(out / PANELS, ignore_errors=True)
    panels = []
    for number in choose_panels(len(names), MOST_PANELS):
        panels.append(out / PANELS / f"{names[number]}.png")
        found = _found(out, sections[0].rows, names[number])
        draw_panel(scored[number], found, panels[-1], title=names[number])
    by_cells = sorted(range(len(names)), key=lambda number: len(np.unique(scored[number].label_image)))
    shown = by_cells[round(SHOWN_QUANTILE * (len(names) - 1))]
    for section in sections:
        found = _found(out, section.rows, names[shown])
        draw_panel(scored[shown], found, out / f"{section.stem}.png", title=names[shown])
    return panels


def _found(out: Path, rows: Sequence[Row], name: str) -> dict[str, NDArray[np.integer]]:
    """Label images of one image from all variants."""
    return {
        row.variant.name: read_labels(prediction_path(out, row.variant, name), allow_binary=True)
        for row in rows
        if not row.failure
    }


def _page(sections: Sequence[_Section], text: str, panels: Sequence[Path]) -> str:
    context = {
        "title": "Networks compared",
        "caption": text,
        "columns": COLUMNS,
        "sections": [
            {
                "stem": section.stem,
                "title": section.title,
                "question": section.question,
                "rows": [(row.variant.name, cells(row), row.failure) for row in section.rows],
            }
            for section in sections
        ],
        "panels": [(panel.stem, quote(f"{PANELS}/{panel.name}")) for panel in panels],
        "version": version("unetbio"),
    }
    return _template().render(context)


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unetbio.compare", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html")
