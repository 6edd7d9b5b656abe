"""Scores of a model at the scale that it finds by itself, by the factor by which images were enlarged or shrunk.

    python benchmarks/scale.py DATA [--model nuclei] [--part val] [--factor 1 2 3 4 0.5] [--set dsb2018 ...] [--own]

Images of the validation parts are resized by each factor; no diameter and no pixel size is given. Columns: AP@.5 at the
model's own scale (with ``--own``) and at the scale that is found; images that are taken at another scale, and with a
doubtful one; the zooms that were taken; and the network's work in multiply-adds, as a multiple of that at the scale
that is taken.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from collections_of_images import FLUORESCENCE, annotated, read_plane
from numpy.typing import NDArray
from skimage.transform import resize

from unetbio.io.arrays import image_of_array
from unetbio.labels import resize_nearest
from unetbio.metrics.instances import Comparison, compare
from unetbio.models.model_file import load_model
from unetbio.preprocessing.selection import ImageSelection
from unetbio.scale.search import PIECE
from unetbio.segmentation import FrameResult, Segmenter
from unetbio.settings.segmentation import Settings

Array = NDArray[np.generic]


def rescaled(image: Array, labels: Array, factor: float) -> tuple[Array, Array]:
    """Image and label image of another size."""
    if factor == 1:
        return image, labels
    shape = tuple(max(1, round(size * factor)) for size in image.shape)
    grey = resize(image.astype(np.float32), shape, order=1, anti_aliasing=factor < 1, preserve_range=True)
    return np.round(grey).astype(image.dtype), resize_nearest(labels, shape)


def segment(segmenter: Segmenter, image: Array, settings: Settings) -> tuple[ImageSelection, FrameResult]:
    """The scale, and the cells."""
    opened = segmenter.open(image_of_array(image, "YX"), settings)
    made = segmenter.decide_frame(opened, segmenter.read_frame(opened, None))
    return made.opened, segmenter.finish(made.opened, made.frame, made.decided)


def work(segmenter: Segmenter, opened: ImageSelection) -> tuple[float, float]:
    """Multiply-adds of all looks with the result, and of the result alone."""
    alone = segmenter.plan(opened.grid).cost
    if opened.scale is None:
        return alone, alone
    looks = [_look_cost(segmenter, opened, look.zoom) for look in opened.scale.looks]
    return sum(looks) + (alone if opened.zoom[0] != 1 else 0), alone


def _look_cost(segmenter: Segmenter, opened: ImageSelection, zoom: float) -> float:
    shape = opened.shape if zoom <= 1 else tuple(min(PIECE, size) for size in opened.shape)
    return segmenter.plan(tuple(round(size * zoom) for size in shape)).cost


class Row:
    """Counts of one kind of images at one factor."""

    def __init__(self) -> None:
        self.own: Comparison | None = None
        self.auto: Comparison | None = None
        self.images = self.doubtful = 0
        self.work = self.alone = 0.0
        self.zooms: list[float] = []

    def add(self, segmenter: Segmenter, image: Array, truth: Array, *, with_own: bool) -> None:
        """Segment an image at the scale that is found, and at the model's where it differs."""
        opened, auto = segment(segmenter, image, Settings())
        own = auto
        if with_own and opened.zoom[0] != 1:
            _, own = segment(segmenter, image, Settings(diameter_px="model"))
        self.images += 1
        self.zooms.append(opened.zoom[0])
        self.doubtful += "unsure_scale" in auto.record.warnings
        whole, alone = work(segmenter, opened)
        self.work += whole
        self.alone += alone
        self.auto = _plus(self.auto, compare(auto.label_image, truth))
        self.own = _plus(self.own, compare(own.label_image, truth)) if with_own else None

    def text(self) -> str:
        """The row of the table."""
        scores = [f"{_ap(one):.3f}" if one else "" for one in (self.own, self.auto)]
        zooms = " ".join(f"{zoom:g}:{self.zooms.count(zoom)}" for zoom in sorted(set(self.zooms), reverse=True))
        changed = sum(zoom != 1 for zoom in self.zooms)
        return (
            f"| {self.images} | {scores[0]} | {scores[1]} | {changed} | {self.doubtful} | {zooms} | "
            f"{self.work / self.alone:.2f} |"
        )


def _plus(total: Comparison | None, more: Comparison) -> Comparison:
    return more if total is None else total + more


def _ap(comparison: Comparison) -> float:
    return comparison.scores()["AP@.5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--part", default="val")
    parser.add_argument("--set", dest="names", nargs="+", default=list(FLUORESCENCE), choices=FLUORESCENCE)
    parser.add_argument("--factor", dest="factors", nargs="+", type=float, default=[1, 2, 3, 4, 0.5])
    parser.add_argument("--count", type=int, help="images of each set, spread over it")
    parser.add_argument("--own", action="store_true", help="score the model's own scale too")
    arguments = parser.parse_args()
    segmenter = Segmenter(load_model(arguments.model), "cpu")
    print("| images of | factor | images | AP@.5 model | AP@.5 auto | rescaled | doubtful | zooms | work |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.names:
        chosen = list(annotated(arguments.data, name, arguments.part))
        if arguments.count and arguments.count < len(chosen):
            chosen = [chosen[index] for index in np.linspace(0, len(chosen) - 1, arguments.count).astype(int)]
        for factor in arguments.factors:
            rows: dict[str, Row] = defaultdict(Row)
            for one in chosen:
                resized = rescaled(read_plane(one.image), one.truth(), factor)
                rows[one.kind].add(segmenter, *resized, with_own=arguments.own)
            for kind, row in rows.items():
                print(f"| {kind} | {factor:g} {row.text()}", flush=True)


if __name__ == "__main__":
    main()
