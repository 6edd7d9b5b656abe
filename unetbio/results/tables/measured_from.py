"""What the measurements of an image depend on: cells are measured again only if one of these changes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetbio.files import real_path, stamp
from unetbio.measurement.regions import Features
from unetbio.provenance import Provenance, installed_version
from unetbio.results.journal import Entry
from unetbio.results.tables.confidences import objects_path, probability_path
from unetbio.settings.values import PixelSize

__all__ = ["TableOptions", "fits_without_input", "sources_of"]


@dataclass(frozen=True)
class TableOptions:
    """How the tables of an output folder are made; the table of cells records it.

    Parameters
    ----------
    expand_um : float, optional
        Width of the rings around cells, if they are measured.
    pixel_size_um : float or tuple of two floats, optional
        Overrides the pixel size of the images; see `unetbio.settings.segmentation.Settings`.
    features : {"basic", "shape", "texture", "all"}
        Further columns; see `unetbio.measurement.regions.measure`.
    """

    expand_um: float | None = None
    pixel_size_um: PixelSize | None = None
    features: Features = "basic"


def sources_of(
    out: Path,
    entry: Entry,
    provenance: Provenance,
    options: TableOptions,
    *,
    as_segmented: bool = False,
) -> str | None:
    """Describe what the measurements of an image depend on beside the pixels of its label image.

    Parameters
    ----------
    out, entry, provenance
        The output folder, the image and its provenance.
    options : TableOptions
        How cells are measured.
    as_segmented : bool
        The cells were measured while the image was segmented, on the input as it was then.

    Returns
    -------
    str or None
        Equal if measuring again would give the same rows. None if the input is missing, so that its grey values are
        measured once it is back, or if it has changed since it was segmented (``as_segmented``).
    """
    source = provenance.input.find((out / entry.output).parent)
    if source is None:
        return None
    known = {source: provenance.input.fingerprint}
    known |= {real_path(source).parent / name: read for name, read in provenance.input.companions.items()}
    try:
        inputs = [stamp(path)[:2] for path in known]
        stamps = [*inputs, *_stamps_beside(out, entry, provenance)]
    except OSError:
        return None
    if as_segmented and inputs != [(read.size, read.mtime_ns) for read in known.values()]:
        return None
    return json.dumps([*_measured_with(provenance, options), stamps])


def fits_without_input(
    measured_from: str, out: Path, entry: Entry, provenance: Provenance, options: TableOptions
) -> bool:
    """Whether everything but the input is the same as in ``measured_from``, which `sources_of` returned.

    The version does not count: a later one cannot measure the grey values again.
    """
    try:
        _, *before, stamps = json.loads(measured_from)
        beside = _stamps_beside(out, entry, provenance)
    except (OSError, ValueError, TypeError, RecursionError):
        return False
    _, *now = json.loads(json.dumps([*_measured_with(provenance, options), beside]))
    return bool([*before, stamps[-len(beside) :]] == now)


def _measured_with(provenance: Provenance, options: TableOptions) -> list[Any]:
    more = [] if options.features == "basic" else [options.features]
    return [installed_version("unetbio"), provenance.output.mtime_ns, options.expand_um, options.pixel_size_um, *more]


def _stamps_beside(out: Path, entry: Entry, provenance: Provenance) -> list[tuple[int, ...] | None]:
    """Size and time of the files beside a label image that its measurements depend on; None for missing ones."""
    times = [frame.t for frame in provenance.frames] if len(provenance.frames) > 1 else [None]
    beside = [objects_path(out, entry), *(probability_path(out, entry, t) for t in times)]
    return [stamp(path)[:2] if path.exists() else None for path in beside]
