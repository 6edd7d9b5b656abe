"""Settings of a training that follow from the recipe of a paper."""

from collections.abc import Mapping
from typing import Any

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.models.model_file import read_info

__all__ = ["with_recipe"]

PAPER = "paper"


def with_recipe(stated: Mapping[str, Any], start: str | None = None) -> dict[str, Any]:
    """Stated settings over those of the recipe that they name.

    Parameters
    ----------
    stated : mapping
        Settings that a file or an option states; of ``parameters`` and ``augmentation`` each entry by itself.
    start : str, optional
        Model to start from, whose network is trained unless one is stated.

    Raises
    ------
    UsageError
        When the network has no paper.
    """
    if stated.get("recipe") != PAPER:
        return dict(stated)
    network = stated.get("network") or ("unet" if start is None else read_info(start).architecture)
    found = networks.find(network)
    if found.recipe is None:
        with_papers = [name for name in networks.names() if networks.find(name).recipe is not None]
        raise UsageError(f"{network} has no paper and no recipe: leave out --recipe; {', '.join(with_papers)} have one")
    return {**found.recipe.settings, **{name: _over(found.recipe.settings.get(name), stated[name]) for name in stated}}


def _over(recipe: Any, stated: Any) -> Any:
    is_both = isinstance(recipe, Mapping) and isinstance(stated, Mapping)
    return {**recipe, **stated} if is_both else stated
