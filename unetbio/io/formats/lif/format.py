"""Leica LIF."""

from unetbio.io.formats.registry import Format, register

LOF = "LMS_Object_File".encode("utf-16-le")
"""Type of the files that hold the pixels of an XLIF project, with which they share their first bytes."""


def _matches(name: str, head: bytes) -> bool:
    return head[:4] == b"\x70\0\0\0" and head[8:9] == b"\x2a" and not head.startswith(LOF, 13)


register(
    Format(
        name="lif",
        title="Leica LIF",
        suffixes=(".lif",),
        contents="images as series, each tile of a mosaic one; any order of scanning, lines along Z included; channel "
        "names (the dye, otherwise the colour it is shown in), pixel size",
        reader="unetbio.io.formats.lif.reader:read_lif",
        libraries=("liffile",),
        extra="formats",
        matches=_matches,
    )
)
