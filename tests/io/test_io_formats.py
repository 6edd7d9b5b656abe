"""PNG, JPEG and NIfTI, and files that are none of these."""

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pytest

from unetbio.errors import ImageError
from unetbio.io import find_inputs, read_image, write_labels
from unetbio.io.labels import label_suffix


def refused(path: Path, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(path, **options).read()
    assert "\n" not in str(caught.value)
    return caught.value


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 250, shape).astype(dtype)


# PNG and JPEG


@pytest.mark.parametrize(
    ("channels", "names"),
    [(1, ("",)), (2, ("", "alpha")), (3, ("red", "green", "blue")), (4, ("red", "green", "blue", "alpha"))],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png(tmp_path: Path, channels: int, names: tuple[str, ...], dtype: Any) -> None:
    stored = noise(5, 7, channels, dtype=dtype) * dtype(100 if dtype == np.uint16 else 1)
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(stored.squeeze()))
    image = read_image(tmp_path / "x.png")
    expected = np.moveaxis(stored, -1, 0) if channels > 1 else stored[..., 0]
    assert (image.axes, image.shape) == ("CYX" if channels > 1 else "YX", expected.shape)
    assert (image.dtype, image.channel_names, image.pixel_size_um) == (dtype, names, {})
    np.testing.assert_array_equal(image.read(), expected)
    np.testing.assert_array_equal(image.read(c=channels - 1, x=slice(2, 4)), stored[:, 2:4, channels - 1])


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40), np.arange(30)).astype(np.uint8) * 3
    for name, stored in (("grey", smooth), ("colour", np.dstack([smooth, smooth, smooth]))):
        (tmp_path / "x.jpg").write_bytes(imagecodecs.jpeg8_encode(stored, level=95))
        image = read_image(tmp_path / "x.jpg")
        assert image.axes == ("YX" if name == "grey" else "CYX")
        pixels = image.read()
        assert pixels.shape == image.shape
        assert abs(pixels.astype(int) - smooth).max() <= 3, "JPEG is not exact"


def test_cut_pictures_are_refused(tmp_path: Path) -> None:
    # Decoders fill what is missing with grey, or give what they have.
    for name, encoded in (
        ("x.png", imagecodecs.png_encode(noise(30, 30))),
        ("x.jpg", imagecodecs.jpeg8_encode(noise(30, 30))),
    ):
        for end in range(4, len(encoded) - 2, 7):
            (tmp_path / name).write_bytes(encoded[:end])
            assert refused(tmp_path / name).reason in ("truncated", "unreadable")


def test_a_picture_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    encoded = bytearray(imagecodecs.png_encode(noise(30, 30)))
    encoded[len(encoded) // 2] ^= 0xFF
    (tmp_path / "x.png").write_bytes(encoded)
    assert "checksum" in str(refused(tmp_path / "x.png"))


def test_a_picture_larger_than_its_file_can_hold(tmp_path: Path) -> None:
    encoded = bytearray(imagecodecs.png_encode(noise(30, 30)))
    encoded[16:24] = (100_000).to_bytes(4, "big") * 2
    encoded[29:33] = zlib.crc32(encoded[12:29]).to_bytes(4, "big")
    (tmp_path / "x.png").write_bytes(encoded)
    assert "10.0 GB" in str(refused(tmp_path / "x.png"))


def test_an_animation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(imagecodecs.apng_encode(noise(3, 8, 9)))
    assert str(refused(tmp_path / "x.png")) == "an animation of 3 pictures: save each alone"


def test_cmyk_jpeg_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(imagecodecs.jpeg8_encode(noise(8, 8, 4), colorspace="CMYK", outcolorspace="CMYK"))
    assert refused(tmp_path / "x.jpg").reason == "unsupported_colour"


def test_pictures_have_one_series_and_their_own_axes(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(noise(8, 8)))
    assert refused(tmp_path / "x.png", series=1).reason == "no_such_series"
    assert refused(tmp_path / "x.png", axes="ZYX").reason == "unknown_axes"
    assert read_image(tmp_path / "x.png", axes="yx").shape == (8, 8)


# NIfTI


def volume(path: Path, values: np.ndarray, unit: str = "mm", **header: float) -> None:
    """Values as x, y, z, t, c with voxels of 0.5 x 1 x 2."""
    made = nibabel.Nifti1Image(values, np.diag([0.5, 1.0, 2.0, 1.0]))
    made.header.set_xyzt_units(xyz=unit)
    if header:
        made.header.set_slope_inter(**header)
    nibabel.save(made, path)


@pytest.mark.parametrize("name", ["X.NII", "X.NII.GZ"])
def test_nifti_is_known_by_its_name_in_capitals(tmp_path: Path, name: str) -> None:
    written = noise(4, 5, 6)
    volume(tmp_path / name.lower(), written)
    (tmp_path / name.lower()).rename(tmp_path / name)
    (found,) = find_inputs([tmp_path])
    image = read_image(found.path)
    assert image.format == "nifti"
    np.testing.assert_array_equal(image.read(), written.T)
    write_labels(tmp_path / f"y_labels{name[1:]}", np.eye(5, dtype=np.uint16))
    assert read_image(tmp_path / f"y_labels{name[1:]}").format == "nifti"
    assert label_suffix(found.path) == ".nii.gz"


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize(
    "shape", [(6, 5), (6, 5, 1), (6, 5, 4), (6, 5, 4, 3), (6, 5, 1, 3), (6, 5, 4, 1, 2), (6, 5, 4, 3, 2)]
)
def test_nifti_axes(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    stored = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    volume(tmp_path / name, stored)
    image = read_image(tmp_path / name)
    full = stored.reshape(shape + (1,) * (5 - len(shape)))  # x y z t c
    expected = full.transpose(3, 4, 2, 1, 0)  # T C Z Y X
    assert image.axes == "".join(a for a, n in zip("TCZYX", expected.shape, strict=True) if n > 1 or a in "YX")
    np.testing.assert_array_equal(image.read(), expected.squeeze())
    np.testing.assert_array_equal(image.read(t=0, c=0, z=0, y=slice(1, 3)), expected[0, 0, 0, 1:3])
    assert image.pixel_size_trusted
    assert image.pixel_size_um == pytest.approx(
        {"Y": 1000.0, "X": 500.0} | ({"Z": 2000.0} if "Z" in image.axes else {})
    )


def test_nifti_keeps_its_affine(tmp_path: Path) -> None:
    affine = np.array([[0, -2, 0, 5], [3, 0, 0, -7], [0, 0, 1.5, 2], [0, 0, 0, 1]], float)
    nibabel.save(nibabel.Nifti1Image(noise(4, 5, 6), affine), tmp_path / "x.nii.gz")
    image = read_image(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(image.affine, affine)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1000.0), ("micron", 1.0), ("meter", 1e6), ("unknown", None)])
def test_nifti_units(tmp_path: Path, unit: str, factor: float | None) -> None:
    volume(tmp_path / "x.nii", noise(4, 5, 6), unit)
    image = read_image(tmp_path / "x.nii")
    expected = {} if factor is None else {"Z": 2 * factor, "Y": factor, "X": factor / 2}
    assert image.pixel_size_um == pytest.approx(expected)
    assert image.pixel_size_trusted == bool(expected)


def test_nifti_slope_and_intercept(tmp_path: Path) -> None:
    stored = noise(4, 5, 6, dtype=np.int16)
    made = nibabel.Nifti1Image(stored, np.eye(4))
    made.header.set_slope_inter(0.5, 10)
    path = tmp_path / "x.nii"
    nibabel.save(made, path)
    image = read_image(path)
    expected = nibabel.load(path).get_fdata().T
    assert image.dtype == np.float32
    np.testing.assert_allclose(image.read(), expected, rtol=1e-6)


def test_nifti_axes_can_be_named(tmp_path: Path) -> None:
    stored = noise(6, 5, 4, 3, dtype=np.int16)
    volume(tmp_path / "x.nii", stored)
    image = read_image(tmp_path / "x.nii", axes="CZYX")
    assert image.axes == "CZYX"
    np.testing.assert_array_equal(image.read(), stored.T)
    assert image.pixel_size_um == pytest.approx({"Z": 2000.0, "Y": 1000.0, "X": 500.0})
    # The step of the fourth stored axis is a time.
    assert read_image(tmp_path / "x.nii", axes="ZTYX").pixel_size_um == pytest.approx({"Y": 1000.0, "X": 500.0})
    for axes in ("ZYX", "QZYX", "ZZYX", "TZXY"):
        assert refused(tmp_path / "x.nii", axes=axes).reason == "unknown_axes"
    assert refused(tmp_path / "x.nii", series=1).reason == "no_such_series"


def test_second_version_of_nifti(tmp_path: Path) -> None:
    stored = noise(6, 5, 4)
    nibabel.save(nibabel.Nifti2Image(stored, np.eye(4)), tmp_path / "x.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "x.nii").read(), stored.T)


def test_broken_nifti(tmp_path: Path) -> None:
    volume(tmp_path / "x.nii", noise(6, 5, 4))
    content = (tmp_path / "x.nii").read_bytes()
    path = tmp_path / "y.nii"
    path.write_bytes(content[:-1])
    assert str(refused(path)) == "472 bytes are claimed by a file of 471: copy it again"
    path.write_bytes(content[:200])
    assert refused(path).reason == "unreadable"  # too short to be told from any other file
    path.write_bytes(content[:40] + (3).to_bytes(2, "little") + (30000).to_bytes(2, "little") * 3 + content[48:])
    assert refused(path).reason == "truncated"
    path.write_bytes(content[:70] + (1792).to_bytes(2, "little") + content[72:])  # complex numbers
    assert refused(path).reason == "unsupported_type"
    path.write_bytes(content[:70] + (9999).to_bytes(2, "little") + content[72:])
    assert refused(path).reason == "unreadable"


def test_broken_gzip(tmp_path: Path) -> None:
    volume(tmp_path / "x.nii", noise(6, 5, 4))
    packed = gzip.compress((tmp_path / "x.nii").read_bytes())
    path = tmp_path / "x.nii.gz"
    path.write_bytes(packed[:-8] + bytes(4) + packed[-4:])  # a wrong checksum, which nibabel does not see
    assert refused(path).reason == "truncated"
    for end in (5, 30, len(packed) // 2, len(packed) - 1):
        path.write_bytes(packed[:end])
        assert refused(path).reason == "truncated"
    path.write_bytes(gzip.compress(b"some text"))
    assert refused(path).reason == "truncated"


# Neither


@pytest.mark.parametrize(
    ("content", "reason", "words"),
    [
        (b"", "unreadable", "0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "unreadable", "run git lfs pull"),
        (b"x,y\n1,2\n", "unreadable", "a text file"),
        (bytes(100), "unreadable", "begins with zeros"),
        (b"\x01\xfe\x99\x80", "unreadable", "not an image that is known"),
        (b"GIF89a", "unsupported_format", "a GIF picture"),
        (b"II*\0", "truncated", "only a TIFF header"),
    ],
)
def test_what_a_file_looks_like_is_said(tmp_path: Path, content: bytes, reason: str, words: str) -> None:
    (tmp_path / "x.tif").write_bytes(content)
    error = refused(tmp_path / "x.tif")
    assert (error.reason, words in str(error)) == (reason, True)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert str(refused(tmp_path / "x.tif")) == "cannot be opened: No such file or directory"
    assert refused(tmp_path).reason == "unsupported_format"


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.tif")
    assert "a pipe or a device" in str(refused(tmp_path / "x.tif"))


def test_the_first_bytes_decide_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(imagecodecs.png_encode(noise(8, 9)))
    assert read_image(tmp_path / "x.tif").format == "png"


# Real files


def test_real_volumes(shared_data: Path) -> None:
    for name in ("anatomical.nii", "anatomical_label.nii.gz", "example4d.nii.gz"):
        path = shared_data / "formats" / name
        image = read_image(path)
        np.testing.assert_array_equal(image.read(), np.asarray(nibabel.load(path).dataobj).T)
    assert image.axes == "TZYX"
    assert image.pixel_size_um == pytest.approx({"Z": 2200.0, "Y": 2000.0, "X": 2000.0}, rel=1e-6)


def test_every_broken_file_is_read_or_refused(shared_data: Path) -> None:
    folder = shared_data / "malformed"
    outcome = {}
    for path in sorted(folder.iterdir()):
        try:
            image = read_image(path)
            assert image.read().shape == image.shape
            outcome[path.name] = "read"
        except ImageError as error:
            outcome[path.name] = error.reason
    read = {name for name, reason in outcome.items() if reason == "read"}
    # A page of CCITT fax with a broken end; wrong counts beside right pixels; the others are whole.
    assert read == {
        "made__1xN.tif",
        "made__float32_all_nan.tif",
        "pillow__crash-74d2a78403a5a59db1fb0a2b8735ac068a75f6e3.tif",
        "pillow__hopper_bad_exif.jpg",
        "pillow__invalid-exif-without-x-resolution.jpg",
        "pillow__tiff_wrong_bits_per_sample_3.tiff",
    }
    assert outcome["made__lfs_pointer.tif"] == outcome["made__zero_byte.tif"] == "unreadable"
    assert outcome["pillow__truncated_jpeg.jpg"] == outcome["pillow__truncated_end_chunk.png"] == "truncated"
