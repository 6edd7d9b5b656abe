"""Read the JSON files of an OME-Zarr folder: its images, their axes and pixel sizes.

OME-NGFF 0.4 (Zarr 2) and 0.5 (Zarr 3), https://ngff.openmicroscopy.org. Consolidated metadata (``.zmetadata``) are a
copy and never used; where they contradict the array, the image is refused.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unetbio.errors import ImageError
from unetbio.files import read_bytes, real_path
from unetbio.io.formats.refusals import check_series
from unetbio.io.formats.units import size_in_um
from unetbio.io.wells import numeric, place_of_well, well_name

__all__ = ["Multiscale", "check_copy", "find_images", "find_label_image", "is_one_image", "list_images"]

MAX_JSON_BYTES = 1 << 25
MAX_IMAGES = 100_000
"""Largest number of images in a collection."""

MAX_AXES = 5
_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


@dataclass(frozen=True)
class Multiscale:
    """One image of a folder, as its metadata describes it.

    Parameters
    ----------
    array : pathlib.Path
        Folder of the array with the full resolution.
    array_name : str
        The same, below the folder that was opened.
    levels : tuple of pathlib.Path
        Folders of the smaller arrays.
    axes : str
        Letters of ``TCZYX``, one an axis of the array, in its order; empty where the metadata names none (0.1, 0.2).
    pixel_size_um : dict
        Micrometres by axis letter; those whose unit is known.
    channel_names : tuple of str
        As the metadata lists them, however many.
    name : str
        Of the image, or its path in a collection.
    """

    array: Path
    array_name: str
    levels: tuple[Path, ...]
    axes: str
    pixel_size_um: dict[str, float]
    channel_names: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class ListedImage:
    """One of the images in a folder.

    Parameters
    ----------
    path : str
        Its folder, below that of all images.
    place : dict
        Well, row, column, field and acquisition of an image of a plate; also its folder, if a well was listed.
    error : ImageError, optional
        Why it cannot be opened, if it is not there.
    """

    path: str
    place: dict[str, str]
    error: ImageError | None = None


def find_images(root: Path, series: int) -> tuple[Multiscale, int]:
    """Find an image of a folder.

    Parameters
    ----------
    root : pathlib.Path
        An image, a collection (bioformats2raw), a plate or a well. Images in ``labels`` groups are not counted.
    series : int
        Which image, from 0.

    Returns
    -------
    Multiscale
        The image.
    int
        How many there are.

    Raises
    ------
    ImageError
        ``unsupported_format``, ``unreadable``, ``inconsistent``, ``no_such_series``, ``unknown_axes``.
    """
    group, entry, count, name = _pick(root, series)
    return _multiscale(root, group, entry, name), count


def is_one_image(root: Path) -> bool:
    """Whether a folder is an image itself, and not several or a folder of images; raises as `find_images`."""
    attributes = _attributes(root)
    return "multiscales" in attributes and len(_dicts(attributes, "multiscales")) == 1


def list_images(root: Path) -> list[ListedImage]:
    """List the images of a plate, a well or a collection (bioformats2raw), each of which is a folder of its own.

    Parameters
    ----------
    root : pathlib.Path
        The folder.

    Returns
    -------
    list of ListedImage
        In the order of the metadata; empty for a folder that is an image itself. A well or a field that the metadata
        name and that is not there has an error. Images of a plate have a place.

    Raises
    ------
    ImageError
        As `find_images`.
    """
    attributes = _attributes(root)
    if "multiscales" in attributes:
        return []
    if "plate" in attributes:
        return list(_plate_images(root, attributes["plate"]))
    if "well" in attributes:
        # A path from within the plate, such as 03, does not name all folders.
        folder = real_path(root)
        place = {"plate": folder.parent.parent.name, **_place(folder.parent.name, folder.name)}
        return list(_well_images(root, "", place, _dicts(attributes["well"], "images")))
    return [ListedImage(path, {}) for path in _collection(root, attributes)]


def _plate_images(root: Path, plate: Any) -> Iterator[ListedImage]:
    for well in _dicts(plate, "wells"):
        path = str(well.get("path"))
        row, _, column = path.partition("/")
        place = _place(row, column)
        try:
            images = _dicts(_attributes(_below(root, root, path)).get("well"), "images")
        except ImageError as error:
            reason = f"the well {place['well']} of the plate cannot be read ({error})"
            if not root.joinpath(*PurePosixPath(path).parts).is_dir():
                reason = f"the well {place['well']} is listed by the plate, and its folder {path} is missing"
            yield ListedImage(path, place, ImageError("missing_well", f"{reason}: all others are segmented"))
            continue
        yield from _well_images(root, f"{path}/", place, images)


def _place(row: str, column: str) -> dict[str, str]:
    """Columns of a well, by the names of its folders."""
    return {**place_of_well(well_name(row, column)), "row": row, "column": numeric(column)}


def _well_images(root: Path, prefix: str, place: dict[str, str], images: list[dict[str, Any]]) -> Iterator[ListedImage]:
    for image in images:
        field = str(image.get("path"))
        own = {**place, "field": field}
        if "acquisition" in image:
            own["acquisition"] = str(image["acquisition"])
        error = None
        if not root.joinpath(*PurePosixPath(prefix + field).parts).is_dir():
            text = f"the field {field} is listed by the well, and its folder {prefix}{field} is missing"
            error = ImageError("missing_field", f"{text}: all others are segmented")
        yield ListedImage(prefix + field, own, error)


def find_label_image(root: Path, series: int) -> tuple[Multiscale, int]:
    """Find the label image of a folder: itself, or the one in the ``labels`` group of the image that it holds.

    Raises
    ------
    ImageError
        As `find_images`; ``ambiguous_labels`` where there are several label images.
    """
    attributes = _attributes(root)
    if "labels" in attributes and "multiscales" not in attributes:
        return _named_label(root, root, attributes), 1
    group, entry, count, name = _pick(root, series)
    if "image-label" not in _attributes(group) and (group / "labels").is_dir():
        return _named_label(root, group / "labels", _attributes(group / "labels")), count
    return _multiscale(root, group, entry, name), count


def _named_label(root: Path, group: Path, attributes: dict[str, Any]) -> Multiscale:
    names = attributes.get("labels")
    if not isinstance(names, list) or not names:
        raise _inconsistent(f"the group {group.name} lists no label images")
    if len(names) > 1:
        shown = ", ".join(str(name)[:40] for name in names[:8])
        raise ImageError("ambiguous_labels", f"it holds {len(names)} label images ({shown}): give the folder of one")
    folder = _below(root, group, names[0])
    return _multiscale(root, folder, _multiscales(_attributes(folder), folder.name)[0], folder.name)


def _pick(root: Path, series: int) -> tuple[Path, dict[str, Any], int, str]:
    """Group of an image, its entry of ``multiscales``, how many images there are, and its name."""
    attributes = _attributes(root)
    if "multiscales" in attributes:
        entries = _multiscales(attributes, root.name)
        check_series(series, len(entries))
        name = entries[series].get("name", "")
        return root, entries[series], len(entries), name if isinstance(name, str) else ""
    paths = _collection(root, attributes)
    check_series(series, len(paths))
    group = _below(root, root, paths[series])
    return group, _multiscales(_attributes(group), paths[series])[0], len(paths), paths[series]


def _collection(root: Path, attributes: dict[str, Any]) -> list[str]:
    """Paths of the images in a folder that is no image itself."""
    if "plate" in attributes:
        wells = [well.get("path") for well in _dicts(attributes["plate"], "wells")]
        return [f"{well}/{field}" for well in wells for field in _fields(_attributes(_below(root, root, well)))]
    if "well" in attributes:
        return _fields(attributes)
    if "bioformats2raw.layout" in attributes:
        return _series_of_layout(root)
    if "labels" in attributes:
        raise ImageError("unsupported_format", "a group of label images, not an image: give the folder above it")
    if (root / ".zarray").is_file() or _node_type(root) == "array":
        raise ImageError(
            "unsupported_format",
            "a Zarr array that does not say what its axes are: write it as OME-Zarr 0.4 or 0.5, or give the folder "
            "above it",
        )
    raise ImageError("unsupported_format", "a Zarr folder without an image (no OME-NGFF multiscales): is it OME-Zarr?")


def _fields(attributes: dict[str, Any]) -> list[str]:
    return [str(image.get("path")) for image in _dicts(attributes.get("well"), "images")]


def _series_of_layout(root: Path) -> list[str]:
    if (root / "OME").is_dir():
        listed = _attributes(root / "OME").get("series")
        if isinstance(listed, list) and listed:
            return [str(path) for path in listed[:MAX_IMAGES]]
    found: list[str] = []
    while len(found) < MAX_IMAGES and (root / str(len(found))).is_dir():
        found.append(str(len(found)))
    return found


def _dicts(value: Any, key: str) -> list[dict[str, Any]]:
    """A list of mappings below ``key``; all other content is refused."""
    listed = value.get(key) if isinstance(value, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise _inconsistent(f"{key} is not a list of objects")
    if len(listed) > MAX_IMAGES:
        raise _inconsistent(f"{key} has {len(listed)} entries")
    return listed


def _multiscales(attributes: dict[str, Any], where: str) -> list[dict[str, Any]]:
    entries = _dicts(attributes, "multiscales")
    if not entries:
        raise _inconsistent(f"multiscales of {where} is empty")
    # What describes the picture stands beside the list.
    return [{"omero": attributes.get("omero"), **entry} for entry in entries]


def _multiscale(root: Path, group: Path, entry: dict[str, Any], name: str) -> Multiscale:
    datasets = _dicts(entry, "datasets")
    if not datasets:
        raise _inconsistent("an image without datasets")
    arrays = [_below(root, group, dataset.get("path")) for dataset in datasets]
    axes, units = _axes(entry)
    scales = [_scale(part, len(axes)) for part in (datasets[0], entry)] if axes else []
    sizes = {}
    for index, letter in enumerate(axes):
        size = size_in_um(math.prod(scale[index] for scale in scales), units[index])
        if letter in "ZYX" and size:
            sizes[letter] = size
    return Multiscale(
        array=arrays[0],
        array_name=arrays[0].relative_to(root).as_posix(),
        levels=tuple(arrays[1:]),
        axes=axes,
        pixel_size_um=sizes if {"Y", "X"} <= set(sizes) else {},
        channel_names=_channel_names(entry["omero"]),
        name=name,
    )


def _axes(entry: dict[str, Any]) -> tuple[str, list[str]]:
    """Letters and units of the axes; none where the version of the format had no such list."""
    if "axes" not in entry:
        return "", []
    listed = entry["axes"]
    if not isinstance(listed, list) or not 2 <= len(listed) <= MAX_AXES:
        raise _inconsistent(f"axes are a list of 2 to {MAX_AXES}")
    # Version 0.3 listed bare names.
    axes = [{"name": axis} if isinstance(axis, str) else axis for axis in listed]
    if not all(isinstance(axis, dict) and isinstance(axis.get("name"), str) for axis in axes):
        raise _inconsistent("an axis without a name")
    names = [axis["name"].lower() for axis in axes]
    if not set(names) <= set(_TYPES) or len(set(names)) != len(names) or not {"y", "x"} <= set(names):
        raise _unknown_axes(names, "names of t, c, z, y, x, each once, with y and x, are known")
    for name, axis in zip(names, axes, strict=True):
        if axis.get("type", _TYPES[name]) != _TYPES[name]:
            raise _unknown_axes(names, f"axis {name} is of type {axis.get('type')}")
    units = [axis.get("unit") for axis in axes]
    return "".join(names).upper(), [unit if isinstance(unit, str) else "" for unit in units]


def _unknown_axes(names: list[str], what: str) -> ImageError:
    return ImageError("unknown_axes", f"axes {', '.join(names)[:80]}: {what}; write the image with such axes")


def _scale(part: dict[str, Any], dimensions: int) -> list[float]:
    """Factors of the transformations of an image or of one of its arrays."""
    if "coordinateTransformations" not in part:
        return [1.0] * dimensions
    factors = [1.0] * dimensions
    for step in _dicts(part, "coordinateTransformations"):
        if step.get("type") != "scale" or "scale" not in step:
            continue
        scale = step["scale"]
        if not isinstance(scale, list) or len(scale) != dimensions:
            raise _inconsistent(f"a scale of other length than the {dimensions} axes")
        if not all(isinstance(factor, int | float) for factor in scale):
            raise _inconsistent("a scale that is not of numbers")
        factors = [factor * float(other) for factor, other in zip(factors, scale, strict=True)]
    return factors


def _channel_names(omero: Any) -> tuple[str, ...]:
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list):
        return ()
    labels = [channel.get("label") if isinstance(channel, dict) else None for channel in channels]
    return tuple(label if isinstance(label, str) else "" for label in labels)


def _below(root: Path, group: Path, path: Any) -> Path:
    """A folder named by the metadata, which must lie in the folder that was opened."""
    parts = PurePosixPath(path).parts if isinstance(path, str) and "\0" not in path else ()
    if not parts or path.startswith("/") or ".." in parts:
        raise _inconsistent(f"the path {str(path)[:80]!r} is none below the folder")
    folder = group.joinpath(*parts)
    if not folder.is_dir():
        raise ImageError("truncated", f"{path[:80]} is missing, which the metadata names: copy the folder again")
    if not real_path(folder).is_relative_to(real_path(root)):
        raise _inconsistent(f"the path {path[:80]!r} leads out of the folder")
    return folder


def check_copy(root: Path, found: Multiscale) -> None:
    """Refuse an array of which the copy in consolidated metadata says something else.

    Raises
    ------
    ImageError
        ``inconsistent``.
    """
    if (root / ".zmetadata").is_file():
        file, keys = f"{found.array_name}/.zarray", ("shape", "chunks", "dtype")
        copies = _json(root / ".zmetadata").get("metadata")
    elif (root / "zarr.json").is_file():
        file, keys = f"{found.array_name}/zarr.json", ("shape", "chunk_grid", "data_type")
        copies = (_json(root / "zarr.json").get("consolidated_metadata") or {}).get("metadata")
    else:
        return
    copy = copies.get(file.removesuffix("/zarr.json")) if isinstance(copies, dict) else None
    if not isinstance(copy, dict) or not (root / file).is_file():
        return
    own = _json(root / file)
    if wrong := next((key for key in keys if copy.get(key) != own.get(key)), None):
        raise _inconsistent(f"consolidated metadata say {wrong} {copy.get(wrong)!s:.60}, {file} {own.get(wrong)!s:.60}")


def _node_type(folder: Path) -> Any:
    return _json(folder / "zarr.json").get("node_type") if (folder / "zarr.json").is_file() else None


def _attributes(folder: Path) -> dict[str, Any]:
    """Attributes of a group, those of OME-NGFF 0.5 without the key ``ome`` that holds them."""
    if (folder / "zarr.json").is_file():
        attributes = _json(folder / "zarr.json").get("attributes", {})
        inner = attributes.get("ome", attributes) if isinstance(attributes, dict) else None
    else:
        inner = _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
    if not isinstance(inner, dict):
        raise _inconsistent(f"the attributes of {folder.name} are no JSON object")
    return inner


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ImageError("unreadable", f"{path.name} has {path.stat().st_size} bytes, too many for metadata")
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise ImageError("unreadable", f"{path.name} is not JSON ({error}): copy the folder again") from error
    if not isinstance(content, dict):
        raise ImageError("unreadable", f"{path.name} is no JSON object: copy the folder again")
    return content


def _inconsistent(what: str) -> ImageError:
    return ImageError("inconsistent", f"the OME-Zarr metadata is broken: {what}; write or copy it again")
