"""Rate of the network against that of a matrix product, in one run.

    python benchmarks/roofline.py [--model nuclei] [--threads 2]

Bar: the forward pass in float32 reaches 75 % of the multiply-adds a second of a product of matrices, by output size.
"""

from functools import partial

import common
import numpy as np
import torch

from unetbio.inference.backends.torch import TorchPredictor

SIZES = (256, 512, 1024)
SIDE = 2048


def main() -> None:
    arguments = common.model_parser(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    network, _, _ = common.load_network(arguments.model)
    predictor = TorchPredictor(network)
    matrix = torch.randn(SIDE, SIDE)
    print(common.machine(), end="\n\n")
    rows = []
    for size in SIZES:
        shape = predictor.geometry.input_size((size, size))
        tile = np.random.default_rng(0).random((1, 1, *shape), np.float32)
        # In turns, since the machine changes its speed.
        product = SIDE**3 / common.best_time(lambda: matrix @ matrix, 5)
        seconds = common.best_time(partial(predictor.probabilities, tile), 5)
        rate = predictor.multiply_adds(shape) / seconds
        rows.append([size, f"{seconds:.3f}", f"{2e-9 * rate:.0f}", f"{2e-9 * product:.0f}", f"{rate / product:.0%}"])
    common.print_table(["output", "s", "GFLOP/s", "of the product", "share"], rows)


if __name__ == "__main__":
    main()
