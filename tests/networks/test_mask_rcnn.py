"""Mask R-CNN as a whole: parameters, losses, and objects on one image; its parts have files of their own."""

import re

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from unetbio import networks
from unetbio.errors import GeometryError, UsageError
from unetbio.geometry import receptive_field
from unetbio.inference.objects import predict_objects
from unetbio.networks.mask_rcnn import boxes as box_code
from unetbio.networks.mask_rcnn.feature_pyramid import FeaturePyramid
from unetbio.networks.mask_rcnn.network import MaskRCNN
from unetbio.networks.mask_rcnn.proposals import (
    annotations_of,
)

BOX_COLUMNS = ("y_start", "x_start", "y_stop", "x_stop")
TINY = {"width": 1 / 16, "backbone": "resnet18"}


def test_the_pyramid_adds_each_coarser_map_repeated() -> None:
    pyramid = FeaturePyramid((1, 1), 1)
    with torch.no_grad():
        for layer in pyramid.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.zero_()
                layer.weight[0, 0, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
                torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    fine = torch.arange(36.0).reshape(1, 1, 6, 6)
    coarse = torch.tensor([[100.0, 200, 300], [400, 500, 600], [700, 800, 900]])[None, None]
    maps = pyramid([fine, coarse])
    assert maps[0][0, 0, 0].tolist() == [100, 101, 202, 203, 304, 305]
    assert maps[0][0, 0, 3].tolist() == [418, 419, 520, 521, 622, 623]
    assert torch.equal(maps[1], coarse)
    assert maps[2].tolist() == [[[[100, 300], [700, 900]]]]


def discs(side: int = 128) -> tuple[Tensor, Tensor]:
    """One image with six discs, two of which touch: ``(1, 1, side, side)`` and its label image."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    label_image = torch.zeros(side, side, dtype=torch.int64)
    places = [(25, 25, 12), (30, 80, 15), (70, 40, 10), (75, 100, 18), (110, 30, 12), (70, 61, 10)]
    for number, (y, x, radius) in enumerate(places, start=1):
        label_image[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = number
    noise = 0.1 * torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    return ((label_image > 0).float() + noise)[None, None], label_image[None]


def build(seed: int = 0, **parameters: object) -> MaskRCNN:
    torch.manual_seed(seed)
    network = networks.build("mask_rcnn", {**TINY, **parameters})
    assert isinstance(network, MaskRCNN)
    return network


def test_parameters_agree_with_torchvision() -> None:
    (published,) = networks.find("mask_rcnn").published
    with torch.device("meta"):
        network = networks.build("mask_rcnn", published.parameters)
    # Batch norm is frozen there: a scale and a shift for each of ResNet-50's 26 560 normalised channels
    assert networks.parameter_count(network) == published.count + 2 * 26_560


@pytest.mark.parametrize(("in_channels", "num_classes"), [(1, 2), (3, 4)])
def test_every_parameter_gets_a_gradient(in_channels: int, num_classes: int) -> None:
    network = build(in_channels=in_channels, num_classes=num_classes)
    image, label_images = discs()
    class_masks = (label_images % (num_classes - 1) + 1) * (label_images > 0)
    network.loss(
        image.expand(2, in_channels, -1, -1), label_images.expand(2, -1, -1), class_masks=class_masks.expand(2, -1, -1)
    ).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_loss_is_the_sum_of_five_and_follows_the_seed() -> None:
    network = build()
    image, label_images = discs()
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(network.loss(image, label_images))
    torch.manual_seed(1)
    parts = network.losses(image, label_images)
    assert list(parts) == ["objectness", "proposal_boxes", "classes", "boxes", "masks"]
    assert losses[0].shape == ()
    assert losses[0] == losses[1]
    assert losses[0].item() == pytest.approx(sum(part.item() for part in parts.values()))
    assert losses[0] != losses[2]


def test_images_without_cells_teach_what_background_is() -> None:
    network = build()
    image, label_images = discs()
    parts = network.losses(image, torch.zeros_like(label_images))
    assert parts["objectness"] > 0
    assert parts["classes"] > 0
    assert parts["proposal_boxes"] == parts["boxes"] == parts["masks"] == 0
    torch.stack(list(parts.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    nothing_known = network.losses(image, torch.zeros_like(label_images), weight_map=torch.zeros_like(image[:, 0]))
    assert all(part == 0 for part in nothing_known.values())


def test_the_loss_is_computed_in_full_precision_under_autocast() -> None:
    network = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = network.loss(*discs())
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize(("in_channels", "num_classes", "shape"), [(1, 2, (64, 96)), (3, 4, (32, 32))])
def test_objects_lie_in_the_image_and_are_the_same_each_time_and_after_saving(
    in_channels: int, num_classes: int, shape: tuple[int, int]
) -> None:
    network = build(in_channels=in_channels, num_classes=num_classes).eval()
    image = torch.randn(1, in_channels, *shape, generator=torch.Generator().manual_seed(3))
    found = network.find_objects(image)
    count = len(found.boxes)
    assert 0 < count <= 1000
    assert found.boxes.shape == (count, 4)
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([*shape, *shape])).all()
    assert found.masks.shape == (count, 28, 28)
    assert ((found.masks >= 0) & (found.masks <= 1)).all()
    assert set(found.classes.tolist()) == set(range(1, num_classes))
    assert (found.scores.diff() <= 0).all()
    assert found.scores.min() >= 0.05
    loaded = build(seed=1, in_channels=in_channels, num_classes=num_classes).eval()
    loaded.load_state_dict(load(save(network.state_dict())))
    for other in (network.find_objects(image), loaded.find_objects(image)):
        for name in ("boxes", "scores", "classes", "masks"):
            assert torch.equal(getattr(found, name), getattr(other, name))


def test_where_nothing_scores_nothing_is_found() -> None:
    network = build().eval()
    with torch.no_grad():
        network.box_head.classes.bias[0] = 100.0
    found = network.find_objects(discs()[0])
    assert [tuple(part.shape) for part in (found.boxes, found.scores, found.classes, found.masks)] == [
        (0, 4),
        (0,),
        (0,),
        (0, 28, 28),
    ]


def test_forward_gives_maps_and_an_answer_for_every_anchor() -> None:
    answer = build().eval()(torch.zeros(2, 1, 96, 64))
    assert [tuple(level.shape[2:]) for level in answer.pyramid] == [(24, 16), (12, 8), (6, 4), (3, 2), (2, 1)]
    assert [tuple(level.shape) for level in answer.logits] == [(2, 3 * n) for n in (384, 96, 24, 6, 2)]
    assert [tuple(level.shape) for level in answer.deltas] == [(2, 3 * n, 4) for n in (384, 96, 24, 6, 2)]


def test_an_answer_on_the_coarsest_map_sees_what_the_path_says() -> None:
    parameters = networks.find("mask_rcnn").complete({"width": 1 / 64, "backbone": "resnet18"})
    path = networks.find("mask_rcnn").path(parameters)
    network = networks.build("mask_rcnn", parameters).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    ends = []
    for falling in (True, False):
        # Max pooling passes the largest on, so that on a slope it is the pixel at that end of its window.
        slope = torch.linspace(1, 2, 1024).expand(1, 1, 32, 1024)
        image = (slope.flip(3) if falling else slope).clone().requires_grad_()
        logits = network(image).logits[-1].reshape(1, 16, 3)
        (gradient,) = torch.autograd.grad(logits[0, 8].sum(), image)
        seen = gradient.sum(dim=(0, 1, 2)).nonzero()
        ends.append(int(seen.min() if falling else seen.max()))
    assert ends[1] - ends[0] + 1 == receptive_field(path)


@pytest.mark.slow
def test_six_discs_are_found_after_being_seen_fifty_times() -> None:
    network = build()
    image, label_images = discs()
    optimizer = torch.optim.AdamW(network.parameters(), lr=6e-3)
    for _ in range(50):
        optimizer.zero_grad()
        network.loss(image, label_images).backward()
        optimizer.step()
    label_image, table = predict_objects(image[0].numpy(), network)  # type: ignore[arg-type]
    (known,) = annotations_of(label_images)
    boxes = torch.stack([torch.from_numpy(table[f"bbox_{side}"]) for side in BOX_COLUMNS], dim=1).float()
    overlaps = box_code.box_overlaps(known.boxes, boxes)
    assert (overlaps.amax(dim=1) >= 0.5).sum() >= 5
    assert len(boxes) <= 8
    good_masks = []
    for number in range(1, 7):
        true, found = label_images[0].numpy() == number, label_image == overlaps[number - 1].argmax().item() + 1
        good_masks.append((true & found).sum() >= 0.5 * (true | found).sum())
    assert sum(good_masks) >= 5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"anchor_sizes": (16, 32)}, "anchor_sizes is (16, 32); it must be 5 whole numbers from 1"),
        ({"anchor_sizes": "large"}, "anchor_sizes is 'large'; it must be 5 whole numbers from 1"),
        ({"backbone": "vgg16"}, "backbone is 'vgg16'; it must be one of resnet18, resnet34, resnet50, resnet101"),
    ],
)
def test_parameters_that_it_cannot_have_are_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"mask_rcnn: {message}")):
        networks.find("mask_rcnn").complete(parameters)


def test_sizes_that_are_not_multiples_of_32_are_refused() -> None:
    with pytest.raises(GeometryError, match="input size 40 along axis 1"):
        build().find_objects(torch.zeros(1, 1, 32, 40))


def test_a_patch_on_which_batch_norm_has_one_value_is_refused() -> None:
    with pytest.raises(UsageError, match="use larger patches or batches"):
        build().loss(torch.zeros(1, 1, 32, 32), torch.zeros(1, 32, 32, dtype=torch.int64))
