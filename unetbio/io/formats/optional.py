"""Libraries that are not installed with the program itself."""

import importlib
from types import ModuleType

from unetbio.errors import ImageError

__all__ = ["need"]


def need(module: str, what: str) -> ModuleType:
    """Import a library of the extra ``formats``.

    Parameters
    ----------
    module : str
        Its name.
    what : str
        The kind of file that it is needed for, for the message.

    Raises
    ------
    ImageError
        ``missing_library``: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise
        raise ImageError(
            "missing_library", f'{what} needs the package {module}: pip install "unetbio[formats]"'
        ) from error
