"""Formats: one folder each, with its registration (``format.py``) and its reader; the registry knows them all."""

import importlib
from pathlib import Path

from unetbio.io.formats.registry import FORMATS, Format, find_by_name, find_file, find_folder, load, register

__all__ = [
    "FORMATS",
    "LONG_SUFFIXES",
    "SUFFIXES",
    "SUPPORTED",
    "Format",
    "find_by_name",
    "find_file",
    "find_folder",
    "load",
    "register",
]


def _register_formats() -> None:
    """Import ``format.py`` of each folder; it registers its formats itself."""
    for path in sorted(Path(__file__).parent.glob("*/format.py")):
        importlib.import_module(f"{__name__}.{path.parent.name}.format")


_register_formats()

SUFFIXES = tuple(suffix for kind in FORMATS.values() if not kind.folder_markers for suffix in kind.suffixes)
"""Endings of file names that are looked for in folders; images that are folders are found by what is in them."""

LONG_SUFFIXES = tuple(suffix for kind in FORMATS.values() for suffix in kind.long_suffixes)
"""Endings with two dots."""

SUPPORTED = " and ".join(", ".join(kind.title for kind in FORMATS.values()).rsplit(", ", 1))
"""Titles of all formats, for messages."""
