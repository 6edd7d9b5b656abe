"""Generated files and tables are those that the code gives."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from generate import FILES, PAGES, PARTS, with_parts  # noqa: E402 docs/ is no package


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_tables_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_parts(text) == text, "run: make docs"


@pytest.mark.parametrize("name", FILES)
def test_generated_files_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name](), "run: make docs"


def test_memory_is_a_size_with_its_least() -> None:
    assert "\n| `--memory` |  | size from 1G | " in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_every_table_stands_on_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in PARTS if f"<!-- {name} -->" not in text] == []


@pytest.mark.parametrize("place", ["networks/unet", "inference/tiling.py", "supervision/weight_maps.py"])
def test_what_newcomers_look_for_lies_where_the_page_says(place: str) -> None:
    assert f"`unetbio/{place}" in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert (ROOT / "unetbio" / place).exists()
