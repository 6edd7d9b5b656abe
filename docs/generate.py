"""The pages, and the tables of pages, that follow from the code: ``python docs/generate.py`` (or ``make docs``).

The table behind each comment such as ``<!-- floors -->`` in ``docs/*.md`` and ``config/README.md`` is written anew.
"""

import ast
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from settings_tables import TABLES

from unetbio.io.formats import FORMATS, Format
from unetbio.io.namings import NAMINGS, Naming, SideFile
from unetbio.networks.documentation import parameters_page
from unetbio.pipelines.settings import workflow_schema
from unetbio.postprocessing.crf import PRESETS

__all__ = ["FILES", "PAGES", "PARTS", "Part", "with_parts"]

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


def namings() -> str:
    """Every naming of files: an example, its image, and where the parts of the name go."""
    head = ["| `--group` | microscope | example | image | well | field | channel |", "|---|---|---|---|---|---|---|"]
    return "\n".join([*head, *map(_naming_row, NAMINGS)])


def _naming_row(naming: Naming) -> str:
    found = naming.match(naming.example)
    if found is None:
        raise ValueError(f"{naming.name} does not match its example")
    channel = naming.channel_name(found.axes["C"], SideFile())
    cells = (f"`{naming.name}`", naming.title, f"`{naming.example}`", f"`{found.folder}{found.name}`")
    return f"| {' | '.join((*cells, found.place.get('well', ''), found.place.get('field', ''), channel))} |"


def crf_presets() -> str:
    """Weights and widths of the kernels, and the number of steps, of each preset of the CRF."""
    names = ("bilateral_weight", "bilateral_xy", "bilateral_rgb", "gaussian_weight", "gaussian_xy", "iterations")
    rows = [
        f"| `{name}` | {' | '.join(str(getattr(preset, key)) for key in names)} |" for name, preset in PRESETS.items()
    ]
    return "\n".join(["| `--crf` | w1 | alpha | beta | w2 | gamma | steps |", f"|{'---|' * 7}", *rows])


PARTS: dict[str, Part] = {
    "crf presets": crf_presets,
    "floors": floors,
    "formats": formats,
    "namings": namings,
    **TABLES,
}
"""By the name in its comment, what makes a table."""

FILES: dict[str, Part] = {"docs/network_parameters.md": parameters_page, "config/schema.json": workflow_schema}
"""Files that are written as a whole."""

PAGES = (*sorted((ROOT / "docs").glob("*.md")), ROOT / "config" / "README.md")
_PART = re.compile(r"<!-- ([a-z: -]+) -->\n\n(?:\|.*\n)*\n?")


def with_parts(page: str) -> str:
    """A page with its tables written anew, each with an empty line behind it."""
    written = _PART.sub(
        lambda found: f"<!-- {found[1]} -->\n\n{PARTS[found[1]]()}\n\n" if found[1] in PARTS else found[0], page
    )
    return f"{written.rstrip()}\n"


def main() -> None:
    """Write every file and table."""
    for name, make in FILES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        if (written := with_parts(page)) != page:
            path.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
