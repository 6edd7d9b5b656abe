"""The documentation site holds every page once, and shows what GitHub shows; ``make site`` checks its links."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from build_site import CONFIG, linked_files, misread_lines, navigation, pages, stage, write_config  # noqa: E402

PAGES = list(pages(navigation()))


def test_each_page_has_one_place() -> None:
    assert len(PAGES) == len(set(PAGES))
    assert set(ROOT.glob("docs/*.md")) <= set(PAGES)
    assert [path for path in PAGES if not path.is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lists_and_headings_stand_apart(page: Path) -> None:
    assert list(misread_lines(page)) == [], "an empty line is missing before these lines"


def test_lines_that_the_site_would_misread(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n\ntext\n- item\n- item\n\n| a |\n|---|\n# B\n\n- item\n  goes on\n- item\n\n```\ntext\n- code\n```\n"
    )
    assert list(misread_lines(page)) == [4, 9]


def test_code_is_no_link(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "[a](a.md#part) ![b](b.png) [c](https://c.org) `[d](d.md)`\n\n    [e](e.md)\n\n```\n[f](f.md)\n```\n"
        '\n<img src="g.svg" width="40">\n'
    )
    assert [path.name for path in linked_files(page)] == ["a.md", "b.png", "g.svg"]


def test_pages_and_what_they_show_lie_beside_each_other(tmp_path: Path) -> None:
    stage(tmp_path / "pages", navigation())
    write_config(tmp_path / "zensical.toml", navigation())
    assert (tmp_path / "pages/docs/images/networks/unet.svg").exists()
    settings = (tmp_path / "zensical.toml").read_text(encoding="utf-8")
    assert re.findall(r'nav = \[\{ "Home" = "README.md" \}', settings)
    assert "font = false" in CONFIG.read_text(encoding="utf-8"), "the site asks another server for fonts"
