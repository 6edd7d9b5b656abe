"""``unetbio networks``: which architectures there are."""

import json
from typing import Any

import click

from unetbio.cli import options as shared

__all__ = ["command"]


@click.command()
@shared.as_json
def command(as_json: bool) -> None:
    """List the architectures, with geometry, parameters and paper, as they are by default."""
    import torch

    from unetbio import architectures, networks

    rows = []
    for name in architectures.names():
        # On torch's device without memory: counting needs shapes alone.
        with torch.device("meta"):
            parameters = networks.parameter_count(networks.build(name))
        rows.append(_describe(architectures.find(name), parameters))
    click.echo(json.dumps(rows, indent=2) if as_json else "\n\n".join(_lines(row) for row in rows))


def _describe(architecture: Any, parameters: int) -> dict[str, Any]:
    geometry = architecture.geometry(architecture.defaults)
    return {
        "network": architecture.name,
        "summary": architecture.summary,
        "paper": architecture.paper,
        "parameters": parameters,
        "context": geometry.context,
        "stride": geometry.stride,
        "smallest_input": geometry.minimum,
        "exact": architecture.exact(architecture.defaults),
        "defaults": architecture.defaults,
    }


def _lines(row: dict[str, Any]) -> str:
    context, stride, smallest = (" x ".join(map(str, row[key])) for key in ("context", "stride", "smallest_input"))
    exact = "tiles never change the answer" if row["exact"] else "tiles change the answer"
    options = ", ".join(f"{name} {value}" for name, value in row["defaults"].items() if value is not None)
    return "\n".join(
        (
            f"{row['network']}: {row['summary']}",
            f"  {row['parameters']:,} parameters".replace(",", " "),
            f"  context {context}, stride {stride}, smallest input {smallest} px; {exact}",
            f"  {options}",
            f"  {row['paper']}",
        )
    )
