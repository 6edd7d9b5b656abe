"""The offline page of a run: failures, numbers, overlays and settings."""

import csv
import functools
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np

from unetbio.classes import hex_colours
from unetbio.errors import UsageError
from unetbio.files import real_path, remove_stale, stamp, write_text
from unetbio.io.tables import read_csv
from unetbio.output_layout import (
    LINKED_FILES,
    PAGE,
    SUMMARY,
    overlay_name,
    provenance_name,
    result_name,
    track_picture_name,
)
from unetbio.preprocessing.likeness import REASONS
from unetbio.provenance import CELL_CLASSES, Provenance, read_provenance
from unetbio.report.checked import Checked, read_check
from unetbio.report.histograms import cell_sizes, histogram
from unetbio.report.plates import WellImage, heat_maps
from unetbio.report.wording import counted, grouped, readable
from unetbio.results.journal import GONE, Entry, newest_entries, read_journals
from unetbio.results.reuse import state_of_labels
from unetbio.results.tables.lineages import read_lineage
from unetbio.results.verification import find_differences
from unetbio.settings.base import flattened

__all__ = ["write_page"]

# Pages with this many rows still open fast; summary.csv has all rows.
MAX_ROWS = 5000
MAX_FAILURES = 200
MAX_CHECKED = 50
MAX_WARNINGS = 20
MAX_NAMES = 3

# Text on the page for each warning of the summary.
WARNINGS = {
    "above_limits": "all pixels are brighter than the grey values of --normalize: percentiles are written p1,p99.8",
    "below_limits": "all pixels are darker than the grey values of --normalize",
    "constant": "the same grey value everywhere",
    "constant_channel": "one of the channels has the same grey value everywhere",
    "filled": "single pixels were NaN and have the grey value of their neighbours (--nan fill)",
    "glass_left_out": "glass around the tissue was left out (--tissue auto)",
    "no_glass": "no glass was found, so that all was segmented (--tissue auto)",
    "cut_file": "the file was cut, by a crash or while it was copied: what is whole was segmented",
    "damaged": "parts of the image cannot be decoded and are background (--partial)",
    "edited": "the mask was edited by hand or has no provenance, and is kept",
    "more_series": "the file holds more images than the one that was segmented (--series)",
    "missing_planes": "planes are missing: files that are not there, or an acquisition that stopped",
    "no_cells": "no cells were found",
    "not_exact": "computed in bfloat16: tiles, processors and devices may change the mask (--precision)",
    "not_stored": "parts of the image are not in the file and were taken to be empty",
    "outside_training_range": "the cells have another size than those the model was trained on",
    "saturated": "many pixels are as bright as the camera can tell",
    "unknown": "parts of the image are NaN and background in the mask (--nan fill)",
    "unlike_training": "the image is unlike those the model was trained on",
    "unsure_scale": "the scale may be wrong: look at the cells, and give --diameter PX if they are in pieces or merged",
}
# Warnings whose reasons follow a colon, and the reasons in words.
REASONS_OF = {"unlike_training": REASONS}
HEADINGS = {
    "path": "image",
    "n_cells": "cells",
    "median_diameter_px": "median diameter (px)",
    "area_fraction": "area fraction",
    "pixel_size_um": "pixel size (um)",
}
NUMERIC = {"series", "t", "n_cells", "median_diameter_px", "area_fraction", "zoom", "pixel_size_um"}
# Columns of classes are named by them.
NUMERIC_OF_CLASSES = ("area_fraction_", "n_cells_")


# Path and series. A time-lapse is one image, and has a row for each time.
_Image = tuple[str, str]


@dataclass(frozen=True)
class _Row:
    """One row of the summary, with its journal entry and overlay."""

    values: Mapping[str, str]
    message: str
    overlay: str | None

    @property
    def failed(self) -> bool:
        return self.values.get("status") == "failed"

    @property
    def reason(self) -> str:
        return self.values.get("reason") or "failed"

    @property
    def warnings(self) -> list[str]:
        return [code for code, _ in self._warnings]

    @property
    def warning_texts(self) -> list[str]:
        """Warnings in words, with reasons."""
        texts = []
        for code, detail in self._warnings:
            reason = REASONS_OF.get(code, {}).get(detail)
            texts.append(WARNINGS.get(code, code) + (f": {reason}" if reason else ""))
        return texts

    @property
    def _warnings(self) -> list[tuple[str, str]]:
        # Numbers and reasons follow a colon.
        words = self.values.get("warnings", "").replace(",", " ").replace(";", " ").split()
        return [(word.partition(":")[0], word.partition(":")[2]) for word in words]

    @property
    def n_cells(self) -> int | None:
        text = self.values.get("n_cells", "")
        return int(float(text)) if text else None

    @property
    def time(self) -> int:
        text = self.values.get("t", "")
        return int(text) if text.isdecimal() else 0

    @property
    def image(self) -> _Image:
        return self.values.get("path", ""), self.values.get("series", "")

    @property
    def name(self) -> str:
        time = self.values.get("t")
        return _name(self.image) + (f", t {time}" if time else "")

    @property
    def cells_text(self) -> str:
        return "" if self.n_cells is None else counted(self.n_cells, "cell")

    @property
    def text(self) -> str:
        """Text that the filter searches."""
        parts = (self.name, self.values.get("status", ""), self.values.get("reason", ""), *self.warnings)
        return " ".join(part for part in parts if part).lower()


def write_page(out: str | os.PathLike[str], check: Path | None = None) -> Path:
    """Write ``OUT/index.html`` from the summary, the table of cells, the journals and the overlays of a run.

    The page needs only the files beside it, and no network. Failures come first.

    Parameters
    ----------
    out : path-like
        The output folder, with ``summary.csv``; all other files are optional.
    check : pathlib.Path, optional
        Output of ``unetbio check --json`` before the run.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    UsageError
        When there is no summary, or it or the check cannot be read.
    """
    out = Path(out)
    entries = read_journals(out)
    rows = _read_rows(out, entries)
    remove_stale(out)
    context = {
        **_heading(out, rows),
        **_problems(rows, _differences(out, entries)),
        **_before(check, rows),
        **_gallery(rows),
        **_table(rows, {name for entry in entries.values() for name in entry.further_columns}),
        "plates": heat_maps(filter(None, (WellImage.of(row.values, row.n_cells) for row in rows)), _of_what(rows)),
        "plots": _plots(out, rows),
        **_origin(out, entries),
        "files": [name for name in LINKED_FILES if (out / name).is_file()],
        "version": version("unetbio"),
    }
    context["sections"] = _sections(context)
    page = out / PAGE
    write_text(page, _template().render(context))
    return page


@functools.cache
def _template() -> jinja2.Template:
    # Compiling it takes longer than segmenting a small image, and one process may write many pages.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unetbio.report", "."),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html")


def _read_rows(out: Path, entries: Mapping[str, Entry]) -> list[_Row]:
    """Rows of the summary: failures first, then rows with warnings, then the others in their order."""
    summary = out / SUMMARY
    if not summary.is_file():
        raise UsageError(f"{out} holds no {SUMMARY}: give an output folder of unetbio segment or unetbio measure")
    try:
        header, *records = read_csv(summary) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{summary} cannot be read as a table: {error}; write it again with unetbio measure"
        ) from error
    if "path" not in header:
        raise UsageError(f"{summary} is no summary (no column 'path'): write it again with unetbio measure")
    known = {_image_of(entry): entry for entry in entries.values()}
    # A time-lapse has many rows.
    overlays = {image: _overlay_link(out, entry) for image, entry in known.items()}
    rows = []
    for record in records:
        values = {key: value for key, value in zip_longest(header, record, fillvalue="") if key}
        image = values.get("path", ""), values.get("series", "")
        rows.append(_Row(values, known[image].message if image in known else "", overlays.get(image)))
    return sorted(rows, key=lambda row: (not row.failed, not row.warnings))


def _image_of(entry: Entry) -> _Image:
    return entry.path, "" if entry.series is None else str(entry.series)


def _name(image: _Image) -> str:
    path, series = image
    return f"{path}, series {series}" if series else path


def _overlay_link(out: Path, entry: Entry) -> str | None:
    if entry.status == "failed":
        return None
    # Pictures of tracks show the outlines too, in colours that stay the same over time. An older one shows other cells.
    tracks = out / track_picture_name(result_name(entry.output))
    path = tracks if tracks.is_file() and _shows_cells(tracks, out, entry.output) else out / overlay_name(entry.output)
    return quote(path.relative_to(out).as_posix()) if path.is_file() else None


def _shows_cells(tracks: Path, out: Path, output: str) -> bool:
    """Whether a picture of tracks is of the cells of a label image. Copies may have other times, but have its hash."""
    labels, provenance = out / output, read_provenance(out / provenance_name(output))
    lineage = read_lineage(out, result_name(output))
    if lineage and provenance and state_of_labels(labels, provenance) == "intact":
        tracked = {frame.label_hash for frame in lineage.frames if frame.output == output}
        return tracked == {provenance.output.label_hash}
    return not labels.exists() or tracks.stat().st_mtime_ns >= stamp(labels).mtime_ns


def _heading(out: Path, rows: Sequence[_Row]) -> dict[str, Any]:
    images = {row.image: row for row in rows}
    failed = sum(row.failed for row in images.values())
    counts = [row.n_cells for row in rows if row.n_cells is not None]
    cells = sum(counts)
    figures = [{"value": grouped(len(images)), "text": "image" if len(images) == 1 else "images", "kind": ""}]
    # Class masks have no cells to count.
    if counts or all(row.failed for row in rows):
        figures.append({"value": grouped(cells), "text": "cell" if cells == 1 else "cells", "kind": ""})
    if counts:
        figures.append({"value": f"{np.median(counts):g}", "text": f"cells {_of_what(rows)} (median)", "kind": ""})
    figures.append({"value": grouped(failed), "text": "failed", "kind": "bad" if failed else ""})
    warned = len({row.image for row in rows if row.warnings})
    figures.append({"value": grouped(warned), "text": "with warnings", "kind": "warn" if warned else ""})
    # "results" alone is no helpful title.
    return {"title": "/".join(real_path(out).parts[1:][-2:]), "figures": figures}


def _finished(entries: Mapping[str, Entry]) -> list[Entry]:
    """Last entry of each result, without failures and images that were removed."""
    newest = newest_entries(entries.values()).values()
    return [entry for entry in newest if entry.status != "failed" and entry.reason != GONE]


def _differences(out: Path, entries: Mapping[str, Entry]) -> Iterator[tuple[str, _Image]]:
    """Masks made differently from most: the difference, and the image."""
    done = (entry.output for entry in _finished(entries))
    read = ((name, read_provenance(out / provenance_name(name))) for name in done)
    for finding in find_differences((name, provenance) for name, provenance in read if provenance):
        yield finding.message, _image_of(entries[finding.output])


def _problems(rows: Sequence[_Row], differences: Iterable[tuple[str, _Image]]) -> dict[str, Any]:
    failures = [row for row in rows if row.failed]
    found: dict[str, dict[_Image, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for text in row.warning_texts:
            found[text][row.image].append(row.name)
    for text, image in differences:
        found[text][image].append(_name(image))
    warned = []
    for text, images in sorted(found.items(), key=lambda item: -len(item[1]))[:MAX_WARNINGS]:
        names = [
            times[0] if len(times) == 1 else f"{_name(image)}, {counted(len(times), 'time')}"
            for image, times in images.items()
        ]
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        warned.append((text, len(names), ", ".join(names[:MAX_NAMES]) + more))
    return {
        "failures": failures[:MAX_FAILURES],
        "more_failures": max(0, len(failures) - MAX_FAILURES),
        "warned": warned,
    }


def _before(check: Path | None, rows: Sequence[_Row]) -> dict[str, Any]:
    """Findings of the check, without images that are among the failures."""
    checked = Checked() if check is None else read_check(check)
    failed = {row.image for row in rows if row.failed}
    checked = replace(checked, images=tuple(one for one in checked.images if (one.path, one.series) not in failed))
    return {"checked": checked if checked.images or checked.failed else None, "max_checked": MAX_CHECKED}


def _gallery(rows: Sequence[_Row]) -> dict[str, Any]:
    # Times of one file share a picture, which shows the first; their card lies where the first of their rows does.
    of_pictures: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        if row.overlay:
            of_pictures[row.overlay].append(row)
    cards = [min(shared, key=lambda row: row.time) for shared in of_pictures.values()][:MAX_ROWS]
    done = len({row.image for row in rows if not row.failed})
    note = "Each picture opens in full size."
    if len(cards) < done:
        note += f" {counted(len(cards), 'picture')} of {counted(done, 'image')}: --overlays all draws every one."
    return {"cards": cards, "cards_note": note}


def _table(rows: Sequence[_Row], of_user: Set[str]) -> dict[str, Any]:
    """Rows and columns of the summary; the columns of the user are shown as they are."""
    names = [name for name in (rows[0].values if rows else ()) if any(row.values.get(name) for row in rows)]
    numeric = _numeric(names, of_user)
    shown = [
        {
            "text": row.text,
            "cells": [
                {"text": _short(value) if name in numeric else value, "number": name in numeric}
                for name, value in ((name, row.values.get(name, "")) for name in names)
            ],
        }
        for row in rows[:MAX_ROWS]
    ]
    columns = [{"text": HEADINGS.get(name, name.replace("_", " ")), "number": name in numeric} for name in names]
    return {"rows": shown, "columns": columns, "more_rows": max(0, len(rows) - MAX_ROWS)}


def _plots(out: Path, rows: Sequence[_Row]) -> list[dict[str, Any]]:
    plots = []
    counts = np.array([row.n_cells for row in rows if row.n_cells is not None], dtype=np.float64)
    if len(counts) > 1:
        what = _of_what(rows)
        title = "Cells an image" if what == "an image" else "Cells a frame (an image, or one time of it)"
        plots.append(histogram(counts, title, what.partition(" ")[2]))
    title, sizes = cell_sizes(out)
    if len(sizes):
        plots.append(histogram(sizes, title, "cell"))
    return plots


def _of_what(rows: Sequence[_Row]) -> str:
    """Unit of the cell counts: an image, or a frame if there are time-lapses."""
    images = [row.image for row in rows if row.n_cells is not None]
    return "an image" if len(images) == len(set(images)) else "a frame"


def _origin(out: Path, entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Model, settings and versions of the last finished image."""
    for entry in sorted(_finished(entries), key=lambda entry: entry.time, reverse=True):
        provenance = read_provenance(out / provenance_name(entry.output))
        if provenance is not None:
            sheets = [
                ("settings", "Model and settings", _settings(provenance, entry.path)),
                ("versions", "Versions", sorted(provenance.versions.items())),
            ]
            when = datetime.fromisoformat(entry.time).strftime("%Y-%m-%d %H:%M %Z")
            subtitle = f"Segmented with the model {provenance.model.name}; last image finished {when}"
            return {"subtitle": subtitle, "fact_sheets": sheets, "classes": _classes_of_cells(provenance)}
    return {"subtitle": "", "fact_sheets": [], "classes": []}


def _classes_of_cells(provenance: Provenance) -> list[tuple[str, str]]:
    """Name and colour of each class of cells."""
    names = provenance.settings.get(CELL_CLASSES) or ()
    return list(zip(names, hex_colours(len(names) + 1)[1:], strict=True))


def _settings(provenance: Provenance, path: str) -> list[tuple[str, str]]:
    model = provenance.model
    facts = [
        ("model", model.name),
        ("architecture", model.architecture),
        ("SHA-256 of the weights", model.sha256),
        *_given(provenance.settings),
    ]
    facts += [("device", str(provenance.run["device"]))] if "device" in provenance.run else []
    return [*facts, ("as used for", path)]


def _given(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings as rows, without those that have no value."""
    values = {name: value for name, value in flattened(settings).items() if value is not None and value != []}
    return [(_title_of(name), _in_words(value)) for name, value in values.items()]


def _title_of(name: str) -> str:
    """Name of a setting in words: ``mask threshold`` for ``postprocessing.mask_threshold``."""
    text = name.removeprefix("postprocessing.").removesuffix(".kind")
    text = re.sub(r"_(px|um)$", r" (\1)", text)
    return text.replace(".", " ").replace("_", " ")


def _in_words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return readable(value) if isinstance(value, float) else str(value)


def _sections(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    here = [
        ("failures", "Failed"),
        ("warned", "Worth a look"),
        ("checked", "Before the run"),
        ("plates", "Plates"),
        ("plots", "Distributions"),
        ("rows", "Images"),
    ]
    anchors = {"warned": "warnings", "plots": "distributions", "rows": "images"}
    links = [(anchors.get(key, key), text) for key, text in here if context[key]]
    return links + [(anchor, heading) for anchor, heading, _ in context["fact_sheets"]]


def _numeric(names: Sequence[str], of_user: Set[str]) -> set[str]:
    """Columns of numbers. A column of the user that has the name of a class's stands as ``table_`` and its name."""
    of_classes = (name for name in names if name.startswith(NUMERIC_OF_CLASSES))
    return NUMERIC | {name for name in of_classes if name not in of_user or f"table_{name}" in names}


def _short(text: str) -> str:
    """Rounded number; the summary keeps all digits."""
    try:
        return readable(float(text))
    except (ValueError, OverflowError):
        return text
