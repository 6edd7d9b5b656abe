"""Time to plan the tiles of large images, with the cost of the network, before the first tile.

    python benchmarks/planning.py

Bar: .5 s for a stack of 300 x 2048 x 2048. ``large_images.py --first-tile`` times the whole way to the first tile.
"""

import time

import common

from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import plan
from unetbio.networks import find

NETWORKS = {
    "3-D U-Net, 8 channels, depth 2": ({"ndim": 3, "base_channels": 8, "depth": 2}, (300, 2048, 2048)),
    "3-D U-Net, 16 channels, depth 3": ({"ndim": 3, "base_channels": 16, "depth": 3}, (300, 2048, 2048)),
    "U-Net of 24 base channels": (common.RANDOM_PARAMETERS, (40_000, 40_000)),
}


def main() -> None:
    print(common.machine(), end="\n\n")
    rows = []
    for name, (parameters, shape) in NETWORKS.items():
        network = common.random_network(find("unet").complete(parameters))
        start = time.perf_counter()
        tiles = plan(shape, TorchPredictor(network), tile=None, memory_budget=None)
        seconds = time.perf_counter() - start
        rows.append([name, "x".join(map(str, shape)), "x".join(map(str, tiles.tile_shape)), f"{seconds:.2f}"])
    common.print_table(["network", "image", "tile", "s"], rows)


if __name__ == "__main__":
    main()
