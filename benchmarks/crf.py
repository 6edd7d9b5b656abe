"""The fully connected CRF: its time, and its effect on scores of images that the model was not trained on.

    python benchmarks/crf.py DATA [--model nuclei] [--set dsb2018|bbbc039] [--limit N]

DATA is as for ``accuracy.py``. The time is of a 512 x 512 part of the largest image, two classes, one core: seconds
on the clock and of the processor, which differ on a busy machine. Scores are of foreground against background, all
images pooled, before and after each preset with five and with ten iterations; "changed" is the share of pixels on the
other side of the threshold .5. Bar: five iterations in .6 s of the processor.
"""

import argparse
import dataclasses
import sys
import time
from itertools import product
from pathlib import Path

import common
import numpy as np
from collections_of_images import annotated
from numpy.typing import NDArray

from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import predict
from unetbio.io import read_image
from unetbio.labels import split_components
from unetbio.metrics import instances
from unetbio.models.model_file import Model, load_model
from unetbio.postprocessing.crf import PRESETS, CrfSettings, refine
from unetbio.preprocessing.normalization import apply, measure

SIZE = 512
BAR = 0.6
REPEATS = 5
ITERATIONS = (5, 10)


def read_normalised(path: Path, model: Model) -> NDArray[np.float32]:
    """Read an image as the model takes it: ``(1, Y, X)``."""
    pixels = read_image(path).read()
    channel = pixels.reshape(-1, *pixels.shape[-2:])[:1]
    return apply(channel, measure(channel, model.info.normalization))


def timed(probabilities: NDArray[np.float32], image: NDArray[np.float32], settings: CrfSettings) -> list[float]:
    """Least seconds on the clock and of the processor, after a run that compiles."""
    refine(probabilities, image, settings)
    times = []
    for _ in range(REPEATS):
        starts = time.perf_counter(), time.process_time()
        refine(probabilities, image, settings)
        times.append((time.perf_counter() - starts[0], time.process_time() - starts[1]))
    return [min(column) for column in zip(*times, strict=True)]


def foreground(probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
    return probabilities[0] <= 0.5


def compare(plane: NDArray[np.bool_], truth: NDArray[np.bool_]) -> instances.Comparison:
    """Compare the foreground alone: connected components stand for cells in both."""
    return instances.compare(split_components(plane), split_components(truth))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nuclei", help="name or file, of any architecture")
    parser.add_argument("--set", dest="name", choices=("dsb2018", "bbbc039"), default="dsb2018")
    parser.add_argument("--limit", type=int, help="no more images than this")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    predictor = TorchPredictor(model.network)
    pairs = list(annotated(arguments.data, arguments.name))[: arguments.limit]
    images = [read_normalised(path, model) for _, path, *_ in pairs]
    probabilities = [predict(image, predictor) for image in images]
    truths = [one.truth() > 0 for one in pairs]

    largest = max(range(len(images)), key=lambda index: images[index].size)
    part = np.s_[:, :SIZE, :SIZE]
    planes = [foreground(plane) for plane in probabilities]
    before = sum_of([compare(plane, truth) for plane, truth in zip(planes, truths, strict=True)])
    rows: list[list[object]] = [["none", "", *scores_of(before), "", "", ""]]
    times = []
    for (name, preset), iterations in product(PRESETS.items(), ITERATIONS):
        settings = dataclasses.replace(preset, iterations=iterations)
        clock, processor = timed(probabilities[largest][part], images[largest][part], settings)
        times += [processor] if iterations == ITERATIONS[0] else []
        refined = [foreground(refine(p, image, settings)) for p, image in zip(probabilities, images, strict=True)]
        after = sum_of([compare(plane, truth) for plane, truth in zip(refined, truths, strict=True)])
        changed = sum(int((a != b).sum()) for a, b in zip(planes, refined, strict=True)) / before.pixels
        rows.append([name, iterations, *scores_of(after), f"{changed:.4f}", f"{clock:.2f}", f"{processor:.2f}"])
    print(f"{len(pairs)} images of {arguments.name}, time on {images[largest][part].shape}; {common.machine()}\n")
    common.print_table(["preset", "iterations", "foreground IoU", "boundary F1", "changed", "s", "processor s"], rows)
    print(f"\nbar of {BAR} s of the processor {'met' if max(times) <= BAR else 'NOT met'}")
    return 0 if max(times) <= BAR else 1


def sum_of(comparisons: list[instances.Comparison]) -> instances.Comparison:
    return sum(comparisons[1:], start=comparisons[0])


def scores_of(comparison: instances.Comparison) -> list[str]:
    scores = comparison.scores()
    return [f"{scores['foreground_IoU']:.4f}", f"{scores['boundary_F1']:.4f}"]


if __name__ == "__main__":
    sys.exit(main())
