"""Targets: what a network learns, and how its output becomes masks; one file a target, which registers itself.

`base` says what a target is and lists them all, without importing torch; `pixels` and `cells` hold what targets of one
kind share.
"""

import importlib
import pkgutil

from unetbio.targets.base import Target, find, names, of_model, of_training, register

__all__ = ["Target", "find", "names", "of_model", "of_training", "register"]


def _register_targets() -> None:
    """Import every module of this folder; targets register themselves."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


_register_targets()
