"""A folder of two images of discs, and the command that segments it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main

__all__ = ["Invoke", "segmenting", "write_discs"]

Invoke = Callable[..., Result]


def write_discs(folder: Path, discs: NDArray[Any]) -> Path:
    """Write an image of discs, and one upside down."""
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", discs)
    tifffile.imwrite(folder / "b.tif", discs[::-1])
    return folder


def segmenting(images: Path, out: Path, model: Path) -> Invoke:
    """A function that runs `unetbio segment` on the images, or on other inputs, with more options."""

    def invoke(*arguments: str, inputs: tuple[str, ...] | None = None, workers: str = "1") -> Result:
        given = (str(images),) if inputs is None else inputs
        line = ["segment", *given, "-o", str(out), "-m", str(model), "--workers", workers, *arguments]
        return CliRunner().invoke(main, line)

    return invoke
