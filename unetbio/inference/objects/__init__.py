"""Objects of an image of any size, found window by window; an object that lies across windows is one object.

1.  Windows overlap and cover the image; where it is smaller than a window it is mirrored. Each pixel belongs to the
    core of one window, the one in which it lies farthest from the rim.
2.  In a window objects are drawn by falling score. A pixel belongs to the first object that covers it. An object that
    gets less than half of its own pixels is a duplicate and is left out.
3.  A piece that comes near a rim of its window, beyond which the image goes on, may be cut. A cut piece without a pixel
    in the core of its window is left out: another window sees it.
4.  Pieces of two windows are the same object if, in the strip that both windows see, their intersection is at least
    half of their union. Objects are the connected components of this graph.
5.  An object takes its uncut piece nearest to the centre of its window; if all pieces are cut, it takes their union.
    Objects are drawn into the label image as in step 2.

With a detector that finds the true objects this gives the true label image for any size of objects and windows,
as long as each object is connected: two neighbouring pixels on either side of the line between two cores lie in the
strip of both windows, so that all pieces of an object that count are joined.
"""

import torch

from unetbio.inference.objects.detector import Detector, TorchDetector
from unetbio.inference.objects.merging import merge_objects
from unetbio.inference.objects.windows import FoundObjects, Progress, find_objects
from unetbio.inference.sliding_window import OVERLAP, WINDOW
from unetbio.inference.tiling import ArrayLike
from unetbio.labels import LabelImage
from unetbio.postprocessing.objects import MASK_THRESHOLD, SCORE_THRESHOLD, ObjectTable

__all__ = [
    "Detector",
    "FoundObjects",
    "TorchDetector",
    "find_objects",
    "merge_objects",
    "predict_objects",
]


def predict_objects(
    image: ArrayLike,
    network: Detector,
    *,
    window: int = WINDOW,
    overlap: float = OVERLAP,
    score_threshold: float = SCORE_THRESHOLD,
    mask_threshold: float = MASK_THRESHOLD,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> tuple[LabelImage, ObjectTable]:
    """Find the objects of an image: `find_objects`, then `merge_objects`; parameters, results and errors are theirs."""
    found = find_objects(image, network, window=window, overlap=overlap, device=device, progress=progress)
    return merge_objects(found, score_threshold=score_threshold, mask_threshold=mask_threshold)
