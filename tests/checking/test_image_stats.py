"""What a check keeps of an image."""

from pathlib import Path

import numpy as np
import tifffile

from unetbio.checking.image_stats import ImageStats
from unetbio.io import read_image, write_image


def test_an_image_from_its_statistics_opens_the_file_when_it_is_read(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(4, 6)
    write_image(tmp_path / "a.tif", values, axes="YX", pixel_size_um={"Y": 0.5, "X": 0.5})
    original = read_image(tmp_path / "a.tif")
    stats = ImageStats("YX", (4, 6), "uint8", {"Y": 0.5, "X": 0.5}, True, 1, "", (), original.channel_names)
    image = stats.image(tmp_path / "a.tif", lambda: read_image(tmp_path / "a.tif"))
    assert image.describe() == original.describe()
    assert image.pixel_size_um == original.pixel_size_um
    assert np.array_equal(image.read(), values)


def test_resolutions_of_a_pyramid_are_those_of_the_file(tmp_path: Path) -> None:
    path, values = tmp_path / "a.ome.tif", np.arange(48, dtype=np.uint8).reshape(6, 8)
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(values, subifds=1, metadata={"axes": "YX"})
        file.write(values[::2, ::2], subfiletype=1)
    stats = ImageStats("YX", (6, 8), "uint8", {"X": 0.5}, True, 1, "", (), ("",), smaller=((3, 4),))
    image, original = stats.image(path, lambda: read_image(path)), read_image(path)
    assert image.levels == original.levels == ((6, 8), (3, 4))
    half = image.at_level(1)
    assert (half.shape, half.pixel_size_um) == ((3, 4), {"X": 1.0})
    assert np.array_equal(half.read(), values[::2, ::2])
