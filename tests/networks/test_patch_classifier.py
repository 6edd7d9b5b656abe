"""The sliding window: both ways of running it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from unetbio import networks
from unetbio.errors import GeometryError

SIZE = (97, 103)
PIXELS = (97 - 94) * (103 - 94)


def counted(run: Callable[[Tensor], Tensor], image: Tensor) -> tuple[Tensor, int]:
    """What a way of running the network gives, and its multiply-adds as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        return run(image), counter.get_total_flops() // 2


@pytest.mark.parametrize("batch_size", [5, 64])
def test_patch_by_patch_and_at_once_give_the_same(batch_size: int) -> None:
    torch.manual_seed(0)
    network = networks.build("patch_classifier", {"in_channels": 2, "num_classes": 3, "width": 0.125}).eval()
    image = torch.rand(2, 2, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        dense, patches = network(image), network.classify_patches(image, batch_size=batch_size)
    assert dense.shape == patches.shape == (2, 3, 3, 9)
    assert dense.abs().max() > 0.1
    assert torch.allclose(dense, patches, rtol=0, atol=1e-5)


def test_the_window_shares_nothing_and_so_costs_many_times_as_much() -> None:
    # The paper's patch: maps of 92, 42, 18 and 6 pixels a side before pooling, of 46, 21, 9 and 3 after it.
    patch = 48 * (92**2 * 4**2 + 48 * (42**2 * 5**2 + 18**2 * 4**2 + 6**2 * 4**2)) + 200 * (48 * 3**2 + 2)
    # At once: each layer's map, of the image's size less what was lost up to there.
    rows, columns = SIZE
    first, *others = ((rows - lost) * (columns - lost) for lost in (3, 12, 26, 54))
    dense = 48 * 4**2 * first + 48 * 48 * sum(area * side**2 for area, side in zip(others, (5, 4, 4), strict=True))
    dense += PIXELS * 200 * (48 * 3**2 + 2)

    network = networks.build("patch_classifier").eval()
    image = torch.zeros(1, 1, *SIZE)
    assert counted(network, image)[1] == dense
    assert counted(network.classify_patches, image)[1] == PIXELS * patch


def test_an_image_smaller_than_a_patch_is_refused_either_way() -> None:
    network = networks.build("patch_classifier", {"width": 0.1})
    for run in (network, network.classify_patches):
        with pytest.raises(GeometryError, match=r"input size 94 along axis 1 .* nearest legal sizes are 95"):
            run(torch.zeros(1, 1, 95, 94))
