"""Lines on a terminal: names in files can hold control characters, which are shown and not acted on."""

from collections.abc import Iterable, Iterator

import click

__all__ = ["between", "say", "visible"]


def say(*lines: object, err: bool = False) -> None:
    """Print lines; control characters in them, line ends included, are escaped."""
    for line in lines:
        click.echo(visible(line), err=err)


def visible(text: object) -> str:
    r"""Escape what a terminal would act on or cannot print: ``\n``, ``\x1b``, ``\u202e``, bytes that are no UTF-8.

    >>> visible("red \x1b[31m")
    'red \\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def between(blocks: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lines of several blocks, with an empty line between them."""
    for number, block in enumerate(blocks):
        if number:
            yield ""
        yield from block
