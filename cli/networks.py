"""``unetbio networks``: list of architectures."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say
from unetbio.errors import UsageError

__all__ = ["command"]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--draw", type=shared.OutputPath(file_okay=False), help="Folder for a drawing (SVG) of each.")
@shared.as_json
def command(names: tuple[str, ...], draw: Path | None, as_json: bool) -> None:
    """List the architectures with geometry, parameters and paper; of those called NAME, what each parameter means.

    A drawing shows what the code runs when an image goes through.
    """
    import torch

    from unetbio import networks

    chosen = names or networks.names()
    for name in chosen:
        networks.find(name)
    if draw is not None:
        from unetbio.report.diagram import draw_networks

        if as_json:
            raise UsageError("--json describes networks, and --draw draws them: leave one out")
        say(*draw_networks(chosen, draw))
        return
    rows = []
    for name in chosen:
        # On torch's device without memory: counting needs shapes alone.
        with torch.device("meta"):
            parameters = networks.parameter_count(networks.build(name))
        rows.append(_describe(networks.find(name), parameters))
    described = bool(names)
    click.echo(json.dumps(rows, indent=2) if as_json else "\n\n".join(_lines(row, described) for row in rows))


def _describe(architecture: Any, parameters: int) -> dict[str, Any]:
    from unetbio.networks.documentation import options_of
    from unetbio.settings.training import TrainingConfig

    geometry = architecture.geometry({})
    recipe = architecture.recipe
    return {
        "network": architecture.name,
        "summary": architecture.summary,
        "paper": architecture.paper,
        "parameters": parameters,
        "context": geometry.context,
        "stride": geometry.stride,
        "smallest_input": geometry.minimum,
        "exact": architecture.exact({}),
        "exact_by_default": architecture.is_tiled_exactly({}),
        "defaults": architecture.defaults,
        "trained_with": TrainingConfig(network=architecture.name).parameters,
        "options": options_of(architecture),
        "recipe": None if recipe is None else {**asdict(recipe), "settings": dict(recipe.settings)},
    }


def _lines(row: dict[str, Any], described: bool) -> str:
    context, stride, smallest = (" x ".join(map(str, row[key])) for key in ("context", "stride", "smallest_input"))
    exact = "tiles never change the answer" if row["exact"] else "run over windows, which change the answer"
    if row["exact"] and not row["exact_by_default"]:
        exact = "run over windows, which change the answer, unless --exact-tiles is given"
    options = ", ".join(f"{name} {value}" for name, value in row["defaults"].items() if value is not None)
    return "\n".join(
        (
            f"{row['network']}: {row['summary']}",
            f"  {row['parameters']:,} parameters".replace(",", " "),
            f"  context {context}, stride {stride}, smallest input {smallest} px; {exact}",
            f"  {options}",
            f"  {row['paper']}",
            *_trained_with(row),
            *(line for option in row["options"] if described for line in _option_lines(option)),
            *(_recipe_lines(row["network"]) if described else ()),
        )
    )


def _trained_with(row: dict[str, Any]) -> list[str]:
    """Where `unetbio train` has other parameters than the paper."""
    given = ", ".join(f"{name} {value}" for name, value in row["trained_with"].items())
    return [f"  unetbio train: {given}, unless parameters or --recipe paper say otherwise"] if given else []


def _recipe_lines(name: str) -> list[str]:
    from unetbio import networks
    from unetbio.networks.documentation import recipe_lines

    recipe = networks.find(name).recipe
    if recipe is None:
        return []
    settings = [f"    {line}" for line in recipe_lines(networks.find(name))]
    return [f"  --recipe paper ({recipe.source}):", *settings, f"    {recipe.notes}"]


def _option_lines(option: dict[str, Any]) -> list[str]:
    from unetbio.networks.documentation import written

    default = "" if option["default"] is None else f" ({written(option['default'])})"
    values = "" if option["choices"] else f"; {option['values']}"
    choices = [f"      {value}: {meaning}" for value, meaning in option["choices"].items()]
    return [f"  {option['name']}{default}: {option['meaning']}{values}", *choices]
