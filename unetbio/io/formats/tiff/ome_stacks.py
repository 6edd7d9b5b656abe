"""Stacks of OME-TIFF: the planes that OME-XML describes, in the file itself or in others beside it."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unetbio.errors import ImageError
from unetbio.files import read_bytes
from unetbio.io.formats.ome import OmeImage, OmePlane, companion_of, parse_ome
from unetbio.io.formats.tiff.pages import Page, PageChain, follow_pages, open_pages
from unetbio.io.formats.tiff.stacks import (
    CUT,
    Stack,
    inner_axes,
    refuse_empty,
    smaller_levels,
    variant_name,
    whole_page,
)
from unetbio.io.missing import missing_position

__all__ = ["companion_stacks", "ome_stacks"]


def companion_stacks(path: Path) -> list[Stack | ImageError]:
    """Stacks of the set of files that a ``.companion.ome`` file describes, as `ome_stacks`.

    Raises
    ------
    ImageError
        As `unetbio.io.formats.tiff.reader.read_tiff`.
    """
    try:
        xml = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImageError("unreadable", f"not OME-XML: {error}") from error
    with _OmeFiles(path, None) as files:
        return list(_stacks(parse_ome(xml, 0), files))


def ome_stacks(tif: tifffile.TiffFile, path: Path, xml: str, chain: PageChain) -> Iterator[Stack | ImageError]:
    """Stacks that the OME-XML of a file describes; the error of one of several does not prevent the others.

    Raises
    ------
    ImageError
        As `unetbio.io.formats.tiff.reader.read_tiff`.
    """
    companion = companion_of(xml)
    if companion is not None:
        source = _beside(path, companion)
        if source is None:
            raise ImageError(
                "missing_companion",
                f"one piece of a set that {companion or 'another file'} describes, which is not in its folder",
            )
        xml = _description(source)
    with _OmeFiles(path, _root_uuid(xml) if companion is None else None) as files:
        files.add(path, tif, chain)
        images = parse_ome(xml, chain.count)
        # Of a set in which each file describes all, a file holds the images that begin in it; a piece stands for
        # the whole set.
        own = [ome for ome in images if companion is None and files.begins(ome)]
        yield from _stacks(own or images, files)


def _stacks(images: Sequence[OmeImage], files: "_OmeFiles") -> Iterator[Stack | ImageError]:
    for ome in images:
        try:
            yield _ome_stack(ome, files, is_only=len(images) == 1)
        except ImageError as error:
            yield error


def _description(source: Path) -> str:
    """OME-XML of a companion; where a TIFF file describes the set, the message names it."""
    try:
        return read_bytes(source).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImageError(
            "unsupported_format", f"one piece of a set that {source.name} describes: give that file instead"
        ) from error


def _root_uuid(xml: str) -> str | None:
    head = xml.find("<OME")
    start = xml.find('UUID="', head, xml.find(">", head))
    return xml[start + 6 : xml.find('"', start + 6)] if start > 0 else None


def _beside(path: Path, name: str) -> Path | None:
    """File ``name`` in the folder of ``path``, never outside it."""
    candidate = path.parent / Path(name.replace("\\", "/")).name
    return candidate if name and candidate.is_file() else None


class _OmeFiles(contextlib.ExitStack):
    """The files that an OME-XML block speaks of, opened when a plane of theirs is asked for."""

    def __init__(self, path: Path, uuid: str | None) -> None:
        super().__init__()
        self.path, self.uuid = path, uuid
        self.opened: dict[Path, tuple[tifffile.TiffFile, PageChain]] = {}

    def add(self, path: Path, tif: tifffile.TiffFile, chain: PageChain) -> None:
        """Add a file that is open."""
        if len(tif.pages) != chain.count:
            raise ImageError("truncated", f"{path.name} has {chain.count} pages, not all of which can be read")
        self.opened[path] = tif, chain

    def find(self, plane: OmePlane, only_one: bool) -> Path | None:
        """The file of a plane; a block that knows one file alone means its own, which may have been renamed."""
        named_own = plane.file_name is None or plane.file_name == self.path.name
        if self.path in self.opened and (named_own or (plane.uuid is not None and plane.uuid == self.uuid)):
            return self.path
        found = _beside(self.path, plane.file_name or "")
        return self.path if found is None and only_one and self.path in self.opened else found

    def begins(self, ome: OmeImage) -> bool:
        """Whether an image belongs to the file with the block, as `unetbio.io.formats.tiff.sets` says."""
        first = next(iter(ome.planes.values()), None)
        if first is None or first.file_name in (None, self.path.name) or first.uuid == self.uuid:
            return True
        return _beside(self.path, first.file_name or "") is None

    def pages(self, path: Path) -> tuple[tifffile.TiffPages, bool]:
        """Pages of a file that are whole, and whether it was cut."""
        if path not in self.opened:
            chain = follow_pages(path, path.stat().st_size)
            self.add(path, self.enter_context(open_pages(path, chain)), chain)
        tif, chain = self.opened[path]
        return tif.pages, chain.is_cut

    def cut(self, path: Path) -> str:
        """Summary for users of what happened to a file that was cut."""
        return CUT if path == self.path else f"{path.name} was cut"


def _ome_stack(ome: OmeImage, files: _OmeFiles, *, is_only: bool) -> Stack:
    """Look up every plane of an OME image; a plane that is claimed twice is an error, one that is missing is None."""
    lengths = {"T": ome.size_t, "C": ome.size_c // ome.samples, "Z": ome.size_z}
    only_one = len({plane.uuid for plane in ome.planes.values()}) == 1
    pages: list[Page | None] = []
    taken: set[tuple[Path, int]] = set()
    lost: list[str] = []
    cut, errors = "", list[ImageError]()
    places: list[tuple[Path, Any] | None] = []
    for t, c, z in itertools.product(*map(range, lengths.values())):
        plane = ome.planes.get((c, z, t))
        path = None if plane is None else files.find(plane, only_one)
        if plane is None or path is None:
            lost += [plane.file_name] if plane and plane.file_name else []
            pages.append(None)
            places.append(None)
            continue
        held, is_cut = files.pages(path)
        if (path, plane.page) in taken:
            raise ImageError(
                "inconsistent", f"the OME-XML gives a page of {path.name} two planes: write the file again"
            )
        taken.add((path, plane.page))
        there = plane.page < len(held)
        pages.append(whole_page(path, held[plane.page], errors) if there else None)
        places.append((path, held[plane.page]) if pages[-1] else None)
        if pages[-1] is None and (there or is_cut):
            cut = files.cut(path)
    if not is_only and not any(pages):
        raise missing_position(ome.name, len(pages))
    refuse_empty(pages, lost, errors)
    stack = _checked_ome(ome, lengths, pages)
    smaller = smaller_levels(stack, _levels(places)) if stack.layout.subifds else ()
    return dataclasses.replace(stack, missing_files=tuple(dict.fromkeys(lost)), smaller=smaller, cut=cut)


def _levels(places: Sequence[tuple[Path, Any] | None]) -> Iterator[list[tuple[Path, Any] | None]]:
    """Smaller copies of the pages of an OME image, which lie below each page."""
    below = [None if place is None else (place[0], place[1].aspage().pages or ()) for place in places]
    for level in range(min(len(copies[1]) for copies in below if copies is not None)):
        yield [None if copies is None else (copies[0], copies[1][level]) for copies in below]


def _checked_ome(ome: OmeImage, lengths: dict[str, int], pages: list[Page | None]) -> Stack:
    layout = next(page.layout for page in pages if page is not None)
    inner, roles = inner_axes(layout)
    for page in filter(None, pages):
        if page.layout.shaped != layout.shaped or page.layout.dtype != layout.dtype:
            raise ImageError("inconsistent", "the pages of one OME image differ in size or type: write the file again")
    if (layout.imagewidth, layout.imagelength) != (ome.size_x, ome.size_y):
        raise ImageError(
            "inconsistent",
            f"the OME-XML claims {ome.size_x} x {ome.size_y} pixels, the page has {layout.imagewidth} x "
            f"{layout.imagelength}: write the file again",
        )
    if layout.shaped[0] * layout.shaped[4] != ome.samples:
        raise ImageError(
            "inconsistent",
            f"the OME-XML claims {ome.samples} samples a pixel, the page has {layout.shaped[0] * layout.shaped[4]}: "
            "write the file again",
        )
    if ome.dtype and not _holds(np.dtype(ome.dtype), layout):
        raise ImageError(
            "inconsistent",
            f"the OME-XML claims pixels of type {ome.dtype}, the page has {layout.dtype}: write the file again",
        )
    outer = [(axis, n) for axis, n in lengths.items() if n > 1]
    variant = variant_name("ome", is_pyramid=bool(layout.subifds))
    return Stack(ome.name, pages, tuple(outer + inner), roles, variant, ome.channel_names, ome.pixel_size_um)


def _holds(claimed: np.dtype[Any], layout: tifffile.TiffPage) -> bool:
    """Whether a page can be of a type; of whole numbers the sign does not count, which some programs write wrongly."""
    if claimed.kind == "b" or layout.bitspersample == 1:
        return layout.bitspersample in (1, 8)
    stored: np.dtype[Any] = layout.dtype
    return claimed.itemsize == stored.itemsize and (claimed.kind == "f") == (stored.kind == "f")
