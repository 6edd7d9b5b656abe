"""Find input files, and name their outputs."""

import dataclasses
import functools
import glob
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from unetbio.errors import ImageError, UsageError
from unetbio.files import cached_real_path, public_address, real_path, utf8_text, walk
from unetbio.io.formats import FORMATS, SUFFIXES, find_folder, load
from unetbio.io.formats.unread import UNREAD_SUFFIXES
from unetbio.io.mask_names import (
    CHALLENGE_FOLDER,
    IMAGE_FOLDER,
    IMAGE_SUFFIXES,
    MASK_FOLDER,
    MASK_SUFFIXES,
    plain_stem,
    stem,
    without_suffix,
)
from unetbio.io.remote import ZARR, is_address, list_addresses, local_path, name_of
from unetbio.io.tables import file_of_cell
from unetbio.output_layout import OVERLAYS, WRITTEN, is_output_folder, is_own_file

if TYPE_CHECKING:
    from unetbio.io.image_set import ImageSet

__all__ = ["Found", "find_inputs", "list_files", "output_names", "part_of", "pieces_of", "table_input"]

logger = logging.getLogger(__name__)

NAMES_OF_RESULTS = f"names ending in {', '.join(WRITTEN)} are those of results"
"""Why files are left out of a search."""


@dataclasses.dataclass(frozen=True)
class Found:
    """An input, and its path below the output folder.

    Parameters
    ----------
    path : pathlib.Path
        The file, or the folder of an image; of a set of files the first.
    relative : pathlib.PurePath
        Path in the tables.
    result : pathlib.PurePath, optional
        Path of the results below the output folder without ending, where it is not that of ``relative``.
    image_set : ImageSet, optional
        The files, if the image consists of several.
    place : dict
        Where the image lies: plate, well, row, column, field ...; columns of every table.
    plate : pathlib.PurePath, optional
        Path of the results of the plate, if the image is a field of an OME-Zarr plate.
    error : ImageError, optional
        Why the image cannot be opened, if that is known already.
    address : str
        Address that the file was copied from, if any; without passwords.
    """

    path: Path
    relative: PurePath
    result: PurePath | None = None
    image_set: "ImageSet | None" = None
    place: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    plate: PurePath | None = None
    error: ImageError | None = None
    address: str = ""

    @property
    def root(self) -> str:
        """Folder that ``relative`` starts from: of a copy the one at its address, since copies lie in other folders."""
        text, below = self.address or str(self.path), str(self.relative)
        return text[: -len(below)].rstrip(os.sep) if text.endswith(below) else str(self.path.parent)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, or the folder, of the image."""
        return (self.path,) if self.image_set is None else self.image_set.paths


def find_inputs(
    inputs: Iterable[str | os.PathLike[str]], *, out: str | os.PathLike[str] | None = None, masks: bool = False
) -> list[Found]:
    """List the images among files, folders and glob patterns.

    Parameters
    ----------
    inputs : iterable of path-like
        Files with any name, and folders of Zarr images, are listed. Other folders are searched recursively; patterns
        (``*``, ``?``, ``[...]``, ``**``) are expanded. Both searches leave out hidden files and outputs of this program
        (``x_labels`` ...), and in folders files with other endings; so do those at addresses. Files that are pieces of
        another listed image (`unetbio.io.formats.tiff.sets`) are always left out. A log line counts the files left out
        that may be images: those named like outputs but without a provenance, and those of unsupported formats.
    out : path-like, optional
        The output folder. A search leaves its files out, so that a second run does not segment the overlays of the
        first. Overlays of other output folders, which have a journal, are left out too. Files given one by one are
        always listed.
    masks : bool, optional
        List also masks that lie beside their images in a searched folder or fit a pattern, which are left out
        otherwise.

    Returns
    -------
    list of Found
        In the order of the arguments, each folder and pattern sorted by path; a file found twice is listed once. The
        relative path is the one below the searched folder; for a file or pattern given by a relative path it is that
        path, for one given from the root or through ``..`` the bare name.

    Raises
    ------
    UsageError
        An input does not exist, or no image was found.
    """
    names = [os.fspath(given) for given in inputs]
    real = cached_real_path()
    found: dict[Path, Found] = {}
    passed: list[Found] = []
    for given in names:
        taken, others = _expand(given, masks)
        passed += others
        for item in taken:
            found.setdefault(real(item.path), item)
    remarks = _remarks(_foreign_files(passed, found, out))
    whole = {id(item) for item in _without_pieces(found.values())}
    found = {path: item for path, item in found.items() if id(item) in whole}
    if not found:
        where = ", ".join(names) or "an empty list"
        raise UsageError(
            "; ".join([f"no images in {where}: files ending in {', '.join(SUFFIXES)} were looked for", *remarks])
        )
    for remark in remarks:
        logger.info("%s", remark)
    if out is None:
        return list(found.values())
    asked = {os.path.realpath(name) for name in names}
    own = real_path(out)
    kept = [item for path, item in found.items() if str(path) in asked or not _is_own(path, item, own)]
    if not kept:
        raise UsageError(f"no images outside the output folder {out}: give their folder, or another output folder")
    return kept


def table_input(table: str | os.PathLike[str], cell: str) -> Found:
    """The file named in a row of a table, relative to the folder of the table; raises as `file_of_cell`."""
    if is_address(cell):
        return _fetched(cell, PurePath(name_of(cell)))
    name = file_of_cell(Path(table).parent, cell)
    return Found(Path(table).parent / name, _relative(Path(name)))


def part_of(relative: str | os.PathLike[str], count: int) -> int:
    """Number of the job, from 1 to ``count``, that works on an input.

    Computed from a hash of the relative path, so that added or removed files do not move other files between jobs.
    Bytes that are no UTF-8 count as in the tables.
    """
    digest = hashlib.sha256(utf8_text(PurePath(relative).as_posix()).encode()).digest()
    return int.from_bytes(digest[:8], "big") % count + 1


def output_names(found: Sequence[Found]) -> list[PurePath]:
    """Path of each input's outputs below the output folder, without ending: ``a/b/x`` for ``a/b/x.tif``.

    Raises
    ------
    UsageError
        Two inputs would share a name, also when upper and lower case are equal, as on macOS.
    """
    taken: dict[str, Found] = {}
    names = []
    for item in found:
        name = item.relative.parent / stem(item.relative)
        other = taken.setdefault(str(name).casefold(), item)
        if other is not item:
            raise UsageError(
                f"{other.path} and {item.path} would both be written as {name}: rename one, or give them in separate "
                "runs"
            )
        names.append(name)
    return names


def _expand(given: str, masks: bool) -> tuple[list[Found], list[Found]]:
    """Images of an argument, and files left out of its search that may be images."""
    if is_address(given):
        return _at_address(given, masks), []
    if not given:
        # Often an unset variable of a shell; as a path it would be the working directory.
        raise UsageError("an input is empty: give files, folders or patterns in quotes such as 'data/*.tif'")
    path = Path(given)
    if path.is_dir() and not find_folder(path):
        inside = _folder(path, (*SUFFIXES, *UNREAD_SUFFIXES))
        return _split(
            inside if masks else _without_masks(inside), lambda item: _is_output(item.path) or _is_unread(item.path)
        )
    if os.path.lexists(path):
        return [Found(path, _relative(path))], []
    if glob.has_magic(given):
        matches = sorted(Path(match) for match in glob.glob(given, recursive=True))  # noqa: PTH207
        files = [match for match in matches if not match.is_dir() or find_folder(match)]
        # A pattern with ** sees the chunks of an image too.
        folders = {match for match in files if match.is_dir()}
        files = [match for match in files if folders.isdisjoint(match.parents)]
        if not masks:
            # By the whole path, since the name alone of a file does not say which images lie beside it.
            files = [item.path for item in _without_masks([Found(match, match) for match in files])]
        return _split([Found(match, _relative(match)) for match in files], lambda item: _is_output(item.path))
    raise UsageError(f"{given} does not exist: give files, folders or patterns in quotes such as 'data/*.tif'")


def _at_address(given: str, masks: bool) -> list[Found]:
    try:
        listed = {relative: address for address, relative in list_addresses(given)}
    except ImageError as error:
        return [_failed(given, PurePath(name_of(given)), error)]
    found = [Found(Path(public_address(address)), relative) for relative, address in listed.items()]
    # A file that is given by its own address is listed whatever it is called.
    if list(listed) != [PurePath(name_of(given))]:
        found = _searched(found, masks)
    return [_fetched(listed[item.relative], item.relative) for item in found]


def _searched(found: list[Found], masks: bool) -> list[Found]:
    """Leave out what a search on this machine leaves out, before anything is fetched."""
    seen = [item for item in found if not any(part.startswith(".") for part in item.relative.parts)]
    kept, outputs = _split(seen if masks else _without_masks(seen), lambda item: _is_output(item.path))
    if outputs:
        logger.info("%s", _left_out(outputs, f"{NAMES_OF_RESULTS}; give the address of a file to take it"))
    return kept


def _fetched(address: str, relative: PurePath) -> Found:
    try:
        return Found(local_path(address), relative, address=public_address(address))
    except ImageError as error:
        return _failed(address, relative, error)


def _failed(address: str, relative: PurePath, error: ImageError) -> Found:
    # The journal holds the path.
    return Found(Path(public_address(address)), relative, error=error)


def _without_masks(found: list[Found]) -> list[Found]:
    """Leave out masks beside their images: in ``masks/`` beside ``images/``, and ``x_mask.png`` beside ``x.png``.

    Also those in ``masks/`` below their images, and in ``01_GT/`` beside ``01/`` (Cell Tracking Challenge).
    """
    # A pattern finds tables and texts, too, beside which no masks lie.
    pictures = [item for item in found if _may_be_image(item)]
    folders = {item.relative.parent for item in pictures}
    above = {path for folder in folders for path in (folder, *folder.parents)}
    beside = {path.parent for path in above if IMAGE_FOLDER.fullmatch(path.name)}
    names = [(item.relative.parent, stem(item.relative)) for item in pictures]
    images = {*names, *((folder, without_suffix(name, IMAGE_SUFFIXES)) for folder, name in names)}

    # With the mask of one image, a folder holds masks, also those of images that were deleted.
    paired = {
        folder
        for item in pictures
        for folder in item.relative.parents
        if MASK_FOLDER.fullmatch(folder.name) and (folder.parent, plain_stem(item.relative)) in images
    }

    def holds_masks(folder: PurePath) -> bool:
        of_challenge = CHALLENGE_FOLDER.fullmatch(folder.name)
        return of_challenge is not None and folder.with_name(of_challenge[1]) in above

    def is_mask(item: Found) -> bool:
        folders = [path for path in item.relative.parents if MASK_FOLDER.fullmatch(path.name)]
        if any(folder.parent in beside for folder in folders) or any(map(holds_masks, item.relative.parents)):
            return True
        if any(folder in paired for folder in folders):
            return True
        name = stem(item.relative)
        plain = without_suffix(name, MASK_SUFFIXES)
        return plain != name and not _is_output(item.path) and (item.relative.parent, plain) in images

    kept, masks = _split(found, is_mask)
    if masks:
        remedy = "give their folder by itself, or a pattern such as '*_mask.tif', to take them"
        logger.info("%s", _left_out(masks, f"masks of the images beside them; {remedy}"))
    return kept


def _left_out(files: Sequence[Found], why: str) -> str:
    return f"{len(files)} file{'' if len(files) == 1 else 's'} left out, such as {files[0].path}: {why}"


def _may_be_image(item: Found) -> bool:
    return item.path.name.lower().endswith((*SUFFIXES, *UNREAD_SUFFIXES, ZARR)) or item.path.is_dir()


def _split(files: Iterable[Found], passes: Callable[[Found], bool]) -> tuple[list[Found], list[Found]]:
    """Files to list, and files to leave out."""
    sides: tuple[list[Found], list[Found]] = ([], [])
    for item in files:
        sides[passes(item)].append(item)
    return sides


def _foreign_files(
    passed: Iterable[Found], found: Mapping[Path, Found], out: str | os.PathLike[str] | None
) -> list[Found]:
    """Files left out of a search that this program did not write, each once."""
    names = functools.cache(lambda folder: frozenset(os.listdir(folder)))  # noqa: PTH208 -- names are what is needed
    others = {
        real_path(item.path): item for item in passed if not is_own_file(stem(item.path), names(item.path.parent))
    }
    own = real_path(out) if out is not None else None
    return [item for real, item in others.items() if real not in found and not (own and _is_own(real, item, own))]


def _remarks(foreign: Iterable[Found]) -> list[str]:
    """Messages about files left out of a search that may be images."""
    named, unread = _split(foreign, lambda item: _is_unread(item.path))
    # A pattern finds tables and texts, too.
    named = [item for item in named if item.path.name.lower().endswith(SUFFIXES) or item.path.is_dir()]
    remarks = []
    if named:
        remarks.append(_left_out(named, f"{NAMES_OF_RESULTS}; rename images that are called so, or give them as files"))
    if unread:
        many = "files are of formats that are" if len(unread) > 1 else "file is of a format that is"
        remarks.append(f"{len(unread)} {many} not read, such as {unread[0].path}: convert the files to be segmented")
    return remarks


def _folder(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Found]:
    """Files with such endings below ``folder``, sorted by path; hidden files and folders left out."""
    found = []
    for parent, folders, names in walk(folder, follow_links=True, onerror=_say_unlisted):
        folders[:] = [name for name in folders if not _leads_back(folder, Path(parent, name))]
        # A Zarr image is a folder of thousands of chunks, none of which is an image of its own.
        if parent != os.fspath(folder) and any(kind.is_folder(parent, names.__contains__) for kind in FORMATS.values()):
            found.append(Found(Path(parent), Path(parent).relative_to(folder)))
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if OVERLAYS in folders and is_output_folder(names):
            folders.remove(OVERLAYS)
        for name in names:
            if not name.startswith(".") and name.lower().endswith(suffixes):
                path = Path(parent, name)
                found.append(Found(path, path.relative_to(folder)))
    return sorted(found, key=lambda item: item.relative.parts)


def _say_unlisted(error: OSError) -> None:
    logger.warning("%s cannot be listed (%s): its images are left out", error.filename, error.strerror)


def _leads_back(folder: Path, path: Path) -> bool:
    """Whether a folder below another is a link to one that it lies in: following it would never end."""
    if not path.is_symlink():
        return False
    above = [parent for parent in path.parents if parent.is_relative_to(folder)]
    return real_path(path) in map(real_path, above)


def _without_pieces(found: Iterable[Found]) -> list[Found]:
    """Leave out files that are pieces of another image."""
    files = list(found)
    pieces: dict[Path, Path] = {}
    for kind in FORMATS.values():
        if kind.find_pieces:
            pieces |= load(kind.find_pieces)([item.path for item in files])
    left = [item for item in files if item.path not in pieces]
    if len(left) < len(files):
        piece = next(item.path for item in files if item.path in pieces)
        logger.info(
            "%d file%s left out: pieces of images for which others stand, such as %s of %s",
            len(files) - len(left),
            "" if len(files) - len(left) == 1 else "s",
            piece,
            pieces[piece].name,
        )
    return left


def pieces_of(path: Path) -> list[Path]:
    """Other files that a file is read with, as it names them; some may be missing."""
    return [piece for kind in FORMATS.values() if kind.list_pieces for piece in load(kind.list_pieces)(path)]


def _relative(path: Path) -> PurePath:
    return PurePath(path.name) if path.is_absolute() or ".." in path.parts else PurePath(path)


def _is_own(real: Path, item: Found, out: Path) -> bool:
    """Whether an earlier run may have written a file; ``real`` and ``out`` are absolute."""
    if out not in real.parents:
        return False
    searched = real.parents[min(len(item.relative.parts), len(real.parents)) - 1]
    # When images and results share a folder, only overlays can be mistaken for images.
    return searched in out.parents or real.relative_to(out).parts[0] == OVERLAYS


def _is_output(path: Path) -> bool:
    return stem(path).endswith(WRITTEN)


def _is_unread(path: Path) -> bool:
    return path.name.lower().endswith(UNREAD_SUFFIXES)


def list_files(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Found]:
    """List the images below a folder, or files as they are given; masks are images, too.

    Raises
    ------
    UsageError
        A file does not exist.
    """
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        if path.is_dir() and not find_folder(path):
            return _without_pieces(_folder(path))
        given = [path]
    paths = [Path(item) for item in given]
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist: give a file or a folder")
    return [Found(path, PurePath(path.name)) for path in paths]
