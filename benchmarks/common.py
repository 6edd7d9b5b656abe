"""Shared parts of the benchmarks: a network, images, timing, tables."""

import argparse
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from unetbio import networks
from unetbio.io import read_image
from unetbio.models.model_file import load_model
from unetbio.postprocessing.instances import PostProcessing
from unetbio.preprocessing.normalization import apply, measure
from unetbio.segmentation import Segmenter
from unetbio.settings.normalization import Normalization

__all__ = [
    "RANDOM",
    "RANDOM_PARAMETERS",
    "best_time",
    "classes_of_planes",
    "images_of",
    "load_network",
    "machine",
    "model_parser",
    "print_table",
    "random_network",
    "seconds_in_turns",
    "synthetic_nuclei",
]

RANDOM = "random"
RANDOM_PARAMETERS = {"ndim": 2, "base_channels": 24, "depth": 3, "batch_norm": True}


def model_parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments that these benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="nuclei", help=f"name or file, or {RANDOM!r}: random weights, 24 base channels"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    return parser


def seconds_in_turns(passes: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median time of each pass, in turns; the first of each, which chooses and compiles, does not count."""
    taken: dict[str, list[float]] = {name: [] for name in passes}
    for number in range(repeats + 1):
        for name, run in passes.items():
            begin = time.perf_counter()
            run()
            if number:
                taken[name].append(time.perf_counter() - begin)
    return {name: float(np.median(times)) for name, times in taken.items()}


def random_network(parameters: dict[str, object], seed: int = 0) -> nn.Module:
    """A network with random weights, and batch norm statistics as if it had seen images."""
    torch.manual_seed(seed)
    network = networks.build("unet", parameters)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def load_network(model: str) -> tuple[nn.Module, dict[str, object], PostProcessing]:
    """Network of a model, its parameters and its post-processing."""
    if model == RANDOM:
        return random_network(RANDOM_PARAMETERS), RANDOM_PARAMETERS, PostProcessing()
    loaded = load_model(model)
    return loaded.network, loaded.info.parameters, loaded.info.postprocessing


def classes_of_planes(model: str, settings: PostProcessing) -> list[tuple[int, ...]]:
    """Classes whose probabilities are added, for each threshold: those of the model's target."""
    if model == RANDOM:
        return [(1,)] * len(settings.thresholds)
    classes: list[tuple[int, ...]] = Segmenter(load_model(model), "cpu").decoder.classes.of_planes(settings)
    return classes


def synthetic_nuclei(shape: Sequence[int], seed: int = 0) -> NDArray[np.float32]:
    """Blurred blobs of unequal brightness with noise, normalised: ``(1, *shape)``."""
    rng = np.random.default_rng(seed)
    ndim = len(shape)
    points = np.zeros(shape, dtype=np.float32)
    count = int(np.prod(shape) / 25**ndim)
    points[tuple(rng.integers(0, size, count) for size in shape)] = rng.uniform(0.4, 1, count)
    blobs = ndimage.maximum_filter(points, footprint=_ball(8, ndim)) if ndim == 2 else points * 500
    image = ndimage.gaussian_filter(blobs, 2.0 if ndim == 2 else 3.0) + rng.normal(0, 0.05, shape)
    return _normalised(image[None].astype(np.float32))


def _ball(radius: int, ndim: int) -> NDArray[np.bool_]:
    axis = np.arange(-radius, radius + 1)
    return sum(grid**2 for grid in np.meshgrid(*[axis] * ndim)) <= radius**2


def _normalised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return apply(image, measure(image, Normalization()))


def images_of(folder: Path, count: int) -> list[NDArray[np.float32]]:
    """The largest images of a folder, one channel, normalised: ``(1, Y, X)``."""
    files = sorted(folder.iterdir(), key=lambda path: (-path.stat().st_size, path.name))[:count]
    images = [np.asarray(read_image(path).read(), dtype=np.float32) for path in files]
    return [_normalised(image.reshape(-1, *image.shape[-2:])[:1]) for image in images]


def best_time(work: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of ``repeats`` runs, after one that does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def machine() -> str:
    """Describe the machine in one line."""
    return (
        f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown, its columns aligned."""
    cells = [list(headings), *[[f"{value}" for value in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for number, row in enumerate(cells):
        print("| " + " | ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
