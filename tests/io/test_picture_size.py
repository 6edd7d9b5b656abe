"""Sizes that pictures claim: those that their encoders wrote, and a tile that claims more than it can be."""

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from unetbio.errors import ImageError
from unetbio.io import read_image
from unetbio.io.formats.picture_size import picture_size
from unetbio.io.formats.tiff import pages

ENCODERS: dict[str, tuple[int, Callable[[np.ndarray], bytes]]] = {
    "jpeg": (7, imagecodecs.jpeg8_encode),
    "lossless jpeg": (7, imagecodecs.ljpeg_encode),
    "jpeg-ls": (7, imagecodecs.jpegls_encode),
    "jpeg 2000": (34712, lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k")),
    "jpeg 2000 in boxes": (34712, lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="jp2")),
    "jpeg xl": (50002, imagecodecs.jpegxl_encode),
    "jpeg xl in boxes": (50002, lambda pixels: imagecodecs.jpegxl_encode(pixels, usecontainer=True)),
    "jpeg xr": (22610, imagecodecs.jpegxr_encode),
    "lerc": (34887, imagecodecs.lerc_encode),
    "png": (34933, imagecodecs.png_encode),
    "webp": (50001, lambda pixels: imagecodecs.webp_encode(np.dstack([pixels] * 3))),
    "lossless webp": (50001, lambda pixels: imagecodecs.webp_encode(np.dstack([pixels] * 3), lossless=True)),
}
"""TIFF's number of a compression, and what packs a grey picture."""


def pack(name: str, shape: tuple[int, int]) -> bytes:
    # All equal: JPEG-LS takes no more room for a picture than for its pixels.
    return bytes(ENCODERS[name][1](np.full(shape, 7, np.uint8)))


@pytest.mark.parametrize("shape", [(37, 50), (64, 16), (300, 400)])
@pytest.mark.parametrize("name", ENCODERS)
def test_the_size_is_the_one_that_was_written(name: str, shape: tuple[int, int]) -> None:
    found = picture_size(pack(name, shape))
    assert found is not None
    assert found[:2] == shape


@pytest.mark.parametrize("name", ["jpeg", "jpeg 2000", "lerc"])
def test_samples_count_where_the_header_says_them(name: str) -> None:
    assert picture_size(bytes(ENCODERS[name][1](np.zeros((24, 40, 3), np.uint8)))) == (24, 40, 3)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_header_that_is_cut_has_no_size_or_the_whole_one(name: str) -> None:
    content = pack(name, (37, 50))
    for length in range(64):
        found = picture_size(content[:length])
        assert found is None or found[0] <= 1 << 32


def test_other_data_have_no_size() -> None:
    assert picture_size(b"") is None
    assert picture_size(b"II*\0" + bytes(100)) is None


def replace_tiles(path: Path, compression: int, content: bytes) -> None:
    """Write a TIFF file of 32 x 32 pixels whose tiles, of 16 x 16, are all this picture."""
    tifffile.imwrite(path, np.zeros((32, 32), np.uint8), tile=(16, 16), compression="lzw", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tags = tiff.pages[0].tags
        tags["Compression"].overwrite(compression)
        tags["TileByteCounts"].overwrite([len(content)] * 4)
        end = tiff.filehandle.seek(0, 2)
        tags["TileOffsets"].overwrite([end] * 4)
        tiff.filehandle.seek(end)
        tiff.filehandle.write(content)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_tile_that_claims_more_than_it_can_be_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(pages, "SMALL_SAMPLES", 4096)
    replace_tiles(tmp_path / "x.tif", ENCODERS[name][0], pack(name, (65, 64)))
    with pytest.raises(ImageError, match="256 samples claims 64 x 65 pixels") as caught:
        read_image(tmp_path / "x.tif").read()
    assert caught.value.reason == "inconsistent"


def test_a_tile_of_its_own_size_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SMALL_SAMPLES", 0)
    replace_tiles(tmp_path / "x.tif", ENCODERS["png"][0], pack("png", (16, 16)))
    assert (read_image(tmp_path / "x.tif").read() == 7).all()


def with_scans(count: int) -> bytes:
    """A picture with its one scan repeated."""
    content = pack("jpeg", (16, 16))
    start, end = content.index(b"\xff\xda"), content.index(b"\xff\xd9")
    return content[:start] + content[start:end] * count + content[end:]


def test_a_jpeg_picture_of_many_scans_is_not_decoded(tmp_path: Path) -> None:
    message = "a JPEG picture of 101 scans, at most 100 are decoded"
    (tmp_path / "x.jpg").write_bytes(with_scans(101))
    with pytest.raises(ImageError, match=message) as caught:
        read_image(tmp_path / "x.jpg")
    assert caught.value.reason == "inconsistent"
    replace_tiles(tmp_path / "x.tif", 7, with_scans(101))
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / "x.tif").read()
    (tmp_path / "y.jpg").write_bytes(with_scans(100))
    assert read_image(tmp_path / "y.jpg").shape == (16, 16)
