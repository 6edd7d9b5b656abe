"""What was seen of an image at each zoom, and the zoom that was taken."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Look", "Scale"]


@dataclass(frozen=True)
class Look:
    """Cells of an image, or of a piece of it, at one zoom; found from decided pixels, so that tiles do not matter.

    Parameters
    ----------
    zoom : float
        Factor from pixels of the image to pixels of the model.
    cells : int
        Number of cells.
    diameter_px : float
        Median diameter of discs as large as the cells, in pixels of the model; 0 without cells.
    certainty : float
        Share of the cells' pixels of which the model is certain; 0 without cells.
    """

    zoom: float
    cells: int
    diameter_px: float
    certainty: float


@dataclass(frozen=True)
class Scale:
    """The zoom of an image, as it was found.

    Parameters
    ----------
    zoom : float
        The zoom that was taken.
    looks : tuple of Look
        The zooms that were tried, the model's own first.
    is_doubtful : bool
        Whether another scale may be right.
    """

    zoom: float
    looks: tuple[Look, ...]
    is_doubtful: bool

    def as_record(self) -> dict[str, Any]:
        """For the provenance."""
        return {
            "doubtful": self.is_doubtful,
            "tried": [
                {
                    "zoom": look.zoom,
                    "cells": look.cells,
                    "diameter_px": round(look.diameter_px, 1),
                    "certainty": round(look.certainty, 3),
                }
                for look in self.looks
            ],
        }
