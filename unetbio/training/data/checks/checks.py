"""Look at annotated images before a training: refuse what cannot be right, and name what may be wrong."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetbio import targets
from unetbio.annotations.parts import Parts, find_numbered_background, find_parts
from unetbio.errors import ImageError
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.annotations import CLASS_BASE
from unetbio.targets.cells import mask_annotated
from unetbio.training.data.checks.alignment import find_class_displacement, find_displacement
from unetbio.training.data.checks.duplicates import find_anchors, find_shared
from unetbio.training.data.checks.noise import is_noise
from unetbio.training.data.dataset import Example, common_pixel_size

__all__ = ["check_examples", "check_split", "check_test_examples"]

MOST_COMPARED = 200
"""Images to compare with their masks, and with each other in each part; of more, evenly spaced ones."""

# Below, displaced masks are slips; from here on, the rule by which the masks were written.
MANY_DISPLACED = 0.2

LARGEST_POINT = 3
"""Pixels; cells of so few are marks and not outlines."""

SHOWN = 3

Refuse = Callable[[ImageError], str]
"""Raises the error, or gives its message as a warning where masks are trusted."""


def check_examples(
    training: Sequence[Example],
    validation: Sequence[Example],
    config: TrainingConfig,
    *,
    trust: bool = False,
    for_training: bool = True,
) -> list[str]:
    """Check masks, their place on the images, and images that are in both parts.

    Parameters
    ----------
    training, validation : sequence of Example
        Annotated images.
    config : TrainingConfig
        Target and label of pixels without annotation.
    trust : bool
        Warn of what would be refused.
    for_training : bool
        Whether a network will learn from them, for which nothing is rescaled: pixel sizes that differ are named.

    Returns
    -------
    list of str
        Warnings, one line each.

    Raises
    ------
    ImageError
        ``no_background``, ``no_cells``, ``points``, ``reused_numbers`` or ``displaced``, unless ``trust``.
    """
    everything = [*training, *validation]
    warnings = [
        *check_split(training, validation),
        *_check_grey_values(everything, config),
        *(_check_pixel_sizes(everything) if for_training else ()),
    ]
    return warnings + _check_masks(training, validation, config, trust)


def check_test_examples(
    training: Sequence[Example],
    validation: Sequence[Example],
    test: Sequence[Example],
    config: TrainingConfig,
    *,
    trust: bool = False,
) -> list[str]:
    """Check masks of test images, and images that train or validate as well; otherwise as `check_examples`."""
    warnings = [
        *check_split(
            [*training, *validation],
            test,
            ("test", "training or validation"),
            "give them the part of the others, or leave them out",
        ),
        *_check_grey_values(test, config),
    ]
    return warnings + _check_masks(test, (), config, trust)


def _check_masks(
    training: Sequence[Example], validation: Sequence[Example], config: TrainingConfig, trust: bool
) -> list[str]:
    """Check the masks, and their place on the images."""

    def refuse(error: ImageError) -> str:
        if trust:
            return str(error)
        raise ImageError(error.reason, f"{error}. If the masks are right all the same, say --trust-masks")

    warnings: list[str] = []
    if targets.find(config.target, config.network).masks == "instances":
        warnings += _check_cells(training, validation, config, refuse)
    warnings += _check_places([*training, *validation], config, refuse)
    return warnings


def _check_cells(
    training: Sequence[Example], validation: Sequence[Example], config: TrainingConfig, refuse: Refuse
) -> Iterator[str]:
    examples = [*training, *validation]
    for example in examples:
        if (error := find_numbered_background(_annotated(example, config))) is not None:
            yield refuse(ImageError(error.reason, f"the mask of {example.name}: {error}"))
            return
    found = [find_parts(_annotated(example, config), _ignored(example, config)) for example in examples]
    counts = [parts.ids for parts in found]
    if not any(counts[: len(training)]):
        held = "all masks are empty" if not any(counts) else "all masks of training images are empty"
        yield refuse(
            ImageError("no_cells", f"{held} ({_named(training)}): give masks in which cells have numbers from 1")
        )
    elif validation and not any(counts[len(training) :]):
        yield f"no validation mask holds a cell ({_named(validation)}): the scores say nothing"
    if any(counts) and max(parts.largest_area for parts in found) <= LARGEST_POINT:
        yield refuse(
            ImageError(
                "points",
                f"no cell has more than {LARGEST_POINT} pixels: marks of single pixels, also those left at a border, "
                "cannot be learned; draw the area of each cell",
            )
        )
    yield from _check_parts(list(zip(examples, found, strict=True)), config, refuse)


def _check_parts(found: Sequence[tuple[Example, Parts]], config: TrainingConfig, refuse: Refuse) -> Iterator[str]:
    reused = [(example, parts) for example, parts in found if parts.is_reused]
    if reused:
        yield refuse(_reused(*reused[0], len(reused), len(found)))
        return
    near = [(example.name, parts.near, parts.ids) for example, parts in found if parts.near]
    far = [(example.name, parts.far, parts.ids) for example, parts in found if parts.far]
    called = "in the order of numbers:" if _has_cell_classes(config) else "number"
    yield from _name_numbers(near, "cell", "in pieces", called)
    yield from _name_numbers(far, "number", "in parts that are far from each other", called)


def _name_numbers(
    found: Sequence[tuple[str, tuple[int, ...], int]], noun: str, where: str, called: str
) -> Iterator[str]:
    """Name masks, and those of their numbers that stand in several parts."""
    for name, numbers, ids in found[:SHOWN]:
        yield (
            f"the mask of {name}: {_counted(len(numbers), noun)} of {ids} {where} "
            f"({called} {', '.join(map(str, numbers[:SHOWN]))}{' ...' if len(numbers) > SHOWN else ''})"
        )
    if len(found) > SHOWN:
        yield f"{noun}s {where} in {len(found) - SHOWN} more masks"


def _annotated(example: Example, config: TrainingConfig) -> NDArray[np.integer]:
    annotated = mask_annotated(example.label_image, example.label_image, config)
    # Numbers of cells with classes hold these too, beside the place of the cell in the order of the mask's numbers.
    return annotated // CLASS_BASE if _has_cell_classes(config) else annotated


def _ignored(example: Example, config: TrainingConfig) -> NDArray[np.bool_] | None:
    return None if config.ignore_label is None else example.label_image == config.ignore_label


def _has_cell_classes(config: TrainingConfig) -> bool:
    return targets.find(config.target, config.network).has_cell_classes


def _reused(example: Example, parts: Parts, masks: int, of: int) -> ImageError:
    last = parts.wrapped_after
    if last is not None:
        cause = (
            f"numbers start anew after {last}, and cell {last + 1} has become background: save label images as "
            f"{'16' if last < 256 else '32'} bit"
        )
    else:
        cause = (
            "a cell needs a number of its own; for a mask of classes, use train --target classes (target: classes in "
            "the settings)"
        )
    return ImageError(
        "reused_numbers",
        f"the mask of {example.name}: {len(parts.far)} of {parts.ids} numbers stand in parts that are far from each "
        f"other ({masks} of {of} masks): {cause}",
    )


def _check_places(examples: Sequence[Example], config: TrainingConfig, refuse: Refuse) -> Iterator[str]:
    compared = _spread(examples)
    found = [(example, _find_displacement(example, config)) for example in compared]
    displaced = [(example, words) for example, words in found if words]
    if not displaced:
        return
    lines = [f"the mask of {example.name} does not lie on the image: it fits {words}" for example, words in displaced]
    if len(displaced) >= MANY_DISPLACED * len(compared):
        count = f"{len(displaced)} of {len(compared)} masks are displaced"
        yield refuse(ImageError("displaced", f"{lines[0]} ({count}); write the masks in the axes of the images"))
    else:
        yield from lines[:SHOWN]
        if len(lines) > SHOWN:
            yield f"{len(lines) - SHOWN} more masks do not lie on their images"


def _find_displacement(example: Example, config: TrainingConfig) -> str | None:
    if targets.find(config.target, config.network).masks == "classes":
        return find_class_displacement(example.image, example.label_image)
    return find_displacement(example.image, _annotated(example, config), _ignored(example, config))


def _check_grey_values(examples: Sequence[Example], config: TrainingConfig) -> Iterator[str]:
    compared = _spread(examples)
    noise = [example for example in compared if is_noise(example.image, _annotated(example, config))]
    if noise:
        yield (
            f"{noise[0].name} is noise: neighbouring pixels have nothing in common ({len(noise)} of {len(compared)} "
            "images); numbers of 16 bits that were saved as 8 look so: export the images again"
        )


def _check_pixel_sizes(examples: Sequence[Example]) -> Iterator[str]:
    """Name images of several pixel sizes, or of which some have none: nothing is rescaled in a training."""
    sizes = Counter(_in_words(example.pixel_size_um) for example in examples)
    if len(sizes) > 1 and common_pixel_size(examples) is None:
        listed = ", ".join(f"{size}: {_counted(count, 'image')}" for size, count in sorted(sizes.items())[:SHOWN])
        more = " ..." if len(sizes) > SHOWN else ""
        yield (
            f"pixel sizes differ ({listed}{more}): images are taken as they are, and a model that is trained on them "
            "knows no pixel size; give images of one pixel size, or --pixel-size where a file is wrong"
        )


def _in_words(pixel_size_um: tuple[float, ...] | None) -> str:
    return "unknown" if pixel_size_um is None else " x ".join(f"{size:.3g}" for size in pixel_size_um) + " um"


def check_split(
    training: Sequence[Example],
    validation: Sequence[Example],
    called: tuple[str, str] = ("validation", "training"),
    remedy: str = "name the parts in the column split of a table",
) -> Iterator[str]:
    """Warn of validation images that share pixels with training images; ``called`` names both parts."""
    if not validation:
        return
    some, others = _spread(validation), _spread(training)
    pairs = dict(
        find_shared(
            [find_anchors(example.image) for example in some], [find_anchors(example.image) for example in others]
        )
    )
    if pairs:
        validating, trained = next(iter(pairs.items()))
        yield (
            f"{_counted(len(pairs), f'{called[0]} image')} of {len(some)} shares pixels with {called[1]} images "
            f"({some[validating].name} with {others[trained].name}): the scores are too good; {remedy}"
        )


def _spread(examples: Sequence[Example]) -> Sequence[Example]:
    if len(examples) <= MOST_COMPARED:
        return examples
    return [examples[number] for number in np.linspace(0, len(examples) - 1, MOST_COMPARED).astype(int)]


def _named(examples: Sequence[Example]) -> str:
    names = ", ".join(Path(example.name).name for example in examples[:SHOWN])
    return names + (" ..." if len(examples) > SHOWN else "")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
