"""Units of length that files name, and sizes in micrometres."""

import math
import re

__all__ = ["MICROMETRES", "size_in_um"]

_SYMBOLS = {
    "pm": 1e-6,
    "å": 1e-4,
    "nm": 1e-3,
    "um": 1.0,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek letter mu
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}
_WORDS = {
    "angstrom": 1e-4,
    "micron": 1.0,
    **{
        f"{prefix}{metre}": factor
        for prefix, factor in {"pico": 1e-6, "nano": 1e-3, "micro": 1.0, "milli": 1e3, "centi": 1e4, "": 1e6}.items()
        for metre in ("meter", "metre")
    },
}

MICROMETRES = _SYMBOLS | _WORDS | {f"{word}s": factor for word, factor in _WORDS.items()}
"""Micrometres in each unit, by its symbols and words in small letters."""


def size_in_um(value: float, unit: str) -> float | None:
    """Convert a length to micrometres; None when the unit is not a length or the value is not a size."""
    unit = unit.strip()
    unit = re.sub(r"\\u00[bB]5", "µ", unit)  # ImageJ writes the micro sign as an escape
    factor = MICROMETRES.get(unit if unit in MICROMETRES else unit.casefold())
    if factor is None or not math.isfinite(value) or value <= 0:
        return None
    size = value * factor
    # Beyond these no microscope, telescope or scanner is meant: a broken field.
    return size if 1e-6 <= size <= 1e6 else None
