"""StarDist from random weights, in an environment of its own: 32 rays, grid 2.

python stardist_peer.py train TABLE ROOT MODEL --seconds S
python stardist_peer.py segment MODEL IMAGES OUT
"""

import argparse
import time

import numpy as np
from files import normalized, read_pairs, run_peer, segment_folder, write_mask
from stardist.models import Config2D, StarDist2D
from tensorflow import keras

RANDOM = np.random.default_rng(0)


class ProcessorTime(keras.callbacks.Callback):
    """Ends the training when the process has used its seconds, over all cores."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Look at the time."""
        self.model.stop_training = time.process_time() > self.seconds


def augment(image: np.ndarray, label_image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns, flips and changes of grey values, as in StarDist's examples."""
    turns, flip = RANDOM.integers(4), RANDOM.random() < 0.5
    image, label_image = (np.rot90(array, turns) for array in (image, label_image))
    if flip:
        image, label_image = image[:, ::-1], label_image[:, ::-1]
    image = image * RANDOM.uniform(0.6, 2) + RANDOM.uniform(-0.2, 0.2)
    return image + 0.02 * RANDOM.random() * RANDOM.normal(size=image.shape), label_image


def train(arguments: argparse.Namespace) -> None:
    images, label_images = read_pairs(arguments.table, arguments.root, "training")
    validation = read_pairs(arguments.table, arguments.root, "validation")
    config = Config2D(
        n_rays=32, grid=(2, 2), n_channel_in=1, train_patch_size=(256, 256), train_batch_size=4, use_gpu=False,
        train_epochs=100_000, train_steps_per_epoch=50, train_tensorboard=False,
    )  # fmt: skip
    model = StarDist2D(config, name=arguments.model.name, basedir=str(arguments.model.parent))
    model.prepare_for_training()
    model.callbacks.append(ProcessorTime(arguments.seconds))
    model.train(images, label_images, validation_data=validation, augmenter=augment)
    model.optimize_thresholds(*validation)


def segment(arguments: argparse.Namespace) -> None:
    model = StarDist2D(None, name=arguments.model.name, basedir=str(arguments.model.parent))
    for image, path in segment_folder(arguments.images, arguments.out):
        write_mask(path, model.predict_instances(normalized(image))[0])


if __name__ == "__main__":
    run_peer(__doc__, train, segment)
