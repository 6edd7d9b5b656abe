"""Pages that belong together as one image, and what is refused about them."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tifffile

from unetbio.errors import ImageError
from unetbio.io.formats.tiff.pages import Page, check_layout, make_page

__all__ = [
    "CUT",
    "Stack",
    "checked_page",
    "inner_axes",
    "refuse_empty",
    "smaller_levels",
    "variant_name",
    "whole_page",
]

CUT = "the file was cut"
"""Why planes are missing that lie, or lay, in the file itself."""

MOST_MISSING = 1000
"""An image with fewer than one in so many of its planes does not have the size that it claims."""

VARIANTS = {"ome": "OME-TIFF", "imagej": "ImageJ TIFF", "svs": "Aperio SVS", "lsm": "Zeiss LSM"}
"""Names of dialects for users, by the names of tifffile."""


@dataclasses.dataclass(frozen=True)
class Stack:
    """Pages that belong together.

    ``dims``: letter and length of every axis longer than one that is not a row or column, slowest first; the last
    ``inner`` of them lie inside a page (separate samples, sections of a volume tile, interleaved samples). ``smaller``:
    pages of each smaller resolution. ``cut``: what happened to the file, if it lacks planes because of that.
    """

    name: str
    pages: list[Page | None]
    dims: tuple[tuple[str, int], ...]
    roles: tuple[int, ...]
    variant: str
    channel_names: tuple[str, ...] = ()
    pixel_size_um: dict[str, float] = dataclasses.field(default_factory=dict)
    missing_files: tuple[str, ...] = ()
    smaller: tuple[list[Page | None], ...] = ()
    cut: str = ""

    @property
    def layout(self) -> tifffile.TiffPage:
        """How the pages are stored."""
        return next(page.layout for page in self.pages if page is not None)


def variant_name(kind: str, *, is_pyramid: bool) -> str:
    """Name of a dialect for users, by that of tifffile."""
    return VARIANTS.get(kind, "TIFF") + (" pyramid" if is_pyramid else "")


def inner_axes(layout: tifffile.TiffPage) -> tuple[list[tuple[str, int]], tuple[int, ...]]:
    """Axes longer than one inside a page besides rows and columns, and their places in ``shaped``."""
    places = [(place, letter) for place, letter in ((0, "S"), (1, "Z"), (4, "S")) if layout.shaped[place] > 1]
    return [(letter, layout.shaped[place]) for place, letter in places], tuple(place for place, _ in places)


def checked_page(path: Path, page: Any) -> Page:
    """A page of a file, after a look at its tags.

    Raises
    ------
    ImageError
        As `check_layout` and `make_page`.
    """
    size = path.stat().st_size
    check_layout(page.keyframe, size)
    return make_page(path, page, size)


def whole_page(path: Path, page: Any, cut: list[ImageError]) -> Page | None:
    """As `checked_page`; None for a page whose pixels are not all in the file, and its error is added to ``cut``."""
    try:
        return checked_page(path, page)
    except ImageError as error:
        if error.reason != "truncated":
            raise
        cut.append(error)
        return None


def refuse_empty(pages: Sequence[Page | None], lost: Sequence[str] = (), cut: Sequence[ImageError] = ()) -> None:
    """Refuse an image without a page, or with so few of many that its size must be wrong."""
    held = sum(page is not None for page in pages)
    if not held and cut:
        raise cut[0]
    if not held and lost:
        raise ImageError("missing_companion", f"the OME-XML needs {lost[0]}, which is not in the folder")
    if not held or held * MOST_MISSING < len(pages):
        raise ImageError(
            "inconsistent", f"the metadata claim {len(pages)} planes, the file holds {held}: write the file again"
        )


def smaller_levels(stack: Stack, levels: Iterable[Sequence[tuple[Path, Any] | None]]) -> tuple[list[Page | None], ...]:
    """Pages of the smaller resolutions, up to the first that is broken or is stored as another kind of image."""
    found: list[list[Page | None]] = []
    for level in levels:
        try:
            pages = [None if place is None else checked_page(*place) for place in level]
        except ImageError:
            break
        if not _is_like(pages, stack):
            break
        found.append(pages)
    return tuple(found)


def _is_like(pages: Sequence[Page | None], stack: Stack) -> bool:
    """Whether pages can be a smaller resolution of a stack."""
    if [page is None for page in pages] != [page is None for page in stack.pages]:
        return False
    own = stack.layout.shaped
    layouts = [page.layout for page in pages if page is not None]
    return all(
        layout.shaped == layouts[0].shaped
        and layout.dtype == stack.layout.dtype
        and (*layout.shaped[:2], layout.shaped[4]) == (*own[:2], own[4])
        and all(small <= large for small, large in zip(layout.shaped[2:4], own[2:4], strict=True))
        for layout in layouts
    )
