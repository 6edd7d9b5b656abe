"""List the images of inputs: files, sets of files that are one image, and the fields of plates."""

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence

from unetbio.errors import ImageError, UsageError
from unetbio.io.discover import Found, find_inputs
from unetbio.io.formats import find_folder, load
from unetbio.io.grouping import AUTO, group_files
from unetbio.io.mask_names import stem
from unetbio.io.missing import MISSING_POSITION, missing_position
from unetbio.io.read import read_image
from unetbio.io.series import Series, is_seen_to_hold_one, list_series
from unetbio.io.wells import well_name
from unetbio.notes import say_once

__all__ = [
    "ALL",
    "ChosenSeries",
    "SeriesChoice",
    "find_images",
    "find_series",
    "images_of",
    "select_series",
    "series_of",
]

ALL = "all"
"""Every series of a file."""

PICTURES_OF_SLIDES = ("Thumbnail", "Label", "Macro", "thumbnail image", "label image", "macro image")
"""Names of pictures in the files of whole slides, by Aperio and by Bio-Formats: they show no cells."""

SeriesChoice = int | str | None
"""A number, a range ``A-B``, a name, or all (also None)."""

_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")


def find_images(
    inputs: Iterable[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    group: str = AUTO,
    series: SeriesChoice = None,
) -> list[Found]:
    """List the images among files, folders and patterns; only names and metadata of folders are read.

    Parameters
    ----------
    inputs, out
        As for `unetbio.io.find_inputs`.
    group : str
        As ``how`` of `unetbio.io.grouping.group_files`.
    series : int, str or None
        Which images of folders that hold several; those of files are chosen when the files are opened.

    Returns
    -------
    list of Found

    Raises
    ------
    UsageError
        As `unetbio.io.find_inputs` and `unetbio.io.grouping.group_files`.
    """
    return [image for found in group_files(find_inputs(inputs, out=out), group) for image in images_of(found, series)]


def images_of(found: Found, series: SeriesChoice = None) -> list[Found]:
    """The images of an OME-Zarr plate or collection; an input of another kind as it is.

    The image of a folder that holds one image keeps the name of the folder. A series that the folder does not hold is
    one input with an error.
    """
    kind = None if found.image_set else find_folder(found.path)
    if kind is None or not kind.list_images:
        return [found]
    try:
        kind.check_libraries()
        listed = load(kind.list_images)(found.path)
    except (ImageError, OSError):
        return [found]  # opening it gives the error
    if len(listed) == 1 and listed[0].place:
        return [dataclasses.replace(found, place=_place(found, listed[0].place))]
    if len(listed) < 2:
        return [found]
    try:
        chosen = select_series(series, [image.path for image in listed])
    except ImageError as error:
        return [dataclasses.replace(found, error=error)]
    base = found.relative.parent / stem(found.relative)
    images = []
    for number in chosen:
        image = listed[number]
        is_field = bool(image.place)
        place = _place(found, image.place) if is_field else {"position": image.path}
        images.append(
            Found(
                found.path / image.path,
                found.relative / image.path,
                base / image.path if is_field else base.with_name(f"{base.name}_s{number:02d}"),
                place=place,
                # The fields of a well alone are no plate.
                plate=base if is_field and "plate" not in image.place else None,
                error=image.error,
            )
        )
    return images


def _place(found: Found, field: Mapping[str, str]) -> dict[str, str]:
    """Columns of a field of a plate, or of a well that was given alone."""
    columns = {"plate": found.path.name, **field}
    return {**columns, "plate": stem(columns["plate"])}


def select_series(asked: SeriesChoice, names: Sequence[str]) -> list[int]:
    """Choose among the images of a file.

    Parameters
    ----------
    asked : int, str or None
        A number from 0, a range ``A-B`` of numbers, a name (upper and lower case are equal), the beginning of names up
        to a slash, a well such as ``B03``, or ``all``: those that are not named as pictures beside a slide. Digits are
        a number.
    names : sequence of str
        Names of the images.

    Raises
    ------
    ImageError
        ``no_such_series``.
    """
    numbers = range(len(names))
    if asked is None or asked == ALL:
        return _without_pictures(names)
    wanted: Sequence[int]
    text = str(asked).strip()
    if text.isdecimal():
        wanted = [int(text)]
    elif named := [number for number in numbers if _is_called(names[number], text)]:
        return named
    elif match := _RANGE.fullmatch(text):
        wanted = range(int(match[1]), int(match[2]) + 1)
    else:
        wanted = [-1]
    if wanted and wanted[0] >= 0 and wanted[-1] < len(names):
        return list(wanted)
    held = ", ".join(f"{number}: {name or '(no name)'}" for number, name in enumerate(names[:8]))
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    raise ImageError("no_such_series", f"no series {text}: it holds {len(names)}, counted from 0 ({held}{more})")


def _without_pictures(names: Sequence[str]) -> list[int]:
    """Numbers of the images, without the pictures beside a slide."""
    kept = [number for number, name in enumerate(names) if name not in PICTURES_OF_SLIDES]
    if not kept or len(kept) == len(names):
        return list(range(len(names)))
    left_out = ", ".join(name for name in names if name in PICTURES_OF_SLIDES)
    say_once(f"pictures beside slides are left out ({left_out}): --series NAME takes one")
    return kept


def _is_called(name: str, text: str) -> bool:
    name, text = name.casefold(), text.casefold()
    row, _, column = name.partition("/")
    well = well_name(row, column.partition("/")[0]).casefold() if column else ""
    return name == text or name.startswith(f"{text}/") or well == text


@dataclasses.dataclass(frozen=True)
class ChosenSeries:
    """An image of a file: its number, None where the file holds one image; its name; why it cannot be read at all."""

    number: int | None = None
    name: str = ""
    error: ImageError | None = None


def series_of(found: Found, series: SeriesChoice, axes: str | None) -> list[ChosenSeries]:
    """The chosen images of a file.

    The run reports a number that is not there, and a file that cannot be opened.

    Raises
    ------
    ImageError
        ``no_such_series``: no image has the name.
    """
    if found.image_set:
        select_series(series, [""])
    if found.result or found.error:
        return [ChosenSeries()]
    if isinstance(series, int):
        return [ChosenSeries(series, _name_of(found, series, axes))]
    is_all = series in (None, ALL)
    try:
        if is_all and is_seen_to_hold_one(found.path):
            return [ChosenSeries()]
        listed = [_chosen(each) for each in list_series(found.path, axes=axes)]
    except (ImageError, OSError):
        return [ChosenSeries()]
    if is_all and len(listed) == 1:
        return [ChosenSeries()]
    return [listed[number] for number in select_series(series, [each.name for each in listed])]


def _chosen(listed: Series) -> ChosenSeries:
    """An image of a file of several, which may be a position that was never recorded."""
    image, error = listed.image, listed.error
    if image is not None and image.missing and not image.missing.present.any():
        error = missing_position(image.name, image.missing.total)
    name = image.name if image else ""
    return ChosenSeries(listed.number, name, error if error and error.reason == MISSING_POSITION else None)


def _name_of(found: Found, series: int, axes: str | None) -> str:
    """Name of an image of a file of several; empty where the file holds one, or cannot be opened."""
    try:
        if is_seen_to_hold_one(found.path):
            return ""
        image = read_image(found.path, axes=axes, series=series)
    except (ImageError, OSError):
        return ""
    return image.name if image.series_count > 1 else ""


def find_series(path: str | os.PathLike[str], series: str, *, axes: str | None = None) -> int:
    """Number of the image of a file that has a name.

    Raises
    ------
    UsageError
        Several images are meant.
    ImageError
        ``no_such_series``: no image has the name.
    """
    names = [each.image.name if each.image else "" for each in list_series(path, axes=axes)]
    chosen = select_series(series, names)
    if len(chosen) > 1:
        raise UsageError(f"series {series} are {len(chosen)} images of {path}: give the number of one")
    return chosen[0]
