"""Read annotated images into memory, as a segmentation reads them."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio import labels, targets
from unetbio.annotations.masks import is_mask_folder, read_mask_folder
from unetbio.errors import ImageError, UsageError
from unetbio.io.cell_classes import cell_classes_path, check_one_image, read_cell_classes
from unetbio.io.grey_pictures import COLOURS, PICTURES, as_grey, is_opaque_picture, picture_names
from unetbio.io.pairing.matching import read_mask
from unetbio.preprocessing import normalization
from unetbio.preprocessing.normalization import Scaling
from unetbio.preprocessing.parts import full_pixels
from unetbio.preprocessing.prepare import open_annotated, rescale_frame
from unetbio.preprocessing.selection import ImageSelection
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.annotations import number_cell_classes
from unetbio.targets.base import Annotation, Target
from unetbio.targets.cells import median_diameter
from unetbio.training.data.dataset import Example, split_examples
from unetbio.training.data.pairs import AnnotatedFiles, AnnotatedPair
from unetbio.training.data.series import naming, pair_series

__all__ = ["hold_some", "load_annotated", "load_examples", "load_training_data"]


def load_training_data(files: AnnotatedFiles, config: TrainingConfig) -> tuple[list[Example], list[Example]]:
    """Read annotated images, split into training and validation.

    Parameters
    ----------
    files : AnnotatedFiles
        Files to read.
    config : TrainingConfig
        Normalisation, and the share of validation images where ``files`` does not name them.

    Raises
    ------
    UsageError
        When the settings ask for folds, or there are fewer than two images to split.
    ImageError
        As `load_examples`.
    """
    if config.folds:
        raise UsageError(f"folds: {config.folds} are for unetbio train: leave folds out of the settings here")
    training, validation = load_annotated(files, config)
    return hold_some(training, validation, config)


def load_annotated(files: AnnotatedFiles, config: TrainingConfig) -> tuple[list[Example], list[Example]]:
    """Read images to train on, and those that are named for validation; raises as `load_examples`."""
    training = load_examples(files.training, config)
    return training, load_examples(files.validation, config, like=training[0])


def hold_some(
    training: list[Example], validation: list[Example], config: TrainingConfig
) -> tuple[list[Example], list[Example]]:
    """Training and validation images: those that are named or, without any, a part of the others (`split_examples`)."""
    return (training, validation) if validation else split_examples(training, config.validation_fraction)


def load_examples(
    pairs: Iterable[AnnotatedPair],
    config: TrainingConfig,
    *,
    like: Example | None = None,
    channels: int | None = None,
    at_scale: Callable[[ImageSelection], ImageSelection] = lambda selection: selection,
) -> list[Example]:
    """Read annotated images into memory, as they are stored unless another scale is asked for.

    Each image of a file that holds several is an example, each time point of a time-lapse, and with ``z`` "each" each
    section of a stack.

    Parameters
    ----------
    pairs : iterable of AnnotatedPair
        Images and their masks.
    config : TrainingConfig
        Normalisation, and the kind of annotation.
    like : Example, optional
        Example that sets the channels and the number of axes; the first of ``pairs`` unless given.
    channels : int, optional
        Channels that a trained model takes: they are selected as for a segmentation.
    at_scale : callable, optional
        Gives a selection its zoom, by which image and mask are rescaled.

    Raises
    ------
    ImageError
        Naming the first file that cannot be used and why: unreadable, mask of another size or place or an image in its
        stead, channels that differ.
    """
    pairs = pair_series(AnnotatedPair(*pair) for pair in pairs)
    examples: list[Example] = []
    for pair, selection in zip(pairs, _open(pairs, like, channels), strict=True):
        with naming(pair.image):
            scaled = at_scale(selection)
        loaded = _load(pair, scaled, config)
        like = like or loaded[0]
        _check_alike(loaded[0], like)
        examples += loaded
    return examples


def _check_alike(example: Example, like: Example) -> None:
    if example.label_image.ndim != like.label_image.ndim:
        raise ImageError(
            "wrong_axes",
            f"{example.name} has {example.label_image.ndim} spatial axes, {like.name} has {like.label_image.ndim}: "
            "train on planes or on stacks, not on both (--z INDEX, max or each makes planes of stacks)",
        )
    if len(example.image) != len(like.image):
        raise ImageError(
            "wrong_channels",
            f"{example.name} has {len(example.image)} channels, {like.name} has {len(like.image)}: "
            "training images need the same channels; choose them with --channel NAME or INDEX",
        )
    names, others = example.channel_names, like.channel_names
    if all(names) and names != others and sorted(names) == sorted(others):
        raise ImageError(
            "wrong_channels",
            f"{example.name} has the channels {', '.join(names)}, {like.name} has {', '.join(others)}: give one "
            f"order, {' '.join(f'--channel {name}' for name in others)}",
        )


def _open(pairs: Sequence[AnnotatedPair], like: Example | None, channels: int | None) -> list[ImageSelection]:
    """Select the parts of all images; pictures are grey where all of them are, and have no alpha that hides nothing."""
    opened = []
    for pair in pairs:
        with naming(pair.image):
            source = pair.image if pair.image_set is None else pair.image_set.open(pair.reading.axes)
            opened.append(open_annotated(source, pair.reading, channels))
    if channels is not None:
        return opened
    if like is None:
        grey = list(itertools.takewhile(lambda selection: selection is not None, map(_grey, opened)))
        if len(grey) == len(opened):
            return [selection for selection in grey if selection]
    elif len(like.image) == 1:
        return [_grey(selection) or selection for selection in opened]
    # One picture in which something is transparent makes alpha a channel of all.
    without = [_without_alpha(selection) for selection in opened]
    if like is not None and len(like.image) > len(COLOURS):
        return opened
    return without if all(len(selection.channels) <= len(COLOURS) for selection in without) else opened


def _grey(selection: ImageSelection) -> ImageSelection | None:
    """The selection, with one channel if it is a grey picture; None if it has colours."""
    if selection.settings.channel or picture_names(selection.image) not in PICTURES:
        return selection
    with naming(selection.image.source):
        image = as_grey(selection.image)
    return None if image is None else replace(selection, image=image, channels=(0,))


def _without_alpha(selection: ImageSelection) -> ImageSelection:
    """The selection, with red, green and blue alone if it is a picture in which nothing is transparent."""
    if selection.settings.channel:
        return selection
    with naming(selection.image.source):
        is_opaque = is_opaque_picture(selection.image)
    return replace(selection, channels=selection.channels[: len(COLOURS)]) if is_opaque else selection


def _load(pair: AnnotatedPair, selection: ImageSelection, config: TrainingConfig) -> list[Example]:
    target = targets.find(config.target, config.network)
    with naming(pair.mask):
        mask, axes = _read_mask(pair, selection, config, target)
        masks = [_mask_of_frame(mask, axes, selection, t) for t in selection.times]
        if target.has_cell_classes:
            check_one_image(selection.image.series_count)
            masks = _with_classes(masks, pair.mask, selection.times, config)
        parts = [labels.resize_nearest(part, selection.section.grid) for part in _parts(masks, selection)]
        annotations = [target.annotate(part, config) for part in parts]
        for annotation in annotations:
            labels.check_plausible(annotation, "the mask")
    are_cells = target.masks == "instances"
    return [
        _example(pair, selection, part, annotation, median_diameter([annotation], config) if are_cells else None)
        for part, annotation in zip(_images(pair, selection, config), annotations, strict=True)
    ]


def _with_classes(
    masks: Sequence[NDArray[Any]], path: Path, times: Sequence[int | None], config: TrainingConfig
) -> list[NDArray[Any]]:
    """Masks whose numbers hold the classes of cells, from the table beside the file."""
    classes = read_cell_classes(cell_classes_path(path))
    keys = [t if t in classes else None for t in times]
    pairs = zip(masks, keys, strict=True)
    return [number_cell_classes(mask, classes.get(key, {}), config) for mask, key in pairs]


def _read_mask(
    pair: AnnotatedPair, selection: ImageSelection, config: TrainingConfig, target: Target
) -> tuple[NDArray[Any], str]:
    are_cells = target.masks == "instances"
    if are_cells and is_mask_folder(pair.mask):
        return read_mask_folder(pair.mask).label_image, "YX"
    # Beside a table of classes, a mask of 0 and 1 has one cell.
    allow_binary = config.split_components or not are_cells or target.has_cell_classes
    is_given = pair.reading.pixel_size_um is not None
    try:
        return read_mask(
            pair.mask,
            selection.image,
            allow_binary=allow_binary,
            ignore_label=config.ignore_label,
            compare_pixel_sizes=not is_given,
        )
    except ImageError as error:
        if error.reason == "pixel_size_differs":
            raise ImageError(error.reason, f"{error}, or give --pixel-size, which stands above both") from error
        raise


def _mask_of_frame(mask: NDArray[Any], axes: str, selection: ImageSelection, t: int | None) -> NDArray[Any]:
    """The part of a mask that belongs to a frame of its image."""
    image, z = selection.image, selection.settings.z
    of_frame = mask[t or 0] if "T" in axes and len(mask) == image.size("T") else mask
    if len(selection.times) > 1 and of_frame is mask:
        held = f"{len(mask)} time points" if "T" in axes else "no time points"
        raise ImageError(
            "size_differs",
            f"it has {held}, and its image has {image.describe()}: give a mask of all, or choose one with --t INDEX "
            "and give its mask",
        )
    if isinstance(z, int) and "Z" in axes and of_frame.shape[:1] == (image.size("Z"),):
        of_frame = of_frame[z]
    if of_frame.shape != selection.shape:
        projected = "; with --z max it is that of the projection" if z == "max" else ""
        raise ImageError(
            "size_differs",
            f"it has {of_frame.shape} pixels, its image {image.source} has {selection.shape}: they must have the same "
            f"size{projected}",
        )
    return of_frame


def _parts(frames: Sequence[NDArray[Any]], selection: ImageSelection) -> list[NDArray[Any]]:
    """Frames, or the sections of all frames, each an example of its own; arrays of ``(..., *spatial)``."""
    if not selection.in_sections:
        return list(frames)
    return [frame[..., z, :, :] for frame in frames for z in range(selection.sections)]


def _images(
    pair: AnnotatedPair, selection: ImageSelection, config: TrainingConfig
) -> list[tuple[NDArray[Any], Scaling]]:
    """Grey values ``(C, *spatial)`` of each example, scaled as a segmentation scales its frame."""
    chosen = normalization.for_picture(config.normalization, selection.image.dtype, selection.picture_names)
    found = []
    with naming(pair.image):
        for t in selection.times:
            raw = selection.read_channels(t, selection.channels)
            if raw.dtype == np.float16:
                raw = raw.astype(np.float32)  # scipy cannot interpolate halves
            raw = rescale_frame(selection, raw)
            scaling = normalization.measure(raw, chosen, is_automatic=chosen == config.normalization)
            found += [(part, scaling) for part in _parts([raw], selection)]
    return found


def _example(
    pair: AnnotatedPair,
    selection: ImageSelection,
    image: tuple[NDArray[Any], Scaling],
    annotation: Annotation,
    annotated_diameter_px: float | None,
) -> Example:
    section, sizes, diameter = selection.section, selection.trusted_pixel_size_um, pair.reading.diameter_px
    return Example(
        str(pair.image),
        *image,
        annotation,
        selection.selected_channel_names,
        pixel_size_um=(
            tuple(sizes[axis] / zoom for axis, zoom in zip(section.axes, section.zoom, strict=True))
            if set(section.axes) <= set(sizes)
            else None
        ),
        group=pair.group,
        diameter_px=diameter / full_pixels(selection.image) if isinstance(diameter, int | float) else None,
        annotated_diameter_px=annotated_diameter_px,
        is_picture=selection.picture_names == COLOURS,
    )
