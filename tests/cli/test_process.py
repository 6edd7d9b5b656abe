"""Importing and using the library leaves the process as it is; the commands set what they need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unetbio.cli import process

RECORDED = """
import atexit, ctypes, gc, os
changes = []

class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name == "mallopt":
            changes.append(name)
        return super().__getattr__(name)

def umask(mask, original=os.umask):
    changes.append("umask")
    return original(mask)

def register(function, *arguments, original=atexit.register):
    if function is gc.freeze:
        changes.append("freeze")
    return original(function, *arguments)

ctypes.CDLL, os.umask, atexit.register = Library, umask, register
"""


def changes(code: str) -> list[str]:
    line = [sys.executable, "-c", f"{RECORDED}\n{code}\nprint(*changes)"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()[-1].split()


def test_the_library_changes_nothing(tmp_path: Path, tiny_model: Path) -> None:
    code = f"""
import numpy, unetbio, unetbio.cli.main, unetbio.cli.segment
from unetbio.files import atomic_folder, write_text
write_text({str(tmp_path / "a" / "a.txt")!r}, "a")
with atomic_folder({str(tmp_path / "b.zarr")!r}):
    pass
unetbio.segment(numpy.eye(40, dtype=numpy.uint8), {str(tiny_model)!r}, device="cpu")
"""
    assert changes(code) == []


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is a function of glibc")
def test_commands_set_what_they_need_once() -> None:
    code = """
from unetbio.cli.main import main
from unetbio.machine import keep_freed_memory
for _ in range(2):
    try:
        main(["samples", "--help"])
    except SystemExit:
        pass
    keep_freed_memory()
"""
    assert changes(code) == ["freeze", "mallopt"]


def test_libraries_start_no_more_threads_than_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"OMP_NUM_THREADS": "3"}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(process, "available_cores", lambda: 2)
    process.respect_quota()
    assert environment == dict.fromkeys(process.THREAD_VARIABLES, "2") | {"OMP_NUM_THREADS": "3"}
    environment.clear()
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    process.respect_quota()
    assert environment == {}, "without a quota libraries count for themselves"
