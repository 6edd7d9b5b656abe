"""Cellpose 3 from random weights, in an environment of its own.

Run it in the folder of this file:

python cellpose_peer.py train TABLE ROOT MODEL --seconds S
python cellpose_peer.py segment MODEL IMAGES OUT
"""

import argparse
import time
from pathlib import Path

from cellpose import models, train
from files import normalized, read_pairs, run_peer, segment_folder, write_mask

TRIED_EPOCHS = 2
"""Epochs that are timed, so that the schedule of learning rates ends with the processor time."""


def fit(arguments: argparse.Namespace) -> None:
    """Train for the processor time, over all cores."""
    images, label_images = read_pairs(arguments.table, arguments.root, "training")
    # The first training computes the flows of all images; the second one starts from fresh weights.
    run_epochs(images, label_images, 1, arguments.model)
    started = time.process_time()
    run_epochs(images, label_images, TRIED_EPOCHS, arguments.model)
    an_epoch = (time.process_time() - started) / TRIED_EPOCHS
    run_epochs(images, label_images, max(10, round(arguments.seconds / an_epoch)), arguments.model)


def run_epochs(images: list, label_images: list, epochs: int, path: Path) -> None:
    """Train a fresh network and save it."""
    network = models.CellposeModel(gpu=False, pretrained_model=False, diam_mean=17.0).net
    train.train_seg(
        network, images, label_images, channels=[0, 0], normalize=False, n_epochs=epochs, min_train_masks=1,
        save_path=path.parent.parent, model_name=path.name,
    )  # fmt: skip


def segment(arguments: argparse.Namespace) -> None:
    """Segment a folder at the diameter of the training cells."""
    model = models.CellposeModel(gpu=False, pretrained_model=str(arguments.model))
    for image, path in segment_folder(arguments.images, arguments.out):
        write_mask(path, model.eval(normalized(image), channels=[0, 0], normalize=False)[0])


if __name__ == "__main__":
    run_peer(__doc__, fit, segment)
