"""Turn annotated masks into label images of cells, or into classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio import labels
from unetbio.classes import default_class_names
from unetbio.errors import ImageError, UsageError
from unetbio.notes import say_without_effect
from unetbio.settings.training import MAX_CLASSES, TrainingConfig

__all__ = [
    "CLASS_BASE",
    "NUMBERED",
    "UNANNOTATED",
    "classes_of_cells",
    "map_classes",
    "name_classes",
    "number_cell_classes",
    "number_cells",
    "number_classes",
]

UNANNOTATED = 255
"""Value of unannotated pixels in class masks in memory."""

CLASS_BASE = 256
"""A cell of class c has an id ``CLASS_BASE * n + c`` with n from 1 in label images of cells with classes."""

NUMBERED = "cells that have numbers of their own in a mask keep them"
"""Why ``--split-components`` changes nothing in a label image."""

SHOWN_VALUES = 8


def number_cells(mask: NDArray[np.integer], config: TrainingConfig) -> NDArray[np.integer]:
    """Turn the numbers of a mask, as read for ``config.split_components``, into a label image.

    Parameters
    ----------
    mask : ndarray of int
        A plane or a stack.
    config : TrainingConfig
        Whether connected parts of a mask of 0 and 1 are cells, and the value of pixels that are not annotated, which
        stays.

    Returns
    -------
    ndarray of int
        0 = background, ids without large gaps.
    """
    annotated = labels.without_label(mask, config.ignore_label)
    if config.split_components and labels.is_binary_mask(annotated):
        return _beside_ignored(labels.split_components(annotated), mask, config.ignore_label)
    if config.split_components and annotated.max(initial=0) > 1:
        say_without_effect("--split-components", NUMBERED)
    return _compact(mask, config.ignore_label)


def number_cell_classes(
    mask: NDArray[np.integer], classes: Mapping[int, str], config: TrainingConfig
) -> NDArray[np.integer]:
    """Turn the numbers of a mask into a label image whose ids hold the classes of cells.

    Augmentation, gaps and weight maps change no ids, so that a pixel of a patch still says which cell it is of and
    which class that has (`classes_of_cells`).

    Parameters
    ----------
    mask : ndarray of int
        A plane or a stack.
    classes : mapping
        Class of each cell, by its number in the mask.
    config : TrainingConfig
        Names of the classes, and the value of pixels that are not annotated, which stays.

    Returns
    -------
    ndarray of int32
        0 = background.

    Raises
    ------
    ImageError
        ``no_classes``: a cell has no class, or one that the settings do not name.
    """
    ids, inverse = np.unique(mask, return_inverse=True)
    numbers = {name: number for number, name in enumerate(config.class_names)}
    cells = [number for number in ids.tolist() if number not in (0, config.ignore_label)]
    without = [str(number) for number in cells if number not in classes]
    if without:
        raise ImageError("no_classes", f"cells without a class: {_listed(without)}; name their classes in the table")
    unknown = sorted({classes[number] for number in cells} - set(config.class_names[1:]))
    if unknown:
        raise ImageError(
            "no_classes",
            f"cells of the class {_listed(unknown)}, and the classes are {', '.join(config.class_names[1:])}: correct "
            "the table, or name all classes with class_names in the settings or --class-names of train, the background "
            "first",
        )
    table = np.array([number if number in (0, config.ignore_label) else 0 for number in ids.tolist()], np.int32)
    rows = np.searchsorted(ids, cells)
    table[rows] = CLASS_BASE * np.arange(1, len(cells) + 1) + [numbers[classes[number]] for number in cells]
    label_image: NDArray[np.integer] = table[inverse].reshape(mask.shape)
    return label_image


def classes_of_cells(label_image: NDArray[np.integer]) -> NDArray[np.int64]:
    """Class of each pixel of a label image of `number_cell_classes`; 0 on the background."""
    return np.where(label_image >= CLASS_BASE, label_image % CLASS_BASE, 0).astype(np.int64)


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values[:SHOWN_VALUES]) + (" ..." if len(values) > SHOWN_VALUES else "")


def number_classes(mask: NDArray[np.integer], config: TrainingConfig) -> NDArray[np.uint8]:
    """Turn the numbers of a class mask into classes.

    Parameters
    ----------
    mask : ndarray of int
        A plane or a stack.
    config : TrainingConfig
        Classes of the values in the mask.

    Returns
    -------
    ndarray of uint8
        0, 1, 2 ... and `UNANNOTATED`.

    Raises
    ------
    ImageError
        When the mask holds values that stand for no class.
    """
    values = config.class_values or tuple(range(len(config.class_names) or MAX_CLASSES))
    return map_classes(mask, values, config.ignore_label)


def map_classes(mask: NDArray[np.integer], values: Sequence[int], ignore_label: int | None = None) -> NDArray[np.uint8]:
    """Turn the values of a mask into classes.

    Parameters
    ----------
    mask : ndarray of int
        As in the file, from 0.
    values : sequence of int
        The value that stands for each class.
    ignore_label : int, optional
        Value of unannotated pixels.

    Returns
    -------
    ndarray of uint8
        Classes from 0, and `UNANNOTATED`.

    Raises
    ------
    ImageError
        ``unknown_class``: a value has no class; the message continues after the name of the mask.
    """
    found, inverse = np.unique(mask, return_inverse=True)
    known = {value: number for number, value in enumerate(values)}
    if ignore_label is not None:
        known[ignore_label] = UNANNOTATED
    unknown = [str(value) for value in found.tolist() if value not in known]
    if unknown:
        listed = list(values)
        meant = f"0 to {listed[-1]}" if listed == list(range(len(listed))) else ", ".join(map(str, listed))
        raise ImageError(
            "unknown_class",
            f"holds {_listed(unknown)}, which is none of the classes {meant}: say with class_values in the settings "
            "or --class-values of train and evaluate which value stands for which class (0,255), or with ignore_label "
            "which value marks unannotated pixels",
        )
    table = np.array([known[value] for value in found.tolist()], np.uint8)
    classes: NDArray[np.uint8] = table[inverse].reshape(mask.shape)
    return classes


def name_classes(config: TrainingConfig, class_masks: Sequence[NDArray[np.integer]]) -> tuple[str, ...]:
    """Names of all classes, from the settings or numbered from the masks.

    Parameters
    ----------
    config : TrainingConfig
        With target classes.
    class_masks : sequence of ndarray
        Masks of all training and validation images.

    Raises
    ------
    UsageError
        When the masks hold one class alone, or skip numbers and the settings do not name the classes.
    """
    seen = sorted({int(value) for mask in class_masks for value in np.unique(mask)} - {UNANNOTATED})
    if len(seen) < 2:
        held = f"class {seen[0]} alone" if seen else "no annotated pixel"
        raise UsageError(f"the masks hold {held}: at least two classes are needed to learn from")
    if config.class_names:
        return config.class_names
    if config.class_values:
        return default_class_names(len(config.class_values))
    if seen[-1] != len(seen) - 1:
        raise UsageError(
            f"the masks hold the classes {', '.join(map(str, seen))}, and not all numbers from 0 to {seen[-1]}: name "
            "all classes with class_names in the settings or --class-names of train, or say with class_values or "
            "--class-values which value stands for which class"
        )
    return default_class_names(len(seen))


def _compact(label_image: NDArray[Any], ignore_label: int | None) -> NDArray[np.integer]:
    """Close large gaps between ids, in the same order, so that tables by id stay small; the ignored label stays."""
    if not label_image.size or int(label_image.max()) <= label_image.size:
        return label_image
    ids, inverse = np.unique(label_image, return_inverse=True)
    is_cell = ~np.isin(ids, [0] if ignore_label is None else [0, ignore_label])
    numbers: NDArray[np.integer] = np.cumsum(is_cell, dtype=np.int64)
    if ignore_label:
        numbers = _free_of(numbers, ignore_label)
    numbers = np.where(is_cell, numbers, ids)
    compact: NDArray[np.integer] = numbers[inverse].reshape(label_image.shape).astype(np.int32)
    return compact


def _beside_ignored(
    label_image: NDArray[np.integer], mask: NDArray[np.integer], ignore_label: int | None
) -> NDArray[np.integer]:
    """Cells that were numbered from 1, with the ignored label where the mask has it."""
    # Settings of earlier versions may hold 0, or a number that no mask holds.
    if ignore_label is None or ignore_label < 1:
        return label_image
    return np.where(mask == ignore_label, ignore_label, _free_of(label_image.astype(np.int32), ignore_label))


def _free_of(numbers: NDArray[np.integer], ignore_label: int) -> NDArray[np.integer]:
    """Numbers from 1 of which none is that of the pixels that are not annotated."""
    return numbers + (numbers >= ignore_label)
