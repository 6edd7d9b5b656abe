"""Bands in files: what was kept is taken, damaged and outdated files are not."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unetbio.errors import EnvironmentStoppedError
from unetbio.results.band_files import BandFiles, remove_bands

FACTS = {"model": "a", "settings": {"t": 1}}


def arrays() -> list[NDArray[Any]]:
    """Decisions whose number is no multiple of eight, and bytes among which are line feeds."""
    rng = np.random.default_rng(0)
    return [rng.random((7, 11)) > 0.5, rng.integers(0, 256, (7, 11), dtype=np.uint8), np.zeros((3, 1), np.uint16)]


def check(files: BandFiles) -> None:
    found = files.take("0-7")
    assert found is not None
    for array, expected in zip(found, arrays(), strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype


def test_bands_are_taken_as_they_were_kept(tmp_path: Path) -> None:
    files = BandFiles(tmp_path, "a/x", FACTS)
    assert files.take("0-7") is None
    files.keep("0-7", arrays())
    check(files)
    check(BandFiles(tmp_path, "a/x", dict(reversed(FACTS.items()))))
    assert BandFiles(tmp_path, "a/y", FACTS).take("0-7") is None
    remove_bands(tmp_path, "a/x")
    assert not list(tmp_path.iterdir())


def test_damaged_bands_are_not_taken(tmp_path: Path) -> None:
    files = BandFiles(tmp_path, "x", FACTS)
    files.keep("0-7", arrays())
    (path,) = tmp_path.glob("*/*")
    content = path.read_bytes()
    for damaged in (content[:-1], b"", content[:40] + b"?" + content[41:]):
        path.write_bytes(damaged)
        assert files.take("0-7") is None


def test_bands_of_other_settings_are_removed(tmp_path: Path) -> None:
    BandFiles(tmp_path, "x", FACTS).keep("0-7", arrays())
    assert BandFiles(tmp_path, "x", {**FACTS, "model": "b"}).take("0-7") is None
    assert not list(tmp_path.glob("*/*"))


def test_a_full_disk_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    files = BandFiles(tmp_path, "x", FACTS)
    files.keep("0-7", arrays())
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EnvironmentStoppedError, match=r"cannot write .*: No space left on device"):
        files.keep("7-9", arrays())
    check(files)
