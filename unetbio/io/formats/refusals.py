"""What readers of several formats refuse, in one wording."""

import contextlib
from collections.abc import Iterator

from unetbio.errors import ImageError

__all__ = ["broken", "check_series", "refuse_broken"]


def broken(title: str, detail: object) -> ImageError:
    """Refuse a file whose content makes no sense; ``detail`` says where, or is what its library raised."""
    text = " ".join(str(detail).split()) or type(detail).__name__
    return ImageError("unreadable", f"a broken {title} file ({text[:120]}): write or copy it again")


@contextlib.contextmanager
def refuse_broken(title: str) -> Iterator[None]:
    """Refuse the file where its library, or a codec, raises: broken files lead to any exception there is."""
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
