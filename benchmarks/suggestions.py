"""Do ten suggested images help more than ten random ones? Real images, several seeds, one budget.

A first model is trained on a few images. It suggests ten of the others (`unetbio suggest`), and ten are drawn at
random; two networks go on from the first model, for the same minutes, on the few and the ten. All are scored on the
same validation images. The bar: the mean over the seeds is higher with suggested images.

    python benchmarks/suggestions.py ../shared/data/bbbc039 --minutes 5 --seeds 0,1,2 -o runs/suggestions

With three seeds this trains nine networks. What is there already in the output folder is not trained again.
"""

import argparse
import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import print_table

import unetbio
from unetbio.models.model_file import read_info
from unetbio.suggestion import suggest

SCORE = "mean_AP"
WAYS = ("first", "random", "suggested")


def write_pairs(path: Path, data: Path, training: Sequence[str]) -> Path:
    """A table of training images by name, and of all validation images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "mask", "split"])
        for part, names in (("train", training), ("val", names_in(data / "val"))):
            split = "training" if part == "train" else "validation"
            writer.writerows((f"{part}/images/{name}", f"{part}/masks/{name}", split) for name in names)
    return path


def names_in(part: Path) -> list[str]:
    """Names of the images of a part, sorted."""
    return sorted(path.name for path in (part / "images").iterdir())


def score_of(folder: Path, data: Path, training: Sequence[str], seed: int, minutes: float, start: Path | None) -> float:
    """Train a model, unless it is there, and give its score."""
    model = folder / "model.safetensors"
    if not model.exists():
        pairs = write_pairs(folder / "pairs.csv", data, training)
        unetbio.train(pairs, model, root=data, minutes=minutes, seed=seed, start=None if start is None else str(start))
    return float(read_info(model).scores["validation"][SCORE])


def run_seed(data: Path, out: Path, seed: int, first: int, number: int, minutes: float) -> dict[str, float]:
    """Scores of the first model, and of those with random and with suggested images."""
    names = names_in(data / "train")
    order = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    few, rest = order[:first], order[first:]
    scores = {"first": score_of(out / f"seed{seed}" / "first", data, few, seed, minutes, None)}
    start = out / f"seed{seed}" / "first" / "model.safetensors"
    # The rest is in random order already.
    found = suggest([data / "train" / "images" / name for name in sorted(rest)], start, number)
    chosen = {"random": rest[:number], "suggested": [image.path.name for image in found.chosen]}
    for way, more in chosen.items():
        scores[way] = score_of(out / f"seed{seed}" / way, data, [*few, *more], seed, minutes, start)
    return scores


def main() -> None:
    """Print a row a seed, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/ and val/, each with images/ and masks/")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each training")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--first", type=int, default=5, help="images of the first model")
    parser.add_argument("--number", type=int, default=10, help="images that are suggested, and drawn")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    results = [
        run_seed(given.data.resolve(), given.output, seed, given.first, given.number, given.minutes) for seed in seeds
    ]
    rows = [[str(seed), *(f"{result[way]:.3f}" for way in WAYS)] for seed, result in zip(seeds, results, strict=True)]
    means = {way: statistics.mean(result[way] for result in results) for way in WAYS}
    rows.append(["mean", *(f"{means[way]:.3f}" for way in WAYS)])
    print_table(["seed", *WAYS], rows)
    print(f"suggested less random: {means['suggested'] - means['random']:+.3f} {SCORE}")


if __name__ == "__main__":
    main()
