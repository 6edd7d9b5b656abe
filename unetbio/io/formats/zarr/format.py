"""OME-Zarr, whose images are folders."""

from unetbio.io.formats.registry import Format, register

__all__ = ["ZARR"]

ZARR = register(
    Format(
        name="zarr",
        title="OME-Zarr",
        suffixes=(".zarr",),
        long_suffixes=(".ome.zarr",),
        contents="OME-Zarr 0.4 and 0.5, whole or with chunks in shards; the array with full resolution, "
        "unless `--level` names another; images of a collection and fields of a plate as series; channel names, pixel "
        "size where axes have units",
        reader="unetbio.io.formats.zarr.reader:read_zarr",
        is_one_image="unetbio.io.formats.zarr.metadata:is_one_image",
        list_images="unetbio.io.formats.zarr.metadata:list_images",
        label_reader="unetbio.io.formats.zarr.reader:read_zarr_labels",
        writers={"labels": "unetbio.io.formats.zarr.writer:write_zarr_labels"},
        libraries=("zarr",),
        extra="formats",
        folder_markers=("zarr.json", ".zgroup", ".zattrs", ".zarray"),
    )
)
