"""Variants: networks with settings, by their names on the command line.

A name is a registered network, optionally followed by settings and by a CRF::

    unet
    unet:skip=none
    unet:depth=3:augmentation.elastic_sigma=0
    deeplab_v1+crf
    deeplab_v1:dilation=1+crf=PRESET

A setting is a parameter of the network or, if the network has none of that name, a setting of training, dotted within a
section. Its value is a YAML scalar.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from unetbio import networks, targets
from unetbio.compare.lessons import LESSONS
from unetbio.errors import UsageError
from unetbio.settings.base import YAML_ERRORS
from unetbio.settings.training import TrainingConfig, load_training_config
from unetbio.settings.values import check_preset

__all__ = ["Variant", "lesson_variants", "parse_variant", "parse_variants", "training_config"]

ALL = "all"

SAME_FOR_ALL = frozenset(
    {"name", "network", "parameters", "validation_fraction"}
    | {"target", "class_names", "class_values", "split_components", "ignore_label"}
)
"""Settings of training that a variant cannot change: its name gives the network; all share split and truth."""

_NAME = re.compile(r"(?P<network>\w+)(?P<settings>(:[\w.]+=[^:+]*)*)(?P<crf>\+crf(=(?P<preset>[^:+=]+))?)?")


@dataclass(frozen=True)
class Variant:
    """A network with settings, and optionally a CRF.

    Parameters
    ----------
    network : str
        A registered architecture.
    settings : tuple of (str, str)
        Names and values as given, sorted by name.
    crf : str, optional
        Preset of the CRF after the network; empty for the default preset, None for no CRF.
    """

    network: str
    settings: tuple[tuple[str, str], ...] = ()
    crf: str | None = None

    @property
    def name(self) -> str:
        """The name that `parse_variant` reads."""
        step = {None: "", "": "+crf"}.get(self.crf, f"+crf={self.crf}")
        return ":".join((self.network, *(f"{key}={value}" for key, value in self.settings))) + step

    @property
    def slug(self) -> str:
        """The name as a folder: letters, digits, dots, hyphens and underscores."""
        return re.sub(r"[^\w.-]", "_", self.name.replace("=", "-"), flags=re.ASCII)

    @property
    def trained(self) -> "Variant":
        """The variant to train: the same without the CRF."""
        return Variant(self.network, self.settings)


def parse_variants(text: str) -> list[Variant]:
    """Read names separated by commas; ``all`` stands for every registered network.

    Raises
    ------
    UsageError
        As `parse_variant`.
    """
    names = [name.strip() for name in text.split(",")]
    every = [Variant(network) for network in networks.names()]
    return _once(variant for name in names for variant in (every if name == ALL else [parse_variant(name)]))


def lesson_variants(name: str) -> list[Variant]:
    """The variants of a lesson."""
    return [parse_variant(variant) for variant in LESSONS[name].names]


def parse_variant(name: str) -> Variant:
    """Read one name.

    Raises
    ------
    UsageError
        When the name has a wrong form, or the network or the preset is unknown.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise UsageError(
            f"{name!r} is no network to compare: give a name, settings after colons and +crf at the end, such as "
            "unet:skip=none:border_weight=0 or fcn32s+crf"
        )
    if networks.find(found["network"]).output == "objects" and found["crf"]:
        raise UsageError(f"{name}: {found['network']} finds objects, and the CRF needs the probabilities of pixels")
    if found["preset"] is not None:
        try:
            check_preset(found["preset"])
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from error
    settings = dict(setting.split("=", 1) for setting in found["settings"].split(":")[1:])
    return Variant(found["network"], tuple(sorted(settings.items())), found["crf"] and (found["preset"] or ""))


def training_config(variant: Variant, base: TrainingConfig, width: float | None = None) -> TrainingConfig:
    """Settings for the training of a variant.

    Parameters
    ----------
    variant : Variant
        Its settings override all others.
    base : TrainingConfig
        Settings of the comparison. Its ``parameters``, if they are stated, apply to every network that has a parameter
        of that name.
    width : float, optional
        Width of every network: channels as a multiple of the paper's.

    Returns
    -------
    TrainingConfig
        Named after the variant, with all parameters of the network except those that follow from the images.

    Raises
    ------
    UsageError
        When a setting is unknown or has an invalid value.
    """
    architecture = networks.find(variant.network)
    _check_shared(base)
    own, training = _parted_settings(variant)
    if base.recipe is not None or "recipe" in training:
        raise UsageError(f"{variant.name}: networks are compared with equal settings: leave the recipe out")
    shared = {key: value for key, value in _parameters(base, variant.network).items() if key in architecture.defaults}
    content = base.model_dump() | {
        "name": variant.name,
        "network": variant.network,
        "parameters": architecture.complete({**shared, **_scaled(variant.network, width), **own}),
    }
    for key, value in training.items():
        *sections, last = key.split(".")
        section = content
        for part in sections:
            inner = section.get(part)
            if not isinstance(inner, dict):
                raise UsageError(f"{variant.name}: there is no setting {key}: {part} has no settings of its own")
            section = inner
        section[last] = value
    try:
        config = load_training_config(None, content)
        targets.of_training(config)
    except UsageError as error:
        raise UsageError(f"{variant.name}: {error}") from error
    return config


def _is_compared(target: str) -> bool:
    found = targets.find(target)
    return found.masks == "instances" and not found.has_cell_classes


def _check_shared(base: TrainingConfig) -> None:
    if not _is_compared(base.target):
        cells = [name for name in targets.names() if _is_compared(name)]
        raise UsageError(
            f"target: {base.target} cannot be compared: the scores are those of cells (target: {' or '.join(cells)})"
        )
    known = {key for network in networks.names() for key in networks.find(network).defaults}
    unknown = sorted(set(base.parameters) - known)
    if unknown:
        raise UsageError(f"parameters: no network has {', '.join(unknown)}; there are: {', '.join(sorted(known))}")


def _parameters(base: TrainingConfig, network: str) -> dict[str, Any]:
    """Parameters that are stated for all networks; if none are, those of a small U-Net for `unet` alone."""
    # Settings of another network than `unet` have none unless they are stated, which says nothing of `unet`.
    is_stated = "parameters" in base.model_fields_set and (base.parameters or base.network == "unet")
    return base.parameters if is_stated else TrainingConfig(network=network).parameters


def _parted_settings(variant: Variant) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the network and of its training."""
    parameters = networks.find(variant.network).defaults
    known = sorted(set(TrainingConfig.model_fields) - SAME_FOR_ALL)
    own: dict[str, Any] = {}
    training: dict[str, Any] = {}
    for key, text in variant.settings:
        if key not in parameters and key.partition(".")[0] not in known:
            raise UsageError(
                f"{variant.name}: there is no setting {key}; {variant.network} has {', '.join(sorted(parameters))}; "
                f"training has {', '.join(known)}"
            )
        (own if key in parameters else training)[key] = _scalar(variant, key, text)
    return own, training


def _scalar(variant: Variant, key: str, text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except YAML_ERRORS:
        value = [text]
    if isinstance(value, dict | list):
        raise UsageError(f"{variant.name}: {key} is {text!r}; one number, word, true or false is needed")
    return value


def _scaled(network: str, width: float | None) -> dict[str, Any]:
    return {} if width is None else networks.find(network).parameters.of_width(width)


def _once(variants: Iterable[Variant]) -> list[Variant]:
    return list(dict.fromkeys(variants))
