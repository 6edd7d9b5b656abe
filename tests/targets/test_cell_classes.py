"""Cells with classes: from the table beside a mask to the class column, and back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from unetbio import targets
from unetbio.errors import ImageError, UsageError
from unetbio.inference.backends.base import make_backend
from unetbio.inference.prediction import decide_cells_and_classes
from unetbio.io.cell_classes import cell_classes_path, read_cell_classes, write_cell_classes
from unetbio.metrics.cell_classes import compare_classed
from unetbio.networks import build
from unetbio.postprocessing.cell_classes import class_table
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.annotations import classes_of_cells, number_cell_classes
from unetbio.supervision.losses import cell_class_cross_entropy, weighted_cross_entropy
from unetbio.targets.base import Batch

NAMES = ("background", "lymphocyte", "tumour")
CONFIG = TrainingConfig(target="cell_classes", class_names=NAMES, ignore_label=255)


def test_ids_hold_the_classes_of_cells() -> None:
    mask = np.array([[0, 5, 5, 9, 255]])
    label_image = number_cell_classes(mask, {5: "tumour", 9: "lymphocyte"}, CONFIG)
    assert classes_of_cells(label_image).tolist() == [[0, 2, 2, 1, 0]]
    assert label_image[0, 4] == 255
    assert len(np.unique(label_image)) == 4


@pytest.mark.parametrize(
    ("classes", "says"),
    [({5: "tumour"}, "cells without a class: 9"), ({5: "tumour", 9: "stroma"}, "cells of the class stroma")],
)
def test_cells_without_a_known_class_are_refused(classes: dict[int, str], says: str) -> None:
    with pytest.raises(ImageError, match=says):
        number_cell_classes(np.array([[5, 9]]), classes, CONFIG)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"class_values": (0, 1)}, "class_values are for target: classes"),
        ({"split_components": True}, "split_components"),
        ({"ignore_label": 256}, "must be below 256"),
        ({"class_names": ("background", "cell")}, "at least two"),
    ],
)
def test_settings_that_do_not_apply_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        targets.of_training(TrainingConfig.model_validate({"target": "cell_classes", **settings}))


def test_with_weights_of_one_the_loss_is_the_plain_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 5, 6), torch.randint(4, (2, 5, 6))
    weights = torch.ones(2, 2, 5, 6)
    torch.testing.assert_close(
        cell_class_cross_entropy(logits, target, weights), weighted_cross_entropy(logits, target, weights[:, 0])
    )


def test_weights_of_classes_do_not_move_the_outline() -> None:
    # All classes of cells are equally probable, so that only "cell or background" is left to learn.
    logits = torch.zeros(1, 3, 1, 2, requires_grad=True)
    weights = torch.stack([torch.ones(1, 1, 2), torch.full((1, 1, 2), 7.0)], dim=1)
    cell_class_cross_entropy(logits, torch.tensor([[[1, 0]]]), weights).backward()
    assert logits.grad is not None
    background, of_cells = logits.grad[0, 0, 0, 0], logits.grad[0, 1:, 0, 0].sum()
    torch.testing.assert_close(background, -of_cells)
    torch.testing.assert_close(background, torch.tensor(1 / 3 / 2))


def test_pixels_vote_on_the_class_of_a_cell() -> None:
    labels = np.array([[1, 1, 1, 2, 2, 3, 0]])
    classes = np.array([[2, 2, 1, 2, 1, 0, 1]], np.uint8)
    table = class_table(labels, classes, NAMES)
    # Of equally frequent classes that with the lowest number counts; a cell without votes has no class.
    assert table["class"].tolist() == ["tumour", "lymphocyte", ""]
    assert table["class_share"].tolist() == [0.667, 0.5, 0.0]


def test_tiles_change_no_class() -> None:
    torch.manual_seed(1)
    parameters = {"base_channels": 4, "depth": 2, "num_classes": 4, "dropout": 0.0}
    network = build("unet", parameters).eval()
    predictor = make_backend(network, device=torch.device("cpu"), exact=True, window=None)
    image = np.random.default_rng(0).random((1, 90, 110), dtype=np.float32)
    classes = [(1, 2, 3)] * 2
    whole = decide_cells_and_classes(image, predictor, (0.5, 0.6), classes=classes)
    tiled = decide_cells_and_classes(image, predictor, (0.5, 0.6), classes=classes, tile=24)
    assert all(np.array_equal(*pair) for pair in zip(whole, tiled, strict=True))
    assert len(np.unique(whole[1])) > 2
    assert not whole[1][~whole[0][0]].any()


def test_scores_of_classes_by_hand() -> None:
    truth = np.array([[1, 1, 0, 2, 2, 0, 3, 3]])
    # The third cell is found with a wrong class.
    compared = compare_classed((truth, {1: "a", 2: "b", 3: "b"}), (truth, {1: "a", 2: "b", 3: "a"}))
    scores = (compared + compared).scores()
    assert scores["mean_AP"] == 1
    assert scores["class_accuracy"] == pytest.approx(2 / 3)
    assert (scores["F1@.5 a"], scores["F1@.5 b"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert scores["n_true a"] == 4
    assert scores["class_PQ@.5"] == pytest.approx(2 / 3)


def test_objects_have_classes() -> None:
    config = TrainingConfig(target="cell_classes", network="mask_rcnn", class_names=NAMES, ignore_label=255)
    learner = targets.of_training(config).learner(config, [])
    label_image = np.zeros((64, 64), np.int64)
    label_image[8:24, 8:24], label_image[8:24, 24:40], label_image[40:60, 40:60] = 257, 258, 514
    ids, weights = learner.encode(label_image, (), None)
    assert np.array_equal(classes_of_cells(ids), classes_of_cells(label_image))
    assert len(np.unique(ids)) == 4
    torch.manual_seed(0)
    network = build("mask_rcnn", {"width": 1 / 32, "backbone": "resnet18", "num_classes": 3}).train()
    image = torch.rand(2, 1, 64, 64)
    both = torch.from_numpy(np.stack([ids, ids])), torch.from_numpy(np.stack([weights, weights]))
    assert learner.loss(network, Batch(image, *both)).isfinite()
    table = {"label": np.array([1, 2, 3]), "class": np.array([1, 2, 2])}
    scores = learner.score_merged([(np.unique(label_image, return_inverse=True)[1], table)], [label_image])
    assert scores["class_accuracy"] == scores["class_mean_AP"] == 1


def test_tables_beside_masks(tmp_path: Path) -> None:
    for name in ("x.tif", "x_labels.ome.tif", "x_mask.png", "x_cp_masks.png"):
        assert cell_classes_path(tmp_path / name) == tmp_path / "x_objects.csv"
    path = tmp_path / "x_objects.csv"
    write_cell_classes(path, {None: {1: "=tumour", 2: ""}})
    assert read_cell_classes(path) == {None: {1: "=tumour"}}
    write_cell_classes(path, {0: {1: "a"}, 3: {1: "b", 2: "a"}})
    assert read_cell_classes(path) == {0: {1: "a"}, 3: {1: "b", 2: "a"}}
    path.write_text("t,label,class,score\n0,1,a,.5\n1,1,b,.5\n")
    assert read_cell_classes(path) == {0: {1: "a"}, 1: {1: "b"}}


@pytest.mark.parametrize(
    "text", ["label;class\n1;grün\n2;b\n", "Label,Class\n1,grün\n2,b\n", "class\tlabel\ngrün\t1\nb\t2.0\n"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_tables_as_spreadsheets_save_them(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "x_objects.csv"
    path.write_bytes(text.encode(encoding))
    assert read_cell_classes(path) == {None: {1: "grün", 2: "b"}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("label\n1\n", "no column class"),
        ("label,class\none,a\n", "line 2: label is 'one'"),
        ("label,class\n1.7,a\n", "line 2: label is '1.7', a whole number is needed"),
        ("label,class\ninf,a\n", "line 2: label is 'inf'"),
        (None, "is missing"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "x_objects.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ImageError, match=says):
        read_cell_classes(path)
