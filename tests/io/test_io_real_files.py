"""Every real file of the formats' folder is read right or refused with the reason."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from unetbio.errors import ImageError
from unetbio.io import read_image
from unetbio.io.discover import Found
from unetbio.io.list_images import series_of

# Axes, lengths and type, or the reason why it is refused as it is.
CONTENT = {
    "12bit.cropped.tiff": "Y=64 X=64 uint16",
    "BigTIFFMotorola.tif": "C=3 Y=64 X=64 uint8",
    "CMU-1-Small-Region.svs": "C=3 Y=2967 X=2220 uint8",
    "CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD.czi": "T=3 Z=6 Y=200 X=300 uint16",
    "DAPI_GFP.czi": "C=2 Y=640 X=640 uint8",
    "FOV7_HV110_P0500510000.ome.tiff": "Y=512 X=512 uint8",
    "RGB-multichannel.czi": "C=21 Y=81 X=147 uint8",
    "anatomical.nii": "Z=25 Y=41 X=33 int16",
    "anatomical_label.nii.gz": "Z=25 Y=41 X=33 uint16",
    "blobs.tif": "Y=254 X=256 uint8",
    "cluster.nd2": "T=3 C=2 Z=10 Y=31 X=38 uint16",
    "cmyk-4c-8b.tiff": "unsupported_colour",
    "companion": "unsupported_format",
    "czyx_int8_v0.4.ome.zarr": "C=3 Z=5 Y=167 X=439 int8",
    "example4d.nii.gz": "T=2 Z=24 Y=96 X=128 int16",
    "gradient-1c-32b-float.tiff": "Y=1 X=256 float32",
    "hela-cells.tif": "C=3 Y=512 X=672 uint16",
    "int16.tif": "Y=64 X=64 int16",
    "membrane_2d_timelapse.tif": "unknown_axes",
    "minisblack-1c-16b.tiff": "Y=151 X=157 uint16",
    "miniswhite-1c-1b.tiff": "Y=151 X=157 uint8",
    "multi-channel-z-series.ome.tif": "C=3 Z=5 Y=167 X=439 int8",
    "multi-channel.ome.tif": "C=3 Y=167 X=439 int8",
    "nuc_small.czi": "Y=240 X=320 uint8",
    "nuclei_1135_v0.5.ome.zarr": "Z=100 Y=100 X=100 uint8",
    "palette-1c-8b.tiff": "C=3 Y=151 X=157 uint16",
    "shapes_lzw_tiled_planar.tif": "C=3 Y=72 X=128 uint8",
    "shapes_uncompressed_half.tif": "C=3 Y=36 X=64 uint8",
    "shapes_zstd.tif": "C=3 Y=72 X=128 uint8",
    "testdata_2channel_xz.lif": "unknown_axes",
    "time-series.ome.tif": "T=7 Y=167 X=439 int8",
    "companion/multifile-Z1.ome.tiff": "Z=5 Y=24 X=18 uint8",
    "companion/multifile-Z2.ome.tiff": "Z=5 Y=24 X=18 uint8",
    "companion/multifile-Z3.ome.tiff": "Z=5 Y=24 X=18 uint8",
    "companion/multifile-Z4.ome.tiff": "Z=5 Y=24 X=18 uint8",
    "companion/multifile-Z5.ome.tiff": "Z=5 Y=24 X=18 uint8",
    "companion/multifile.companion.ome": "Z=5 Y=24 X=18 uint8",
}

# What answers files that do not say what their axes are.
ASKED = {
    "membrane_2d_timelapse.tif": ("TYX", 0, "T=5 Y=256 X=256 uint16"),
    "testdata_2channel_xz.lif": ("TCYX", 0, "T=20 C=2 Y=128 X=128 uint8"),
}


def test_no_file_is_forgotten(shared_data: Path) -> None:
    folder = shared_data / "formats"
    there = {str(path.relative_to(folder)) for path in [*folder.iterdir(), *(folder / "companion").iterdir()]}
    assert there <= set(CONTENT), "say what these hold"


@pytest.mark.parametrize("name", CONTENT)
def test_real_files(shared_data: Path, name: str) -> None:
    for suffix, library in ((".lif", "liffile"), (".nd2", "nd2"), (".zarr", "zarr")):
        if name.endswith(suffix):
            pytest.importorskip(library)
    path = shared_data / "formats" / name
    if " " in CONTENT[name]:
        image = read_image(path)
        assert image.describe() == CONTENT[name]
        middle = {axis.lower(): image.size(axis) // 2 for axis in "TCZ"}
        assert image.read(**middle).shape == image.shape[-2:]
        return
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert caught.value.reason == CONTENT[name]
    if name in ASKED:
        axes, series, content = ASKED[name]
        assert read_image(path, axes=axes, series=series).describe() == content


def test_a_piece_of_a_set_that_another_tiff_describes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "first.ome.tif", np.zeros((4, 5), np.uint8), ome=True, metadata={"axes": "YX"})
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<BinaryOnly MetadataFile="first.ome.tif" UUID="urn:uuid:1"/></OME>'
    )
    tifffile.imwrite(tmp_path / "second.ome.tif", np.zeros((4, 5), np.uint8), description=xml, metadata=None)
    with pytest.raises(ImageError, match=r"one piece of a set that first\.ome\.tif describes: give that file"):
        read_image(tmp_path / "second.ome.tif")


def test_pictures_beside_a_slide_are_taken_by_name_alone(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = Found(shared_data / "formats" / "CMU-1-Small-Region.svs", Path("slide.svs"))
    with caplog.at_level("INFO"):
        assert [each.number for each in series_of(found, None, None)] == [0]
    assert "pictures beside slides are left out (Thumbnail, Label, Macro): --series NAME takes one" in caplog.text
    assert [(each.number, each.name) for each in series_of(found, "label", None)] == [(2, "Label")]
    assert [each.number for each in series_of(found, "0-3", None)] == [0, 1, 2, 3]
