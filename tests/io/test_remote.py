"""Inputs at addresses: fetched once, read as files, recorded; and refused in one line where a package is missing."""

import csv
import functools
import http.server
import io
import json
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray

from unetbio.batch.plan import read_table
from unetbio.cli.main import main
from unetbio.errors import ImageError, UsageError
from unetbio.files import lock, public_address
from unetbio.io import find_inputs, read_image, remote, write_labels
from unetbio.io.list_images import find_images
from unetbio.preprocessing.drawn_regions import read_regions
from unetbio.provenance import read_provenance
from unetbio.settings.regions import is_region_file
from unetbio.settings.segmentation import Settings
from unetbio.training.data.pairs import find_pairs

GREY = np.arange(63, dtype=np.uint16).reshape(7, 9)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def as_tiff(pixels: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels)
    return stream.getvalue()


@pytest.fixture
def storage() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    files.pipe({"/plate/a/x.tif": as_tiff(GREY), "/plate/y.tif": as_tiff(GREY[::-1]), "/plate/note.txt": b"1"})
    yield files
    files.rm("/", recursive=True)


def listed(*addresses: str) -> dict[str, Path]:
    return {item.relative.as_posix(): item.path for item in find_inputs(addresses)}


def test_files_folders_and_patterns_are_read(storage: Any) -> None:
    found = listed("memory://plate")
    assert list(found) == ["a/x.tif", "y.tif"]
    np.testing.assert_array_equal(read_image(found["a/x.tif"]).read(), GREY)
    assert list(listed("memory://plate/y.tif")) == ["y.tif"]
    assert list(listed("memory://plate/*/x.t*")) == ["a/x.tif"]
    np.testing.assert_array_equal(read_image("memory://plate/y.tif").read(), GREY[::-1])
    np.testing.assert_array_equal(read_image(Path("memory://plate/y.tif")).read(), GREY[::-1])


def test_a_storage_is_searched_as_this_machine(storage: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Masks beside their images, results of runs and hidden files are no images; a file by its own address is."""
    caplog.set_level("INFO")
    others = ("plate/masks/y.tif", "plate/y_mask.tif", "plate/y_labels.ome.tif", "plate/._y.tif", "plate/.cache/y.tif")
    storage.pipe({f"/{name}": as_tiff(GREY) for name in others})
    storage.pipe({f"/plate/{name}": b"1" for name in ("out/run.jsonl", "out/overlays/a/x.labels.jpg")})
    # Of no run, since no journal lies beside the folder.
    storage.pipe({"/plate/mine/overlays/x.jpg": b"1"})
    assert list(listed("memory://plate")) == ["a/x.tif", "mine/overlays/x.jpg", "y.tif"]
    storage.rm("/plate/mine", recursive=True)
    assert list(listed("memory://plate/y*.tif")) == ["y.tif"]
    assert list(listed("memory://plate/y_m*.tif")) == ["y_mask.tif"]
    assert list(listed("memory://plate/y_labels.ome.tif")) == ["y_labels.ome.tif"]
    assert len(find_inputs(["memory://plate"], masks=True)) == 4
    assert "2 files left out, such as memory:/plate/" in caplog.text
    assert ": masks of the images beside them; give their folder by itself" in caplog.text
    assert "1 file left out, such as memory:/plate/y_labels.ome.tif: names ending in _labels" in caplog.text
    assert "fetching memory://plate/._y.tif" not in caplog.text


def test_plates_at_addresses_are_those_of_folders(storage: Any) -> None:
    storage.pipe({f"/p1/Images/r01c01f01p01-ch{n}sk1fk1fl1.tiff": as_tiff(GREY) for n in (1, 2)})
    for address in ("memory://p1", "memory://p1/Images", "memory://p1/Images/*.tiff"):
        (image,) = find_images([address])
        assert (image.place["plate"], image.place["well"], len(image.files)) == ("p1", "A01", 2)
    storage.pipe({f"/p2/TimePoint_1/ZStep_{z}/9987_B02_s1_w1.TIF": as_tiff(GREY + z) for z in (1, 2)})
    (stack,) = find_images(["memory://p2"])
    assert (stack.relative.as_posix(), stack.place["plate"]) == ("9987_B02_s1", "9987")
    assert stack.image_set is not None
    np.testing.assert_array_equal(stack.image_set.open().read(), [GREY + 1, GREY + 2])


def test_what_has_not_changed_is_fetched_once(storage: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for _ in range(2):
        read_image("memory://plate/y.tif")
    assert caplog.messages == ["fetching memory://plate/y.tif"]
    storage.pipe("/plate/y.tif", as_tiff(GREY + 1))
    np.testing.assert_array_equal(read_image("memory://plate/y.tif").read(), GREY + 1)


def test_a_zarr_folder_is_an_image(tmp_path: Path, storage: Any) -> None:
    write_labels(tmp_path / "z.ome.zarr", GREY)
    storage.put(str(tmp_path / "z.ome.zarr"), "/plate/z.ome.zarr", recursive=True)
    assert list(listed("memory://plate")) == ["a/x.tif", "y.tif", "z.ome.zarr"]
    for _ in range(2):
        (path,) = listed("memory://plate/z.ome.zarr").values()
        np.testing.assert_array_equal(read_image(path, labels=True).read(), GREY)


def test_rows_of_tables_may_be_addresses(tmp_path: Path, storage: Any) -> None:
    (tmp_path / "t.csv").write_text("image,mask\nmemory://plate/a/x.tif,memory://plate/y.tif\n")
    (item,) = read_table(tmp_path / "t.csv", Settings())
    assert (item.path, item.labels) == ("x.tif", "x_labels.ome.tif")
    (pair,) = find_pairs([tmp_path / "t.csv"]).training
    np.testing.assert_array_equal(read_image(pair.mask).read(), GREY[::-1])


def test_files_of_regions_may_be_addresses(tmp_path: Path, storage: Any) -> None:
    ring = [[1, 0], [3, 0], [3, 2], [1, 2], [1, 0]]
    drawn = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"name": "edge"}}
    storage.pipe("/plate/drawn.geojson", json.dumps(drawn).encode())
    address = "memory://plate/drawn.geojson"
    (tmp_path / "t.csv").write_text(f"image,image_region\nmemory://plate/a/x.tif,{address}\n")
    (item,) = read_table(tmp_path / "t.csv", Settings())
    assert (item.path, item.place["region_name"]) == ("x.tif#xywh=1,0,2,2", "edge")
    assert [str(given.region) for given in read_regions([address])] == ["1,0,2,2"]
    assert is_region_file("https://example.org/drawn.geojson?token=1")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "memory://plate/none.tif",
            "memory://plate/none.tif holds no image: give the address of a file, or of a folder",
        ),
        ("nosuch://plate/x.tif", "nosuch://plate/x.tif is not on this machine: download it first"),
    ],
)
def test_addresses_that_lead_nowhere(storage: Any, address: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        find_inputs([address])


def test_without_the_package_one_line_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=r'^s3://b/x.tif is not on this machine: .* pip install "unetbio\[remote\]"'):
        find_inputs(["s3://b/x.tif"])


def test_files_of_this_machine_are_no_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("x.tif", "/a/x.tif", "C:/a/x.tif", "C:\\a\\x.tif", "a:b.tif"):
        assert not remote.is_address(path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    tifffile.imwrite(tmp_path / "s3:" / "x.tif", GREY)
    np.testing.assert_array_equal(read_image("s3:/x.tif").read(), GREY)


def test_names_that_lead_out_of_a_folder_are_left_out(storage: Any, cache: Path) -> None:
    storage.store["/plate/a/../../../evil.tif"] = storage.store["/plate/y.tif"]
    assert list(listed("memory://plate")) == ["a/x.tif", "y.tif"]
    assert remote._target_of("s3://bucket/..").name == "image"
    assert cache in remote._target_of("s3://bucket/a/..").parents


SECRET = "https://user:secret@127.0.0.1:1/a/x.tif?X-Amz-Signature=secret/secret"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (SECRET, "https://127.0.0.1:1/a/x.tif"),
        ("https:/user:secret@host/x.tif", "https://host/x.tif"),
        ("zip://x.tif::ftp://user:secret@host/x.zip", "zip://x.tif::ftp://host/x.zip"),
        ("file:///a@b/x.tif", "file:///a@b/x.tif"),
    ],
)
def test_public_addresses_hold_no_password(address: str, public: str) -> None:
    assert public_address(remote._with_two_slashes(address)) == public


def test_no_password_reaches_tables_and_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason='needs aiohttp: pip install "unetbio[remote]"')
    (item,) = find_inputs([SECRET])
    assert (item.path, item.relative.as_posix()) == (Path("https://127.0.0.1:1/a/x.tif"), "x.tif")
    assert "secret" not in str(item.error)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=r"^https://127\.0\.0\.1:1/a/x\.tif is not on this machine"):
        find_inputs([SECRET])


def test_files_of_this_machine_have_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    tifffile.imwrite(tmp_path / "x.tif", GREY)
    for address in (f"file://{tmp_path}", f"file://{tmp_path}/x.tif"):
        assert list(listed(address)) == ["x.tif"]
    np.testing.assert_array_equal(read_image(Path(f"file://{tmp_path}/x.tif")).read(), GREY)


@pytest.mark.parametrize("address", ["ftp://127.0.0.1:1/x.tif", "github://a/x.tif", "zip:///none.zip/x.tif"])
def test_an_address_that_cannot_be_listed_fails_alone(storage: Any, address: str) -> None:
    failed, well = find_inputs([address, "memory://plate/y.tif"])
    assert (failed.relative.as_posix(), well.error) == ("x.tif", None)
    assert f"{address} cannot be fetched: " in str(failed.error)


def test_a_new_version_of_a_folder_leaves_the_old_one(
    tmp_path: Path, storage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    found = []
    for pixels in (GREY, GREY[::-1]):
        write_labels(tmp_path / "z.ome.zarr", pixels)
        if storage.exists("/plate/z.ome.zarr"):
            storage.rm("/plate/z.ome.zarr", recursive=True)
        storage.put(str(tmp_path / "z.ome.zarr"), "/plate/z.ome.zarr", recursive=True)
        found += [remote.local_path("memory://plate/z.ome.zarr") for _ in range(2)]
    assert found[0] == found[1] != found[2] == found[3]
    assert caplog.messages == ["fetching memory://plate/z.ome.zarr"] * 2
    np.testing.assert_array_equal(read_image(found[0], labels=True).read(), GREY)
    np.testing.assert_array_equal(read_image(found[2], labels=True).read(), GREY[::-1])
    assert remote.address_of(found[0]) == "memory://plate/z.ome.zarr"


def test_runs_wait_for_one_that_copies(storage: Any, cache: Path) -> None:
    target = remote._target_of("memory://plate/y.tif")
    with lock(target.with_name(".y.tif.lock")):
        thread = threading.Thread(target=remote.local_path, args=["memory://plate/y.tif"])
        thread.start()
        thread.join(0.05)
        assert (thread.is_alive(), target.exists()) == (True, False)
    thread.join()
    assert target.exists()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *line: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server of this machine, and its folder."""
    pytest.importorskip("aiohttp", reason='needs aiohttp: pip install "unetbio[remote]"')
    (tmp_path / "web").mkdir()
    handler = functools.partial(_Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", tmp_path / "web"
        running.shutdown()
        thread.join()


def test_images_of_a_web_server_are_segmented_and_recorded(
    tmp_path: Path, server: tuple[str, Path], tiny_model: Path, discs: NDArray[Any]
) -> None:
    """One that is not there fails alone, and the same command keeps what is done."""
    address, folder = server
    tifffile.imwrite(folder / "x.tif", discs)
    out = tmp_path / "out"
    line = ["segment", f"{address}/x.tif", f"{address}/gone.tif", "-o", str(out), "-m", str(tiny_model)]
    for _ in range(2):
        result = CliRunner().invoke(main, [*line, "--workers", "1"])
        assert result.exit_code == 3, result.stderr
        assert result.stdout == f"2 images, 3 cells, 1 failed: {out / 'summary.csv'}\n"
        assert f"{address}/gone.tif cannot be fetched: FileNotFoundError" in result.stderr
    provenance = read_provenance(out / "x_labels.json")
    assert provenance is not None
    assert (provenance.input.address, provenance.input.path) == (f"{address}/x.tif", "x.tif")
    assert provenance.input.fingerprint.size == (folder / "x.tif").stat().st_size
    journal = [json.loads(text) for text in (out / "run.jsonl").read_text().splitlines()]
    assert [row["status"] for row in journal if row["path"] == "x.tif"] == ["done", "skipped"]


def test_a_broken_connection_is_one_line(server: tuple[str, Path]) -> None:
    with pytest.raises(ImageError, match=r"^http://127\.0\.0\.1:1/x\.tif cannot be fetched: "):
        read_image("http://127.0.0.1:1/x.tif")


def test_images_and_masks_of_a_training_may_be_addresses(storage: Any) -> None:
    storage.pipe({"/plate/masks/y_mask.tif": as_tiff(GREY // 10)})
    two = find_pairs([Path("memory://plate/y.tif"), Path("memory://plate/masks/y_mask.tif")]).training
    storage.pipe({"/set/images/y.tif": as_tiff(GREY), "/set/masks/y.tif": as_tiff(GREY // 10)})
    one = find_pairs([Path("memory://set")]).training
    for pairs in (one, two):
        ((image, mask, *_),) = pairs
        assert image.name == "y.tif"
        np.testing.assert_array_equal(read_image(mask).read(), GREY // 10)
    with pytest.raises(UsageError, match=r"^memory:/+set/t\.csv: a table has to lie on this machine"):
        find_pairs([Path("memory://set/t.csv")])


@pytest.mark.parametrize("command", ["train", "calibrate", "compare", "learn-curve"])
def test_commands_that_train_fetch_addresses(tmp_path: Path, command: str) -> None:
    addresses = [f"http://127.0.0.1:1/{name}.tif" for name in "xm"]
    given = {"calibrate": ["nuclei"], "compare": ["--networks", "unet"]}.get(command, [])
    result = CliRunner().invoke(main, [command, *given, *addresses, "-o", str(tmp_path / "out.safetensors")])
    assert result.exit_code == 3
    assert "http://127.0.0.1:1/x.tif cannot be fetched" in result.stderr


def test_images_whose_copies_are_gone_stay_in_the_tables(
    storage: Any, tmp_path: Path, tiny_model: Path, cache: Path
) -> None:
    """The cache was cleaned, or is that of another machine."""
    storage.pipe({"/plate/z.tif": as_tiff(GREY.T)})
    out = tmp_path / "out"

    def rows(*addresses: str) -> list[str]:
        line = ["segment", *addresses, "-o", str(out), "-m", str(tiny_model), "--workers", "1"]
        result = CliRunner().invoke(main, line)
        assert result.exit_code == 0, result.output
        with open(out / "summary.csv", newline="", encoding="utf-8") as stream:
            return [row["path"] for row in csv.DictReader(stream)]

    both = rows("memory://plate/y.tif", "memory://plate/z.tif")
    shutil.rmtree(cache)
    assert rows("memory://plate/y.tif") == both == ["y.tif", "z.tif"]
