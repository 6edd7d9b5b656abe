"""Overlays and the offline page."""

import html.parser
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import imagecodecs
import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetbio.classes import class_colours
from unetbio.cli.main import main
from unetbio.errors import UsageError
from unetbio.output_layout import overlay_name
from unetbio.report.overlays import (
    PALETTE,
    draw_overlay,
    outline_colours,
    stretch_contrast,
    write_overlay,
)
from unetbio.report.page import write_page
from unetbio.results.journal import Entry, Journal

COLUMNS = "path,series,t,n_cells,median_diameter_px,area_fraction,pixel_size_um,status,reason,warnings,condition"

# Two cells that touch, and one that stands alone.
TOUCHING = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 2, 2, 2, 0],
        [0, 1, 1, 1, 2, 2, 2, 0],
        [0, 1, 1, 1, 2, 2, 2, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [3, 3, 0, 0, 0, 0, 0, 0],
    ],
    dtype=np.uint16,
)


class _Page(html.parser.HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def _write_run(out: Path, rows: list[str], entries: list[Entry]) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.csv").write_text("\n".join([COLUMNS, *rows]) + "\n", encoding="utf-8")
    with Journal(out / "run.jsonl") as journal:
        for entry in entries:
            journal.append(entry)
    return out


def _entry(name: str, status: str = "done", **extra: str) -> Entry:
    return Entry(f"{name}_labels.ome.tif", f"{name}.tif", f"/data/{name}.tif", status, **extra)  # type: ignore[arg-type]


def _read(page: Path) -> _Page:
    return _Page(page.read_text(encoding="utf-8"))


# ---- contrast


def test_contrast_uses_the_range_that_pixels_have() -> None:
    """A 12-bit ramp in uint16 fills the range; a lone hot pixel does not spoil it."""
    ramp = np.linspace(200, 3000, 256 * 256).reshape(256, 256).astype(np.uint16)
    ramp[0, 0] = 65535
    stretched = stretch_contrast(ramp)
    assert stretched.dtype == np.uint8
    assert stretched[0, 1] == 0
    assert stretched[-1, -1] == 205
    assert 95 <= stretched[128, 0] <= 110


@pytest.mark.parametrize("image", [np.full((5, 4), 7, np.uint16), np.zeros((0, 3)), np.full((2, 2), np.nan)])
def test_contrast_of_nothing_is_black(image: np.ndarray) -> None:
    stretched = stretch_contrast(image)
    assert stretched.shape == image.shape
    assert not stretched.any()


def test_contrast_shows_a_few_bright_pixels_on_an_even_ground() -> None:
    """Both percentiles fall on the ground here; the extremes count then."""
    image = np.zeros((100, 100), np.float32)
    image[50, 50] = 3.0
    image[0, 0] = np.inf
    assert stretch_contrast(image)[50, 50] == 205


def test_contrast_leaves_colour_pictures_alone() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    stretched = stretch_contrast(picture)
    assert np.array_equal(stretched, picture)
    assert not np.shares_memory(stretched, picture)


# ---- outlines


def test_outlines_are_drawn_inside_the_cells() -> None:
    picture = draw_overlay(np.zeros(TOUCHING.shape, np.uint8), TOUCHING)
    coloured = picture.any(axis=2)
    # The one pixel of each big cell that has only its own cell around it stays as it is, and so does the ground.
    expected = TOUCHING > 0
    expected[2, 2] = expected[2, 5] = False
    assert np.array_equal(coloured, expected)


def test_outlines_of_touching_cells_differ() -> None:
    picture = draw_overlay(np.zeros(TOUCHING.shape, np.uint8), TOUCHING)
    assert not np.array_equal(picture[1, 3], picture[1, 4])
    assert np.array_equal(picture[1, 1], picture[3, 3])


def test_outlines_of_large_pictures_are_two_pixels_wide() -> None:
    labels = np.zeros((600, 30), np.uint8)
    labels[10:20, 10:20] = 1
    coloured = draw_overlay(np.zeros(labels.shape, np.uint8), labels).any(axis=2)
    assert coloured[9, 15]
    assert coloured[10, 15]
    assert not coloured[8, 15]
    assert not coloured[11, 15]


def test_large_pictures_are_thinned() -> None:
    labels = np.zeros((100, 41), np.uint8)
    labels[40:60, 10:30] = 1
    assert draw_overlay(np.zeros(labels.shape), labels, max_side=50).shape == (50, 21, 3)


def test_ids_may_be_large_and_far_apart() -> None:
    """Label images edited by hand hold any ids; the colours' table must not be as long as the largest."""
    labels = TOUCHING.astype(np.uint32)
    labels[labels == 3] = 4_000_000_000
    assert np.array_equal(draw_overlay(np.zeros(labels.shape), labels), draw_overlay(np.zeros(labels.shape), TOUCHING))


def test_cells_of_a_class_have_its_colour() -> None:
    labels = TOUCHING.astype(np.uint32)
    labels[labels == 3] = 4_000_000_000
    classes = {1: 2, 4_000_000_000: 1}
    picture = draw_overlay(np.zeros(labels.shape), labels, classes)
    colours = class_colours(3)
    for cell in (1, 2, 4_000_000_000):
        expected = colours[classes[cell]] if cell in classes else (200, 200, 200)
        outline = (labels == cell) & picture.any(axis=2)
        assert (picture[outline] == expected).all()


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 5)))
def test_cells_that_touch_have_different_colours(labels: np.ndarray) -> None:
    """At most five cells, so that eight colours are enough whatever lies beside whatever."""
    colours = outline_colours(labels)
    assert colours.min() >= 0
    assert colours.max() < len(PALETTE)
    for one, two in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        touching = (one != two) & (one > 0) & (two > 0)
        assert (colours[one[touching]] != colours[two[touching]]).all()


def test_overlay_files(tmp_path: Path) -> None:
    """PNG holds the very pixels, JPEG nearly; an outline of one pixel keeps its colour in both."""
    image = np.zeros(TOUCHING.shape, np.uint8)
    drawn = draw_overlay(image, TOUCHING)
    write_overlay(tmp_path / "a.png", image, TOUCHING)
    assert np.array_equal(imagecodecs.imread(tmp_path / "a.png"), drawn)
    write_overlay(tmp_path / "b" / "a.jpg", image, TOUCHING)
    error = np.abs(imagecodecs.imread(tmp_path / "b" / "a.jpg").astype(int) - drawn)
    assert np.median(error) < 25


def test_overlay_of_real_nuclei(shared_data: Path, tmp_path: Path) -> None:
    name = "IXMtest_A06_s6.tif"
    image = imagecodecs.imread(shared_data / "bbbc039/train/images" / name)
    labels = imagecodecs.imread(shared_data / "bbbc039/train/masks" / name)
    write_overlay(tmp_path / "x.jpg", image, labels)
    picture = imagecodecs.imread(tmp_path / "x.jpg").astype(int)
    assert picture.shape == (*image.shape, 3)
    colourful = np.ptp(picture, axis=2) > 60
    assert colourful.mean() > 0.01
    # Outlines are where cells are, and one pixel around them.
    assert colourful[labels > 0].sum() > 0.4 * colourful.sum()


def test_overlays_refuse_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"labels of shape \(6, 8\) on an image of shape \(6, 7\)"):
        draw_overlay(np.zeros((6, 7)), TOUCHING)
    with pytest.raises(UsageError, match=r"cannot write an overlay as \.bmp: use \.jpg or \.png"):
        write_overlay(tmp_path / "x.bmp", np.zeros(TOUCHING.shape), TOUCHING)
    assert not list(tmp_path.iterdir())


def test_overlays_have_a_folder_of_their_own() -> None:
    assert overlay_name("a/b/x_labels.ome.tif") == "overlays/a/b/x.labels.jpg"
    assert overlay_name("a/b/x_s03_labels.nii.gz") == "overlays/a/b/x_s03.labels.jpg"
    assert overlay_name("a/b/x_classes.ome.tif") == "overlays/a/b/x.classes.jpg"
    # Whatever an image is called, its cells and another one's classes are two pictures.
    assert overlay_name("x_classes_labels.ome.tif") == "overlays/x_classes.labels.jpg"


# ---- the page


def test_page_shows_failures_first(tmp_path: Path) -> None:
    rows = [
        "good.tif,,,12,10.5,0.25,0.65,done,,,control",
        "odd.tif,,,0,,0,,done,,no_cells saturated,drug",
        "bad.tif,,,,,,,failed,unreadable,,drug",
    ]
    failure = _entry("bad", "failed", reason="unreadable", message="strip 3 is missing; copy the file again")
    out = _write_run(tmp_path / "run", rows, [_entry("good"), _entry("odd"), failure])
    page = _read(write_page(out))
    text = page.text
    order = [text.index(part) for part in ("Failed bad.tif", "strip 3 is missing", "Worth a look no cells were found")]
    assert order == sorted(order)
    table = text[text.index("median diameter (px)") :]
    assert table.index("bad.tif") < table.index("odd.tif") < table.index("good.tif")
    # A column of the user's own table is shown like any other.
    assert "control" in table


def test_page_links_the_pictures_that_are_there(tmp_path: Path) -> None:
    """Names with spaces, signs that mean something in a URL or in HTML, and other alphabets."""
    name = "plate #1/50% <ü> & 日本"
    rows = [f'"{name}.tif",,,3,10,0.2,,done,,,', "none.tif,,,4,10,0.2,,done,,,"]
    out = _write_run(tmp_path / "run", rows, [_entry(name), _entry("none")])
    write_overlay(out / overlay_name(f"{name}_labels.ome.tif"), np.zeros(TOUCHING.shape), TOUCHING)
    page = _read(write_page(out))
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 1
    assert images[0]["loading"] == "lazy"
    assert images[0]["alt"] == f"Outlines of the cells on {name}.tif"
    link = images[0]["src"] or ""
    assert (out / unquote(link)).is_file()
    assert link in [attributes.get("href") for tag, attributes in page.elements if tag == "a"]
    assert "1 picture of 2 images" in page.text


def test_numbers_of_classes_are_shown_as_numbers(tmp_path: Path) -> None:
    out = _write_run(tmp_path / "run", [], [])
    header = "path,status,area_fraction_gland,n_cells_tumour,stain"
    (out / "summary.csv").write_text(f"{header}\na.tif,done,0.123456,1234,HE\n", encoding="utf-8")
    page = _read(write_page(out))
    cells = [attributes.get("class") for tag, attributes in page.elements if tag == "td"]
    assert cells == [None, None, "number", "number", None]
    assert "0.1235 1\u202f234 HE" in " ".join(page.words)


def test_columns_of_the_user_are_shown_as_they_are(tmp_path: Path) -> None:
    """Also those that are named as columns of classes are; that of a class has the name, and the user's a prefix."""
    own = {"n_cells_manual": "inf", "area_fraction_plan": "007", "n_cells_tumour": "08"}
    out = _write_run(tmp_path / "run", [], [replace(_entry("a"), columns=own)])
    header = "path,status,n_cells_tumour,n_cells_manual,area_fraction_plan,table_n_cells_tumour"
    (out / "summary.csv").write_text(f"{header}\na.tif,done,1234,inf,007,08\n", encoding="utf-8")
    page = _read(write_page(out))
    cells = [attributes.get("class") for tag, attributes in page.elements if tag == "td"]
    assert cells == [None, None, "number", None, None, None]
    assert "1\u202f234 inf 007 08" in " ".join(page.words)


def test_numbers_that_are_none_are_shown_as_they_are(tmp_path: Path) -> None:
    """The summary was edited, and no journal is left."""
    out = _write_run(tmp_path / "run", [], [])
    (out / "summary.csv").write_text("path,status,n_cells_manual\na.tif,done,inf\n", encoding="utf-8")
    assert "done inf" in _read(write_page(out)).text


def test_the_picture_of_tracks_gives_way_to_that_of_newer_cells(tmp_path: Path) -> None:
    out = _write_run(tmp_path / "run", ["x.tif,,0,3,10,0.2,,done,,,"], [_entry("x")])
    labels, tracks = out / "x_labels.ome.tif", out / "overlays" / "x.tracks.jpg"
    tracks.parent.mkdir()
    for path in (labels, tracks, out / "overlays" / "x.labels.jpg"):
        path.touch()
    os.utime(labels, (1000, 1000))
    assert _read(write_page(out)).values("src") == ["overlays/x.tracks.jpg"]
    os.utime(tracks, (999, 999))
    assert _read(write_page(out)).values("src") == ["overlays/x.labels.jpg"]


def test_the_card_of_a_time_lapse_is_of_the_time_in_its_picture(tmp_path: Path) -> None:
    """The row with a warning comes first in the table."""
    rows = [f"x.tif,,{t},{count},9,.1,,done,,{warning}," for t, count, warning in ((0, 20, ""), (5, 0, "no_cells"))]
    out = _write_run(tmp_path / "run", rows, [_entry("x")])
    (out / "overlays").mkdir()
    (out / "overlays" / "x.labels.jpg").touch()
    page = _read(write_page(out))
    assert page.values("alt") == ["Outlines of the cells on x.tif, t 0"]
    assert "x.tif, t 0 20 cells" in page.text


def test_page_needs_no_network(tmp_path: Path) -> None:
    out = _write_run(tmp_path / "run", ["a.tif,,,3,10,0.2,,done,,,"], [_entry("a")])
    content = write_page(out).read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w|@import|url\(", content)
    page = _Page(content)
    for target in page.values("href") + page.values("src"):
        there = target[1:] in page.values("id") if target.startswith("#") else (out / unquote(target)).is_file()
        assert there, target


def test_page_can_be_read_without_eyes_or_mouse(tmp_path: Path) -> None:
    rows = [f"{number}.tif,,,{number},10,0.2,,done,,," for number in range(1, 4)]
    out = _write_run(tmp_path / "run", rows, [])
    pl.DataFrame({"area_px": [10, 20, 30]}).write_parquet(out / "cells.parquet")
    page = _read(write_page(out))
    tags = [tag for tag, _ in page.elements]
    assert ("html", {"lang": "en"}) in page.elements
    assert {"main", "header", "nav", "footer"} <= set(tags)
    assert page.values("for") == ["filter"]
    for tag, attributes in page.elements:
        if attributes.get("role") in ("img", "region"):
            assert attributes.get("aria-label"), tag
        if tag == "div" and "scroll" in (attributes.get("class") or "").split():
            assert attributes.get("tabindex") == "0"


def test_histograms_say_what_they_show(tmp_path: Path) -> None:
    """100 cells of 1 to 100 pixels and one giant: bars of round width hold the hundred, the note names the giant."""
    rows = ["a.tif,,,60,10,0.2,,done,,,", "b.tif,,,41,10,0.2,,done,,,"]
    out = _write_run(tmp_path / "run", rows, [])
    pl.DataFrame({"area_px": [*range(1, 1001), 90000], "area_um2": [None] * 1001}).write_parquet(out / "cells.parquet")
    page = _read(write_page(out))
    labels = page.values("aria-label")
    assert any("Cells an image: 2 images, median 50.5" in label for label in labels)
    cells = next(label for label in labels if "Cell area (pixels)" in label)
    assert "1\u202f001 cells, median 501; 1 beyond the last bar, up to 90\u202f000" in cells
    bars = [title for title in page.values("title") if title.endswith("cells")]
    assert bars[0] == "0 to 50: 49 cells"
    assert sum(int(bar.split(": ")[1].split()[0]) for bar in bars) == 1000


def test_times_are_not_counted_as_images(tmp_path: Path) -> None:
    """Two images, and a time-lapse of three times: five frames of three images."""
    rows = ["a.tif,,,1,10,0.2,,done,,,", "b.tif,,7,2,10,0.2,,done,,,"]
    page = _read(write_page(_write_run(tmp_path / "run", rows, [])))
    assert "images 2 cells 3 cells an image (median) 1.5 failed" in page.text
    rows += [f"lapse.tif,,{t},{t + 3},10,0.2,,done,,," for t in range(3)]
    page = _read(write_page(_write_run(tmp_path / "lapse", rows, [])))
    assert "images 3 cells 15 cells a frame (median) 3 failed" in page.text
    labels = page.values("aria-label")
    assert any("Cells a frame (an image, or one time of it): 5 frames, median 3;" in label for label in labels)


def test_images_with_warnings_are_counted_once(tmp_path: Path) -> None:
    """A time-lapse with two warnings at three times, another at one time alone, and two images of a file."""
    rows = [f"lapse.tif,,{t},0,,0,,done,,no_cells;saturated,," for t in range(3)]
    rows += ["short.tif,,0,5,9,.1,,done,,,", "short.tif,,1,0,,0,,done,,no_cells,"]
    rows += [f"file.lif,{series},,0,,0,,done,,no_cells," for series in (0, 1)]
    page = _read(write_page(_write_run(tmp_path / "run", rows, [])))
    assert "images 4 cells 5 cells a frame (median) 0 failed 0 with warnings 4" in page.text
    names = "lapse.tif, 3 times, short.tif, t 1, file.lif, series 0 and 1 more"
    assert f"no cells were found: 4 images ({names})" in page.text
    assert "many pixels are as bright as the camera can tell: 1 image (lapse.tif, 3 times)" in page.text


def test_a_table_with_columns_row_and_column_of_another_meaning_has_a_page(tmp_path: Path) -> None:
    out = _write_run(tmp_path / "run", [], [])
    rows = ["a.tif,1,done,control,1", "b.tif,1,done,treated,2"]
    (out / "summary.csv").write_text("\n".join(["path,n_cells,status,row,column", *rows]) + "\n", encoding="utf-8")
    page = _read(write_page(out))
    assert "treated" in page.text
    assert "Plates" not in page.text


def test_sizes_are_in_micrometres_only_if_all_are(tmp_path: Path) -> None:
    out = _write_run(tmp_path / "run", ["a.tif,,,2,10,0.2,0.5,done,,,"], [])
    pl.DataFrame({"area_px": [4, 8], "area_um2": [1.0, 2.0]}).write_parquet(out / "cells.parquet")
    assert "Cell area (um²)" in _read(write_page(out)).text
    pl.DataFrame({"area_px": [4, 8], "area_um2": [1.0, None]}).write_parquet(out / "cells.parquet")
    assert "Cell area (pixels)" in _read(write_page(out)).text


def test_page_of_many_images_stays_small(tmp_path: Path) -> None:
    rows = [f"{number:05}.tif,,,5,10,0.2,,done,,," for number in range(6000)]
    rows += [f"bad{number}.tif,,,,,,,failed,unreadable,," for number in range(300)]
    out = _write_run(tmp_path / "run", rows, [])
    page = write_page(out)
    text = _read(page).text
    assert "The first 5000 images, failures first; 1300 more are in summary.csv" in text
    assert "and 100 more: see summary.csv" in text
    assert page.stat().st_size < 3_000_000


def test_page_names_settings_in_words(tmp_path: Path, tiny_model: Path, discs: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "x.tif", discs)
    line = ["segment", str(tmp_path / "x.tif"), "-o", str(tmp_path / "out"), "-m", str(tiny_model), "--pixel-size", "1"]
    assert CliRunner().invoke(main, [*line, "--workers", "1", "--threshold", "0.4"]).exit_code == 0
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for name, value in {"mask threshold": "0.4", "exclude border": "no", "pixel size (um)": "1"}.items():
        assert re.search(rf"{re.escape(name)}</\w+>\s*<\w+[^>]*>{re.escape(value)}<", text), name
    assert "postprocessing." not in text


def test_page_of_an_empty_run(tmp_path: Path) -> None:
    out = _write_run(tmp_path / "run", [], [])
    pl.DataFrame({"path": []}, schema={"path": pl.String}).write_parquet(out / "cells.parquet")
    page = _read(write_page(out))
    assert "images 0 cells 0 failed 0" in page.text


def test_page_refuses_a_folder_without_a_summary(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no summary\.csv: give an output folder"):
        write_page(tmp_path)
    (tmp_path / "summary.csv").write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(UsageError, match=r"cannot be read as a table: .*; write it again with unetbio measure"):
        write_page(tmp_path)


def test_report_command_says_where_the_page_is(tmp_path: Path) -> None:
    out = _write_run(tmp_path / "run", ["a.tif,,,3,10,0.2,,done,,,"], [_entry("a")])
    result = CliRunner().invoke(main, ["report", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output == f"{out / 'index.html'}\n"


def test_page_shows_what_was_found_before_the_run(tmp_path: Path) -> None:
    rows = ["<3>.png,,,3,10,0.1,,done,,,", "<7>.png,,,,,,,failed,truncated,,"]
    out = _write_run(tmp_path / "out", rows, [_entry("<3>.png"), _entry("<7>.png", "failed", reason="truncated")])
    for number in range(60):
        image = np.full((40, 40), number % 2, np.uint8)
        (tmp_path / f"<{number}>.png").write_bytes(imagecodecs.png_encode(image))
    check = tmp_path / "check.json"
    found = CliRunner().invoke(main, ["check", str(tmp_path / "<*.png"), "--no-model", "--json"])
    check.write_text(found.stdout)
    result = CliRunner().invoke(main, ["report", str(out), "--check", str(check)])
    assert result.exit_code == 0, result.stderr
    page = _read(out / "index.html")
    assert "Before the run The check found something in 59 images that did not fail: constant 59." in page.text
    assert "<0>.png constant one grey value" in page.text
    assert "and 9 more: run unetbio check to see them" in page.text
    assert page.text.count("<7>.png") == 2  # among the failures, and in the table
    assert "#checked" in page.values("href")


def test_page_names_what_the_check_cannot_read_by_series(tmp_path: Path) -> None:
    """One series of a file fails, another is done: a check that decodes all of it finds both unreadable."""
    out = _write_run(tmp_path / "out", ["a.tif,0,,3,10,0.1,,done,,,", "a.tif,1,,,,,,failed,truncated,,"], [])
    rows = [
        {"path": "a.tif", "series": series, "status": "unreadable", "code": "truncated", "message": f"series {series}"}
        for series in (0, 1)
    ]
    check = tmp_path / "check.json"
    check.write_text(json.dumps({"files": rows}))
    page = _read(write_page(out, check))
    assert "The check found something in 1 image that did not fail: truncated 1." in page.text
    assert "a.tif, series 0 truncated series 0" in page.text


def test_page_says_that_the_images_could_not_be_checked(tmp_path: Path) -> None:
    out = _write_run(tmp_path / "out", ["a.tif,,,3,10,0.1,,done,,,"], [_entry("a.tif")])
    check = tmp_path / "check.json"
    check.write_text('{"failed": "exit code 4, see logs/check.log"}')
    assert "could not be checked: exit code 4, see logs/check.log." in _read(write_page(out, check)).text


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000, '{"files": [{"status": "found"}]}', "path,status\na,ok\n"]
)
def test_report_refuses_what_is_no_check(tmp_path: Path, text: str) -> None:
    out = _write_run(tmp_path / "out", ["a.tif,,,3,10,0.1,,done,,,"], [_entry("a.tif")])
    check = tmp_path / "check.json"
    check.write_text(text)
    result = CliRunner().invoke(main, ["report", str(out), "--check", str(check)])
    assert result.exit_code == 2
    assert (
        "check.json is not what unetbio check prints with --json: make one with unetbio check INPUT --json > check.json"
        in result.stderr
    )
    assert not (out / "index.html").exists()
