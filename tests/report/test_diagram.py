"""Drawings of networks: what they show is what the code runs."""

from xml.etree import ElementTree

import pytest

from unetbio import networks
from unetbio.report.diagram import boxes_of, draw_network

LOGITS = [name for name in networks.names() if networks.find(name).output == "logits"]


def test_the_unet_has_its_23_convolutions_four_poolings_and_four_skips() -> None:
    boxes = boxes_of("unet", {}, size=572)
    counts = {kind: sum(box.count for box in boxes if box.kind == kind) for kind in {box.kind for box in boxes}}
    assert counts == {"convolution": 19, "max pooling": 4, "transposed convolution": 4, "concatenate": 4}
    assert (boxes[-1].channels, boxes[-1].size) == (2, 388)
    # Each concatenation takes an up-convolution and the last convolutions of an encoder level.
    skips = [box.inputs for box in boxes if box.kind == "concatenate"]
    assert [[boxes[source].kind for source in inputs] for inputs in skips] == [
        ["convolution", "transposed convolution"]
    ] * 4
    assert [boxes[inputs[0]].channels for inputs in skips] == [512, 256, 128, 64]


def test_each_rate_of_dilated_convolutions_is_shown() -> None:
    context = boxes_of("dilated_context", {"context": "basic"})[-2]
    assert (context.kind, context.rates) == ("dilated convolution", (1, 1, 2, 4, 8, 16, 1))
    assert context.dilations == "1, 2, 4, 8, 16, 1"
    rates = [box.dilations for box in boxes_of("deeplab_v3", {"backbone": "resnet50"}) if box.dilations]
    assert rates == ["2, 4, 8", "6", "12", "18"]


@pytest.mark.parametrize(
    ("upsampling", "kind"),
    [
        ("nearest", "nearest"),
        ("bed_of_nails", "bed of nails"),
        ("max_unpooling", "max-unpooling"),
        ("bilinear", "bilinear"),
    ],
)
def test_each_way_of_upsampling_is_told_apart(upsampling: str, kind: str) -> None:
    boxes = boxes_of("unet", {"depth": 2, "upsampling": upsampling})
    assert sum(box.kind == kind for box in boxes) == 2


@pytest.mark.parametrize("name", LOGITS)
def test_every_network_is_drawn(name: str) -> None:
    drawing = ElementTree.fromstring(draw_network(name))
    texts = ["".join(element.itertext()) for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0].startswith(f"{name}: ")
    assert "convolution" in texts
