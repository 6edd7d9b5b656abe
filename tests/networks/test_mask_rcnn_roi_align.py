"""RoIAlign against a loop over its samples."""

import math

import pytest
import torch
from torch import Tensor

from unetbio.networks.mask_rcnn.roi_align import assign_levels, roi_align, sample_label_images


def align_by_hand(features: Tensor, box: list[float], stride: int, bins: int) -> Tensor:
    """RoIAlign of one box, sample by sample, in float64: ``(C, H, W) -> (C, bins, bins)``."""
    channels, height, width = features.shape
    y0, x0, y1, x1 = (edge / stride for edge in box)

    def sample(y: float, x: float) -> Tensor:
        if not (-1 <= y <= height and -1 <= x <= width):
            return torch.zeros(channels, dtype=torch.float64)
        y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
        top, left = math.floor(y), math.floor(x)
        total = torch.zeros(channels, dtype=torch.float64)
        for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
            for column, column_weight in ((left, 1 - (x - left)), (left + 1, x - left)):
                if row_weight * column_weight > 0:
                    total += row_weight * column_weight * features[:, row, column].double()
        return total

    result = torch.zeros(channels, bins, bins, dtype=torch.float64)
    for i in range(bins):
        for j in range(bins):
            for a in (0.25, 0.75):
                for b in (0.25, 0.75):
                    y = y0 + (y1 - y0) * (i + a) / bins - 0.5
                    x = x0 + (x1 - x0) * (j + b) / bins - 0.5
                    result[:, i, j] += sample(y, x) / 4
    return result


@pytest.mark.parametrize("bins", [7, 14])
def test_roi_align_agrees_with_a_loop_over_samples_in_float64(bins: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pyramid = [torch.randn(2, 3, 512 // stride, 640 // stride, generator=generator) for stride in (4, 8, 16, 32)]
    boxes = [
        [
            [10.3, 20.7, 31.2, 77.7],
            [-30.0, 600.0, 40.0, 690.0],  # half outside, at two sides
            [100.2, 100.4, 100.9, 100.6],  # within a pixel
            [300.0, 300.0, 300.0, 300.0],  # empty
        ],
        [
            [0.0, 0.0, 512.0, 640.0],
            [-400.0, -300.0, -200.0, -100.0],  # far outside
            [490.0, 10.0, 560.0, 300.0],
            [17.0, 13.0, 140.0, 150.0],
            [33.3, 250.0, 270.9, 600.1],
        ],
    ]
    found = roi_align(pyramid, [torch.tensor(part) for part in boxes], bins)
    expected = []
    for image, part in enumerate(boxes):
        for box in part:
            size = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
            level = min(max(math.floor(4 + math.log2(size / 224)), 2), 5) if size else 2
            expected.append(align_by_hand(pyramid[level - 2][image], box, 2**level, bins))
    assert found.shape == (9, 3, bins, bins)
    assert (found - torch.stack(expected)).abs().max() <= 1e-5
    assert found[5].abs().max() == 0


def test_roi_align_of_the_ramp_of_columns_is_the_ramp_within_the_box() -> None:
    # Pixel i of the map has its centre at i + 1/2 there and at 4 i + 2 in the image; its value is i.
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    found = roi_align([ramp], [torch.tensor([[8.0, 40.0, 36.0, 68.0]])], 7)
    # Seven bins of 4 pixels: their centres are 42, 46 ... in the image, so 10, 11 ... in the map
    assert torch.allclose(found[0, 0], torch.arange(10.0, 17.0).expand(7, 7))


def test_gradients_flow_through_roi_align_as_differences_say() -> None:
    features = torch.randn(1, 2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    boxes = [torch.tensor([[1.0, 2.0, 13.0, 11.0], [-3.0, 8.0, 9.0, 30.0]])]
    assert torch.autograd.gradcheck(lambda table: roi_align([table], boxes, 2), features.requires_grad_())


def test_boxes_of_half_the_size_are_looked_at_one_level_finer() -> None:
    sizes = [0.0, 10.0, 111.9, 112.0, 223.9, 224.0, 448.0, 5000.0]
    boxes = torch.tensor([[7.0, 9.0, 7 + size, 9 + size] for size in sizes])
    assert assign_levels(boxes, 4).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    # 56 x 224: the root of the area is 112
    assert assign_levels(torch.tensor([[0.0, 0.0, 56.0, 224.0]]), 4).tolist() == [1]


def test_share_of_a_bin_that_an_object_covers_by_hand() -> None:
    label_image = torch.tensor([[4, 4, 4, 4], [4, 4, 0, 0]])
    covered = sample_label_images(
        label_image[None], torch.tensor([4]), torch.tensor([0]), torch.tensor([[0.0, 0.0, 2.0, 4.0]]), 1
    )
    # Rows are sampled at .5 and 1.5, columns at 1 and 3: between columns 0 and 1, and between columns 2 and 3.
    assert covered.tolist() == [[[0.75]]]
