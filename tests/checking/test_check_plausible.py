"""An image that was given in place of its label image is refused; no real label image is."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from unetbio.cli.main import main
from unetbio.errors import ImageError
from unetbio.io import read_image, read_labels, write_image, write_labels
from unetbio.labels import check_plausible
from unetbio.settings.training import TrainingConfig
from unetbio.training.data.examples import load_examples

MASK = np.kron(np.arange(16).reshape(4, 4), np.ones((16, 16), int)).astype(np.uint16)
IMAGE = np.random.default_rng(0).poisson(100, (64, 64)).astype(np.uint16)


def test_noise_is_no_label_image() -> None:
    with pytest.raises(ImageError, match=r"^the label image looks like an image, .*: \d+ % .* swapped\?"):
        check_plausible(IMAGE)


def test_a_stack_is_judged_as_a_whole() -> None:
    # Sections of cells that change from one to the next are no noise: only neighbours in the plane count.
    check_plausible(np.stack([MASK, MASK + 20, MASK + 40]))
    with pytest.raises(ImageError, match="not like labels"):
        check_plausible(np.stack([MASK, IMAGE]))


@pytest.mark.parametrize(
    "label_image",
    [
        pytest.param(np.zeros((50, 50), np.uint8), id="empty"),
        pytest.param(np.zeros((0, 5), np.uint8), id="without pixels"),
        pytest.param(np.arange(1, 82).reshape(9, 9), id="too few pixels to tell"),
        pytest.param(np.where(np.indices((60, 60)).sum(axis=0) % 3, 0, np.arange(3600).reshape(60, 60)), id="points"),
        pytest.param(np.broadcast_to(np.arange(1, 41), (40, 40)), id="lines of one pixel"),
    ],
)
def test_odd_label_images_pass(label_image: np.ndarray) -> None:
    check_plausible(label_image)


def test_the_count_agrees_with_a_loop() -> None:
    rng = np.random.default_rng(1)
    labels = np.kron(rng.integers(0, 9, (30, 30)), np.ones((2, 2), int))
    labels[rng.random(labels.shape) < 0.2] = 50 + rng.integers(0, 50)
    noise = rng.random(labels.shape) < 0.2
    labels[noise] = rng.integers(0, 500, noise.sum())
    padded = np.pad(labels, 1, constant_values=-1)
    lonely = 0
    for y, x in np.argwhere(labels):
        around = [padded[y, x + 1], padded[y + 2, x + 1], padded[y + 1, x], padded[y + 1, x + 2]]
        lonely += all(value not in (0, labels[y, x]) for value in around)
    with pytest.raises(ImageError, match=f": {round(100 * lonely / np.count_nonzero(labels))} % "):
        check_plausible(labels)


def test_training_refuses_swapped_files(tmp_path: Path) -> None:
    write_image(tmp_path / "image.tif", IMAGE, axes="YX")
    write_labels(tmp_path / "mask.tif", MASK)
    load_examples([(tmp_path / "image.tif", tmp_path / "mask.tif")], TrainingConfig())
    with pytest.raises(ImageError, match=r"^.*image\.tif: the mask looks like an image"):
        load_examples([(tmp_path / "mask.tif", tmp_path / "image.tif")], TrainingConfig())


def test_evaluation_refuses_images_for_truth(tmp_path: Path) -> None:
    for folder in ("found", "truth"):
        (tmp_path / folder).mkdir()
    write_labels(tmp_path / "found" / "a_labels.ome.tif", MASK)
    write_image(tmp_path / "truth" / "a.tif", IMAGE, axes="YX")
    line = ["evaluate", str(tmp_path / "found"), str(tmp_path / "truth"), "-o", str(tmp_path / "scores")]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 3
    assert "a.tif: the mask looks like an image, not like labels" in result.stderr


@pytest.mark.parametrize("folder", ["dsb2018/val", "bbbc039/val", "nuclei_3d"])
def test_real_masks_pass_and_their_images_do_not(shared_data: Path, folder: str) -> None:
    for path in sorted((shared_data / folder / "masks").iterdir()):
        axes = "ZYX" if folder == "nuclei_3d" else None
        check_plausible(read_labels(path, allow_binary=True, axes=axes))
        image = read_image(shared_data / folder / "images" / path.name, axes=axes)
        with pytest.raises(ImageError, match="not like labels"):
            check_plausible(image.read(c=0))
