"""Do ten suggested images help more than ten random ones? Real images, several seeds, one budget.

A first model is trained on a few images. It suggests ten of the others (`unetbio suggest`), and ten are drawn at
random; two networks go on from the first model, for the same minutes, on the few and the ten. All are scored on the
same validation images. The bar: the mean over the seeds is higher with suggested images.

    python benchmarks/suggestions.py DATA --set dsb2018 --minutes 3 --seeds 0,1,2 -o runs/suggestions

With three seeds this trains nine networks. What is there already in the output folder is not trained again.
"""

import argparse
import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from collections_of_images import Annotated, annotated
from common import print_table

import unetbio
from unetbio.models.model_file import read_info
from unetbio.suggestion import suggest

SCORE = "mean_AP"
WAYS = ("first", "random", "suggested")
CELLS = ("cells, random", "cells, suggested")

Pairs = tuple[Sequence[Annotated], Sequence[Annotated]]
"""Images to train on and to validate on."""


def write_pairs(path: Path, training: Sequence[Annotated], validation: Sequence[Annotated]) -> Path:
    """A table of the images of a training."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "mask", "split"])
        for split, images in (("training", training), ("validation", validation)):
            writer.writerows((one.image, one.mask, split) for one in images)
    return path


def score_of(folder: Path, pairs: Pairs, seed: int, minutes: float, start: Path | None) -> float:
    """Train a model, unless it is there, and give its score."""
    model = folder / "model.safetensors"
    if not model.exists():
        table = write_pairs(folder / "pairs.csv", *pairs)
        unetbio.train(table, model, minutes=minutes, seed=seed, start=None if start is None else str(start))
    return float(read_info(model).scores["validation"][SCORE])


def run_seed(images: Pairs, out: Path, seed: int, first: int, number: int, minutes: float) -> dict[str, float]:
    """Scores of the first model, and of those with random and with suggested images; cells to draw in these images."""
    training, validation = images
    order = [training[index] for index in np.random.default_rng(seed).permutation(len(training))]
    few, rest = order[:first], {one.image: one for one in order[first:]}
    scores = {"first": score_of(out / f"seed{seed}" / "first", (few, validation), seed, minutes, None)}
    start = out / f"seed{seed}" / "first" / "model.safetensors"
    # The rest is in random order already.
    found = suggest(sorted(rest), start, number, group="none")
    chosen = {"random": list(rest.values())[:number], "suggested": [rest[image.item.source] for image in found.chosen]}
    for way, more in chosen.items():
        scores[way] = score_of(out / f"seed{seed}" / way, ([*few, *more], validation), seed, minutes, start)
        scores[f"cells, {way}"] = sum(int(np.count_nonzero(np.unique(one.truth()))) for one in more)
    return scores


def main() -> None:
    """Print a row a seed, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the collections")
    parser.add_argument("--set", dest="name", default="dsb2018", help="collection; its images in fluorescence")
    parser.add_argument("--minutes", type=float, default=3.0, help="of each training")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--first", type=int, default=5, help="images of the first model")
    parser.add_argument("--number", type=int, default=10, help="images that are suggested, and drawn")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    training, validation = (list(annotated(given.data.resolve(), given.name, part)) for part in ("train", "val"))
    results = [
        run_seed((training, validation), given.output, seed, given.first, given.number, given.minutes) for seed in seeds
    ]
    means = {name: statistics.mean(result[name] for result in results) for name in results[0]}
    rows = [
        [name, *(f"{result[way]:.3f}" for way in WAYS), *(f"{result[way]:.0f}" for way in CELLS)]
        for name, result in zip([*seeds, "mean"], [*results, means], strict=True)
    ]
    print_table(["seed", *WAYS, *CELLS], rows)
    print(f"suggested less random: {means['suggested'] - means['random']:+.3f} {SCORE}")


if __name__ == "__main__":
    main()
