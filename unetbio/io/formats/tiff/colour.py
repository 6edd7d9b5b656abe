"""Interpret the stored samples of a TIFF page: grey values, inverted grey values, or palette indices."""

import dataclasses
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.formats.tiff.pages import JPEG

__all__ = ["Colour"]


@dataclasses.dataclass(frozen=True)
class Colour:
    """Meaning of stored samples: grey values, inverted grey values, or palette indices."""

    dtype: np.dtype[Any]
    invert_from: int | None = None
    palette: NDArray[Any] | None = None

    @staticmethod
    def of(layout: tifffile.TiffPage, written_by: str) -> "Colour":
        """Read the meaning from the tags of a page and the program that wrote it.

        Programs are ``ome``, ``imagej``, ``tifffile`` or, unknown, empty.

        Palettes of ImageJ and OME are display settings: the numbers are the grey values.
        """
        photometric = int(layout.photometric)
        stored = np.dtype(np.uint8) if layout.dtype.kind == "b" else layout.dtype.newbyteorder("=")
        if photometric == 3 and written_by not in ("ome", "imagej"):
            return Colour._palette(layout, stored)
        # tifffile calls every array of truth values white-is-zero and stores True as 1.
        as_stored = photometric == 0 and layout.bitspersample == 1 and written_by in ("ome", "tifffile")
        if as_stored or photometric in (1, 2, 3) or (photometric == 6 and layout.compression in JPEG):
            return Colour(stored)
        if photometric == 0:
            if stored.kind != "u" or not isinstance(layout.bitspersample, int):
                raise ImageError(
                    "unsupported_colour", f"white is zero, with pixels of type {stored}: save it as black-is-zero"
                )
            return Colour(stored, invert_from=(1 << layout.bitspersample) - 1)
        name = {5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*", 32803: "a colour filter array"}.get(photometric)
        raise ImageError(
            "unsupported_colour",
            f"colours are stored as {name or f'TIFF photometric {photometric}'}: save it as grey or RGB",
        )

    @staticmethod
    def of_labels(layout: tifffile.TiffPage, written_by: str) -> "Colour":
        """As `of`, for a page of labels: the numbers as they are stored, unless a palette begins with a colour."""
        photometric, stored = int(layout.photometric), layout.dtype.newbyteorder("=")
        is_black_first = photometric == 3 and layout.colormap is not None and not layout.colormap[:, :1].any()
        if stored.kind == "u" and (photometric == 0 or is_black_first):
            return Colour(stored)
        return Colour.of(layout, written_by)

    @staticmethod
    def _palette(layout: tifffile.TiffPage, stored: np.dtype[Any]) -> "Colour":
        table = layout.colormap
        if table is None or stored.kind != "u" or layout.shaped[0] * layout.shaped[4] != 1:
            raise ImageError("unsupported_colour", "a palette image without a usable palette: save it as grey or RGB")
        if table.shape[1] < 1 << int(layout.bitspersample):
            raise ImageError(
                "unreadable", f"a palette of {table.shape[1]} colours is too short: save it as grey or RGB"
            )
        # Palettes have 16 bits a colour, most often filled by repeating or shifting 8 bits.
        if (table % 257 == 0).all():
            table = (table // 257).astype(np.uint8)
        elif (table % 256 == 0).all():
            table = (table // 256).astype(np.uint8)
        return Colour(table.dtype, palette=table)

    def apply(self, samples: NDArray[Any]) -> NDArray[Any]:
        """``(S, Y, X)`` stored samples to ``(C, Y, X)`` grey values."""
        if self.palette is not None:
            return self.palette[:, samples[0]]
        if samples.dtype.kind == "b":
            samples = samples.astype(np.uint8)
        if self.invert_from is not None:
            samples = self.dtype.type(self.invert_from) - samples
        return samples
