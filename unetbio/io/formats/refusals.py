"""Errors that readers of several formats share."""

import contextlib
from collections.abc import Iterator

from unetbio.errors import ImageError

__all__ = ["broken", "check_series", "refuse_broken"]


def broken(title: str, detail: object) -> ImageError:
    """Error for an invalid file; ``detail`` is the exception, or the place."""
    text = " ".join(str(detail).split()) or type(detail).__name__
    return ImageError("unreadable", f"a broken {title} file ({text[:120]}): write or copy it again")


@contextlib.contextmanager
def refuse_broken(title: str) -> Iterator[None]:
    """Report any exception of a library or codec as a broken file."""
    try:
        yield
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:
        raise broken(title, error) from error


def check_series(series: int, count: int) -> None:
    """Raise ``no_such_series`` unless a file of ``count`` images has this one."""
    if not 0 <= series < count:
        held = f"{count} image{'' if count == 1 else 's'}"
        raise ImageError("no_such_series", f"no series {series}: it holds {held}, counted from 0")
