"""Join files that are one image, by their names."""

import dataclasses
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path, PurePath

from unetbio.errors import UsageError
from unetbio.io.discover import Found
from unetbio.io.image_set import ImageSet
from unetbio.io.name_order import in_natural_order, left_out
from unetbio.io.namings import NAMINGS, SPLIT_PATTERN, Match, Naming, SideFile, naming_of_pattern
from unetbio.notes import say_without_effect

__all__ = ["AUTO", "NONE", "group_files"]

logger = logging.getLogger(__name__)

SHOWN_GAPS = 8
AUTO, NONE = "auto", "none"
"""Find namings by themselves; take each file as an image."""

_DYE = re.compile(
    r"(.+)_(DAPI|Hoechst\d*|GFP|EGFP|YFP|CFP|RFP|mCherry|tdTomato|FITC|TRITC|Cy3|Cy5|TexasRed|AF\d{3}|brightfield|BF|phase)"
    r"(\.\w+)",
    re.IGNORECASE,
)

_Named = tuple[Found, Match]


def group_files(found: Iterable[Found], how: str, *, names_option: bool = True) -> list[Found]:
    """Join files that are one image, as their names say.

    Parameters
    ----------
    found : iterable of Found
        Files that were found.
    how : str
        ``none``: leave all as they are. ``auto``: find known namings where the names leave no doubt: all files of the
        images of a folder fit one naming, and no two have the same place. The name of a naming
        (`unetbio.io.namings.NAMINGS`), or a regular expression with named groups.
    names_option : bool
        Whether messages name the option ``--group``, which not all commands have.

    Returns
    -------
    list of Found
        In the order of the first files. Sets of several files have an `ImageSet`. A file that is alone keeps its name,
        and gets the columns of its name.

    Raises
    ------
    UsageError
        Where ``how`` names a naming that fits no file, or two files have the same place.
    """
    files = list(found)
    if how == NONE:
        _say_if_needless(files)
        return files
    namings = NAMINGS if how == AUTO else (_find(how),)
    left, named = _split(files, namings)
    thumbs = len(files) - len(left) - sum(map(len, named.values()))
    if thumbs:
        logger.info("%s left out: thumbnails beside the images of a plate", _count(thumbs, "file"))
    groups = [_Plate(naming, folder, members) for (naming, folder), members in named.items()]
    if how == AUTO:
        doubtful = [plate for plate in groups if plate.doubt]
        for plate in doubtful:
            logger.info("%s: not joined by their names, since %s", plate.title, plate.doubt)
        left += [item for plate in doubtful for item, _ in plate.members]
        groups = [plate for plate in groups if not plate.doubt]
    else:
        _refuse(how, files, left, groups)
    if how == AUTO and names_option:
        _say_if_dyes(left)
    made = [image for plate in groups for image in plate.images(names_option=names_option)]
    order = {item.path: number for number, item in enumerate(files)}
    return sorted([*left, *made], key=lambda item: order[item.path])


def _say_if_dyes(files: Sequence[Found]) -> None:
    """Say that files whose names differ in a dye alone are not joined, so that none is taken for the nuclei unseen."""
    shared: dict[str, list[Found]] = {}
    for item in files:
        if found := _DYE.fullmatch(item.relative.as_posix()):
            shared.setdefault(f"{found[1]} {found[3]}", []).append(item)
    apart = [item for items in shared.values() if len(items) > 1 for item in items]
    if apart:
        logger.info(
            "%d files end in the name of a channel, such as %s: each is an image of its own; --group '%s' joins them",
            len(apart),
            apart[0].relative,
            SPLIT_PATTERN,
        )


def _say_if_needless(files: Sequence[Found]) -> None:
    """Say that ``none`` changes nothing, where ``auto`` would join no files and add no columns."""
    _, named = _split(files, NAMINGS)
    if all(_Plate(naming, folder, members).doubt for (naming, folder), members in named.items()):
        say_without_effect("--group none", "names of files join none of them")


def _find(how: str) -> Naming:
    return next((naming for naming in NAMINGS if naming.name == how), None) or naming_of_pattern(how)


def _split(
    files: Sequence[Found], namings: Sequence[Naming]
) -> tuple[list[Found], dict[tuple[Naming, str], list[_Named]]]:
    """Files of no naming, without thumbnails, and the others by their naming and the folder of their plate."""
    left: list[Found] = []
    named: dict[tuple[Naming, str], list[_Named]] = {}
    for item in files:
        path = item.relative.as_posix()
        for naming in namings:
            # Images that are folders, and files that come with a place of their own, are no pieces.
            match = None if item.place else naming.match(path)
            if match is not None:
                named.setdefault((naming, f"{item.root}/{match.folder}"), []).append((item, match))
                break
        else:
            left.append(item)
    beside = {(naming, folder) for naming, folder in named if naming.left_out}
    thumbs = {id(item) for item in left for naming, _ in beside if naming.leaves_out(item.relative.as_posix())}
    return [item for item in left if id(item) not in thumbs], named


def _refuse(how: str, files: Sequence[Found], left: Sequence[Found], plates: Sequence["_Plate"]) -> None:
    """Refuse a naming that was asked for and does not fit; say which files it leaves as they are."""
    if not plates:
        raise UsageError(f"--group {how} fits no file, such as {files[0].relative}: change it, or leave it out")
    for plate in plates:
        if plate.doubt:
            raise UsageError(f"--group {how}: {plate.doubt}")
    if left:
        logger.warning(
            "--group fits all but %d of %d files, each of which is an image of its own, such as %s",
            len(left),
            len(files),
            left[0].relative,
        )


class _Plate:
    """Files of one naming in one folder."""

    def __init__(self, naming: Naming, folder: str, members: Sequence[_Named]) -> None:
        self.naming, self.folder, self.members = naming, folder, members
        self.values = {axis: self._values_along(axis) for axis in "TCZ"}
        self.fields: dict[tuple[str, ...], dict[tuple[int, int, int], Found]] = {}
        self.matches: dict[tuple[str, ...], Match] = {}
        self.doubt = ""
        for item, match in members:
            self._add(item, match)

    @property
    def title(self) -> str:
        """The plate for messages."""
        return f"{len(self.members)} files named as those of {self.naming.title}"

    def _values_along(self, axis: str) -> list[str]:
        """Different values along an axis: times and sections in their order, channels by numbers and then by names."""
        found = {match.axes[axis] for _, match in self.members if axis in match.axes}
        if axis in "TZ":
            return in_natural_order(found)
        return sorted(found, key=lambda value: (not value.isdecimal(), int(value) if value.isdecimal() else 0, value))

    def _add(self, item: Found, match: Match) -> None:
        place = tuple(self.values[axis].index(match.axes[axis]) if axis in match.axes else 0 for axis in "TCZ")
        field = self.fields.setdefault(match.key, {})
        other = field.setdefault((place[0], place[1], place[2]), item)
        if other is not item:
            self.doubt = f"{other.relative} and {item.relative} have the same place"
        self.matches.setdefault(match.key, match)

    def images(self, *, names_option: bool) -> Iterator[Found]:
        """One image for each field."""
        side = self._side_file()
        joined = sum(len(files) > 1 for files in self.fields.values())
        if joined:
            logger.info(
                "%d files are %s of %s, by their names (%s%s)",
                len(self.members),
                _count(len(self.fields), "image"),
                ", ".join(self._contents()),
                self.naming.title,
                f": --group {self.naming.name}; --group none takes each as an image" if names_option else "",
            )
            self._say_gaps()
        for key, files in self.fields.items():
            yield self._image(self.matches[key], files, side, alone=not joined)

    def _say_gaps(self) -> None:
        """Name times and sections that no file has: what follows a gap counts as next to what is before it."""
        for axis, word in (("Z", "sections"), ("T", "times")):
            if gaps := left_out(self.values[axis]):
                shown = ", ".join(map(str, gaps[:SHOWN_GAPS])) + (" ..." if len(gaps) > SHOWN_GAPS else "")
                logger.warning(
                    "%s: no file has the number %s among the %s, which are joined without it: copy it if it is missing",
                    self.title,
                    shown,
                    word,
                )

    def _contents(self) -> Iterator[str]:
        """Number of channels, sections and times of an image, those above one."""
        for axis, word in (("C", "channel"), ("Z", "section"), ("T", "time")):
            count = len(self.values[axis])
            if count > 1:
                yield f"{count} {word}s"

    def _image(
        self, match: Match, files: Mapping[tuple[int, int, int], Found], side: SideFile, *, alone: bool
    ) -> Found:
        first = files[min(files)]
        place = {**self._plate_column(first, match), **match.place}
        if alone:
            return dataclasses.replace(first, place=place)
        folder = first.path.parent
        shape = tuple(max(1, len(self.values[axis])) for axis in "TCZ")
        places = [(t, c, z) for t, c, z in product(*map(range, shape))]
        names = tuple(_below(files[at].path, str(folder)) if at in files else "" for at in places)
        channels = tuple(self.naming.channel_name(value, side) for value in self.values["C"])
        images = ImageSet(folder, names, (shape[0], shape[1], shape[2]), channels, dict(side.pixel_size_um))
        relative = PurePath(match.folder) / match.name
        return dataclasses.replace(first, relative=relative, result=relative, image_set=images, place=place)

    def _plate_column(self, first: Found, match: Match) -> dict[str, str]:
        """The name of the folder, where the names of the files hold none."""
        if "well" not in match.place:
            return {}
        folder = Path(first.root, match.folder).absolute()
        return {"plate": folder.parent.name if folder.name.lower() == "images" else folder.name}

    def _side_file(self) -> SideFile:
        read = self.naming.side_file
        return SideFile() if read is None else read(self.members[0][0].path.parent)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _below(path: Path, folder: str) -> str:
    """Name of a file from a folder that may be another than its own."""
    return path.name if os.path.dirname(path) == folder else Path(os.path.relpath(path, folder)).as_posix()  # noqa: PTH120
