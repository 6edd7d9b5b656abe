"""Build the documentation site in build/site: ``python docs/build_site.py`` (or ``make site``). Warnings are errors.

The pages of the navigation (``docs/zensical.toml``), and all files that they link to, are copied to build/pages, at
their places in the repository.
"""

import itertools
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["CONFIG", "linked_files", "misread_lines", "navigation", "pages", "stage", "write_config"]

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "docs" / "zensical.toml"
STYLE = ROOT / "docs" / "site.css"
BUILD = ROOT / "build"
_LINK = re.compile(r"\]\(([^)#\s]+)|(?:src|href)=\"([^\"#]+)\"")
_CODE = re.compile(r"^```.*?^```|^    .*?$|`[^`\n]*`", flags=re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r" *([-*]|\d+\.) |#+ ")


def navigation() -> list[dict[str, Any]]:
    """The sections of the site. Pages of docs/ that no section names are the last of "How to"."""
    nav = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"]
    named = set(pages(nav))
    others = [path for path in sorted((ROOT / "docs").glob("*.md")) if path not in named]
    how_to = next(section["How to"] for section in nav if "How to" in section)
    how_to += [str(path.relative_to(ROOT)) for path in others]
    return list(nav)


def pages(nav: Any) -> Iterator[Path]:
    """The files that a navigation names."""
    if isinstance(nav, str):
        yield ROOT / nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from pages(part)


def linked_files(page: Path) -> Iterator[Path]:
    """Files of the repository that a page shows or links to; code is no link."""
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    for groups in _LINK.findall(text):
        link = "".join(groups)
        if not re.match(r"[a-z]+:", link):
            yield (page.parent / link).resolve()


def misread_lines(page: Path) -> Iterator[int]:
    """Numbers of lines with a list or heading that the site would take as text of the paragraph or table before."""
    lines = ["", *page.read_text(encoding="utf-8").splitlines()]
    code = False
    for number, (before, line) in enumerate(itertools.pairwise(lines), 1):
        code ^= line.startswith("```")
        goes_on = _BLOCK.match(before) or before.startswith("  ")
        if _BLOCK.match(line) and not code and before.strip() and not goes_on:
            yield number


def stage(folder: Path, nav: list[dict[str, Any]]) -> None:
    """Copy pages and all that they link to into an empty folder, at the same places."""
    shutil.rmtree(folder, ignore_errors=True)
    waiting, done = [*pages(nav), STYLE], set()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        if path.is_dir():
            sys.exit(f"{path.relative_to(ROOT)} is a folder; a page of the site links to it. Link to a file in it")
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        if path.suffix == ".md":
            waiting += linked_files(path)


def write_config(path: Path, nav: list[dict[str, Any]]) -> None:
    """Zensical reads its settings from the folder above the pages."""
    text = CONFIG.read_text(encoding="utf-8")
    head, _, rest = text.partition("nav = [")
    rest = rest.partition("\n]\n")[2]
    path.write_text(f'{head}docs_dir = "pages"\nsite_dir = "site"\nnav = {_toml(nav)}\n{rest}', encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_toml(part)}' for key, part in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def main() -> None:
    """Build the site, or exit with what is wrong."""
    nav = navigation()
    misread = [f"{page.relative_to(ROOT)}:{line}" for page in pages(nav) for line in misread_lines(page)]
    if misread:
        sys.exit(f"lists and headings need an empty line before them: {' '.join(misread)}")
    stage(BUILD / "pages", nav)
    write_config(BUILD / "zensical.toml", nav)
    shutil.rmtree(BUILD / "site", ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", "zensical.toml"]
    built = subprocess.run(command, cwd=BUILD, capture_output=True, text=True, check=False)
    if built.returncode:
        sys.exit(built.stdout + built.stderr)
    print(f"Open {(BUILD / 'site' / 'index.html').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
