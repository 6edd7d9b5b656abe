"""``unetbio track``: cells over time, their lineage, and files for other programs."""

import csv
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.io import read_labels, write_labels
from unetbio.results.tables.lineages import read_lineage

Array = NDArray[Any]
pytest.importorskip("laptrack", reason='needs laptrack: pip install "unetbio[track]"')
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

# Where the cells are: the first walks, the second divides at time 3, the third is missing at time 2.
PLACES = [
    [(15, 15), (40, 40), (15, 65)],
    [(17, 17), (41, 41), (16, 64)],
    [(19, 19), (42, 42)],
    [(21, 21), (36, 40), (50, 46), (18, 62)],
    [(23, 23), (33, 38), (53, 48), (19, 61)],
]
SHAPE = (64, 80)


def run(*line: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in line])


def done(*line: object) -> Result:
    result = run(*line)
    assert result.exit_code == 0, result.stderr
    return result


def frame(places: list[tuple[int, int]]) -> Array:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = np.full(SHAPE, 10, np.uint8)
    for row, column in places:
        image[(y - row) ** 2 + (x - column) ** 2 <= 30] = 200
    return image


def segmented(tmp_path: Path, model: Path, *, apart: str = "") -> Path:
    images = tmp_path / "images"
    images.mkdir()
    frames = np.stack([frame(places) for places in PLACES])
    if apart:
        for t, one in enumerate(frames):
            path = images / f"{apart.format(t + 7)}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, one)
    else:
        tifffile.imwrite(images / "x.tif", frames, imagej=True, metadata={"axes": "TYX"})
    out = tmp_path / "out"
    done("segment", images, "-o", out, "-m", model, "--workers", "1")
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def assert_tracks_in_table(out: Path) -> None:
    """The table of cells has the tracks of tracks.csv."""
    expected = {(row["path"], row["label"], row["track"], row["parent"]) for row in rows(out / "tracks.csv")}
    found = [(row["path"], row["label"], row["track"], row["parent_track"]) for row in rows(out / "cells.csv")]
    assert set(found) == expected
    assert len(found) == sum(map(len, PLACES))


def test_cells_are_followed_through_gaps_and_divisions(tmp_path: Path, tiny_model: Path) -> None:
    out = segmented(tmp_path, tiny_model)
    result = done("track", out, "--distance", "12")
    assert result.stdout == f"1 time-lapse, 5 tracks, 1 division, 0 failed: {out / 'lineages.csv'}\n"
    tracks = rows(out / "lineages.csv")
    assert [(row["track"], row["parent"], row["first_t"], row["last_t"], row["cells"]) for row in tracks] == [
        ("1", "", "0", "4", "5"),
        ("2", "", "0", "4", "4"),
        ("3", "", "0", "2", "3"),
        ("4", "3", "3", "4", "2"),
        ("5", "3", "3", "4", "2"),
    ]
    assert [row["children"] for row in tracks] == ["", "", "4 5", "", ""]
    labels, tracked = read_labels(out / "x_labels.ome.tif"), read_labels(out / "x_tracks.ome.tif")
    np.testing.assert_array_equal(labels > 0, tracked > 0)
    cells = rows(out / "tracks.csv")
    assert len(cells) == sum(map(len, PLACES))
    for row in cells:
        where = labels[int(row["t"])] == int(row["label"])
        assert set(tracked[int(row["t"])][where].tolist()) == {int(row["track"])}
    # The picture of the tracks is that of the page, and other commands take no notice of the new files.
    assert "overlays/x.tracks.jpg" in (out / "index.html").read_text()
    done("measure", out, "--workers", "1")
    done("verify", out)
    assert_tracks_in_table(out)
    assert done("segment", out, tmp_path / "images", "-o", tmp_path / "two", "-m", tiny_model).stdout.startswith(
        "1 image"
    )


def test_tables_and_masks_go_with_those_of_the_run(tmp_path: Path, tiny_model: Path) -> None:
    """A path that looks like a formula is written alike, and the tracks of a region know its place."""
    path, out = tmp_path / "images" / "+dox" / "x.tif", tmp_path / "out"
    path.parent.mkdir(parents=True)
    tifffile.imwrite(path, np.stack([frame(places) for places in PLACES]), imagej=True, metadata={"axes": "TYX"})
    done("segment", tmp_path / "images", "-o", out, "-m", tiny_model, "--workers", "1", "--region", "6,4,70,56")
    done("track", out, "--distance", "12")
    names = {row["path"] for row in rows(out / "cells.csv")}
    assert names == {"'+dox/x.tif#xywh=6,4,70,56"}
    for name in ("tracks.csv", "lineages.csv"):
        assert {row["path"] for row in rows(out / name)} == names
    places = []
    for (path,) in (out.rglob("*_labels.ome.tif"), out.rglob("*_tracks.ome.tif")):
        with tifffile.TiffFile(path) as tif:
            places.append(set(re.findall(r'Position[XY]="[^"]*"', tif.ome_metadata or "")))
    assert places[0] == places[1] != set()


def test_options_decide_what_is_linked(tmp_path: Path, tiny_model: Path) -> None:
    out = segmented(tmp_path, tiny_model)
    # The gap ends a track, and one daughter goes on as its mother.
    assert "4 tracks, 0 divisions" in done("track", out, "--distance", "12", "--no-divisions").stdout
    assert "5 tracks, 0 divisions" in done("track", out, "--distance", "12", "--gap", "0", "--no-divisions").stdout
    cells = sum(map(len, PLACES))
    assert f"{cells} tracks, 0 divisions" in done("track", out, "--distance", "0.5").stdout
    first = (out / "tracks.csv").read_bytes()
    done("track", out, "--distance", "0.5")
    assert (out / "tracks.csv").read_bytes() == first


def test_edited_masks_are_tracked_as_they_are_now(tmp_path: Path, tiny_model: Path) -> None:
    out = segmented(tmp_path, tiny_model)
    labels = read_labels(out / "x_labels.ome.tif")
    labels[:, :, 50:] = 0
    write_labels(out / "x_labels.ome.tif", labels, axes="TYX")
    assert "1 time-lapse, 4 tracks, 1 division" in done("track", out, "--distance", "12").stdout


def test_files_of_one_time_each_are_a_time_lapse(tmp_path: Path, tiny_model: Path) -> None:
    out = segmented(tmp_path, tiny_model, apart="well_t{:02d}")
    result = run("track", out)
    assert result.exit_code == 2
    assert "holds no time-lapse; for files of one time each say --time-regex" in result.stderr
    assert (
        "no tracks are there: run unetbio track first, with --time-regex" in done("export", out, "--to", "ctc").stderr
    )
    assert "5 tracks, 1 division" in done("track", out, "--distance", "12", "--time-regex", r"_t(?P<t>\d+)").stdout
    assert {row["t"] for row in rows(out / "tracks.csv")} == {"7", "8", "9", "10", "11"}
    assert read_labels(out / "well_t10_tracks.ome.tif").max() == 5
    assert_tracks_in_table(out)
    done("export", out, "--to", "ctc", "-o", tmp_path / "ctc")
    folder = tmp_path / "ctc" / "well_RES"
    assert sorted(path.name for path in folder.glob("mask*.tif")) == [f"mask{t:03d}.tif" for t in range(7, 12)]
    table = [tuple(map(int, line.split())) for line in (folder / "res_track.txt").read_text().splitlines()]
    assert table == [(1, 7, 11, 0), (2, 7, 8, 0), (3, 7, 9, 0), (4, 10, 11, 3), (5, 10, 11, 3), (6, 10, 11, 2)]
    done("export", out, "--to", "trackmate", "-o", tmp_path / "trackmate")
    assert (tmp_path / "trackmate" / "well_TrackMate.xml").is_file()


@pytest.mark.parametrize(
    ("name", "expression", "folder", "first"),
    [
        ("01/t{:03d}", r"t(?P<t>\d+)", "01_RES", "mask007.tif"),
        ("a/b/{:04d}", r"(?P<t>\d{4})", "a/b_RES", "mask0007.tif"),
        ("s1_t{}_w2", r"_t(?P<t>\d+)", "s1_w2_RES", "mask007.tif"),
        ("frame {}/a", r"frame (?P<t>\d+)", "a_RES", "mask007.tif"),
        ("t{:03d}", r"(?P<t>\d+)", "images_RES", "mask007.tif"),
    ],
)
def test_tracked_files_come_back_from_the_cell_tracking_challenge(
    tmp_path: Path, tiny_model: Path, name: str, expression: str, folder: str, first: str
) -> None:
    out = segmented(tmp_path, tiny_model, apart=name)
    done("track", out, "--distance", "12", "--gap", "0", "--time-regex", expression)
    done("export", out, "--to", "ctc", "-o", tmp_path / "ctc")
    assert (tmp_path / "ctc" / folder / first).is_file()
    done("import", tmp_path / "ctc", "--images", tmp_path / "images", "-o", tmp_path / "masks")
    result = done("import", tmp_path / "ctc", "--into", out)
    assert result.stdout.startswith("5 images")
    for t in range(7, 12):
        path = tmp_path / "masks" / f"{name.format(t)}_labels.ome.tif"
        found = read_labels(path, allow_binary=True)
        np.testing.assert_array_equal(found, read_labels(out / f"{name.format(t)}_tracks.ome.tif", allow_binary=True))
        np.testing.assert_array_equal(found, read_labels(out / f"{name.format(t)}_labels.ome.tif", allow_binary=True))


def test_markers_of_tracks_give_way_to_masks(tmp_path: Path) -> None:
    cells = frame(PLACES[0]) // 200 * np.uint16(2)
    for name, mask in (("SEG/man_seg", cells), ("TRA/man_track", cells[::-1])):
        write_labels(tmp_path / "01_GT" / f"{name}000.tif", mask)
    (tmp_path / "01").mkdir()
    tifffile.imwrite(tmp_path / "01" / "t000.tif", frame(PLACES[0]))
    result = done("import", tmp_path / "01_GT", "--images", tmp_path / "01", "-o", tmp_path / "masks")
    assert "1 markers of tracks left out" in result.stderr
    np.testing.assert_array_equal(read_labels(tmp_path / "masks" / "t000_labels.ome.tif", allow_binary=True), cells)


def write_stacks(tmp_path: Path, *channels: Array) -> Path:
    """A time-lapse of stacks: each channel is ``(T, Z, Y, X)``."""
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "x.tif", np.stack(channels, axis=2), imagej=True, metadata={"axes": "TZCYX"})
    return images


def test_sections_with_their_own_cells_are_not_tracked(tmp_path: Path, tiny_model: Path) -> None:
    stacks = np.stack([np.stack([frame(places)] * 3) for places in PLACES])
    images, out = write_stacks(tmp_path, stacks), tmp_path / "out"
    segment = ("segment", images, "-o", out, "-m", tiny_model, "--workers", "1", "--z", "each")
    done(*segment)
    result = run("track", out, "--distance", "12")
    assert result.exit_code == 3
    assert "segment it with --z each --link 0.25, or --z max, before tracking [unlinked_sections]" in result.stderr
    done(*segment, "--link", "0.25")
    assert "5 tracks, 1 division" in done("track", out, "--distance", "12").stdout


def test_the_picture_shows_what_was_segmented(tmp_path: Path, tiny_model: Path) -> None:
    """The cells are in the second channel, and in other sections than the middle one."""
    empty = np.zeros((len(PLACES), 3, *SHAPE), np.uint8)
    stacks = np.stack([np.stack([frame(one[:1]), frame([]), frame(one[1:])]) for one in PLACES])
    images, out = write_stacks(tmp_path, empty, stacks), tmp_path / "out"
    done("segment", images, "-o", out, "-m", tiny_model, "--workers", "1", "--z", "max", "--channel", "1")
    done("track", out, "--distance", "12")
    picture = imagecodecs.imread(out / "overlays" / "x.tracks.jpg")
    row, column = PLACES[0][0]
    assert picture[row, column].min() > 150


def test_a_new_grouping_by_time_replaces_the_earlier_one(tmp_path: Path, tiny_model: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for place in (1, 2):
        for t in (1, 2):
            tifffile.imwrite(images / f"a_s{place}_t{t}.tif", frame([(15 * place, 15 + t), (50, 60)]))
    done("segment", images, "-o", out, "-m", tiny_model, "--workers", "1")
    done("track", out, "--time-regex", r"_s(?P<t>\d)")
    done("track", out, "--time-regex", r"_t(?P<t>\d)")
    assert sorted(path.name for path in out.glob("*_tracks.json")) == ["a_s1_t1_tracks.json", "a_s2_t1_tracks.json"]
    assert len(rows(out / "cells.csv")) == 8
    tracks = {(row["path"], row["label"]): row["track"] for row in rows(out / "tracks.csv")}
    assert {(row["path"], row["label"]): row["track"] for row in rows(out / "cells.csv")} == tracks
    done("export", out, "--to", "ctc", "-o", tmp_path / "ctc")
    assert sorted(path.name for path in (tmp_path / "ctc").iterdir()) == ["a_s1_RES", "a_s2_RES"]
    # A time before the first one: its record begins the time-lapse now.
    tifffile.imwrite(images / "a_s1_t0.tif", frame([(15, 15), (50, 60)]))
    done("segment", images, "-o", out, "-m", tiny_model, "--workers", "1")
    done("track", out, "--time-regex", r"_t(?P<t>\d)")
    assert sorted(path.name for path in out.glob("*_tracks.json")) == ["a_s1_t0_tracks.json", "a_s2_t1_tracks.json"]
    assert len(rows(out / "cells.csv")) == 10


def test_tracks_of_other_label_images_stay(tmp_path: Path, tiny_model: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    lapse = np.stack([frame(places) for places in PLACES[:2]])
    tifffile.imwrite(images / "x.tif", lapse, imagej=True, metadata={"axes": "TYX"})
    for t in (1, 2):
        tifffile.imwrite(images / f"a_t{t}.tif", frame(PLACES[0]))
    done("segment", images, "-o", out, "-m", tiny_model, "--workers", "1")
    done("track", out)
    done("track", out, "--time-regex", r"_t(?P<t>\d)")
    assert {row["path"] for row in rows(out / "tracks.csv")} == {"x.tif", "a_t1.tif", "a_t2.tif"}
    assert all(row["track"] for row in rows(out / "cells.csv"))
    # One that cannot be read now fails, and loses nothing.
    (out / "x_labels.ome.tif").write_bytes(b"torn")
    assert run("track", out).exit_code == 3
    assert (out / "x_tracks.ome.tif").is_file()


def test_records_that_claim_one_label_image_twice_are_read(tmp_path: Path, tiny_model: Path) -> None:
    """Versions before this one left them behind."""
    out = segmented(tmp_path, tiny_model, apart="well_t{:02d}")
    done("track", out, "--time-regex", r"_t(?P<t>\d+)")
    (out / "well_t08_tracks.json").write_bytes((out / "well_t07_tracks.json").read_bytes())
    done("measure", out, "--workers", "1")
    assert_tracks_in_table(out)


@pytest.mark.parametrize(
    ("times", "gap", "tracks", "table"),
    [
        # Between the second and the third time three are missing.
        ((0, 1, 5), 0, 2, [(1, 0, 1, 0), (2, 5, 5, 0)]),
        ((0, 1, 5), 3, 1, [(1, 0, 1, 0), (2, 5, 5, 1)]),
        # Times in minutes are one step apart.
        ((0, 10, 20), 0, 1, [(1, 0, 20, 0)]),
    ],
)
def test_times_without_a_file_are_frames_without_cells(
    tmp_path: Path, tiny_model: Path, times: tuple[int, ...], gap: int, tracks: int, table: list[tuple[int, ...]]
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for t in times:
        tifffile.imwrite(images / f"a_t{t}.tif", frame([(15, 15)]))
    done("segment", images, "-o", out, "-m", tiny_model, "--workers", "1")
    said = done("track", out, "--time-regex", r"_t(?P<t>\d+)", "--gap", gap).stderr
    is_cut = times == (0, 1, 5) and gap == 0
    assert ("a_t0.tif: no cell is linked from time 1 to 5: times between them are missing; --gap 3" in said) == is_cut
    assert len(rows(out / "lineages.csv")) == tracks
    done("export", out, "--to", "ctc")
    text = (out / "a_RES" / "res_track.txt").read_text()
    assert [tuple(map(int, line.split())) for line in text.splitlines()] == table


def test_a_gap_that_no_option_links_has_no_remedy(tmp_path: Path, tiny_model: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for t in (0, 1, 203):
        tifffile.imwrite(images / f"a_t{t}.tif", frame([(15, 15)]))
    done("segment", images, "-o", out, "-m", tiny_model, "--workers", "1")
    said = done("track", out, "--time-regex", r"_t(?P<t>\d+)").stderr
    assert "no cell is linked from time 1 to 203: times between them are missing\n" in said


def test_tracks_of_a_region_keep_its_place(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "images").mkdir()
    metadata = {"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "images" / "x.ome.tif", np.stack([frame(one) for one in PLACES]), metadata=metadata)
    out = tmp_path / "out"
    done("segment", tmp_path / "images", "-o", out, "-m", tiny_model, "--workers", "1", "--region", "4,6,70,50")
    done("track", out)
    positions = [
        re.findall(r'Position[XY]="[0-9.]+"', tifffile.tiffcomment(next(out.glob(f"x*_{kind}.ome.tif"))))
        for kind in ("labels", "tracks")
    ]
    assert positions[0]
    assert positions[1] == positions[0]


def test_the_distance_in_stacks_is_in_pixels_of_the_plane(tmp_path: Path, tiny_model: Path) -> None:
    z, y, x = np.mgrid[:5, : SHAPE[0], : SHAPE[1]]
    stacks = np.full((2, 5, *SHAPE), 10, np.uint8)
    for t, column in enumerate((20, 40)):
        stacks[t][(8 * (z - 2)) ** 2 + (y - 30) ** 2 + (x - column) ** 2 <= 16**2] = 200
    (tmp_path / "images").mkdir()
    metadata = {"axes": "TZYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "images" / "x.ome.tif", stacks, metadata=metadata)
    out = tmp_path / "out"
    done("segment", tmp_path / "images", "-o", out, "-m", tiny_model, "--workers", "1", "--z", "each", "--link", "0.1")
    done("track", out)
    assert len(rows(out / "lineages.csv")) == 1
    # A ball of 32 px.
    assert read_lineage(out, "x").settings["distance"] == pytest.approx(32, abs=4)  # type: ignore[union-attr]


def test_the_cell_tracking_challenge_reads_the_tracks(tmp_path: Path, tiny_model: Path) -> None:
    out = segmented(tmp_path, tiny_model)
    result = run("export", out, "--to", "ctc")
    assert result.exit_code == 3
    assert "not tracked yet: run unetbio track on the folder first" in result.stderr
    done("track", out, "--distance", "12")
    done("export", out, "--to", "ctc", "-o", tmp_path / "ctc")
    folder = tmp_path / "ctc" / "x_RES"
    table = [tuple(map(int, line.split())) for line in (folder / "res_track.txt").read_text().splitlines()]
    # The gap of the third cell ends its track; what follows has it as its parent.
    assert table == [(1, 0, 4, 0), (2, 0, 1, 0), (3, 0, 2, 0), (4, 3, 4, 3), (5, 3, 4, 3), (6, 3, 4, 2)]
    for t in range(5):
        mask = tifffile.imread(folder / f"mask{t:03d}.tif")
        assert mask.dtype == np.uint16
        assert set(np.unique(mask).tolist()) - {0} == {number for number, first, last, _ in table if first <= t <= last}
    write_labels(out / "x_labels.ome.tif", read_labels(out / "x_labels.ome.tif")[:, ::-1], axes="TYX")
    result = run("export", out, "--to", "ctc")
    assert "has changed since it was tracked: run unetbio track again" in result.stderr


def test_trackmate_reads_the_tracks(tmp_path: Path, tiny_model: Path) -> None:
    out = segmented(tmp_path, tiny_model)
    done("track", out, "--distance", "12")
    done("export", out, "--to", "trackmate")
    root = ElementTree.parse(out / "x_TrackMate.xml").getroot()
    spots = root.findall("./Model/AllSpots/SpotsInFrame/Spot")
    assert len(spots) == sum(map(len, PLACES)) == int(root.find("./Model/AllSpots").get("nspots"))  # type: ignore[union-attr, arg-type]
    at = {spot.get("ID"): (int(spot.get("FRAME", "")), float(spot.get("POSITION_Y", ""))) for spot in spots}
    assert len(at) == len(spots)
    edges = root.findall("./Model/AllTracks/Track/Edge")
    assert len(edges) == 4 + 3 + 2 + 2 + 2
    assert all(at[edge.get("SPOT_SOURCE_ID")][0] < at[edge.get("SPOT_TARGET_ID")][0] for edge in edges)
    assert len(root.findall("./Model/FilteredTracks/TrackID")) == 3
    image = root.find("./Settings/ImageData")
    assert image is not None
    assert (image.get("filename"), image.get("nframes")) == ("x.tif", "5")


def test_colours_of_a_track_stay_the_same(tmp_path: Path) -> None:
    from unetbio.report.overlays import PALETTE, draw_tracks

    one, two = np.zeros((30, 30), np.uint8), np.zeros((30, 30), np.uint8)
    one[5:10, 5:10], two[15:25, 15:25] = 11, 11
    two[1:4, 1:4] = 3
    for labels in (one, two):
        picture = draw_tracks(np.zeros((30, 30)), labels)
        y, x = np.argwhere(labels == 11)[0]
        assert picture[y, x].tolist() == PALETTE[11 % len(PALETTE)].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--time-regex", "("], "is no regular expression"),
        (["--time-regex", "t"], "names no group t"),
        (["--time-regex", "(?P<t>x)"], "which is no number from 0"),
        (["--time-regex", r"q(?P<t>\d)"], "finds no two images of one time-lapse"),
        (["--distance", "nan"], "not a finite number"),
    ],
)
def test_what_cannot_be_tracked_is_2(tmp_path: Path, tiny_model: Path, options: list[str], message: str) -> None:
    out = segmented(tmp_path, tiny_model)
    result = run("track", out, *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_without_its_package_or_folder_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("track", tmp_path / "sub" / "none")
    assert result.exit_code == 2
    assert re.search("is not a folder: give the output folder", result.stderr)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setitem(sys.modules, "laptrack", None)
    result = run("track", tmp_path)
    assert result.exit_code == 2
    assert 'unetbio track needs a package: pip install "unetbio[track]"' in result.stderr


def same_cells(one: Array, other: Array) -> bool:
    """Whether two label images differ in the numbers of the cells alone."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return all(len(np.unique(numbers)) == pairs.shape[1] for numbers in pairs)


def test_what_is_exported_as_masks_is_imported(tmp_path: Path, tiny_model: Path) -> None:
    out = segmented(tmp_path, tiny_model)
    done("track", out, "--distance", "12", "--gap", "0")
    done("export", out, "--to", "ctc", "-o", tmp_path / "ctc")
    for given in (tmp_path / "ctc", tmp_path / "ctc" / "x_RES"):
        done("import", given, "--images", tmp_path / "images", "-o", tmp_path / "masks", "--overwrite")
        found = read_labels(tmp_path / "masks" / "x_labels.ome.tif")
        np.testing.assert_array_equal(found, read_labels(out / "x_tracks.ome.tif"))
        assert all(map(same_cells, found, read_labels(out / "x_labels.ome.tif")))
    done("import", tmp_path / "ctc", "--into", out)
    np.testing.assert_array_equal(read_labels(out / "x_labels.ome.tif"), found)


def test_masks_of_each_time_belong_to_images_of_each_time(tmp_path: Path) -> None:
    for number in range(2):
        cell = frame(PLACES[number][:1]) // 200 * np.uint16(number + 1)
        write_labels(tmp_path / "a_RES" / f"mask00{number}.tif", cell)
        (tmp_path / "images" / "a").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / "a" / f"t00{number}.tif", frame(PLACES[number]))
    done("import", tmp_path / "a_RES", "--images", tmp_path / "images", "-o", tmp_path / "masks")
    assert read_labels(tmp_path / "masks" / "a" / "t001_labels.ome.tif").max() == 2
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.zeros((1, *SHAPE), np.uint8))
    result = run("import", tmp_path / "a_RES", "--images", tmp_path / "images" / "a.tif", "-o", tmp_path / "more")
    assert result.exit_code == 3
    assert "the image has no time 0: give the time-lapse, or its --axes [wrong_planes]" in result.stderr


def test_one_corrected_time_of_files_of_each_time_finds_its_image(tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / "images" / f"0{number}" / "x.tif"
        path.parent.mkdir(parents=True)
        tifffile.imwrite(path, frame(PLACES[number]))
    write_labels(tmp_path / "x_RES" / "mask001.tif", frame(PLACES[1][:1]) // 200 * np.uint16(2))
    done("import", tmp_path / "x_RES", "--images", tmp_path / "images", "-o", tmp_path / "masks")
    assert [path.parent.name for path in (tmp_path / "masks").rglob("*_labels.ome.tif")] == ["01"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x_TrackMate.xml", "spots and links of TrackMate, without the pixels of cells"),
        ("cells.h5ad", "an AnnData table of measurements, without pixels"),
    ],
)
def test_files_without_pixels_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"")
    tifffile.imwrite(tmp_path / "x.tif", frame(PLACES[0]))
    result = run("import", tmp_path / name, "--images", tmp_path / "x.tif", "-o", tmp_path / "masks")
    assert result.exit_code == 3
    assert message in result.stderr
