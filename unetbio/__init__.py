"""From raw microscopy to masks: the original U-Net with exact overlap tiles.

>>> import unetbio
>>> labels, info = unetbio.segment(image, model="nuclei")  # doctest: +SKIP

``docs/python_api.md`` describes each name. All are imported on first use: torch takes seconds, and the command line's
help must not wait for it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unetbio.checking.folder import check
    from unetbio.evaluation import evaluate
    from unetbio.inference.tiling import plan_tiles
    from unetbio.io import read_image, read_labels, write_labels
    from unetbio.models.model_file import load_model
    from unetbio.results.tables.collect_tables import measure
    from unetbio.segmentation import segment
    from unetbio.supervision.weight_maps import weight_map
    from unetbio.training.run import train

    __version__: str

__all__ = [
    "__version__",
    "check",
    "evaluate",
    "load_model",
    "measure",
    "plan_tiles",
    "read_image",
    "read_labels",
    "segment",
    "train",
    "weight_map",
    "write_labels",
]

_MODULES = {
    "check": "checking.folder",
    "evaluate": "evaluation",
    "load_model": "models.model_file",
    "measure": "results.tables.collect_tables",
    "plan_tiles": "inference.tiling",
    "read_image": "io",
    "read_labels": "io",
    "segment": "segmentation",
    "train": "training.run",
    "weight_map": "supervision.weight_maps",
    "write_labels": "io",
}

if not TYPE_CHECKING:  # where a type checker would take any name for one that exists

    def __getattr__(name):
        if name in _MODULES:
            return getattr(importlib.import_module(f"unetbio.{_MODULES[name]}"), name)
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("unetbio")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return __all__
