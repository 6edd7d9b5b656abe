"""Heat maps of plates: the mean number of cells an image, or a frame of a time-lapse, of each well."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unetbio.io.wells import row_letters
from unetbio.report.wording import counted, readable

__all__ = ["WellImage", "heat_maps"]

MAX_PLATES = 20

# A plate of 3456 wells has the most; tables may have such columns of another meaning (control, 20240101).
_ROWS = {row_letters(number): number for number in range(1, 49)}
# Some count from 0.
_COLUMNS = frozenset(map(str, range(73)))


@dataclass(frozen=True)
class WellImage:
    """One image of a well, or one time of it; ``n_cells`` is None for a failed one."""

    plate: str
    row: str
    column: str
    n_cells: int | None

    @staticmethod
    def of(values: Mapping[str, str], n_cells: int | None) -> "WellImage | None":
        """The place of a row of the summary; None for images of no well."""
        row, column = values.get("row", "").upper(), values.get("column", "")
        column = column.lstrip("0") or column[-1:]
        if row not in _ROWS or column not in _COLUMNS:
            return None
        return WellImage(values.get("plate", ""), row, column, n_cells)


def heat_maps(images: Iterable[WellImage], of_what: str) -> list[dict[str, Any]]:
    """Plates for the template: headings of the columns, and rows of wells with text, colour and description.

    A plate of one well has no map. ``of_what`` is the unit of the counts: ``an image`` or ``a frame``.
    """
    plates: dict[str, dict[tuple[str, str], list[int | None]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        plates[image.plate][image.row, image.column].append(image.n_cells)
    shown = [(name, wells) for name, wells in plates.items() if len(wells) > 1 and _is_counted(wells)]
    return [_heat_map(name, wells, of_what) for name, wells in shown[:MAX_PLATES]]


def _is_counted(wells: Mapping[tuple[str, str], Sequence[int | None]]) -> bool:
    return any(count is not None for counts in wells.values() for count in counts)


def _heat_map(name: str, wells: Mapping[tuple[str, str], Sequence[int | None]], of_what: str) -> dict[str, Any]:
    means = {well: _mean(counts) for well, counts in wells.items()}
    most = max((mean for mean in means.values() if mean), default=1.0)
    rows = [row_letters(number) for number in _span(_ROWS[row] for row, _ in wells)]
    columns = [str(number) for number in _span(int(column) for _, column in wells)]
    return {
        "name": name,
        "columns": columns,
        "rows": [
            {
                "name": row,
                "wells": [_well(row, column, wells.get((row, column)), means, most, of_what) for column in columns],
            }
            for row in rows
        ],
        "note": f"Mean number of cells {of_what}; the fullest well has {readable(most)}.",
    }


def _well(
    row: str,
    column: str,
    counts: Sequence[int | None] | None,
    means: Mapping[tuple[str, str], float | None],
    most: float,
    of_what: str,
) -> dict[str, str]:
    name = f"{row}{int(column):02d}"
    if counts is None:
        return {"text": "", "kind": "", "share": "0", "title": f"{name}: no image"}
    mean = means[row, column]
    failed = sum(count is None for count in counts)
    lost = f", {failed} failed" if failed else ""
    if mean is None:
        return {"text": "failed", "kind": "bad", "share": "0", "title": f"{name}: {failed} failed"}
    title = f"{name}: {readable(mean)} cells {of_what}, {counted(len(counts), of_what.split()[1])}{lost}"
    return {
        "text": readable(mean),
        "kind": "warn" if failed else "",
        "share": f"{100 * mean / most:.3g}",
        "title": title,
    }


def _mean(counts: Sequence[int | None]) -> float | None:
    known = [count for count in counts if count is not None]
    return sum(known) / len(known) if known else None


def _span(numbers: Iterable[int]) -> range:
    """All rows or columns from the first to the last."""
    found = set(numbers)
    return range(min(found), max(found) + 1)
