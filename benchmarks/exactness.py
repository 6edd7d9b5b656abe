"""Tiled against whole image: probabilities, decisions and label images, for many tile plans.

    python benchmarks/exactness.py [--model nuclei] [--images FOLDER]

2-D: the model, on the three largest images of FOLDER or, without it, on a synthetic one of 520 x 470. 3-D: networks
with random weights on a synthetic stack. Each is run whole, then in tiles of requested sizes (odd ones and tiny ones
among them) with batches of 1 and 4 and with 1 and 2 threads; then with noise of up to 1e-6, another in every call,
added to each probability. Bar: probabilities differ by 1e-5 at most, and label images are identical. The exit code is 1
when one is not.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unetbio.inference.backends.torch import ERROR_BOUND, TorchPredictor
from unetbio.inference.exact_decisions import AtLeast, add_classes
from unetbio.inference.prediction import decide, plan
from unetbio.inference.tiling import read_mirrored
from unetbio.labels import label_hash
from unetbio.postprocessing import instances
from unetbio.postprocessing.instances import PostProcessing

TILES_2D = (None, 37, 52, 101, 200, 256, 333, 512)
TILES_3D = (None, 5, 13, 24, 31, 40)
ANISOTROPIC = {"kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3)), "poolings": ((1, 2, 2), (2, 2, 2))}
BAR = 1e-5


class Noisy(TorchPredictor):
    """The network with noise of up to 1e-6 on its float32 probabilities, another in each call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.rng = np.random.default_rng(0)

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of the network, with noise."""
        exact = super().probabilities(batch)
        return (exact + self.rng.uniform(-1e-6, 1e-6, exact.shape)).astype(np.float32)


class Case(NamedTuple):
    """A network, an image, and how its probabilities are decided."""

    name: str
    network: nn.Module
    image: NDArray[np.float32]
    settings: PostProcessing
    classes: Sequence[tuple[int, ...]]


def cases(model: str, folder: Path | None) -> Iterator[Case]:
    network, _, settings = common.load_network(model)
    images = common.images_of(folder, 3) if folder else [common.synthetic_nuclei((520, 470))]
    for image in images:
        own = _thresholds_that_occur(network, image) if model == common.RANDOM else settings
        yield Case(f"2-D {model}", network, image, own, common.classes_of_planes(model, own))
    for name, extra in (("3-D", {}), ("3-D anisotropic", ANISOTROPIC)):
        parameters = {"ndim": 3, "base_channels": 6, "depth": 2, "batch_norm": True, **extra}
        stack = common.random_network(parameters)
        image = common.synthetic_nuclei((21, 58, 67))
        yield Case(name, stack, image, _thresholds_that_occur(stack, image), [(1,), (1,)])


def _thresholds_that_occur(network: nn.Module, image: NDArray[np.float32]) -> PostProcessing:
    # Random weights leave probabilities anywhere: thresholds that part the stack into cells, and are met by a voxel
    # each.
    out = np.empty((2, *image.shape[1:]), dtype=np.float32)
    decide(image, TorchPredictor(network), [0.5], probabilities_out=out)
    low, high = np.quantile(out[1], [0.7, 0.9], method="nearest")
    return PostProcessing(mask_threshold=float(low), seed_thresholds=(float(high),), min_seed_area=2)


def float32_error(
    predictor: TorchPredictor, image: NDArray[np.float32], classes: Sequence[Sequence[int]] = ()
) -> float:
    """Largest difference between float32 and float64 over the first tile of up to 256 pixels a side.

    Of the probabilities of each class, and of the sums that are decided.

    Decisions are identical if it is below the tolerance within which float64 decides.
    """
    tile = next(iter(plan(image.shape[1:], predictor, tile=256 if image.ndim == 3 else 24)))
    batch = read_mirrored(image, tile.read_start, tile.read_shape)[None]
    difference = predictor.probabilities(batch)[0] - predictor.probabilities_float64(batch)[0]
    sums = [add_classes(difference, of) for of in classes]
    return max(float(np.abs(each).max()) for each in (*difference, *sums))


def compare(case: Case, tiles: Sequence[int | None]) -> tuple[list[list[object]], bool]:
    """One row a plan, and whether all agree."""
    name, network, image, settings, classes = case
    rule = AtLeast(settings.thresholds, tuple(classes))
    predictors = {"": TorchPredictor(network), " + noise": Noisy(network)}
    reference = None
    rows, good = [], True
    for noise, tile, batch_size, threads in product(predictors, tiles, (1, 4), (1, 2)):
        if noise and (batch_size, threads) != (1, 1):
            continue
        torch.set_num_threads(threads)
        predictor = predictors[noise]
        probabilities = np.empty((predictor.num_classes, *image.shape[1:]), dtype=np.float32)
        options = {"tile": tile, "batch_size": batch_size, "probabilities_out": probabilities}
        planes = decide(image, predictor, settings.thresholds, classes=classes, **options)
        label_image = instances.label(planes, settings)
        if reference is None:
            reference = probabilities, planes, label_hash(label_image)
        difference = np.abs(probabilities - reference[0])
        naive = rule.classify_pixels(probabilities, 0.0)[0]
        flipped = sum(int((one != other).sum()) for one, other in zip(naive, reference[1], strict=True))
        identical = label_hash(label_image) == reference[2]
        good &= identical and difference.max() <= BAR
        tile_shape = plan(image.shape[1:], predictor, tile=tile).tile_shape
        rows.append(
            [
                name + noise,
                "x".join(map(str, image.shape[1:])),
                tile or "whole",
                "x".join(map(str, tile_shape)),
                batch_size,
                threads,
                f"{difference.max():.1e}",
                f"{(difference > 0).mean():.1%}",
                flipped,
                int(label_image.max()),
                "identical" if identical else "DIFFERENT",
            ]
        )
    return rows, good


def main() -> int:
    parser = common.model_parser(__doc__)
    parser.add_argument("--images", type=Path, help="folder of real images")
    arguments = parser.parse_args()
    rows, good = [], True
    print(common.machine(), end="\n\n")
    for case in cases(arguments.model, arguments.images):
        error = float32_error(TorchPredictor(case.network), case.image, case.classes)
        print(f"{case.name}: float32 is within {error:.1e} of float64; float64 decides within {ERROR_BOUND:.0e}")
        good &= error < ERROR_BOUND
        more, agree = compare(case, TILES_2D if case.image.ndim == 3 else TILES_3D)
        rows += more
        good &= agree
    print()
    headings = ["network", "image", "asked", "tile", "batch", "threads", "max difference", "other bits"]
    common.print_table([*headings, "flips in float32 alone", "cells", "label image"], rows)
    print(f"\n{len(rows)} plans: {'all agree' if good else 'NOT all agree'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
