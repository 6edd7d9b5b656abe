"""Heat maps of plates: the mean number of cells an image of each well."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unetbio.io.wells import row_letters

__all__ = ["WellImage", "heat_maps"]

MAX_PLATES = 20
_LETTERS = 26


@dataclass(frozen=True)
class WellImage:
    """One image of a well; ``n_cells`` is None for a failed one."""

    plate: str
    row: str
    column: str
    n_cells: int | None

    @staticmethod
    def of(values: Mapping[str, str], n_cells: int | None) -> "WellImage | None":
        """The place of a row of the summary; None for images of no well."""
        row, column = values.get("row", ""), values.get("column", "")
        if not (row.isalpha() and row.isascii() and column.isdecimal()):
            return None
        return WellImage(values.get("plate", ""), row.upper(), str(int(column)), n_cells)


def heat_maps(images: Iterable[WellImage]) -> list[dict[str, Any]]:
    """Plates for the template: headings of the columns, and rows of wells with text, colour and description.

    A plate of one well has no map.
    """
    plates: dict[str, dict[tuple[str, str], list[int | None]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        plates[image.plate][image.row, image.column].append(image.n_cells)
    shown = [(name, wells) for name, wells in plates.items() if len(wells) > 1 and _is_counted(wells)]
    return [_heat_map(name, wells) for name, wells in shown[:MAX_PLATES]]


def _is_counted(wells: Mapping[tuple[str, str], Sequence[int | None]]) -> bool:
    return any(count is not None for counts in wells.values() for count in counts)


def _heat_map(name: str, wells: Mapping[tuple[str, str], Sequence[int | None]]) -> dict[str, Any]:
    means = {well: _mean(counts) for well, counts in wells.items()}
    most = max((mean for mean in means.values() if mean), default=1.0)
    rows = [row_letters(number) for number in _span(_number(row) for row, _ in wells)]
    columns = [str(number) for number in _span(int(column) for _, column in wells)]
    return {
        "name": name,
        "columns": columns,
        "rows": [
            {"name": row, "wells": [_well(row, column, wells.get((row, column)), means, most) for column in columns]}
            for row in rows
        ],
        "note": f"Mean number of cells an image; the fullest well has {most:.4g}.",
    }


def _well(
    row: str,
    column: str,
    counts: Sequence[int | None] | None,
    means: Mapping[tuple[str, str], float | None],
    most: float,
) -> dict[str, str]:
    name = f"{row}{int(column):02d}"
    if counts is None:
        return {"text": "", "kind": "", "share": "0", "title": f"{name}: no image"}
    mean = means[row, column]
    failed = sum(count is None for count in counts)
    lost = f", {failed} failed" if failed else ""
    if mean is None:
        return {"text": "failed", "kind": "bad", "share": "0", "title": f"{name}: {failed} failed"}
    title = f"{name}: {mean:.4g} cells an image, {len(counts)} images{lost}"
    return {
        "text": f"{mean:.3g}",
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


def _number(row: str) -> int:
    """Number of a row from its letters: 1 of A, 27 of AA."""
    number = 0
    for letter in row:
        number = number * _LETTERS + ord(letter) - ord("A") + 1
    return number
