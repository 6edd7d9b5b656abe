"""Folders that are one image: whole or absent, hashed, compared, removed."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from unetbio.errors import EnvironmentStoppedError
from unetbio.files import (
    atomic_folder,
    list_contents,
    paths_below,
    remove_path,
    replace_path,
    sha256_file,
    sha256_path,
    stamp,
    walk,
    write_text,
)
from unetbio.io.discover import find_inputs
from unetbio.provenance import fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "x.zarr"
    for name in ("b", "a/c", "a.b", ".zattrs"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_the_hash_of_a_folder_is_that_of_its_files_and_names(folder: Path, tmp_path: Path) -> None:
    names = [".zattrs", "a.b", "a/c", "b"]
    lines = "".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in names)
    assert sha256_path(folder) == hashlib.sha256(lines.encode()).hexdigest()
    assert sha256_path(folder / "b") == sha256_file(folder / "b")
    # Neither its own name nor an empty folder counts, nor what a file manager leaves.
    digest = sha256_path(folder)
    moved = folder.rename(tmp_path / "y.zarr")
    (moved / "empty").mkdir()
    (moved / "a" / ".DS_Store").write_text("view")
    assert sha256_path(moved) == digest
    (moved / "a" / "c").rename(moved / "a" / "d")
    assert sha256_path(moved) != digest


def test_the_stamp_of_a_folder(folder: Path) -> None:
    os.utime(folder / "a" / "c", ns=(5, 2**62))
    size, mtime_ns, ctime_ns = stamp(folder)
    assert (size, mtime_ns) == (len("ba/ca.b.zattrs"), 2**62)
    assert ctime_ns == max(file.stat().st_ctime_ns for file in folder.rglob("*") if file.is_file())
    assert stamp(folder / "b").size == 1
    with pytest.raises(OSError, match="No such file"):
        stamp(folder / "none")


def test_a_fingerprint_of_a_folder(folder: Path) -> None:
    known = fingerprint(folder)
    assert known.matches(folder)
    os.utime(folder / "b", ns=(1, 1))
    assert known.matches(folder)
    (folder / "b").write_text("B")
    assert not known.matches(folder)
    (folder / "b").unlink()
    assert not known.matches(folder)
    assert not known.matches(folder.parent / "none")


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "x_labels.ome.zarr"
    with atomic_folder(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith("x_labels.ome.zarr"[-9:])
        (temporary / "c").mkdir()
        (temporary / "c" / "0").write_text("1")
        assert not path.exists()
    assert (path / "c" / "0").read_text() == "1"
    with pytest.raises(EnvironmentStoppedError, match="No such file"), atomic_folder(path) as temporary:
        (temporary / "0").write_bytes((temporary / "none").read_bytes())
    assert (path / "c" / "0").read_text() == "1"
    with atomic_folder(path) as temporary:
        (temporary / "0").write_text("3")
    assert [file.name for file in path.iterdir()] == ["0"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentStoppedError, match="cannot write"), atomic_folder(tmp_path / "file" / "x.zarr"):
        pass


def test_remove_and_replace(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.zarr"
    target.write_text("a file")
    replace_path(folder, target)
    assert (target / "a" / "c").read_text() == "a/c"
    other = tmp_path / "z"
    other.mkdir()
    replace_path(other, target)
    assert list(target.iterdir()) == []
    remove_path(target)
    remove_path(target)
    assert list(tmp_path.iterdir()) == []


def test_no_part_of_a_folder_is_seen_while_it_is_removed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("shutil.rmtree", lambda path: seen.append((folder.exists(), (path / "x.zarr" / "b").exists())))
    remove_path(folder)
    assert seen == [(False, True)]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_folders_and_files_follow_the_umask_of_now(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_folder(tmp_path / "a.zarr"):
            pass
        write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.zarr", "a.txt")]
    assert modes == [0o777 & ~mask, 0o666 & ~mask]


def test_folders_of_any_depth_are_walked(tmp_path: Path) -> None:
    """`os.walk` ends at the limit of recursion, at about 1000, before Python 3.12."""
    depth, folder = 1100, tmp_path / "top"
    folder.mkdir()
    (tmp_path / "beside").touch()
    (folder / "link").symlink_to(folder)
    here = Path.cwd()
    os.chdir(folder)
    for _ in range(depth):
        Path("a").mkdir()
        os.chdir("a")
    Path("x.tif").touch()
    os.chdir(here)
    try:
        assert sum(len(folders) for _, folders, _ in walk(folder)) == depth + 1
        assert [path.name for path in paths_below(folder, "*.tif")] == ["x.tif"]
        assert [found.path.name for found in find_inputs([folder])] == ["x.tif"]
        assert len(list_contents(folder)) == 1
    finally:
        # pytest removes folders by recursion.
        deepest = folder / Path(*["a"] * depth)
        (deepest / "x.tif").unlink()
        (folder / "link").unlink()
        os.removedirs(deepest)


def test_walk_names_folders_that_cannot_be_listed(tmp_path: Path) -> None:
    errors: list[OSError] = []
    assert list(walk(tmp_path / "missing", onerror=errors.append)) == []
    assert [error.errno for error in errors] == [errno.ENOENT]


def test_walk_passes_over_folders_that_the_caller_removes(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").symlink_to("a")
    (tmp_path / "itself").symlink_to("itself")
    seen = []
    for parent, folders, names in walk(tmp_path, follow_links=True):
        seen.append((os.path.relpath(parent, tmp_path), sorted(folders), names))
        if "a" in folders:
            folders.remove("a")
    assert seen == [(".", ["a", "c"], ["itself"]), ("c", ["b"], []), ("c/b", [], [])]
