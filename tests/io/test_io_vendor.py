"""CZI, LIF and ND2: against other libraries' reading, small files written here, and broken ones."""

import contextlib
import random
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from vendor_files import BGR24, BGR48, GRAY8, GRAY16, write_czi, write_lif

from unetbio.cli.main import main
from unetbio.errors import ImageError
from unetbio.io import read_image, read_labels


def refused(path: Path, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(path, **options).read()
    assert "\n" not in str(caught.value)
    return caught.value


def ramp(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    """Rising values, which compress well and of which none is like its neighbour."""
    return (np.arange(np.prod(shape)) * 7 % 60013).astype(dtype).reshape(shape)


# CZI ----------------------------------------------------------------------------------------------------------------

XML = """<ImageDocument><Metadata><Scaling><Items>
<Distance Id="X"><Value>2.5E-07</Value></Distance><Distance Id="Y"><Value>5E-07</Value></Distance>
<Distance Id="Z"><Value>1E-06</Value></Distance></Items></Scaling>
<Information><Image><Dimensions><Channels><Channel Id="Channel:0" Name="DAPI"/><Channel Id="Channel:1" Name="GFP"/>
</Channels><S><Scenes><Scene Index="0" Name="A1"/><Scene Index="3" Name="B7"/></Scenes></S></Dimensions></Image>
</Information></Metadata></ImageDocument>"""


def by_czifile(path: Path) -> np.ndarray:
    """The older library's reading, for what it can read."""
    czifile = pytest.importorskip("czifile")
    return czifile.imread(path).squeeze()


def test_planes_of_a_czi(tmp_path: Path) -> None:
    stack = ramp(2, 2, 3, 9, 11)  # T C Z Y X
    tiles = [
        ({"X": 40, "Y": -5, "C": c, "Z": z, "T": t}, stack[t, c, z]) for t in (0, 1) for z in (2, 0, 1) for c in (1, 0)
    ]
    write_czi(tmp_path / "x.czi", tiles, xml=XML)
    image = read_image(tmp_path / "x.czi")
    assert (image.format, image.axes, image.shape, image.dtype) == ("czi", "TCZYX", stack.shape, np.uint16)
    assert image.channel_names == ("DAPI", "GFP")
    assert image.pixel_size_trusted
    assert image.pixel_size_um == pytest.approx({"Z": 1.0, "Y": 0.5, "X": 0.25})
    np.testing.assert_array_equal(image.read(), stack)
    np.testing.assert_array_equal(image.read(t=1, c=0, z=2, y=slice(2, 5), x=slice(3, 4)), stack[1, 0, 2, 2:5, 3:4])
    np.testing.assert_array_equal(by_czifile(tmp_path / "x.czi"), stack.swapaxes(1, 2))  # T Z C Y X


@pytest.mark.parametrize("compression", [0, 2, 4, 5, 6])
@pytest.mark.parametrize("kind", [GRAY8, GRAY16, BGR24, BGR48])
def test_compressions_of_a_czi(tmp_path: Path, compression: int, kind: int) -> None:
    dtype = np.uint8 if kind in (GRAY8, BGR24) else np.uint16
    colour = kind in (BGR24, BGR48)
    picture = ramp(20, 30, *([3] if colour else []), dtype=dtype)  # red, green, blue
    stored = picture[..., ::-1] if colour else picture
    if compression == 4 and kind == BGR24:
        stored = picture  # the encoder takes red, green, blue
    write_czi(tmp_path / "x.czi", [({"X": 0, "Y": 0, "C": 0}, stored)], kind, compression)
    image = read_image(tmp_path / "x.czi")
    assert image.channel_names == (("red", "green", "blue") if colour else ("",))
    assert not image.pixel_size_trusted
    np.testing.assert_array_equal(image.read(), np.moveaxis(picture, -1, 0) if colour else picture)
    np.testing.assert_array_equal(image.read(y=slice(4, 7)), image.read()[..., 4:7, :])


def test_tiles_of_a_mosaic_are_put_together(tmp_path: Path) -> None:
    expected = np.zeros((14, 25), np.uint16)
    tiles = []
    # Given out of order: the highest mosaic number lies on top. A corner has no tile.
    for number, (top, left) in ((2, (6, 0)), (0, (0, 0)), (1, (1, 13))):
        tiles.append(({"X": left - 100, "Y": top + 7, "M": number, "C": 0}, ramp(8, 12) + np.uint16(100 * number + 1)))
    for place, pixels in sorted(tiles, key=lambda tile: tile[0]["M"]):
        expected[place["Y"] - 7 :, place["X"] + 100 :][:8, :12] = pixels
    write_czi(tmp_path / "x.czi", tiles)
    image = read_image(tmp_path / "x.czi")
    np.testing.assert_array_equal(image.read(), expected)
    np.testing.assert_array_equal(image.read(y=slice(5, 9), x=slice(8, 16)), expected[5:9, 8:16])


def test_scenes_of_a_czi_are_series(tmp_path: Path) -> None:
    first, second = ramp(4, 6), ramp(7, 5) + np.uint16(9)
    tiles = [({"X": 0, "Y": 0, "S": 0, "M": 0}, first), ({"X": 5000, "Y": 90, "S": 3, "M": 0}, second)]
    write_czi(tmp_path / "x.czi", tiles, xml=XML)
    for series, (name, pixels) in enumerate((("A1", first), ("B7", second))):
        image = read_image(tmp_path / "x.czi", series=series)
        assert (image.name, image.series, image.series_count) == (name, series, 2)
        np.testing.assert_array_equal(image.read(), pixels)
    assert str(refused(tmp_path / "x.czi", series=2)) == "no series 2: it holds 2 images, counted from 0"


def test_reduced_copies_are_left_out(tmp_path: Path) -> None:
    pixels = ramp(16, 20)
    tiles = [({"X": 0, "Y": 0}, pixels[::2, ::2]), ({"X": 0, "Y": 0}, pixels)]
    write_czi(tmp_path / "x.czi", tiles, zoom=(2, 1))
    np.testing.assert_array_equal(read_image(tmp_path / "x.czi").read(), pixels)
    write_czi(tmp_path / "x.czi", tiles[:1], zoom=(2,))
    assert "only reduced copies" in str(refused(tmp_path / "x.czi"))


def test_axes_that_have_no_letter_are_asked_for(tmp_path: Path) -> None:
    stack = ramp(3, 2, 5, 6)
    tiles = [({"X": 0, "Y": 0, "H": h, "C": c}, stack[h, c]) for h in range(3) for c in range(2)]
    write_czi(tmp_path / "x.czi", tiles)
    error = refused(tmp_path / "x.czi")
    assert error.reason == "unknown_axes"
    assert "H=3 C=2 Y=5 X=6" in str(error)
    image = read_image(tmp_path / "x.czi", axes="TCYX")
    assert image.axes == "TCYX"
    np.testing.assert_array_equal(image.read(), stack)
    assert refused(tmp_path / "x.czi", axes="ZYX").reason == "unknown_axes"


def test_planes_that_were_never_written(tmp_path: Path) -> None:
    tiles = [({"X": 0, "Y": 0, "T": t}, ramp(4, 4)) for t in (0, 2)]
    write_czi(tmp_path / "x.czi", tiles)
    np.testing.assert_array_equal(read_image(tmp_path / "x.czi").read(t=2), ramp(4, 4))
    error = refused(tmp_path / "x.czi")
    assert error.reason == "missing_plane"
    assert "1 of 3 planes is missing (t 1): --partial of segment and suggest takes what is there" in str(error)


def test_what_is_there_of_a_czi_is_segmented(tmp_path: Path, tiny_model: Path) -> None:
    """Planes that were not recorded are left out with ``--partial``; of a file that was cut no plane is found."""
    tiles = [({"X": 0, "Y": 0, "T": t}, ramp(40, 40)) for t in (0, 2)]
    write_czi(tmp_path / "x.czi", tiles)
    line = ["segment", str(tmp_path / "x.czi"), "-o", str(tmp_path / "out"), "-m", str(tiny_model), "--workers", "1"]
    assert "[missing_plane]" in CliRunner().invoke(main, line).stderr
    result = CliRunner().invoke(main, [*line, "--partial"])
    assert result.exit_code == 0, result.stderr
    assert read_labels(tmp_path / "out" / "x_labels.ome.tif").shape == (2, 40, 40)
    content = (tmp_path / "x.czi").read_bytes()
    (tmp_path / "x.czi").write_bytes(content[: content.index(b"ZISRAWDIRECTORY") - 9])
    result = CliRunner().invoke(main, [*line, "--partial"])
    assert result.exit_code == 3
    assert "which was cut; without it --partial cannot take what is there" in result.stderr


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (32 + 16 + 32, 1, "missing_companion"),  # the header: a piece of several files
        (32 + 52, 0, "truncated"),  # no directory
        (32 + 52, 1 << 40, "truncated"),
    ],
)
def test_lies_of_a_czi_header(tmp_path: Path, place: int, value: int, reason: str) -> None:
    write_czi(tmp_path / "x.czi", [({"X": 0, "Y": 0}, ramp(8, 8))])
    content = bytearray((tmp_path / "x.czi").read_bytes())
    struct.pack_into("<i" if value == 1 else "<q", content, place, value)
    (tmp_path / "x.czi").write_bytes(content)
    assert refused(tmp_path / "x.czi").reason == reason


def test_claims_of_a_czi_are_held_against_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.czi"
    far = [({"X": 0, "Y": 0, "M": 0}, ramp(8, 8)), ({"X": 2_000_000, "Y": 2_000_000, "M": 1}, ramp(8, 8))]
    write_czi(path, far)
    assert refused(path).reason == "inconsistent"
    write_czi(path, [({"X": 0, "Y": 0, "T": 0}, ramp(8, 8)), ({"X": 0, "Y": 0, "T": 2**31 - 1}, ramp(8, 8))])
    assert refused(path).reason == "inconsistent"
    write_czi(path, [({"X": 0, "Y": 0}, ramp(8, 8))], compression=5)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<ifi", 8, 0.0, 8), struct.pack("<ifi", 40_000, 0.0, 40_000)))
    assert refused(path).reason == "inconsistent"
    path.write_bytes(content.replace(struct.pack("<ifi", 8, 0.0, 8), struct.pack("<ifi", 9, 0.0, 9)))
    assert refused(path).reason == "truncated"
    for compression, words in ((1, "JPEG"), (104, "number 104")):
        write_czi(path, [({"X": 0, "Y": 0}, ramp(8, 8))], compression=compression)
        assert words in str(refused(path))


def test_real_czi_files(shared_data: Path) -> None:
    folder = shared_data / "formats"
    for name in ("DAPI_GFP.czi", "nuc_small.czi"):
        np.testing.assert_array_equal(read_image(folder / name).read(), by_czifile(folder / name))
    assert read_image(folder / "DAPI_GFP.czi").channel_names == ("DAPI", "GFP")
    colours = read_image(folder / "RGB-multichannel.czi")
    assert colours.channel_names[:4] == ("Bright red", "Bright green", "Bright blue", "Pol_0 red")
    expected = np.moveaxis(by_czifile(folder / "RGB-multichannel.czi"), -1, 1)
    np.testing.assert_array_equal(colours.read(), expected.reshape(colours.shape))
    packed = read_image(folder / "CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD.czi")
    assert (packed.axes, packed.shape, packed.channel_names) == ("TZYX", (3, 6, 200, 300), ("LED555",))
    # As Zeiss' own library unpacks it; a wrong order of bytes would give other sums.
    sums = packed.read().sum(axis=(2, 3), dtype=np.int64)
    assert (sums[0, 0], sums[2, 5], sums.sum()) == (18018370, 30521744, 446103475)


# LIF ----------------------------------------------------------------------------------------------------------------


def by_liffile(path: Path, series: int = 0) -> np.ndarray:
    liffile = pytest.importorskip("liffile")
    with liffile.LifFile(path) as lif:
        return lif.images[series].asarray()


def test_a_stack_of_a_lif(tmp_path: Path) -> None:
    pytest.importorskip("liffile")
    stack = ramp(3, 2, 5, 6, dtype=np.uint8)  # Z C Y X
    write_lif(tmp_path / "x.lif", stack.tobytes(), [(1, 6, 1), (2, 5, 6), (3, 3, 60)], [(0, 0), (30, 0)])
    image = read_image(tmp_path / "x.lif")
    assert (image.format, image.axes, image.name) == ("lif", "CZYX", "scan")
    assert image.channel_names == ("Colour0", "Colour1")
    assert image.pixel_size_trusted
    assert image.pixel_size_um == pytest.approx({"Z": 0.2, "Y": 0.2, "X": 0.2})
    np.testing.assert_array_equal(image.read(), stack.swapaxes(0, 1))
    np.testing.assert_array_equal(image.read(c=1, z=2, y=slice(1, 3), x=slice(2, 3)), stack[2, 1, 1:3, 2:3])
    np.testing.assert_array_equal(by_liffile(tmp_path / "x.lif"), stack)


def test_colours_of_a_lif(tmp_path: Path) -> None:
    pytest.importorskip("liffile")
    picture = ramp(5, 6, 3, dtype=np.uint8)  # blue, green, red
    write_lif(tmp_path / "x.lif", picture.tobytes(), [(1, 6, 3), (2, 5, 18)], [(0, 3), (1, 2), (2, 1)])
    image = read_image(tmp_path / "x.lif")
    assert image.channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(image.read(), np.moveaxis(picture[..., ::-1], -1, 0))
    np.testing.assert_array_equal(image.read(), np.moveaxis(by_liffile(tmp_path / "x.lif"), -1, 0))


def test_tiles_of_a_lif_are_series(tmp_path: Path) -> None:
    pytest.importorskip("liffile")
    tiles = ramp(4, 5, 6, dtype=np.uint8)
    write_lif(tmp_path / "x.lif", tiles.tobytes(), [(1, 6, 1), (2, 5, 6), (10, 4, 30)], [(0, 0)])
    for number, tile in enumerate(tiles):
        image = read_image(tmp_path / "x.lif", series=number)
        assert (image.axes, image.series_count, image.name) == ("YX", 4, f"scan tile {number}")
        np.testing.assert_array_equal(image.read(), tile)
    assert refused(tmp_path / "x.lif", series=4).reason == "no_such_series"


def test_real_lif_file(shared_data: Path) -> None:
    path = shared_data / "formats" / "testdata_2channel_xz.lif"
    error = refused(path)
    assert error.reason == "unknown_axes"
    assert "T=20 C=2 Z=128 X=128" in str(error)
    assert "TCYX" in str(error)
    for series, axes, name in ((0, "TCYX", "xzt"), (2, "CYX", "xz")):
        image = read_image(path, axes=axes, series=series)
        assert (image.name, image.axes, image.channel_names) == (name, axes, ("Green", "Red"))
        np.testing.assert_array_equal(image.read(), by_liffile(path, series))
    # Lines along Z: the planes of rows and columns lie across the frames of the scanner.
    image = read_image(path, series=1)
    assert image.axes == "CZYX"
    np.testing.assert_array_equal(image.read(), by_liffile(path, 1).transpose(1, 2, 0, 3))


def test_broken_lif(tmp_path: Path) -> None:
    pytest.importorskip("liffile")
    path = tmp_path / "x.lif"
    write_lif(path, bytes(30), [(1, 6, 1), (2, 50, 6)], [(0, 0)])
    assert "needs 300 bytes, the file holds 30" in str(refused(path))
    write_lif(path, bytes(300), [(1, 6, 1), (2, 50, 6)], [(0, 0)])
    path.write_bytes(path.read_bytes()[:-1])
    assert refused(path).reason == "truncated"
    path.write_bytes(path.read_bytes()[:200])
    assert refused(path).reason == "truncated"
    write_lif(path, bytes(300), [(1, 6, 1), (2, 50, 0)], [(0, 0)])
    assert "steps" in str(refused(path))
    path.write_bytes(struct.pack("<IIBI", 0x70, 40, 0x2A, 15) + "LMS_Object_File".encode("utf-16-le"))
    assert "LOF" in str(refused(path))


# ND2 ----------------------------------------------------------------------------------------------------------------


def test_real_nd2_file(shared_data: Path) -> None:
    nd2 = pytest.importorskip("nd2")
    path = shared_data / "formats" / "cluster.nd2"
    image = read_image(path)
    assert (image.format, image.axes, image.shape) == ("nd2", "TCZYX", (3, 2, 10, 31, 38))
    assert image.channel_names == ("5-FAM/pH 9.0", "FM 4-64/2% CHAPS")
    assert image.pixel_size_trusted
    assert image.pixel_size_um == pytest.approx({"Z": 0.5, "Y": 0.167809, "X": 0.167809}, rel=1e-5)
    stored = nd2.imread(path)  # T Z C Y X
    np.testing.assert_array_equal(image.read(), stored.swapaxes(1, 2))
    np.testing.assert_array_equal(image.read(t=2, c=1, z=4, y=slice(3, 9), x=slice(5, 6)), stored[2, 4, 1, 3:9, 5:6])
    assert read_image(path, axes="ZTCYX").shape == (10, 2, 3, 31, 38)
    assert refused(path, axes="ZCYX").reason == "unknown_axes"
    assert refused(path, series=1).reason == "no_such_series"


def test_broken_nd2(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("nd2")
    content = (shared_data / "formats" / "cluster.nd2").read_bytes()
    path = tmp_path / "x.nd2"
    path.write_bytes(content[:-100])
    assert "no map of the chunks" in str(refused(path))
    path.write_bytes(content[:30])
    assert refused(path).reason == "truncated"
    # A frame that the map does not list.
    name = b"ImageDataSeq|7!"
    place = content.rindex(name)
    path.write_bytes(content[:place] + b"ImageDataXXX|7!" + content[place + len(name) :])
    assert refused(path).reason in ("unreadable", "missing_plane")
    # Its chunk claims 4 GB.
    (start,) = struct.unpack_from("<Q", content, place + len(name))
    path.write_bytes(content[: start + 8] + struct.pack("<Q", 1 << 32) + content[start + 16 :])
    assert refused(path).reason == "truncated"


def write_nd2(path: Path, frames: dict[int, bytes]) -> None:
    """The chunks of a file, without metadata, which `described` stands for."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack("<IIQ", 0x0ABECEDA, 64, len(content)) + name.ljust(64, b"\0") + content

    out = chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"))
    listed = b""
    for number, pixels in frames.items():
        name = f"ImageDataSeq|{number}!".encode()
        listed += name + struct.pack("<QQ", len(out), len(pixels) + 8)
        out += chunk(name, bytes(8) + pixels)
    start = len(out)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    out += chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", listed + end + bytes(16))
    path.write_bytes(out + end + struct.pack("<Q", start))


def described(monkeypatch: pytest.MonkeyPatch, loops: Sequence[tuple[str, int]], **attributes: Any) -> None:
    """Let the library read these loops and attributes, whatever the file."""
    nd2 = pytest.importorskip("nd2")
    points = [SimpleNamespace(name=f"well {i}") for i in range(9)]
    experiment = [
        SimpleNamespace(type=kind, count=count, parameters=SimpleNamespace(points=points, stepUm=0.5))
        for kind, count in loops
    ]
    usual = {"bitsPerComponentSignificant": 8, "sequenceCount": 1, "pixelDataType": "unsigned"}
    file = SimpleNamespace(
        is_legacy=False,
        attributes=nd2.structures.Attributes(**{**usual, **attributes}),
        experiment=experiment,
        metadata=None,
    )
    monkeypatch.setattr(nd2, "ND2File", lambda path: contextlib.nullcontext(file))


def test_positions_of_an_nd2_are_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = ramp(2, 3, 4, 5, 6)  # T P Z Y X
    frames = {number: plane.tobytes() for number, plane in enumerate(stored.reshape(-1, 5, 6))}
    del frames[23]
    write_nd2(tmp_path / "x.nd2", frames)
    described(
        monkeypatch,
        [("TimeLoop", 2), ("XYPosLoop", 3), ("ZStackLoop", 4)],
        bitsPerComponentInMemory=16,
        componentCount=1,
        channelCount=1,
        heightPx=5,
        widthPx=6,
        widthBytes=12,
    )
    for series in range(3):
        image = read_image(tmp_path / "x.nd2", series=series)
        assert (image.axes, image.series_count, image.name) == ("TZYX", 3, f"well {series}")
        assert not image.pixel_size_trusted
        np.testing.assert_array_equal(image.read(t=0), stored[0, series])
    assert refused(tmp_path / "x.nd2", series=3).reason == "no_such_series"
    error = refused(tmp_path / "x.nd2", series=2)
    assert (error.reason, "1 of 8 planes is missing (t 1, z 3)" in str(error)) == ("missing_plane", True)


@pytest.mark.parametrize("compressed", [False, True])
def test_colours_and_padded_rows_of_an_nd2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool) -> None:
    picture = ramp(5, 6, 3, dtype=np.uint8)  # red, green, blue
    padded = np.pad(picture[..., ::-1].reshape(5, 18), ((0, 0), (0, 2)), constant_values=255).tobytes()
    write_nd2(tmp_path / "x.nd2", {0: zlib.compress(padded) if compressed else padded})
    sizes = {"heightPx": 5, "widthPx": 6, "widthBytes": 20, "channelCount": 1, "componentCount": 3}
    kind = "lossless" if compressed else None
    described(monkeypatch, [], bitsPerComponentInMemory=8, compressionType=kind, **sizes)
    image = read_image(tmp_path / "x.nd2")
    assert (image.axes, image.channel_names) == ("CYX", ("red", "green", "blue"))
    np.testing.assert_array_equal(image.read(), np.moveaxis(picture, -1, 0))
    np.testing.assert_array_equal(image.read(c=2, y=slice(1, 3), x=slice(2, 4)), picture[1:3, 2:4, 2])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"compressionType": "lossy"}, "unsupported_format"),
        ({"bitsPerComponentInMemory": 64}, "unsupported_type"),
        ({"heightPx": 5000}, "truncated"),
        ({"widthBytes": 3}, "unreadable"),
        ({"compressionType": "lossless", "heightPx": 10**9}, "inconsistent"),
        ({"tileWidthPx": 2}, "unsupported_format"),
    ],
)
def test_frames_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], reason: str
) -> None:
    write_nd2(tmp_path / "x.nd2", {0: bytes(30)})
    usual = {"heightPx": 5, "widthPx": 6, "widthBytes": 6, "channelCount": 1, "componentCount": 1}
    described(monkeypatch, [], **{**usual, "bitsPerComponentInMemory": 8, **changes})
    assert refused(tmp_path / "x.nd2").reason == reason


def test_loops_that_have_no_letter_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = ramp(3, 5, 6, dtype=np.uint8)
    write_nd2(tmp_path / "x.nd2", {number: plane.tobytes() for number, plane in enumerate(stored)})
    sizes = {"heightPx": 5, "widthPx": 6, "widthBytes": 6, "channelCount": 1, "componentCount": 1}
    described(monkeypatch, [("CustomLoop", 3)], bitsPerComponentInMemory=8, **sizes)
    assert "U is none of TCZYX" in str(refused(tmp_path / "x.nd2"))
    np.testing.assert_array_equal(read_image(tmp_path / "x.nd2", axes="TYX").read(), stored)
    described(monkeypatch, [("TimeLoop", 3), ("NETimeLoop", 1 << 40)], bitsPerComponentInMemory=8, **sizes)
    assert refused(tmp_path / "x.nd2").reason == "inconsistent"


# All ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "name"), [("liffile", "testdata_2channel_xz.lif"), ("nd2", "cluster.nd2")])
def test_a_missing_library_is_one_line(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as Python marks what cannot be imported
    error = refused(shared_data / "formats" / name)
    assert error.reason == "missing_library"
    assert str(error).endswith('pip install "unetbio[formats]"')


Change = Callable[[bytearray, random.Random], bytearray]


def cut(content: bytearray, rng: random.Random) -> bytearray:
    return content[: rng.randrange(len(content))]


def flip(content: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 4, 16])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def claim(content: bytearray, rng: random.Random) -> bytearray:
    """Huge, negative and empty numbers where structures are: near the start and the end."""
    place = rng.randrange(min(len(content) - 8, 1500))
    place = place if rng.random() < 0.5 else len(content) - 8 - place
    content[place : place + 8] = rng.choice([b"\xff" * 7 + b"\x7f", b"\xff" * 8, bytes(8), b"\xff\xff\xff\x7f" * 2])
    return content


@pytest.mark.parametrize("change", [cut, flip, claim])
@pytest.mark.parametrize("name", ["DAPI_GFP.czi", "testdata_2channel_xz.lif", "cluster.nd2"])
def test_changed_bytes_are_read_or_refused(shared_data: Path, tmp_path: Path, name: str, change: Change) -> None:
    if not name.endswith("czi"):
        pytest.importorskip({"lif": "liffile", "nd2": "nd2"}[name[-3:]])
    content = (shared_data / "formats" / name).read_bytes()
    rng = random.Random(f"{name} {change.__name__}")
    path = tmp_path / name
    for _ in range(12):
        path.write_bytes(change(bytearray(content), rng))
        with contextlib.suppress(ImageError):  # any other exception fails
            image = read_image(path, series=1 if name.endswith("lif") else 0)
            assert image.read(t=0, z=0).shape[-2:] == image.shape[-2:]
