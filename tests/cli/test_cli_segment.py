"""``unetbio segment``: options, what is said where, exit codes."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from numpy.typing import NDArray
from segmented_folder import Invoke

from unetbio.cli.main import main
from unetbio.cli.options import format_count
from unetbio.provenance import read_provenance
from unetbio.segmentation import Segmenter

Array = NDArray[Any]


def settings_of(out: Path, name: str = "a") -> dict[str, Any]:
    provenance = read_provenance(out / f"{name}_labels.json")
    assert provenance is not None
    return provenance.settings


def test_a_run_ends_with_one_line(segment: Invoke, tmp_path: Path) -> None:
    result = segment()
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"2 images, 6 cells, 0 failed: {tmp_path / 'out' / 'summary.csv'}\n"
    assert result.stderr.splitlines()[0].startswith("unetbio: tiny in float32 on ")
    assert (tmp_path / "out" / "index.html").is_file()
    assert (tmp_path / "out" / "overlays" / "a.labels.jpg").is_file()


def test_thousands_stand_apart() -> None:
    assert format_count(41212, "cell") == "41 212 cells"
    assert format_count(1, "image") == "1 image"


def test_failures_are_a_line_each_and_3(segment: Invoke, images: Path) -> None:
    (images / "bad.tif").write_bytes(b"")
    result = segment()
    assert result.exit_code == 3
    assert result.stdout.startswith("3 images, 6 cells, 1 failed: ")
    lines = [line for line in result.stderr.splitlines() if "error" in line]
    assert lines == [
        f"unetbio: error: {images / 'bad.tif'}: the file is empty (0 bytes): copy or write it again [unreadable]"
    ]
    assert segment("--failed-ok").exit_code == 0


def test_a_constant_image_is_done_and_named(segment: Invoke, images: Path, tmp_path: Path) -> None:
    tifffile.imwrite(images / "c.tif", np.full((20, 30), 7, np.uint8))
    result = segment()
    assert result.exit_code == 0
    assert f"warning: {images / 'c.tif'}: one grey value everywhere: no cells [constant]" in result.stderr
    with open(tmp_path / "out" / "summary.csv", newline="") as stream:
        row = list(csv.DictReader(stream))[-1]
    assert (row["n_cells"], row["status"], row["warnings"]) == ("0", "done", "no_cells constant")


def test_an_edited_mask_is_named(segment: Invoke, tmp_path: Path) -> None:
    segment()
    path = tmp_path / "out" / "a_labels.ome.tif"
    tifffile.imwrite(path, np.zeros((64, 80), np.uint16))
    kept = "was edited by hand or has no provenance, and is kept (--overwrite-edited replaces it)"
    assert f"a_labels.ome.tif {kept}" in segment().stderr
    assert segment("--overwrite-edited").stdout.startswith("2 images, 6 cells")


def test_a_mask_without_provenance_is_named(segment: Invoke, tmp_path: Path) -> None:
    segment()
    (tmp_path / "out" / "b_labels.json").unlink()
    assert "b_labels.ome.tif was edited by hand or has no provenance, and is kept" in segment().stderr
    assert "the mask was edited by hand or has no provenance" in (tmp_path / "out" / "index.html").read_text()


def test_an_output_folder_among_the_images_is_passed_over_quietly(segment: Invoke, images: Path) -> None:
    out = ["-o", str(images / "out"), "--save-probabilities"]
    first = segment(*out)
    for again in (segment(*out), segment("-o", str(images / "other"))):
        assert again.stdout.startswith("2 images, 6 cells, 0 failed"), again.stderr
        assert again.stderr.splitlines() == first.stderr.splitlines()


def test_an_image_called_like_a_result_is_segmented_as_a_file(segment: Invoke, images: Path, tmp_path: Path) -> None:
    (images / "a.tif").rename(images / "a_labels.tif")
    result = segment()
    assert result.stdout.startswith("1 image, 3 cells")
    assert f"1 file left out, such as {images / 'a_labels.tif'}: names ending in _labels, " in result.stderr
    both = (str(images), str(images / "a_labels.tif"))
    for _ in range(2):
        result = segment(inputs=both)
        assert result.stdout.startswith("2 images, 6 cells, 0 failed")
        assert "left out" not in result.stderr
    assert (tmp_path / "out" / "a_labels_labels.ome.tif").is_file()
    verified = CliRunner().invoke(main, ["verify", str(tmp_path / "out")])
    assert verified.stdout.startswith("2 masks verified, 0 mismatches"), verified.stdout


@pytest.mark.parametrize(
    ("channel", "channels", "message"),
    [
        ("DAPI", 1, "no channel 'DAPI'; this image has 0: (no name): give --channel 0, or leave it out"),
        ("C", 1, "; segment, check and suggest join files with a channel each: --group '(?P<name>.+)_(?P<channel>"),
        ("2", 2, "no channel '2'; this image has 0: (no name), 1: (no name): give one by its number"),
    ],
)
def test_a_channel_that_is_not_there(
    segment: Invoke, tmp_path: Path, discs: Array, channel: str, channels: int, message: str
) -> None:
    path = tmp_path / "c.ome.tif"
    tifffile.imwrite(path, np.stack([discs] * channels), metadata={"axes": "CYX"})
    result = segment("--channel", channel, inputs=(str(path),))
    assert result.exit_code == 3
    assert message in result.stderr


def test_quiet_says_only_what_is_wrong(segment: Invoke, images: Path) -> None:
    (images / "bad.tif").write_bytes(b"")
    assert len(segment("-q").stderr.splitlines()) == 1


def test_json(segment: Invoke, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    expected = {"images": 2, "cells": 6, "failed": 0, "output": out, "table": f"{out}/summary.csv"}
    assert json.loads(segment("--json").stdout) == expected


def test_every_option_that_changes_pixels_is_recorded(
    segment: Invoke, tmp_path: Path, images: Path, discs: Array
) -> None:
    stack = np.stack([np.stack([discs, discs])] * 3)
    tifffile.imwrite(images / "a.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    (images / "b.tif").unlink()
    options = "--channel 0 --series 0 --t 1 --z max --axes tzyx --pixel-size 0.6 --diameter 13 --normalize p2,p99"
    options += " --threshold 0.55 --min-area 7 --max-area 9000 --exclude-border --crf largefov"
    result = segment(*options.split())
    assert result.exit_code == 0, result.stderr
    settings = settings_of(tmp_path / "out", "a_s00")
    post = settings.pop("postprocessing")
    assert settings == {
        "channel": ["0"],
        "series": 0,
        "t": 1,
        "z": "max",
        "axes": "TZYX",
        "pixel_size_um": 0.6,
        "diameter_px": 13.0,
        "normalization": {"kind": "percentile", "low": 2.0, "high": 99.0},
        "min_area": 7.0,
        "max_area": 9000.0,
        "crf": "largefov",
        "exact_tiles": True,
        "window": None,
    }
    assert (post["mask_threshold"], post["exclude_border"]) == (0.55, True)


def test_a_table_travels_into_the_tables(segment: Invoke, images: Path, tmp_path: Path) -> None:
    table = images / "plate.csv"
    table.write_text("image,well,path,table_path,status\na.tif,A1,p,q,first\nb.tif,B2,p,q,second\n")
    result = segment("--table", str(table), inputs=())
    assert result.exit_code == 0, result.stderr
    for name in ("summary.csv", "cells.csv"):
        with open(tmp_path / "out" / name, newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert rows[0]["well"] == "A1"
        # Names that the tables have themselves, and one that would be in the way of another.
        assert rows[0]["table_status"] == "first"
        assert (rows[0]["table_table_path"], rows[0]["table_path"]) == ("p", "q")


def test_limit_and_overlays(segment: Invoke, tmp_path: Path) -> None:
    assert segment("--limit", "1", "--overlays", "none").stdout.startswith("1 image, 3 cells")
    assert not (tmp_path / "out" / "overlays").exists()
    segment("--overlays", "all")
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 2


def test_a_part_writes_its_journal_and_no_tables(segment: Invoke, tmp_path: Path) -> None:
    results = [segment("--part", f"{index}/2") for index in (1, 2)]
    assert [result.exit_code for result in results] == [0, 0]
    assert results[0].stdout.endswith(f"0 failed: {tmp_path / 'out' / 'run.1-of-2.jsonl'}\n")
    assert not (tmp_path / "out" / "summary.csv").exists()
    assert len(list((tmp_path / "out").glob("*_labels.ome.tif"))) == 2


def test_dry_run_for_programs(segment: Invoke, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (images / "bad.tif").write_bytes(b"")
    opening = Segmenter.open

    def fail(self: Segmenter, source: Any, settings: Any) -> Any:
        # Pieces of large images are opened by their path.
        if Path(getattr(source, "source", source)).name == "b.tif":
            raise KeyError("surprise")
        return opening(self, source, settings)

    monkeypatch.setattr(Segmenter, "open", fail)
    result = segment("--dry-run", "--json")
    assert result.exit_code == 3
    values = json.loads(result.stdout)
    assert (values["images"], values["todo"], values["failed"], values["tiles"]) == (3, 1, 2, 1)
    assert "b.tif: internal error (KeyError: 'surprise')" in result.stderr
    assert segment("--dry-run", "--failed-ok").exit_code == 0
    assert not (tmp_path / "out").exists()


def test_dry_run_says_and_does_nothing(segment: Invoke, images: Path, tmp_path: Path) -> None:
    (images / "bad.tif").write_bytes(b"")
    result = segment("--dry-run")
    assert result.exit_code == 3
    assert not (tmp_path / "out").exists()
    lines = result.stdout.splitlines()
    assert lines[0] == "files   3 images: 2 to do, 0 done already, 1 would fail"
    assert lines[1] == "tiles   2 in 2 frames, 0.0 megapixels"
    assert [line.split()[0] for line in lines] == ["files", "tiles", "memory", "disk", "time"]
    (images / "bad.tif").unlink()
    segment()
    assert segment("--dry-run").stdout.startswith("files   2 images: 0 to do, 2 done already, 0 would fail")


@pytest.mark.parametrize(
    ("arguments", "inputs", "message"),
    [
        ((), (), "give either INPUT or --table: neither is given"),
        (("--table", "t.csv"), None, "give either INPUT or --table: both are given"),
        ((), ("nowhere",), "nowhere does not exist"),
        (("--z", "top"), None, "Invalid value for '--z': top is neither a number from 0 nor max nor each"),
        (
            ("--overlays", "some"),
            None,
            "Invalid value for '--overlays': some is neither a number from 0 nor all nor none",
        ),
        (("--part", "3/2"), None, "--part 3/2 is not K/N"),
        (("--normalize", "a,b"), None, "--normalize 'a,b'"),
        (("--device", "abacus"), None, "there is no device 'abacus'"),
        (("--threshold", "2"), None, "'--threshold': 2.0 is not in the range 0<x<1"),
        (("-m", "no-such-model"), None, "there is no model 'no-such-model'"),
        (
            ("--crf", "sharp"),
            None,
            "there is no preset sharp of the CRF; there are: largefov, deeplab_v2_vgg, deeplab_v2_r",
        ),
        (("--crf-settings", "w1=2"), None, "crf_settings w1=2 change a preset: give --crf too, such as largefov"),
        (("--crf", "largefov", "--crf-settings", "w3=2"), None, "crf_settings w3=2: names with values are needed"),
        (("--diameter", "0"), None, "'--diameter': 0.0 is not in the range x>0"),
        ((), ("",), "an input is empty: give files"),
        (("-o", ""), None, "it is empty: give a name, or . for the working directory"),
        # Numbers that would take the machine.
        (("--workers", "1000000"), None, "1000000 is not in the range 1<=x<=1024"),
        (("--scheduler", "local:1000000"), None, "local:N for N workers here (at most 1024)"),
        (("--memory", "9" * 400), None, "is no size of memory"),
        (("--crf", "largefov", "--crf-settings", "iterations=9999999999"), None, "a whole number from 1 to 1000"),
        (("--group", "(" * 5000), None, "is no regular expression: maximum recursion depth"),
        (("--metadata-regex", "(?P<n>a{99999999999})"), None, "is no regular expression: the repetition number"),
        (("-o", "x" * 300), None, "File name too long; give a shorter name"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_2(
    segment: Invoke, arguments: tuple[str, ...], inputs: tuple[str, ...] | None, message: str
) -> None:
    result = segment("-q", *arguments, inputs=inputs)
    assert result.exit_code == (4 if "too long" in message else 2)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_output_folder_that_cannot_be_written_is_4(segment: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".run.lock").mkdir()
    result = segment("-q")
    assert result.exit_code == 4
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("z", [0, 1])
def test_nifti_in_nifti_out(segment: Invoke, images: Path, tmp_path: Path, discs: Array, z: int) -> None:
    import nibabel

    for plane in images.iterdir():
        plane.unlink()
    affine = np.diag([0.5, 0.5, 3.0, 1.0])
    affine[:3, 3] = -10, -20, -30
    nibabel.save(nibabel.Nifti1Image(np.stack([discs.T, discs.T], -1), affine), images / "v.nii.gz")
    result = segment("--z", str(z), "--save-probabilities")
    assert result.exit_code == 0, result.stderr
    # The mask of a section lies where the section does.
    affine[2, 3] += 3 * z
    np.testing.assert_allclose(nibabel.load(tmp_path / "out" / "v_probabilities.nii.gz").affine, affine)
    written = nibabel.load(tmp_path / "out" / "v_labels.nii.gz")
    np.testing.assert_allclose(written.affine, affine)
    assert np.asarray(written.dataobj).max() == 3


def test_exact_tiles_do_not_wait_for_monai(images: Path, tmp_path: Path, tiny_model: Path) -> None:
    program = (
        "import sys\nfrom unetbio.cli.main import main\n"
        "try: main(sys.argv[1:], prog_name='unetbio')\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'monai'} & set(sys.modules)))"
    )
    arguments = ["segment", str(images / "a.tif"), "-o", str(tmp_path / "out"), "--model", str(tiny_model)]
    arguments += ["--workers", "1", "--overlays", "none"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['torch']"


def test_links_in_a_circle_are_failed_images(segment: Invoke, images: Path, tmp_path: Path) -> None:
    (images / "c.tif").symlink_to("d.tif")
    (images / "d.tif").symlink_to("c.tif")
    (images / "e.tif").symlink_to("e.tif")
    result = segment()
    assert result.exit_code == 3, result.output
    with open(tmp_path / "out" / "summary.csv", encoding="utf-8", newline="") as stream:
        rows = {Path(row["path"]).name: row["status"] for row in csv.DictReader(stream)}
    assert rows == {"a.tif": "done", "b.tif": "done", "c.tif": "failed", "d.tif": "failed", "e.tif": "failed"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("command", ["segment", "check"])
def test_a_chunk_that_would_block_is_unreadable(
    discs: Array, tmp_path: Path, tiny_model: Path, kind: str, command: str
) -> None:
    image = tmp_path / "images" / "x.zarr"
    zarr.save_array(image, discs, zarr_format=2)
    chunk = next(path for path in sorted(image.rglob("0.0")))
    chunk.unlink()
    if kind == "pipe":
        os.mkfifo(chunk)
    else:
        chunk.symlink_to("/dev/zero")
    options = ["-o", str(tmp_path / "out")] if command == "segment" else []
    line = [command, str(image.parent), *options, "-m", str(tiny_model), "--workers", "1"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 3, result.stderr
    assert "0.0 is a pipe, a device or a link to a folder elsewhere" in result.output


def test_channels_are_named_where_files_have_no_names(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    """The names choose the channel, and stand in the tables, also when they are measured again."""
    (tmp_path / "images").mkdir()
    stack = np.stack([np.full_like(discs, 7), discs])
    tifffile.imwrite(tmp_path / "images" / "x.tif", stack, photometric="minisblack", metadata={"axes": "CYX"})
    out = tmp_path / "out"
    line = ["segment", str(tmp_path / "images"), "-o", str(out), "-m", str(tiny_model), "--workers", "1"]
    named = [*line, "--channel-names", "actin,DAPI", "--channel", "DAPI"]
    result = CliRunner().invoke(main, named)
    assert result.exit_code == 0, result.stderr
    assert settings_of(out, "x")["channel_names"] == ["actin", "DAPI"]
    for again in ([], ["measure", str(out), "--overwrite"]):
        assert not again or CliRunner().invoke(main, again).exit_code == 0
        with open(out / "cells.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [row["intensity_mean_actin"] for row in rows] == ["7.0"] * 3
        assert all(float(row["intensity_mean_DAPI"]) > 100 for row in rows)
    assert CliRunner().invoke(main, ["verify", str(out), "--rerun", "1"]).exit_code == 0
    refused = CliRunner().invoke(main, [*line, "--channel-names", "actin", "--channel", "0", "-o", str(tmp_path / "b")])
    assert refused.exit_code == 3
    assert "1 channel name (actin), and the image has 0: (no name), 1: (no name): name each" in refused.stderr
