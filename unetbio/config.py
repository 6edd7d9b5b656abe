"""Settings that people write down, checked before anything runs; unknown keys are refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unetbio.errors import UsageError
from unetbio.normalization import Normalization

__all__ = ["Augmentation", "TrainingConfig", "load_training_config"]


class Section(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SectionT = TypeVar("SectionT", bound=Section)


class Augmentation(Section):
    """Random changes of training patches.

    Parameters
    ----------
    flip, rotate : bool
        Mirror along each in-plane axis; rotate in the plane by any angle.
    scale : float
        Zoom by a factor between ``1 / scale`` and ``scale``, uniform in its logarithm.
    elastic_sigma : float
        Standard deviation, in pixels, of the displacements on a coarse grid (section 3.1 of arXiv 1505.04597: 10).
    elastic_grid : int
        Grid points an axis, interpolated bicubically to every pixel (3).
    brightness, contrast : float
        Shift by up to ``brightness`` and scale by up to ``1 +- contrast``, in normalised grey values.
    gamma : float
        Exponent between ``1 / gamma`` and ``gamma``.
    noise, blur : float
        Largest standard deviation of added Gaussian noise (normalised grey values) and of a Gaussian blur (pixels).
    probability : float
        With which each of the last four changes is made.
    """

    flip: bool = True
    rotate: bool = True
    scale: float = Field(default=1.3, ge=1.0)
    elastic_sigma: float = Field(default=10.0, ge=0.0)
    elastic_grid: int = Field(default=3, ge=2)
    brightness: float = Field(default=0.1, ge=0.0)
    contrast: float = Field(default=0.2, ge=0.0, lt=1.0)
    gamma: float = Field(default=1.4, ge=1.0)
    noise: float = Field(default=0.1, ge=0.0)
    blur: float = Field(default=1.0, ge=0.0)
    probability: float = Field(default=0.3, ge=0.0, le=1.0)


class TrainingConfig(Section):
    """Everything that decides what a training run learns, but for the images.

    Parameters
    ----------
    name : str
        The model's name.
    network : str
        A registered architecture.
    parameters : dict
        Its parameters where they differ from the defaults; ``in_channels`` and ``num_classes`` follow from the data.
    licence : str
        Of the weights that come out.
    patch_size : int
        Input pixels along each axis of a training patch; rounded up to a legal size.
    batch_size, steps : int
        Patches a step, and number of steps.
    foreground_fraction : float
        Share of patches that are placed on a cell; the others are placed anywhere.
    optimizer : {"adamw", "sgd"}
        AdamW, or the paper's SGD (momentum .99 unless set).
    learning_rate, weight_decay, momentum : float
        Momentum is for SGD alone.
    schedule : {"one_cycle", "constant"}
        One cycle: linear warm-up over the first tenth, then a cosine down to zero.
    border_weight, border_sigma : float
        w0 and sigma (pixels) of the weight map; ``border_weight: 0`` leaves the border term out.
    class_weight_cap : float
        Largest weight that balancing the classes may give.
    ignore_label : int, optional
        Value of pixels in the label images that nobody annotated; they weigh nothing.
    normalization : Normalization
        How raw grey values become input.
    augmentation : Augmentation
        Random changes of patches.
    validation_fraction : float
        Share of images kept for validation where the table does not name them (chosen by a hash of their names).
    validate_every : int
        Steps between validations.
    patience : int
        Validations without a better score after which training stops; 0 for never.
    seed : int
        Of weights, patches and augmentation.
    """

    name: str = "model"
    network: str = "unet"
    parameters: dict[str, Any] = {"base_channels": 16, "depth": 3, "batch_norm": True, "dropout": 0.0}
    licence: str = ""
    patch_size: int = Field(default=252, ge=1)
    batch_size: int = Field(default=4, ge=1)
    steps: int = Field(default=3000, ge=1)
    foreground_fraction: float = Field(default=0.5, ge=0.0, le=1.0)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0.0)
    weight_decay: float = Field(default=1e-4, ge=0.0)
    momentum: float = Field(default=0.99, ge=0.0, lt=1.0)
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    border_weight: float = Field(default=10.0, ge=0.0)
    border_sigma: float = Field(default=5.0, gt=0.0)
    class_weight_cap: float = Field(default=2.0, ge=1.0)
    ignore_label: int | None = None
    normalization: Normalization = Normalization()
    augmentation: Augmentation = Augmentation()
    validation_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
    validate_every: int = Field(default=500, ge=1)
    patience: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)


def load_training_config(path: Path | None, overrides: Mapping[str, Any]) -> TrainingConfig:
    """Read training settings from a YAML file and put ``overrides`` over them.

    Raises
    ------
    UsageError
        When the file is not a mapping, or a key is unknown or has a bad value; the message names the key.
    """
    return _validated(TrainingConfig, {**_read_mapping(path), **overrides}, path)


def _read_mapping(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds {type(content).__name__}, settings are a mapping of names to values")
    return content


def _validated(kind: type[SectionT], content: Mapping[str, Any], path: Path | None) -> SectionT:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        place = f"{path}: " if path else ""
        known = f"; known are {', '.join(kind.model_fields)}" if problem["type"] == "extra_forbidden" else ""
        raise UsageError(f"{place}{key}: {problem['msg']} (given: {problem['input']!r}){known}") from error
