"""What is in folders, and where links lead."""

import fnmatch
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["cached_real_path", "list_contents", "paths_below", "real_path", "walk"]

# Files that file managers write into folders; they belong to no image.
_NOT_CONTENT = (".DS_Store", "Thumbs.db", "desktop.ini")


def list_contents(folder: Path, *, everything: bool = False) -> list[tuple[str, Path]]:
    """Files below a folder by their paths from it, sorted; links to folders are not followed.

    ``everything`` lists those links too, and the files that file managers leave.
    """
    found = []
    for parent, folders, names in walk(folder, onerror=_raise):
        links = [name for name in folders if Path(parent, name).is_symlink()] if everything else []
        for name in (*names, *links):
            if everything or name not in _NOT_CONTENT:
                file = Path(parent, name)
                found.append((file.relative_to(folder).as_posix(), file))
    return sorted(found, key=lambda item: os.fsencode(item[0]))


def _raise(error: OSError) -> None:
    raise error


def walk(
    folder: str | os.PathLike[str], *, follow_links: bool = False, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` from above, for folders in folders of any depth: before Python 3.12 that ends at about 1000.

    Parameters
    ----------
    folder : path-like
        Where to begin.
    follow_links : bool
        Go into folders that are links.
    onerror : callable, optional
        Called with the error of a folder that cannot be listed, which is passed over.

    Yields
    ------
    tuple
        A folder, the names of the folders in it, of which those that the caller removes are left out, and of the files.
    """
    left = [os.fspath(folder)]
    while left:
        parent = left.pop()
        folders: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else names).append(entry.name)
        except OSError as error:
            if onerror is not None:
                onerror(error)
            continue
        yield parent, folders, names
        below = [os.path.join(parent, name) for name in reversed(folders)]  # noqa: PTH118 - text is faster
        left += [path for path in below if follow_links or not os.path.islink(path)]  # noqa: PTH114


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself
        return False


def paths_below(folder: Path, pattern: str = "*") -> Iterator[Path]:
    """Files and folders below a folder, at any depth, whose names match; links to folders are not followed."""
    for parent, folders, names in walk(folder):
        for name in (*folders, *names):
            if fnmatch.fnmatchcase(name, pattern):
                yield Path(parent, name)


def real_path(path: str | os.PathLike[str]) -> Path:
    """Give the absolute path with all links followed; a link that leads to itself stays as it is.

    `pathlib.Path.resolve` raises a `RuntimeError` for such links before Python 3.13.
    """
    return Path(os.path.realpath(path))


def cached_real_path() -> Callable[[str | os.PathLike[str]], Path]:
    """`real_path` for many files of few folders, of which each is looked up once."""
    folders = functools.cache(os.path.realpath)

    def real(path: str | os.PathLike[str]) -> Path:
        folder, name = os.path.split(path)
        if name in ("", os.curdir, os.pardir) or os.path.islink(path):  # noqa: PTH114 -- fast
            return real_path(path)
        return Path(os.path.join(folders(folder), name))  # noqa: PTH118 -- fast

    return real
