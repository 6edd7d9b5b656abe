"""Files that are whole or absent, and locks that die with their process."""

import errno
import hashlib
import json
import math
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from unetbio import system
from unetbio.errors import EnvironmentStoppedError
from unetbio.files import (
    atomic_path,
    lock,
    naming,
    open_regular,
    remove_stale,
    sha256_file,
    write_bytes,
    write_json,
    write_text,
)
from unetbio.files import locks as locks_of_files


def test_a_name_appears_when_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.ome.tif"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".ome.tif"), "writers choose formats by it"
        assert temporary.name.startswith("."), "searches of folders leave it out"
        temporary.write_bytes(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(143)])
def test_what_was_there_stays_when_the_block_raises(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("new")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_process_leaves_no_name(tmp_path: Path) -> None:
    program = (
        "import os, sys; from unetbio.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "x.txt")], check=False)
    assert not (tmp_path / "x.txt").exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_results_follow_the_mask_of_the_user(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_text(tmp_path / "x.txt", "text")
    assert stat.S_IMODE((tmp_path / "x.txt").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_folder_that_cannot_be_made_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentStoppedError, match=r"cannot write .*x\.txt: .*choose another output folder"):
        write_text(tmp_path / "file" / "x.txt", "text")


def test_a_full_disk_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentStoppedError, match="No space left on device"):
        write_text(tmp_path / "x.txt", "text")
    assert not list(tmp_path.iterdir())


def test_text_json_and_hashes(tmp_path: Path) -> None:
    write_text(tmp_path / "x.txt", "Färbung µ\n")
    assert (tmp_path / "x.txt").read_bytes() == "Färbung µ\n".encode()
    write_json(tmp_path / "x.json", {"b": [1, 2.5], "a": "µ"})
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == {"b": [1, 2.5], "a": "µ"}
    assert (tmp_path / "x.json").read_text("utf-8").startswith('{\n  "b"'), "the order is the author's"
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "y.json", {"a": value})
    assert not (tmp_path / "y.json").exists()
    content = bytes(range(256)) * 10_000  # more than one chunk
    write_bytes(tmp_path / "x.bin", content)
    assert sha256_file(tmp_path / "x.bin") == hashlib.sha256(content).hexdigest()


def test_unicode_names(tmp_path: Path) -> None:
    write_text(tmp_path / "Zellen µ ☃" / "größe.txt", "x")
    assert (tmp_path / "Zellen µ ☃" / "größe.txt").read_text() == "x"


def test_a_lock_that_is_held_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    path, is_held, may_end = tmp_path / "x.lock", threading.Event(), threading.Event()

    def hold() -> None:
        with lock(path):
            is_held.set()
            may_end.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait(10)
    with pytest.raises(EnvironmentStoppedError), lock(path, patience=0.05):
        pass
    threading.Timer(0.1, may_end.set).start()
    with lock(path, patience=10):
        pass
    thread.join()


def test_many_writers_of_one_name_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    threads = [threading.Thread(target=write_bytes, args=(path, bytes([i]) * 100_000)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = path.read_bytes()
    assert len(content) == 100_000
    assert len(set(content)) == 1
    assert list(tmp_path.iterdir()) == [path]


# Locks


@pytest.fixture(params=["kernel", "sqlite"])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of the kernel, and those for systems without `fcntl`."""
    if request.param == "sqlite":
        monkeypatch.setattr(system, "fcntl", None)
    elif system.fcntl is None:
        pytest.skip("this system has no fcntl")


@pytest.mark.usefixtures("locks")
def test_a_lock_keeps_others_out_until_it_is_freed(tmp_path: Path) -> None:
    path = tmp_path / "out" / "run.lock"
    with lock(path):
        with pytest.raises(EnvironmentStoppedError, match=r"out is in use by another unetbio run"), lock(path):
            pass
        with pytest.raises(EnvironmentStoppedError), lock(path, shared=True):
            pass
    with lock(path):
        pass


@pytest.mark.usefixtures("locks")
def test_shared_locks_live_beside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with lock(path, shared=True), lock(path, shared=True), pytest.raises(EnvironmentStoppedError), lock(path):
        pass
    with lock(path):
        pass


@pytest.mark.usefixtures("locks")
def test_a_lock_is_freed_when_the_block_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), lock(tmp_path / "x.lock"):
        raise ValueError("no")
    with lock(tmp_path / "x.lock"):
        pass


@pytest.mark.usefixtures("locks")
def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    hidden = "sys.modules['fcntl'] = None; " if system.fcntl is None else ""
    program = (
        f"import sys; {hidden}from unetbio.files import lock\n"
        "with lock(sys.argv[1]):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(EnvironmentStoppedError), lock(tmp_path / "x.lock"):
            pass
        process.kill()
        process.wait()
    with lock(tmp_path / "x.lock"):
        pass


@pytest.mark.usefixtures("locks")
def test_a_lock_file_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentStoppedError, match="cannot write"), lock(tmp_path / "file" / "x.lock"):
        pass


def test_file_systems_without_locks_warn_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(stream: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", missing)
    monkeypatch.setattr(locks_of_files.logger, "handlers", [caplog.handler])  # the command line stops propagation
    with lock(tmp_path / "x.lock"):
        pass
    assert "this file system has no locks" in caplog.text


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "; free space or choose another"),
        (errno.EDQUOT, "; free space"),
        (errno.EACCES, "denied; choose"),
    ],
)
def test_space_is_spoken_of_where_it_is_missing(tmp_path: Path, code: int, advice: str) -> None:
    with pytest.raises(EnvironmentStoppedError, match=f"cannot write .*{advice}"), atomic_path(tmp_path / "x"):
        raise OSError(code, os.strerror(code))


def test_a_full_disk_is_told_in_bytes(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_path(tmp_path / "x") as temporary:
            temporary.write_bytes(b"12345")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(EnvironmentStoppedError, match=r"again \(5 bytes written, \d+ bytes free\)$"):
        fill()


def test_errors_of_libraries_in_rust_are_those_of_the_system(tmp_path: Path) -> None:
    message = r"x: No space left on device; free space or choose another output folder, .* \(0 bytes written"
    with pytest.raises(EnvironmentStoppedError, match=message), atomic_path(tmp_path / "x"):
        raise OSError("No space left on device (os error 28): .unetbio-0.parquet")


def test_what_a_killed_run_left_an_hour_ago_is_removed(tmp_path: Path) -> None:
    old, new, below, other = (
        tmp_path / ".unetbio-1.tif",
        tmp_path / ".unetbio-2.tif",
        tmp_path / "a",
        tmp_path / "x.tif",
    )
    below.mkdir()
    for path in (old, new, other, below / ".unetbio-3.tif"):
        path.touch()
    for path in (old, other, below / ".unetbio-3.tif"):
        os.utime(path, (0, 0))
    remove_stale(tmp_path)
    assert sorted(tmp_path.rglob("*.tif")) == [new, below / ".unetbio-3.tif", other]
    remove_stale(tmp_path, below=True)
    assert sorted(tmp_path.rglob("*.tif")) == [new, other]
    remove_stale(tmp_path / "missing", below=True)


def test_a_temporary_file_that_cannot_be_removed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(Path, "unlink", refuse)
    write_bytes(tmp_path / "x", b"1")
    assert (tmp_path / "x").read_bytes() == b"1"


@pytest.mark.parametrize("mode", ["rb", "r"])
def test_errors_of_reads_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b", encoding="utf-8")
    with open_regular(path, mode) as stream:
        os.close(stream.fileno())
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            stream.read()
        assert caught.value.filename == str(path)
        os.open(path, os.O_RDONLY)


def test_errors_that_libraries_give_as_text_are_errors_of_the_system() -> None:
    with pytest.raises(OSError, match="Input/output error") as caught, naming("cells.parquet"):
        raise OSError("Input/output error (os error 5)")
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, "cells.parquet")
    with pytest.raises(ValueError, match="another"), naming("cells.parquet"):
        raise ValueError("another")
