"""The parts of ``docs/`` that follow from the code, written between two marks of their pages.

python docs/generate.py
"""

import ast
import tomllib
from collections.abc import Callable
from pathlib import Path

from unetbio.io.formats import FORMATS, Format
from unetbio.networks.documentation import parameters_page

__all__ = ["PAGES", "PARTS", "Part", "replace_part"]

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"cli": ROOT / "cli", "pipelines": ROOT / "pipelines"}

Part = Callable[[], str]


def floors() -> str:
    """The floors of the house, the highest first: rooms, and what the docstring of each says first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "floors")
    lines = ["| floor | room | what it holds |", "|---|---|---|"]
    for floor, layer in zip(range(len(layers), 0, -1), layers, strict=True):
        lines += [f"| {floor} | `{room}` | {_purpose(room)} |" for room in layer.split(" | ")]
    return "\n".join(lines)


def _purpose(room: str) -> str:
    folder = FOLDERS.get(room, ROOT / "unetbio" / room)
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ").replace("``", "`").rstrip(".")


def formats() -> str:
    """Every registered format: endings, reader, libraries, contents."""
    head = ["| format | endings | read by | with | what is taken from it |", "|---|---|---|---|---|"]
    return "\n".join([*head, *map(_format_row, FORMATS.values())])


def _format_row(kind: Format) -> str:
    endings = " ".join(f"`{suffix}`" for suffix in kind.suffixes)
    libraries = ", ".join(kind.libraries) + (f" (extra `{kind.extra}`)" if kind.extra else "")
    module = kind.reader.partition(":")[0]
    return f"| `{kind.name}`: {kind.title} | {endings} | `{module}` | {libraries or 'itself'} | {kind.contents} |"


PARTS: dict[str, dict[str, Part]] = {
    "docs/architecture.md": {"floors": floors},
    "docs/formats.md": {"formats": formats},
}
"""Page, and by the name of a part what makes it: the paragraph that follows ``<!-- name -->``."""


PAGES: dict[str, Part] = {"docs/network_parameters.md": parameters_page}
"""Pages that are written as a whole."""


def replace_part(page: str, name: str, content: str) -> str:
    """A page with the paragraph after a mark replaced.

    Raises
    ------
    ValueError
        When the page lacks the mark.
    """
    mark = f"<!-- {name} -->\n\n"
    before, found, rest = page.partition(mark)
    if not found:
        raise ValueError(f"the page has no line <!-- {name} -->")
    _, _, after = rest.partition("\n\n")
    return f"{before}{mark}{content}\n\n{after}"


def main() -> None:
    """Write every page and part."""
    for name, make_page in PAGES.items():
        (ROOT / name).write_text(make_page(), encoding="utf-8")
    for name, parts in PARTS.items():
        path = ROOT / name
        page = path.read_text(encoding="utf-8")
        for part, make in parts.items():
            page = replace_part(page, part, make())
        path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
