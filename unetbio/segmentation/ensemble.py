"""Models whose probabilities are averaged: which go together, and what is recorded of them."""

from collections.abc import Callable, Sequence
from typing import Any

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.files import real_path
from unetbio.inference.backends.base import Predictor
from unetbio.models.model_file import Model, ModelInfo

__all__ = ["check_ensemble", "check_windows", "describe_member"]


def _exactness(info: ModelInfo) -> tuple[bool, bool]:
    """Whether tiles can be exact, and whether they are unless it is asked for."""
    architecture, parameters = networks.find(info.architecture), info.network_parameters()
    return architecture.exact(parameters), architecture.is_tiled_exactly(parameters)


_SHARED: dict[str, Callable[[ModelInfo], Any]] = {
    "target": lambda info: info.target,
    "classes": lambda info: info.class_names,
    "number of channels": lambda info: len(info.channels),
    "kind of network": lambda info: networks.find(info.architecture).output,
    "number of axes": lambda info: info.geometry.ndim,
    "exactness of tiles": _exactness,
    "normalization": lambda info: info.normalization,
    "pixel size": lambda info: info.pixel_size_um,
}
"""Facts that models of an ensemble have in common: the image is prepared once, and one rule decides."""


def check_ensemble(model: Model, ensemble: Sequence[Model]) -> None:
    """Refuse models whose probabilities cannot be averaged.

    Raises
    ------
    UsageError
        When two models differ in what they have to share, or are the same.
    """
    seen = {model.sha256}
    for member in ensemble:
        if member.sha256 in seen:
            raise UsageError(f"--ensemble {member.info.name} is given twice: give another model")
        seen.add(member.sha256)
        different = [name for name, fact in _SHARED.items() if fact(member.info) != fact(model.info)]
        if different:
            raise _differ(member, model, different)


def check_windows(model: Model, ensemble: Sequence[Model], predictors: Sequence[Predictor]) -> None:
    """Refuse networks over sliding windows that take other windows than the first.

    Raises
    ------
    UsageError
        Naming the model.
    """
    first, *others = predictors
    for member, predictor in zip(ensemble, others, strict=True):
        same = (predictor.geometry, predictor.window) == (first.geometry, first.window)
        if not (first.exact or same):
            raise _differ(member, model, ["window"])


def describe_member(model: Model) -> dict[str, str]:
    """Name, weights and file of a model, for the provenance."""
    return {"name": model.info.name, "sha256": model.sha256, "path": str(real_path(model.path))}


def _differ(member: Model, model: Model, different: Sequence[str]) -> UsageError:
    return UsageError(
        f"--ensemble {member.info.name} cannot be averaged with {model.info.name}: they differ in "
        f"{' and '.join(different)}; give models of the same kind"
    )
