"""StarDist from random weights, in an environment of its own: 32 rays, grid 2.

Run it in the folder of this file:

python stardist_peer.py train TABLE ROOT MODEL --seconds S
python stardist_peer.py segment MODEL IMAGES OUT
"""

import argparse
import time
from pathlib import Path

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

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Say how far it is."""
        print(
            f"{epoch}: loss {logs['loss']:.4f}, validation {logs['val_loss']:.4f}, {time.process_time():.0f} s",
            flush=True,
        )

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Look at the time."""
        if time.process_time() > self.seconds:
            self.model.stop_training = True


def augment(image: np.ndarray, label_image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns, flips and changes of grey values, as in StarDist's examples."""
    turns, flip = RANDOM.integers(4), RANDOM.random() < 0.5
    image, label_image = (np.rot90(array, turns) for array in (image, label_image))
    if flip:
        image, label_image = image[:, ::-1], label_image[:, ::-1]
    image = image * RANDOM.uniform(0.6, 2) + RANDOM.uniform(-0.2, 0.2)
    return image + 0.02 * RANDOM.random() * RANDOM.normal(size=image.shape), label_image


def open_model(path: Path) -> StarDist2D:
    """A model with the best of its weights, which StarDist saves after each epoch, or a new one."""
    config = None
    if not path.exists():
        config = Config2D(
            n_rays=32, grid=(2, 2), n_channel_in=1, train_patch_size=(256, 256), train_batch_size=4, use_gpu=False,
            train_epochs=100_000, train_steps_per_epoch=50, train_tensorboard=False,
        )  # fmt: skip
    return StarDist2D(config, name=path.name, basedir=str(path.parent))


def train(arguments: argparse.Namespace) -> None:
    """Train for the processor time; the search for the thresholds comes on top."""
    keras.utils.disable_interactive_logging()
    images, label_images = zip(*read_pairs(arguments.table, arguments.root, "training"), strict=True)
    validation = tuple(zip(*read_pairs(arguments.table, arguments.root, "validation"), strict=True))
    model = open_model(arguments.model)
    model.prepare_for_training()
    model.callbacks.append(ProcessorTime(arguments.seconds))
    model.train(images, label_images, validation_data=validation, augmenter=augment)
    model.optimize_thresholds(*validation)


def segment(arguments: argparse.Namespace) -> None:
    """Segment a folder with the best weights and their thresholds."""
    model = open_model(arguments.model)
    for image, path in segment_folder(arguments.images, arguments.out):
        write_mask(path, model.predict_instances(normalized(image))[0])


if __name__ == "__main__":
    run_peer(__doc__, train, segment)
