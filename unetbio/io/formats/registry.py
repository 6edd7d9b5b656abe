"""Registry of image formats, and detection of the format of a file or folder.

Each format has a folder here: ``format.py`` registers it, without importing a library that reads it; ``reader.py`` is
imported when the first such image is opened.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unetbio.errors import ImageError
from unetbio.io.image import Image

__all__ = ["FORMATS", "Format", "find_by_name", "find_file", "find_folder", "register"]


@dataclass(frozen=True, kw_only=True)
class Format:
    """An image format.

    Places of functions are ``module:function``; the module is imported when the function is needed.

    Parameters
    ----------
    name : str
        Name in `Image.format` and ``unetbio inspect --json``.
    title : str
        Name for users.
    suffixes : tuple of str
        Endings of its files, or of its folders.
    contents : str
        Supported contents, for the table in ``docs/formats.md``.
    reader : str
        Place of the function that opens an image: ``reader(path, axes=..., series=...)`` returns an `Image`, whose
        ``series_count`` says how many the file holds, and raises ``no_such_series`` for a number beyond.
    starts : tuple of bytes
        First bytes of its files.
    matches : callable
        Whether a file has the format, from its name in small letters and first 512 bytes; for formats that `starts`
        cannot describe.
    folder_markers : tuple of str
        Files that make a folder an image of the format; empty for formats of files.
    long_suffixes : tuple of str
        Endings with two dots, removed as a whole in names of results: ``x`` of ``x.ome.tif``.
    libraries : tuple of str
        Packages that read it.
    extra : str
        Extra of this package that installs them; empty if they are always installed.
    label_reader : str
        Place of the function that opens a label image, where it is not `reader`.
    writers : mapping of str to str
        Place of the function that writes ``labels`` or ``probabilities`` to a name with one of the suffixes.
    label_suffix : str
        Ending of label images and probabilities of its images.
    find_pieces : str
        Place of the function that finds files, among paths, which are pieces of an image listed by another file.
    list_pieces : str
        Place of the function that lists the other files that a file is read with, as it names them.
    list_images : str
        Place of the function that lists the images of a folder that are folders of their own, each with its place.
    is_one_image : str
        Place of the function that sees fast whether a file holds one image; others may hold one, too.
    holds_one : bool
        Whether every file holds one image.
    is_decoded_whole : bool
        Whether reading a window takes the memory of the whole image.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    contents: str
    reader: str
    starts: tuple[bytes, ...] = ()
    matches: Callable[[str, bytes], bool] | None = None
    folder_markers: tuple[str, ...] = ()
    long_suffixes: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    extra: str = ""
    label_reader: str = ""
    writers: Mapping[str, str] = field(default_factory=dict)
    label_suffix: str = ".ome.tif"
    find_pieces: str = ""
    list_pieces: str = ""
    list_images: str = ""
    is_one_image: str = ""
    holds_one: bool = False
    is_decoded_whole: bool = False

    def check_libraries(self) -> None:
        """Import the libraries of the extra.

        Raises
        ------
        ImageError
            ``missing_library``: a library is not installed.
        """
        for library in self.libraries if self.extra else ():
            try:
                importlib.import_module(library)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] != library:
                    raise
                raise ImageError(
                    "missing_library", f'{self.title} needs the package {library}: pip install "unetbio[{self.extra}]"'
                ) from error

    def open(self, path: Path, *, axes: str | None, series: int, labels: bool = False) -> Image:
        """Open an image, or a label image; parameters and errors as `unetbio.io.read_image`."""
        self.check_libraries()
        place = self.label_reader if labels and self.label_reader else self.reader
        image: Image = load(place)(path, axes=axes, series=series)
        return image

    def is_folder(self, name: str, contains: Callable[[str], bool]) -> bool:
        """Whether a folder is an image, by its name or the files in it; ``contains`` looks for one."""
        named = name.lower().endswith(self.suffixes)
        return bool(self.folder_markers) and (named or any(map(contains, self.folder_markers)))


FORMATS: dict[str, Format] = {}
"""All formats by name."""


def register(kind: Format) -> Format:
    """Add a format.

    Raises
    ------
    ValueError
        When its name, or one of its endings, is taken.
    """
    for other in FORMATS.values():
        if shared := {kind.name, *kind.suffixes} & {other.name, *other.suffixes}:
            raise ValueError(f"{', '.join(sorted(shared))}: registered already, by the format {other.name!r}")
    FORMATS[kind.name] = kind
    return kind


def load(place: str) -> Callable[..., Any]:
    """Import a function by its place, ``module:function``."""
    module, _, function = place.partition(":")
    loaded: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return loaded


def find_file(name: str, head: bytes) -> Format | None:
    """The format of a file, by its first 512 bytes; a name decides only between formats that bytes do not tell."""
    for kind in FORMATS.values():
        if head.startswith(kind.starts):
            return kind
    return next((kind for kind in FORMATS.values() if kind.matches and kind.matches(name.lower(), head)), None)


def find_folder(path: Path) -> Format | None:
    """The format of a folder that is an image; None for all others, and for files."""
    if not path.is_dir():
        return None
    return next((k for k in FORMATS.values() if k.is_folder(path.name, lambda name: (path / name).is_file())), None)


def find_by_name(name: str) -> Format | None:
    """The format whose ending a name has."""
    return next((kind for kind in FORMATS.values() if name.lower().endswith(kind.suffixes)), None)
