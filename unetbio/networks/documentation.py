"""Document all network parameters from the registry: the page and the listing."""

import json
from collections.abc import Mapping
from typing import Any

from unetbio.networks.parameters import Parameter, described
from unetbio.networks.registry import Architecture, find, names

__all__ = ["options_of", "parameters_page", "recipe_lines", "written"]

INTRODUCTION = """# Parameters of the networks

Written by `make docs` from the code (`unetbio/networks/*/spec.py`). `unetbio networks NAME` prints the same for
one network. Parameters are given under `parameters:` in the settings of a training, and in the name of a variant
(`unet:skip=sum`); a model file records all of them. [What the networks are](networks.md).

`unetbio train --recipe paper` trains a network as its paper did. Each section ends with the settings of that recipe;
settings that are stated besides override them, and what a paper does not say is chosen from the images. Papers start
from weights of ImageNet where the notes say so: [`--encoder`](training.md#public-weights-of-an-encoder). No recipe
limits the steps: give `--steps` or `--minutes`. Different rates for single layers or biases are not imitated, and
gradients are limited to a norm of 10 everywhere.
"""


def options_of(architecture: Architecture) -> list[dict[str, Any]]:
    """Each parameter of a network: its name, default, values, meaning and choices, as JSON can hold them."""
    return [
        {
            "name": name,
            "default": parameter.default,
            "values": parameter.must_be,
            "meaning": parameter.meaning,
            "choices": {str(value): meaning for value, meaning in parameter.choices.items()},
        }
        for name, parameter in described(architecture.parameters).items()
    ]


def written(value: Any) -> str:
    """Format a value as in settings files."""
    return value if isinstance(value, str) else json.dumps(value)


def parameters_page() -> str:
    """``docs/network_parameters.md``."""
    return "\n".join([INTRODUCTION, *(_section(find(name)) for name in names())])


def _section(architecture: Architecture) -> str:
    rows = [_row(name, parameter) for name, parameter in described(architecture.parameters).items()]
    table = ["| parameter | default | values | meaning |", "|---|---|---|---|", *rows]
    return "\n".join(
        [f"## {architecture.name}", "", f"{architecture.summary}.", "", *table, "", *_recipe(architecture)]
    )


def recipe_lines(architecture: Architecture) -> list[str]:
    """Settings of the paper's recipe, one a line as in settings files; none without a recipe."""
    recipe = architecture.recipe
    return [] if recipe is None else [f"{name}: {_yaml(value)}" for name, value in recipe.settings.items()]


def _yaml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_yaml(entry)}" for name, entry in value.items()) + "}"
    return written(list(value) if isinstance(value, tuple) else value)


def _recipe(architecture: Architecture) -> list[str]:
    recipe = architecture.recipe
    if recipe is None:
        return []
    settings = [f"    {line}" for line in recipe_lines(architecture)]
    return [f"Recipe of the paper ({recipe.source}):", "", *settings, "", recipe.notes, ""]


def _row(name: str, parameter: Parameter) -> str:
    choices = [f"`{value}`: {meaning}" for value, meaning in parameter.choices.items()]
    values = "<br>".join(choices) or parameter.must_be
    default = "" if parameter.default is None else f"`{written(parameter.default)}`"
    return f"| `{name}` | {default} | {values} | {parameter.meaning} |"
