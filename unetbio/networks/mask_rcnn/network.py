"""Mask R-CNN: finds objects, each with a box, a class and a mask.

He, Gkioxari, Dollar, Girshick: Mask R-CNN. ICCV 2017, arXiv 1703.06870 (section 3 and figure 4, right: heads on a
feature pyramid). Boxes, proposals and losses are those of Faster R-CNN (arXiv 1506.01497, 1504.08083), the pyramid that
of arXiv 1612.03144.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from unetbio.networks import blocks
from unetbio.networks.detection import Objects, RegionHead
from unetbio.networks.encoders.resnet.network import ResNet
from unetbio.networks.mask_rcnn import boxes as box_code
from unetbio.networks.mask_rcnn.feature_pyramid import FeaturePyramid
from unetbio.networks.mask_rcnn.proposals import (
    MOST_PROPOSALS,
    Annotation,
    RegionProposals,
    annotations_of,
    match_boxes,
    sample_matches,
    smooth_l1,
)
from unetbio.networks.mask_rcnn.roi_align import bytes_a_box, roi_align, sample_label_images
from unetbio.networks.mask_rcnn.spec import STRIDE, MaskRCNNParameters

__all__ = [
    "MaskRCNN",
    "PyramidAnswer",
    "Regions",
    "mask_loss",
    "mask_targets",
    "region_losses",
    "sample_regions",
]

SCALES = (10.0, 5.0)
"""With which boxes are encoded against proposals."""

BOX_BINS, MASK_BINS, MASK_SIZE = 7, 14, 28
"""What the heads look at, and what the mask head answers."""

OBJECT_OVERLAP = 0.5
"""Of a proposal with an object, from which on it is taken for it (section 3.1)."""

SAMPLED_REGIONS, SAMPLED_OBJECTS = 512, 0.25
"""Proposals of an image that are learned from, and the most of them that may be objects."""

SMALLEST_SCORE = 0.05
"""Below, an object is not given out at all."""

SAME_OBJECT_OVERLAP = 0.5
"""Of two boxes of a class with more overlap the better one is kept."""

MASKS_AT_ONCE = 128
"""Memory of the mask head grows with the number of objects."""

MOST_OBJECTS = 1000
"""Of an image. The paper keeps 100, for photographs; a field of view holds hundreds of cells."""


class PyramidAnswer(NamedTuple):
    """Outputs of the network for all places of an image, before the heads of boxes.

    Parameters
    ----------
    pyramid : list of torch.Tensor
        ``(N, C, H / s, W / s)`` for the strides s = 4, 8, 16, 32 and 64.
    logits : list of torch.Tensor
        ``(N, anchors)`` of each map: whether there is an object.
    deltas : list of torch.Tensor
        ``(N, anchors, 4)`` of each map: how its box differs from the anchor.
    """

    pyramid: list[Tensor]
    logits: list[Tensor]
    deltas: list[Tensor]


@dataclass(frozen=True)
class Regions:
    """Proposals of one image that the heads learn from; the objects come first.

    Parameters
    ----------
    boxes : torch.Tensor
        ``(n, 4)``.
    classes : torch.Tensor
        ``(n,)`` int64, 0 = background.
    numbers : torch.Tensor
        ``(k,)`` int64: for the objects, which of the annotated ones.
    """

    boxes: Tensor
    classes: Tensor
    numbers: Tensor


@torch.no_grad()
def sample_regions(proposals: Tensor, annotation: Annotation) -> Regions:
    """Choose what the heads learn from: proposals and the annotated boxes themselves, at most a quarter objects."""
    boxes = torch.cat([annotation.boxes, proposals])
    matches = match_boxes(boxes, annotation, object_overlap=OBJECT_OVERLAP, ground_overlap=OBJECT_OVERLAP)
    objects, ground = sample_matches(matches, SAMPLED_REGIONS, SAMPLED_OBJECTS)
    numbers = matches[objects]
    classes = torch.cat([annotation.classes[numbers], torch.zeros_like(ground)])
    return Regions(boxes[torch.cat([objects, ground])], classes, numbers)


class _BoxHead(nn.Module):
    """Two fully connected layers; logits of the classes, and a box for each of them but the background."""

    def __init__(self, channels: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layers = nn.Sequential(
            nn.Linear(channels * BOX_BINS**2, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
        )
        self.classes = nn.Linear(hidden, num_classes)
        # The background has a box too, as in the released code, which nothing ever uses.
        self.deltas = nn.Linear(hidden, 4 * num_classes)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        # (n, C, 7, 7) -> (n, K) and (n, K, 4)
        hidden = self.layers(regions.flatten(1))
        return self.classes(hidden).float(), self.deltas(hidden).reshape(-1, self.num_classes, 4).float()


class _MaskHead(nn.Sequential):
    """Four convolutions, a transposed one that doubles the size, a logit a class: (n, C, 14, 14) -> (n, K, 28, 28)."""

    def __init__(self, in_channels: int, channels: int, num_classes: int) -> None:
        counts = [in_channels, *[channels] * 4]
        super().__init__(
            *(blocks.convolution(before, after, (3, 3), padding=True) for before, after in pairwise(counts)),
            blocks.transposed_convolution(channels, channels, (2, 2)),
            nn.ReLU(inplace=True),
            blocks.pointwise(channels, num_classes, 2),
        )


def _region_head(network: nn.Module, channels: int, bins: int, most_boxes: int) -> RegionHead:
    return RegionHead(network, (channels, bins, bins), most_boxes, bytes_a_box(channels, bins))


class MaskRCNN(nn.Module):
    """Mask R-CNN on a ResNet with a feature pyramid.

    In training `loss` is what is called, in evaluation mode `find_objects`.

    Parameters
    ----------
    parameters : MaskRCNNParameters
        Described in that class.
    """

    def __init__(self, parameters: MaskRCNNParameters) -> None:
        super().__init__()
        width, num_classes = parameters.width, parameters.num_classes
        self.geometry = parameters.geometry
        self.in_channels = parameters.in_channels
        self.num_classes = num_classes
        self.encoder = ResNet(self.in_channels, backbone=parameters.backbone, output_stride=STRIDE, width=width)
        channels = blocks.scaled(256, width)
        self.pyramid = FeaturePyramid(self.encoder.channels, channels)
        self.proposals = RegionProposals(channels, parameters.anchor_sizes)
        self.box_head = _BoxHead(channels, blocks.scaled(1024, width), num_classes)
        self.mask_head = _MaskHead(channels, channels, num_classes)
        self._initialise()

    @property
    def region_heads(self) -> tuple[RegionHead, RegionHead]:
        """The heads, and what they may have to hold."""
        channels = self.proposals.shared.in_channels
        return (
            _region_head(self.box_head, channels, BOX_BINS, MOST_PROPOSALS[False]),
            _region_head(self.mask_head, channels, MASK_BINS, MASKS_AT_ONCE),
        )

    def _initialise(self) -> None:
        for part in (self.proposals, self.mask_head):
            blocks.initialise_he(part)
        for layer in self.pyramid.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                # No ReLU follows: the variance is kept with half of He's.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
                nn.init.zeros_(layer.bias)
        # The first answers are near 0, so that the first steps move boxes little (arXiv 1504.08083, section 2.3).
        small = (
            (self.proposals.objectness, 0.01),
            (self.proposals.deltas, 0.01),
            (self.box_head.classes, 0.01),
            (self.box_head.deltas, 0.001),
        )
        for layer, deviation in small:
            nn.init.normal_(layer.weight, std=deviation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> PyramidAnswer:
        """Everything that is computed for the whole image: the part whose cost grows with its size.

        Parameters
        ----------
        image : torch.Tensor
            ``(N, C, H, W)`` of a legal size.

        Returns
        -------
        PyramidAnswer
            What `loss` and `find_objects` go on from.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        UsageError
            In training, when a single image is so small that batch norm would get one value a channel.
        """
        self.geometry.check(image.shape[2:])
        stages = [self.encoder.layer1(self.encoder.stem(image))]
        for stage in (self.encoder.layer2, self.encoder.layer3, self.encoder.layer4):
            stages.append(stage(stages[-1]))
        pyramid = self.pyramid(stages)
        logits, deltas = self.proposals(pyramid)
        return PyramidAnswer(pyramid, logits, deltas)

    def loss(
        self,
        image: Tensor,
        label_images: Tensor,
        *,
        class_masks: Tensor | None = None,
        weight_map: Tensor | None = None,
    ) -> Tensor:
        """Sum of the five `losses`, a scalar; parameters and errors are theirs."""
        losses = self.losses(image, label_images, class_masks=class_masks, weight_map=weight_map)
        return torch.stack(list(losses.values())).sum()

    def losses(
        self,
        image: Tensor,
        label_images: Tensor,
        *,
        class_masks: Tensor | None = None,
        weight_map: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Training losses by part. PyTorch's global generator draws the boxes.

        Parameters
        ----------
        image : torch.Tensor
            ``(N, C, H, W)`` float32 of a legal size.
        label_images : torch.Tensor
            ``(N, H, W)`` int64: ids of objects, 0 = background. Objects may touch; there may be none.
        class_masks : torch.Tensor, optional
            ``(N, H, W)`` int64: the class of each pixel, where there are more classes than one beside the background.
        weight_map : torch.Tensor, optional
            ``(N, H, W)``: 0 where a pixel was not annotated. Boxes on the background most of whose pixels were not are
            left out; other weights count alike.

        Returns
        -------
        dict of str to torch.Tensor
            ``objectness`` and ``proposal_boxes`` (arXiv 1506.01497, equation 1), ``classes``, ``boxes`` and ``masks``
            (arXiv 1703.06870, section 3), each a scalar.

        Raises
        ------
        GeometryError, UsageError
            As `forward`.
        """
        answer = self(image)
        annotations = annotations_of(label_images, class_masks, weight_map)
        anchors = self.proposals.anchors(answer.pyramid)
        objectness, proposal_boxes = self.proposals.losses(answer.logits, answer.deltas, anchors, annotations)
        proposals = self.proposals.proposals(answer.logits, answer.deltas, anchors, image.shape[2:])
        regions = [sample_regions(*pair) for pair in zip(proposals, annotations, strict=True)]
        # P6 is for anchors alone.
        maps = answer.pyramid[:-1]
        logits, deltas = self.box_head(roi_align(maps, [region.boxes for region in regions], BOX_BINS))
        classes, boxes = region_losses(logits, deltas, regions, annotations)
        objects = [region.boxes[: len(region.numbers)] for region in regions]
        mask_logits = self.mask_head(roi_align(maps, objects, MASK_BINS)).float()
        targets = mask_targets(label_images, regions, annotations)
        true_classes = torch.cat([region.classes[: len(region.numbers)] for region in regions])
        return {
            "objectness": objectness,
            "proposal_boxes": proposal_boxes,
            "classes": classes,
            "boxes": boxes,
            "masks": mask_loss(mask_logits, targets, true_classes),
        }

    @torch.no_grad()
    def find_objects(self, image: Tensor) -> Objects:
        """Find the objects of one image; for evaluation mode.

        Boxes of each class that score at least `SMALLEST_SCORE` are thinned out by non-maximum suppression, and the
        best `MOST_OBJECTS` get a mask.

        Parameters
        ----------
        image : torch.Tensor
            ``(1, C, H, W)`` float32 of a legal size.

        Returns
        -------
        Objects
            On the device of the image.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        """
        answer = self(image)
        anchors = self.proposals.anchors(answer.pyramid)
        proposals = self.proposals.proposals(answer.logits, answer.deltas, anchors, image.shape[2:])
        maps = answer.pyramid[:-1]
        logits, deltas = self.box_head(roi_align(maps, proposals, BOX_BINS))
        boxes, scores, classes = _choose_boxes(logits.softmax(dim=1), deltas, proposals[0], image.shape[2:])
        masks = [
            self.mask_head(roi_align(maps, [part], MASK_BINS)).float().sigmoid()
            for part in torch.split(boxes, MASKS_AT_ONCE)
        ]
        of_class = torch.cat(masks)[torch.arange(len(boxes), device=boxes.device), classes]
        return Objects(boxes, scores, classes, of_class)


def region_losses(
    logits: Tensor, deltas: Tensor, regions: Sequence[Regions], annotations: Sequence[Annotation]
) -> tuple[Tensor, Tensor]:
    """Losses of the box head, both divided by the number of regions (arXiv 1504.08083, section 2.3).

    Parameters
    ----------
    logits : torch.Tensor
        ``(n, K)``, image after image.
    deltas : torch.Tensor
        ``(n, K, 4)``: a box for each class.
    regions : sequence of Regions
        One an image.
    annotations : sequence of Annotation
        One an image.

    Returns
    -------
    classes, boxes : torch.Tensor
        Softmax cross-entropy of all regions; smooth L1 of the true class's box of those that are objects.
    """
    classes = torch.cat([region.classes for region in regions])
    wanted = [
        box_code.encode_boxes(annotation.boxes[region.numbers], region.boxes[: len(region.numbers)], SCALES)
        for region, annotation in zip(regions, annotations, strict=True)
    ]
    is_object = classes > 0
    count = max(1, len(classes))
    classification = functional.cross_entropy(logits, classes, reduction="sum") / count
    return classification, smooth_l1(deltas[is_object, classes[is_object]], torch.cat(wanted)) / count


def mask_targets(label_images: Tensor, regions: Sequence[Regions], annotations: Sequence[Annotation]) -> Tensor:
    """Masks of the objects within their regions.

    ``(N, H, W) -> (n, 28, 28)`` float32, 1 where the object covers at least half of a bin.
    """
    images = [torch.full_like(region.numbers, image) for image, region in enumerate(regions)]
    ids = [annotation.ids[region.numbers] for region, annotation in zip(regions, annotations, strict=True)]
    boxes = torch.cat([region.boxes[: len(region.numbers)] for region in regions])
    covered = sample_label_images(label_images, torch.cat(ids), torch.cat(images), boxes, MASK_SIZE)
    return (covered >= 0.5).float()


def mask_loss(logits: Tensor, targets: Tensor, classes: Tensor) -> Tensor:
    """Mean binary cross-entropy of the true class's masks: classes do not compete (arXiv 1703.06870, section 3).

    Parameters
    ----------
    logits : torch.Tensor
        ``(n, K, h, w)``.
    targets : torch.Tensor
        ``(n, h, w)``, 0 or 1.
    classes : torch.Tensor
        ``(n,)`` int64.
    """
    chosen = logits[torch.arange(len(classes), device=classes.device), classes]
    return functional.binary_cross_entropy_with_logits(chosen, targets, reduction="sum") / max(1, targets.numel())


def _choose_boxes(
    probabilities: Tensor, deltas: Tensor, proposals: Tensor, shape: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and classes of what is given out, by falling score."""
    found = []
    for number in range(1, probabilities.shape[1]):
        scores = probabilities[:, number]
        boxes = box_code.clip_boxes(box_code.decode_boxes(deltas[:, number], proposals, SCALES), shape)
        good = (scores >= SMALLEST_SCORE) & (box_code.box_areas(boxes) > 0)
        boxes, scores = boxes[good], scores[good]
        kept = box_code.non_max_suppression(boxes, scores, SAME_OBJECT_OVERLAP)
        found.append((boxes[kept], scores[kept], torch.full_like(kept, number)))
    boxes, scores, classes = (torch.cat(parts) for parts in zip(*found, strict=True))
    best = scores.argsort(descending=True, stable=True)[:MOST_OBJECTS]
    return boxes[best], scores[best], classes[best]
