"""How sure a model was of each cell: the mean probability over its pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy import ndimage

from unetbio import networks
from unetbio.cli.main import main
from unetbio.io import read_image, read_labels
from unetbio.io.arrays import image_of_array
from unetbio.labels import resize_nearest
from unetbio.measurement.frame_summary import describe_labels
from unetbio.models.model_file import Model, load_model
from unetbio.postprocessing.instances import PostProcessing
from unetbio.provenance import FrameRecord, read_provenance
from unetbio.segmentation import Segmenter
from unetbio.settings.segmentation import Settings

Array = NDArray[Any]

# A byte a pixel is off by half of a 255th at most, and three decimals by half of a thousandth.
TOLERANCE = 0.5 / 255 + 0.5e-3 + 1e-6


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model)


@pytest.fixture
def blobs() -> Array:
    """``(61, 83)`` uint8: twenty blurred discs of rising brightness, of which the tiny model is more and more sure."""
    image = np.zeros((61, 83))
    brightness = iter(np.linspace(130, 220, 20))
    for y in range(7, 61, 15):
        for x in range(8, 83, 17):
            image[y - 5 : y + 6, x - 5 : x + 6] = next(brightness)
    # One is cut by the border.
    blurred = np.roll(ndimage.gaussian_filter(image, 1.5), -6, axis=0).astype(np.uint8)
    # At 100 the probability is the threshold, and deciding in float64 would take most of the time.
    blurred[blurred == 100] = 99
    return blurred


def segment(model: Model, image: Array, axes: str, tile: int | None = None, **options: Any) -> tuple[Any, Array]:
    """The result of one frame, and the probability of a cell in each of its pixels."""
    segmenter = Segmenter(model, "cpu", tile=tile)
    opened = segmenter.open(image_of_array(image, axes), Settings(**options))
    frame = segmenter.read_frame(opened, opened.times[0])
    probabilities = np.empty((2, *opened.grid), np.float32)
    decided = segmenter.decide(opened, frame, probabilities_out=probabilities)
    result = segmenter.finish(opened, frame, decided)
    return result, resize_nearest(probabilities[1], result.label_image.shape)


def check(record: FrameRecord, labels: Array, probability: Array) -> None:
    expected = [probability[labels == cell].mean(dtype=np.float64) for cell in range(1, labels.max() + 1)]
    assert record.n_cells == len(expected) > 2
    np.testing.assert_allclose(record.confidences, expected, atol=TOLERANCE)
    assert np.ptp(expected) > 0.05
    assert all(confidence == round(confidence, 3) for confidence in record.confidences)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": 25},
        {"diameter_px": 9.0},
        {"diameter_px": 17.0},
        {"exclude_border": True},
        {"threshold": 0.3},
        {"crf": "largefov"},
    ],
    ids=str,
)
def test_the_mean_over_the_pixels_of_each_cell(model: Model, blobs: Array, options: dict[str, Any]) -> None:
    result, probability = segment(model, blobs, "YX", **options)
    check(result.record, result.label_image, probability)


def test_tiles_change_them_by_a_thousandth_at_most(model: Model, blobs: Array) -> None:
    found = [segment(model, blobs, "YX", tile=tile)[0].record.confidences for tile in (25, 33, 1000)]
    for confidences in found[1:]:
        np.testing.assert_allclose(confidences, found[0], atol=0.0011)


@pytest.mark.parametrize("link", [None, 0.3])
@pytest.mark.parametrize("diameter_px", [None, 9.0])
def test_stacks_have_one_for_each_cell_or_object(
    model: Model, blobs: Array, link: float | None, diameter_px: float | None
) -> None:
    # Sections differ in how sure the model is; it sees none of the third, and is not asked.
    stack = np.stack([blobs, np.roll(blobs // 4 * 3, 1, axis=1), np.zeros_like(blobs), blobs[::-1]])
    result, probability = segment(model, stack, "ZYX", z="each", link=link, diameter_px=diameter_px)
    check(result.record, result.label_image, probability)


def test_networks_whose_windows_are_blended(model: Model, blobs: Array) -> None:
    parameters = networks.find("pspnet").complete({"width": 0.06, "backbone": "resnet18"})
    torch.manual_seed(0)
    network = networks.build("pspnet", parameters).eval()
    # What was never trained answers with about one half: the first threshold makes cells of it.
    info = model.info.model_copy(
        update={
            "architecture": "pspnet",
            "parameters": parameters,
            "window": (32, 32),
            "postprocessing": PostProcessing(seed_thresholds=()),
        }
    )
    blended = Model(info, network, model.sha256, model.path)
    _, probability = segment(blended, blobs, "YX")
    middle = float(np.median(probability))
    result, probability = segment(blended, blobs, "YX", threshold=middle, min_area=1)
    labels = result.label_image
    expected = [probability[labels == cell].mean(dtype=np.float64) for cell in range(1, labels.max() + 1)]
    assert expected
    np.testing.assert_allclose(result.record.confidences, expected, atol=TOLERANCE)


def test_ids_beyond_16_bits() -> None:
    labels = np.arange(1, 70_001, dtype=np.uint32).reshape(100, 700)
    probability = (labels % 256).astype(np.uint8)
    confidences = describe_labels(labels, None, probability).confidences
    assert confidences == tuple(np.round(probability.reshape(-1) / 255, 3).tolist())


def test_nothing_is_recorded_where_there_are_no_probabilities_or_cells(model: Model, blobs: Array) -> None:
    assert describe_labels(np.array([[0, 1, 2]], np.uint16), None).confidences == ()
    assert segment(model, np.zeros_like(blobs), "YX")[0].record.confidences == ()
    classes = Model(
        model.info.model_copy(
            update={"target": "classes", "class_names": ("ground", "cell"), "cell_diameter_px": None}
        ),
        model.network,
        model.sha256,
        model.path,
    )
    assert segment(classes, blobs, "YX")[0].record.confidences == ()


@pytest.mark.parametrize("link", [(), ("--link", "0.3")], ids=["apart", "linked"])
def test_the_table_of_a_time_lapse_of_stacks(
    tmp_path: Path, tiny_model: Path, blobs: Array, link: tuple[str, ...]
) -> None:
    # Times and sections differ in how sure the model is.
    stack = np.stack([blobs, blobs // 4 * 3])
    series = np.stack([stack, stack[:, ::-1] // 8 * 7])
    tifffile.imwrite(tmp_path / "s.tif", series, metadata={"axes": "TZYX"}, imagej=True)
    out = tmp_path / "out"
    command = ["segment", str(tmp_path / "s.tif"), "-o", str(out), "-m", str(tiny_model), "--z", "each", *link]
    result = CliRunner().invoke(main, [*command, "--save-probabilities"])
    assert result.exit_code == 0, result.stderr
    text = (out / "cells.csv").read_text()
    provenance, labels, rows = read_provenance(out / "s_labels.json"), read_labels(out / "s_labels.ome.tif"), 0
    assert provenance is not None
    table = pl.read_parquet(out / "cells.parquet")
    for t, record in enumerate(provenance.frames):
        probability = read_image(out / f"s_t{t:03d}_probabilities.ome.tif").read(c=1)
        check(record, labels[t], probability)
        of_time = table.filter(t=t)
        assert of_time["confidence"].to_list() == [record.confidences[cell - 1] for cell in of_time["label"]]
        rows += len(of_time)
    assert rows == len(table)
    assert CliRunner().invoke(main, ["measure", str(out), "--overwrite"]).exit_code == 0
    assert (out / "cells.csv").read_text() == text
    # What is saved beside has no say in it.
    assert CliRunner().invoke(main, [*command, "--overwrite"]).exit_code == 0
    assert (out / "cells.csv").read_text() == text
