"""Nikon ND2."""

from unetbio.io.formats.registry import Format, register

register(
    Format(
        name="nd2",
        title="Nikon ND2",
        suffixes=(".nd2",),
        contents="stage positions as series; loops over time and sections; uncompressed and losslessly compressed "
        "frames; colours as red, green, blue (stored the other way round, as Bio-Formats found; the library nd2 leaves "
        "them so); channel names, pixel size where it was calibrated",
        reader="unetbio.io.formats.nd2.reader:read_nd2",
        libraries=("nd2",),
        extra="formats",
        starts=(b"\xda\xce\xbe\x0a",),
    )
)
