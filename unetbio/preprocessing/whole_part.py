"""The part of an image with missing planes that can be segmented."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.missing import MissingPlanes, longest_run
from unetbio.settings.segmentation import Settings

__all__ = ["sections_of", "whole_part"]

Times = tuple[int | None, ...]


def sections_of(missing: MissingPlanes, settings: Settings) -> Sequence[int]:
    """Sections that a frame needs: the one that was asked for, or all."""
    count = missing.present.shape[2]
    return [settings.z] if isinstance(settings.z, int) and settings.z < count else range(count)


def whole_part(
    missing: MissingPlanes, settings: Settings, times: Times, channels: Sequence[int]
) -> tuple[Times, range] | None:
    """Times and sections of which all planes are present.

    Parameters
    ----------
    missing : MissingPlanes
        Of the image.
    settings : Settings
        Of the image; ``partial`` allows to leave something out.
    times : tuple of int or None
        Times to segment.
    channels : sequence of int
        Channels to segment.

    Returns
    -------
    times, sections
        Times that are whole and all sections; or, if no time is whole, all times that hold anything and the longest
        run of sections that each of them has. None if nothing has to be left out.

    Raises
    ------
    ImageError
        ``missing_plane``, ``missing_companion``: planes are missing and ``partial`` was not given, or nothing is whole.
    """
    indices, sections = [t or 0 for t in times], sections_of(missing, settings)
    if missing.holds(indices, channels, sections):
        return None
    if not settings.partial:
        raise missing.error()
    # (times, sections) whose channels are all present
    present: NDArray[np.bool_] = np.all(missing.present[np.ix_(indices, channels, sections)], axis=1)
    if np.all(present, axis=1).any():
        return _kept(times, np.all(present, axis=1)), range(missing.present.shape[2])
    kept: NDArray[np.bool_] = np.any(present, axis=1)
    run = longest_run(np.all(present[kept], axis=0)) if kept.any() else range(0)
    if not run:
        raise ImageError("missing_plane", f"{missing}: no time and no section of the channels to segment is whole")
    return _kept(times, kept), run


def _kept(times: Times, flags: NDArray[np.bool_]) -> Times:
    return tuple(t for t, flag in zip(times, flags, strict=True) if flag)
