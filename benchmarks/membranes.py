"""Membranes in electron microscopy: the scores of the ISBI 2012 challenge, on sections that the model has not seen.

    unetbio train benchmarks/membranes.csv --root DATA --config benchmarks/membranes.yaml --minutes 25 -o FILE
    python benchmarks/membranes.py DATA --model FILE [--augment]

With ``--augment`` probabilities are averaged over the eight symmetries of the square: Ronneberger et al. (2015),
section 4, averaged over seven rotations.

The Rand score is that of doi:10.3389/fnana.2015.00142, restricted to true cells, after thinning: components of the
pixels whose probability of a membrane is below a threshold are grown over the membranes, and pairs of pixels in true
cells are compared (1 is best). The challenge takes the best threshold for the images it scores; here it is chosen on
sections that were kept for validation while training. The pixel error is the share of pixels on the wrong side of .5.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
from crf import read_normalised
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import adapted_rand_error
from skimage.segmentation import watershed

from unetbio.inference.averaging import AveragedPredictor
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import predict
from unetbio.io import read_image
from unetbio.models.model_file import Model, load_model

CHOSEN_ON = (("train", 18), ("train", 19))
SCORED_ON = tuple(("val", number) for number in range(20, 24))
THRESHOLDS = np.arange(0.05, 1, 0.05)
MEMBRANE = 1


class Section(NamedTuple):
    """Probability of a membrane in each pixel, and where one was drawn; both ``(Y, X)``."""

    probability: NDArray[np.float32]
    membrane: NDArray[np.bool_]


def predicted(data: Path, model: Model, part: str, number: int, *, augment: bool) -> Section:
    """Probabilities for one section, as ``segment --augment`` averages them or not."""
    folder = data / "isbi2012_em" / part
    name = f"section_{number:02}.tif"
    predictor = AveragedPredictor([TorchPredictor(model.network)], augment=augment)
    probabilities = predict(read_normalised(folder / "images" / name, model), predictor)
    return Section(probabilities[MEMBRANE], read_image(folder / "masks" / name).read().squeeze() > 0)


def rand_score(sections: Sequence[Section], threshold: float) -> float:
    """Mean over the sections."""
    return float(np.mean([_rand_score(section, threshold) for section in sections]))


def _rand_score(section: Section, threshold: float) -> float:
    cells, _ = ndimage.label(section.probability < threshold)
    thinned = watershed(section.probability, cells)
    true, _ = ndimage.label(~section.membrane)
    return 1 - float(adapted_rand_error(true, thinned)[0])


def pixel_error(sections: Sequence[Section]) -> float:
    """Mean over the sections."""
    return float(np.mean([np.mean((one.probability >= 0.5) != one.membrane) for one in sections]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with isbi2012_em/")
    parser.add_argument("--model", required=True, type=Path, help="model file that membranes.yaml trained")
    parser.add_argument("--augment", action="store_true", help="average over mirrored and turned images")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    chosen_on, scored_on = (
        [predicted(arguments.data, model, *place, augment=arguments.augment) for place in places]
        for places in (CHOSEN_ON, SCORED_ON)
    )
    best = max(THRESHOLDS, key=lambda threshold: rand_score(chosen_on, threshold))
    rows = [
        [name, len(sections), f"{rand_score(sections, best):.4f}", f"{pixel_error(sections):.4f}"]
        for name, sections in (("kept for validation while training", chosen_on), ("val", scored_on))
    ]
    print(f"membranes from a probability of {best:.2f}")
    common.print_table(["sections", "number", "Rand score", "pixel error"], rows)


if __name__ == "__main__":
    main()
