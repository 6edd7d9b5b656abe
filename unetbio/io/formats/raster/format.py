"""PNG and JPEG."""

from unetbio.io.formats.registry import Format, register

READER = "unetbio.io.formats.raster.reader:read_raster"

register(
    Format(
        name="jpeg",
        title="JPEG",
        suffixes=(".jpg", ".jpeg"),
        contents="grey or red, green, blue; no pixel size",
        reader=READER,
        libraries=("imagecodecs",),
        starts=(b"\xff\xd8\xff",),
        holds_one=True,
        is_decoded_whole=True,
    )
)
register(
    Format(
        name="png",
        title="PNG",
        suffixes=(".png",),
        contents="grey values of 8 and 16 bits as stored, 1, 2 and 4 bits spread to 0 to 255, palettes as red, green, "
        "blue (in masks as numbers, if the first colour is black); alpha as a channel; no pixel size, since PNG knows "
        "the resolution of printers only",
        reader=READER,
        label_reader="unetbio.io.formats.raster.reader:read_raster_labels",
        libraries=("imagecodecs",),
        starts=(b"\x89PNG\r\n\x1a\n",),
        holds_one=True,
        is_decoded_whole=True,
    )
)
