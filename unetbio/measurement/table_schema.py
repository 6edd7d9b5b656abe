"""Columns of the tables: those that unetbio fills, and those that stand in the names of files."""

import re
from collections.abc import Iterable, Set

__all__ = ["SECTION", "SUMMARY_COLUMNS", "further_names", "is_reserved", "path_expression"]

SECTION = "z"
"""Column for the number of the plane that a cell is of, where each section of a stack has cells of its own."""

SUMMARY_COLUMNS = (
    "path",
    "series",
    "t",
    "n_cells",
    "median_diameter_px",
    "area_fraction",
    "zoom",
    "pixel_size_um",
    "status",
    "reason",
    "warnings",
)

# Columns that `unetbio.measurement.regions.measure` may add.
CELL_COLUMNS = (
    SECTION,
    "label",
    "area_px",
    "area_um2",
    "volume_px",
    "volume_um3",
    *(f"centroid_{axis}_px" for axis in "zyx"),
    *(f"bbox_{axis}_{end}" for axis in "zyx" for end in ("start", "stop")),
    "perimeter_px",
    "equivalent_diameter_px",
    "eccentricity",
    "solidity",
    "axis_major_length_px",
    "axis_minor_length_px",
    "extent",
    "orientation",
    "form_factor",
    "compactness",
    "euler_number",
    "feret_diameter_max_px",
    "feret_diameter_min_px",
    "touches_border",
    "neighbours",
    "confidence",
)
CELL_PREFIXES = ("intensity_", "texture_", "ring_", "area_fraction_")


def is_reserved(name: str) -> bool:
    """Whether the tables need a name for a column of their own."""
    return name in SUMMARY_COLUMNS or name in CELL_COLUMNS or name.startswith(CELL_PREFIXES)


def further_names(further: Iterable[str], taken: Set[str]) -> dict[str, str]:
    """Names of the user's columns in the tables: one that is taken gets the prefix ``table_``, or several.

    Parameters
    ----------
    further : iterable of str
        Columns of all images.
    taken : set of str
        Columns that the tables have besides; those of every summary are taken anyway.

    Examples
    --------
    >>> further_names(["dose", "status", "table_status"], set())
    {'dose': 'dose', 'status': 'table_table_status', 'table_status': 'table_status'}
    """
    names = {name: name for name in further}
    taken = {*SUMMARY_COLUMNS, *taken}
    used = {*taken, *names}
    for name in filter(taken.__contains__, list(names)):
        names[name] = f"table_{name}"
        while names[name] in used:
            names[name] = f"table_{names[name]}"
        used.add(names[name])
    return names


def path_expression(pattern: str) -> re.Pattern[str]:
    r"""A regular expression whose named groups are columns.

    Parameters
    ----------
    pattern : str
        With a group for each column: ``(?P<well>[A-H]\d\d)_f(?P<field>\d+)``.

    Returns
    -------
    re.Pattern

    Raises
    ------
    ValueError
        When it is no regular expression, names no group, or one that the tables need themselves; the pattern is the
        subject of the message.
    """
    try:
        expression = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is no regular expression: {error}") from error
    if not expression.groupindex:
        raise ValueError("names no group: write one for each column, such as (?P<well>[A-H][0-9]+)")
    for name in expression.groupindex:
        if is_reserved(name):
            raise ValueError(f"names a group {name!r}, which the tables have as a column of their own; choose another")
    return expression
