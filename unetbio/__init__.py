"""From raw microscopy to masks: the original U-Net with exact overlap tiles.

>>> import unetbio
>>> labels, info = unetbio.segment(image, model="nuclei")  # doctest: +SKIP
"""

import importlib
from typing import Any

__all__ = ["segment"]

_LAZY = {"segment": "unetbio.segmentation"}


def __getattr__(name: str) -> Any:
    # Imported on first use: torch takes seconds, and the command line's help must not wait for it.
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
