"""Checkpoints of training: read them, compare their settings, set aside those of other runs."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from unetbio import networks
from unetbio.errors import ModelError, UsageError
from unetbio.files import stopping
from unetbio.models.model_file import CHECKPOINT_KEY, CHECKPOINT_SUFFIX
from unetbio.settings.base import flattened
from unetbio.settings.training import TrainingConfig
from unetbio.tensor_file import load_metadata, load_tensors
from unetbio.training.data.dataset import Example, fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    State = tuple[dict[str, Tensor], dict[str, Any]]

__all__ = [
    "damaged",
    "differences",
    "find",
    "find_set_aside",
    "hash_groups",
    "identity_of",
    "read",
    "set_aside",
    "set_aside_path",
    "settings_of",
    "swap",
]

SHOWN_DIFFERENCES = 5


def find(checkpoint: Path, identity: dict[str, Any], *, replace: bool) -> "tuple[State | None, str]":
    """Find a run's own checkpoint, even if it was set aside; set aside another run's checkpoint, or refuse it.

    Returns its tensors and progress, None if there is none, and a line for the log, which may be empty.
    """
    belongs = ""
    if checkpoint.exists():
        tensors, progress = read(checkpoint)
        different = differences(progress.get("run"), identity)
        if not different:
            return (tensors, progress), f"going on from step {progress['step']} ({checkpoint})"
        belongs = f"{checkpoint} belongs to a run with other settings or other images ({_listed(different)})"
        if not replace:
            raise ModelError(
                f"{belongs}: use the same ones to go on from step {progress['step']}; or start anew with "
                "--replace, which sets it aside, or --overwrite, which removes it"
            )
    own = find_set_aside(checkpoint, identity) if replace else None
    if own is not None:
        aside = set_aside_path(checkpoint, own)
        swap(checkpoint, own)
        state = read(checkpoint)
        now = f"; {belongs}, and is {aside.name} now" if belongs else ""
        return state, f"going on from step {state[1]['step']} ({aside}, set aside before){now}"
    if belongs:
        aside = set_aside_path(checkpoint, set_aside(checkpoint))
        return None, f"starting anew: {belongs}, and is {aside.name} now"
    return None, ""


def set_aside_path(checkpoint: Path, number: int = 1) -> Path:
    """New path of a checkpoint that another run replaces.

    Parameters
    ----------
    checkpoint : pathlib.Path
        ``m.checkpoint.safetensors``.
    number : int
        From 1: ``m.old.checkpoint.safetensors``, ``m.old2.checkpoint.safetensors`` and so on. The finished model goes
        with it: ``m.safetensors`` becomes ``m.old.safetensors``.
    """
    return checkpoint.with_name(f"{_stem(checkpoint)}.old{number if number > 1 else ''}{CHECKPOINT_SUFFIX}")


def _stem(checkpoint: Path) -> str:
    return checkpoint.name.removesuffix(CHECKPOINT_SUFFIX)


def _files_of_run(checkpoint: Path) -> tuple[Path, Path]:
    """Model and checkpoint of a run."""
    return checkpoint.with_name(f"{_stem(checkpoint)}.safetensors"), checkpoint


def find_set_aside(checkpoint: Path, identity: dict[str, Any]) -> int | None:
    """Number of a run's own checkpoint among those set aside, if any; of several, the one with most steps."""
    steps = {}
    for number in _numbers_set_aside(checkpoint):
        path = set_aside_path(checkpoint, number)
        try:
            progress = _progress(path, load_metadata(path))
        except ModelError:
            continue
        if not differences(progress.get("run"), identity):
            steps[number] = progress["step"]
    return max(steps, key=lambda number: steps[number], default=None)


def _numbers_set_aside(checkpoint: Path) -> list[int]:
    """Numbers of the checkpoints that were set aside."""
    if not checkpoint.parent.is_dir():
        return []
    pattern = re.compile(rf"{re.escape(_stem(checkpoint))}\.old(\d*){re.escape(CHECKPOINT_SUFFIX)}")
    found = (pattern.fullmatch(path.name) for path in checkpoint.parent.iterdir())
    numbers = {int(match[1] or 1) for match in found if match}
    return sorted(number for number in numbers if set_aside_path(checkpoint, number).is_file())


def set_aside(checkpoint: Path) -> int:
    """Rename the files of a run, a checkpoint and often a model, to free names; returns the number in them."""
    number = 1
    while any(path.exists() for path in _files_of_run(set_aside_path(checkpoint, number))):
        number += 1
    _rename_run(checkpoint, set_aside_path(checkpoint, number))
    return number


def swap(checkpoint: Path, number: int) -> None:
    """Restore the files of a run that was set aside; the files in their place get its number."""
    free = set_aside(checkpoint)
    _rename_run(set_aside_path(checkpoint, number), checkpoint)
    _rename_run(set_aside_path(checkpoint, free), set_aside_path(checkpoint, number))


def _rename_run(checkpoint: Path, new: Path) -> None:
    # Move the model first: a model without its checkpoint counts as finished and must not be replaced.
    for path, target in zip(_files_of_run(checkpoint), _files_of_run(new), strict=True):
        if path.exists():
            with stopping(target):
                path.replace(target)


def read(path: Path) -> "State":
    """Read the tensors of a checkpoint, and the progress of its run."""
    tensors, metadata = load_tensors(path)
    return tensors, _progress(path, metadata)


def _progress(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if CHECKPOINT_KEY not in metadata:
        raise ModelError(f"{path} is not a checkpoint of a training run; move it away and start again")
    try:
        progress = json.loads(metadata[CHECKPOINT_KEY])
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    if not isinstance(progress, dict) or not isinstance(progress.get("step"), int):
        raise damaged(path, "it does not say at which step it is")
    return progress


def damaged(path: Path, detail: object) -> ModelError:
    """Error for a checkpoint that does not hold what a training writes."""
    text = " ".join(str(detail).split()) or type(detail).__name__
    return ModelError(f"{path} is damaged ({text[:120]}): move it away and start again")


def settings_of(path: Path, training: Sequence[Example], validation: Sequence[Example]) -> dict[str, Any] | None:
    """Settings of the run that left a checkpoint, as it wrote them; None without one, or if it is of other images."""
    try:
        run = _progress(path, load_metadata(path))["run"]
        settings, images = run["config"], run["images"]
    except (ModelError, KeyError, TypeError):
        return None
    return settings if isinstance(settings, dict) and images == _images_of(training, validation) else None


def identity_of(
    config: TrainingConfig, parameters: Mapping[str, Any], training: Sequence[Example], validation: Sequence[Example]
) -> dict[str, Any]:
    """Settings and images that must be equal for a run to continue."""
    identity: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "parameters": json.loads(json.dumps(parameters)),
        "images": _images_of(training, validation),
    }
    if config.sampling == "groups":
        identity["groups"] = hash_groups([example.group for example in training])
    return identity


def _images_of(training: Sequence[Example], validation: Sequence[Example]) -> dict[str, str]:
    return {"training": fingerprint(training), "validation": fingerprint(validation)}


def hash_groups(groups: Sequence[str]) -> str:
    """Hash of the groups of training images, by which patches are drawn."""
    return hashlib.sha256(json.dumps(groups).encode()).hexdigest()


def differences(earlier: Any, identity: dict[str, Any]) -> list[str]:
    """Differences between a checkpoint's run and this one; settings that are missing there have their defaults.

    The name of the model is ignored, since it does not change the training.
    """
    try:
        config = TrainingConfig.model_validate(earlier["config"])
        parameters = json.loads(json.dumps(networks.find(config.network).complete(earlier["parameters"])))
    except (ValidationError, TypeError, KeyError, UsageError):
        return ["settings that this version does not know"]
    before = flattened({**earlier, "config": config.model_dump(mode="json"), "parameters": parameters})
    now = flattened(identity)
    # Versions up to 0.2.0 did not write the groups: they are taken to be the same.
    before.setdefault("groups", now.get("groups"))
    # `parameters` holds all parameters of the network, the settings only some of them.
    names = [name for name in {**now, **before} if name != "config.name" and not name.startswith("config.parameters.")]
    return [_difference(name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]


def _difference(name: str, before: Any, now: Any) -> str:
    if name.startswith("images."):
        return f"other {name.removeprefix('images.')} images"
    words = {
        "start": "another model to start from",
        "encoder": "other weights of the encoder",
        "groups": "other groups of training images",
    }
    if name in words:
        return words[name]
    return f"{name.removeprefix('config.')} {json.dumps(before)}, now {json.dumps(now)}"


def _listed(different: Sequence[str]) -> str:
    """Differences as one phrase; the first few."""
    more = len(different) - SHOWN_DIFFERENCES
    return "; ".join([*different[:SHOWN_DIFFERENCES], *([f"{more} more"] if more > 0 else [])])
