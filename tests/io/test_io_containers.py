"""The same pixels in many containers: one label image; and colours in all of them."""

import gzip
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
from vendor_files import GRAY8, write_czi, write_lif

import unetbio
from unetbio.io import read_image, write_image
from unetbio.io.formats import FORMATS
from unetbio.labels import label_hash
from unetbio.models.model_file import load_model
from unetbio.preprocessing.prepare import open_image, read_frame
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.training.data.examples import load_examples

Writer = Callable[[Path, np.ndarray], None]


def plain(**options: object) -> Writer:
    """A TIFF file without any words of who wrote it."""
    return lambda path, pixels: tifffile.imwrite(path, pixels, metadata=None, **options)


def pyramid(path: Path, pixels: np.ndarray) -> None:
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels, tile=(16, 16), subifds=1, metadata={"axes": "YX"})
        tif.write(pixels[::2, ::2], tile=(16, 16), subfiletype=1)


def companion(path: Path, pixels: np.ndarray) -> None:
    """An image of one plane whose description lies beside it."""
    tifffile.imwrite(path.parent / "plane.ome.tif", pixels, metadata=None)
    height, width = pixels.shape
    path.write_text(
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYZCT" Type="uint8" SizeX="{width}" SizeY="{height}" SizeZ="1" SizeC="1" SizeT="1">'
        '<Channel ID="Channel:0" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1">'
        '<UUID FileName="plane.ome.tif">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
    )


def png(path: Path, pixels: np.ndarray) -> None:
    path.write_bytes(imagecodecs.png_encode(pixels))


def nifti(path: Path, pixels: np.ndarray) -> None:
    made = nibabel.Nifti1Image(pixels.T, np.eye(4))
    content = made.to_bytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def czi(compression: int) -> Writer:
    return lambda path, pixels: write_czi(path, [({"X": 0, "Y": 0, "C": 0}, pixels)], GRAY8, compression)


def czi_mosaic(path: Path, pixels: np.ndarray) -> None:
    tiles = [
        ({"X": left, "Y": top, "M": number}, pixels[top : top + 40, left : left + 50])
        for number, (top, left) in enumerate([(0, 0), (0, 30), (24, 0), (24, 30)])
    ]
    write_czi(path, tiles, GRAY8, 6)


def lif(path: Path, pixels: np.ndarray) -> None:
    pytest.importorskip("liffile")
    height, width = pixels.shape
    # Without a length the axes have no pixel size, as in the other files.
    write_lif(path, pixels.tobytes(), [(1, width, 1), (2, height, width)], [(0, 0)], spacing=0.0)


def mrc(path: Path, pixels: np.ndarray) -> None:
    mrcfile = pytest.importorskip("mrcfile")
    mrcfile.write(path, pixels.astype(np.int16))


def zarr_folder(version: int) -> Writer:
    def write(path: Path, pixels: np.ndarray) -> None:
        zarr = pytest.importorskip("zarr")
        axes = [{"name": letter, "type": "space"} for letter in "yx"]
        scale = {"coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}], "path": "0"}
        described = {"multiscales": [{"axes": axes, "datasets": [scale], "version": f"0.{version}"}]}
        group = zarr.open_group(path, mode="w", zarr_format=2 if version == 4 else 3)
        group.attrs.update(described if version == 4 else {"ome": {**described, "version": "0.5"}})
        array = group.create_array("0", shape=pixels.shape, chunks=(32, 32), dtype=pixels.dtype)
        array[:] = pixels

    return write


CONTAINERS: dict[str, tuple[str, Writer]] = {
    "plain, little endian": ("x.tif", plain(byteorder="<")),
    "plain, big endian": ("x.tif", plain(byteorder=">")),
    "BigTIFF": ("x.tif", plain(bigtiff=True)),
    "LZW": ("x.tif", plain(compression="lzw")),
    "deflate with a predictor": ("x.tif", plain(compression="zlib", predictor=True)),
    "zstd in strips": ("x.tif", plain(compression="zstd", rowsperstrip=7)),
    "tiles": ("x.tif", plain(tile=(16, 32))),
    "white is zero": ("x.tif", lambda path, pixels: plain(photometric="miniswhite")(path, 255 - pixels)),
    "pyramid": ("x.tif", pyramid),
    "ImageJ": ("x.tif", lambda path, pixels: tifffile.imwrite(path, pixels, imagej=True)),
    "OME-TIFF": ("x.ome.tif", lambda path, pixels: write_image(path, pixels, axes="YX")),
    "OME-TIFF pyramid": ("x.ome.tif", pyramid),
    "OME-TIFF with a companion": ("x.companion.ome", companion),
    "OME-TIFF with a companion in capitals": ("X.COMPANION.OME", companion),
    "PNG": ("x.png", png),
    "NIfTI": ("x.nii", nifti),
    "NIfTI, gzip": ("x.nii.gz", nifti),
    "CZI": ("x.czi", czi(0)),
    "CZI, zstd": ("x.czi", czi(6)),
    "CZI, mosaic": ("x.czi", czi_mosaic),
    "LIF": ("x.lif", lif),
    "MRC": ("x.mrc", mrc),
    "OME-Zarr 0.4": ("x.ome.zarr", zarr_folder(4)),
    "OME-Zarr 0.5": ("x.ome.zarr", zarr_folder(5)),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_one_format_claims_a_file(container: str, tmp_path: Path, discs: np.ndarray) -> None:
    name, write = CONTAINERS[container]
    write(tmp_path / name, discs)
    if (tmp_path / name).is_file():
        head = (tmp_path / name).read_bytes()[:512]
        claims = [
            k.name
            for k in FORMATS.values()
            if head.startswith(k.starts) or (k.matches and k.matches(name.lower(), head))
        ]
        assert claims == [read_image(tmp_path / name).format]


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_pixels_give_one_label_hash(
    container: str, tmp_path: Path, discs: np.ndarray, tiny_model: Path
) -> None:
    name, write = CONTAINERS[container]
    write(tmp_path / name, discs)
    np.testing.assert_array_equal(read_image(tmp_path / name).read(), discs)
    _, info = unetbio.segment(tmp_path / name, tiny_model, device="cpu")
    expected, _ = unetbio.segment(discs, tiny_model, device="cpu")
    assert expected.max() == 3
    assert info["label_hash"] == label_hash(expected)


# Colours


def tissue() -> np.ndarray:
    """Stained tissue on a bright slide, ``(Y, X, 3)``: no grey value is near 0."""
    picture = np.full((48, 48, 3), 240, np.uint8)
    picture[10:20, 10:20] = (120, 70, 150)
    return picture


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_colours_in_training_and_segmentation_have_one_range(name: str, tmp_path: Path, tiny_model: Path) -> None:
    picture = tissue()
    if name == "x.png":
        png(tmp_path / name, picture)
    else:
        tifffile.imwrite(tmp_path / name, np.moveaxis(picture, -1, 0), photometric="rgb", planarconfig="separate")
    labels = np.zeros((48, 48), np.uint16)
    labels[10:20, 10:20] = 1
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    (example,) = load_examples([(tmp_path / name, tmp_path / "labels.tif")], TrainingConfig())
    assert example.scaling.low == (0.0, 0.0, 0.0)
    assert example.scaling.high == (255.0, 255.0, 255.0)
    info = load_model(tiny_model).info.model_copy(update={"channels": ("red", "green", "blue")})
    opened = open_image(tmp_path / name, Settings(), info, 2)
    frame = read_frame(opened, None, Normalization())
    assert frame.scaling == example.scaling
    np.testing.assert_allclose(frame.image, np.moveaxis(picture, -1, 0) / 255, rtol=1e-6)
    # What a person asks for holds.
    asked = open_image(tmp_path / name, Settings(normalization=Normalization()), info, 2)
    assert read_frame(asked, None, Normalization()).scaling.high == (240.0, 240.0, 240.0)


def test_grey_pictures_keep_percentiles(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "grey.tif", tissue()[..., 0])
    tifffile.imwrite(tmp_path / "labels.tif", np.pad(np.ones((10, 10), np.uint16), 19))
    (example,) = load_examples([(tmp_path / "grey.tif", tmp_path / "labels.tif")], TrainingConfig())
    assert example.scaling.high == (240.0,)
