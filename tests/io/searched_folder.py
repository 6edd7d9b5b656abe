"""Empty files to search for, and the paths that a search found."""

from pathlib import Path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def relative(found: list) -> list[str]:
    return [item.relative.as_posix() for item in found]
