"""Pair images with masks by their names."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from unetbio.errors import UsageError
from unetbio.io.discover import Found, list_files
from unetbio.io.formats import SUFFIXES
from unetbio.io.mask_names import MASK_SUFFIXES, composed, one_of_several, plain_stem, stack_of, stem, without_suffix
from unetbio.output_layout import WRITTEN_MASKS

__all__ = ["Pairing", "pair"]

DRAWN_SUFFIXES = (".roi", ".zip", ".geojson", ".json", ".labeling", "_outlines.txt", "_seg.npy")
"""Endings of annotations that ``unetbio import`` reads or refuses with a remedy."""


@dataclass(frozen=True)
class Pairing:
    """Images with their masks, and files without a partner."""

    pairs: tuple[tuple[Path, Path], ...]
    images_left: tuple[Path, ...]
    masks_left: tuple[Path, ...]


def pair(
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    masks: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    predictions: bool = False,
) -> Pairing:
    """Pair images with masks by name.

    Parameters
    ----------
    images, masks : path-like or iterable of path-like
        A folder (searched with the folders below it), a file, or a list of files. Where both are the same folder, files
        whose stem ends like a mask's are the masks.
    predictions : bool, optional
        The images are masks to be scored. If any are outputs of this program (``x_labels``, ``x_classes``), only those
        are paired, without images, overlays or probabilities beside them.

    Returns
    -------
    Pairing
        Pairs in the order of the images. Two files belong together when they lie in the same subfolder and their stems
        agree, first as they are, then as `plain_stem` and then as `composed` gives them. A stack may have masks of
        several of its sections (`stack_of`), each a pair.

    Raises
    ------
    UsageError
        Two images or two masks have the same name, or no image has a mask.
    """
    image_files, mask_files = list_files(images), list_files(masks)
    if predictions:
        written = [f for f in image_files if stem(f.path).endswith(WRITTEN_MASKS)]
        image_files = written or image_files
        mask_files = [f for f in mask_files if f not in written]
    is_given_twice = [f.path for f in image_files] == [f.path for f in mask_files]
    if is_given_twice:
        mask_files = [f for f in image_files if without_suffix(stem(f.path), MASK_SUFFIXES) != stem(f.path)]
        image_files = [f for f in image_files if f not in mask_files]
    pairs: dict[Path, Path] = {}
    for name_of, fold in ((stem, str), (plain_stem, str), (plain_stem, composed)):
        paired = {*pairs, *pairs.values()}
        left_images = [f for f in image_files if f.path not in paired]
        left_masks = [f for f in mask_files if f.path not in paired]
        by_image, by_mask = _by_key(left_images, name_of, fold), _by_key(left_masks, name_of, fold)
        for key, mine in by_image.items():
            theirs = by_mask.get(key, [])
            if theirs and (len(mine) > 1 or len(theirs) > 1):
                several = mine if len(mine) > 1 else theirs
                raise UsageError(
                    f"{several[0]} and {several[1]} both stand for {key[1]!r}: keep one, so that every image has one "
                    "mask"
                )
            if theirs:
                pairs[mine[0]] = theirs[0]
    taken = {*pairs, *pairs.values()}
    sections = _pair_sections(*([f for f in files if f.path not in taken] for files in (image_files, mask_files)))
    if sections and predictions:
        raise UsageError(
            f"{next(iter(sections.values()))[0]} is the mask of one section: segment it with --z INDEX, and give the "
            "two files"
        )
    if not (pairs or sections) and is_given_twice and (image_files or mask_files):
        raise UsageError(
            f"{images} was given twice, as images and as masks: give two folders, or name each mask like its image "
            f"with {', '.join(MASK_SUFFIXES)} after the stem"
        )
    if not (pairs or sections):
        raise UsageError(_nothing_pairs(image_files, mask_files, images, masks))
    masks_of = {image: [mask] for image, mask in pairs.items()} | sections
    paired = {mask for several in masks_of.values() for mask in several}
    return Pairing(
        tuple((f.path, mask) for f in image_files for mask in masks_of.get(f.path, ())),
        tuple(f.path for f in image_files if f.path not in masks_of),
        tuple(f.path for f in mask_files if f.path not in paired),
    )


def _pair_sections(images: Iterable[Found], masks: Iterable[Found]) -> dict[Path, list[Path]]:
    """Stacks with the masks of their sections, each a file of its own."""
    by_image: dict[tuple[str, str | None], Path] = {
        (composed(str(item.relative.parent)), stem(item.path)): item.path for item in images
    }
    pairs: dict[Path, list[Path]] = {}
    for mask in masks:
        image = by_image.get((composed(str(mask.relative.parent)), stack_of(mask.path)))
        if image is not None:
            pairs.setdefault(image, []).append(mask.path)
    return pairs


def _by_key(
    files: list[Found], name_of: Callable[[Path], str], fold: Callable[[str], str]
) -> dict[tuple[str, str], list[Path]]:
    grouped: dict[tuple[str, str], list[Path]] = {}
    for item in files:
        grouped.setdefault((fold(str(item.relative.parent)), fold(name_of(item.path))), []).append(item.path)
    return grouped


def _nothing_pairs(image_files: list[Found], mask_files: list[Found], images: object, masks: object) -> str:
    if not image_files or not mask_files:
        empty = images if not image_files else masks
        return f"no images in {empty}: files ending in {', '.join(SUFFIXES)} were looked for{_say_drawn(images, empty)}"
    by_name = {plain_stem(item.path): item for item in mask_files}
    for item in image_files:
        if other := by_name.get(plain_stem(item.path)):
            return _in_other_folders(item, other, images, masks)
    remark = _say_one_of_several(image_files, mask_files)
    return (
        f"no image has a mask: {image_files[0].relative} and {mask_files[0].relative} do not agree; a mask is named "
        f"like its image, or with {', '.join(MASK_SUFFIXES)} after the stem{remark}"
    )


def _say_one_of_several(image_files: list[Found], mask_files: list[Found]) -> str:
    """Remark on the mask of one image of a file, as ``unetbio import`` names it."""
    files = {plain_stem(item.path) for item in image_files}
    names = ((item, one_of_several(plain_stem(item.path))) for item in mask_files)
    mask = next((item for item, named in names if named and named[0] in files), None)
    if mask is None:
        return ""
    return (
        f"; {mask.relative} may be that of one image of a file: unetbio train takes it from a table with the columns "
        "image, mask and series"
    )


def _say_drawn(images: object, folder: object) -> str:
    """Remark on annotations of other programs in a folder without masks."""
    path = Path(str(folder))
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    drawn = next((file for file in files if file.name.lower().endswith(DRAWN_SUFFIXES)), None)
    if drawn is None:
        return ""
    return f"; {drawn.name} may be drawn in another program: unetbio import {folder} --images {images} -o MASKS"


def _in_other_folders(image: Found, mask: Found, images: object, masks: object) -> str:
    """Message for an image and its mask in different subfolders of searched folders."""
    one, other = list(image.relative.parent.parts), list(mask.relative.parent.parts)
    while one and other and one[-1] == other[-1]:
        one.pop()
        other.pop()
    better = [str(Path(str(given), *parts)) for given, parts in ((images, one), (masks, other)) if parts]
    return (
        f"no image has a mask: {image.relative} and {mask.relative} agree by name, but subfolders have to be the same "
        f"in both folders, too: give {' and '.join(better)}"
    )
