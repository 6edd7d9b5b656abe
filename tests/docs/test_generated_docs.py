"""The generated parts of ``docs/`` are those that the code gives."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "docs" / "generate.py"))


@pytest.mark.parametrize(("page", "part"), [(page, part) for page, parts in SCRIPT["PARTS"].items() for part in parts])
def test_generated_parts_are_up_to_date(page: str, part: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert SCRIPT["replace_part"](text, part, SCRIPT["PARTS"][page][part]()) == text, "run: make docs"


@pytest.mark.parametrize("page", SCRIPT["PAGES"])
def test_generated_pages_are_up_to_date(page: str) -> None:
    assert (ROOT / page).read_text(encoding="utf-8") == SCRIPT["PAGES"][page](), "run: make docs"


def test_a_page_without_the_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="no line <!-- floors -->"):
        SCRIPT["replace_part"]("text", "floors", "")


@pytest.mark.parametrize("place", ["networks/unet", "inference/tiling.py", "supervision/weight_maps.py"])
def test_what_newcomers_look_for_lies_where_the_page_says(place: str) -> None:
    assert f"`unetbio/{place}" in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert (ROOT / "unetbio" / place).exists()
