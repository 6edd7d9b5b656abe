"""Name the stored axes of vendors' files from the file or the user, without guessing."""

import dataclasses
import math
from collections.abc import Sequence

from unetbio.errors import ImageError
from unetbio.io.image import AXES

__all__ = ["COLOURS", "Layout", "colour_names", "name_axes"]

COLOURS = ("red", "green", "blue", "alpha")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Stored axes with their letters among ``TCZYX`` and their lengths, slowest first; C may stand there twice.

    Attributes
    ----------
    dims : tuple of (str, int)
        Letter and length of each stored axis.
    """

    dims: tuple[tuple[str, int], ...]

    def size(self, letter: str) -> int:
        """Length of an axis: the product of the stored ones of that letter."""
        return math.prod(n for axis, n in self.dims if axis == letter)

    @property
    def axes(self) -> str:
        """Axes of the image: Y and X, and those longer than one."""
        return "".join(axis for axis in AXES if axis in "YX" or self.size(axis) > 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """One length for each letter of `axes`."""
        return tuple(self.size(axis) for axis in self.axes)

    def indices(self, t: int, z: int, channel: int) -> tuple[int, ...]:
        """Index along each stored axis, 0 along rows and columns; the last stored C changes fastest."""
        left = {"T": t, "Z": z, "C": channel, "Y": 0, "X": 0}
        found = []
        for letter, length in reversed(self.dims):
            left[letter], index = divmod(left[letter], length)
            found.append(index)
        return tuple(reversed(found))


def name_axes(stored: Sequence[tuple[str, int]], axes: str | None) -> Layout:
    """Name every stored axis with a letter of ``TCZYX``.

    Parameters
    ----------
    stored : sequence of (str, int)
        The file's own letter and the length of each axis, slowest first; S is the samples of a colour.
    axes : str, optional
        The user's names for the stored axes that are longer than one, in the same order; colour samples may be left
        out or called C.

    Raises
    ------
    ImageError
        ``unknown_axes``: a letter is unknown or repeated, or `axes` does not fit. The message lists the axes and an
        accepted order.
    """
    longer = [(letter, n) for letter, n in stored if n > 1]
    listed = " ".join(f"{letter}={n}" for letter, n in longer) or "one pixel"
    if axes is not None:
        letters = _match_letters([letter for letter, _ in longer], axes.upper().replace("S", "C"))
        if letters is None:
            raise ImageError(
                "unknown_axes",
                f"--axes {axes} does not fit the stored axes {listed}: one letter of TCZYX each, slowest first",
            )
        named = [(letter, n) for letter, (_, n) in zip(letters, longer, strict=True)]
    else:
        named = [("C" if letter == "S" else letter, n) for letter, n in longer]
        unknown = [letter for letter, _ in named if letter not in AXES]
        twice = [letter for letter in "TZYX" if sum(letter == other for other, _ in named) > 1]
        reason = ""
        if unknown:
            reason = f"{unknown[0]} is none of TCZYX"
        elif twice:
            reason = f"two are {twice[0]}"
        elif not {"Y", "X"} <= {letter for letter, _ in stored}:
            reason = "rows or columns are missing"
        if reason:
            raise ImageError(
                "unknown_axes",
                f"stored axes {listed}, of which {reason}: name them with --axes, slowest first, one letter of TCZYX "
                f"each{_example(longer)}",
            )
    # Rows and columns of length one are left out above, but an image has them.
    present = {letter for letter, _ in named}
    return Layout((*named, *((letter, 1) for letter in "YX" if letter not in present)))


def colour_names(names: Sequence[str], samples: int) -> tuple[str, ...]:
    """Names of the channels of a file whose every channel has ``samples`` colours: ``Pol_0 red``, or ``red`` alone."""
    if samples == 1:
        return tuple(names)
    colours = (*COLOURS, *("" for _ in range(samples)))[:samples]
    if len(names) == 1:
        return colours
    return tuple(f"{name or i} {colour}".strip() for i, name in enumerate(names) for colour in colours)


def _match_letters(stored: list[str], letters: str) -> list[str] | None:
    if set(letters) - set(AXES) or len(set(letters)) < len(letters) or not {"Y", "X"} <= set(letters):
        return None
    colours = [letter == "S" for letter in stored]
    if len(letters) == len(stored):
        return list(letters)
    if len(letters) == len(stored) - sum(colours) and "C" not in letters:
        rest = iter(letters)
        return ["C" if colour else next(rest) for colour in colours]
    return None


def _example(longer: Sequence[tuple[str, int]]) -> str:
    """An accepted order of letters that keeps the known ones."""
    free = [letter for letter in "YXZTC" if letter not in {axis for axis, _ in longer}]
    letters: list[str] = []
    for axis, _ in longer:
        known = axis in AXES and axis not in letters
        letters.append(axis if known else "C" if axis == "S" and "C" not in letters else free.pop(0) if free else "")
    for needed in "YX":
        if needed not in letters and "Z" in letters:
            letters[letters.index("Z")] = needed
    usable = {"Y", "X"} <= set(letters) and "" not in letters and len(set(letters)) == len(letters)
    return f" (such as {''.join(letters)})" if usable else ""
