"""What the rows of an image depend on, so that they are measured again only where one of these changes."""

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetbio.files import real_path, stamp
from unetbio.provenance import Provenance
from unetbio.results.confidences import objects_path, probability_path
from unetbio.results.journal import Entry
from unetbio.settings.segmentation import PixelSize

__all__ = ["TableOptions", "fits_without_input", "sources_of"]


@dataclass(frozen=True)
class TableOptions:
    """How the tables of an output folder are made; the folder remembers it.

    Parameters
    ----------
    expand_um : float, optional
        Width of the rings that are measured too.
    pixel_size_um : float or tuple of two floats, optional
        Instead of what is known of the images; see `unetbio.settings.segmentation.Settings`.
    """

    expand_um: float | None = None
    pixel_size_um: PixelSize | None = None


def sources_of(
    out: Path,
    entry: Entry,
    provenance: Provenance,
    options: TableOptions,
    *,
    as_segmented: bool = False,
) -> str | None:
    """Everything that the cells of an image depend on beside the pixels of its label image.

    Parameters
    ----------
    out, entry, provenance
        The output folder, the image and what is known of it.
    options : TableOptions
        How they are measured.
    as_segmented : bool
        The cells were measured on what was read when the image was segmented, and not on what is there now.

    Returns
    -------
    str or None
        Equal where measuring again would give the same rows. None where the input is no longer there: who finds it
        again wants its grey values; and where it has changed since it was segmented, if that was measured.
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
    """Whether everything but the input is what it was when `sources_of` said ``measured_from``, with these options."""
    try:
        *before, stamps = json.loads(measured_from)
        beside = _stamps_beside(out, entry, provenance)
    except (OSError, ValueError, TypeError):
        return False
    now = json.loads(json.dumps([*_measured_with(provenance, options), beside]))
    return bool([*before, stamps[-len(beside) :]] == now)


def _measured_with(provenance: Provenance, options: TableOptions) -> list[Any]:
    version = importlib.metadata.version("unetbio")
    return [version, provenance.output.mtime_ns, options.expand_um, options.pixel_size_um]


def _stamps_beside(out: Path, entry: Entry, provenance: Provenance) -> list[tuple[int, ...] | None]:
    """Size and time of the files beside a label image that its measurements depend on; None for those not there."""
    times = [frame.t for frame in provenance.frames] if len(provenance.frames) > 1 else [None]
    beside = [objects_path(out, entry), *(probability_path(out, entry, t) for t in times)]
    return [stamp(path)[:2] if path.exists() else None for path in beside]
