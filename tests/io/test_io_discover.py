"""Which files are inputs, what outputs are called, which mask belongs to which image."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from searched_folder import relative, touch

from unetbio.batch.plan import read_table
from unetbio.cli.main import main
from unetbio.errors import UsageError
from unetbio.files import open_regular
from unetbio.io import find_inputs, output_names, pair, read_image, stem
from unetbio.io.discover import pieces_of
from unetbio.io.formats.tiff import sets
from unetbio.settings.segmentation import Settings
from unetbio.training.data.pairs import find_pairs


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/x.tif", "x"),
        ("x.ome.tif", "x"),
        ("x.OME.TIFF", "x"),
        ("x.nii.gz", "x"),
        ("x.companion.ome", "x"),
        ("x.1.tif", "x.1"),
        ("Zellkerne µ.tif", "Zellkerne µ"),
        (".ome.tif", ".ome"),
    ],
)
def test_stems(name: str, expected: str) -> None:
    assert stem(name) == expected


def test_a_folder_gives_its_images_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b/x.tif", "b/ä.PNG", "a.nii.gz", "b.tif", "b/c/y.jpg", "notes.txt", "table.csv", "old.tif.bak")
    touch(tmp_path, ".hidden.tif", ".cache/z.tif", "image.zarr/z.tif")
    touch(tmp_path, "b/x_labels.ome.tif", "x_classes.tif", "x_probabilities.ome.tif", "x_labels.nii.gz")
    found = find_inputs([tmp_path])
    assert relative(found) == ["a.nii.gz", "b/c/y.jpg", "b/x.tif", "b/ä.PNG", "b.tif", "image.zarr"]
    assert all(item.path == tmp_path / item.relative for item in found)


def test_files_are_taken_as_given_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/b/x.tif", "a/x_labels.tif", "a/data.bin", "a/y.tif")
    monkeypatch.chdir(tmp_path)
    found = find_inputs(["a/data.bin", "a/x_labels.tif", "a/b/x.tif", tmp_path / "a" / "y.tif", "./a/../a/y.tif", "a"])
    assert relative(found) == ["a/data.bin", "a/x_labels.tif", "a/b/x.tif", "y.tif"]


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/x1.tif", "a/x2.tif", "a/y.tif", "a/x1_labels.tif", "b/x3.tif", "x[1].tif")
    monkeypatch.chdir(tmp_path)
    assert relative(find_inputs(["a/x*.tif"])) == ["a/x1.tif", "a/x2.tif"]
    assert relative(find_inputs(["**/x?.tif"])) == ["a/x1.tif", "a/x2.tif", "b/x3.tif"]
    assert relative(find_inputs([f"{tmp_path}/b/*"])) == ["x3.tif"]
    assert relative(find_inputs(["x[1].tif"])) == ["x[1].tif"], "a file of that name comes before the pattern"


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(UsageError, match=r"no images in .*: files ending in .*\.tif, .* were looked for"):
        find_inputs([tmp_path])
    with pytest.raises(UsageError, match="no images in"):
        find_inputs([f"{tmp_path}/*.tif"])
    with pytest.raises(UsageError, match="an empty list"):
        find_inputs([])
    with pytest.raises(UsageError, match="does not exist"):
        find_inputs([tmp_path / "missing.tif"])


def test_output_names(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/x.tif", "a/y.ome.tif", "z.nii.gz")
    assert output_names(find_inputs([tmp_path])) == [PurePath("a/b/x"), PurePath("a/y"), PurePath("z")]


@pytest.mark.parametrize("other", ["x.png", "x.ome.tif", "X.tiff"])
def test_outputs_that_would_share_a_name_are_refused(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "x.tif", other)
    with pytest.raises(UsageError, match="would both be written as"):
        output_names(find_inputs([tmp_path]))


def test_a_companion_stands_for_its_pieces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a/x-1.ome.tif", "a/x-2 &.ome.tif", "a/y.tif", "b/x-1.ome.tif")
    xml = '<OME><UUID FileName="x-1.ome.tif"/><UUID FileName = "x-2 &amp;.ome.tif"/></OME>'
    (tmp_path / "a" / "x.companion.ome").write_text(xml)
    with caplog.at_level("INFO", logger="unetbio"):
        assert relative(find_inputs([tmp_path])) == ["a/x.companion.ome", "a/y.tif", "b/x-1.ome.tif"]
    (line,) = caplog.messages
    assert line.startswith("2 files left out: pieces of images for which others stand")
    # In training folders, too; a companion that is no file is an input whose reading says so.
    touch(tmp_path, "masks/x_labels.tif")
    (tmp_path / "a" / "dead.companion.ome").symlink_to("nothing")
    paired = pair(tmp_path / "a", [tmp_path / "masks" / "x_labels.tif"])
    assert paired.pairs == ((tmp_path / "a" / "x.companion.ome", tmp_path / "masks" / "x_labels.tif"),)
    assert [path.name for path in paired.images_left] == ["dead.companion.ome", "y.tif"]


def block(file: str, first: str = "") -> str:
    """The place of a plane, in a file."""
    return f'<TiffData {first}><UUID FileName="{file}">urn:uuid:{file}</UUID></TiffData>'


def write_set(folder: Path, names: Sequence[str], images: Sequence[Sequence[str]], *, big: str = "") -> None:
    """Files each of which describes images, whose planes lie in those files."""
    folder.mkdir(exist_ok=True)
    pixels = "".join(f"<Image><Pixels>{''.join(map(block, files))}</Pixels></Image>" for files in images)
    for name in names:
        xml = f'<?xml version="1.0"?><OME UUID="urn:uuid:{name}"><Instrument/>{pixels}</OME>'
        options: dict[str, Any] = {"bigtiff": True} if big == "big" else {"byteorder": ">"} if big else {}
        tifffile.imwrite(folder / name, np.zeros((4, 5), np.uint8), description=xml, metadata=None, **options)


@pytest.mark.parametrize("big", ["", "big", "big-endian"])
def test_one_file_of_an_ome_set_stands_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture, big: str) -> None:
    names = [f"x & {number}.ome.tif" for number in range(3)]
    write_set(tmp_path / "a", names, [[name.replace("&", "&amp;") for name in names]], big=big)
    write_set(tmp_path / "a", ["alone.ome.tif"], [["alone.ome.tif"]])
    touch(tmp_path, "a/y.tif", "b/torn.ome.tif", "b/torn2.ome.tif")
    with caplog.at_level("INFO", logger="unetbio"):
        found = find_inputs([tmp_path])
    assert relative(found) == ["a/alone.ome.tif", "a/x & 0.ome.tif", "a/y.tif", "b/torn.ome.tif", "b/torn2.ome.tif"]
    assert caplog.messages == [
        "2 files left out: pieces of images for which others stand, such as "
        f"{tmp_path / 'a' / 'x & 1.ome.tif'} of x & 0.ome.tif"
    ]
    # However they are given; where the first is left out, the next stands for the whole.
    files = [tmp_path / "a" / name for name in names]
    assert [item.path for item in find_inputs(files)] == files[:1]
    assert [item.path for item in find_inputs([tmp_path / "a" / "x*"])] == files[:1]
    assert [item.path for item in find_inputs(files[1:])] == files[1:2]


def test_files_of_a_set_that_have_images_of_their_own_stay(tmp_path: Path) -> None:
    names = ["p0.ome.tif", "p1.ome.tif", "p1_rest.ome.tif"]
    write_set(tmp_path, names, [names[:1], names[1:]])
    assert relative(find_inputs([tmp_path])) == names[:2]


def test_files_that_were_renamed_stay(tmp_path: Path) -> None:
    write_set(tmp_path, ["a.ome.tif"], [["a.ome.tif"]])
    (tmp_path / "copy.ome.tif").write_bytes((tmp_path / "a.ome.tif").read_bytes())
    assert relative(find_inputs([tmp_path])) == ["a.ome.tif", "copy.ome.tif"]


def test_a_piece_of_a_master_file_is_left_out(tmp_path: Path) -> None:
    write_set(tmp_path, ["first.ome.tif"], [["first.ome.tif", "second.ome.tif"]])
    xml = '<OME><BinaryOnly MetadataFile="first.ome.tif" UUID="urn:uuid:1"/></OME>'
    tifffile.imwrite(tmp_path / "second.ome.tif", np.zeros((4, 5), np.uint8), description=xml, metadata=None)
    assert relative(find_inputs([tmp_path])) == ["first.ome.tif"]


def test_other_files_of_an_image_are_those_that_it_names(tmp_path: Path) -> None:
    """Missing ones, too; not those of the other images that each file of a set describes."""
    write_set(tmp_path, ["p0.ome.tif", "p1.ome.tif"], [["p0.ome.tif"], ["p1.ome.tif", "late.ome.tif"]])
    (tmp_path / "x.companion.ome").write_text('<OME><UUID FileName="x &amp;.ome.tif"/></OME>')
    touch(tmp_path, "torn.ome.tif", "y.tif")
    expected = {
        **{name: [] for name in ("p0.ome.tif", "torn.ome.tif", "y.tif", "gone.companion.ome", "gone.ome.tif")},
        "p1.ome.tif": ["late.ome.tif"],
        "x.companion.ome": ["x &.ome.tif"],
    }
    assert {name: [path.name for path in pieces_of(tmp_path / name)] for name in expected} == expected


def test_the_pieces_of_a_file_are_looked_for_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opening = tmp_path / "x.ome.tif", Mock(wraps=open_regular)
    monkeypatch.setattr(sets, "open_regular", opening)
    for number, name in enumerate(("a.ome.tif", "b.ome.tif"), 1):
        data = f'<TiffData><UUID FileName="{name}">urn:uuid:1</UUID></TiffData><TiffData/>'
        text = f"<OME><Image><Pixels>{data}</Pixels></Image></OME>"
        tifffile.imwrite(path, np.zeros((4, 5), np.uint8), description=text, metadata=None)
        for _ in range(3):
            assert pieces_of(path) == [tmp_path / name]
        assert opening.call_count == number


def test_links_to_one_file_are_one_input(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif")
    (tmp_path / "b.tif").symlink_to(tmp_path / "a.tif")
    assert relative(find_inputs([tmp_path])) == ["a.tif"]


@pytest.mark.parametrize("pattern", ["", "*.tif"])
def test_files_that_are_none_are_found_and_waited_for_by_none(tmp_path: Path, pattern: str) -> None:
    names = ["a.ome.tif", "b.ome.tif", "c.tif", "d.tif"]
    (tmp_path / "a.ome.tif").write_bytes(b"")
    os.mkfifo(tmp_path / "b.ome.tif")
    (tmp_path / "c.tif").symlink_to("d.tif")
    (tmp_path / "d.tif").symlink_to("c.tif")
    assert [item.path.name for item in find_inputs([tmp_path / pattern])] == names
    assert [item.path.name for item in find_inputs([tmp_path / "c.tif"])] == ["c.tif"]


def test_folders_that_lead_back_are_not_followed(tmp_path: Path) -> None:
    images, other = tmp_path / "images", tmp_path / "other"
    for folder in (images / "deep", other):
        folder.mkdir(parents=True)
        (folder / "a.tif").write_bytes(b"")
        for number in range(3):
            (folder / f"back{number}").symlink_to(images)
            (folder / f"self{number}").symlink_to(f"self{number}")
    (images / "other").symlink_to(other)
    assert [item.relative.as_posix() for item in find_inputs([images])] == ["deep/a.tif", "other/a.tif"]


@pytest.mark.parametrize("mark", ["run.jsonl", "run.2-of-3.jsonl", ".run.lock", ".run.2-of-3.lock"])
def test_overlays_of_another_output_folder_are_no_inputs(tmp_path: Path, mark: str) -> None:
    touch(tmp_path, "x.tif", "out/overlays/x.jpg", f"out/{mark}", "mine/overlays/y.jpg", "mine/notes.txt")
    assert relative(find_inputs([tmp_path], out=tmp_path)) == ["mine/overlays/y.jpg", "x.tif"]
    assert relative(find_inputs([f"{tmp_path}/out/overlays/x.jpg"])) == ["x.jpg"], "but those that are asked for"


def listed(folder: object, caplog: pytest.LogCaptureFixture, **options: Any) -> tuple[list[str], list[str]]:
    """Inputs, and what is said of the others."""
    caplog.clear()
    with caplog.at_level("INFO", logger="unetbio"):
        return relative(find_inputs([folder], **options)), caplog.messages


RESULTS = (
    "names ending in _labels, _classes, _probabilities, _tracks, _cytoplasm are those of results; rename images that "
    "are called so, or"
)


def test_images_that_are_called_like_results_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(
        tmp_path, "a.tif", "b_labels.tif", "b_labels.csv", "c/raw_classes.PNG", "c/raw_probabilities.ome.zarr/.zattrs"
    )
    expected = [f"3 files left out, such as {tmp_path}/b_labels.tif: {RESULTS} give them as files"]
    assert listed(tmp_path, caplog) == (["a.tif"], expected)
    _, messages = listed(f"{tmp_path}/**/*", caplog)
    assert messages == expected, "by a pattern, too"
    # As it says: what is given as a file is taken, and not left out of its folder.
    assert relative(find_inputs([tmp_path / "b_labels.tif"])) == ["b_labels.tif"]
    with caplog.at_level("INFO", logger="unetbio"):
        caplog.clear()
        find_inputs([tmp_path, *tmp_path.glob("**/*_classes.PNG"), *tmp_path.glob("**/*.zarr")])
    assert caplog.messages == [f"1 file left out, such as {tmp_path}/b_labels.tif: {RESULTS} give them as files"]


def test_results_are_left_out_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.tif", "old/x_labels.ome.tif", "old/x_labels.json", "old/x_probabilities.ome.tif")
    touch(tmp_path, "old/y_t003_probabilities.ome.tif", "old/y_classes.json", "old/y_classes.ome.zarr/.zattrs")
    assert listed(tmp_path, caplog) == (["a.tif"], [])
    # In this run's own folder a provenance that has gone changes nothing.
    touch(tmp_path, "out/z_labels.ome.tif", "out/z.bmp")
    assert listed(tmp_path, caplog, out=tmp_path / "out") == (["a.tif"], [])
    assert len(listed(tmp_path, caplog)[1]) == 2


def test_formats_that_are_not_read_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.tif", "b.BMP", "c/d.dcm", ".hidden.gif", "t.csv", "n.txt", "x.json", "m.npy", "u.pdf")
    expected = f"2 files are of formats that are not read, such as {tmp_path}/b.BMP: convert the files to be segmented"
    assert listed(tmp_path, caplog) == (["a.tif"], [expected])
    (tmp_path / "b.BMP").unlink()
    expected = f"1 file is of a format that is not read, such as {tmp_path}/c/d.dcm: convert the files to be segmented"
    assert listed(tmp_path, caplog) == (["a.tif"], [expected])


def test_nothing_found_says_what_was_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "b_labels.tif", "c.webp")
    with pytest.raises(UsageError) as error:
        find_inputs([tmp_path])
    looked, named, unread = str(error.value).split("; ", 1)[0], "1 file left out, such as", "1 file is of a format"
    assert looked.endswith("were looked for")
    assert f"; {named} {tmp_path}/b_labels.tif: {RESULTS} give them as files; {unread}" in str(error.value)


# Pairs


def names(pairs: tuple[tuple[Path, Path], ...]) -> list[tuple[str, str]]:
    return [(image.name, mask.name) for image, mask in pairs]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("x.tif", "x.tif"),
        ("x.png", "x.tif"),
        ("x.tif", "x_labels.ome.tif"),
        ("x.tif", "x_masks.png"),
        ("x.tif", "x_mask.tif"),
        ("x.tif", "x_cp_masks.png"),
        ("x.tif", "x_gt.tif"),
        ("case_0000.nii.gz", "case.nii.gz"),
        ("x_labels.ome.tif", "x_gt.tif"),  # evaluation: a prediction and its truth
        ("frame_0000.tif", "frame_0000_mask.tif"),
    ],
)
def test_names_that_belong_together(tmp_path: Path, image: str, mask: str) -> None:
    touch(tmp_path, f"images/{image}", f"masks/{mask}")
    found = pair(tmp_path / "images", tmp_path / "masks")
    assert names(found.pairs) == [(image, mask)]
    assert (found.images_left, found.masks_left) == ((), ())


def test_equal_stems_come_first(tmp_path: Path) -> None:
    touch(tmp_path, "i/cell.tif", "i/cell_mask.tif", "m/cell.tif", "m/cell_mask.tif")
    found = pair(tmp_path / "i", tmp_path / "m")
    assert names(found.pairs) == [("cell.tif", "cell.tif"), ("cell_mask.tif", "cell_mask.tif")]


def test_leftovers_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.tif", "i/b.tif", "i/sub/c.tif", "m/b_mask.tif", "m/c.tif", "m/d.tif")
    found = pair(tmp_path / "i", tmp_path / "m")
    assert names(found.pairs) == [("b.tif", "b_mask.tif")]
    assert [path.name for path in found.images_left] == ["a.tif", "c.tif"], "another subfolder is another image"
    assert [path.name for path in found.masks_left] == ["c.tif", "d.tif"]


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "a_masks.tif", "b.tif", "b_cp_masks.png", "c.tif")
    found = pair(tmp_path, tmp_path)
    assert names(found.pairs) == [("a.tif", "a_masks.tif"), ("b.tif", "b_cp_masks.png")]
    assert [path.name for path in found.images_left] == ["c.tif"]


def test_accents_apart_from_their_letters_are_the_same_name(tmp_path: Path) -> None:
    """Names of macOS have them apart; where both forms are there, each has its own mask."""
    whole, apart = "\u00fc/zelle_\u00e4", "u\u0308/zelle_a\u0308"
    touch(tmp_path, f"i/{whole}.tif", f"m/{apart}_mask.tif")
    touch(tmp_path, f"both/{whole}.tif", f"both/{apart}.tif", f"masks/{whole}.tif", f"masks/{apart}.tif")
    assert names(pair(tmp_path / "i", tmp_path / "m").pairs) == [("zelle_\u00e4.tif", "zelle_a\u0308_mask.tif")]
    found = names(pair(tmp_path / "both", tmp_path / "masks").pairs)
    assert sorted(found) == [("zelle_a\u0308.tif",) * 2, ("zelle_\u00e4.tif",) * 2]


def test_lists_and_single_files(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.tif", "q/b.tif", "m/b.tif", "n/a_gt.tif")
    found = pair([tmp_path / "p/a.tif", tmp_path / "q/b.tif"], [tmp_path / "m/b.tif", tmp_path / "n/a_gt.tif"])
    assert names(found.pairs) == [("a.tif", "a_gt.tif"), ("b.tif", "b.tif")]
    assert names(pair(tmp_path / "p/a.tif", str(tmp_path / "n/a_gt.tif")).pairs) == [("a.tif", "a_gt.tif")]


@pytest.mark.parametrize(
    ("images", "masks"),
    [(["x.tif"], ["x.png", "x.tif"]), (["x.tif", "x.png"], ["x.tif"]), (["x.tif"], ["x_gt.tif", "x_mask.tif"])],
)
def test_two_masks_for_one_image_are_refused(tmp_path: Path, images: list[str], masks: list[str]) -> None:
    touch(tmp_path / "i", *images)
    touch(tmp_path / "m", *masks)
    with pytest.raises(UsageError, match="both stand for 'x'"):
        pair(tmp_path / "i", tmp_path / "m")


def test_no_pairs_say_why(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.tif", "m/b.tif", "empty/notes.txt")
    with pytest.raises(UsageError, match=r"a\.tif and b\.tif do not agree"):
        pair(tmp_path / "i", tmp_path / "m")
    touch(tmp_path, "i2/p/a.tif")
    with pytest.raises(UsageError, match=r"p/a\.tif and b\.tif do not agree"):
        pair(tmp_path / "i2", tmp_path / "m")
    with pytest.raises(UsageError, match=r"no images in .*empty"):
        pair(tmp_path / "i", tmp_path / "empty")
    with pytest.raises(UsageError, match="does not exist"):
        pair(tmp_path / "i", tmp_path / "missing")


@pytest.mark.parametrize(
    ("image", "mask", "better"),
    [
        ("p1/x_labels.ome.tif", "x.tif", "{i}/p1"),
        ("x.tif", "p1/q/x_mask.tif", "{m}/p1/q"),
        ("day/p1/x.tif", "p1/x.tif", "{i}/day"),
        ("p1/s/x.tif", "p2/s/x.tif", "{i}/p1 and {m}/p2"),
    ],
)
def test_subfolders_that_differ_are_named(tmp_path: Path, image: str, mask: str, better: str) -> None:
    images, masks = tmp_path / "i", tmp_path / "m"
    touch(tmp_path, f"i/{image}", f"m/{mask}", "i/a.tif", "m/b.tif")
    with pytest.raises(UsageError) as error:
        pair(images, masks)
    better = better.format(i=images, m=masks)
    assert str(error.value) == (
        f"no image has a mask: {image} and {mask} agree by name, but subfolders have to be the same in both folders, "
        f"too: give {better}"
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_pairs_and_leftovers_are_everything_once(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    stems = st.sets(st.sampled_from(["a", "b", "c", "d_0000", "e", "ü"]), min_size=1)
    folder = tmp_path_factory.mktemp("pairs")
    images, masks = data.draw(stems), data.draw(stems)
    suffix = data.draw(st.sampled_from(["", "_mask", "_labels"]))
    touch(folder / "i", *(f"{name}.tif" for name in images))
    touch(folder / "m", *(f"{name}{suffix}.tif" for name in masks))
    if not images & masks:
        with pytest.raises(UsageError):
            pair(folder / "i", folder / "m")
        return
    found = pair(folder / "i", folder / "m")
    assert {image.stem for image, _ in found.pairs} == images & masks
    assert all(mask.stem == image.stem + suffix for image, mask in found.pairs)
    assert sorted([image for image, _ in found.pairs] + list(found.images_left)) == sorted((folder / "i").iterdir())
    assert sorted([mask for _, mask in found.pairs] + list(found.masks_left)) == sorted((folder / "m").iterdir())


@pytest.mark.parametrize(
    ("address", "tool"),
    [
        ("https://host/a.tif", "curl -O ADDRESS"),
        ("s3://bucket/a.ome.zarr", "aws s3 cp --recursive ADDRESS ."),
        ("gs://bucket/plate", "gsutil cp -r ADDRESS ."),
    ],
)
def test_addresses_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, tool: str
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    message = f"is not on this machine: download it first (such as {tool}), or mount the storage as a folder"
    table = tmp_path / "t.csv"
    table.write_text(f"image,mask\n{address},m.tif\n")
    for reading in (
        lambda: find_inputs([address]),
        lambda: read_image(address),
        lambda: read_image(Path(address)),
        lambda: read_table(table, Settings()),
        lambda: find_pairs([table]),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            reading()
    result = CliRunner().invoke(main, ["train", address, "-o", str(tmp_path / "m.safetensors")])
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its images would be missing from the tables without a word."""
    touch(tmp_path, "open/a.tif", "closed/b.tif")
    scandir = os.scandir

    def refuse(folder: Any) -> Any:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", os.fspath(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert [item.relative.as_posix() for item in find_inputs([tmp_path])] == ["open/a.tif"]
    (record,) = caplog.records
    expected = f"{tmp_path / 'closed'} cannot be listed (Permission denied): its images are left out"
    assert (record.levelname, record.getMessage()) == ("WARNING", expected)
