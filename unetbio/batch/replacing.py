"""Results that a run makes again since they were made otherwise: what to know before they are replaced."""

from pathlib import Path
from typing import Any

from unetbio.batch.plan import Item
from unetbio.config import flattened
from unetbio.model_file import Model
from unetbio.provenance import read_provenance

__all__ = ["made_otherwise"]

SHOWN = 3


def made_otherwise(item: Item, out: Path, model: Model, settings: dict[str, Any]) -> str:
    """How the result of an item differs in how it was made from one that would be made now.

    Parameters
    ----------
    item : Item
        What is asked for.
    out : pathlib.Path
        The output folder.
    model : Model
        That would be used.
    settings : dict
        The record of the settings that would be used.

    Returns
    -------
    str
        ``model mine (now nuclei)``, or settings in the same way; empty where no result lies there, or it was made with
        the same.
    """
    provenance = read_provenance(out / item.provenance)
    if provenance is None or not (out / item.labels).exists():
        return ""
    if provenance.model.sha256 != model.sha256:
        another = "another model of that name" if provenance.model.name == model.info.name else model.info.name
        return f"model {provenance.model.name} (now {another})"
    before, now = flattened(provenance.settings), flattened(settings)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    shown = [f"{name.rpartition('.')[2]} {before.get(name)} (now {now.get(name)})" for name in names[:SHOWN]]
    return ", ".join([*shown, *([f"{len(names) - SHOWN} more"] if len(names) > SHOWN else [])])
