"""TIFF, and the OME-XML files that describe sets of TIFF files."""

from unetbio.io.formats.registry import Format, register

COMPANION = ".companion.ome"

register(
    Format(
        name="tiff",
        title="TIFF (plain, OME, ImageJ)",
        suffixes=(".tif", ".tiff", ".svs", ".lsm", COMPANION),
        long_suffixes=(COMPANION, ".ome.tiff", ".ome.tif"),
        contents="see below",
        reader="unetbio.io.formats.tiff.reader:read_tiff",
        label_reader="unetbio.io.formats.tiff.reader:read_tiff_labels",
        libraries=("tifffile", "imagecodecs"),
        starts=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        matches=lambda name, head: name.endswith(COMPANION),
        is_one_image="unetbio.io.formats.tiff.sets:is_one_image",
        find_pieces="unetbio.io.formats.tiff.sets:find_pieces",
        list_pieces="unetbio.io.formats.tiff.sets:list_pieces",
    )
)
