"""What a check keeps of an image."""

from pathlib import Path

import numpy as np

from unetbio.checking.image_stats import ImageStats
from unetbio.io import read_image, write_image


def test_an_image_from_its_statistics_opens_the_file_when_it_is_read(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(4, 6)
    write_image(tmp_path / "a.tif", values, axes="YX", pixel_size_um={"Y": 0.5, "X": 0.5})
    original = read_image(tmp_path / "a.tif")
    stats = ImageStats("YX", (4, 6), "uint8", {"Y": 0.5, "X": 0.5}, True, 1, "", (), original.channel_names)
    image = stats.image(tmp_path / "a.tif", None, 0)
    assert image.describe() == original.describe()
    assert image.pixel_size_um == original.pixel_size_um
    assert np.array_equal(image.read(), values)
