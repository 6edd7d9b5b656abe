"""Images that another process decodes: the same pixels, and one failed file where a codec crashes or hangs."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unetbio.errors import ImageError
from unetbio.io import decoder, decoding, read_image
from unetbio.io.decoding import decode_elsewhere
from unetbio.preprocessing import grey_values
from unetbio.preprocessing.lazy import LazyPixels

STACK = np.random.default_rng(0).integers(0, 60000, (2, 3, 32, 40), dtype=np.uint16)


@pytest.fixture(autouse=True)
def _decoded_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As commands do, and other tests do not."""
    monkeypatch.setattr(decoding, "PLATFORMS", ("linux",))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "stack \udc80.ome.tif"
    options = {"axes": "CZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Channel": {"Name": ["a", "b"]}}
    tifffile.imwrite(path, STACK, metadata=options)
    return path


def children_of(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def decoders() -> list[int]:
    """Processes that decode for this one."""
    found = children_of(os.getpid())
    return [child for child in found if b"unetbio.io.decoder" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_another_process_gives_the_same_image(image: Path) -> None:
    here = read_image(image)
    with decode_elsewhere(60):
        there = read_image(image)
        assert decoders()
        # Only the reader of the pixels differs.
        assert {**vars(there), "pixels": None} == {**vars(here), "pixels": None}
        assert there.files == here.files
        assert there.not_stored is None
        np.testing.assert_array_equal(there.read(), here.read())
        np.testing.assert_array_equal(there.read(c=1, z=2, y=slice(3, 9)), STACK[1, 2, 3:9])
    assert not decoders()


def test_refusals_are_the_same(image: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(b"no image")
    for path, options in ((tmp_path / "x.tif", {}), (tmp_path / "none.tif", {}), (image, {"series": 3})):
        with pytest.raises(ImageError) as here:
            read_image(path, **options)
        with decode_elsewhere(60), pytest.raises(ImageError) as there:
            read_image(path, **options)
        assert (there.value.reason, str(there.value)) == (here.value.reason, str(here.value))


def test_the_cause_of_a_refusal_is_told(image: Path, tmp_path: Path) -> None:
    """By it, masks that the system does not hand out and those of unknown codecs are kept, and broken ones are not."""
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    with tifffile.TiffFile(image, mode="r+") as tif:
        tif.pages.first.tags["Compression"].overwrite(34677)
    with decode_elsewhere(60):
        with pytest.raises(ImageError) as refused:
            read_image(tmp_path / "loop.tif")
        with pytest.raises(ImageError) as no_codec:
            read_image(image).read()
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno == errno.ELOOP
    assert "COMPRESSION" in str(no_codec.value.__cause__)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError(13, "Permission denied"), PermissionError),
        (OSError(5, "Input/output error"), OSError),
        (ImportError("no codec"), ImportError),
        (ValueError("torn"), RuntimeError),
    ],
)
def test_causes_are_sent_as_what_they_are(error: Exception, kind: type[Exception]) -> None:
    cause = decoding._cause(*decoder._described_cause(error))
    assert type(cause) is kind
    assert str(cause) == str(error)


def test_a_file_that_was_replaced_is_opened_again(image: Path, tmp_path: Path) -> None:
    with decode_elsewhere(60):
        np.testing.assert_array_equal(read_image(image).read(), STACK)
        tifffile.imwrite(tmp_path / "other.tif", STACK[0, 0, :16], compression="zlib")
        (tmp_path / "other.tif").replace(image)
        np.testing.assert_array_equal(read_image(image).read(), STACK[0, 0, :16])


def test_a_process_that_dies_costs_one_file(image: Path) -> None:
    with decode_elsewhere(60):
        opened = read_image(image)
        os.kill(decoders()[0], signal.SIGKILL)
        with pytest.raises(ImageError, match="the process that decoded it died") as caught:
            opened.read()
        assert caught.value.reason == "decoding_failed"
        # The next process opens the image again.
        np.testing.assert_array_equal(opened.read(), STACK)


def test_a_process_that_is_stopped_is_noticed_within_five_seconds(image: Path) -> None:
    with decode_elsewhere(60):
        opened = read_image(image)
        os.kill(decoders()[0], signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(ImageError, match="was stopped"):
            opened.read()
        assert time.monotonic() - start < 5
        np.testing.assert_array_equal(opened.read(), STACK)


def test_a_codec_that_takes_too_long_is_ended(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(decoding._Process, "_is_stopped", lambda self: False)
    with decode_elsewhere(60):
        opened = read_image(image)
        decoding._pools[-1]._idle[-1]._seconds = 0.5
        os.kill(decoders()[0], signal.SIGSTOP)
        with pytest.raises(ImageError, match=r"decoding took longer than 0\.5 s: .* --decode-timeout") as caught:
            opened.read()
        assert caught.value.reason == "decoding_timeout"


def test_threads_have_processes_of_their_own(image: Path) -> None:
    with decode_elsewhere(60):
        opened = read_image(image)
        found: list[bool] = []
        threads = [threading.Thread(target=lambda: found.append((opened.read() == STACK).all())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 3
    assert not decoders()


@pytest.mark.parametrize(
    ("options", "apart"),
    [
        ({"tile": (16, 16), "compression": "zlib"}, True),
        ({"rowsperstrip": 16, "compression": "zlib"}, True),
        ({"rowsperstrip": 32, "compression": "zlib"}, False),
        ({}, True),
    ],
)
def test_windows_are_apart_where_a_plane_is_not_unpacked_as_a_whole(
    tmp_path: Path, options: dict[str, object], apart: bool
) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, STACK[0], photometric="minisblack", **options)
    assert read_image(path, axes="ZYX").pixels.windows_apart is apart
    with decode_elsewhere(60):
        image = read_image(path, axes="ZYX")
        assert image.pixels.windows_apart is apart
        pixels = LazyPixels(image, None, None, (0,), (3, 32, 40))
        assert (pixels.unkept is not None) is apart


def test_threads_that_count_read_two_windows_at_once(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grey_values, "available_cores", lambda: 8)
    monkeypatch.setattr(grey_values, "BLOCK_PIXELS", 1)
    with decode_elsewhere(60):
        opened = read_image(image)
        pixels = LazyPixels(opened, None, None, (0, 1), (3, 32, 40))
        for _ in range(8):
            blocks = list(grey_values.row_blocks(pixels))
            np.testing.assert_array_equal(np.concatenate(blocks, axis=1), STACK)
        assert len(decoders()) <= 2
        # One thread is answered by one process, which keeps what it has unpacked.
        answered = set()
        for z in range(3):
            opened.read(z=z)
            answered.add(decoding._pools[-1]._idle[-1])
        assert len(answered) == 1


def test_zero_decodes_in_this_process(image: Path) -> None:
    with decode_elsewhere(0):
        np.testing.assert_array_equal(read_image(image).read(), STACK)
        assert not decoders()


def test_a_killed_run_leaves_no_process(image: Path) -> None:
    script = (
        "import sys, time\nfrom unetbio.io import read_image\nfrom unetbio.io.decoding import decode_elsewhere\n"
        "with decode_elsewhere(60):\n    read_image(sys.argv[1])\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, os.fsencode(image)], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        children = children_of(run.pid)
        run.kill()
    assert children
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_limit_of_memory_that_holds_already_stays(image: Path) -> None:
    script = (
        "import resource, sys\nfrom unetbio.io import read_image\nfrom unetbio.io.decoding import decode_elsewhere\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "with decode_elsewhere(60):\n    print(read_image(sys.argv[1]).read().sum())\n"
    )
    run = subprocess.run([sys.executable, "-c", script, os.fsencode(image)], capture_output=True, check=True)
    assert int(run.stdout) == STACK.sum()
