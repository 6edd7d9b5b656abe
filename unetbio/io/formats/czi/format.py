"""Zeiss CZI."""

from unetbio.io.formats.registry import Format, register

register(
    Format(
        name="czi",
        title="Zeiss CZI",
        suffixes=(".czi",),
        contents="scenes as series, each the smallest rectangle around its tiles, zero where there is none; of "
        "overlapping tiles the one with the highest mosaic number; base level of pyramids; uncompressed, LZW, JPEG XR, "
        "zstd0, zstd1; colours as red, green, blue; channel names, names of scenes, pixel size",
        reader="unetbio.io.formats.czi.reader:read_czi",
        libraries=("imagecodecs",),
        starts=(b"ZISRAWFILE\0",),
    )
)
