"""Images through a model that finds objects, to label images, tables of objects, provenance."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from skimage.measure import label as connected
from torch import Tensor

import unetbio
from unetbio import networks
from unetbio.cli.main import main
from unetbio.errors import UsageError
from unetbio.inference.backends.base import DEFAULT, names
from unetbio.inference.sliding_window import WINDOW
from unetbio.models.model_file import ModelInfo, load_model, save_model
from unetbio.networks.detection import Objects
from unetbio.networks.mask_rcnn.network import SMALLEST_SCORE, MaskRCNN
from unetbio.postprocessing.objects import ObjectSettings
from unetbio.provenance import Provenance, read_provenance
from unetbio.settings.normalization import Normalization
from unetbio.settings.options import options_of
from unetbio.settings.runs import RunOptions
from unetbio.settings.segmentation import Settings

Array = NDArray[Any]
Invoke = Callable[..., Result]
COLUMNS = ["label", "class", "score", "bbox_y_start", "bbox_y_stop", "bbox_x_start", "bbox_x_stop"]


def find_bright(network: MaskRCNN, image: Tensor) -> Objects:
    """What hangs together and is bright is an object; the further right, the better it scores."""
    labels = torch.from_numpy(connected(image[0, 0].numpy() > 0.5))
    ids = torch.arange(1, int(labels.max()) + 1)
    masks = (labels == ids[:, None, None]).float()
    columns = torch.tensor([float(mask.nonzero()[:, 1].float().mean()) for mask in masks])
    boxes = torch.tensor([0.0, 0.0, *labels.shape]).expand(len(ids), 4)
    return Objects(boxes, 0.4 + columns / 200, torch.ones_like(ids), masks)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file of a real Mask R-CNN, whose eyes are replaced by ones that know the answer."""
    monkeypatch.setattr(MaskRCNN, "find_objects", find_bright)
    torch.manual_seed(0)
    parameters = networks.find("mask_rcnn").complete({"width": 1 / 64, "backbone": "resnet18"})
    info = ModelInfo(
        name="finder",
        architecture="mask_rcnn",
        parameters=parameters,
        channels=("nuclei",),
        cell_diameter_px=13.0,
        normalization=Normalization("range", 0.0, 200.0),
        objects=ObjectSettings(score_threshold=0.45),
    )
    path = tmp_path / "finder.safetensors"
    save_model(path, info, networks.build("mask_rcnn", parameters))
    return path


@pytest.fixture
def segment(tmp_path: Path, model: Path, discs: Array) -> Invoke:
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", discs)
    tifffile.imwrite(folder / "movie.tif", np.stack([discs, discs[::-1]]), imagej=True, metadata={"axes": "TYX"})

    def invoke(*arguments: str, model: Path = model) -> Result:
        line = ["segment", str(folder), "-o", str(tmp_path / "out"), "-m", str(model), "--workers", "1"]
        return CliRunner().invoke(main, [*line, "--device", "cpu", *arguments])

    return invoke


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def provenance_of(out: Path) -> Provenance:
    provenance = read_provenance(out / "a_labels.json")
    assert provenance is not None
    return provenance


def test_a_batch_writes_the_table_of_objects_beside_each_label_image(
    segment: Invoke, tmp_path: Path, discs: Array
) -> None:
    result = segment()
    out = tmp_path / "out"
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("2 images, 9 cells, 0 failed")
    label_image = tifffile.imread(out / "a_labels.ome.tif")
    np.testing.assert_array_equal(label_image > 0, discs == 200)
    rows = rows_of(out / "a_objects.csv")
    assert list(rows[0]) == COLUMNS
    assert [row["label"] for row in rows] == ["1", "2", "3"]
    assert [float(row["score"]) for row in rows] == pytest.approx([0.475, 0.65, 0.55])
    for row in rows:
        box = tuple(slice(int(row[f"bbox_{axis}_start"]), int(row[f"bbox_{axis}_stop"])) for axis in "yx")
        assert (label_image[box] == int(row["label"])).sum() == (label_image == int(row["label"])).sum()
        assert label_image[box].shape == (13, 13)
    movie = rows_of(out / "movie_objects.csv")
    assert list(movie[0]) == ["t", *COLUMNS]
    assert [row["t"] for row in movie] == ["0"] * 3 + ["1"] * 3
    assert len(rows_of(out / "cells.csv")) == 9
    run = provenance_of(out).run
    assert (run["exact"], run["window"], run["overlap"]) == (False, [64, 96], 0.25)
    assert "tile" not in run
    assert provenance_of(out).settings["objects"]["score_threshold"] == 0.45


def test_sections_have_the_numbers_that_they_have_in_the_file(model: Path, tmp_path: Path, discs: Array) -> None:
    """Of four sections the first and the last are missing."""
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint8" SizeX="80" SizeY="64" SizeZ="4" SizeC="1" SizeT="1">'
        '<Channel ID="Channel:0" SamplesPerPixel="1"/><TiffData FirstZ="1" IFD="0"/><TiffData FirstZ="2" IFD="1"/>'
        "</Pixels></Image></OME>"
    )
    path, out = tmp_path / "stack.ome.tif", tmp_path / "out"
    tifffile.imwrite(path, np.stack([discs] * 2), photometric="minisblack", metadata=None, description=xml)
    line = ["segment", path, "-o", out, "-m", model, "--partial", "--z", "each", "--device", "cpu", "--workers", 1]
    result = CliRunner().invoke(main, [*map(str, line)])
    assert result.exit_code == 0, result.stderr
    for name in ("stack_objects.csv", "cells.csv"):
        assert [row["z"] for row in rows_of(out / name)] == ["1"] * 3 + ["2"] * 3


def test_objects_in_an_outline_are_kept_whole(model: Path, discs: Array) -> None:
    # The disc in the middle of the right is cut in half, and the lower one lies outside.
    labels, info = unetbio.segment(
        discs, model, device="cpu", region=("POLYGON ((0 0, 60 0, 60 20, 51 20, 51 24, 0 40))",)
    )
    expected = discs[:40, :60] == 200
    expected[30:] = False
    np.testing.assert_array_equal(labels > 0, expected)
    assert info["objects"][0] is not None
    assert info["objects"][0]["bbox_x_stop"].tolist() == [22, 57]


@pytest.mark.parametrize("link", [None, 0.25])
def test_boxes_of_cells_that_unknown_pixels_cut_are_those_of_the_mask(
    model: Path, discs: Array, link: float | None
) -> None:
    image = discs.astype(np.float32)
    image[:, 50:] = np.nan
    stack = np.stack([image, image])
    labels, info = unetbio.segment(stack, model, axes="ZYX", z="each", link=link, nan="fill", device="cpu")
    (table,) = info["objects"]
    assert len(table["label"]) == 6
    for row, (number, z) in enumerate(zip(table["label"], table["z"], strict=True)):
        pixels = np.argwhere(labels[z] == number)
        assert pixels.min(axis=0).tolist() == [table["bbox_y_start"][row], table["bbox_x_start"][row]]
        assert (pixels.max(axis=0) + 1).tolist() == [table["bbox_y_stop"][row], table["bbox_x_stop"][row]]


def test_a_class_counts_the_cells_of_a_stack_once_each(tmp_path: Path, model: Path, discs: Array) -> None:
    parameters = networks.find("mask_rcnn").complete({"width": 1 / 64, "backbone": "resnet18", "num_classes": 3})
    info = load_model(model).info
    classed = info.model_copy(
        update={"target": "cell_classes", "class_names": ("background", "round", "long"), "parameters": parameters}
    )
    path = tmp_path / "classed.safetensors"
    save_model(path, classed, networks.build("mask_rcnn", parameters))
    stack, options = np.stack([discs] * 4), {"axes": "ZYX", "z": "each", "device": "cpu"}
    _, linked = unetbio.segment(stack, path, link=0.25, **options)
    assert linked["n_cells"] == 3
    assert linked["frames"][0]["class_counts"] == {"round": 3, "long": 0}
    assert len(linked["objects"][0]["label"]) == 12, "a row for each section"
    assert unetbio.segment(stack, path, **options)[1]["frames"][0]["class_counts"] == {"round": 12, "long": 0}


def test_what_is_done_is_kept_while_its_table_is_there(segment: Invoke, tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    segment()
    first = {path.name: path.stat().st_mtime_ns for path in out.glob("*_labels.ome.tif")}
    segment()
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*_labels.ome.tif")} == first
    (out / "a_objects.csv").unlink()
    segment()
    assert (out / "a_objects.csv").is_file()
    assert (out / "a_labels.ome.tif").stat().st_mtime_ns > first["a_labels.ome.tif"]
    assert (out / "movie_labels.ome.tif").stat().st_mtime_ns == first["movie_labels.ome.tif"]
    # A model without such a table leaves none of another's.
    assert segment(model=tiny_model).exit_code == 0
    assert not list(out.glob("*_objects.csv"))


def test_a_run_that_stops_after_the_table_makes_the_image_again(
    segment: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    segment()

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("unetbio.results.result_files.write_provenance", stop)
        assert segment("--threshold", "0.6").exit_code == 130
    # The new table without its label image, and the old provenance: nothing of it counts as done.
    assert not (out / "a_labels.ome.tif").exists()
    assert segment().stdout.startswith("2 images, 9 cells, 0 failed")
    assert len(rows_of(out / "a_objects.csv")) == 3


def test_thresholds_areas_and_the_border(segment: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert segment("--threshold", "0.6").stdout.startswith("2 images, 3 cells")
    assert [float(row["score"]) for row in rows_of(out / "a_objects.csv")] == pytest.approx([0.65])
    assert segment("--min-area", "500").stdout.startswith("2 images, 0 cells")
    assert rows_of(out / "a_objects.csv") == []
    assert segment("--max-area", "500", "--exclude-border").stdout.startswith("2 images, 9 cells")


def test_boxes_of_a_rescaled_image_are_in_its_own_pixels(model: Path, discs: Array) -> None:
    large = discs.repeat(2, axis=0).repeat(2, axis=1)
    labels, info = unetbio.segment(large, model, device="cpu", diameter=26, min_area=400)
    assert labels.shape == large.shape
    assert info["run"]["zoom"] == [0.5, 0.5]
    (table,) = info["objects"]
    assert table["label"].tolist() == [1, 2, 3]
    for number in table["label"]:
        pixels = np.argwhere(labels == number)
        row = number - 1
        assert pixels.min(axis=0).tolist() == [table["bbox_y_start"][row], table["bbox_x_start"][row]]
        assert (pixels.max(axis=0) + 1).tolist() == [table["bbox_y_stop"][row], table["bbox_x_stop"][row]]
        assert len(pixels) == pytest.approx((large == 200).sum() / 3, rel=0.1)
    # Areas are counted in pixels of the image: each cell has about 520.
    assert unetbio.segment(large, model, device="cpu", diameter=26, max_area=400)[1]["n_cells"] == 0


def test_an_image_of_one_grey_value_has_no_objects(model: Path) -> None:
    labels, info = unetbio.segment(np.full((20, 30), 7, np.uint8), model, device="cpu")
    assert not labels.any()
    assert [len(column) for column in info["objects"][0].values()] == [0] * len(COLUMNS)


def test_a_tile_is_a_window_and_a_dry_run_plans_it(segment: Invoke, tmp_path: Path) -> None:
    assert "2 images: 2 to do" in segment("--dry-run").stdout
    assert segment("--tile", "40").stdout.startswith("2 images, 9 cells")
    assert provenance_of(tmp_path / "out").run["window"] == [64, 64]


def test_options_name_the_numbers_of_networks_that_find_objects() -> None:
    threshold, tile = options_of(Settings)["threshold"].details, options_of(RunOptions)["tile"].details
    assert f"which the network gives none that score below {SMALLEST_SCORE:g}.".replace(" 0.", " .") in threshold
    assert f"{WINDOW} for networks that find objects" in tile


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--crf", "largefov"), "model finder finds objects, and the CRF needs the probabilities of pixels: leave out"),
        (("--classes", "cell"), "model finder finds cells, it has no classes to choose: leave out --classes"),
        (
            ("--min-certain", "0.1"),
            "model finder finds objects and has no probabilities of pixels: leave out --min-cert",
        ),
        (
            ("--save-probabilities",),
            "model finder finds objects and has no probabilities of pixels: leave out --save-p",
        ),
        (("--save-probabilities", "--dry-run"), "has no probabilities of pixels: leave out --save-probabilities"),
        (("--exact-tiles",), "model finder cannot be tiled exactly: the result of mask_rcnn depends on its windows;"),
    ],
)
def test_what_needs_probabilities_of_pixels_is_refused(
    segment: Invoke, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    result = segment("-q", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_real_network_runs_from_its_file(model: Path, discs: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    labels, info = unetbio.segment(discs, model, device="cpu")
    assert labels.shape == discs.shape
    assert info["n_cells"] == len(info["objects"][0]["label"])
    with pytest.raises(UsageError, match="leave out --exact-tiles"):
        unetbio.segment(discs, model, device="cpu", exact_tiles=True)
    for backend in sorted({*names()} - {DEFAULT}):
        message = f"finder finds objects, which backend {backend} cannot: leave out --backend"
        with pytest.raises(UsageError, match=message):
            unetbio.segment(discs, model, device="cpu", backend=backend)
