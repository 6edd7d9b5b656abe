"""Settings and columns that are given to a training and change nothing in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unetbio import networks
from unetbio.settings.base import flattened
from unetbio.settings.training import TrainingConfig
from unetbio.targets import of_training
from unetbio.targets.base import Target
from unetbio.targets.nested import NestedLearner
from unetbio.targets.objects import ObjectLearner
from unetbio.training.data.pairs import AnnotatedFiles

__all__ = ["GROUP", "find_without_effect"]

GROUP = "the column group"
"""Column of a table, beside the names of settings."""

INTENSITY = ("brightness", "contrast", "gamma", "noise", "blur", "colour")
"""Changes of grey values, which an augmentation applies with `probability`."""

WEIGHTS = ("border_weight", "border_sigma", "class_weighting", "class_weight_cap", "small_cell_weight")
"""Settings of the weights of pixels."""


def find_without_effect(
    given: Mapping[str, Any], config: TrainingConfig, files: AnnotatedFiles, minutes: float | None
) -> dict[str, str]:
    """Given settings that change nothing, with dots in their names, and why; and the column ``group``.

    Parameters
    ----------
    given : mapping
        Settings that the user states, in a file or as options.
    config : TrainingConfig
        All settings.
    files : AnnotatedFiles
        Images and their masks.
    minutes : float, optional
        Length of the training in place of steps.
    """
    stated = {*flattened(given), GROUP}
    rules = [
        *_of_network(config),
        *_of_target(config),
        *_of_schedule(config, minutes),
        *_of_augmentation(config),
        *_of_files(config, files),
    ]
    return {rule.name: rule.reason for rule in rules if rule.holds and rule.name in stated}


@dataclass(frozen=True)
class _Rule:
    """A setting, whether it changes nothing, and why."""

    name: str
    holds: bool
    reason: str


def _of_network(config: TrainingConfig) -> Iterator[_Rule]:
    for name, reason in networks.find(config.network).read(config.parameters).unused():
        yield _Rule(f"parameters.{name}", True, reason)


def _of_target(config: TrainingConfig) -> Iterator[_Rule]:
    target = of_training(config)
    what = f"{config.network} with target {config.target}"
    are_cells = target.masks == "instances"
    finds_objects = _learns_as(target, ObjectLearner)
    has_border = are_cells and networks.find(config.network).output == "logits"
    ignores_weights = config.loss == "dice" and not finds_objects
    for name in WEIGHTS:
        yield _Rule(name, ignores_weights, "loss is dice, which weighs all annotated pixels alike")
    yield _Rule("border_weight", not has_border, f"{what} has no border term")
    yield _Rule("border_sigma", not has_border, f"{what} has no border term")
    yield _Rule("border_sigma", has_border and config.border_weight == 0, "border_weight is 0")
    is_nested = _learns_as(target, NestedLearner)
    weighs_alike = finds_objects or is_nested
    yield _Rule("class_weighting", weighs_alike, f"{what} weighs all classes alike")
    yield _Rule("class_weight_cap", weighs_alike, f"{what} weighs all classes alike")
    has_cap = weighs_alike or config.class_weighting == "balanced"
    yield _Rule("class_weight_cap", not has_cap, f"class_weighting is {config.class_weighting}, and not balanced")
    yield _Rule("small_cell_weight", not is_nested, f"{what} weighs small cells like all others")
    yield _Rule("loss", finds_objects, f"{config.network} has its own loss")
    yield _Rule("augmentation.largest_diameter", not are_cells, f"{what} has no cells")


def _learns_as(target: Target, kind: type) -> bool:
    return isinstance(target.learner, type) and issubclass(target.learner, kind)


def _of_schedule(config: TrainingConfig, minutes: float | None) -> Iterator[_Rule]:
    yield _Rule("momentum", config.optimizer != "sgd", f"optimizer {config.optimizer} has none")
    yield _Rule("poly_power", config.schedule != "poly", f"schedule is {config.schedule}, and not poly")
    yield _Rule("restarts", config.schedule == "constant", "schedule is constant")
    yield _Rule("steps", minutes is not None and not config.restarts, "the training ends after its minutes")


def _of_augmentation(config: TrainingConfig) -> Iterator[_Rule]:
    chosen = config.augmentation
    yield _Rule("augmentation.elastic_grid", chosen.elastic_sigma == 0, "elastic_sigma is 0")
    yield _Rule("augmentation.largest_angle", not chosen.rotate, "rotate is false")
    changes = {name for name in INTENSITY if getattr(chosen, name) != (1 if name == "gamma" else 0)}
    for name in INTENSITY:
        is_unused = name in changes and chosen.probability == 0
        yield _Rule(f"augmentation.{name}", is_unused, "the probability of changes is 0")
    yield _Rule("augmentation.probability", not changes, f"{', '.join(INTENSITY)} change nothing")


def _of_files(config: TrainingConfig, files: AnnotatedFiles) -> Iterator[_Rule]:
    is_grouped = any(pair.group for pair in files.training)
    wants_groups = config.sampling == "groups"
    yield _Rule("sampling", wants_groups and not is_grouped, "no table names the groups of images in a column group")
    yield _Rule(GROUP, is_grouped and not wants_groups, f"sampling is {config.sampling}, and not groups")
    yield _Rule("validation_fraction", bool(files.validation), "the validation images are named")
    yield _Rule("validation_fraction", config.folds > 0, "each image validates in one of the folds")
    for name in ("patience", "validate_every"):
        yield _Rule(name, config.folds > 0, "in folds a network is validated once, after its last step")
