"""Region proposals: anchors, what is learned about them, and the boxes that the rest of the network looks at.

Ren, He, Girshick, Sun: Faster R-CNN. NeurIPS 2015, arXiv 1506.01497 (section 3); on a feature pyramid as in
arXiv 1612.03144, section 4.1: anchors of one size a level.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from unetbio.networks.mask_rcnn import boxes as box_code

__all__ = [
    "MOST_PROPOSALS",
    "RATIOS",
    "Annotation",
    "RegionProposals",
    "annotations_of",
    "make_anchors",
    "match_boxes",
    "sample_matches",
    "smooth_l1",
]

RATIOS = (0.5, 1.0, 2.0)
"""Height over width of the anchors of a place."""

STRIDES = (4, 8, 16, 32, 64)
"""Of the maps P2 to P6."""

SCALES = (1.0, 1.0)
"""With which boxes are encoded against anchors."""

OBJECT_OVERLAP, GROUND_OVERLAP = 0.7, 0.3
"""From the first on an anchor is an object, below the second it is background; between them it teaches nothing."""

SAMPLED_ANCHORS, SAMPLED_OBJECTS = 256, 0.5
"""Anchors of an image that are learned from, and the most of them that may be objects."""

PROPOSAL_OVERLAP = 0.7
MOST_PROPOSALS = {True: 2000, False: 1000}
"""Of a level before non-maximum suppression and of an image after it, in training and in inference (1612.03144)."""

SMALLEST_SIDE = 1e-3
"""Pixels; narrower boxes have been cut away at the border."""

SMOOTH_BELOW = 1 / 9
"""Where the box loss goes over from a square to a line: sigma = 3 in the authors' released code."""

GROUND, IGNORED = -1, -2
"""Match of a box without an object, and of a box that is left out."""


@dataclass(frozen=True)
class Annotation:
    """Annotation of one image.

    Parameters
    ----------
    ids : torch.Tensor
        ``(n,)`` int64: of the objects in its label image, in ascending order.
    boxes : torch.Tensor
        ``(n, 4)`` float32: the smallest around each.
    classes : torch.Tensor
        ``(n,)`` int64 from 1.
    unknown : torch.Tensor
        ``(H + 1, W + 1)`` int64: number of pixels above and to the left of a corner that were not annotated.
    """

    ids: Tensor
    boxes: Tensor
    classes: Tensor
    unknown: Tensor


def annotations_of(
    label_images: Tensor, class_masks: Tensor | None = None, weight_map: Tensor | None = None
) -> list[Annotation]:
    """Read boxes and classes out of label images.

    Parameters
    ----------
    label_images : torch.Tensor
        ``(N, H, W)`` int64, 0 = background. Objects may touch.
    class_masks : torch.Tensor, optional
        ``(N, H, W)`` int64: the class of each pixel. An object has the class that most of its pixels have, background
        left aside; class 1 where no masks are given.
    weight_map : torch.Tensor, optional
        ``(N, H, W)``; 0 where a pixel was not annotated.
    """
    return [
        _annotation(
            label_image,
            None if class_masks is None else class_masks[number],
            torch.zeros_like(label_image) if weight_map is None else weight_map[number] == 0,
        )
        for number, label_image in enumerate(label_images)
    ]


def _annotation(label_image: Tensor, class_mask: Tensor | None, unknown: Tensor) -> Annotation:
    rows, columns = torch.nonzero(label_image, as_tuple=True)
    ids, index = torch.unique(label_image[rows, columns], return_inverse=True)
    sides = []
    for places in (rows, columns):
        first = torch.full_like(ids, label_image.numel()).scatter_reduce(0, index, places, "amin")
        last = torch.zeros_like(ids).scatter_reduce(0, index, places, "amax")
        sides.append((first, last + 1))
    boxes = torch.stack([sides[0][0], sides[1][0], sides[0][1], sides[1][1]], dim=1).float()
    classes = torch.ones_like(ids)
    if class_mask is not None and len(ids):
        votes = torch.zeros((len(ids), int(class_mask.max()) + 1), dtype=torch.int64, device=ids.device)
        ones = torch.ones_like(index)
        votes.index_put_((index, class_mask[rows, columns]), ones, accumulate=True)
        classes = votes[:, 1:].argmax(dim=1) + 1 if votes.shape[1] > 1 else classes
    corner = functional.pad(unknown.long().cumsum(0).cumsum(1), (1, 0, 1, 0))
    return Annotation(ids, boxes, classes, corner)


def make_anchors(sizes: Sequence[int], shapes: Sequence[Sequence[int]], device: torch.device) -> list[Tensor]:
    """Anchors of all levels.

    Parameters
    ----------
    sizes : sequence of int
        Root of the area of a level's anchors, in pixels.
    shapes : sequence of (int, int)
        Of each level's feature map.
    device : torch.device
        Where they are needed.

    Returns
    -------
    list of torch.Tensor
        ``(height * width * 3, 4)`` a level: places in raster order, at each the ratios of `RATIOS`. Anchors stand in
        the middle of the square of pixels that a pixel of the map stands for, and may reach beyond the image.
    """
    anchors = []
    for size, stride, (height, width) in zip(sizes, STRIDES, shapes, strict=True):
        roots = torch.tensor(RATIOS, device=device).sqrt()
        halves = torch.stack([roots, 1 / roots], dim=1) * size / 2
        rows = (torch.arange(height, device=device) + 0.5) * stride
        columns = (torch.arange(width, device=device) + 0.5) * stride
        centres = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 1, 2)
        anchors.append(torch.cat([centres - halves, centres + halves], dim=-1).reshape(-1, 4))
    return anchors


def match_boxes(
    boxes: Tensor, annotation: Annotation, *, object_overlap: float, ground_overlap: float, best_too: bool = False
) -> Tensor:
    """Say for each box which object it lies on.

    Parameters
    ----------
    boxes : torch.Tensor
        ``(m, 4)``.
    annotation : Annotation
        Of the image, with n objects.
    object_overlap, ground_overlap : float
        A box belongs to the object with which it has the largest intersection over union, if that is at least the
        first; below the second it is background; between them it is left out.
    best_too : bool
        A box that overlaps an object as much as no other box does belongs to it, however little that is.

    Returns
    -------
    torch.Tensor
        ``(m,)`` int64: the object's number from 0, `GROUND` or `IGNORED`. A box on the background most of whose pixels
        were not annotated is left out too.
    """
    ground = torch.where(_unknown_shares(boxes, annotation.unknown) > 0.5, IGNORED, GROUND)
    if not len(annotation.boxes):
        return ground
    overlaps = box_code.box_overlaps(annotation.boxes, boxes)
    most, numbers = overlaps.max(dim=0)
    matches = torch.where(most >= object_overlap, numbers, torch.where(most < ground_overlap, ground, IGNORED))
    if best_too:
        best = (overlaps == overlaps.amax(dim=1, keepdim=True)) & (overlaps > 0)
        # A box may be the best of two objects: it goes to the one it overlaps more.
        most, numbers = overlaps.where(best, 0).max(dim=0)
        matches = torch.where((matches < 0) & (most > 0), numbers, matches)
    return matches


def _unknown_shares(boxes: Tensor, unknown: Tensor) -> Tensor:
    height, width = unknown.shape[0] - 1, unknown.shape[1] - 1
    y0, x0, y1, x1 = box_code.clip_boxes(boxes, (height, width)).round().long().unbind(dim=1)
    count = unknown[y1, x1] - unknown[y0, x1] - unknown[y1, x0] + unknown[y0, x0]
    return count / ((y1 - y0) * (x1 - x0)).clamp(min=1)


def sample_matches(matches: Tensor, count: int, most_objects: float) -> tuple[Tensor, Tensor]:
    """Draw the boxes that are learned from, with PyTorch's global generator.

    Parameters
    ----------
    matches : torch.Tensor
        ``(m,)`` of `match_boxes`.
    count : int
        How many are drawn, if there are as many.
    most_objects : float
        Share of objects at the most; the rest is background.

    Returns
    -------
    objects, ground : torch.Tensor
        Indices of boxes.
    """
    objects = _draw((matches >= 0).nonzero()[:, 0], round(count * most_objects))
    return objects, _draw((matches == GROUND).nonzero()[:, 0], count - len(objects))


def _draw(indices: Tensor, count: int) -> Tensor:
    # Drawn on the CPU, so that every device draws alike
    return indices[torch.randperm(len(indices))[:count].to(indices.device)]


def smooth_l1(deltas: Tensor, targets: Tensor) -> Tensor:
    """Sum of a square near 0 and a line further out (arXiv 1504.08083, equation 3)."""
    return functional.smooth_l1_loss(deltas, targets, beta=SMOOTH_BELOW, reduction="sum")


class RegionProposals(nn.Module):
    """Finds where an object may be: at each place of each map, for each anchor, whether and with which box.

    Parameters
    ----------
    channels : int
        Of the maps.
    anchor_sizes : sequence of int
        One a map, in pixels.
    """

    def __init__(self, channels: int, anchor_sizes: Sequence[int]) -> None:
        super().__init__()
        self.anchor_sizes = tuple(anchor_sizes)
        self.shared = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, len(RATIOS), 1)
        self.deltas = nn.Conv2d(channels, 4 * len(RATIOS), 1)

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits ``(N, places * 3)`` and deltas ``(N, places * 3, 4)`` of each map ``(N, C, H, W)``, as anchors lie."""
        logits, deltas = [], []
        for features in pyramid:
            hidden = functional.relu(self.shared(features))
            count = len(hidden)
            # (N, 3, H, W) -> (N, H * W * 3); (N, 3 * 4, H, W) -> (N, H * W * 3, 4)
            logits.append(self.objectness(hidden).permute(0, 2, 3, 1).reshape(count, -1).float())
            deltas.append(self.deltas(hidden).permute(0, 2, 3, 1).reshape(count, -1, 4).float())
        return logits, deltas

    def anchors(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Anchors of the maps; see `make_anchors`."""
        shapes = [tuple(features.shape[2:]) for features in pyramid]
        return make_anchors(self.anchor_sizes, shapes, pyramid[0].device)

    @torch.no_grad()
    def proposals(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor], shape: Sequence[int]
    ) -> list[Tensor]:
        """The best boxes of each image.

        Of each level those with the highest logits are decoded, cut to the image and thinned out; of what is left on
        all levels the best are taken.

        Parameters
        ----------
        logits, deltas : sequence of torch.Tensor
            As `forward` gives them.
        anchors : sequence of torch.Tensor
            Of the same levels.
        shape : (int, int)
            Of the image.

        Returns
        -------
        list of torch.Tensor
            ``(n, 4)`` an image, by falling logit.
        """
        most = MOST_PROPOSALS[self.training]
        found = []
        for image in range(len(logits[0])):
            parts = [
                _best_of_level(level_logits[image], level_deltas[image], level_anchors, shape, most)
                for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True)
            ]
            scores = torch.cat([scores for _, scores in parts])
            best = scores.argsort(descending=True, stable=True)[:most]
            found.append(torch.cat([boxes for boxes, _ in parts])[best])
        return found

    def losses(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        annotations: Sequence[Annotation],
    ) -> tuple[Tensor, Tensor]:
        """Whether an anchor is an object (cross-entropy), and the deltas of those that are (smooth L1).

        Both are sums over the drawn anchors of all images, divided by their number (arXiv 1506.01497, equation 1).
        """
        every_anchor = torch.cat(list(anchors))
        every_logits, every_deltas = torch.cat(list(logits), dim=1), torch.cat(list(deltas), dim=1)
        objectness, boxes, count = every_logits.new_zeros(()), every_logits.new_zeros(()), 0
        for image, annotation in enumerate(annotations):
            matches = match_boxes(
                every_anchor,
                annotation,
                object_overlap=OBJECT_OVERLAP,
                ground_overlap=GROUND_OVERLAP,
                best_too=True,
            )
            objects, ground = sample_matches(matches, SAMPLED_ANCHORS, SAMPLED_OBJECTS)
            drawn = torch.cat([objects, ground])
            target = (torch.arange(len(drawn), device=drawn.device) < len(objects)).float()
            objectness = objectness + functional.binary_cross_entropy_with_logits(
                every_logits[image][drawn], target, reduction="sum"
            )
            wanted = box_code.encode_boxes(annotation.boxes[matches[objects]], every_anchor[objects], SCALES)
            boxes = boxes + smooth_l1(every_deltas[image][objects], wanted)
            count += len(drawn)
        return objectness / max(1, count), boxes / max(1, count)


def _best_of_level(
    logits: Tensor, deltas: Tensor, anchors: Tensor, shape: Sequence[int], most: int
) -> tuple[Tensor, Tensor]:
    scores, best = logits.sort(descending=True, stable=True)
    scores, best = scores[:most], best[:most]
    boxes = box_code.clip_boxes(box_code.decode_boxes(deltas[best], anchors[best], SCALES), shape)
    wide = ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST_SIDE).all(dim=1).nonzero()[:, 0]
    boxes, scores = boxes[wide], scores[wide]
    kept = box_code.non_max_suppression(boxes, scores, PROPOSAL_OVERLAP)
    return boxes[kept], scores[kept]
