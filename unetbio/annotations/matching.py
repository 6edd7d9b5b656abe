"""Which image an annotation belongs to, by its name."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath

from unetbio.errors import ImageError
from unetbio.io.mask_names import composed, one_of_several, plain_stem, stem
from unetbio.output_layout import time_lapse_name

__all__ = ["Finder", "Names"]

_ENDINGS = re.compile(
    r"[_. -](RoiSet|rois?|cells|nuclei|cp_outlines|outlines|shapes|annotations?|labels?|lbls?|seg|segmentation|"
    r"instances?|objects|object[ _-]identities|simple[ _-]segmentation|stardist)$",
    re.IGNORECASE,
)
_STARTS = re.compile(
    r"^(?:(count[ _]masks|masks?|segmentation)[ _]of[ _]|(RoiSet|rois?|masks?|labels?|lbl|LblImg|seg)[_. -])",
    re.IGNORECASE,
)
"""What programs put after and before the name of the image: Fiji (``Count Masks of x``), TrackMate, ilastik ..."""

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""Names of Label Studio, which puts a hash before those of images."""
_GENERIC = re.compile(r"(RoiSet|rois?|annotations?|outlines|shapes|objects|labels|masks?)", re.IGNORECASE)
SHOWN = 3


@dataclass(frozen=True)
class Names:
    """Names of an image.

    Parameters
    ----------
    path : str
        Path in the tables, with forward slashes.
    result : str
        Path of its results, without ending; that of the image without ending if there are none.
    series : int, optional
        Index of the image in its file.
    """

    path: str
    result: str
    series: int | None = None


class Finder:
    """Find images by the names that annotation files have for them.

    Parameters
    ----------
    images : sequence of Names
        The images.
    """

    def __init__(self, images: Sequence[Names]) -> None:
        self.images = images

    def by_file(self, name: str) -> Names | None:
        """The image of an annotation file, by the path of the file; None if there is none.

        Raises
        ------
        ImageError
            ``several_images``: the name fits more than one.
        """
        path = PurePosixPath(name)
        base, plain = stem(path.name), plain_stem(path.name)
        if _GENERIC.fullmatch(base):
            if len(self.images) == 1:
                return self.images[0]
            # RoiSet.zip in a folder named like the image.
            path, base = path.parent, path.parent.name
            plain = base
        # QuPath appends the name of the image in its file.
        for text in (base, base.partition(" - ")[0]):
            shorter = _STARTS.sub("", _ENDINGS.sub("", text))
            for candidate in (text, shorter, plain):
                found = candidate and self.by_name(str(path.parent / candidate))
                if found:
                    return found
        return None

    def by_name(self, name: str, series: int | None = None) -> Names | None:
        """The image that an annotation file calls so; folders count where names alone are not unique.

        ``x_s01`` is the image ``x_s01``, or else image 1 of the file ``x``. Capital letters, and accents apart
        from their letters, count only where names differ by them alone, since Windows and macOS do not tell them apart.

        Raises
        ------
        ImageError
            ``several_images``: the name fits more than one.
        """
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        there = [image for image in self.images if series is None or image.series in (None, series)]
        keys: list[tuple[Callable[[Names], str], str]] = [
            (lambda image: image.path.rpartition("/")[2], parts[-1]),
            (lambda image: image.result.rpartition("/")[2], parts[-1]),
            (lambda image: image.result.rpartition("/")[2], stem(parts[-1])),
            # Names of files may have lost their endings before, and other points in them are no endings.
            (lambda image: plain_stem(image.path), parts[-1]),
            (lambda image: plain_stem(image.path), plain_stem(parts[-1])),
        ]
        for fold in (str, composed, _without_case):
            for key, wanted in keys:
                found = [image for image in there if fold(key(image)) == fold(wanted)]
                if found:
                    return _of_series(_nearest(found, parts, name), series)
        if uploaded := _UPLOADED.fullmatch(parts[-1]):
            return self.by_name("/".join([*parts[:-1], uploaded[1]]), series)
        numbered = one_of_several(parts[-1]) or one_of_several(plain_stem(parts[-1]))
        if numbered is None or series is not None:
            return None
        file, number = numbered
        return self.by_name("/".join([*parts[:-1], file]), number)

    def by_time(self, name: str, t: int) -> Names | None:
        """The image of one time of a time-lapse whose times are files: ``x_t007`` of ``x``, ``t007`` of any folder.

        Raises
        ------
        ImageError
            ``several_images``: the name fits more than one.
        """
        parts = name.split("/")
        found = self._by_time.get((composed(parts[-1]), t)) or self._by_time.get(("", t))
        return _nearest(found, parts, f"{name}, time {t}") if found else None

    @cached_property
    def _by_time(self) -> Mapping[tuple[str, int], list[Names]]:
        found: dict[tuple[str, int], list[Names]] = {}
        for image in self.images:
            for run in re.finditer(r"\d+", image.result):
                name = composed(time_lapse_name(image.result, *run.span()).rpartition("/")[2])
                found.setdefault((name, int(run[0])), []).append(image)
        return found


def _without_case(name: str) -> str:
    return composed(name.casefold())


def _of_series(names: Names, series: int | None) -> Names:
    """Names of one image of a file, whose results have its number."""
    if series is None or names.series is not None:
        return names
    return replace(names, series=series, result=f"{names.result}_s{series:02d}")


def _nearest(found: Sequence[Names], parts: Sequence[str], name: str) -> Names:
    """The image whose folders agree best with those of a name."""
    folders = [composed(part) for part in parts[:-1]]
    shared = [_shared_folders(composed(image.path).split("/")[:-1], folders) for image in found]
    best = [image for image, count in zip(found, shared, strict=True) if count == max(shared)]
    if len(best) > 1:
        shown = ", ".join(
            image.path if image.series is None else f"{image.path} {image.series}" for image in best[:SHOWN]
        )
        raise ImageError("several_images", f"{name} may mean {shown}: give it the folders of its image")
    return best[0]


def _shared_folders(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    # A name without folders fits any; equal folders fit best.
    return 2 * count + (len(one) == len(other) == count)
