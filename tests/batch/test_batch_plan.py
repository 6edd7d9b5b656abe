"""What a batch reads and writes, known before it begins; its journal; who may write where."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unetbio.batch.failures import forget_gone
from unetbio.batch.plan import check_names, check_probabilities, found_items, read_table, select_part, spread
from unetbio.errors import EnvironmentStoppedError, UsageError
from unetbio.io.discover import Found, part_of
from unetbio.results.items import Item
from unetbio.results.journal import Entry, Journal, Part, hold_output, parse_part, read_journals
from unetbio.settings.segmentation import Settings


def make(path: str, **settings: object) -> Item:
    return Item(Path(path), path, Settings(**settings))


@pytest.mark.parametrize(
    ("path", "series", "labels"),
    [
        ("a/b/x.tif", None, "a/b/x_labels.ome.tif"),
        ("x.ome.tif", None, "x_labels.ome.tif"),
        ("x.1.tif", None, "x.1_labels.ome.tif"),
        ("x.lif", 3, "x_s03_labels.ome.tif"),
        ("brain.nii.gz", None, "brain_labels.nii.gz"),
        ("brain.nii", None, "brain_labels.nii.gz"),
        ("zellen äöü.png", None, "zellen äöü_labels.ome.tif"),
    ],
)
def test_names_of_results(path: str, series: int | None, labels: str) -> None:
    item = make(path, series=series)
    assert item.labels == labels
    assert item.provenance == labels.replace(".ome.tif", ".json").replace(".nii.gz", ".json")
    assert item.probabilities_of(None) == labels.replace("_labels", "_probabilities")


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"a/x.tif and a/X.png would both be written to a/X_labels.ome.tif: rename one"
    ):
        check_names([make("a/x.tif"), make("b/x.tif"), make("a/X.png")], tmp_path)


def test_a_time_lapse_beside_an_image_called_as_one_of_its_times(tmp_path: Path) -> None:
    """Their label images have two names, and their probabilities one."""
    plane = np.zeros((8, 8), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", np.stack([plane] * 2), imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(tmp_path / "y.tif", plane)
    for name in ("X_t000.tif", "y_t000.tif"):
        tifffile.imwrite(tmp_path / name, plane)

    def items(first: str, second: str, **settings: object) -> list[Item]:
        return [Item(tmp_path / name, name, Settings(**settings)) for name in (first, second)]

    check_names(items("x.tif", "X_t000.tif"), tmp_path / "out")
    message = r"x\.tif and .*X_t000\.tif would both be written to X_t000_probabilities\.ome\.tif: rename one"
    with pytest.raises(UsageError, match=message):
        check_probabilities(items("x.tif", "X_t000.tif"))
    check_probabilities(items("x.tif", "X_t000.tif", t=0))
    check_probabilities(items("y.tif", "y_t000.tif"))
    check_probabilities(items("gone.tif", "gone_t000.tif"))
    # The time-lapse has no such time.
    tifffile.imwrite(tmp_path / "x_t002.tif", plane)
    check_probabilities(items("x.tif", "x_t002.tif"))


@pytest.mark.parametrize(
    "folder", ["summary.csv", "Run.jsonl", "run.1-of-2.jsonl", "index.html", "x_labels.json", "x_labels.ome.tif"]
)
def test_a_folder_called_as_a_file_of_the_results_is_refused(tmp_path: Path, folder: str) -> None:
    """Otherwise the run would end where it writes that file: after all images, for the tables."""
    with pytest.raises(UsageError, match=rf"/b.tif: its results need the folder {folder} in .*: rename the folder of"):
        check_names([make("x.tif"), make(f"{folder}/b.tif")], tmp_path)


def test_a_result_over_an_input_is_refused(tmp_path: Path) -> None:
    items = [Item(tmp_path / "x.tif", "x.tif"), Item(tmp_path / "x_labels.ome.tif", "x_labels.ome.tif")]
    with pytest.raises(UsageError, match=r"x_labels.ome.tif would be written over an input"):
        check_names(items, tmp_path)


def test_an_output_folder_among_the_images_is_left_out(tmp_path: Path) -> None:
    for name in ("x.tif", "out/x_labels.ome.tif", "out/overlays/x.jpg", "sub/y.tif"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    items = found_items([tmp_path], Settings(), tmp_path / "out")
    assert {item.path for item in items} == {"sub/y.tif", "x.tif"}
    with pytest.raises(UsageError, match="no images outside the output folder"):
        found_items([tmp_path / "out" / "overlays"], Settings(), tmp_path / "out")


def test_a_table_says_what_is_special_of_an_image(tmp_path: Path) -> None:
    table = tmp_path / "plate.csv"
    table.write_text(
        "image,channel,diameter_px,well,mask\nx.tif,DAPI,9.5,A1,m.tif\nsub/y.tif,,,B2,\n", encoding="utf-8-sig"
    )
    first, second = read_table(table, Settings(channel=("1",), threshold=0.6))
    assert first.source == tmp_path / "x.tif"
    assert (first.settings.channel, first.settings.diameter_px, first.settings.threshold) == (("DAPI",), 9.5, 0.6)
    assert first.columns == {"well": "A1"}
    assert (second.path, second.settings.channel, second.settings.diameter_px) == ("sub/y.tif", ("1",), None)


def test_a_table_can_name_several_images_of_a_file(tmp_path: Path) -> None:
    table = tmp_path / "plate.tsv"
    table.write_text("image\tseries\nx.lif\t0\nx.lif\t11\n")
    items = read_table(table, Settings())
    check_names(items, tmp_path / "out")
    assert [item.result for item in items] == ["x_s00", "x_s11"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,well\nx.tif,A1\n", "has no column 'image'; it has file, well"),
        ("image\n", "has a header but no rows"),
        ("image,well\n,A1\n", "line 2: the column 'image' is empty"),
        (
            "image,diameter_px\nx.tif,ten\n",
            "line 2: diameter_px 'ten' is not a number or auto or model",
        ),
        ("image,diameter_px\nx.tif,inf\n", "line 2: diameter_px inf must be a finite number above 0"),
        ("image,pixel_size_um\nx.tif,inf\n", "line 2: pixel_size_um 'inf' is no number above 0"),
        ('image,pixel_size_um\nx.tif,"2,inf"\n', "line 2: pixel_size_um '2,inf' is no number above 0"),
        ("image,pixel_size_um\nx.tif,-1\n", "line 2: pixel_size_um '-1' is no number above 0, such as 0.5; of stacks"),
    ],
)
def test_tables_that_cannot_be_meant(tmp_path: Path, content: str, message: str) -> None:
    table = tmp_path / "plate.csv"
    table.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_table(table, Settings())


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--table .*missing\.csv cannot be read: No such file"):
        read_table(tmp_path / "missing.csv", Settings())


def test_columns_that_mean_nothing_here_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    table = tmp_path / "plate.csv"
    table.write_text("image, Channel ,mask,well\nx.tif,DAPI,m.tif,A1\n")
    (item,) = read_table(table, Settings())
    assert (item.settings.channel, item.columns) == (("DAPI",), {"well": "A1"})
    assert "the column 'mask' is for unetbio train and compare; it is left out here" in caplog.text


def test_an_image_that_is_asked_for_twice(tmp_path: Path) -> None:
    table = tmp_path / "plate.csv"
    table.write_text("image,series\nx.lif,1\nx.lif,1\n")
    with pytest.raises(
        UsageError, match=r"x\.lif is asked for twice with one result, x_s01_labels\.ome\.tif: leave out"
    ):
        check_names(read_table(table, Settings()), tmp_path / "out")


def test_parts_share_all_items_and_stay_when_files_come() -> None:
    items = [make(f"{index}.tif") for index in range(50)]
    parts = [select_part(items, Part(index, 3)) for index in (1, 2, 3)]
    assert sorted(item.path for part in parts for item in part) == sorted(item.path for item in items)
    more = select_part([make("new.tif"), *items], Part(2, 3))
    assert [item for item in more if item.path != "new.tif"] == parts[1]


def test_regions_of_a_removed_file_are_forgotten_in_its_part(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.tif").touch()
    region, out = "4,5,30,40", tmp_path / "out"
    gone = Item.of(Found(tmp_path / "images/gone.tif", Path("gone.tif")), Settings(region=(region,)))
    out.mkdir()
    with Journal(out / "run.jsonl") as journal:
        journal.append(Entry(gone.labels, gone.path, str(gone.source), "done", place=dict(gone.place)))
    items = found_items([tmp_path / "images"], Settings(region=(region,)), out)
    own = part_of("gone.tif", 2)
    assert forget_gone(items, out, Part(3 - own, 2)) == []
    assert forget_gone(items, out, Part(own, 2)) == ["gone.tif#xywh=4,5,30,40"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/3/5", "-1/3", "1/" + "9" * 5000])
def test_parts_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not K/N with K from 1 to N: for ten jobs give 1/10, 2/10 ... 10/10"):
        parse_part(text)


def test_pictures_are_spread_evenly() -> None:
    items = [make(f"{index}.tif") for index in range(10)]
    assert [item.result for item in spread(items, 3)] == ["0", "3", "6"]
    assert spread(items, 0) == []
    assert len(spread(items, None)) == len(spread(items, 99)) == 10


def entry(name: str, **values: object) -> Entry:
    return Entry(f"{name}_labels.ome.tif", f"{name}.tif", f"/images/{name}.tif", **{"status": "done", **values})


def test_the_last_line_counts_in_whatever_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "run.jsonl") as journal:
        journal.append(entry("a", status="failed", reason="unreadable", message="cut: ä", time="2026-01-01"))
        journal.append(entry("b", time="2026-01-02"))
    with Journal(tmp_path / "run.2-of-3.jsonl") as journal:
        journal.append(entry("a", time="2026-01-03"))
    (tmp_path / "run.old.jsonl").write_text(json.dumps({"output": "no journal"}))
    found = read_journals(tmp_path)
    assert set(found) == {"a_labels.ome.tif", "b_labels.ome.tif"}
    assert found["a_labels.ome.tif"].status == "done"


def test_a_torn_line_is_closed_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path) as journal:
        journal.append(entry("a"))
    path.write_bytes(path.read_bytes() + b'{"output": "b_lab')
    with Journal(path) as journal:
        journal.append(entry("c"))
    assert set(read_journals(tmp_path)) == {"a_labels.ome.tif", "c_labels.ome.tif"}


def test_lines_of_a_newer_version_and_of_nobody(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text(
        '{"output": "a", "path": "a", "input": "a", "status": "done", "mood": "good"}\n[]\n3\n\xff\n{"output": "b"}\n'
    )
    assert set(read_journals(tmp_path)) == {"a"}


@pytest.mark.parametrize(
    "changes",
    [
        {"time": 5},
        {"time": None},
        {"time": "yesterday"},
        {"output": 3},
        {"status": "lost"},
        {"columns": [1]},
        {"output": "../b_labels.ome.tif"},
        {"output": "/b_labels.ome.tif"},
        {"output": ""},
        {"output": "b\0_labels.ome.tif"},
        {"series": 10**30},
    ],
)
def test_a_line_with_a_value_of_another_type_counts_as_missing(
    changes: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Journal(tmp_path / "run.jsonl") as journal:
        journal.append(entry("a"))
        journal.append(entry("b"))
    line = {**dataclasses.asdict(entry("b", status="failed")), **changes}
    with (tmp_path / "run.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n\n{torn\n")
    found = read_journals(tmp_path, warn=True)
    assert {name: one.status for name, one in found.items()} == {"a_labels.ome.tif": "done", "b_labels.ome.tif": "done"}
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}: lines of its journal that cannot be read: 2; they count as missing"
    ]


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not open"):
        Journal(tmp_path / "run.jsonl").append(entry("a"))


def test_a_journal_on_a_full_disk_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetbio.results.journal.open_regular", open)  # which opens devices too
    with pytest.raises(EnvironmentStoppedError, match="No space left"), Journal("/dev/full") as journal:
        journal.append(entry("a"))


def test_parts_run_side_by_side_but_each_once(tmp_path: Path) -> None:
    with hold_output(tmp_path, Part(1, 2)), hold_output(tmp_path, Part(2, 2)):
        for other in (Part(1, 2), None):
            with pytest.raises(EnvironmentStoppedError, match="in use"), hold_output(tmp_path, other):
                pass
    with hold_output(tmp_path, None):
        pass


def test_images_of_a_folder_that_cannot_be_searched_are_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.tif").touch()
    hidden = Item.of(Found(tmp_path / "images/closed/a.tif", Path("closed/a.tif")), Settings())
    out = tmp_path / "out"
    out.mkdir()
    with Journal(out / "run.jsonl") as journal:
        journal.append(Entry(hidden.labels, hidden.path, str(hidden.source), "done", place=dict(hidden.place)))

    def exists(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    items = found_items([tmp_path / "images"], Settings(), out)
    monkeypatch.setattr(Path, "exists", exists)
    assert forget_gone(items, out, None) == []
