"""Every backend against PyTorch: probabilities, label images and time, on real images with the shipped model.

    python benchmarks/backends.py --images DATA/dsb2018/val/images DATA/bbbc039/val/images

Each image is segmented with PyTorch and, for several tile sizes, with every other backend. Bars: probabilities within
1e-5, equal label hashes. The time is that of the float32 pass over the whole image, the least of three; the backends
take turns.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from unetbio.inference.backends.base import DEFAULT, Predictor, names
from unetbio.inference.prediction import predict
from unetbio.labels import label_hash
from unetbio.models.model_file import load_model
from unetbio.segmentation import Segmenter
from unetbio.settings.segmentation import Settings

TILES = (52, 132, 260, None)
BAR = 1e-5


def spread(folder: Path, count: int) -> list[Path]:
    """As many images, from all parts of the sorted folder."""
    paths = sorted(folder.iterdir())
    return [paths[index] for index in np.linspace(0, len(paths) - 1, count).astype(int)]


def segment(segmenter: Segmenter, path: Path) -> tuple[str, np.ndarray, np.ndarray]:
    """Label hash, probabilities and normalised image."""
    opened = segmenter.open(path, Settings(channel=(0,)))
    frame = segmenter.read_frame(opened, None)
    probabilities = np.empty((segmenter.decoder.runner.num_classes, *opened.grid), np.float32)
    decided = segmenter.decide(opened, frame, probabilities_out=probabilities)
    return label_hash(segmenter.finish(opened, frame, decided).label_image), probabilities, frame.image


def seconds(image: np.ndarray, predictor: Predictor) -> float:
    start = time.perf_counter()
    predict(image, predictor)
    return time.perf_counter() - start


def error(image: np.ndarray, predictor: Predictor) -> float:
    """Largest difference between float32 and float64 in a corner of the image."""
    batch = np.ascontiguousarray(image[None, :, :100, :100])
    return float(np.abs(predictor.probabilities(batch) - predictor.probabilities_float64(batch)).max())


def compare(folder: Path, count: int, segmenters: dict[str, list[Segmenter]]) -> bool:
    """Print what the backends measure on images of a folder; True when the bars are met."""
    reference, *_ = segmenters[DEFAULT]
    largest, errors, times = (dict.fromkeys(segmenters, 0.0) for _ in range(3))
    equal, pixels = dict.fromkeys(segmenters, 0), 0
    for path in spread(folder, count):
        expected, probabilities, image = segment(reference, path)
        runners = {name: several[-1].decoder.runner for name, several in segmenters.items()}
        turns = [{name: seconds(image, runner) for name, runner in runners.items()} for _ in range(3)]
        for name, several in segmenters.items():
            for segmenter in several:
                found, other, _ = segment(segmenter, path)
                largest[name] = max(largest[name], float(np.abs(other - probabilities).max()))
                equal[name] += found == expected
            errors[name] = max(errors[name], error(image, runners[name]))
            times[name] += min(turn[name] for turn in turns)
        pixels += image[0].size
    plans = count * len(TILES)
    for name in segmenters:
        rate = times[name] / pixels * 1e6
        print(
            f"{folder}: {name}: {equal[name]} of {plans} label images equal, probabilities within {largest[name]:.1e} "
            f"of PyTorch's; float32 within {errors[name]:.1e} of float64; {rate:.2f} s a megapixel",
            flush=True,
        )
    return set(equal.values()) == {plans} and max(largest.values()) <= BAR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = load_model("nuclei")
    segmenters = {}
    for name in names():
        start = time.perf_counter()
        segmenters[name] = [Segmenter(model, "cpu", tile=tile, backend=name) for tile in TILES]
        print(f"making {name}: {(time.perf_counter() - start) / len(TILES):.1f} s")
    good = [compare(folder, arguments.count, segmenters) for folder in arguments.images]
    raise SystemExit(0 if all(good) else "the bars are not met")


if __name__ == "__main__":
    main()
