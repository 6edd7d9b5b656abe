"""Targets: what networks learn, and the masks made from their output; one file a target, which registers itself.

`base` defines targets and lists them, without importing torch; `pixels` and `cells` hold code that several targets
share.
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
