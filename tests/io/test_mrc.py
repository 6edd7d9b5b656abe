"""MRC: what mrcfile writes is read as it was; headers that contradict themselves are refused."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from unetbio.cli.main import main
from unetbio.errors import ImageError
from unetbio.io import find_inputs, read_image

mrcfile = pytest.importorskip("mrcfile")

Array = np.ndarray[Any, Any]


def ramp(*shape: int, dtype: Any = np.int16) -> Array:
    return (np.arange(np.prod(shape)).reshape(shape) % 120).astype(dtype)


def write(path: Path, pixels: Array, angstrom: Any = None, **kind: bool) -> Path:
    """A file of mrcfile's; ``kind`` is ``stack`` or ``volumes``."""
    with mrcfile.new(path) as mrc:
        mrc.set_data(pixels)
        if kind.get("stack"):
            mrc.set_image_stack()
        if kind.get("volumes"):
            mrc.set_volume_stack() if mrc.is_volume() else None
        if angstrom is not None:
            mrc.voxel_size = angstrom
    return path


def change(path: Path, **words: tuple[str, int, int | float]) -> Path:
    """Overwrite places of the header; each is a format, a byte and a value."""
    content = bytearray(path.read_bytes())
    for kind, place, value in words.values():
        struct.pack_into(kind, content, place, value)
    path.write_bytes(content)
    return path


def refused(path: Path, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(path, **options).read()
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4", ">i2", ">f4", ">u2"])
@pytest.mark.parametrize("shape", [(7, 9), (5, 7, 9), (1, 1)])
def test_every_mode_and_byte_order(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    pixels = ramp(*shape, dtype=dtype)
    image = read_image(write(tmp_path / "x.mrc", pixels))
    assert (image.axes, image.shape, image.format) == ("ZYX"[-len(shape) :], shape, "mrc")
    assert image.dtype == np.dtype(dtype).newbyteorder("=")
    read = image.read()
    assert read.dtype == image.dtype
    np.testing.assert_array_equal(read, pixels)
    with mrcfile.open(tmp_path / "x.mrc") as mrc:
        np.testing.assert_array_equal(read, mrc.data)
    np.testing.assert_array_equal(image.read(y=slice(0, 5), x=slice(0, 4)), pixels[..., :5, :4])


def test_half_floats_are_exact_floats(tmp_path: Path) -> None:
    pixels = np.linspace(-3, 3, 35, dtype=np.float16).reshape(5, 7)
    image = read_image(write(tmp_path / "x.mrc", pixels))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image.read(), pixels)


def test_sections_of_a_stack_are_times_those_of_a_volume_z(tmp_path: Path) -> None:
    pixels = ramp(6, 4, 5)
    image = read_image(write(tmp_path / "stack.mrcs", pixels, 2.0, stack=True))
    assert (image.axes, image.shape) == ("TYX", (6, 4, 5))
    assert image.pixel_size_um == pytest.approx({"Y": 2e-4, "X": 2e-4})
    np.testing.assert_array_equal(image.read(t=3), pixels[3])
    image = read_image(tmp_path / "stack.mrcs", axes="ZYX")
    assert (image.axes, set(image.pixel_size_um)) == ("ZYX", {"Y", "X"}), "of time there is no size"
    # Tilt series and tomograms of IMOD are marked alike: a person may say that sections are no depth.
    volume = write(tmp_path / "x.st", pixels, (2.0, 3.0, 4.0))
    assert read_image(volume).pixel_size_um == pytest.approx({"Z": 4e-4, "Y": 3e-4, "X": 2e-4})
    image = read_image(volume, axes="TYX")
    assert (image.axes, set(image.pixel_size_um)) == ("TYX", {"Y", "X"})
    assert refused(volume, axes="YX").reason == "unknown_axes"


def test_a_stack_of_volumes(tmp_path: Path) -> None:
    pixels = ramp(2, 3, 4, 5)
    path = write(tmp_path / "x.mrc", pixels)
    image = read_image(path)
    assert (image.axes, image.shape) == ("TZYX", (2, 3, 4, 5))
    np.testing.assert_array_equal(image.read(), pixels)
    error = refused(change(path, mz=("<i", 36, 4)))
    assert (error.reason, str(error)) == (
        "inconsistent",
        "6 sections are no whole number of volumes of 4: write the file again",
    )


def test_axes_in_another_order(tmp_path: Path) -> None:
    """Maps of CCP4 may have Z as their columns."""
    path = write(tmp_path / "x.map", ramp(3, 4, 5), (1.5, 2.5, 3.5))
    change(path, columns=("<i", 64, 3), rows=("<i", 68, 1), sections=("<i", 72, 2))
    image = read_image(path)
    assert (image.axes, image.shape) == ("ZYX", (5, 3, 4))
    np.testing.assert_array_equal(image.read(), ramp(3, 4, 5).transpose(2, 0, 1))
    np.testing.assert_array_equal(image.read(z=2, y=slice(1, 3), x=slice(0, 2)), ramp(3, 4, 5)[1:3, :2, 2])
    # Old files leave the order out.
    change(path, columns=("<i", 64, 0), rows=("<i", 68, 0), sections=("<i", 72, 0))
    np.testing.assert_array_equal(read_image(path).read(), ramp(3, 4, 5))


def test_the_extended_header_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(ramp(4, 5))
        mrc.set_extended_header(np.zeros(3000, np.uint8))
    np.testing.assert_array_equal(read_image(path).read(), ramp(4, 5))


def test_bytes_of_imod_are_unsigned(tmp_path: Path) -> None:
    path = write(tmp_path / "x.rec", ramp(4, 5, dtype=np.int8) - 60)
    stored = path.read_bytes()[1024:]
    assert read_image(path).dtype == np.int8
    image = read_image(change(path, stamp=("<i", 152, 1146047817)))
    assert image.dtype == np.uint8
    assert image.read().tobytes() == stored
    assert read_image(change(path, flags=("<i", 156, 1))).dtype == np.int8


@pytest.mark.parametrize("stamp", [b"\0\0", b"\x11\x11"])
def test_a_wrong_stamp_of_the_byte_order(tmp_path: Path, stamp: bytes) -> None:
    path = change(write(tmp_path / "x.mrc", ramp(4, 5)), stamp=("<H", 212, int.from_bytes(stamp, "little")))
    np.testing.assert_array_equal(read_image(path).read(), ramp(4, 5))


@pytest.mark.parametrize(
    ("angstrom", "known", "trusted"),
    [
        (None, False, False),  # mrcfile's cell of 0
        (1.0, True, False),  # what programs write that know none
        (1.1, True, True),
        (1e-3, False, False),
        (1e9, False, False),
        (float("nan"), False, False),
        (float("inf"), False, False),
        (-2.0, False, False),
    ],
)
def test_a_pixel_size_is_trusted_where_it_can_be(
    tmp_path: Path, angstrom: float | None, known: bool, trusted: bool
) -> None:
    path = write(tmp_path / "x.mrc", ramp(4, 5))
    if angstrom is not None:
        change(path, x=("<f", 40, 5 * angstrom), y=("<f", 44, 4 * angstrom))
    image = read_image(path)
    assert (bool(image.pixel_size_um), image.pixel_size_trusted) == (known, trusted)
    # No sampling, no size.
    assert not read_image(change(path, mx=("<i", 28, 0))).pixel_size_um


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "size": (lambda path: change(path, nx=("<i", 0, 0)), "unreadable", r"a broken MRC file \(0 x 4 x 3 pixels\)"),
    "extended": (lambda path: change(path, n=("<i", 92, -8)), "unreadable", "an extended header of -8 bytes"),
    "mode": (lambda path: change(path, mode=("<i", 12, 7)), "unsupported_type", "mode 7: grey values are needed"),
    "complex": (lambda path: change(path, mode=("<i", 12, 4)), "unsupported_type", "complex numbers: grey values"),
    "nibbles": (lambda path: change(path, mode=("<i", 12, 101)), "unsupported_type", "4 bits a pixel"),
    "order": (lambda path: change(path, axis=("<i", 64, 9)), "unreadable", "the order of the axes makes no sense"),
    "lie": (lambda path: change(path, nz=("<i", 8, 1 << 30)), "truncated", "bytes are claimed by a file of 1144"),
    "cut": (
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "truncated",
        "are claimed by a file of 1143",
    ),
    "short": (lambda path: path.write_bytes(path.read_bytes()[:700]), "truncated", "the header ends after 700 bytes"),
    "more": (lambda path: change(path, nz=("<i", 8, 2)), "inconsistent", "claims 2 sections, the file has room for 3"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "x.mrc", ramp(3, 4, 5))
    breaks, reason, message = BROKEN[name]
    breaks(path)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path).read()
    assert caught.value.reason == reason


def test_one_series(tmp_path: Path) -> None:
    assert refused(write(tmp_path / "x.mrc", ramp(4, 5)), series=1).reason == "no_such_series"


def test_changed_bytes_are_read_or_refused(tmp_path: Path) -> None:
    content = write(tmp_path / "x.mrc", ramp(3, 4, 5), 2.0).read_bytes()
    rng = np.random.default_rng(5)
    reasons = set()
    for _ in range(300):
        changed = bytearray(content)
        for place in rng.integers(0, 232, 3):
            changed[place] = rng.integers(256)
        (tmp_path / "y.mrc").write_bytes(changed)
        try:
            assert read_image(tmp_path / "y.mrc").read().size <= 3 * 4 * 5 * 2
        except ImageError as error:
            reasons.add(error.reason)
    assert reasons <= {"unreadable", "truncated", "inconsistent", "unsupported_type", "unsupported_format"}


def test_commands_know_the_format(tmp_path: Path) -> None:
    write(tmp_path / "tomogram", ramp(3, 4, 5), 8.0).rename(tmp_path / "tomogram.rec")
    write(tmp_path / "stack.mrc", ramp(3, 4, 5), 8.0)
    (tmp_path / "app.js.map").write_text("{}")  # other programs use these endings too
    assert [item.path.name for item in find_inputs([tmp_path])] == ["stack.mrc"]
    result = CliRunner().invoke(main, ["inspect", str(tmp_path / "tomogram.rec")])
    assert result.stdout.splitlines() == [
        f"{tmp_path / 'tomogram.rec'}: MRC, 1 image",
        "  series 0: Z=3 Y=4 X=5 int16",
        "    pixel size: Z 0.0008, Y 0.0008, X 0.0008 um (trusted)",
        "    channels: 0: (no name)",
    ]
