"""Pictures of a model's failures: the validation images that it does worst on, with true and found outlines.

    python benchmarks/failures.py DATA --of histology --model nuclei-histology -o docs/images/failures_histology.jpg

DATA holds the collections. Of each image, from the worst on by AP@.5, the part with most true cells that are not found
is shown: as it is, with the outlines that were drawn, and with those found. Of stacks it is the section with most.
"""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from accuracy import Result, segment
from collections_of_images import COLLECTIONS, annotated, parser_of_collections
from numpy.typing import NDArray

from unetbio.files import write_bytes
from unetbio.io import read_image
from unetbio.metrics.instances import average_precision, match
from unetbio.report.overlays import draw_overlay

SIDE = 256
STEP = 32
FEWEST_CELLS = 5
GAP = 4

Labels = NDArray[Any]


def missed(result: Result) -> Labels:
    """The true cells that no found cell matches at an IoU of .5."""
    found = [true for _, true in match(result.predicted, result.truth).pairs.tolist()]
    return np.where(np.isin(result.truth, found), 0, result.truth)


def worst_window(cells: Labels) -> tuple[slice, slice]:
    """The square in which most of the cells lie, by their number; as much of it as the image has."""
    height, width = cells.shape
    places = [
        (len(np.unique(cells[y : y + SIDE, x : x + SIDE])), -y, -x)
        for y in range(0, max(1, height - SIDE + 1), STEP)
        for x in range(0, max(1, width - SIDE + 1), STEP)
    ]
    _, y, x = max(places)
    return slice(-y, -y + SIDE), slice(-x, -x + SIDE)


def picture(path: Path, axes: str | None, result: Result) -> NDArray[np.uint8]:
    """Image, true outlines and found outlines beside each other."""
    image = read_image(path, axes=axes)
    grey, lost, planes = image.read(), missed(result), [result.truth, result.predicted]
    if result.truth.ndim == 3:
        section = max(range(len(lost)), key=lambda z: len(np.unique(lost[z])))
        grey, lost, planes = grey[..., section, :, :], lost[section], [labels[section] for labels in planes]
    if grey.ndim == 3:
        grey = np.moveaxis(grey, 0, -1) if len(grey) == 3 else grey[0]
    part = worst_window(lost)
    grey, planes = grey[part], [labels[part] for labels in planes]
    drawn = [draw_overlay(grey, labels) for labels in (np.zeros_like(planes[0]), *planes)]
    gap = np.full((len(drawn[0]), GAP, 3), 255, np.uint8)
    return np.concatenate([drawn[0], gap, drawn[1], gap, drawn[2]], axis=1)


def main() -> None:
    parser = parser_of_collections(__doc__)
    parser.add_argument("--count", type=int, default=3, help="images")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    scored = []
    for name in arguments.names or COLLECTIONS[arguments.of]:
        for one in annotated(arguments.data, name, of=arguments.of):
            result = segment(one, arguments.model)
            if len(np.unique(result.truth)) > FEWEST_CELLS:
                scored.append((average_precision([result.predicted], [result.truth])[0], len(scored), one, result))
    chosen = sorted(scored, key=lambda each: each[:2])[: arguments.count]
    pictures = [picture(one.image, one.axes, result) for _, _, one, result in chosen]
    width = max(each.shape[1] for each in pictures)
    rows = [np.pad(each, ((0, GAP), (0, width - each.shape[1]), (0, 0)), constant_values=255) for each in pictures]
    write_bytes(arguments.output, bytes(imagecodecs.jpeg8_encode(np.concatenate(rows), level=85)))
    for score, _, one, _ in chosen:
        print(f"{one.image.name}: AP@.5 {score:.3f}")


if __name__ == "__main__":
    main()
