"""A model in 8-bit integers against the one that it was made of: time of the network, and label hashes of many plans.

    python benchmarks/integers.py INTEGERS IMAGES [--model nuclei] [--count 4] [--repeats 9]

INTEGERS is a file that ``unetbio models quantize`` wrote, IMAGES a folder. The network is timed for an output of 512 x
512 pixels on all cores, in turns with the others. Label hashes are those of each image with PyTorch and ONNX Runtime,
six tile sizes, one and two threads; then of other processes that may use older instructions alone. ONNX Runtime chooses
its own instructions, so that these rows are of PyTorch.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import common
import numpy as np
import torch

import unetbio
from unetbio.inference.backends.base import make_backend
from unetbio.io import find_inputs
from unetbio.models.model_file import load_model

OUTPUT = 512
TILES = (None, 37, 52, 132, 260, 401)
INSTRUCTIONS = (
    {},
    {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
)


def seconds(integers: str, model: str, repeats: int) -> dict[str, float]:
    """Median time of a pass of each network, in turns."""
    floats, whole = load_model(model), load_model(integers)
    networks = {
        "float32, PyTorch": make_backend(floats.network),
        "float32, ONNX Runtime": make_backend(floats.network, "onnx"),
        "int8, PyTorch": make_backend(whole.network),
        "int8, ONNX Runtime": make_backend(whole.network, "onnx"),
    }
    size = floats.geometry.input_size((OUTPUT, OUTPUT))
    image = np.random.default_rng(0).random((1, 1, *size), dtype=np.float32)
    return common.seconds_in_turns({name: partial(one.probabilities, image) for name, one in networks.items()}, repeats)


def plans(integers: str, image: Path) -> Iterator[str]:
    """Label hash of an image by each plan."""
    threads = torch.get_num_threads()
    for backend in ("torch", "onnx"):
        for count in (1, 2):
            for tile in TILES:
                torch.set_num_threads(count)
                yield unetbio.segment(image, integers, device="cpu", backend=backend, tile=tile)[1]["label_hash"]
    torch.set_num_threads(threads)


def hash_with(integers: str, image: Path, instructions: dict[str, str]) -> str:
    """Label hash of an image in a process that may use these instructions."""
    line = [sys.executable, __file__, integers, str(image), "--hash"]
    run = subprocess.run(line, env=os.environ | instructions, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("integers")
    parser.add_argument("images")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--hash", action="store_true", help="print the label hash of one image, and nothing else")
    given = parser.parse_args()
    images = [found.path for found in find_inputs([given.images])]
    if given.hash:
        print(unetbio.segment(images[0], given.integers, device="cpu", backend="torch")[1]["label_hash"])
        return
    times = seconds(given.integers, given.model, given.repeats)
    for name, taken in times.items():
        print(f"{name:22} {taken:.3f} s, {times['float32, PyTorch'] / taken:.2f} times as fast as float32 in PyTorch")
    chosen = images[:: max(1, len(images) // given.count)][: given.count]
    for image in chosen:
        hashes = [*plans(given.integers, image)]
        older = [hash_with(given.integers, image, instructions) for instructions in INSTRUCTIONS]
        differing = sum(each != hashes[0] for each in (*hashes, *older))
        print(f"{image.name}: {len(hashes)} plans and {len(older)} sets of instructions, {differing} with another hash")


if __name__ == "__main__":
    main()
