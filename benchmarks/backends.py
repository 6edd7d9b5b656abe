"""ONNX Runtime against PyTorch: probabilities, label images and time, on real images with the shipped model.

    python benchmarks/backends.py --images DATA/dsb2018/val/images DATA/bbbc039/val/images

Each image is segmented with PyTorch and, for several tile sizes, with ONNX Runtime. Bars: probabilities within 1e-5,
equal label hashes. The time is that of the float32 pass over the whole image, the least of three; the two backends take
turns.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from unetbio.inference.backends.base import Predictor, make_backend
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
    probabilities = np.empty((2, *opened.grid), np.float32)
    decided = segmenter.decide(opened, frame, probabilities_out=probabilities)
    return label_hash(segmenter.finish(opened, frame, decided).label_image), probabilities, frame.image


def seconds(image: np.ndarray, predictor: Predictor) -> float:
    start = time.perf_counter()
    predict(image, predictor)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = load_model("nuclei")
    reference = Segmenter(model, "cpu")
    start = time.perf_counter()
    make_backend(model.network, "onnx")
    print(f"making the graph: {time.perf_counter() - start:.1f} s")
    others = [Segmenter(model, "cpu", tile=tile, backend="onnx") for tile in TILES]
    runners = {"torch": reference.decoder.runner, "onnx": others[-1].decoder.runner}
    good = True
    for folder in arguments.images:
        largest, error, equal, pixels, times = 0.0, 0.0, 0, 0, dict.fromkeys(runners, 0.0)
        for path in spread(folder, arguments.count):
            expected, probabilities, image = segment(reference, path)
            for segmenter in others:
                found, other, _ = segment(segmenter, path)
                largest = max(largest, float(np.abs(other - probabilities).max()))
                equal += found == expected
            batch = np.ascontiguousarray(image[None, :, :100, :100])
            error = max(
                error,
                *(
                    float(np.abs(r.probabilities(batch) - r.probabilities_float64(batch)).max())
                    for r in runners.values()
                ),
            )
            turns = [{name: seconds(image, runner) for name, runner in runners.items()} for _ in range(3)]
            for name in runners:
                times[name] += min(turn[name] for turn in turns)
            pixels += image[0].size
        plans = arguments.count * len(TILES)
        rates = ", ".join(f"{name} {total / pixels * 1e6:.2f}" for name, total in times.items())
        print(f"{folder}: {equal} of {plans} label images equal; probabilities differ by at most {largest:.1e}")
        print(f"  float32 is within {error:.1e} of float64; seconds a megapixel: {rates}")
        good &= equal == plans and largest <= BAR
    raise SystemExit(0 if good else "the bars are not met")


if __name__ == "__main__":
    main()
