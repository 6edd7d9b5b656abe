"""How microscopes name the files of a plate: a file for each channel, section and time of a field.

A `Naming` is a regular expression on the path of a file below the searched folder, with forward slashes. Groups called
``channel``, ``z`` and ``t`` tell the files of one image apart; all others (``plate``, ``well``, or ``row`` and
``column``, ``field`` ...) say where the image lies.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from unetbio.errors import UsageError
from unetbio.files import open_regular
from unetbio.io.wells import numeric, place_of_well, row_letters

__all__ = ["AXIS_GROUPS", "NAMINGS", "SPLIT_PATTERN", "Match", "Naming", "SideFile", "naming_of_pattern"]

AXIS_GROUPS = {"channel": "C", "c": "C", "z": "Z", "plane": "Z", "t": "T", "time": "T"}
"""Groups that tell the files of one image apart, and their axes."""

SPLIT_PATTERN = "(?P<name>.+)_(?P<channel>[^_]+)"
"""For files such as ``cells1_DAPI.tif`` and ``cells1_GFP.tif``, which are of no instrument."""

_FIELDS = ("field", "site", "position")
_SUFFIX = r"\.(?:tiff?|png|c01|dib|flex|jpe?g)"
_MM_FOLDER = r"(?:(?:(?P<well>[A-P]\d{1,2})-Site_(?P<site>\d+)|(?P<field>[^/]+))/)?"
"""Folder of a position of Micro-Manager, which a user may have given itself."""

_GUID = r"(?:[0-9A-F]{8}-?(?:[0-9A-F]{4}-?){3}[0-9A-F]{12})?"


@dataclasses.dataclass(frozen=True)
class SideFile:
    """What a file beside the images says: names of channels by their number in the file names, and the pixel size."""

    channel_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pixel_size_um: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Match:
    """Parts of the path of one file.

    Parameters
    ----------
    folder : str
        Folder of the image, below the searched folder; empty or ending in a slash.
    key : tuple of str
        What the files of one image share.
    name : str
        Name of the image, without folder.
    axes : dict
        Value along each of the axes T, C and Z that the name has.
    groups : dict
        The groups of `key`.
    """

    folder: str
    key: tuple[str, ...]
    name: str
    axes: Mapping[str, str]
    groups: Mapping[str, str]

    @property
    def place(self) -> dict[str, str]:
        """Plate, well, row, column, field and all other groups, as columns of the tables."""
        return _place(self.groups)


@dataclasses.dataclass(frozen=True)
class Naming:
    """Names of one kind of microscope or program.

    Parameters
    ----------
    name : str
        For ``--group``.
    title : str
        Name for users.
    pattern : str
        Regular expression of the path below the folder of the plate, without the ending.
    stem : tuple of str
        Parts of the name of an image: ``s{field}`` is left out where the field is.
    example : str
        A path that it matches.
    channel : str
        Name of a channel: ``ch{}`` with its number.
    left_out : str
        Regular expression of files that are no images to segment, such as thumbnails.
    side_file : callable, optional
        Reads what lies beside the images in a folder.
    """

    name: str
    title: str
    pattern: str
    stem: tuple[str, ...]
    example: str
    channel: str = "{}"
    left_out: str = ""
    side_file: Callable[[Path], SideFile] | None = None

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        return re.compile(rf"(?P<folder_>(?:.*?/)??){self.pattern}{_SUFFIX}", re.IGNORECASE)

    @cached_property
    def _left_out(self) -> re.Pattern[str] | None:
        return re.compile(self.left_out, re.IGNORECASE) if self.left_out else None

    def leaves_out(self, path: str) -> bool:
        """Whether a file beside the images of a plate is none of them."""
        return self._left_out is not None and self._left_out.fullmatch(path.rpartition("/")[2]) is not None

    def match(self, path: str) -> Match | None:
        """Parts of a path; None if it is named in another way."""
        found = self._expression.fullmatch(path)
        return None if found is None else self._parts(found)

    def _parts(self, found: re.Match[str]) -> Match:
        groups = {name: value for name, value in found.groupdict().items() if value is not None and value != ""}
        folder = groups.pop("folder_", "")
        axes = {AXIS_GROUPS[name]: value for name, value in groups.items() if name in AXIS_GROUPS}
        others = {name: value for name, value in groups.items() if name not in AXIS_GROUPS}
        return Match(folder, (folder, *others.values()), self._name(others), axes, others)

    @cached_property
    def _parts_of_stem(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Parts of the name of an image, each with its groups."""
        return tuple((part, tuple(re.findall(r"{(\w+)}", part))) for part in self.stem)

    def _name(self, groups: Mapping[str, str]) -> str:
        parts = (part for part, names in self._parts_of_stem if all(name in groups for name in names))
        return "_".join(part.format(**groups) for part in parts) or "image"

    def channel_name(self, value: str, side: SideFile) -> str:
        """Name of a channel: that of the side file, the word in the file name, or its number with a prefix."""
        return side.channel_names.get(numeric(value), "") or (
            self.channel.format(value) if value.isdecimal() else value
        )


class _Pattern(Naming):
    """A user's own regular expression, which is searched in the path without its ending."""

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def match(self, path: str) -> Match | None:
        stem = re.sub(r"(\.(ome|nii))?\.\w+$", "", path)
        found = self._expression.search(stem) or self._expression.search(path)
        if found is None:
            return None
        parts = self._parts(found)
        folder = path.rpartition("/")[0] + "/" if "/" in path and "/" not in found[0] else ""
        return dataclasses.replace(parts, folder=folder, key=(folder, *parts.key))

    def _name(self, groups: Mapping[str, str]) -> str:
        return "_".join(value.replace("/", "_") for value in groups.values()) or "image"


def _place(groups: Mapping[str, str]) -> dict[str, str]:
    """Columns of the tables: wells in one form, numbers without leading zeros."""
    place = dict(groups)
    if "row" in place and "column" in place:
        row = place["row"]
        letters = row_letters(int(row)) if row.isdecimal() and int(row) else row
        place |= place_of_well(f"{letters}{place['column']}")
    elif "well" in place:
        place |= place_of_well(place["well"])
    for name in _FIELDS:
        if name in place:
            place["field"] = numeric(place.pop(name))
    first = ("plate", "well", "row", "column", "field")
    return {name: place[name] for name in (*first, *(other for other in place if other not in first)) if name in place}


def naming_of_pattern(pattern: str) -> Naming:
    r"""A naming of the user's own.

    Parameters
    ----------
    pattern : str
        With a group for what tells the files of an image apart (``channel``, ``z``, ``t``) and for what they share:
        ``(?P<field>\d+)_(?P<channel>\w+)``.

    Raises
    ------
    UsageError
        When it is no regular expression, or has no such group.
    """
    try:
        groups = re.compile(pattern).groupindex
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"--group {pattern} is no regular expression: {error}") from error
    if not set(groups) & set(AXIS_GROUPS):
        known = ", ".join(naming.name for naming in NAMINGS)
        raise UsageError(
            f"--group {pattern} is none of auto, none, {known}, and names no group (?P<channel>...), (?P<z>...) or "
            "(?P<t>...) that tells the files of an image apart"
        )
    return _Pattern(name=pattern, title="own names", pattern=pattern, stem=(), example="")


_HTD_WAVE = re.compile(r'"WaveName(\d+)",\s*"([^"]*)"')
_PHENIX_NAME = re.compile(
    r"<ChannelID>(\d+)</ChannelID>(?:(?!</Image>|<ChannelID>).)*?<ChannelName>([^<]*)<", re.DOTALL
)
_PHENIX_SIZE = re.compile(r'<ImageResolution([XY]) Unit="m">([-+.\dEe]+)<')
SIDE_FILE_BYTES = 1 << 20
"""A side file lists every image of a plate; its beginning names all channels."""


def _metaxpress_side_file(folder: Path) -> SideFile:
    """Names of the wavelengths in the HTD file of the plate."""
    folder = folder.absolute()
    # Below the plate, times may have folders, and sections folders in these.
    is_deep = folder.name.lower().startswith("zstep_") and folder.parent.name.lower().startswith("timepoint_")
    text = _beginning(folder, ("*.HTD", "*.htd"), above=2 if is_deep else 1)
    return SideFile({number: name for number, name in _HTD_WAVE.findall(text) if name})


def _phenix_side_file(folder: Path) -> SideFile:
    """Names of channels and the pixel size in ``Index.xml`` (``Index.idx.xml``, ``Index.ref.xml``)."""
    text = _beginning(folder, ("Index*.xml",))
    sizes = {axis: float(size) * 1e6 for axis, size in _PHENIX_SIZE.findall(text)}
    return SideFile(dict(reversed(_PHENIX_NAME.findall(text))), sizes if set(sizes) == {"X", "Y"} else {})


def _beginning(folder: Path, patterns: tuple[str, ...], above: int = 1) -> str:
    """Beginning of the first such file in a folder or those above, as many as are given."""
    for place in (folder, *folder.absolute().parents[:above]):
        for path in sorted(path for pattern in patterns for path in place.glob(pattern)):
            try:
                with open_regular(path) as stream:
                    return str(stream.read(SIDE_FILE_BYTES), "utf-8", errors="replace")
            except OSError:
                continue
    return ""


NAMINGS = (
    Naming(
        "phenix",
        "Opera Phenix, Operetta CLS (Harmony)",
        r"r(?P<row>\d{2})c(?P<column>\d{2})f(?P<field>\d{2,})p(?P<z>\d{2,})(?:rc\d+)?-ch(?P<channel>\d+)"
        r"(?:sk(?P<t>\d+)fk\d+fl\d+|t(?P<time>\d+))?",
        ("r{row}c{column}f{field}",),
        "Images/r01c01f01p01-ch1sk1fk1fl1.tiff",
        "ch{}",
        side_file=_phenix_side_file,
    ),
    Naming(
        "operetta",
        "Operetta (Harmony 3)",
        r"(?P<row>\d{3})(?P<column>\d{3})-(?P<field>\d+)-(?P<z>\d{3})(?P<t>\d{3})(?P<channel>\d{3})",
        ("{row}{column}-{field}",),
        "Images/001001-1-001001001.tif",
        "ch{}",
    ),
    Naming(
        "metaxpress",
        "ImageXpress (MetaXpress)",
        r"(?:TimePoint_(?P<t>\d+)/)?(?:ZStep_(?P<z>\d+)/)?(?:(?P<plate>[^/]+?)_)??"
        r"(?P<well>(?:A[A-F]|[A-Z])\d{2})"
        # Where there is one wavelength its number is left out: then a folder TimePoint_1 shows what the names are.
        rf"(?:_s(?P<field>\d+))?(?:_w(?P<channel>\d)|(?(t)|(?!)))(?:_t(?P<time>\d+))?(?:_z(?P<plane>\d+))?{_GUID}",
        ("{plate}", "{well}", "s{field}"),
        "TimePoint_1/ZStep_1/9987_B02_s1_w1.TIF",
        "w{}",
        left_out=r".*_thumb.*",
        side_file=_metaxpress_side_file,
    ),
    Naming(
        "nis",
        "NIS-Elements (jobs)",
        r"(?:(?P<plate>[^/]+?)_)?Wells?-?(?P<well>(?:A[A-F]|[A-Z])\d{1,2})(?:_Points?-?(?P<field>\w*?))?_+"
        r"(?:Z(?P<z>\d+)_)?(?:T(?P<t>\d+)_)?Channel_?(?P<channel>[^/]+?)(?:_Seq\d+)?",
        ("{plate}", "Well{well}", "Point{field}"),
        "WellA01_Point01_ChannelDAPI_Seq0001.tif",
    ),
    Naming(
        "nis-export",
        "NIS-Elements (export to TIFF)",
        r"(?P<plate>[^/]*?)_?(?:t(?P<t>\d{1,5}))?(?:xy(?P<field>\d{1,4}))(?:z(?P<z>\d{1,4}))?c(?P<channel>\d{1,2})",
        ("{plate}", "xy{field}"),
        "exp_t01xy02z03c1.tif",
        "c{}",
    ),
    Naming(
        "micromanager",
        "Micro-Manager 2 (separate files)",
        rf"{_MM_FOLDER}img_channel(?P<channel>\d{{3,}})_(?(field)position\d+|(?(site)position\d+|position(?P<position>\d+)))"
        r"_time(?P<t>\d{9})_z(?P<z>\d{3,})",
        ("{well}-Site_{site}", "{field}", "position{position}"),
        "Pos0/img_channel000_position000_time000000000_z000.tif",
        "channel {}",
    ),
    Naming(
        "micromanager1",
        "Micro-Manager 1.4 (separate files)",
        rf"{_MM_FOLDER}img_(?P<t>\d{{9}})_(?P<channel>[^/]+)_(?P<z>\d{{3}})",
        ("{well}-Site_{site}", "{field}"),
        "Pos0/img_000000000_DAPI_000.tif",
    ),
    Naming(
        "metamorph",
        "MetaMorph, MetaXpress with names of dyes",
        r"(?:(?P<plate>[^/]+?)_)??(?:(?P<well>(?:A[A-F]|[A-Z])\d{2})_)?(?:s(?P<field>\d+)_)?w\d(?P<channel>[^\d_/][^/]*?)"
        # What tells it from other names with a w and a number.
        r"(?:_s(?P<site>\d+))?(?:_t(?P<t>\d+)|(?(site)|(?(well)|(?!))))",
        ("{plate}", "{well}", "s{field}", "s{site}"),
        "exp_w1DAPI_s1_t1.TIF",
    ),
    Naming(
        "lasx",
        "Leica LAS X (export to TIFF)",
        r"(?P<field>[^/]+?)(?:_t(?P<t>\d+))?(?:_z(?P<z>\d+))?(?:_RAW)?_ch(?P<channel>\d{2})",
        ("{field}",),
        "Series001_t00_z00_ch00.tif",
        "ch{}",
    ),
    Naming(
        "cellomics",
        "Cellomics ArrayScan, EVOS",
        r"(?P<plate>[^/]+)_(?P<well>[A-P]\d{2})f(?P<field>\d{2,3})[do](?P<channel>\d)",
        ("{plate}", "{well}f{field}"),
        "AS_09125_050116000001_A01f00d0.TIF",
        "d{}",
    ),
    Naming(
        "yokogawa",
        "Yokogawa CellVoyager (CV7000, CV8000)",
        r"(?P<plate>[^/]+)_(?P<well>[A-P]\d{2})_T(?P<t>\d{4})F(?P<field>\d{3,4})L(?:\d{2})A(?:\d{2})Z(?P<z>\d{2,3})"
        r"C(?P<channel>\d{2})",
        ("{plate}", "{well}", "F{field}"),
        "plate_B03_T0001F001L01A01Z01C01.tif",
        "C{}",
    ),
    Naming(
        "incell",
        "IN Cell Analyzer",
        r"(?P<well>[A-P] - \d{1,2})\(fld (?P<field>\d+) wv (?P<channel>[^)/]+?)(?: z (?P<z>\d+))?(?: tm (?P<t>\d+))?\)",
        ("{well}(fld {field})",),
        "A - 01(fld 1 wv DAPI - DAPI).tif",
    ),
    Naming(
        "scanr",
        "Olympus ScanR",
        r"(?:(?P<well>[A-P]\d{1,2}))?--W(?P<number>\d{5})--P(?P<field>\d{5})--Z(?P<z>\d{5})--T(?P<t>\d{5})--(?P<channel>[^/]+)",
        ("{well}", "W{number}", "P{field}"),
        "A01--W00001--P00001--Z00000--T00000--DAPI.tif",
    ),
    Naming(
        "leica-matrix",
        "Leica Matrix Screener",
        r"image--L(?P<loop>\d{4})--S(?P<slide>\d{2})--U(?P<u>\d{2})--V(?P<v>\d{2})--J\d{2}--E\d{2}--O\d{2}--X(?P<x>\d{2})"
        r"--Y(?P<y>\d{2})--T(?P<t>\d{4})--Z(?P<z>\d{2})--C(?P<channel>\d{2})(?:\.ome)?",
        ("L{loop}", "S{slide}", "U{u}", "V{v}", "X{x}", "Y{y}"),
        "image--L0000--S00--U00--V00--J08--E00--O00--X00--Y00--T0000--Z00--C00.ome.tif",
        "C{}",
    ),
    Naming(
        "gen5",
        "BioTek Cytation (Gen5)",
        r"(?P<well>[A-P]\d{1,2})_-?\d+_\d+_(?P<field>\d+)(?:Z(?P<z>\d+))?_(?P<channel>[^/]+)_(?P<t>\d{3})",
        ("{well}", "{field}"),
        "B3_01_1_2_DAPI_001.tif",
    ),
)
"""Known namings."""
