"""Objects over windows, with detectors that know the truth: no network, but for one test."""

import re
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label as connected
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unetbio import networks
from unetbio.errors import ImageError, UsageError
from unetbio.geometry import Geometry
from unetbio.inference.objects import TorchDetector, find_objects, merge_objects, predict_objects
from unetbio.labels import relabel_raster
from unetbio.networks.detection import Objects
from unetbio.networks.mask_rcnn.proposals import annotations_of
from unetbio.networks.mask_rcnn.roi_align import sample_label_images
from unetbio.postprocessing.objects import ObjectTable


@dataclass
class Oracle:
    """Finds the true objects of an image whose grey values are their ids, cut to the window, to the pixel."""

    stride: int = 1
    in_channels: int = 1

    @property
    def geometry(self) -> Geometry:
        return Geometry((0, 0), (self.stride,) * 2, (self.stride,) * 2, "same")

    def find_objects(self, image: Tensor) -> Objects:
        self.geometry.check(image.shape[2:])
        labels = image[0, 0].long()
        ids = labels.unique()
        ids = ids[ids > 0]
        # A mask as large as the window in a box as large as the window is the mask itself.
        box = torch.tensor([0.0, 0.0, *labels.shape]).expand(len(ids), 4)
        # Scores differ by object and by window, as a network's do.
        scores = 0.6 + 0.3 * torch.rand(len(ids), generator=torch.Generator().manual_seed(int(labels.sum())))
        return Objects(box, scores, ids % 3 + 1, (labels == ids[:, None, None]).float())


class CoarseOracle(Oracle):
    """The same with tight boxes and masks of 28 x 28, as a network gives them."""

    def find_objects(self, image: Tensor) -> Objects:
        labels = image[0].long()
        truth = annotations_of(labels)[0]
        count = len(truth.ids)
        masks = sample_label_images(labels, truth.ids, torch.zeros(count, dtype=torch.int64), truth.boxes, 28)
        return Objects(truth.boxes, torch.full((count,), 0.9), truth.classes, masks)


def predict(label_image: np.ndarray, detector: Oracle, **options: object) -> tuple[np.ndarray, ObjectTable]:
    return predict_objects(label_image[None].astype(np.float32), detector, **options)  # type: ignore[arg-type]


def make_cells(rng: np.random.Generator, shape: tuple[int, int], count: int, share: float) -> np.ndarray:
    """Cells that touch, some left out: each pixel belongs to the nearest seed."""
    seeds = rng.integers(0, shape, (count, 2))
    places = np.stack(np.mgrid[: shape[0], : shape[1]], axis=-1)
    nearest = np.linalg.norm(places[:, :, None] - seeds, axis=-1).argmin(axis=2)
    kept = rng.random(count) < share
    # What hangs together over corners at least is one object.
    return connected(np.where(kept[nearest], nearest + 1, 0), connectivity=2)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    count=st.integers(1, 40),
    window=st.integers(10, 60),
    overlap=st.floats(0.01, 0.5),
    stride=st.sampled_from([1, 2, 8]),
)
def test_every_object_comes_back_as_one_to_the_pixel(
    seed: int, shape: tuple[int, int], count: int, window: int, overlap: float, stride: int
) -> None:
    cells = make_cells(np.random.default_rng(seed), shape, count, share=0.8)
    label_image, table = predict(cells, Oracle(stride), window=window, overlap=overlap)
    assert np.array_equal(label_image, relabel_raster(cells))
    assert len(table["label"]) == len(np.unique(cells[cells > 0]))


def test_windows_of_three_pixels_are_enough() -> None:
    cells = make_cells(np.random.default_rng(0), (20, 17), 9, share=0.8)
    assert np.array_equal(predict(cells, Oracle(), window=3)[0], relabel_raster(cells))


def test_a_line_from_core_to_core_over_their_corners_is_one_object() -> None:
    """Windows beside the diagonal see no pixel that is theirs to answer for."""
    assert np.array_equal(predict(np.eye(80, dtype=int), Oracle(), window=32)[0], np.eye(80))


@pytest.mark.parametrize("window", [8, 20, 32, 64, 200])
def test_a_spiral_that_enters_every_window_many_times_is_one_object(window: int) -> None:
    spiral = np.zeros((61, 61), dtype=int)
    y, x, direction, length = 0, 0, (0, 1), 60
    while length > 3:
        for _ in range(2):
            for _ in range(length):
                spiral[y, x] = 5
                y, x = y + direction[0], x + direction[1]
            direction = (direction[1], -direction[0])
        length -= 4
    assert np.array_equal(predict(spiral, Oracle(), window=window)[0], spiral // 5)


@pytest.mark.parametrize("window", [64, 100, 160])
def test_masks_of_28_pixels_give_discs_of_any_size_to_an_iou_of_92_percent(window: int) -> None:
    rows, columns = np.mgrid[:300, :260]
    discs = np.zeros(rows.shape, dtype=int)
    radii = [(60, 70, 50), (40, 170, 8), (70, 200, 12), (100, 220, 5), (200, 150, 75), (170, 30, 20), (260, 40, 30)]
    for number, (y, x, radius) in enumerate(radii, start=1):
        discs[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = number
    label_image, table = predict(discs, CoarseOracle(4), window=window)
    assert len(table["label"]) == len(radii)
    for number, (y, x, _) in enumerate(radii, start=1):
        found, true = label_image == label_image[y, x], discs == number
        assert (found & true).sum() >= 0.92 * (found | true).sum()


def test_the_table_names_box_class_and_score_by_id_in_raster_order() -> None:
    cells = np.zeros((20, 30), dtype=int)
    cells[12:15, 2:8] = 2
    cells[3:9, 20:24] = 4
    label_image, table = predict(cells, Oracle(), window=64)
    assert label_image[3, 20] == 1
    assert label_image[12, 2] == 2
    assert table["label"].tolist() == [1, 2]
    assert table["class"].tolist() == [4 % 3 + 1, 2 % 3 + 1]
    boxes = [table[f"bbox_{axis}_{end}"].tolist() for axis in "yx" for end in ("start", "stop")]
    assert boxes == [[3, 12], [9, 15], [20, 2], [24, 8]]
    assert ((table["score"] >= 0.6) & (table["score"] <= 0.9)).all()


class Canned(Oracle):
    """Gives the same objects whatever it sees."""

    def __init__(self, boxes: list[list[float]], scores: list[float], classes: list[int] | None = None) -> None:
        super().__init__()
        masks = torch.ones(len(boxes), 28, 28)
        self.objects = Objects(
            torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(classes or [1] * len(boxes)), masks
        )

    def find_objects(self, image: Tensor) -> Objects:
        return self.objects


def test_the_better_object_takes_the_pixels_and_one_that_is_mostly_taken_is_left_out() -> None:
    # The second shares 4 of 10 columns with the first and keeps 6; the third keeps 4 of 10 and is left out.
    detector = Canned([[0, 6, 5, 16], [0, 0, 5, 10], [6, 0, 11, 10], [6, 4, 11, 14]], [0.7, 0.9, 0.95, 0.8])
    label_image, table = predict(np.zeros((12, 20)), detector)
    assert label_image[0].tolist() == [1] * 10 + [2] * 6 + [0] * 4
    assert label_image[6].tolist() == [3] * 10 + [0] * 10
    assert table["score"].round(2).tolist() == [0.9, 0.7, 0.95]


def test_pixels_belong_to_a_box_when_their_centres_lie_in_it() -> None:
    label_image, _ = predict(np.zeros((4, 8)), Canned([[0.4, 1.6, 2.5, 4.51]], [0.9]))
    assert label_image.tolist() == [[0, 0, 1, 1, 1, 0, 0, 0]] * 2 + [[0] * 8] * 2


def test_objects_below_the_threshold_are_left_out_without_running_again() -> None:
    found = find_objects(np.zeros((1, 12, 20)), Canned([[0, 0, 5, 5], [6, 0, 9, 9]], [0.5, 0.3]))
    counts = [len(merge_objects(found, score_threshold=score)[1]["label"]) for score in (0.2, 0.5, 0.6)]
    assert counts == [2, 1, 0]


def test_a_higher_mask_threshold_draws_objects_smaller() -> None:
    # Probability rises along x from 1/56 to 55/56
    slope = ((torch.arange(28) + 0.5) / 28).expand(1, 28, 28)
    detector = Canned([[0, 0, 4, 28]], [0.9])
    detector.objects = replace(detector.objects, masks=slope)
    widths = [(predict(np.zeros((4, 40)), detector, mask_threshold=level)[0][0] > 0).sum() for level in (0.25, 0.5)]
    assert widths == [21, 14]


def test_a_whole_object_wins_over_the_piece_that_a_neighbouring_window_sees() -> None:
    """The neighbour's piece is too large where it is cut, and scores more: the whole object counts all the same."""

    class Sloppy(Oracle):
        def find_objects(self, image: Tensor) -> Objects:
            if image[0, 0, 0, 0] == 0:  # the window at the left: sees all of it
                boxes, score = [[10.0, 26.0, 20.0, 36.0]], 0.7
            else:  # the window that starts at column 30
                boxes, score = [[9.0, 0.0, 21.0, 6.0]], 0.9
            return Objects(torch.tensor(boxes), torch.tensor([score]), torch.tensor([1]), torch.ones(1, 28, 28))

    columns = np.broadcast_to(np.arange(70), (40, 70))
    label_image, table = predict(columns, Sloppy(), window=40, overlap=0.25)
    expected = np.zeros((40, 70), dtype=int)
    expected[10:20, 26:36] = 1
    assert np.array_equal(label_image, expected)
    assert table["score"].round(2).tolist() == [0.7]


def test_progress_counts_every_pixel_once() -> None:
    seen: list[tuple[int, int]] = []
    find_objects(np.zeros((1, 50, 70)), Oracle(), window=32, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) == 6
    assert seen[-1] == (3500, 3500)
    assert all(earlier[0] < later[0] for earlier, later in pairwise(seen))


def test_an_image_without_objects_has_an_empty_table() -> None:
    label_image, table = predict(np.zeros((1, 1)), Oracle(32))
    assert label_image.tolist() == [[0]]
    assert all(len(column) == 0 for column in table.values())


def test_a_network_is_run_as_a_copy_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    network = networks.build("mask_rcnn", {"width": 1 / 64, "backbone": "resnet18"})
    with torch.no_grad():
        network.box_head.classes.bias[1] = 3.0
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    image = np.random.default_rng(0).normal(size=(1, 70, 50))
    label_image, table = predict_objects(image, network, window=64)  # type: ignore[arg-type]
    assert label_image.shape == (70, 50)
    assert label_image.max() == len(table["label"]) > 0
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "options", "error", "message"),
    [
        ((2, 9, 9), {}, ImageError, "the image has 2 channels and the network takes 1: choose channels"),
        ((1, 0, 9), {}, ImageError, "an image of (0, 9) pixels is empty"),
        ((1, 9, 9, 9), {}, UsageError, "takes 2 spatial axes, the image has 3: (9, 9, 9)"),
        ((1, 9, 9), {"window": 2}, UsageError, "windows of 2 pixels cannot be used: give 3 or more"),
        ((1, 9, 9), {"overlap": 0.0}, UsageError, "an overlap of 0.0 cannot be used: give the share of a window"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    shape: tuple[int, ...], options: dict[str, float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        predict_objects(np.zeros(shape), Oracle(), **options)  # type: ignore[arg-type]


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors that were made inside and are alive, after every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = StorageWeakRef(tensor.untyped_storage())
                self.storages[storage.cdata] = storage, tensor.untyped_storage().nbytes()
        self.storages = {key: pair for key, pair in self.storages.items() if not pair[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.storages.values()))
        return result


def test_the_memory_of_a_window_counts_what_looks_into_boxes() -> None:
    # Without training boxes are everywhere: about as many as the heads ever get.
    torch.manual_seed(0)
    detector = TorchDetector(networks.build("mask_rcnn", {"width": 0.1}))
    with LiveBytes() as live:
        found = detector.find_objects(torch.rand(1, 1, 512, 512))
    assert len(found.boxes) > 500
    assert 0.9 * live.most < detector.memory_bytes((512, 512)) < 1.3 * live.most
