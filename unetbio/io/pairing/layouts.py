"""Layouts of annotated images in one folder: images and masks side by side, and those of public data sets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unetbio.errors import UsageError
from unetbio.files import paths_below
from unetbio.io.formats import SUFFIXES, find_folder
from unetbio.io.mask_names import IMAGE_FOLDER, MASK_FOLDER, MASK_SUFFIXES, stem
from unetbio.io.pairing.pairs import Pairing, pair

__all__ = ["Layout", "find_layout"]

PARTS = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Folders of a data set that was split, in small letters, and the part that each holds."""

_CTC_SEQUENCE = re.compile(r"\d{2}")
_CTC_MASKS = ("{}_GT/SEG", "{}_ST/SEG")

Pairs = tuple[tuple[Path, Path], ...]


@dataclass(frozen=True)
class Layout:
    """Annotated images of a folder.

    Parameters
    ----------
    title : str
        What the layout is called, for a message.
    training, validation, test : tuple of (path, path)
        Images with their masks; a mask is a file, or a folder with a picture for each object.
    leftovers : tuple of path
        Images and masks without a partner.
    """

    title: str
    training: Pairs
    validation: Pairs = ()
    test: Pairs = ()
    leftovers: tuple[Path, ...] = ()


def find_layout(folder: Path) -> Layout | None:
    """Find the images and masks of a folder; None if it has none of the layouts.

    In this order: folders such as ``images`` and ``masks``, also below or above ``train``, ``val`` and ``test``, and
    nnU-Net's ``imagesTr`` and ``labelsTr``; a folder for each image, with a picture for each object (Data Science Bowl
    2018); ``01`` and ``01_GT/SEG`` (Cell Tracking Challenge); images with their masks beside them (``x_img``,
    ``x_masks``), or in a folder ``masks`` below them.

    Raises
    ------
    UsageError
        When images and masks of a layout do not pair.
    """
    if not folder.is_dir() or find_folder(folder):
        return None
    for find in (_find_two_folders, _find_parts, _find_object_folders, _find_sequences, _find_beside, _find_below):
        if found := find(folder):
            return found
    return None


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _two_folders(folder: Path) -> tuple[Path, Path] | None:
    below = _subfolders(folder)
    # Of images and raw the first, of masks and labels the last; nnU-Net's imagesTs have no masks.
    images = [path for path in below if (found := IMAGE_FOLDER.fullmatch(path.name)) and not _is_test(found)]
    masks = [path for path in below if (found := MASK_FOLDER.fullmatch(path.name)) and not _is_test(found)]
    return (images[0], masks[-1]) if images and masks else None


def _is_test(name: re.Match[str]) -> bool:
    return (name[1] or "").lower() == "ts"


def _find_two_folders(folder: Path) -> Layout | None:
    found = _two_folders(folder)
    if found is None or _pictures_of_objects(folder):
        return None
    title = f"{found[0].name} and {found[1].name}"
    return _by_parts(title, found[0], pair(*found))


def _by_parts(title: str, images: Path, pairing: Pairing) -> Layout:
    """Pairs of ``images/train/x`` and ``masks/train/x`` belong to the part that their folder names."""
    leftovers = (*pairing.images_left, *pairing.masks_left)
    parts: dict[str, list[tuple[Path, Path]]] = {}
    for image, mask in pairing.pairs:
        name, *below = image.relative_to(images).parts
        parts.setdefault(PARTS.get(name.lower(), "training") if below else "training", []).append((image, mask))
    if "training" not in parts:
        return Layout(title, pairing.pairs, leftovers=leftovers)
    training, validation, test = (tuple(parts.get(name, ())) for name in ("training", "validation", "test"))
    return Layout(title, training, validation, test, leftovers)


def _find_parts(folder: Path) -> Layout | None:
    parts: dict[str, list[Layout]] = {}
    for path in _subfolders(folder):
        if path.name.lower() in PARTS and (found := _find_two_folders(path) or _find_object_folders(path)):
            parts.setdefault(PARTS[path.name.lower()], []).append(found)
    if "training" not in parts:
        return None
    pairs = {name: tuple(two for one in layouts for two in one.training) for name, layouts in parts.items()}
    leftovers = tuple(path for layouts in parts.values() for one in layouts for path in one.leftovers)
    return Layout(
        ", ".join(sorted(parts)),
        pairs["training"],
        pairs.get("validation", ()),
        pairs.get("test", ()),
        leftovers,
    )


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _is_image(path)) if folder.is_dir() else []


def _pictures_of_objects(folder: Path) -> tuple[Path, Path] | None:
    """Image and masks of ``ID/images/ID.png`` and ``ID/masks/*.png``: one image, whose masks have other names."""
    images, masks = _images_in(folder / "images"), folder / "masks"
    if len(images) != 1 or stem(images[0]) != folder.name:
        return None
    names = {stem(path) for path in _images_in(masks)}
    return (images[0], masks) if names and images[0].stem not in names else None


def _find_object_folders(folder: Path) -> Layout | None:
    folders = [folder] if _pictures_of_objects(folder) else _subfolders(folder)
    found = {path: _pictures_of_objects(path) for path in folders}
    pairs = tuple(filter(None, found.values()))
    left = tuple(image for path in folders if not found[path] for image in _images_in(path / "images"))
    return Layout("a folder for each image, with a picture for each object", pairs, leftovers=left) if pairs else None


def _find_sequences(folder: Path) -> Layout | None:
    pairs: list[tuple[Path, Path]] = []
    left: list[Path] = []
    for path in _subfolders(folder):
        masks = next((at for name in _CTC_MASKS if (at := folder / name.format(path.name)).is_dir()), None)
        if _CTC_SEQUENCE.fullmatch(path.name) and masks:
            pairing = pair(path, masks)
            pairs += pairing.pairs
            left += (*pairing.images_left, *pairing.masks_left)
    return Layout("sequences of the Cell Tracking Challenge", tuple(pairs), leftovers=tuple(left)) if pairs else None


def _find_beside(folder: Path) -> Layout | None:
    if not any(stem(path).endswith(MASK_SUFFIXES) for path in _images_below(folder)):
        return None
    try:
        pairing = pair(folder, folder)
    except UsageError:
        return None
    leftovers = (*pairing.images_left, *pairing.masks_left)
    return Layout("masks beside their images", pairing.pairs, leftovers=leftovers)


def _find_below(folder: Path) -> Layout | None:
    masks = next((path for path in reversed(_subfolders(folder)) if MASK_FOLDER.fullmatch(path.name)), None)
    images = [path for path in folder.iterdir() if path.is_file() and _is_image(path)]
    if masks is None or not images:
        return None
    pairing = pair(sorted(images), masks)
    leftovers = (*pairing.images_left, *pairing.masks_left)
    return Layout(f"images, and {masks.name} below them", pairing.pairs, leftovers=leftovers)


def _images_below(folder: Path) -> Iterator[Path]:
    return (path for path in paths_below(folder) if _is_image(path))


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
