"""Images of a comparison, for training, for the choice of thresholds, and for scores."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from unetbio.files import sha256_path
from unetbio.io import stem
from unetbio.settings.options import given
from unetbio.settings.training import TrainingConfig
from unetbio.training.data.dataset import Example
from unetbio.training.data.examples import load_examples, load_training_data
from unetbio.training.data.pairs import AnnotatedFiles

__all__ = ["Examples", "fingerprint", "load", "result_names"]


@dataclass(frozen=True)
class Examples:
    """Annotated images in memory; ``scored`` are the test images or, without any, the validation images."""

    training: list[Example]
    validation: list[Example]
    scored: list[Example]


def fingerprint(files: AnnotatedFiles) -> str:
    """Hash of the names, roles and bytes of all files, and of how they are read."""
    parts = {"training": files.training, "validation": files.validation, "test": files.test}
    digest = hashlib.sha256()
    for part, pairs in parts.items():
        for pair in pairs:
            images = (pair.image,) if pair.image_set is None else pair.image_set.paths
            line = " ".join([part, pair.image.name, *map(sha256_path, [*images, pair.mask])])
            chosen = given(pair.reading)
            digest.update(f"{line} {chosen}\n".encode() if chosen else f"{line}\n".encode())
    return digest.hexdigest()


def load(files: AnnotatedFiles, config: TrainingConfig) -> Examples:
    """Read all images.

    Raises
    ------
    ImageError, UsageError
        As `load_training_data`.
    """
    training, validation = load_training_data(files, config)
    test = load_examples(files.test, config, like=training[0])
    return Examples(training, validation, test or validation)


def result_names(examples: Sequence[Example]) -> list[str]:
    """Name of the results of each image: its stem, with a number that no other one has if others have the same stem."""
    stems = [stem(example.name) for example in examples]
    taken = set(stems)
    names = []
    for name in stems:
        if stems.count(name) > 1:
            name = next(free for number in count(1) if (free := f"{name}_{number}") not in taken)
            taken.add(name)
        names.append(name)
    return names
