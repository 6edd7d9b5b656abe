"""Targets of nested classes: background, boundary, inside and, of one of them, centre."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result
from scipy import ndimage

import unetbio
from unetbio import networks
from unetbio.cli.main import main
from unetbio.errors import UsageError
from unetbio.models.model_file import ModelInfo, load_model, read_info, save_model
from unetbio.postprocessing.instances import PostProcessing
from unetbio.settings.training import TrainingConfig
from unetbio.targets import centres, of_training
from unetbio.targets.boundaries import CLASSES, BoundaryLearner
from unetbio.targets.centres import CentreLearner

CONFIG = TrainingConfig(target="boundaries")
EQUAL = (1.0, 1.0, 1.0)


def encode(label_image: object, config: TrainingConfig = CONFIG, **options: object) -> tuple[np.ndarray, np.ndarray]:
    return BoundaryLearner(config).encode(np.array(label_image, np.int32), EQUAL, options.get("spacing"))


def test_the_boundary_is_two_pixels_wide_and_the_outline_has_no_weights() -> None:
    label_image = np.zeros((11, 13), int)
    label_image[1:10, 1:12] = 5
    classes, weight_map = encode(label_image)
    expected = np.zeros((11, 13), int)
    expected[1:10, 1:12] = 1
    expected[3:8, 3:10] = 2
    np.testing.assert_array_equal(classes, expected)
    np.testing.assert_array_equal(weight_map, np.ones((2, 11, 13)))


@pytest.mark.parametrize(("size", "inside"), [(1, 1), (3, 1), (5, 3), (7, 3), (9, 5)])
def test_the_smallest_cells_keep_an_inside(size: int, inside: int) -> None:
    label_image = np.zeros((13, 13), int)
    label_image[2 : 2 + size, 2 : 2 + size] = 1
    classes, _ = encode(label_image)
    assert np.count_nonzero(classes == 2) == inside**2


def test_cells_that_touch_have_boundary_on_both_sides_and_none_at_the_border_of_the_image() -> None:
    label_image = np.repeat([[1] * 7 + [2] * 7], 5, axis=0)
    classes, _ = encode(label_image)
    np.testing.assert_array_equal(classes, [[2] * 5 + [1] * 4 + [2] * 5] * 5)
    assert (encode(np.full((5, 5), 3))[0] == 2).all()


def test_pixels_where_cells_touch_weigh_most_but_not_in_the_outline() -> None:
    label_image = np.zeros((12, 24), int)
    label_image[2:10, 2:12] = 1
    label_image[2:10, 12:22] = 2
    outline, inner = encode(label_image, CONFIG.model_copy(update={"border_weight": 4.0, "border_sigma": 3.0}))[1]
    assert (outline == 1).all()
    # The nearest place where the cells touch counts as one pixel away.
    np.testing.assert_allclose(inner[5, 8:12], 1 + 4 * np.exp(-(np.array([4.0, 3, 2, 1]) ** 2) / 18), rtol=1e-6)
    np.testing.assert_allclose(inner[5, 12:16], inner[5, 8:12][::-1], rtol=1e-6)
    assert (encode(label_image, CONFIG.model_copy(update={"border_weight": 0.0}))[1] == 1).all()


def test_distances_are_those_of_the_voxels() -> None:
    label_image = np.zeros((5, 11, 11), int)
    label_image[1:4, 1:10, 1:10] = 1
    classes, _ = encode(label_image, spacing=(5.0, 1.0, 1.0))
    # Sections lie 5 pixels apart: the section above is no boundary.
    assert (classes[1:4, 3:8, 3:8] == 2).all()
    # With equal voxels the inscribed radius is 2 and the boundary 1 wide.
    assert (encode(label_image)[0][1:4, 4:7, 4:7] == np.array([1, 2, 1])[:, None, None]).all()


def test_pixels_that_are_not_annotated_weigh_nothing() -> None:
    label_image = np.zeros((12, 12), int)
    label_image[:, :4] = 99
    label_image[3:10, 5:12] = 1
    config = CONFIG.model_copy(update={"ignore_label": 99})
    classes, weight_map = encode(label_image, config)
    assert not classes[:, :4].any()
    assert not weight_map[:, :, :4].any()
    assert weight_map[:, :, 4:].all()


def test_a_cell_that_an_area_without_annotation_cuts_has_no_outline_there() -> None:
    label_image = np.zeros((20, 24), int)
    label_image[2:18, 2:22] = 1
    whole = CentreLearner(TrainingConfig(target="centres")).encode(label_image, (1.0,) * 4, None)[0]
    cut = label_image.copy()
    cut[:, 12:] = 65535
    config = TrainingConfig(target="centres", ignore_label=65535, small_cell_weight=8)
    classes, weights = CentreLearner(config).encode(cut, (1.0,) * 4, None)
    np.testing.assert_array_equal(classes[:, :12], whole[:, :12])
    # Nor is what is left of it a small cell.
    assert (weights[0, :, :12] == 1).all()
    assert not weights[:, :, 12:].any()


def test_a_thin_seam_or_rim_without_annotation_is_an_outline() -> None:
    label_image = np.zeros((30, 60), int)
    label_image[5:25, 5:25] = 1
    label_image[5:25, 27:47] = 2
    plain, _ = CentreLearner(TrainingConfig(target="centres")).encode(label_image, (1.0,) * 4, None)
    config = TrainingConfig(target="centres", ignore_label=255)
    label_image[ndimage.binary_dilation(label_image > 0, iterations=3) & (label_image == 0)] = 255
    classes, weights = CentreLearner(config).encode(label_image, (1.0,) * 4, None)
    np.testing.assert_array_equal(classes, plain)
    assert not weights[:, label_image == 255].any()


@pytest.mark.parametrize("learner", [CentreLearner, BoundaryLearner])
def test_sections_without_annotation_are_no_outline(learner: type[CentreLearner] | type[BoundaryLearner]) -> None:
    z, y, x = np.mgrid[:26, :32, :48]
    label_image = np.zeros(z.shape, np.int32)
    for number, column in ((1, 13), (2, 34)):
        is_inside = ((z - 13) / 8) ** 2 + ((y - 16) / 11) ** 2 + ((x - column) / 12) ** 2 <= 1
        label_image[is_inside & (label_image == 0)] = number
    target = "centres" if learner is CentreLearner else "boundaries"
    spacing, weights = (2.0, 1.0, 1.0), (1.0,) * 4
    whole = learner(TrainingConfig(target=target)).encode(label_image, weights, spacing)[0]
    for step in (2, 5, 8):
        sparse = np.full_like(label_image, 255)
        sparse[::step] = label_image[::step]
        classes, weight_map = learner(TrainingConfig(target=target, ignore_label=255)).encode(sparse, weights, spacing)
        is_cell = (sparse > 0) & (sparse != 255)
        assert (classes == whole)[is_cell].mean() > 0.9, step
        assert not weight_map[:, sparse == 255].any()


def test_a_large_number_of_pixels_that_are_not_annotated_is_refused() -> None:
    with pytest.raises(UsageError, match="ignore_label 65536: with target: centres it must be at most 65535; mark"):
        of_training(TrainingConfig(target="centres", ignore_label=65536))


def test_a_centre_lies_deeper_than_half_of_the_inscribed_radius() -> None:
    y, x = np.mgrid[:60, :60]
    label_image = (((y - 30) ** 2 + (x - 30) ** 2) <= 20**2).astype(np.int32)
    classes, _ = CentreLearner(TrainingConfig(target="centres")).encode(label_image, (1.0,) * 4, None)
    radii = np.hypot(y - 30, x - 30)
    assert (classes[radii < 9.5] == 3).all()
    assert (classes[(radii > 11.5) & (radii < 17.5)] == 2).all()
    assert (classes[(radii > 19) & (label_image > 0)] == 1).all()


def test_centres_part_cells_whose_insides_run_together() -> None:
    probabilities = np.zeros((4, 20, 40), np.float32)
    probabilities[0] = 1
    probabilities[:, 3:17, 3:37] = np.array([0, 1, 0, 0])[:, None, None]
    probabilities[:, 5:15, 5:35] = np.array([0, 0, 1, 0])[:, None, None]
    for start in (8, 26):
        probabilities[:, 8:12, start : start + 6] = np.array([0, 0, 0, 1])[:, None, None]
    joined = centres.CLASSES.label(probabilities, PostProcessing(seed_thresholds=(0.5,)))
    assert joined.max() == 1
    parted = centres.CLASSES.label(probabilities, PostProcessing(seed_thresholds=(0.5,), centre_thresholds=(0.5,)))
    assert (parted[3:17, 3:20] == 1).all()
    assert (parted[3:17, 20:37] == 2).all()


@pytest.mark.parametrize("target", ["boundaries", "centres"])
def test_classes_are_not_balanced(target: str) -> None:
    learner = of_training(TrainingConfig(target=target)).learner(TrainingConfig(target=target), [])
    assert len(set(learner.count(np.array([[0, 1, 1, 1, 1]])))) == 1
    with pytest.raises(
        UsageError, match=f"class_weighting: median_frequency would move the outlines of target: {target}"
    ):
        of_training(TrainingConfig(target=target, class_weighting="median_frequency"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights that finds something of each class."""
    torch.manual_seed(3)
    parameters = {"ndim": 2, "in_channels": 1, "num_classes": 3, "base_channels": 4, "depth": 2}
    network = networks.build("unet", parameters).eval()
    network.head.weight.data *= 60
    path = tmp_path_factory.mktemp("models") / "boundaries.safetensors"
    info = ModelInfo(
        name="b",
        architecture="unet",
        parameters=networks.find("unet").complete(parameters),
        channels=("0",),
        class_names=CLASSES.names,
        target="boundaries",
        postprocessing=PostProcessing(mask_threshold=0.5, seed_thresholds=(0.5, 0.6), min_seed_area=1),
    )
    save_model(path, info, network)
    return path


def test_label_images_do_not_depend_on_tiles(model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 1000, (83, 120)).astype(np.uint16)
    labels, info = unetbio.segment(image, load_model(model), device="cpu")
    assert info["n_cells"] > 3
    assert len(info["frames"][0]["confidences"]) == info["n_cells"]
    assert info["run"]["exact"]
    for tile in (8, 20, 52):
        tiled, _ = unetbio.segment(image, load_model(model), device="cpu", tile=tile)
        np.testing.assert_array_equal(tiled, labels)


def test_the_mask_is_inside_and_boundary_together() -> None:
    inside, boundary = np.zeros((2, 20, 20), np.float32)
    inside[6:14, 6:14] = 0.9
    boundary[4:16, 4:16] = 0.3
    boundary[4:16, 4:6] = 0.9
    probabilities = np.stack([1 - np.minimum(inside + boundary, 1), boundary, inside])
    labels = CLASSES.label(probabilities, PostProcessing(max_hole_area=0))
    expected = np.zeros((20, 20), int)
    expected[4:16, 4:6] = expected[6:14, 6:14] = 1
    np.testing.assert_array_equal(labels, expected)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.usefixtures("quick_pictures", "quick_search")
def test_a_model_is_trained_used_and_scored_like_any_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label_image = np.zeros((48, 56), np.uint16)
    label_image[5:20, 5:25] = 1
    label_image[22:40, 10:30] = 2
    for name in ("a", "b", "c"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        image = (label_image > 0) * 500 + rng.normal(100, 10, label_image.shape)
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", image.astype(np.uint16))
        tifffile.imwrite(tmp_path / "masks" / f"{name}_labels.tif", label_image)
    (tmp_path / "tiny.yaml").write_text(
        "target: boundaries\nparameters: {base_channels: 2, depth: 1, batch_norm: true}\npatch_size: 40\nsteps: 4\n"
    )
    model, out = tmp_path / "m.safetensors", tmp_path / "out"
    run("train", tmp_path, "-o", model, "--config", tmp_path / "tiny.yaml", "--device", "cpu")
    info = read_info(model)
    assert (info.target, info.class_names) == ("boundaries", ("background", "boundary", "inside"))
    assert len(info.training["class_weights"]) == 3
    run("segment", tmp_path / "images", "-o", out, "--model", model, "--device", "cpu")
    provenance = json.loads((out / "a_labels.json").read_text())
    assert provenance["settings"]["postprocessing"] == json.loads(json.dumps(info.postprocessing.as_record()))
    assert (out / "a_labels.ome.tif").is_file()
    assert (out / "index.html").is_file()
    assert json.loads(run("evaluate", out, tmp_path / "masks", "--json").stdout)
    refused = CliRunner().invoke(
        main, ["segment", str(tmp_path / "images"), "-o", str(out), "--model", str(model), "--classes", "inside"]
    )
    assert "segments cells, it has no classes to choose: leave out --classes" in refused.output


def test_edited_masks_get_calibrated_confidences_from_all_classes_of_cells(tmp_path: Path, model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 1000, (83, 120)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", image)
    known = load_model(model)
    calibrated = known.info.model_copy(update={"confidence": ((0.5, 0.1), (1.0, 0.6))})
    save_model(tmp_path / "m.safetensors", calibrated, known.network)
    out = tmp_path / "out"
    run(
        *("segment", tmp_path / "x.tif", "-o", out, "--model", tmp_path / "m.safetensors", "--device", "cpu"),
        "--save-probabilities",
    )
    before = pl.read_csv(out / "cells.csv")
    labels = tifffile.imread(out / "x_labels.ome.tif")
    assert before["confidence"].max() <= 0.6
    labels[labels == 1] = 0
    tifffile.imwrite(out / "x_labels.ome.tif", labels)
    run("measure", out)
    after = pl.read_csv(out / "cells.csv")
    kept = before.filter(pl.col("label") > 1)
    assert after["label"].to_list() == kept["label"].to_list()
    np.testing.assert_allclose(after["confidence"], kept["confidence"], atol=0.003)


def test_small_cells_weigh_as_if_they_were_larger_and_their_rim_with_them() -> None:
    label_image = np.zeros((40, 60), np.int32)
    label_image[10:30, 5:25] = 1  # 400 pixels, more than a disc of 12
    label_image[18:22, 40:44] = 2  # 16 pixels
    label_image[5, 55] = 3
    label_image[30:33, :2] = 4  # part of a cell that may be large
    config = CONFIG.model_copy(update={"border_weight": 0.0, "small_cell_weight": 10.0})
    outline, inner = encode(label_image, config)[1]
    assert np.array_equal(outline, inner)
    area = np.pi * 12**2 / 4
    assert outline[20, 42] == outline[16, 42] == pytest.approx(area / 16)
    assert outline[5, 55] == outline[5, 57] == 10
    assert outline[15, 42] == outline[20, 15] == outline[0, 0] == outline[31, 0] == 1


def test_a_small_ball_weighs_as_many_voxels() -> None:
    label_image = np.zeros((9, 9, 9), np.int32)
    label_image[3:6, 3:6, 3:6] = 1
    outline, _ = encode(label_image, CONFIG.model_copy(update={"border_weight": 0.0, "small_cell_weight": 100.0}))[1]
    ball = np.pi * 12**3 / 6
    assert outline[4, 4, 4] == outline[1, 4, 4] == pytest.approx(ball / 27)
    config = CONFIG.model_copy(update={"border_weight": 0.0, "small_cell_weight": 100.0})
    flat, _ = encode(label_image, config, spacing=(3.0, 1.0, 1.0))[1]
    assert flat[4, 4, 4] == flat[4, 4, 1] == pytest.approx(ball / 27 / 3)
    assert flat[2, 4, 4] == 1


def test_pixels_without_annotation_weigh_nothing_beside_small_cells() -> None:
    label_image = [[0, 0, 0, 0, 0], [0, 1, 0, 9, 9], [0, 0, 0, 0, 0]]
    config = CONFIG.model_copy(update={"border_weight": 0.0, "small_cell_weight": 5.0, "ignore_label": 9})
    assert encode(label_image, config)[1][0][1].tolist() == [5.0, 5.0, 5.0, 0.0, 0.0]
