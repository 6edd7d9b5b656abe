"""Pairs of images and label images, and the random patches that training draws from them."""

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetbio import labels, targets
from unetbio.errors import ImageError, UsageError
from unetbio.io import pair, read_image
from unetbio.io.layouts import find_layout
from unetbio.io.tables import read_table_file, warn_of_near_misses
from unetbio.preprocessing import normalization
from unetbio.preprocessing.normalization import Scaling
from unetbio.settings.training import TrainingConfig
from unetbio.supervision import class_weights
from unetbio.training.augmentation import change_intensity, largest_zoom, patch_coordinates, warp

if TYPE_CHECKING:
    from unetbio.targets.base import Learner

__all__ = ["AnnotatedFiles", "Example", "Patch", "PatchSampler", "find_pairs", "load_examples", "split_examples"]

logger = logging.getLogger(__name__)

PathPair = tuple[Path, Path]
PARTS = ("training", "validation", "test")
TABLES = (".csv", ".tsv", ".tab")
TABLE_COLUMNS = ("image", "mask", "split", "group")


@dataclass(frozen=True)
class Example:
    """One annotated image.

    Parameters
    ----------
    name : str
        Path of the image as it was given.
    image : ndarray
        ``(C, *spatial)`` in raw grey values.
    scaling : Scaling
        Normalisation of this image, measured on all its pixels.
    label_image : ndarray of int
        ``(*spatial)``, 0 = background; cells or classes, as `unetbio.targets.Target.read_annotation` gives
        them.
    channel_names : tuple of str
        As many as the image has channels.
    pixel_size_um : tuple of float, optional
        One entry a spatial axis, if the file states a plausible one.
    group : str
        Kind of image, as a table names it.
    """

    name: str
    image: NDArray[np.generic]
    scaling: Scaling
    label_image: NDArray[np.integer]
    channel_names: tuple[str, ...] = ("0",)
    pixel_size_um: tuple[float, ...] | None = None
    group: str = ""

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Length of a step along each axis in in-plane pixels, where the pixel size is known."""
        if self.pixel_size_um is None:
            return None
        return tuple(size / self.pixel_size_um[-1] for size in self.pixel_size_um)


@dataclass(frozen=True)
class Patch:
    """Part of an image, as the network and the loss see it.

    Parameters
    ----------
    image : ndarray of float32
        ``(C, *input)``, normalised.
    target : ndarray of int64
        ``(*output)``, the class of each pixel, or the id of its object where the target is objects.
    weight_map : ndarray of float32
        ``(*output)``, or ``(planes, *output)`` where parts of the loss have weights of their own.
    """

    image: NDArray[np.float32]
    target: NDArray[np.int64]
    weight_map: NDArray[np.float32]


def load_examples(pairs: Iterable[PathPair], config: TrainingConfig, *, like: Example | None = None) -> list[Example]:
    """Read annotated images into memory, as they are stored.

    Parameters
    ----------
    pairs : iterable of (path, path)
        Image and label image.
    config : TrainingConfig
        Normalisation, and the kind of annotation.
    like : Example, optional
        Example that sets the channels and the number of axes; the first of ``pairs`` unless given.

    Raises
    ------
    ImageError
        Naming the first file that cannot be used and why: unreadable, label image of another size or an image in its
        place, channels that differ.
    """
    examples: list[Example] = []
    for image_path, label_path in pairs:
        try:
            example = _load_example(image_path, label_path, config)
        except ImageError as error:
            raise ImageError(error.reason, f"{image_path}: {error}") from error
        like = like or example
        if example.label_image.ndim != like.label_image.ndim:
            raise ImageError(
                "wrong_axes",
                f"{image_path} has {example.label_image.ndim} spatial axes, {like.name} has {like.label_image.ndim}: "
                "train on planes or on stacks, not on both",
            )
        if len(example.image) != len(like.image):
            raise ImageError(
                "wrong_channels",
                f"{image_path} has {len(example.image)} channels, {like.name} has {len(like.image)}: "
                "training images need the same channels",
            )
        examples.append(example)
    return examples


def split_examples(examples: Sequence[Example], fraction: float) -> tuple[list[Example], list[Example]]:
    """Split examples into training and validation by a hash of their file names; their order does not matter.

    Files of one name in different folders are ordered by these folders, the innermost first, so that a data set has the
    same split after it was moved as a whole.

    Raises
    ------
    UsageError
        When there are fewer than two examples.
    """
    if len(examples) < 2:
        raise UsageError(
            f"{len(examples)} annotated image: at least two are needed, one to train and one to validate on"
        )
    ranked = sorted(examples, key=lambda example: _rank(Path(example.name)))
    count = min(len(ranked) - 1, max(1, round(fraction * len(ranked))))
    return ranked[count:], ranked[:count]


def _rank(path: Path) -> tuple[bytes, tuple[str, ...]]:
    return hashlib.sha256(path.name.encode()).digest(), path.parts[::-1]


class PatchSampler:
    """Draws random, deformed patches; the patch of an index is always the same.

    Parameters
    ----------
    examples : sequence of Example
        The training images.
    config : TrainingConfig
        Seed, augmentation, class weights.
    learner : Learner
        Training half of the target.
    input_shape : tuple of int
        Legal input of the network.
    context : tuple of int
        Pixels that the network loses per side.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        config: TrainingConfig,
        learner: "Learner",
        input_shape: tuple[int, ...],
        context: tuple[int, ...],
    ) -> None:
        self.examples = examples
        self.config = config
        self.learner = learner
        self.input_shape = input_shape
        self.context = context
        self.places = _places(examples, learner)
        self.zooms = [largest_zoom(example.label_image, config.augmentation) for example in examples]
        self.groups = _groups(examples) if config.sampling == "groups" else ()
        self.group_shares = np.cumsum([math.sqrt(len(group)) for group in self.groups])
        sizes = np.array([example.label_image.size for example in examples], dtype=np.float64)
        self.size_shares = np.cumsum(sizes / sizes.sum())
        self.class_weights = _class_weights(examples, config, learner)

    def patch(self, index: int) -> Patch:
        """Draw the patch of an index: where, how deformed and how bright follow from the seed and the index alone."""
        rng = np.random.default_rng((self.config.seed, index))
        number, centre = self._place(rng)
        example = self.examples[number]
        coordinates = patch_coordinates(
            rng, centre, self.input_shape, self.config.augmentation, largest_zoom=self.zooms[number]
        )
        raw = np.stack([warp(channel, coordinates) for channel in example.image])
        image = change_intensity(rng, normalization.apply(raw, example.scaling), self.config.augmentation)
        label_image = warp(example.label_image, coordinates, nearest=True)
        return Patch(image, *self.supervision(label_image, example.spacing))

    def supervision(
        self, label_image: NDArray[Any], spacing: tuple[float, ...] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Target and weight map of a label image's inner part, ``context`` pixels a side left out.

        Cells in the rim still count as neighbours of those inside. ``spacing`` is the length of a step along each axis,
        in in-plane pixels.
        """
        target, weight_map = self.learner.encode(label_image, self.class_weights, spacing)
        inner = tuple(slice(lost, size - lost) for lost, size in zip(self.context, label_image.shape, strict=True))
        return np.ascontiguousarray(target[inner]), np.ascontiguousarray(weight_map[(..., *inner)])

    def _place(self, rng: np.random.Generator) -> tuple[int, NDArray[np.float64]]:
        """Number of an example, and the centre of a patch in it."""
        number = self._example_of_group(rng) if self.groups else None
        places = self.places if number is None else self.places[self.places[:, 0] == number]
        if len(places) and rng.random() < self.config.foreground_fraction:
            of, *centre = places[rng.integers(len(places))]
            jitter = [rng.uniform(-0.25, 0.25) * size for size in self.input_shape]
            return int(of), np.add(centre, jitter)
        if number is None:
            number = min(int(np.searchsorted(self.size_shares, rng.random())), len(self.examples) - 1)
        return number, np.array([rng.uniform(0, size - 1) for size in self.examples[number].label_image.shape])

    def _example_of_group(self, rng: np.random.Generator) -> int:
        drawn = np.searchsorted(self.group_shares, rng.random() * self.group_shares[-1], side="right")
        group = self.groups[min(int(drawn), len(self.groups) - 1)]
        return group[int(rng.integers(len(group)))]


def _load_example(image_path: Path, label_path: Path, config: TrainingConfig) -> Example:
    image = read_image(image_path)
    if image.size("T") > 1:
        raise ImageError("time_lapse", "a time-lapse cannot be trained on as it is: give one file a time point")
    array = image.read()
    array = array if "C" in image.axes else array[np.newaxis]
    if array.dtype == np.float16:
        array = array.astype(np.float32)  # scipy cannot interpolate halves
    label_image = targets.find(config.target, config.network).read_annotation(label_path, config)
    labels.check_plausible(label_image, f"its mask {label_path}")
    if label_image.shape != array.shape[1:]:
        raise ImageError(
            "size_differs",
            f"the image has {array.shape[1:]} pixels, its label image {label_path} has {label_image.shape}: "
            "they must have the same size",
        )
    spatial = [axis for axis in image.axes if axis in "ZYX"]
    trusted = image.pixel_size_trusted and all(axis in image.pixel_size_um for axis in spatial)
    pixel_size = tuple(image.pixel_size_um[axis] for axis in spatial) if trusted else None
    chosen = normalization.for_picture(config.normalization, image.dtype, image.channel_names)
    scaling = normalization.measure(array, chosen)
    return Example(str(image_path), array, scaling, label_image, image.channel_names, pixel_size)


def _class_weights(examples: Sequence[Example], config: TrainingConfig, learner: "Learner") -> tuple[float, ...]:
    counts = np.stack([learner.count(example.label_image) for example in examples])
    if config.class_weighting == "balanced":
        return class_weights.class_weights(counts.sum(axis=0).tolist(), cap=config.class_weight_cap)
    if config.class_weighting == "median_frequency":
        return class_weights.median_frequency_weights(counts)
    return (1.0,) * len(learner.class_names)


def _groups(examples: Sequence[Example]) -> tuple[tuple[int, ...], ...]:
    """Numbers of the examples of each group, in the order of the groups' names."""
    names = sorted({example.group for example in examples})
    return tuple(tuple(n for n, example in enumerate(examples) if example.group == name) for name in names)


def _places(examples: Sequence[Example], learner: "Learner") -> NDArray[np.float64]:
    # One row a place: the example's number, then its pixel.
    places = (learner.places(example.label_image) for example in examples)
    rows = [np.insert(pixels, 0, number, axis=1) for number, pixels in enumerate(places)]
    return np.concatenate(rows)


@dataclass(frozen=True)
class AnnotatedFiles:
    """Images and their label images.

    Parameters
    ----------
    training, validation : sequence of (path, path)
        The second is empty unless a table names validation images.
    leftovers : sequence of path
        Images without a label image and label images without an image.
    test : sequence of (path, path)
        Pairs that are left out of the training.
    groups : mapping
        Kinds of images that a table names, by the image's path.
    """

    training: Sequence[PathPair]
    validation: Sequence[PathPair] = ()
    leftovers: Sequence[Path] = ()
    test: Sequence[PathPair] = ()
    groups: Mapping[Path, str] = field(default_factory=dict)


def find_pairs(inputs: Sequence[Path], root: Path | None = None, *, with_test: bool = False) -> AnnotatedFiles:
    """Find annotated images as the command line names them.

    Parameters
    ----------
    inputs : sequence of path
        A folder or file of images and one of label images; or one folder with both (`unetbio.io.layouts`); or one
        table (``.csv``, ``.tsv``) with the columns ``image``, ``mask`` and, if wanted, ``split`` (training or
        validation) and ``group`` (kind of image: see `TrainingConfig.sampling`).
    root : path, optional
        Where relative paths of a table start; the folder of the table unless given.
    with_test : bool
        Whether the column ``split`` may also say ``test``.

    Returns
    -------
    AnnotatedFiles

    Raises
    ------
    UsageError
        When nothing is found, or the inputs are of none of these kinds.
    """
    if len(inputs) == 1 and inputs[0].suffix.lower() in TABLES:
        return _pairs_of_table(inputs[0], root or inputs[0].parent, PARTS if with_test else PARTS[:2])
    if len(inputs) == 1:
        return _pairs_of_layout(inputs[0], with_test=with_test)
    if len(inputs) != 2:
        raise UsageError(f"{len(inputs)} inputs given: give IMAGES and MASKS, one folder with both, or a table")
    pairing = pair(*inputs)
    return AnnotatedFiles(pairing.pairs, leftovers=(*pairing.images_left, *pairing.masks_left))


def _pairs_of_layout(folder: Path, *, with_test: bool) -> AnnotatedFiles:
    layout = find_layout(folder)
    if layout is None:
        raise UsageError(
            f"{folder} has no folders images and masks, and no masks beside images such as x_masks for x: give IMAGES "
            "and MASKS, one folder with both, or a table"
        )
    logger.info("%s: found %s", folder, layout.title)
    if layout.test and not with_test:
        logger.info("%d test images are left out", len(layout.test))
    return AnnotatedFiles(layout.training, layout.validation, layout.leftovers, test=layout.test if with_test else ())


def _pairs_of_table(table: Path, root: Path, names: Sequence[str]) -> AnnotatedFiles:
    read = read_table_file(table)
    columns, rows = read.columns, read.rows
    if not rows or not {"image", "mask"} <= set(columns):
        found = ", ".join(columns) if rows else "no rows"
        raise UsageError(f"{table} needs rows with the columns image and mask; it has {found}")
    warn_of_near_misses(table, columns, TABLE_COLUMNS)
    parts: dict[str, list[PathPair]] = {name: [] for name in names}
    groups: dict[Path, str] = {}
    for row in rows:
        image, mask, split, group = (row.cells.get(name, "") for name in TABLE_COLUMNS)
        split = split or "training"
        if not image or not mask:
            raise UsageError(f"{table}, line {row.line}: image or mask is empty; give both")
        if split not in parts:
            raise UsageError(f"{table}, line {row.line}: split is {split!r}; it must be {' or '.join(names)}")
        parts[split].append((root / image, root / mask))
        groups[root / image] = group
    if not parts["training"]:
        raise UsageError(f"{table} has no row to train on: split is {' or '.join(names[1:])} everywhere")
    return AnnotatedFiles(parts["training"], parts["validation"], test=parts.get("test", ()), groups=groups)
