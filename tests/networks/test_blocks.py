"""Upsampling against arithmetic done by hand."""

import pytest
import torch
from torch import nn

from unetbio.networks import blocks

SQUARE = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def test_nearest_repeats_along_each_axis_its_own_number_of_times() -> None:
    expected = torch.tensor([[[[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0]]]])
    assert torch.equal(blocks.nearest(SQUARE, (1, 2)), expected)


def test_bed_of_nails_keeps_the_first_place_of_each_window() -> None:
    expected = torch.tensor([[[[1.0, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]]])
    assert torch.equal(blocks.bed_of_nails(SQUARE, (2, 2)), expected)


def test_bilinear_weighs_neighbours_three_to_one_and_leaves_the_rim_out() -> None:
    # Along a row of 0, 4, 8 pixel centres of the upsampled row lie a quarter pixel beside those of the row: 1, 3, 5, 7.
    row = torch.tensor([[[[0.0, 4.0, 8.0]]]])
    assert torch.equal(blocks.bilinear(row, (1, 2)), torch.tensor([[[[1.0, 3.0, 5.0, 7.0]]]]))


def test_interpolation_repeats_what_lies_at_the_rim() -> None:
    row = torch.tensor([[[[0.0, 4.0, 8.0]]]])
    assert torch.equal(blocks.interpolate(row, (1, 2)), torch.tensor([[[[0.0, 1.0, 3.0, 5.0, 7.0, 8.0]]]]))


def test_max_unpool_puts_values_where_the_maxima_were() -> None:
    pooled_from = torch.tensor([[[[0.0, 9, 1, 1], [2, 3, 8, 1], [5, 0, 1, 2], [0, 0, 3, 7]]]])
    expected = torch.tensor([[[[0.0, 1, 0, 0], [0, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 4]]]])
    assert torch.equal(blocks.max_unpool(SQUARE, pooled_from, (2, 2)), expected)


def test_max_unpool_of_equal_values_takes_the_first() -> None:
    expected = blocks.bed_of_nails(SQUARE, (2, 2))
    assert torch.equal(blocks.max_unpool(SQUARE, torch.zeros(1, 1, 4, 4), (2, 2)), expected)


@pytest.mark.parametrize(("factor", "shape"), [((2, 2), (8, 12)), ((1, 2, 2), (3, 8, 8)), ((2, 2, 2), (4, 8, 4))])
def test_max_unpool_agrees_with_torch_on_windows_that_were_not_cropped(
    factor: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    encoded = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    pool, unpool = (nn.MaxPool2d, nn.MaxUnpool2d) if len(shape) == 2 else (nn.MaxPool3d, nn.MaxUnpool3d)
    pooled, indices = pool(factor, return_indices=True)(encoded)
    assert torch.equal(blocks.max_unpool(pooled, encoded, factor), unpool(factor)(pooled, indices))


def test_max_unpool_uses_the_windows_that_are_left_after_cropping() -> None:
    encoded = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    features = torch.ones(1, 1, 4, 4)
    assert torch.equal(
        blocks.max_unpool(features, encoded, (2, 2)), blocks.max_unpool(features, encoded[..., 2:-2, 2:-2], (2, 2))
    )


def test_transposed_convolution_spreads_each_value_by_its_kernel() -> None:
    layer = blocks.transposed_convolution(1, 1, (2, 2))
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[1.0, 10.0], [100.0, 1000.0]])
        layer.bias[:] = 0.5
    expected = torch.tensor([[[[1.5, 10.5, 2.5, 20.5], [100.5, 1000.5, 200.5, 2000.5]]]])
    assert torch.equal(layer(SQUARE[:, :, :1]), expected)


# The lecture's example: three inputs and three taps along each axis.
LECTURE_INPUT = torch.tensor([[[[1.0, 0, 2], [0, 3, 0], [4, 0, 5]]]])
LECTURE_KERNEL = torch.tensor([[1.0, 2, 0], [0, 1, 0], [3, 0, 1]])


def with_kernel(layer: nn.Module, kernel: torch.Tensor) -> nn.Module:
    """The layer of one channel with these weights."""
    with torch.no_grad():
        layer.weight[:] = kernel
    return layer


def lecture_layer(factor: int, padding: int = 0) -> nn.Module:
    layer = blocks.transposed_convolution(1, 1, (factor,) * 2, kernel_size=(3, 3), padding=padding, bias=False)
    return with_kernel(layer, LECTURE_KERNEL)


def test_transposed_convolution_with_stride_1_adds_kernels_one_pixel_apart() -> None:
    # For example row 2, column 2: 3 * 1 (tap 1, 1 of the middle) + 1 * 1 (tap 2, 2 of the upper left) + 2 * 3 (tap 2, 0
    # of the upper right) + 5 * 1 (tap 0, 0 of the lower right); tap 0, 2 of the lower left is 0.
    expected = torch.tensor(
        [[1.0, 2, 2, 4, 0], [0, 4, 6, 2, 0], [7, 8, 15, 10, 2], [0, 13, 0, 8, 0], [12, 0, 19, 0, 5]]
    )
    assert torch.equal(lecture_layer(1)(LECTURE_INPUT)[0, 0], expected)


def test_transposed_convolution_with_stride_2_adds_kernels_two_pixels_apart() -> None:
    # Neighbours share the one row or column between them: (3 - 1) * 2 + 3 = 7 pixels.
    expected = torch.tensor(
        [
            [1.0, 2, 0, 0, 2, 4, 0],
            [0, 1, 0, 0, 0, 2, 0],
            [3, 0, 4, 6, 6, 0, 2],
            [0, 0, 0, 3, 0, 0, 0],
            [4, 8, 9, 0, 8, 10, 0],
            [0, 4, 0, 0, 0, 5, 0],
            [12, 0, 4, 0, 15, 0, 5],
        ]
    )
    assert torch.equal(lecture_layer(2)(LECTURE_INPUT)[0, 0], expected)


def test_padding_of_a_transposed_convolution_crops_its_output() -> None:
    for factor in (1, 2):
        whole = lecture_layer(factor)(LECTURE_INPUT)
        assert torch.equal(lecture_layer(factor, padding=1)(LECTURE_INPUT), whole[..., 1:-1, 1:-1])


def test_output_padding_leaves_a_row_and_a_column_more_at_the_end() -> None:
    # 5 and 6 pixels become 3 with stride 2 and padding 1; output_padding says which of them to return to.
    layer = with_kernel(nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1, bias=False), LECTURE_KERNEL)
    assert torch.equal(layer(LECTURE_INPUT), lecture_layer(2)(LECTURE_INPUT)[..., 1:, 1:])


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_dilated_convolution_is_the_sum_of_the_lecture(rate: int) -> None:
    # y[i] = sum_k x[i + r k] w[k], along both axes
    generator = torch.Generator().manual_seed(rate)
    image, kernel = torch.rand(10, 12, generator=generator), torch.rand(3, 3, generator=generator)
    layer = with_kernel(blocks.convolution(1, 1, (3, 3), dilation=rate)[0], kernel)
    expected = torch.zeros(10 - 2 * rate, 12 - 2 * rate)
    for i in range(expected.shape[0]):
        for j in range(expected.shape[1]):
            for k in range(3):
                for m in range(3):
                    expected[i, j] += image[i + rate * k, j + rate * m] * kernel[k, m]
    assert torch.allclose(layer(image[None, None])[0, 0] - layer.bias, expected, atol=1e-6)


def test_padding_of_a_dilated_convolution_keeps_the_size() -> None:
    image = torch.rand(1, 1, 9, 8, generator=torch.Generator().manual_seed(0))
    for rate in (1, 2, 4):
        assert blocks.convolution(1, 2, (3, 3), padding=True, dilation=rate)(image).shape == (1, 2, 9, 8)


def test_widths_scale_channels_and_leave_at_least_one() -> None:
    assert [blocks.scaled(48, width) for width in (1, 0.5, 1 / 16, 0.001, 2)] == [48, 24, 3, 1, 96]


def test_crop_takes_as_much_from_either_side() -> None:
    ramp = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert torch.equal(blocks.crop(ramp, (2, 4)), ramp[..., 2:4, 1:5])


def test_he_initialisation_has_the_variance_of_the_paper() -> None:
    network = nn.Sequential(nn.Conv2d(64, 128, 3), nn.ConvTranspose2d(256, 128, 2, stride=2))
    torch.manual_seed(0)
    blocks.initialise_he(network)
    # N incoming connections: 9 * 64 for the convolution, 256 for a transposed one whose kernel is its stride.
    assert network[0].weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert network[1].weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert not network[0].bias.any()
