"""Recipes: the settings with which the papers trained their networks, each given in the spec of its network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MIRRORED", "Recipe", "augmented", "sgd"]

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Training of a paper, for ``unetbio train --recipe paper``.

    Parameters
    ----------
    settings : mapping
        Settings of training by their names in `unetbio.settings.training.TrainingConfig`; what the paper does not say
        is left out and has its default, or is chosen from the images.
    source : str
        Place in the paper, or the released code.
    notes : str
        How long the paper trained, and what it did that the settings do not.
    """

    settings: Settings
    source: str
    notes: str


def sgd(rate: float, *, momentum: float = 0.9, decay: float = 5e-4, poly: bool = False) -> dict[str, Any]:
    """Stochastic gradient descent, at a constant rate or one that falls as a power of the steps that are left."""
    schedule = {"schedule": "poly", "poly_power": 0.9} if poly else {"schedule": "constant"}
    return {"optimizer": "sgd", "learning_rate": rate, "momentum": momentum, "weight_decay": decay, **schedule}


def augmented(**changes: Any) -> dict[str, Any]:
    """Settings ``augmentation``: none but ``changes``; pixels are interpolated only where these move them."""
    nothing = {"flip": False, "rotate": False, "scale": 1.0, "elastic_sigma": 0.0}
    aligned = 1.0 if changes.keys() <= {"flip"} else 0.0
    return {"augmentation": {"aligned_fraction": aligned, **nothing, "probability": 0.0, **changes}}


MIRRORED = augmented(flip=True)
"""Mirroring alone."""
