"""Tiled against whole image for trained networks of a comparison: probabilities and label images.

    python benchmarks/trained_exactness.py COMPARISON IMAGES [--limit 3]

COMPARISON is the output folder of ``unetbio compare``; every model in it whose architecture says that tiles are exact
is run on 512 x 672 pixels (a multiple of every stride, so that the whole is one tile) of the largest of the IMAGES (a
folder), whole and in tiles of several sizes, each network with the thresholds of its model. Networks whose context is
above 256 pixels are run with exact tiles as with ``--exact-tiles``. Bar: probabilities differ by 1e-5 at most, and
label images are identical. The exit code is 1 when one is not.
"""

import argparse
import sys
from pathlib import Path

import common
import numpy as np
from exactness import BAR, float32_error
from numpy.typing import NDArray

from unetbio import networks
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import decide, plan
from unetbio.labels import label_hash
from unetbio.models.model_file import Model, load_model
from unetbio.postprocessing import instances

SHAPE = (512, 672)
TILES = (128, 256)


def exact_models(comparison: Path) -> list[Model]:
    """Models of a comparison that can be tiled exactly."""
    models = [load_model(path) for path in sorted(comparison.glob("*/model.safetensors"))]
    return [model for model in models if networks.find(model.info.architecture).exact(model.info.parameters)]


def compare(model: Model, image: NDArray[np.float32]) -> tuple[list[list[object]], bool]:
    """One row a tile size, and whether all agree with the whole image."""
    predictor = TorchPredictor(model.network, exact=True)
    settings = model.info.postprocessing
    by_default = networks.find(model.info.architecture).is_tiled_exactly(model.info.parameters)
    error = float32_error(predictor, image)
    reference = None
    rows, good = [], True
    for tile in (max(image.shape[1:]), *TILES):
        probabilities = np.empty((predictor.num_classes, *image.shape[1:]), dtype=np.float32)
        plan_of_tile = plan(image.shape[1:], predictor, tile=tile)
        planes = decide(image, predictor, settings.thresholds, tile=tile, probabilities_out=probabilities)
        label_image = instances.label(planes, settings)
        if reference is None:
            reference = probabilities, label_hash(label_image)
            tiles_of_whole = len(plan_of_tile)
        difference = float(np.abs(probabilities - reference[0]).max())
        identical = label_hash(label_image) == reference[1]
        good &= difference <= BAR and identical and tiles_of_whole == 1
        rows.append(
            [
                model.info.name,
                "default" if by_default else "asked for",
                max(predictor.geometry.context),
                "x".join(map(str, image.shape[1:])),
                "x".join(map(str, plan_of_tile.tile_shape)),
                len(plan_of_tile),
                f"{difference:.1e}",
                f"{error:.1e}",
                int(label_image.max()),
                "identical" if identical else "DIFFERENT",
            ]
        )
        print(*rows[-1], file=sys.stderr, flush=True)
    return rows, good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--limit", type=int, default=3, help="number of images")
    arguments = parser.parse_args()
    images = [image[:, : SHAPE[0], : SHAPE[1]] for image in common.images_of(arguments.images, arguments.limit)]
    rows, good = [], True
    for model in exact_models(arguments.comparison):
        for image in images:
            more, agree = compare(model, image)
            rows += more
            good &= agree
    print(common.machine(), end="\n\n")
    headings = ["network", "exact tiles", "context", "image", "tile", "tiles", "max difference"]
    common.print_table([*headings, "float32 to float64", "cells", "label image"], rows)
    print(f"\n{len(rows)} plans: {'all agree' if good else 'NOT all agree'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
