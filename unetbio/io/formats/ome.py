"""OME-XML: which plane is on which page, pixel sizes, channel names; and the block that is written."""

import dataclasses
import math
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from unetbio.errors import ImageError
from unetbio.io.formats.units import size_in_um

__all__ = ["OmeImage", "OmePlane", "companion_of", "ome_xml", "parse_ome"]

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"

TYPES = {
    "bit": "bool",
    "float": "float32",
    "double": "float64",
    **{name: name for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")},
}
"""numpy's name of each pixel type of OME."""

MAX_PLANES = 10_000_000
"""More planes than any file holds; a claim above it is refused before anything is made for it."""


@dataclasses.dataclass(frozen=True)
class OmePlane:
    """Where one plane is: a file (None: the file with the OME-XML) and a page in it."""

    file_name: str | None
    uuid: str | None
    page: int


@dataclasses.dataclass(frozen=True)
class OmeImage:
    """One image of an OME-XML block.

    ``dtype`` is numpy's name of the pixel type, empty where it is unknown.
    ``planes`` maps ``(c, z, t)`` to pages; ``c`` counts pages, each of which holds ``samples`` channels.
    """

    name: str
    size_x: int
    size_y: int
    size_z: int
    size_c: int
    size_t: int
    dtype: str
    samples: int
    channel_names: tuple[str, ...]
    pixel_size_um: dict[str, float]
    planes: dict[tuple[int, int, int], OmePlane]


def companion_of(xml: str) -> str | None:
    """Name of the metadata file that a BinaryOnly block refers to, or None for a block of its own."""
    for element in _root(xml):
        if _tag(element) == "BinaryOnly":
            return element.get("MetadataFile", "")
    return None


def parse_ome(xml: str, page_count: int) -> list[OmeImage]:
    """Read the images of an OME-XML block.

    Parameters
    ----------
    xml : str
        The block.
    page_count : int
        Pages of the file that holds it, for TiffData elements that leave the number of planes open.

    Returns
    -------
    list of OmeImage
        In the order of the block; images without pixels are left out.

    Raises
    ------
    ImageError
        ``bad_metadata``: the block is not XML, or its numbers do not make sense.
    """
    images = []
    for element in _root(xml):
        if _tag(element) != "Image":
            continue
        for pixels in element:
            if _tag(pixels) == "Pixels":
                images.append(_image(element.get("Name", ""), pixels, page_count))
    return images


def _root(xml: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise ImageError("bad_metadata", f"the OME-XML cannot be read ({error}): convert the file again") from error


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _number(element: ElementTree.Element, key: str, default: int | None = None) -> int:
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        value = int(text or "")
    except ValueError:
        value = -1
    if value < 0:
        raise ImageError("bad_metadata", f"the OME-XML says {key}={text!r}, which is not a count")
    return value


def _image(name: str, pixels: ElementTree.Element, page_count: int) -> OmeImage:
    sizes = {axis: _number(pixels, f"Size{axis}") for axis in "XYZCT"}
    if min(sizes.values()) < 1 or math.prod(sizes[axis] for axis in "ZCT") > MAX_PLANES:
        claim = " ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise ImageError("bad_metadata", f"the OME-XML claims an image of {claim}, which no file holds")
    channels = [child for child in pixels if _tag(child) == "Channel"]
    samples = {_number(channel, "SamplesPerPixel", 1) for channel in channels} or {1}
    if len(samples) > 1 or sizes["C"] % max(samples) or max(samples) < 1:
        raise ImageError(
            "bad_metadata", f"the OME-XML's {sizes['C']} channels do not fit its samples a pixel {samples}"
        )
    per_page = samples.pop()
    names = [channel.get("Name") or "" for channel in channels]
    return OmeImage(
        name=name,
        size_x=sizes["X"],
        size_y=sizes["Y"],
        size_z=sizes["Z"],
        size_c=sizes["C"],
        size_t=sizes["T"],
        dtype=TYPES.get(pixels.get("Type", "").lower(), ""),
        samples=per_page,
        channel_names=tuple(names) if len(names) == sizes["C"] else (),
        pixel_size_um=_pixel_size(pixels),
        planes=_planes(pixels, sizes, per_page, page_count),
    )


def _pixel_size(pixels: ElementTree.Element) -> dict[str, float]:
    sizes = {}
    for axis in "ZYX":
        try:
            value = float(pixels.get(f"PhysicalSize{axis}", "nan"))
        except ValueError:
            continue
        size = size_in_um(value, pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if size is not None:
            sizes[axis] = size
    return sizes if {"Y", "X"} <= sizes.keys() else {}


def _planes(
    pixels: ElementTree.Element, sizes: dict[str, int], samples: int, page_count: int
) -> dict[tuple[int, int, int], OmePlane]:
    """Follow the TiffData elements: each names a first plane, a first page and how many follow in DimensionOrder."""
    order = pixels.get("DimensionOrder", "XYZCT")
    if sorted(order) != sorted("XYZCT") or not order.startswith("XY"):
        raise ImageError("bad_metadata", f"the OME-XML says DimensionOrder={order!r}: XY and then Z, C, T are needed")
    lengths = {"Z": sizes["Z"], "T": sizes["T"], "C": sizes["C"] // samples}
    fast, middle, slow = order[2], order[3], order[4]
    total = math.prod(lengths.values())
    blocks = [child for child in pixels if _tag(child) == "TiffData"]
    planes: dict[tuple[int, int, int], OmePlane] = {}
    for block in blocks or [ElementTree.Element("TiffData")]:
        first = {axis: _number(block, f"First{axis}", 0) for axis in "ZCT"}
        start = first[fast] + lengths[fast] * (first[middle] + lengths[middle] * first[slow])
        page = _number(block, "IFD", 0)
        given = block.get("PlaneCount", block.get("NumPlanes"))
        count = int(given) if given is not None and given.isdecimal() else 1 if "IFD" in block.attrib else page_count
        file_name, uuid = _file_of(block)
        for i in range(min(count, total - start)):
            rest, index = divmod(start + i, lengths[fast])
            rest_slow, index_middle = divmod(rest, lengths[middle])
            position = {fast: index, middle: index_middle, slow: rest_slow}
            planes[position["C"], position["Z"], position["T"]] = OmePlane(file_name, uuid, page + i)
    return planes


def _file_of(block: ElementTree.Element) -> tuple[str | None, str | None]:
    for child in block:
        if _tag(child) == "UUID":
            return child.get("FileName"), (child.text or "").strip() or None
    return None, None


def ome_xml(
    sizes: dict[str, int],
    dtype: str,
    *,
    pixel_size_um: dict[str, float],
    channel_names: tuple[str, ...] = (),
    start: tuple[int, int] = (0, 0),
) -> str:
    """Write the OME-XML of a file whose pages are planes in the order T, C, Z (Z fastest).

    Parameters
    ----------
    sizes : dict
        Lengths by axis letter; missing ones are 1.
    dtype : str
        OME pixel type: ``uint16``, ``uint32``, ``float`` ...
    pixel_size_um : dict
        Micrometres by axis letter; may be empty.
    channel_names : tuple of str, optional
        One a channel.
    start : (int, int), optional
        Row and column of its upper left corner in the image that it is a part of.

    Returns
    -------
    str
        ASCII text without a UUID or a date, so that equal images give equal files. Micrometres are the schema's
        default unit and are not spelled out.
    """
    lengths = {axis: sizes.get(axis, 1) for axis in "XYZCT"}
    physical = "".join(
        f' PhysicalSize{axis}="{pixel_size_um[axis]!r}"' for axis in "XYZ" if axis in pixel_size_um and lengths[axis]
    )
    names = channel_names or ("",) * lengths["C"]
    channels = "".join(
        f'<Channel ID="Channel:0:{i}" SamplesPerPixel="1"{f" Name={quoteattr(text)}" if text else ""}/>'
        for i, text in enumerate(names)
    )
    size_text = "".join(f' Size{axis}="{lengths[axis]}"' for axis in "XYZCT")
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{NAMESPACE}" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{NAMESPACE} {NAMESPACE}/ome.xsd" Creator="unetbio">'
        '<Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="{dtype}"{size_text}{physical}>'
        f'{channels}<TiffData IFD="0" PlaneCount="{lengths["Z"] * lengths["C"] * lengths["T"]}"/>'
        f"{_positions(lengths, pixel_size_um, start) if any(start) else ''}"
        "</Pixels></Image></OME>"
    )
    return xml.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _positions(lengths: dict[str, int], pixel_size_um: dict[str, float], start: tuple[int, int]) -> str:
    """Place of each plane in the image that it is a part of, in micrometres where the pixel size is known."""
    known = {"Y", "X"} <= set(pixel_size_um)
    y, x = (float(at) * (pixel_size_um[axis] if known else 1.0) for axis, at in zip("YX", start, strict=True))
    unit = "\u00b5m" if known else "pixel"
    place = f'PositionX="{x!r}" PositionXUnit="{unit}" PositionY="{y!r}" PositionYUnit="{unit}"'
    return "".join(
        f'<Plane TheZ="{z}" TheC="{c}" TheT="{t}" {place}/>'
        for t in range(lengths["T"])
        for c in range(lengths["C"])
        for z in range(lengths["Z"])
    )
