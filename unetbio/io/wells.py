"""Names of wells: ``B03``, from letters and numbers in any of their forms."""

import re

__all__ = ["numeric", "place_of_well", "row_letters", "well_name"]

_WELL = re.compile(r"([A-Za-z]{1,2})[ _-]*0*(\d{1,2})")
_LETTERS = 26


def numeric(value: str) -> str:
    """A number without its leading zeros; other values as they are."""
    return str(int(value)) if value.isdecimal() else value


def row_letters(number: int) -> str:
    """``A`` of row 1, ``Z`` of 26, ``AA`` of 27, as on plates of 1536 wells."""
    before, last = divmod(number - 1, _LETTERS)
    return (row_letters(before) if before else "") + chr(ord("A") + last)


def well_name(row: str, column: str) -> str:
    """``B03`` of row ``B`` (or ``2``) and column ``3``; names of another form are joined as they are."""
    letters = row_letters(int(row)) if row.isdecimal() and int(row) else row.upper()
    return f"{letters}{int(column):02d}" if column.isdecimal() else f"{letters}{column}"


def place_of_well(well: str) -> dict[str, str]:
    """Well, row and column of a name such as ``b3``, ``B03`` or ``B - 03``; the name alone if it is of another form."""
    match = _WELL.fullmatch(well.strip())
    if match is None:
        return {"well": well}
    return {"well": well_name(match[1], match[2]), "row": match[1].upper(), "column": match[2]}
