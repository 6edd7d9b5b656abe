"""Document all network parameters from the registry: the page and the listing."""

import json
from typing import Any

from unetbio.networks.parameters import Parameter, described
from unetbio.networks.registry import Architecture, find, names

__all__ = ["options_of", "parameters_page", "written"]

INTRODUCTION = """# Parameters of the networks

Written by `make docs` from the code (`unetbio/networks/*/spec.py`). `unetbio networks NAME` prints the same for
one network. Parameters are given under `parameters:` in the settings of a training, and in the name of a variant
(`unet:skip=sum`); a model file records all of them. [What the networks are](networks.md).
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
    return "\n".join([f"## {architecture.name}", "", f"{architecture.summary}.", "", *table, ""])


def _row(name: str, parameter: Parameter) -> str:
    choices = [f"`{value}`: {meaning}" for value, meaning in parameter.choices.items()]
    values = "<br>".join(choices) or parameter.must_be
    default = "" if parameter.default is None else f"`{written(parameter.default)}`"
    return f"| `{name}` | {default} | {values} | {parameter.meaning} |"
