"""Files that hold several images (positions, scenes): each is trained on with its own mask, or refused in one line."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.errors import ImageError
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.training.data.dataset import Example
from unetbio.training.data.examples import load_examples
from unetbio.training.data.pairs import AnnotatedPair, find_pairs

GREY = np.random.default_rng(5).integers(1, 4000, (3, 40, 48)).astype(np.uint16)
LABELS = np.zeros((3, 40, 48), np.uint16)
for number in range(3):
    LABELS[number, 4 : 12 + number, 4:14] = 1
    LABELS[number, 20:32, 20 + number : 36] = 2


def write(path: Path, images: NDArray[Any]) -> Path:
    with tifffile.TiffWriter(path, ome=True) as file:
        for number, image in enumerate(images):
            file.write(image, photometric="minisblack", metadata={"axes": "YX", "Name": f"pos{number}"})
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write(tmp_path / "x.ome.tif", GREY)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return write(tmp_path / "x_masks.ome.tif", LABELS)


def load(image: Path, mask: Path, **reading: Any) -> list[Example]:
    return load_examples([AnnotatedPair(image, mask, Settings(**reading))], TrainingConfig())


@pytest.mark.parametrize(
    ("series", "chosen"),
    [(None, [0, 1, 2]), ("all", [0, 1, 2]), (1, [1]), ("pos2", [2]), ("1-2", [1, 2])],
)
def test_each_chosen_image_has_the_mask_of_its_number(
    images: Path, masks: Path, series: str | int | None, chosen: list[int]
) -> None:
    examples = load(images, masks, series=series)
    np.testing.assert_array_equal([example.image[0] for example in examples], GREY[chosen])
    np.testing.assert_array_equal([example.label_image for example in examples], LABELS[chosen])


def test_a_chosen_image_may_have_a_mask_of_its_own(tmp_path: Path, images: Path) -> None:
    mask = write(tmp_path / "m.ome.tif", LABELS[2:])
    (example,) = load(images, mask, series=2)
    np.testing.assert_array_equal(example.label_image, LABELS[2])


@pytest.mark.parametrize(
    ("count", "series", "message"),
    [
        (
            1,
            None,
            "m.ome.tif: it holds 1 image, and {} holds 3: give a mask of as many, or choose one image with --series",
        ),
        (2, None, "m.ome.tif: it holds 2 images, and {} holds 3: give a mask of as many"),
        (2, 1, "m.ome.tif: it holds 2 images, and {} holds 3"),
        (3, "pos7", "x.ome.tif: no series pos7: it holds 3, counted from 0 (0: pos0, 1: pos1, 2: pos2)"),
        (3, 5, "x.ome.tif: no series 5"),
    ],
)
def test_other_numbers_of_images_are_refused(
    tmp_path: Path, images: Path, count: int, series: str | int | None, message: str
) -> None:
    mask = write(tmp_path / "m.ome.tif", LABELS[:count])
    with pytest.raises(ImageError, match=re.escape(message.format(images))):
        load(images, mask, series=series)


def test_one_image_has_one_mask(tmp_path: Path, masks: Path) -> None:
    image = write(tmp_path / "one.ome.tif", GREY[:1])
    with pytest.raises(ImageError, match=r"x_masks\.ome\.tif: it holds 3 images, and .* holds 1: give a mask that"):
        load(image, masks)


def test_a_row_of_a_table_chooses_for_itself(tmp_path: Path, images: Path, masks: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"image,mask,split,series\n{images},{masks},training,0-1\n{images},{masks},validation,pos2\n")
    files = find_pairs([table])
    first, second, third = load_examples([*files.training, *files.validation], TrainingConfig())
    np.testing.assert_array_equal([first.label_image, second.label_image, third.label_image], LABELS)


def run(*line: object) -> Result:
    return CliRunner().invoke(main, [str(part) for part in line])


def test_weight_maps_are_of_files_with_one_image(tmp_path: Path, masks: Path) -> None:
    result = run("weight-map", masks, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert "it holds 3 images, and a mask is one: choose its series, or save each as a file" in result.stderr


def test_scores_are_those_of_all_images(tmp_path: Path, masks: Path) -> None:
    """The first image alone would score 1."""
    found = LABELS.copy()
    found[2] = 0
    result = run("evaluate", write(tmp_path / "x_labels.ome.tif", found), masks, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert [row.split()[1:3] for row in result.stdout.splitlines()[1:3]] == [["6", "4"], ["6", "4"]]
    refused = run("evaluate", write(tmp_path / "x_labels.ome.tif", found[:2]), masks, "-o", tmp_path / "out")
    assert refused.exit_code == 3
    assert "images in it: 3, in x_labels.ome.tif: 2; give files of as many [series_differ]" in refused.stderr


def test_a_mask_of_a_series_is_imported_as_that_of_the_image(tmp_path: Path, images: Path, masks: Path) -> None:
    line = "import", masks, "--images", images, "-o", tmp_path / "out"
    refused = run(*line)
    assert refused.exit_code == 3
    assert "it holds 3 images, and nothing says which one was annotated: call the annotations x_s00" in refused.stderr
    assert run(*line, "--series", 2).exit_code == 0
    mask = tmp_path / "out" / "x_s02_labels.ome.tif"
    np.testing.assert_array_equal(tifffile.imread(mask), LABELS[2])
    # As both messages say, a table pairs the mask with its image.
    table = "a table with the columns image, mask and series"
    assert table in refused.stderr
    assert f"x_s02_labels.ome.tif may be that of one image of a file: unetbio train takes it from {table}" in (
        run("train", images, mask, "-o", tmp_path / "model.safetensors", "--series", 2).stderr
    )
    (tmp_path / "t.csv").write_text(f"image,mask,series\n{images},{mask},2\n")
    (example,) = load_examples(find_pairs([tmp_path / "t.csv"]).training, TrainingConfig())
    np.testing.assert_array_equal(example.label_image, LABELS[2])
