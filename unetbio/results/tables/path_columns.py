"""Columns from file names: ``plate1/B03_f2.tif`` gives the well and the field."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from unetbio.errors import UsageError
from unetbio.measurement.table_schema import path_expression
from unetbio.results.items import Item
from unetbio.results.journal import Entry

__all__ = ["add_path_columns"]

logger = logging.getLogger(__name__)

Row = TypeVar("Row", Item, Entry)


def add_path_columns(rows: Sequence[Row], pattern: str | None) -> list[Row]:
    r"""Give each image the named groups of a regular expression as further columns.

    Parameters
    ----------
    rows : sequence of Item or Entry
        Images. The expression is searched in their path as tables name it, with forward slashes.
    pattern : str, optional
        With a group for each column: ``(?P<well>[A-H]\d\d)_f(?P<field>\d+)``. None changes nothing.

    Returns
    -------
    list
        The same images. Columns are empty if a path or a group does not match. Columns of an earlier expression are
        removed.

    Raises
    ------
    UsageError
        When it is no regular expression; when it has no named group, or one with the name of a column of the tables;
        when the user's table has another value in a column of that name; when no path matches.
    """
    if pattern is None:
        return list(rows)
    try:
        expression = path_expression(pattern)
    except ValueError as error:
        raise UsageError(f"--metadata-regex {pattern} {error}") from error
    found = [expression.search(row.path) for row in rows]
    without = [row.path for row, match in zip(rows, found, strict=True) if match is None]
    if rows and len(without) == len(rows):
        raise UsageError(
            f"--metadata-regex {pattern} matches no path, such as {without[0]}: change it, or leave it out"
        )
    if without:
        logger.warning(
            "--metadata-regex matches all but %d of %d paths, whose columns stay empty, such as %s",
            len(without),
            len(rows),
            without[0],
        )
    empty = dict.fromkeys(expression.groupindex, "")
    values = [match.groupdict(default="") if match else empty for match in found]
    return [_with_columns(row, own, bool(match)) for row, own, match in zip(rows, values, found, strict=True)]


def _with_columns(row: Row, values: Mapping[str, str], matched: bool) -> Row:
    own = {name: value for name, value in row.columns.items() if name not in row.path_columns}
    for name, value in values.items():
        before = own.get(name)
        if matched and before is not None and before != value:
            raise UsageError(
                f"--metadata-regex: {row.path} has a column {name!r} already, {before!r} and not {value!r}: "
                "choose another name"
            )
    return replace(row, columns={**values, **own}, path_columns=tuple(name for name in values if name not in own))
