"""Cellpose 3 from random weights, in an environment of its own.

Run it in the folder of this file:

python cellpose_peer.py train TABLE ROOT MODEL --seconds S
python cellpose_peer.py segment MODEL IMAGES OUT
"""

import argparse
import time
from pathlib import Path

import torch
from cellpose import dynamics, models, train
from files import normalized, read_pairs, run_peer, segment_folder, write_mask

EPOCH_IMAGES = 80
"""Ten batches. Cellpose's schedule of learning rates counts epochs, and a pass of all images would leave too few."""

SAVED_EVERY = 20
"""Epochs; a training that is stopped goes on from there."""


def fit(arguments: argparse.Namespace) -> None:
    """Train for the processor time, over all cores; weights that are there are the beginning."""
    pairs = [pair for pair in read_pairs(arguments.table, arguments.root, "training") if pair[1].any()]
    images = [image for image, _ in pairs]
    flows = dynamics.labels_to_flows([label_image for _, label_image in pairs], device=torch.device("cpu"))
    # The schedule has to know its end, so an epoch is timed first.
    started = time.process_time()
    run_epochs(images, flows, 1, arguments.model)
    an_epoch = time.process_time() - started
    run_epochs(images, flows, max(1, round(arguments.seconds / an_epoch) - 1), arguments.model)


def run_epochs(images: list, flows: list, epochs: int, path: Path) -> None:
    """Train, and save the network."""
    weights = str(path) if path.exists() else False
    train.train_seg(
        models.CellposeModel(gpu=False, pretrained_model=weights, diam_mean=17.0).net, images, flows,
        channels=[0, 0], normalize=False, n_epochs=epochs, nimg_per_epoch=EPOCH_IMAGES, min_train_masks=0,
        save_path=path.parent.parent, save_every=SAVED_EVERY, model_name=path.name,
    )  # fmt: skip


def segment(arguments: argparse.Namespace) -> None:
    """Segment a folder at the diameter of the training cells."""
    model = models.CellposeModel(gpu=False, pretrained_model=str(arguments.model))
    for image, path in segment_folder(arguments.images, arguments.out):
        write_mask(path, model.eval(normalized(image), channels=[0, 0], normalize=False)[0])


if __name__ == "__main__":
    run_peer(__doc__, fit, segment)
