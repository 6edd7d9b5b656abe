"""Regions of Aperio ImageScope: an XML file for each slide, as of the data sets MoNuSeg and TNBC.

Corners count in pixels of the full resolution.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from unetbio.annotations.outlines import Ellipse, Polygons, Shape, as_ring
from unetbio.annotations.regions import Region, Sheet
from unetbio.annotations.xml_files import decimal, elements_of

__all__ = ["read_imagescope"]

DRAWN, RECTANGLE, ELLIPSE = "0", "1", "2"
"""Types of regions with an area."""


def read_imagescope(path: Path) -> Sheet:
    """Read the regions of a file; the name of a layer is the class of its regions.

    Raises
    ------
    ImageError
        ``bad_xml``, ``bad_outline``.
    """
    sheet = Sheet()
    count = 0
    for layer in elements_of(path, ("Annotation",)):
        for region in layer.iter("Region"):
            count += 1
            shape = _shape(region, f"region {count}")
            if isinstance(shape, str):
                sheet.left_out[shape] += 1
            else:
                sheet.regions.append(Region(shape, kind=layer.get("Name", "")))
    return sheet


def _shape(region: ElementTree.Element, what: str) -> Shape | str:
    kind = region.get("Type", DRAWN)
    if region.get("NegativeROA", "0") == "1":
        return "region that is to be left out"
    if kind not in (DRAWN, RECTANGLE, ELLIPSE):
        return "line"
    vertices = [[decimal(vertex, name, what) for name in "XY"] for vertex in region.iter("Vertex")]
    if len(vertices) < (2 if kind == ELLIPSE else 3):
        return "region of fewer than three corners"
    ring = as_ring(vertices, what)
    if kind != ELLIPSE:
        return Polygons([[ring]])
    low, high = np.min(ring, axis=0), np.max(ring, axis=0)
    (x, y), (half_width, half_height) = (low + high) / 2, (high - low) / 2
    return Ellipse(float(x), float(y), float(half_width), float(half_height))
