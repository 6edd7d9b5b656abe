"""Annotated images that cannot be right are refused before the first step, or named; real ones are left alone."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from scipy import ndimage

from unetbio.annotations.parts import find_parts
from unetbio.errors import ImageError, UsageError
from unetbio.io import read_image, read_labels
from unetbio.preprocessing import normalization
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.annotations import UNANNOTATED, number_cell_classes
from unetbio.targets import of_training
from unetbio.training.data.checks import duplicates
from unetbio.training.data.checks.alignment import find_class_displacement, find_displacement
from unetbio.training.data.checks.checks import check_examples
from unetbio.training.data.checks.duplicates import find_anchors, find_shared
from unetbio.training.data.checks.noise import is_noise
from unetbio.training.data.dataset import Example, common_pixel_size
from unetbio.training.data.examples import load_examples
from unetbio.training.data.pairs import AnnotatedPair

CONFIG = TrainingConfig()


def scene(seed: int, size: int = 128, step: int = 26, radius: float = 8.0, jitter: int = 3) -> Example:
    """Bright ellipses, wider than high, on a noisy ground, on a grid with jitter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    label_image = np.zeros((size, size), np.int32)
    for number, (row, column) in enumerate(np.argwhere(np.ones((size // step,) * 2)), start=1):
        dy, dx = rng.integers(-jitter, jitter + 1, 2)
        at_y, at_x = (row + 0.5) * step + dy, (column + 0.5) * step + dx
        label_image[((y - at_y) / (0.7 * radius)) ** 2 + ((x - at_x) / radius) ** 2 <= 1] = number
    image = (200 + 800 * (label_image > 0) + rng.normal(0, 20, label_image.shape)).astype(np.uint16)[None]
    scaling = normalization.measure(image, CONFIG.normalization)
    return Example(f"scene{seed}.tif", image, scaling, label_image.astype(np.uint16))


SCENES = [scene(seed) for seed in range(4)]


def with_masks(change: Callable[[np.ndarray], np.ndarray], examples: list[Example] | None = None) -> list[Example]:
    return [dataclasses.replace(one, label_image=change(one.label_image)) for one in examples or SCENES]


def check(examples: list[Example], **options: object) -> list[str]:
    return check_examples(examples[1:], examples[:1], CONFIG, **options)  # type: ignore[arg-type]


def test_masks_that_lie_on_their_images_pass() -> None:
    assert check(SCENES) == []


@pytest.mark.parametrize(
    ("sizes", "common", "said"),
    [
        ([(0.65, 0.65), (0.6501, 0.6499)], (0.65005, 0.64995), ""),
        ([(0.65, 0.65), (0.65, 0.65)], (0.65, 0.65), ""),
        ([None, None], None, ""),
        (
            [(0.65, 0.65), (0.325, 0.325)],
            None,
            "pixel sizes differ (0.325 x 0.325 um: 1 image, 0.65 x 0.65 um: 1 image)",
        ),
        ([(0.65, 0.65), None], None, "pixel sizes differ (0.65 x 0.65 um: 1 image, unknown: 1 image)"),
    ],
)
def test_pixel_sizes_that_differ_are_named(sizes: list[Any], common: tuple[float, ...] | None, said: str) -> None:
    examples = [dataclasses.replace(one, pixel_size_um=size) for one, size in zip(SCENES, sizes, strict=False)]
    assert common_pixel_size(examples) == (common and pytest.approx(common))
    warnings = check(examples)
    assert len(warnings) == bool(said)
    assert all(line.startswith(said) for line in warnings)


def one_bit_for_all(labels: np.ndarray) -> np.ndarray:
    return ((labels > 0) + np.uint16(1) * (labels > 8)).astype(np.uint16)


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        (np.zeros_like, "no_cells", "all masks are empty (scene1.tif, scene2.tif, scene3.tif): give masks in which"),
        (
            one_bit_for_all,
            "reused_numbers",
            "the mask of scene1.tif: 2 of 2 numbers stand in parts that are far from each other (4 of 4 masks): a cell "
            "needs a number of its own; for a mask of classes, use train --target classes",
        ),
        (
            lambda labels: (labels + 1).astype(np.uint16),
            "no_background",
            "the mask of scene1.tif: no pixel is 0, and number 1 covers",
        ),
        (
            lambda labels: labels.T.copy(),
            "displaced",
            "the mask of scene1.tif does not lie on the image: it fits with rows and columns exchanged (4 of 4 masks "
            "are displaced); write the masks in the axes of the images",
        ),
        (
            lambda labels: np.roll(labels, (-6, 9), (0, 1)),
            "displaced",
            "it fits moved by 6 pixels down and -9 to the right (4 of 4 masks are displaced)",
        ),
        (
            lambda labels: border_pixels(labels),
            "points",
            "no cell has more than 3 pixels: marks of single pixels, also those left at a border, cannot be learned",
        ),
    ],
)
def test_masks_that_cannot_be_right_are_refused_unless_trusted(
    change: Callable[[np.ndarray], np.ndarray], reason: str, message: str
) -> None:
    with pytest.raises(ImageError) as caught:
        check(with_masks(change))
    assert caught.value.reason == reason
    assert message in str(caught.value)
    assert str(caught.value).endswith("If the masks are right all the same, say --trust-masks")
    assert any(message in warning for warning in check(with_masks(change), trust=True))


@pytest.mark.parametrize(
    ("target", "network"),
    [
        ("instances", "unet"),
        ("centres", "unet"),
        ("boundaries", "unet"),
        ("cell_classes", "unet"),
        ("instances", "mask_rcnn"),
        ("cell_classes", "mask_rcnn"),
    ],
)
def test_the_background_of_cells_is_not_left_out(target: str, network: str) -> None:
    with pytest.raises(UsageError, match=f"ignore_label 0: with target: {target} 0 is the background, .* such as 255"):
        of_training(TrainingConfig(target=target, network=network, ignore_label=0))
    # Masks of classes may number theirs from 1.
    of_training(TrainingConfig(target="classes", ignore_label=0))


def border_pixels(labels: np.ndarray) -> np.ndarray:
    """What is left where all cells were deleted but for a pixel at the border."""
    marks = np.zeros_like(labels)
    marks[0, ::20] = np.arange(1, 1 + len(marks[0, ::20]))
    return marks


def resized(labels: np.ndarray) -> np.ndarray:
    return ndimage.zoom(labels[::2, ::2].astype(np.float32), 2, order=1).round().astype(np.uint16)


def as_jpeg(labels: np.ndarray) -> np.ndarray:
    return imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(labels.astype(np.uint8) * 3, level=90))


def aliased(labels: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter((labels > 0) * 255.0, 1).round().astype(np.uint8)


@pytest.mark.parametrize("change", [resized, as_jpeg, aliased])
def test_numbers_that_interpolation_or_jpeg_made_up_are_refused(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    example = scene(0, size=320, step=40, radius=14)
    tifffile.imwrite(tmp_path / "image.tif", example.image[0])
    tifffile.imwrite(tmp_path / "mask.tif", change(example.label_image))
    with pytest.raises(ImageError, match=r"saved as JPEG, or resized with interpolation\?") as caught:
        load_examples([AnnotatedPair(tmp_path / "image.tif", tmp_path / "mask.tif")], CONFIG)
    assert caught.value.reason == "not_labels"


def test_training_masks_that_are_all_empty_are_refused_though_others_are_not() -> None:
    empty = with_masks(np.zeros_like)
    with pytest.raises(ImageError, match="all masks of training images are empty"):
        check([SCENES[0], *empty[1:]])
    assert check([empty[0], *SCENES[1:]]) == [
        "no validation mask holds a cell (scene0.tif): the scores say nothing",
    ]
    assert check([SCENES[0], empty[1], *SCENES[2:]]) == []


@pytest.mark.parametrize(("limit", "bits"), [(255, 16), (65_535, 32)])
def test_numbers_that_start_anew_are_named_with_their_cause(limit: int, bits: int) -> None:
    example = scene(0, size=300, step=14, radius=5)
    cells = example.label_image.astype(np.int64)
    # The last cells got the numbers of the first ones; those between stand for all up to the limit.
    shift = limit - 300
    labels = np.select([cells > 300, cells > 100], [cells - 300, cells + shift], cells).astype(np.uint16)
    with pytest.raises(ImageError) as caught:
        check(with_masks(lambda _: labels, [example, dataclasses.replace(example, name="other.tif")]))
    assert f"numbers start anew after {limit}, and cell {limit + 1} has become background" in str(caught.value)
    assert f"save label images as {bits} bit" in str(caught.value)


def numbered_rows(cells: int) -> np.ndarray:
    """So many squares in rows, numbered in the order of reading."""
    numbers = np.zeros((18, 18), np.uint16)
    numbers.flat[:cells] = np.arange(1, cells + 1)
    return np.kron(numbers, np.pad(np.ones((14, 14), np.uint16), ((0, 10), (0, 10))))


def on_its_image(labels: np.ndarray) -> list[Example]:
    image = (200 + 800 * (labels > 0) + np.random.default_rng(0).normal(0, 20, labels.shape)).astype(np.uint16)[None]
    scaling = normalization.measure(image, CONFIG.normalization)
    return [Example(name, image, scaling, labels) for name in ("one.tif", "two.tif")]


@pytest.mark.parametrize("cells", [257, 258, 264, 268, 300])
def test_a_few_numbers_that_start_anew_after_255_are_enough(cells: int) -> None:
    examples = on_its_image(numbered_rows(cells).astype(np.uint8))
    with pytest.raises(ImageError, match=f"{cells - 256} of 255 numbers stand in parts .* start anew after 255"):
        check(examples)
    assert not find_parts(numbered_rows(cells)).is_reused


def test_a_mask_of_255_cells_may_have_long_ones_in_pieces() -> None:
    labels = numbered_rows(255)
    # Rows of six squares are one cell each, torn in the middle; and number 255 stays the largest.
    for row in (2, 5):
        long = labels[24 * row : 24 * row + 14, : 24 * 6]
        long[:] = np.array([0, long[0, 0]])[(np.arange(long.shape[1]) % 66 > 2).astype(int)]
    found = find_parts(labels)
    assert (len(found.near), found.far, found.is_reused) == (2, (), False)
    assert any("2 cells of 245 in pieces" in line for line in check(on_its_image(labels)))


def test_a_number_in_distant_parts_is_not_called_a_cell_in_pieces() -> None:
    labels = numbered_rows(120)
    labels[labels == 100] = 7
    warnings = check(on_its_image(labels))
    assert "the mask of two.tif: 1 number of 119 in parts that are far from each other (number 7)" in warnings
    assert not any("in pieces" in line for line in warnings)


def test_classes_are_not_taken_for_numbers_that_started_anew() -> None:
    with pytest.raises(ImageError, match="for a mask of classes, use train --target classes"):
        check(with_masks(lambda labels: np.select([labels > 8, labels > 0], [255, 127]).astype(np.uint8)))


def test_a_cell_in_pieces_is_named() -> None:
    torn = SCENES[1].label_image.copy()
    row = int(np.argwhere(torn == 5)[:, 0].mean())
    torn[row][torn[row] == 5] = 0
    examples = [SCENES[0], dataclasses.replace(SCENES[1], label_image=torn), *SCENES[2:]]
    assert check(examples) == ["the mask of scene1.tif: 1 cell of 16 in pieces (number 5)"]


def annotated_in_each(step: int, change: Callable[[np.ndarray], np.ndarray] = lambda labels: labels) -> list[Example]:
    """A stack of which each such section is annotated, and 255 stands on the others."""
    balls = np.zeros((30, 90, 90), np.uint16)
    z, y, x = np.mgrid[:30, :90, :90]
    for number, (row, column) in enumerate(((15, 15), (15, 75), (75, 15), (75, 75)), start=1):
        balls[((z - 15) / 13) ** 2 + ((y - row) / 8) ** 2 + ((x - column) / 8) ** 2 <= 1] = number
    (example, _) = on_its_image(balls)
    mask = np.full_like(balls, 255)
    mask[::step] = change(balls)[::step]
    return [dataclasses.replace(example, label_image=mask)]


@pytest.mark.parametrize("step", [2, 5, 9])
def test_sections_without_annotation_part_no_cell(step: int) -> None:
    config = TrainingConfig(ignore_label=255)
    assert check_examples(annotated_in_each(step), [], config) == []
    classes = annotated_in_each(step, lambda labels: (labels > 0).astype(np.uint16))
    with pytest.raises(ImageError, match="for a mask of classes, use train --target classes"):
        check_examples(classes, [], config)


def test_a_cell_with_a_class_is_named_by_its_place_among_the_numbers() -> None:
    """Its label image does not hold the number of the mask."""
    config = TrainingConfig(target="cell_classes", class_names=("background", "a", "b"))
    mask = 10 * SCENES[1].label_image
    row = int(np.argwhere(mask == 50)[:, 0].mean())
    mask[row][mask[row] == 50] = 0
    classes = dict.fromkeys(np.unique(mask[mask > 0]).tolist(), "a")
    torn = dataclasses.replace(SCENES[1], label_image=number_cell_classes(mask, classes, config))
    warnings = check_examples([torn], [], config)
    assert warnings == ["the mask of scene1.tif: 1 cell of 16 in pieces (in the order of numbers: 5)"]


def test_a_few_displaced_masks_are_warned_of() -> None:
    examples = [scene(seed) for seed in range(7)]
    examples[3] = dataclasses.replace(examples[3], label_image=examples[3].label_image[:, ::-1].copy())
    assert check(examples) == [
        "the mask of scene3.tif does not lie on the image: it fits mirrored left to right",
    ]


@pytest.mark.parametrize("part", [np.s_[:, :, :], np.s_[:, 13:101, 40:]])
def test_validation_images_that_share_pixels_with_training_images_are_named(part: tuple[slice, ...]) -> None:
    shared = dataclasses.replace(
        SCENES[2], name="again.tif", image=SCENES[2].image[part], label_image=SCENES[2].label_image[part[1:]]
    )
    assert check([shared, *SCENES[1:]]) == [
        "1 validation image of 1 shares pixels with training images (again.tif with scene2.tif): the scores are too "
        "good; name the parts in the column split of a table"
    ]


CLASSES = TrainingConfig(target="classes", class_names=("ground", "cell", "rim"))
CLASS_SCENES = [scene(seed, size=256, radius=6, jitter=12) for seed in range(4)]


def with_rims(labels: np.ndarray) -> np.ndarray:
    """Cells of class 1 with rims of class 2."""
    is_inside = ndimage.binary_erosion(labels > 0)
    return ((labels > 0) + np.uint8(1) * ((labels > 0) & ~is_inside)).astype(np.uint8)


def test_class_masks_that_lie_on_their_images_pass_and_are_checked_for_shared_images() -> None:
    examples = with_masks(with_rims, CLASS_SCENES)
    assert check_examples(examples[1:], examples[:1], CLASSES) == []
    (warning,) = check_examples(examples[1:], examples[1:2], CLASSES)
    assert "shares pixels" in warning


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        (np.transpose, "with rows and columns exchanged"),
        (np.flipud, "mirrored top to bottom"),
        # The inside of a cell agrees as well a pixel beside its place.
        (lambda mask: np.roll(mask, (-6, 9), (0, 1)), r"moved by 6 pixels down and -\d to the right"),
        # Classes that fill the image have no background.
        (lambda mask: mask.T + np.uint8(1), "with rows and columns exchanged"),
    ],
)
def test_class_masks_that_do_not_lie_on_their_images_are_refused(
    change: Callable[[np.ndarray], np.ndarray], fits: str
) -> None:
    examples = with_masks(lambda labels: change(with_rims(labels)), CLASS_SCENES)
    message = rf"the mask of scene1.tif does not lie on the image: it fits {fits} \(4 of 4 masks are displaced\)"
    with pytest.raises(ImageError, match=message) as caught:
        check_examples(examples[1:], examples[:1], CLASSES)
    assert caught.value.reason == "displaced"
    (warning,) = check_examples(examples[1:], examples[:1], CLASSES, trust=True)
    assert re.match(message, warning)


def partly_annotated(labels: np.ndarray) -> np.ndarray:
    mask = with_rims(labels.T)
    mask[:20, :20] = UNANNOTATED
    return mask


@pytest.mark.parametrize(
    "change",
    [
        partly_annotated,
        # One structure, which resembles those beside it.
        lambda labels: np.roll(labels == 30, 50, axis=1).astype(np.uint8),
        lambda labels: np.zeros_like(labels, np.uint8),
    ],
)
def test_nothing_is_said_of_class_masks_that_prove_nothing(change: Callable[[np.ndarray], np.ndarray]) -> None:
    examples = with_masks(change, CLASS_SCENES)
    assert check_examples(examples[1:], examples[:1], CLASSES) == []


def test_parts_agree_with_a_loop_over_numbers() -> None:
    rng = np.random.default_rng(3)
    labels = np.kron(rng.integers(0, 12, (14, 14)), np.ones((5, 5), int))
    found = find_parts(labels)
    counts = [ndimage.label(labels == number, np.ones((3, 3)))[1] for number in range(1, 12)]
    assert found.ids == 11
    assert set(found.near) | set(found.far) <= {n for n, count in enumerate(counts, start=1) if count > 1}
    assert found.largest_id == 11


@pytest.mark.parametrize("empty", [np.zeros((9, 9), np.uint16), np.zeros((3, 9, 9), np.uint16)])
def test_no_cells_have_no_parts(empty: np.ndarray) -> None:
    assert find_parts(empty).ids == 0
    assert find_displacement(empty[None], empty) is None


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.dtype(">u2")])
def test_shared_pixels_are_found_in_every_type(dtype: np.dtype[np.generic]) -> None:
    rng = np.random.default_rng(0)
    field = rng.integers(0, 200, (3, 150, 150)).astype(dtype)
    crops = [find_anchors(field[:1, :100, :100]), find_anchors(field[:1, 30:, 50:])]
    assert list(find_shared(crops[:1], crops[1:])) == [(0, 0)]
    assert list(find_shared([find_anchors(field[1:2])], crops)) == []
    # Stacks that overlap along z.
    stacks = [find_anchors(field[None, :2]), find_anchors(field[None, 1:])]
    assert list(find_shared(stacks[:1], stacks[1:])) == [(0, 0)]
    assert list(find_shared([find_anchors(field[:1, :4])], crops)) == []


def test_anchors_do_not_depend_on_the_bands_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 200, (1, 150, 90)).astype(np.uint8)
    whole = find_anchors(image)
    monkeypatch.setattr(duplicates, "ROWS", 13)
    parts = find_anchors(image)
    np.testing.assert_array_equal(parts.keys, whole.keys)
    np.testing.assert_array_equal(parts.places, whole.places)


def read(image: Path) -> Example:
    opened = read_image(image, axes="ZYX" if "3d" in image.parts[-3] else None)
    array = opened.read() if "C" in opened.axes else opened.read()[None]
    mask = image.parents[1] / "masks" / image.name
    labels = read_labels(mask, axes="ZYX" if "3d" in image.parts[-3] else None)
    return Example(str(image), array, normalization.measure(array, CONFIG.normalization), labels)


@pytest.mark.parametrize(
    "folder",
    ["dsb2018/val", "bbbc039/val", "kromp2020", "aitslab2022", "t98g_phase", "tnbc_he", "bbbc050_3d", "nuclei_3d"],
)
def test_no_real_mask_is_accused_and_those_moved_are(shared_data: Path, folder: str) -> None:
    """Every fourth pair, at least four; benchmarks/README.md has the figures for all."""
    images = sorted((shared_data / folder / "images").iterdir())
    chosen = [read(path) for path in images[:: max(1, len(images) // 8)]]
    moved = 0
    for example in chosen:
        found = find_parts(example.label_image)
        assert not found.far, example.name
        assert find_displacement(example.image, example.label_image) is None, example.name
        assert find_class_displacement(example.image, (example.label_image > 0).astype(np.uint8)) is None, example.name
        moved += find_displacement(example.image, np.roll(example.label_image, 14, axis=-1)) is not None
    fewest = {"nuclei_3d": 0.25, "tnbc_he": 0.8}.get(folder, 0.85)
    assert moved >= fewest * sum(len(np.unique(one.label_image)) > 3 for one in chosen)


@pytest.mark.parametrize("shape", [(1, 1), (1, 600), (4, 5000), (700, 2)])
def test_thin_images_are_compared_as_others_are(shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 6, shape).astype(np.uint8)
    for find in (find_displacement, find_class_displacement):
        assert find(labels[None] * 30, labels) is None


def test_real_membranes_are_found_where_they_are_displaced(shared_data: Path) -> None:
    folder = shared_data / "isbi2012_em" / "val"
    for path in sorted((folder / "images").iterdir()):
        image, mask = read_image(path).read()[None], read_image(folder / "masks" / path.name).read() > 0
        membranes = mask.astype(np.uint8)
        assert find_class_displacement(image, membranes) is None
        assert find_class_displacement(image, membranes.T) == "with rows and columns exchanged"
        moved = find_class_displacement(image, np.roll(membranes, 10, axis=1))
        assert moved is not None
        assert moved.startswith("moved by")


def test_nothing_is_said_of_real_stacks_of_one_structure(shared_data: Path) -> None:
    folder = shared_data / "hippocampus"
    for path in sorted((folder / "images").iterdir())[:6]:
        image = read_image(path).read()[None]
        classes = np.asarray(read_image(folder / "masks" / path.name).read()).astype(np.uint8)
        assert find_class_displacement(image, classes) is None, path.name


def cut_to_bytes(example: Example) -> Example:
    """As where 16 bits were saved as 8: the lower half of numbers that differ by thousands."""
    noisy = example.image.astype(np.int64) * 37 + np.random.default_rng(0).integers(0, 4000, example.image.shape)
    return dataclasses.replace(example, image=(noisy % 256).astype(np.uint8))


def test_images_of_noise_are_named() -> None:
    (warning,) = check([*SCENES[:3], cut_to_bytes(SCENES[3])])
    assert warning.startswith("scene3.tif is noise: neighbouring pixels have nothing in common (1 of 4 images)")
    # Lines along one axis are structure, and little is known of a few pixels.
    lines = np.random.default_rng(0).integers(0, 255, (1, 100, 1)).repeat(100, axis=2)
    for image in (lines, lines.swapaxes(1, 2), cut_to_bytes(SCENES[0]).image[:, :30, :30]):
        assert not is_noise(image, np.ones(image.shape[1:], np.uint8))


def test_stacks_of_the_collection_that_hold_noise_are_found(shared_data: Path) -> None:
    folder = shared_data / "nuclei_3d"
    if not folder.is_dir():
        pytest.skip("the collection of stacks is not here")
    found = set()
    for path in sorted((folder / "images").iterdir()):
        image = read_image(path, axes="ZYX").read()[None]
        if is_noise(image, read_labels(folder / "masks" / path.name, axes="ZYX")):
            found.add(path.stem)
    assert found == {"nuclei_1137", "nuclei_1139", "nuclei_1170"}


def test_a_warning_names_no_more_than_three_images() -> None:
    torn = []
    for example in [scene(seed) for seed in range(8)]:
        labels = example.label_image.copy()
        row = int(np.argwhere(labels == 5)[:, 0].mean())
        labels[row][labels[row] == 5] = 0
        torn.append(dataclasses.replace(example, label_image=labels))
    warnings = check(torn)
    assert len(warnings) == 4
    assert re.fullmatch("cells in pieces in 5 more masks", warnings[-1])
