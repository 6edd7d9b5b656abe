"""Leica LIF."""

from unetbio.io.formats.registry import Format, register

XML = "<".encode("utf-16-le")
"""Begin of the description; files with the pixels of an XLIF project (LOF), and MRC files of 112 x 42, have none."""


def _matches(name: str, head: bytes) -> bool:
    return head[:4] == b"\x70\0\0\0" and head[8:9] == b"\x2a" and head.startswith(XML, 13)


register(
    Format(
        name="lif",
        title="Leica LIF",
        suffixes=(".lif",),
        contents="images as series, each tile of a mosaic one; any order of scanning, lines along Z included; channel "
        "names (the dye, or the display colour if no dye is named), pixel size",
        reader="unetbio.io.formats.lif.reader:read_lif",
        libraries=("liffile",),
        extra="formats",
        matches=_matches,
    )
)
