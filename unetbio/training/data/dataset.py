"""Annotated images, and the random patches that training draws from them."""

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.io.pairing.matching import PIXEL_SIZE_TOLERANCE
from unetbio.labels import resize_nearest
from unetbio.notes import say_without_effect
from unetbio.preprocessing import normalization
from unetbio.preprocessing.normalization import Scaling
from unetbio.preprocessing.rescaling import rescale
from unetbio.settings.training import Augmentation, TrainingConfig
from unetbio.supervision import class_weights
from unetbio.training.data.augmentation import change_intensity, patch_coordinates, warp

if TYPE_CHECKING:
    from unetbio.targets.base import Learner

__all__ = [
    "Example",
    "Patch",
    "PatchSampler",
    "annotation_as_learned",
    "as_learned",
    "common_pixel_size",
    "count_divided",
    "draw_files",
    "fingerprint",
    "fold_examples",
    "is_reduced",
    "ranked_examples",
    "split_examples",
]


@dataclass(frozen=True)
class Example:
    """One annotated image, frame of a time-lapse, or section of a stack.

    Parameters
    ----------
    name : str
        Path of the image as it was given; its frames and sections share it.
    image : ndarray
        ``(C, *spatial)`` in raw grey values.
    scaling : Scaling
        Normalisation of this image, measured on all its pixels.
    label_image : ndarray of int
        ``(*spatial)``, 0 = background; cells or classes, as `unetbio.targets.Target.annotate` gives them.
    channel_names : tuple of str
        As many as the image has channels.
    pixel_size_um : tuple of float, optional
        One entry a spatial axis, if it was given or the file states a plausible one.
    group : str
        Kind of image, as a table names it.
    diameter_px : float, optional
        Typical diameter of its cells, if it was given.
    annotated_diameter_px : float, optional
        Diameter of its median cell as annotated; None without cells, as in class masks.
    is_picture : bool
        Whether its channels are those of a colour picture, whatever they are called.
    """

    name: str
    image: NDArray[np.generic]
    scaling: Scaling
    label_image: NDArray[np.integer]
    channel_names: tuple[str, ...] = ("0",)
    pixel_size_um: tuple[float, ...] | None = None
    group: str = ""
    diameter_px: float | None = None
    annotated_diameter_px: float | None = None
    is_picture: bool = False

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


def as_learned(example: Example, augmentation: Augmentation) -> Example:
    """A plane at the scale at which training sees it: reduced where its cells are wider than ``largest_diameter``.

    A segmentation finds the scale of such an image, and thresholds have to be right there. Pixel size and diameters are
    those at this scale.
    """
    seen = annotation_as_learned(example, augmentation)
    return seen if seen is example else replace(seen, image=rescale(example.image, seen.label_image.shape))


def annotation_as_learned(example: Example, augmentation: Augmentation) -> Example:
    """As `as_learned`, with the grey values as they are."""
    zoom = _largest_zoom(example, augmentation)
    if zoom >= 1:
        return example
    grid = tuple(max(1, round(zoom * size)) for size in example.label_image.shape)
    return replace(
        example,
        label_image=resize_nearest(example.label_image, grid),
        pixel_size_um=example.pixel_size_um and tuple(size / zoom for size in example.pixel_size_um),
        diameter_px=example.diameter_px and example.diameter_px * zoom,
        annotated_diameter_px=augmentation.largest_diameter,
    )


def is_reduced(example: Example, augmentation: Augmentation) -> bool:
    """Whether training sees a plane smaller than it is (`as_learned`)."""
    return _largest_zoom(example, augmentation) < 1


def _largest_zoom(example: Example, augmentation: Augmentation) -> float:
    """Zoom at which the median cell of a plane has the largest diameter of the settings; infinite without one.

    Stacks have none: a segmentation does not find their scale.
    """
    diameter, largest = example.annotated_diameter_px, augmentation.largest_diameter
    if diameter is None or largest is None or example.label_image.ndim != 2:
        return math.inf
    return largest / diameter


def common_pixel_size(examples: Sequence[Example]) -> tuple[float, ...] | None:
    """Pixel size of all examples, by axis; None where one is unknown, or they differ by more than programs round."""
    known = [example.pixel_size_um for example in examples if example.pixel_size_um is not None]
    if len(known) < len(examples) or len({len(sizes) for sizes in known}) != 1:
        return None
    logs = np.log(known)
    if (np.ptp(logs, axis=0) > PIXEL_SIZE_TOLERANCE).any():
        return None
    middle = np.median(known, axis=0)
    return known[0] if len(set(known)) == 1 else tuple(float(size) for size in middle)


def fingerprint(examples: Sequence[Example]) -> str:
    """Hash of the names, images and label images, in their order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(Path(example.name).name.encode())
        digest.update(example.image.tobytes())
        digest.update(example.label_image.tobytes())
    return digest.hexdigest()


def split_examples(examples: Sequence[Example], fraction: float) -> tuple[list[Example], list[Example]]:
    """Split examples into training and validation by a hash of their file names; their order does not matter.

    Files of one name in different folders are ordered by these folders, the innermost first, so that a data set has the
    same split after it was moved as a whole. Frames and sections of one file, which look alike, stay together, unless
    there is one file alone: its first ones validate.

    Raises
    ------
    UsageError
        When there are fewer than two examples.
    """
    if len(examples) < 2:
        raise UsageError(
            f"{len(examples)} annotated image: at least two are needed, one to train and one to validate on"
        )
    ranked = ranked_examples(examples)
    names = _names(ranked)
    if len(names) == 1:
        count = _count_held(len(ranked), fraction)
        return ranked[count:], ranked[:count]
    held = set(names[: _count_held(len(names), fraction)])
    training = [example for example in ranked if example.name not in held]
    return training, [example for example in ranked if example.name in held]


def count_divided(files: Sequence[Hashable]) -> int:
    """Number of what `fold_examples` divides: files, or the frames and sections of one file alone."""
    return len(set(files)) if len(set(files)) > 1 else len(files)


def fold_examples(examples: Sequence[Example], folds: int) -> list[tuple[list[Example], list[Example]]]:
    """Training and validation part of each fold: each file validates in one of them.

    Their order does not matter, as in `split_examples`. One file alone is divided into runs of its frames or sections,
    since neighbours look alike.

    Raises
    ------
    UsageError
        When there are fewer images than folds, or a fold would train on masks without a cell.
    """
    ranked = ranked_examples(examples)
    names = _names(ranked)
    count = count_divided([example.name for example in ranked])
    if count < folds:
        raise UsageError(f"folds: {folds} need as many annotated images, and there are {count}")
    if len(names) > 1:
        parts = [names.index(example.name) % folds for example in ranked]
    else:
        parts = [number * folds // count for number in range(count)]
    for fold in range(folds):
        if not any(example.label_image.any() for example, part in zip(ranked, parts, strict=True) if part != fold):
            raise UsageError(f"folds: in fold {fold + 1} no image to train on has a cell: give --folds 0")
    return [
        (
            [example for example, part in zip(ranked, parts, strict=True) if part != fold],
            [example for example, part in zip(ranked, parts, strict=True) if part == fold],
        )
        for fold in range(folds)
    ]


def draw_files(examples: Sequence[Example], seed: int) -> list[list[Example]]:
    """Files in an order that follows from the seed, each as its examples.

    Frames and sections of one file, which look alike, stay together. One file alone is divided into them: they keep
    their order, from one that is drawn to the last and on from the first, since neighbours look alike.
    """
    rng = np.random.default_rng(seed)
    names = _names(examples)
    if len(names) == 1:
        first = int(rng.integers(len(examples)))
        return [[example] for example in (*examples[first:], *examples[:first])]
    files: dict[str, list[Example]] = {names[number]: [] for number in rng.permutation(len(names))}
    for example in examples:
        files[example.name].append(example)
    return list(files.values())


def ranked_examples(examples: Sequence[Example]) -> list[Example]:
    """Examples in an order that follows from their names alone."""
    return sorted(examples, key=lambda example: _rank(Path(example.name)))


def _names(examples: Sequence[Example]) -> list[str]:
    return list(dict.fromkeys(example.name for example in examples))


def _count_held(count: int, fraction: float) -> int:
    return min(count - 1, max(1, round(fraction * count)))


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
        # At most so far that the place is in the output, the part that is supervised.
        self.jittered = [min(size, 2 * (size - 2 * lost)) for size, lost in zip(input_shape, context, strict=True)]
        self.places = _places(examples, learner)
        self.zooms = [_largest_zoom(example, config.augmentation) for example in examples]
        if config.augmentation.largest_diameter and examples[0].label_image.ndim != 2:
            say_without_effect("augmentation.largest_diameter", "images are stacks")
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
        sides = zip(self.context, label_image.shape, strict=True)
        inner: tuple[Any, ...] = (..., *(slice(lost, size - lost) for lost, size in sides))
        return np.ascontiguousarray(target[inner]), np.ascontiguousarray(weight_map[inner])

    def _place(self, rng: np.random.Generator) -> tuple[int, NDArray[np.float64]]:
        """Number of an example, and the centre of a patch in it."""
        number = self._example_of_group(rng) if self.groups else None
        places = self.places if number is None else self.places[self.places[:, 0] == number]
        if len(places) and rng.random() < self.config.foreground_fraction:
            of, *centre = places[rng.integers(len(places))]
            return int(of), np.add(centre, [rng.uniform(-0.25, 0.25) * width for width in self.jittered])
        if number is None:
            number = min(int(np.searchsorted(self.size_shares, rng.random())), len(self.examples) - 1)
        return number, np.array([rng.uniform(0, size - 1) for size in self.examples[number].label_image.shape])

    def _example_of_group(self, rng: np.random.Generator) -> int:
        drawn = np.searchsorted(self.group_shares, rng.random() * self.group_shares[-1], side="right")
        group = self.groups[min(int(drawn), len(self.groups) - 1)]
        return group[int(rng.integers(len(group)))]


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
