"""Work and memory of overlap tiles at 2048 x 2048.

    python benchmarks/overlap_tile.py [--model nuclei] [--tile PX] [--size 2048]

Prints the multiply-adds of the plan as a multiple of one whole-image pass, the time, and the peak memory of this
process, with Python, PyTorch, image, tiles and planes. Bars: 1.15 and 1.5 GiB. ``--sweep`` times tile sizes
instead.
"""

import resource
import sys
import time

import common
import torch

from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import decide, plan

GIB = 1 << 30
SWEEP = (128, 256, 344, 416, 512, 688, 1024, 2048)


def main() -> int:
    parser = common.model_parser(__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--tile", type=int)
    parser.add_argument("--memory-budget", type=int, help="bytes of feature maps a tile may hold")
    parser.add_argument("--sweep", action="store_true", help="time tile sizes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network, _, settings = common.load_network(arguments.model)
    predictor, classes = TorchPredictor(network), common.classes_of_planes(arguments.model, settings)
    image = common.synthetic_nuclei((arguments.size, arguments.size))
    print(common.machine(), end="\n\n")
    rows = []
    for tile in SWEEP if arguments.sweep else (arguments.tile,):
        budget = arguments.memory_budget
        tiles = plan(image.shape[1:], predictor, tile=tile, memory_budget=budget)
        start = time.perf_counter()
        decide(image, predictor, settings.thresholds, classes=classes, tile=tile, memory_budget=budget)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        estimate = max(predictor.memory_bytes(part.read_shape) for part in tiles)
        ratio = tiles.cost_ratio
        rows.append(
            [
                "x".join(map(str, tiles.tile_shape)),
                len(tiles),
                f"{tiles.cost / 1e9:.1f}",
                f"{ratio:.3f}",
                f"{seconds:.2f}",
                f"{image.size / seconds / 1e6:.2f}",
                f"{estimate / GIB:.2f}",
                f"{peak / GIB:.2f}",
            ]
        )
    headings = ["tile", "tiles", "10^9 multiply-adds", "of whole", "s", "Mpx/s", "GiB a tile", "GiB peak of process"]
    common.print_table(headings, rows)
    return 0 if arguments.sweep or (ratio <= 1.15 and peak <= 1.5 * GIB) else 1


if __name__ == "__main__":
    sys.exit(main())
