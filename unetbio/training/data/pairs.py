"""Find annotated images as the command line names them: pairs of an image and its mask."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from unetbio.errors import ImageError, UsageError
from unetbio.files import public_address, utf8_text
from unetbio.io import pair
from unetbio.io.image_set import ImageSet
from unetbio.io.mask_names import section_of
from unetbio.io.pairing.layouts import find_layout
from unetbio.io.remote import is_address, local_path
from unetbio.io.tables import TABLES, file_of_cell
from unetbio.output_layout import provenance_name
from unetbio.provenance import read_provenance
from unetbio.results.recorded_input import recorded_set
from unetbio.results.reuse import hash_labels
from unetbio.settings.image_tables import COLUMNS, LABEL_HASH, ImageRow, read_image_table
from unetbio.settings.segmentation import Settings

__all__ = ["AnnotatedFiles", "AnnotatedPair", "find_pairs", "list_pairs"]

logger = logging.getLogger(__name__)

PARTS = ("training", "validation", "test")
OWN_COLUMNS = ("split", "group", LABEL_HASH)

SHOWN_PAIRS = 5


class AnnotatedPair(NamedTuple):
    """An image and its mask.

    Parameters
    ----------
    image, mask : path
        The files.
    reading : Settings
        Which part of the image is trained on, its pixel size, and the diameter of its cells.
    group : str
        Kind of image, as a table names it (`unetbio.settings.training.TrainingConfig.sampling`).
    image_set : ImageSet, optional
        The files, if the image consists of several; ``image`` is the first.
    """

    image: Path
    mask: Path
    reading: Settings = Settings()
    group: str = ""
    image_set: ImageSet | None = None


@dataclass(frozen=True)
class AnnotatedFiles:
    """Images and their masks.

    Parameters
    ----------
    training, validation : sequence of AnnotatedPair
        The second is empty unless a table names validation images.
    leftovers : sequence of path
        Images without a mask and masks without an image.
    test : sequence of AnnotatedPair
        Pairs that are left out of the training.
    """

    training: Sequence[AnnotatedPair]
    validation: Sequence[AnnotatedPair] = ()
    leftovers: Sequence[Path] = ()
    test: Sequence[AnnotatedPair] = ()


def find_pairs(
    inputs: Sequence[Path],
    root: Path | None = None,
    reading: Settings = Settings(),  # noqa: B008 -- frozen
    *,
    with_test: bool = False,
    for_training: bool = True,
) -> AnnotatedFiles:
    """Find annotated images as the command line names them.

    Parameters
    ----------
    inputs : sequence of path
        Paths or addresses: a folder or file of images and one of masks; or one folder with both
        (`unetbio.io.pairing.layouts`); or one table with the columns ``image``, ``mask`` and, if wanted, ``split``
        (training or validation), ``group`` (kind of image), ``label_hash`` (of the mask that was accepted; rows of
        other masks are left out) and those of `unetbio.settings.image_tables`.
    root : path, optional
        Where relative paths of a table start; the folder of the table unless given.
    reading : Settings
        How images are read; rows of a table override it.
    with_test : bool
        Whether the column ``split`` may also say ``test``.
    for_training : bool
        Whether a table needs a row to train on.

    Returns
    -------
    AnnotatedFiles

    Raises
    ------
    UsageError
        When nothing is found, or the inputs are of none of these kinds.
    ImageError
        ``unreadable``: an address cannot be fetched. ``bad_name``: a path is not in UTF-8.
    """
    _check_diameter(reading)
    inputs = [_on_this_machine(path) for path in inputs]
    if len(inputs) == 1 and inputs[0].suffix.lower() in TABLES:
        table, names = inputs[0], PARTS if with_test else PARTS[:2]
        found = _pairs_of_table(table, root or table.parent, reading, names)
        if for_training and not found.training:
            raise UsageError(f"{table} has no row to train on: split is {' or '.join(names[1:])} everywhere")
        return found
    if root is not None:
        raise UsageError(f"--root {root} is where the paths of a table start, and no table is given: leave it out")
    if len(inputs) == 1:
        return _pairs_of_layout(inputs[0], reading, with_test=with_test)
    if len(inputs) != 2:
        raise UsageError(f"{len(inputs)} inputs given: give IMAGES and MASKS, one folder with both, or a table")
    pairing = pair(*inputs)
    return AnnotatedFiles(_read_as(reading, pairing.pairs), leftovers=(*pairing.images_left, *pairing.masks_left))


def list_pairs(files: AnnotatedFiles, report: Callable[[str], None]) -> None:
    """Name the first pairs, and each file that is left out because it has no partner, a line each."""
    pairs = [*files.training, *files.validation, *files.test]
    for image, mask, *_ in pairs[:SHOWN_PAIRS]:
        report(f"{image} with {mask}")
    if len(pairs) > SHOWN_PAIRS:
        report(f"... and {len(pairs) - SHOWN_PAIRS} more pairs")
    for path in files.leftovers:
        report(f"left out, nothing to pair it with: {path}")


def _on_this_machine(path: Path) -> Path:
    """The path, or that of the copy of an address."""
    if is_address(path) and path.suffix.lower() in TABLES:
        raise UsageError(
            f"{public_address(str(path))}: a table has to lie on this machine, since its paths start there; its "
            "columns image and mask may hold addresses"
        )
    return local_path(path)


def _check_diameter(reading: Settings) -> None:
    """Refuse a word that means something in a segmentation alone."""
    if reading.diameter_px == "model":
        raise UsageError("diameter 'model' is for a segmentation: give the pixels of a typical cell, or leave it out")


def _read_as(reading: Settings, pairs: Iterable[tuple[Path, Path]]) -> list[AnnotatedPair]:
    return [_named(AnnotatedPair(*files, _at_section(files[1], reading))) for files in pairs]


def _named(pair: AnnotatedPair) -> AnnotatedPair:
    """The pair; raises ImageError where logs and hashes of the images could not hold a name."""
    for path in (pair.image, pair.mask):
        if utf8_text(path) != os.fspath(path):
            raise ImageError("bad_name", f"{utf8_text(path)}: its path is not in UTF-8: rename the file, or its folder")
    return pair


def _at_section(mask: Path, reading: Settings) -> Settings:
    """How an image is read whose mask is that of one of its sections, as its name says; raises UsageError."""
    section = section_of(mask)
    if section is None:
        return reading
    if reading.z not in (None, section):
        raise UsageError(f"--z {reading.z}: {mask} is the mask of section {section}; leave z out")
    return replace(reading, z=section)


def _pairs_of_layout(folder: Path, reading: Settings, *, with_test: bool) -> AnnotatedFiles:
    layout = find_layout(folder)
    if layout is None:
        raise UsageError(
            f"{folder} has no folders images and masks, and no masks beside images such as x_masks for x: give IMAGES "
            "and MASKS, one folder with both, or a table"
        )
    logger.info("%s: found %s", folder, layout.title)
    if layout.test and not with_test:
        logger.info("%d test images are left out", len(layout.test))
    training, validation, test = (
        _read_as(reading, pairs) for pairs in (layout.training, layout.validation, layout.test if with_test else ())
    )
    return AnnotatedFiles(training, validation, layout.leftovers, test)


def _pairs_of_table(table: Path, root: Path, reading: Settings, names: Sequence[str]) -> AnnotatedFiles:
    parts: dict[str, list[AnnotatedPair]] = {name: [] for name in names}
    read = read_image_table(table, reading, ("image", "mask"), OWN_COLUMNS)
    if unused := [column for column in read.columns if column not in (*COLUMNS, *OWN_COLUMNS)]:
        logger.info("%s: columns without a meaning here: %s", table, ", ".join(unused))
    others: list[AnnotatedPair] = []
    for row in read.rows:
        split = row.cells.get("split") or "training"
        if split not in parts:
            raise UsageError(f"{table}, line {row.line}: split is {split!r}; it must be {' or '.join(names)}")
        found = _pair_of_row(table, root, row)
        (parts[split] if _is_accepted(found.mask, row.cells.get(LABEL_HASH, "")) else others).append(found)
    if others:
        logger.warning(
            "%s: left out are masks that were made again or changed since they were accepted (accept them in unetbio "
            "view): %s",
            table,
            ", ".join(str(one.mask) for one in others),
        )
    if len(others) == len(read.rows):
        raise UsageError(f"{table}: no mask is the one that was accepted: accept masks in unetbio view")
    return AnnotatedFiles(parts["training"], parts["validation"], test=parts.get("test", ()))


def _is_accepted(mask: Path, digest: str) -> bool:
    """Whether a mask is the one with this label hash; a mask that cannot be read is refused later, with the reason."""
    if not digest:
        return True
    try:
        provenance = read_provenance(mask.with_name(provenance_name(mask.name)))
        return hash_labels(mask, provenance) == digest
    except ImageError:
        return True


def _pair_of_row(table: Path, root: Path, row: ImageRow) -> AnnotatedPair:
    try:
        _check_diameter(row.settings)
        image, mask = (root / file_of_cell(root, row.cells[name]) for name in ("image", "mask"))
        reading = _at_section(mask, row.settings)
        return _named(AnnotatedPair(image, mask, reading, row.cells.get("group", ""), _set_of(image, mask)))
    except UsageError as error:
        raise UsageError(f"{table}, line {row.line}: {error}") from error


def _set_of(image: Path, mask: Path) -> ImageSet | None:
    """The files of the image of a mask that `segment` made, if they are several and this is the first."""
    provenance = read_provenance(mask.with_name(provenance_name(mask.name)))
    images = recorded_set(provenance.input, image) if provenance else None
    return images if images is not None and images.source == image else None
