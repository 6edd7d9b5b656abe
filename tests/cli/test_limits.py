"""Limits of the system below which a command cannot run: one line, exit code 4."""

import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tifffile
from click.testing import CliRunner
from tiny_model import field_of_squares

from unetbio.cli import limits
from unetbio.cli.main import main


@pytest.fixture
def line(tmp_path: Path, tiny_model: Path) -> list[str]:
    """Arguments of a segmentation."""
    tifffile.imwrite(tmp_path / "a.tif", field_of_squares(0), metadata=None)
    return ["segment", str(tmp_path / "a.tif"), "-o", str(tmp_path / "out"), "-m", str(tiny_model)]


def test_too_little_virtual_memory_is_4(line: list[str], tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30,) * 2)"
    limited = f"{limit}; from unetbio.cli.main import main; main({line})"
    result = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False)
    assert result.returncode == 4
    assert result.stderr == (
        f"unetbio: error: the limit of virtual memory (ulimit -v) is {1 << 30} bytes, {limits.ADDRESS_SPACE} are "
        "needed: raise it; a container, or --mem of a job, limits the memory that is used instead\n"
    )
    assert not (tmp_path / "out").exists()


def test_too_few_threads_are_4(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def refuse(thread: threading.Thread) -> None:
        if len(started) == 5:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 4
    assert "starts 4 threads and no more" in result.stderr
    assert "ulimit -u" in result.stderr


def test_no_limit_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    limits.check_limits()
