"""The table of formats in ``docs/formats.md``, from the formats as they are registered.

python benchmarks/formats_docs.py
"""

from pathlib import Path

from unetbio.io.formats import FORMATS, Format

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
MARK = "<!-- formats -->\n\n"
HEAD = "| format | endings | read by | with | what is taken from it |\n|---|---|---|---|---|\n"


def row(kind: Format) -> str:
    """Row of a format."""
    endings = " ".join(f"`{suffix}`" for suffix in kind.suffixes)
    libraries = ", ".join(kind.libraries) + (f" (extra `{kind.extra}`)" if kind.extra else "")
    module = kind.reader.partition(":")[0]
    return f"| `{kind.name}`: {kind.title} | {endings} | `{module}` | {libraries or 'itself'} | {kind.contents} |\n"


def table(text: str) -> str:
    """Text of the page with the table as it has to be."""
    before, _, rest = text.partition(MARK)
    return before + MARK + HEAD + "".join(map(row, FORMATS.values())) + "\n" + rest.partition("\n\n")[2]


if __name__ == "__main__":
    PAGE.write_text(table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
