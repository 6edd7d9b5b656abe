"""Masks in bfloat16 against those in float32: cells and pixels that change, with the model's tiles and with others.

    python benchmarks/precision.py DATA [--sets bbbc039 dsb2018] [--model nuclei] [--count 20] [--repeats 5]

DATA holds the collections. Of the validation part of each set, so many images of fluorescence are segmented in float32
and in bfloat16, and a quarter of them in bfloat16 with tiles of 200 pixels too. AP takes the masks of float32 as the
truth. At the end, the network is timed for an output of 512 x 512 pixels, in turns.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
from collections_of_images import annotated
from numpy.typing import NDArray

import unetbio
from unetbio.inference.backends.base import make_backend
from unetbio.metrics.instances import evaluate
from unetbio.models.model_file import load_model
from unetbio.settings.values import Precision

OUTPUT = 512
OTHER_TILE = 200


def masks(images: Sequence[Path], model: str, precision: Precision, tile: int | None = None) -> list[NDArray[Any]]:
    """Label image of each image."""
    return [unetbio.segment(image, model, device="cpu", precision=precision, tile=tile)[0] for image in images]


def describe(found: Sequence[NDArray[Any]], truth: Sequence[NDArray[Any]]) -> str:
    """How masks differ from those that count as true."""
    pairs = list(zip(found, truth, strict=True))
    equal = sum(np.array_equal(one, other) for one, other in pairs)
    changed = sum(np.count_nonzero((one > 0) != (other > 0)) for one, other in pairs)
    cells = sum(np.count_nonzero(other) for _, other in pairs)
    counts = [sum(int(one.max()) for one in some) for some in (found, truth)]
    scores = evaluate(found, truth, names=[str(number) for number in range(len(pairs))]).pooled
    aps = ", ".join(f"{name} {scores[name]:.4f}" for name in ("AP@.5", "AP@.75", "AP@.9"))
    return (
        f"{equal} of {len(pairs)} label images equal, {counts[0]} of {counts[1]} cells, foreground changes in "
        f"{changed} of {cells} pixels of cells ({changed / cells:.4%}); {aps}"
    )


def seconds(model: str, repeats: int) -> dict[str, float]:
    """Median time of a pass in each precision, in turns."""
    network = load_model(model)
    predictors = {name: make_backend(network.network, precision=name) for name in ("float32", "bfloat16")}
    size = network.geometry.input_size((OUTPUT, OUTPUT))
    image = np.random.default_rng(0).random((1, 1, *size), dtype=np.float32)
    return common.seconds_in_turns(
        {name: partial(one.probabilities, image) for name, one in predictors.items()}, repeats
    )


def main() -> None:
    """Print the differences of each collection, and the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=["bbbc039", "dsb2018"])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    for name in given.sets:
        images = [one.image for one in annotated(given.data, name)]
        chosen = images[:: max(1, len(images) // given.count)][: given.count]
        exact, reduced = (masks(chosen, given.model, precision) for precision in ("float32", "bfloat16"))
        print(f"{name}, bfloat16 against float32: {describe(reduced, exact)}", flush=True)
        few = len(chosen) // 4
        others = masks(chosen[:few], given.model, "bfloat16", OTHER_TILE)
        print(
            f"{name}, bfloat16, tiles of {OTHER_TILE} px against the plan's: {describe(others, reduced[:few])}",
            flush=True,
        )
    times = seconds(given.model, given.repeats)
    ratio = times["float32"] / times["bfloat16"]
    print(", ".join(f"{name} {taken:.3f} s" for name, taken in times.items()), f"({ratio:.2f} times as fast)")


if __name__ == "__main__":
    main()
