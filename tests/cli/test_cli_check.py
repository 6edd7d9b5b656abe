"""``unetbio check``: what is found in a folder, what is said, and the table."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio.checking import file_report as surveying
from unetbio.cli.main import main
from unetbio.io import Image, read_image, write_image, write_labels
from unetbio.models.model_file import load_model, read_info, save_model
from unetbio.results import items
from unetbio.samples import write_samples

Check = Callable[..., Result]


@pytest.fixture
def images(tmp_path: Path, discs: np.ndarray) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in (("a", discs), ("b", discs[::-1])):
        write_image(folder / f"{name}.tif", image, axes="YX", pixel_size_um={"Y": 0.5, "X": 0.5})
    return folder


@pytest.fixture
def check(images: Path, tiny_model: Path) -> Check:
    def invoke(*arguments: str, inputs: tuple[str, ...] | None = None) -> Result:
        given = (str(images),) if inputs is None else inputs
        return CliRunner().invoke(main, ["check", *given, "-m", str(tiny_model), "--workers", "2", *arguments])

    return invoke


def findings(result: Result) -> list[tuple[str, str]]:
    return [(Path(found["path"]).name, found["code"]) for found in json.loads(result.stdout)["findings"]]


def test_good_images_are_counted(check: Check) -> None:
    result = check()
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "2 images of Y=64 X=80 uint8, 0.5 um a pixel",
        "2 images, 0 unreadable, 0 findings in 0 files",
    ]


def test_a_finding_is_a_line_and_3(check: Check, images: Path) -> None:
    (images / "c.tif").write_bytes(b"")
    result = check()
    assert result.exit_code == 3
    path = images / "c.tif"
    assert result.stdout.splitlines()[1:] == [
        f"{path}: unreadable: the file is empty (0 bytes): copy or write it again",
        "3 images, 1 unreadable, 1 finding in 1 file",
    ]
    assert check("--failed-ok").exit_code == 0


def test_every_pixel_is_decoded(check: Check, images: Path) -> None:
    # The last of many compressed strips is damaged: nothing short of decoding it all can tell.
    path = images / "c.tif"
    noise = np.random.default_rng(0).integers(0, 255, (400, 400), np.uint8)
    tifffile.imwrite(path, noise, compression="zlib", rowsperstrip=16)
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[-1], tif.pages[0].databytecounts[-1]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = bytes(count)
    path.write_bytes(content)
    result = check("--json")
    assert ("c.tif", "unreadable") in findings(result)
    assert json.loads(result.stdout)["unreadable"] == 1


def test_further_images_of_a_file_are_decoded(check: Check, images: Path) -> None:
    path = images / "c.ome.tif"
    noise = np.random.default_rng(0).integers(0, 255, (64, 80), np.uint8)
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(noise, compression="zlib")
        tif.write(noise[::-1], compression="zlib")
    assert findings(check("--json")) == []
    with tifffile.TiffFile(path) as opened:
        offset, count = opened.series[1].pages[0].dataoffsets[0], opened.series[1].pages[0].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = bytes(count)
    path.write_bytes(content)
    result = check("--json")
    assert ("c.ome.tif (series 1)", "unreadable") in findings(result)
    assert findings(check("--json", "--series", "0")) == []


def test_duplicates_are_found_in_any_container(
    check: Check, images: Path, discs: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "c.png").write_bytes(imagecodecs.png_encode(discs))
    tifffile.imwrite(images / "d.tif", discs, compression="zlib", tile=(16, 16), byteorder=">")
    write_labels(images / "e.nii.gz", discs)
    tifffile.imwrite(images / "f.tif", discs.astype(np.uint16))
    expected = [*((name, "duplicate") for name in ("c.png", "d.tif", "e.nii.gz")), ("f.tif", "odd_kind")]
    assert findings(check("--json")) == expected
    # Windows do not change what is the same.
    monkeypatch.setattr(surveying, "WINDOW_BYTES", 1)
    monkeypatch.setattr(surveying, "WINDOW_ROWS", 7)
    assert findings(check("--json")) == expected


def test_names_that_collide_are_found(check: Check, images: Path, discs: np.ndarray) -> None:
    (images / "A.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(discs[:, ::-1])))
    result = check()
    assert result.exit_code == 3
    (line,) = [line for line in result.stdout.splitlines() if "name_collision" in line]
    assert line == (
        f"{images / 'a.tif'}: name_collision: would be written to a_labels.ome.tif, as {images / 'A.png'} would: "
        "rename one, or use two output folders"
    )


def test_what_does_not_fit_the_model_is_found(check: Check, images: Path, discs: np.ndarray) -> None:
    write_image(images / "colour.tif", np.stack([discs, discs + 1]), axes="CYX", channel_names=("DAPI", "GFP"))
    write_image(images / "stack.tif", np.stack([discs, discs + 2]), axes="ZYX")
    write_image(images / "small.tif", discs[:20, :20], axes="YX")
    write_image(images / "wide.tif", discs + 4, axes="YX", pixel_size_um={"Y": 5.0, "X": 5.0})
    found = findings(check("--json"))
    assert found == [
        ("colour.tif", "wrong_channels"),
        ("small.tif", "too_small"),
        ("stack.tif", "wrong_axes"),
        ("wide.tif", "odd_pixel_size"),
    ]
    assert ("colour.tif", "wrong_channels") not in findings(check("--json", "--channel", "0"))
    # A diameter that is given is no question of the pixel size.
    assert "odd_pixel_size" not in {code for _, code in findings(check("--json", "--diameter", "60"))}


def test_grey_values_that_say_nothing_are_found(check: Check, images: Path, discs: np.ndarray) -> None:
    write_image(images / "black.tif", np.zeros_like(discs), axes="YX")
    write_image(images / "black2.tif", np.zeros_like(discs), axes="YX")
    bright = discs.copy()
    bright[:2] = 255
    write_image(images / "saturated.tif", bright, axes="YX")
    broken = discs.astype(np.float32)
    broken[3, 3] = np.nan
    write_image(images / "nan.tif", broken, axes="YX")
    assert sorted(findings(check("--json"))) == [
        ("black.tif", "constant"),
        ("black2.tif", "constant"),
        ("nan.tif", "not_finite"),
        ("nan.tif", "odd_kind"),
        ("saturated.tif", "saturated"),
    ]


def test_the_table_has_a_row_a_file(check: Check, images: Path, tmp_path: Path, discs: np.ndarray) -> None:
    (images / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write_image(images / "saturated.tif", np.maximum(discs, 255 * (discs > 100)).astype(np.uint8), axes="YX")
    assert check("-o", str(tmp_path / "out")).stdout.endswith(
        f"2 findings in 2 files: {tmp_path / 'out' / 'check.csv'}\n"
    )
    with open(tmp_path / "out" / "check.csv", newline="") as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    assert list(rows) == ["a.tif", "b.tif", "bad.png", "saturated.tif"]
    assert rows["a.tif"] | {"pixel_hash": ""} == {
        "path": "a.tif",
        "status": "ok",
        "code": "",
        "message": "",
        "axes": "YX",
        "shape": "64 80",
        "dtype": "uint8",
        "pixel_size_um": "Y=0.5 X=0.5",
        "pixel_size_trusted": "True",
        "series": "",
        "series_count": "1",
        "low": "10",
        "median": "10",
        "high": "200",
        "pixel_hash": "",
    }
    assert (rows["bad.png"]["status"], rows["bad.png"]["code"]) == ("unreadable", "truncated")
    assert (rows["saturated.tif"]["status"], rows["saturated.tif"]["code"]) == ("found", "saturated")


def test_a_table_of_images_carries_its_columns(check: Check, images: Path, tmp_path: Path) -> None:
    table = images / "plate.csv"
    table.write_text("image,well,pixel_size_um\na.tif,A01,0.5\nmissing.tif,A02,\n")
    result = check("--table", str(table), "-o", str(tmp_path / "out"), inputs=())
    assert result.exit_code == 3
    with open(tmp_path / "out" / "check.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["well"], row["status"]) for row in rows] == [("A01", "ok"), ("A02", "unreadable")]
    assert check("--table", str(table)).exit_code == 2
    assert check(inputs=()).exit_code == 2


def test_what_is_known_is_not_read_again(
    check: Check, images: Path, tmp_path: Path, discs: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is new, that has changed, or that could not be read; the answer is that of a check of them all."""
    cache = tmp_path / "known" / "check.jsonl"
    (images / "bad.tif").write_bytes(b"")
    first = check("--json", "--cache", str(cache))
    read: list[str] = []

    def reading(path: Path, **options: object) -> Image:
        read.append(Path(path).name)
        return read_image(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(items, "read_image", reading)
    assert check("--json", "--cache", str(cache)).stdout == first.stdout
    assert read == ["bad.tif"]
    write_image(images / "b.tif", discs[:, ::-1], axes="YX", pixel_size_um={"Y": 0.5, "X": 0.5})
    write_image(images / "c.tif", discs[::-1, ::-1], axes="YX", pixel_size_um={"Y": 0.5, "X": 0.5})
    read.clear()
    # Somebody was killed while writing to it.
    with open(cache, "a") as stream:
        stream.write('{"format": 1, "inp')
    known = check("--json", "--cache", str(cache)).stdout
    assert sorted(read) == ["b.tif", "bad.tif", "c.tif"]
    assert known == check("--json").stdout
    read.clear()
    check("--cache", str(cache), "--t", "0")
    assert sorted(read) == ["a.tif", "b.tif", "bad.tif", "c.tif"]


def test_a_cache_that_cannot_be_written_is_4(check: Check, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = check("--cache", str(tmp_path / "file" / "check.jsonl"))
    assert result.exit_code == 4
    assert "check.jsonl" in result.stderr


def test_a_cache_is_never_written_over_an_image(check: Check, images: Path, tmp_path: Path) -> None:
    """Nor over a table, nor into a folder that is an image, nor over any file that is something else."""
    image = images / "a.tif"
    content = image.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(image)
    (tmp_path / "hard.jsonl").hardlink_to(image)
    (images / "empty.tif").touch()
    for cache in (image, tmp_path / "link.jsonl", tmp_path / "hard.jsonl", images / "empty.tif"):
        result = check("--cache", str(cache))
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert "an image of this check: give another file" in result.stderr
    assert image.read_bytes() == content
    assert (images / "empty.tif").read_bytes() == b""
    folder = tmp_path / "x.zarr"
    result = check("--cache", str(folder / "check.jsonl"), inputs=(str(image), str(folder)))
    assert not (folder / "check.jsonl").exists()
    table = images / "plate.csv"
    table.write_text("image\na.tif\n")
    result = check("--table", str(table), "--cache", str(table), inputs=())
    assert (result.exit_code, "a table of this check: give another file" in result.stderr) == (2, True)
    result = check("-o", str(tmp_path / "out"), "--cache", str(tmp_path / "out" / "check.csv"))
    assert (result.exit_code, "a table of this check" in result.stderr) == (2, True)
    other = tmp_path / "other.tif"
    for text in (content, b"\0" * 5000, b'{\n  "format": 2\n}\n', b'{"format": 2}\n', b"[1]\n"):
        other.write_bytes(text)
        result = check("--cache", str(other))
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert f"--cache {other} is not a cache of check: give a new file" in result.stderr
        assert other.read_bytes() == text
    # What is empty, what a kill has torn, and what another version has written are taken.
    old = b'{"format": 1, "input": "a", "files": {}, "facts": {}}\n'
    for text in (b"", b"\n", b'\n{"format": 2, "inp', b"\n{", old):
        other.write_bytes(text)
        assert check("--cache", str(other)).exit_code in (0, 3)
        assert other.read_bytes().startswith(text)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "zzz"},
        {"dtype": 3},
        {"dtype": "complex64"},
        {"axes": "XY"},
        {"axes": "CYX"},
        {"shape": [64]},
        {"shape": [0, 80]},
        {"shape": "ab"},
        {"shape": [10**400, 80]},
        {"pixel_size_um": {"Y": "0.5"}},
        {"pixel_size_um": {"Y": float("nan")}},
        {"series_count": 0},
        {"levels": []},
        {"levels": [{"lowest": 1}]},
        {"channel_names": [1]},
        {"pixel_hash": ""},
        {"not_stored": None},
        "facts",
        {"files": {}},
        {"files": {"other": [1, 2, 3]}},
        {"files": {"a\0b": [1, 2, 3]}},
        {"files": []},
        {"facts": None},
        {"format": "2"},
    ],
)
def test_what_is_odd_in_a_cache_is_looked_at_again(
    check: Check, images: Path, tmp_path: Path, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "check.jsonl"
    expected = check("--json", "--cache", str(cache)).stdout
    lines = [json.loads(line) for line in cache.read_text().splitlines() if line]
    for line in lines:
        if change == "facts":
            line["facts"]["levels"][0].update(pixels=0, at_highest=1, highest=255.0)
        else:
            (line if set(change) & set(line) else line["facts"]).update(change)
    cache.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read: list[str] = []

    def reading(path: Path, **options: object) -> Image:
        read.append(Path(path).name)
        return read_image(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(items, "read_image", reading)
    result = check("--json", "--cache", str(cache))
    assert (result.exit_code, result.stdout) == (0, expected)
    assert sorted(read) == ["a.tif", "b.tif"]


def test_grey_values_without_a_number_are_known(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = tmp_path / "nan.tif", tmp_path / "check.jsonl"
    write_image(path, np.full((40, 40), np.nan, np.float32), axes="YX")
    first = check("--json", "--cache", str(cache), inputs=(str(path),))
    monkeypatch.delattr(items, "read_image")
    assert check("--json", "--cache", str(cache), inputs=(str(path),)).stdout == first.stdout


def test_a_model_and_none(check: Check) -> None:
    result = check("--no-model")
    assert result.exit_code == 2
    assert "--no-model and --model" in result.stderr
    assert "give one of the two" in result.stderr


def test_grey_values_are_those_of_the_sections_that_are_segmented(
    check: Check, tmp_path: Path, discs: np.ndarray
) -> None:
    """One plane that is empty, one that is saturated, and the brightest of all."""
    saturated = np.full_like(discs, 255)
    stack = tmp_path / "stack.tif"
    write_image(stack, np.stack([np.zeros_like(discs), discs, saturated]), axes="ZYX")

    def levels(*options: str) -> tuple[list[str], str, str]:
        report = json.loads(check(*options, "--json", inputs=(str(stack),)).stdout)
        (row,) = report["files"]
        return [found["code"] for found in report["findings"]], row["median"], row["high"]

    assert levels("--z", "0") == (["constant"], "0", "0")
    assert levels("--z", "1") == ([], "10", "200")
    assert levels("--z", "max") == (["constant"], "255", "255")
    assert levels("--z", "each")[0] == ["saturated"]
    assert levels("--z", "7")[0] == ["no_such_index", "saturated"]
    moving = tmp_path / "moving.tif"
    write_image(moving, np.stack([discs, np.zeros_like(discs)]), axes="TYX")
    result = check("--t", "1", "--json", inputs=(str(moving),))
    assert findings(result) == [("moving.tif", "constant")]


def test_several_models_are_asked_and_named_where_they_differ(
    check: Check, images: Path, discs: np.ndarray, tiny_model: Path, tmp_path: Path
) -> None:
    write_image(images / "small.tif", discs[:20, :20], axes="YX")
    write_image(images / "colour.tif", np.stack([discs, discs + 1]), axes="CYX")
    other = tmp_path / "other.safetensors"
    save_model(
        other,
        read_info(tiny_model).model_copy(update={"name": "other", "cell_diameter_px": 5.0}),
        load_model(tiny_model).network,
    )
    found = json.loads(check("--json", "-m", str(other)).stdout)["findings"]
    assert [one["code"] for one in found] == ["wrong_channels", "too_small"]
    assert found[0]["message"].startswith("2 channels")
    assert found[1]["message"].startswith(f"with {tiny_model}: 20 pixels wide at the model's scale")


def test_regions_of_one_image_are_no_duplicates(check: Check, images: Path, tmp_path: Path) -> None:
    write_image(images / "c.tif", read_image(images / "a.tif").read(), axes="YX")
    table = tmp_path / "regions.csv"
    table.write_text('image,image_region\nimages/a.tif,"0,0,40,40"\nimages/a.tif,"40,20,40,40"\n')
    result = check("--json", "--table", str(table), inputs=())
    assert (result.exit_code, findings(result)) == (0, [])
    table.write_text(table.read_text() + 'images/c.tif,"0,0,40,40"\n')
    assert [name for name, code in findings(check("--json", "--table", str(table), inputs=())) if code == "duplicate"]


def test_without_a_model_files_are_compared_with_each_other(check: Check, images: Path, discs: np.ndarray) -> None:
    write_image(images / "small.tif", discs[:20, :20], axes="YX")
    write_image(images / "again.tif", discs[:20, :20], axes="YX")
    result = CliRunner().invoke(main, ["check", str(images), "--json", "--no-model", "--workers", "2"])
    assert findings(result) == [("small.tif", "duplicate")]


def test_windows_are_small_however_wide_the_image(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pixels are read, in pieces that follow from the width of a row."""
    path = tmp_path / "wide.tif"
    noise = np.random.default_rng(0).integers(0, 4000, (50, 3000), np.uint16)
    write_image(path, noise, axes="YX")
    expected = np.percentile(noise, (1, 50, 99.8), method="nearest")
    monkeypatch.setattr(surveying, "WINDOW_BYTES", 20_000)
    pieces: list[int] = []
    read = Image.read

    def reading(self: Image, **window: Any) -> np.ndarray:
        pieces.append(window["y"].stop - window["y"].start)
        return read(self, **window)

    monkeypatch.setattr(Image, "read", reading)
    (row,) = json.loads(check("--json", inputs=(str(path),)).stdout)["files"]
    assert [float(row[name]) for name in ("low", "median", "high")] == expected.tolist()
    assert pieces == [3] * 16 + [2]


def test_a_cut_gzip_stream_is_found(check: Check, images: Path, discs: np.ndarray) -> None:
    write_labels(images / "c.nii.gz", discs[:, ::-1])
    path = images / "c.nii.gz"
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole)[:-6])
    assert findings(check("--json")) == [("c.nii.gz", "truncated")]


def test_our_own_mistakes_are_a_finding(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(items, "read_image", fail)
    result = check()
    assert result.exit_code == 3
    assert result.stdout.count("internal: internal error (ZeroDivisionError: by zero)") == 2


def test_memory_is_a_finding(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(items, "read_image", fail)
    assert [code for _, code in findings(check("--json"))] == ["out_of_memory"] * 2


def test_the_shipped_model_knows_what_it_was_trained_on(tmp_path: Path) -> None:
    write_samples(tmp_path)
    nuclei = np.asarray(read_image(tmp_path / "confocal_z32.ome.tif").read()).squeeze()
    folder = tmp_path / "three"
    folder.mkdir()
    write_image(folder / "nuclei.tif", nuclei, axes="YX")
    write_image(folder / "inverted.tif", nuclei.max() - nuclei, axes="YX")
    noise = np.random.default_rng(0).poisson(100, nuclei.shape).astype(np.uint16)
    write_image(folder / "noise.tif", noise, axes="YX")
    result = CliRunner().invoke(main, ["check", str(folder), "--json"])
    assert result.exit_code == 3, result.stderr
    assert sorted(findings(result)) == [("inverted.tif", "odd_intensity"), ("noise.tif", "odd_intensity")]
    said = {Path(one["path"]).name: one["message"] for one in json.loads(result.stdout)["findings"]}
    assert said["inverted.tif"].endswith("dark things on a bright ground?")
    assert ": noise or haze, " in said["noise.tif"]


def test_real_images(shared_data: Path) -> None:
    line = ["check", str(shared_data / "bbbc039" / "val" / "images"), "--workers", "2", "--json"]
    result = CliRunner().invoke(main, line)
    found = {(Path(one["path"]).stem, one["code"]) for one in json.loads(result.stdout)["findings"]}
    # The one image without a nucleus, and two with debris that fills the detector's range.
    assert found == {(f"IXMtest_{name}", "odd_intensity") for name in ("L10_s6", "F22_s6", "L11_s4")}


def test_malformed_files_are_each_a_finding(shared_data: Path) -> None:
    folder = shared_data / "malformed"
    result = CliRunner().invoke(main, ["check", str(folder), "--workers", "2", "--json"])
    assert result.exit_code == 3
    report = json.loads(result.stdout)
    assert not [found for found in report["findings"] if found["code"] == "internal"]
    assert report["unreadable"] >= 25
