"""Stacks that a model of planes segments section by section."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray

import unetbio
from unetbio.cli.main import main
from unetbio.errors import ImageError, UsageError
from unetbio.io import read_image, read_labels, write_labels
from unetbio.labels import label_hash
from unetbio.measurement.cytoplasm_rings import ring_labels
from unetbio.measurement.regions import measure
from unetbio.models.model_file import Model, load_model
from unetbio.postprocessing.linking import link_sections, number_sections
from unetbio.provenance import read_provenance
from unetbio.segmentation.sections import stack_sections
from unetbio.settings.segmentation import Settings
from unetbio.targets.base import Finished

Array = NDArray[Any]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model)


@pytest.fixture
def run(model: Model) -> Callable[..., tuple[Array, dict[str, Any]]]:
    def segment(image: Any, **options: Any) -> tuple[Array, dict[str, Any]]:
        labels, info = unetbio.segment(image, model, device="cpu", **options)
        return labels, info

    return segment


@pytest.fixture
def stack(discs: Array) -> Array:
    """``(4, 64, 80)``: three discs that move by two pixels a section; the third section holds nothing."""
    sections = [np.roll(discs, 2 * z, axis=1) for z in range(4)]
    sections[2] = np.full_like(discs, 10)
    return np.stack(sections)


def test_each_section_is_as_if_it_were_alone(run: Callable[..., Any], stack: Array) -> None:
    labels, info = run(stack, axes="ZYX", z="each")
    alone = np.stack([run(stack, axes="ZYX", z=z)[0] for z in range(4)])
    np.testing.assert_array_equal(labels, number_sections(alone))
    assert (labels.dtype, info["axes"], info["n_cells"]) == (np.uint16, "ZYX", 9)
    # The cells of the second section follow those of the first.
    assert set(np.unique(labels[1])) == {0, 4, 5, 6}


def test_linked_sections_make_objects(run: Callable[..., Any], stack: Array) -> None:
    labels, info = run(stack, axes="ZYX", z="each", link=0.5)
    alone = np.stack([run(stack, axes="ZYX", z=z)[0] for z in range(4)])
    np.testing.assert_array_equal(labels, link_sections(alone, 0.5))
    # Three over the first two sections, and three beyond the empty one.
    assert info["n_cells"] == 6
    assert set(np.unique(labels[0])) == set(np.unique(labels[1])) == {0, 1, 2, 3}
    assert info["settings"]["link"] == 0.5
    # As wide as the discs, however thick the stack is.
    assert info["frames"][0]["median_diameter_px"] == pytest.approx(2 * np.sqrt(129 / np.pi), abs=1e-3)


def test_sections_are_rescaled_in_the_plane_alone(run: Callable[..., Any], stack: Array) -> None:
    options = {"axes": "ZYX", "diameter_px": 9.0, "normalize": "0,200"}
    labels, info = run(stack, z="each", **options)
    assert info["run"]["zoom"] == [1.0, 12 / 9, 12 / 9]
    alone = np.stack([run(stack, z=z, **options)[0] for z in range(4)])
    np.testing.assert_array_equal(labels, number_sections(alone))


def test_one_scaling_serves_all_sections(run: Callable[..., Any], discs: Array) -> None:
    # By itself, the faint section would be stretched until its noise were cells.
    stack = np.stack([discs, discs // 20])
    labels, info = run(stack, axes="ZYX", z="each", normalize="p0,p100")
    assert labels[0].max() == 3
    assert not labels[1].any()
    assert info["run"]["scaling"] == [{"low": [0.0], "high": [200.0]}]


def test_a_time_lapse_of_stacks(run: Callable[..., Any], stack: Array) -> None:
    labels, info = run(np.stack([stack, stack[::-1]]), axes="TZYX", z="each", link=0.5)
    assert labels.shape == (2, 4, 64, 80)
    assert [frame["n_cells"] for frame in info["frames"]] == [6, 6]


def test_an_image_without_sections_stays_a_plane(run: Callable[..., Any], discs: Array) -> None:
    labels, _ = run(discs, z="each")
    np.testing.assert_array_equal(labels, run(discs)[0])


def test_tables_of_objects_follow_the_cells() -> None:
    tables = [
        {"label": np.array([1, 2]), "class": np.array(classes), "score": np.array(scores)}
        for classes, scores in ((["a", "b"], [0.5, 0.9]), (["c", "a"], [0.7, 0.8]))
    ]
    first, second = (
        Finished(np.array([labels], np.uint16), table)
        for labels, table in zip(([1, 1, 0, 2], [0, 1, 0, 2]), tables, strict=True)
    )
    linked = stack_sections([first, second], 0.5, are_cells=True)
    assert linked.labels.tolist() == [[[1, 1, 0, 2]], [[0, 1, 0, 2]]]
    assert linked.objects is not None
    assert linked.objects["label"].tolist() == [1, 1, 2, 2]
    assert linked.objects["z"].tolist() == [0, 1, 0, 1]
    assert linked.objects["score"] == pytest.approx([0.6, 0.6, 0.85, 0.85])
    # The best cell of an object has its class.
    assert linked.objects["class"].tolist() == ["c", "c", "b", "b"]
    apart = stack_sections([first, second], None, are_cells=True, first_section=1)
    assert apart.objects is not None
    assert apart.objects["label"].tolist() == [1, 2, 3, 4]
    assert apart.objects["z"].tolist() == [1, 1, 2, 2]
    assert apart.objects["score"].tolist() == [0.5, 0.9, 0.7, 0.8]


def test_classes_keep_their_numbers() -> None:
    sections = [Finished(np.array([[2, 0]], np.uint8)), Finished(np.array([[1, 2]], np.uint8))]
    assert stack_sections(sections, None, are_cells=False).labels.tolist() == [[[2, 0]], [[1, 2]]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"link": 0.5}, "link 0.5 joins the cells of sections: give --z each too"),
        ({"link": 0.5, "z": "max"}, "give --z each too"),
        ({"link": 0.0, "z": "each"}, "link 0.0 must be a finite number above 0 and at most 1"),
        ({"link": 2.0, "z": "each"}, "link 2.0 must be a finite number above 0 and at most 1"),
    ],
)
def test_what_cannot_be_meant(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**options)


def test_a_stack_needs_to_be_told_what_to_do(run: Callable[..., Any], stack: Array) -> None:
    with pytest.raises(ImageError, match=r"give --z INDEX \(from 0\), --z max or --z each"):
        run(stack, axes="ZYX")


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["segment", *arguments, "--workers", "1", "--overlays", "1"])


def test_the_command_links_sections_and_keeps_them(
    tmp_path: Path, tiny_model: Path, stack: Array, run: Callable[..., Any]
) -> None:
    image, out = tmp_path / "s.tif", tmp_path / "out"
    tifffile.imwrite(image, stack, metadata={"axes": "ZYX"}, imagej=True)
    arguments = (str(image), "-o", str(out), "-m", str(tiny_model), "--z", "each", "--link", "0.5")
    result = invoke(*arguments, "--save-probabilities")
    assert result.exit_code == 0, result.stderr
    labels = read_labels(out / "s_labels.ome.tif")
    assert label_hash(labels) == run(stack, axes="ZYX", z="each", link=0.5)[1]["label_hash"]
    provenance = read_provenance(out / "s_labels.json")
    assert provenance is not None
    assert (provenance.settings["z"], provenance.settings["link"]) == ("each", 0.5)
    with open(out / "cells.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert rows[0]["volume_px"] == str(int((labels == 1).sum()))
    before = (out / "cells.csv").read_bytes()
    kept = json.loads(CliRunner().invoke(main, ["segment", *arguments, "--dry-run", "--json"]).stdout)
    assert kept["kept"] == 1
    # What is measured from the files is what was measured in the run.
    (out / "cells.parquet").unlink()
    result = CliRunner().invoke(main, ["measure", str(out)])
    assert result.exit_code == 0, result.stderr
    assert (out / "cells.csv").read_bytes() == before
    # Another threshold is another result; none leaves no trace in the settings.
    assert invoke(*arguments[:-2]).exit_code == 0
    provenance = read_provenance(out / "s_labels.json")
    assert provenance is not None
    assert "link" not in provenance.settings
    assert provenance.n_cells == 9


def test_an_edited_stack_is_measured(tmp_path: Path, tiny_model: Path, stack: Array) -> None:
    image, out = tmp_path / "s.tif", tmp_path / "out"
    tifffile.imwrite(image, stack, metadata={"axes": "ZYX"}, imagej=True)
    arguments = (str(image), "-o", str(out), "-m", str(tiny_model), "--z", "each")
    assert invoke(*arguments).exit_code == 0
    labels = read_labels(out / "s_labels.ome.tif")
    labels[labels > 4] = 0
    # Without axes, as many programs write.
    tifffile.imwrite(out / "s_labels.ome.tif", labels)
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("1 image, 4 cells, 0 failed")
    with open(out / "summary.csv", newline="") as stream:
        diameter = next(csv.DictReader(stream))["median_diameter_px"]
    assert float(diameter) == pytest.approx(2 * np.sqrt(129 / np.pi), abs=1e-3)


@pytest.fixture
def planes(tmp_path: Path, tiny_model: Path, stack: Array) -> Path:
    """Output of a stack of planes that are not linked, whose first plane has a cell at the border."""
    image = tmp_path / "s.tif"
    tifffile.imwrite(image, np.roll(stack, -9, axis=1), metadata={"axes": "ZYX"}, imagej=True)
    arguments = ("-o", str(tmp_path / "out"), "-m", str(tiny_model), "--z", "each", "--save-probabilities")
    assert invoke(str(image), *arguments, "--pixel-size", "0.5").exit_code == 0
    return tmp_path / "out"


def test_planes_that_are_not_linked_are_measured_each_by_itself(planes: Path) -> None:
    table = pl.read_parquet(planes / "cells.parquet")
    labels, image = read_labels(planes / "s_labels.ome.tif"), read_image(planes.parent / "s.tif").read()
    assert table.columns[:5] == ["path", "series", "t", "z", "label"]
    assert table["z"].to_list() == [z for z in range(4) for cell in np.unique(labels[z]) if cell]
    for z, section in enumerate(labels):
        alone = measure(section, image[z][np.newaxis], pixel_size_um={"Y": 0.5, "X": 0.5})
        rows = table.filter(z=z)
        assert set(alone) | {"confidence"} == set(table.columns[4:])
        for name, column in alone.items():
            np.testing.assert_array_equal(rows[name].to_numpy(), column)
    # The stack has no cell in its third section; those of the first and the last do not touch a border for that.
    assert table["touches_border"].sum() == sum(len(set(section[[0, -1]].ravel()) - {0}) for section in labels)
    assert not table["touches_border"].all()
    assert table["confidence"].null_count() == 0


def test_planes_are_measured_again_as_in_the_run(planes: Path) -> None:
    before = (planes / "cells.csv").read_bytes()
    (planes / "cells.parquet").unlink()
    assert CliRunner().invoke(main, ["measure", str(planes)]).exit_code == 0
    assert (planes / "cells.csv").read_bytes() == before
    assert CliRunner().invoke(main, ["measure", str(planes), "--expand", "1.5"]).exit_code == 0
    labels, table = read_labels(planes / "s_labels.ome.tif"), pl.read_parquet(planes / "cells.parquet")
    for z, section in enumerate(labels):
        rings = ring_labels(section, 1.5, (0.5, 0.5))
        rows = table.filter(z=z)
        assert rows["ring_area_px"].to_list() == [(rings == cell).sum() for cell in rows["label"]]
    # The image has gone: no grey values, and planes all the same.
    (planes.parent / "s.tif").unlink()
    assert CliRunner().invoke(main, ["measure", str(planes)]).exit_code == 0
    again = pl.read_parquet(planes / "cells.parquet")
    assert again.select("z", "label", "area_px").equals(table.select("z", "label", "area_px"))


def test_one_number_in_two_planes_is_two_cells(planes: Path) -> None:
    path = planes / "s_labels.ome.tif"
    labels = (read_labels(path) > 0).astype(np.uint16)
    write_labels(path, labels, axes="ZYX")
    result = CliRunner().invoke(main, ["measure", str(planes)])
    assert result.stdout.startswith("1 image, 3 cells, 0 failed"), result.stderr
    table = pl.read_parquet(planes / "cells.parquet")
    assert table.select("z", "label", "area_px").rows() == [(z, 1, int(labels[z].sum())) for z in (0, 1, 3)]
    assert CliRunner().invoke(main, ["export", str(planes), "--to", "geojson"]).exit_code == 0
    features = json.loads((planes / "s_cells.geojson").read_text())["features"]
    found = [(f["geometry"]["plane"]["z"], f["properties"]["measurements"]["area_px"]) for f in features]
    assert found == [(z, int(labels[z].sum())) for z in (0, 1, 3)]


def test_planes_that_link_nothing_are_objects_in_the_table(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    # The same label image, once as planes and once as objects.
    tifffile.imwrite(tmp_path / "s.tif", np.stack([discs, np.full_like(discs, 10)]), metadata={"axes": "ZYX"}, ome=True)
    arguments = (str(tmp_path / "s.tif"), "-o", str(tmp_path / "out"), "-m", str(tiny_model), "--z", "each")
    for options, column in (((), "area_px"), (("--link", "0.5"), "volume_px"), ((), "area_px")):
        assert invoke(*arguments, *options).exit_code == 0
        table = pl.read_parquet(tmp_path / "out" / "cells.parquet")
        assert column in table.columns
        assert ("z" in table.columns) == (not options)


@pytest.mark.parametrize("target", ["geojson", "imagej", "coco"])
def test_planes_are_exported(planes: Path, target: str) -> None:
    result = CliRunner().invoke(main, ["export", str(planes), "--to", target])
    outlines = len(pl.read_parquet(planes / "cells.parquet"))
    assert result.stdout == f"1 image, {outlines} outlines, 0 failed: {planes}\n", result.stderr


def test_planes_find_themselves_in_a_truth_of_planes(planes: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    write_labels(truth / "s.ome.tif", read_labels(planes / "s_labels.ome.tif"), axes="ZYX")
    result = CliRunner().invoke(main, ["evaluate", str(planes), str(truth), "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["pooled"]["mean_AP"] == 1


def test_the_dry_run_counts_sections(tmp_path: Path, tiny_model: Path, stack: Array) -> None:
    tifffile.imwrite(tmp_path / "s.tif", stack, metadata={"axes": "ZYX"}, imagej=True)
    result = invoke(
        str(tmp_path / "s.tif"),
        "-o",
        str(tmp_path / "out"),
        "-m",
        str(tiny_model),
        "--z",
        "each",
        "--dry-run",
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["tiles"] == 4


def test_sections_of_real_nuclei_find_together_again(shared_data: Path) -> None:
    truth = read_labels(shared_data / "formats" / "nuclei_1135_v0.5.ome.zarr")
    linked = link_sections(truth, 0.25)
    for nucleus in np.unique(truth)[1:]:
        own = truth == nucleus
        ids, shared = np.unique(linked[own], return_counts=True)
        best = int(shared.argmax())
        # What is missing are the tips, whose sections shrink faster than the threshold allows.
        assert shared[best] / (own.sum() + (linked == ids[best]).sum() - shared[best]) > 0.95
