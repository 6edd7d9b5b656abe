"""Settings of training."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from unetbio.settings.base import Section, read_mapping, validated
from unetbio.settings.normalization import Normalization
from unetbio.settings.options import given, options_of
from unetbio.settings.training_runs import OVERRIDES, TrainRun

__all__ = ["MAX_CLASSES", "Augmentation", "TrainingConfig", "given_settings", "load_training_config"]


MOST = {"patch_size": 1 << 16, "batch_size": 1 << 12, "steps": 10**9, "learning_rate": 1000, "seed": (1 << 63) - 1}
"""Larger numbers take the machine, or fit into no number of PyTorch."""

MAX_CLASSES = 255
"""Classes are written as uint8, and one value is reserved for pixels without annotation."""


def _shared(name: str, default: Any) -> Any:
    """Setting that shares its description with an option of ``unetbio train``."""
    option = options_of(TrainRun)[name]
    return Field(default=default, description=option.text.replace(OVERRIDES, "."), **option.limits.given())


class Augmentation(Section):
    """Random changes of training patches; ``docs/settings.md`` describes every field."""

    aligned_fraction: float = Field(
        default=0.3,
        ge=0.0,
        le=1.0,
        description="Share of patches that are only mirrored and turned by quarters, pixel on pixel: interpolation "
        "blurs, and images that are segmented later are not blurred.",
    )
    flip: bool = Field(
        default=True,
        description="Mirror along each in-plane axis. Switch it off where classes differ by their place in a body, "
        "such as front and back, and give `largest_angle` then.",
    )
    rotate: bool = Field(default=True, description="Rotate in the plane.")
    largest_angle: float = Field(
        default=180.0,
        gt=0.0,
        le=180.0,
        description="Rotate by at most so many degrees, either way. Few, such as 20 with `flip: false`, where all "
        "images show a body from the same side: two mirrorings are half a turn. Aligned patches are turned by quarters "
        "within it.",
    )
    scale: float = Field(
        default=1.3, ge=1.0, description="Zoom by a factor between `1 / scale` and `scale`, uniform in its logarithm."
    )
    largest_diameter: float | None = Field(
        default=None,
        gt=0.0,
        description="Enlarge no image so far that its median cell is wider than this, in pixels; reduce images whose "
        "median cell is wider, in validations too. No limit unless given. For targets of cells, in planes.",
    )
    elastic_sigma: float = Field(
        default=10.0,
        ge=0.0,
        description="Standard deviation, in pixels, of the displacements on a coarse grid (section 3.1 of arXiv "
        "1505.04597: 10).",
    )
    elastic_grid: int = Field(
        default=3, ge=2, description="Grid points an axis, interpolated bicubically to every pixel (the paper: 3)."
    )
    brightness: float = Field(
        default=0.1, ge=0.0, description="Shift by up to so much, in normalised grey values, up or down."
    )
    contrast: float = Field(
        default=0.2,
        ge=0.0,
        lt=1.0,
        description="Scale normalised grey values by up to `1 - contrast` or `1 + contrast`.",
    )
    gamma: float = Field(default=1.4, ge=1.0, description="Exponent between `1 / gamma` and `gamma`.")
    noise: float = Field(
        default=0.1,
        ge=0.0,
        description="Largest standard deviation of added Gaussian noise, in normalised grey values.",
    )
    blur: float = Field(default=1.0, ge=0.0, description="Largest standard deviation of a Gaussian blur, in pixels.")
    colour: float = Field(
        default=0.0,
        ge=0.0,
        description="Mix channels: to each a share of every channel is added, between `-colour` and `colour`, and "
        "such a constant. For stains that differ between laboratories; .15 in tissue with H&E.",
    )
    probability: float = Field(
        default=0.3,
        ge=0.0,
        le=1.0,
        description="Probability of each of the changes `brightness`, `contrast`, `gamma`, `noise`, `blur` and "
        "`colour`.",
    )


class TrainingConfig(Section):
    """Settings that decide the result of a training run, apart from the images.

    ``docs/settings.md`` describes every field.
    """

    name: str = Field(
        default="model",
        description="The model's name. `unetbio train` takes the name of the file that it writes, unless it is given.",
    )
    target: str = _shared("target", "instances")
    class_names: tuple[str, ...] = _shared("class_names", ())
    class_values: tuple[NonNegativeInt, ...] = _shared("class_values", ())
    split_components: bool = _shared("split_components", False)
    network: str = _shared("network", "unet")
    recipe: Literal["paper"] | None = _shared("recipe", None)
    parameters: dict[str, Any] = Field(
        default={"base_channels": 16, "depth": 3, "batch_norm": True, "dropout": 0.0},
        description="Parameters of the network where they differ from its defaults (`unetbio networks NAME` lists "
        "them); `in_channels` and `num_classes` follow from the data. Unless given, a small U-Net's for `unet`, and "
        "none for any other network.",
    )
    licence: str = Field(default="", description="Licence of the trained weights.")
    patch_size: PositiveInt | tuple[PositiveInt, ...] | None = Field(
        default=None,
        description="Input pixels of a training patch, one number or one an axis; rounded up to a size that the "
        "network takes and whose output is at least half as wide. Unless given, 252 in two dimensions and 92 in three.",
    )
    batch_size: int = Field(default=4, ge=1, description="Patches a step.")
    steps: int = _shared("steps", 3000)
    foreground_fraction: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="Share of patches that are placed on a cell, or on a class other than the background; the others "
        "are placed anywhere.",
    )
    sampling: Literal["cells", "groups"] = Field(
        default="cells",
        description="Patches on cells: all cells alike, or by the groups that the column `group` of the table names: "
        "a group in proportion to the root of its number of images, then any of its images, then any of its cells. So "
        "images with few cells and rare groups are seen too.",
    )
    optimizer: Literal["adamw", "sgd"] = Field(default="adamw", description="AdamW, or the SGD of the U-Net's paper.")
    learning_rate: float = Field(default=2e-3, gt=0.0, description="Largest learning rate of the schedule.")
    weight_decay: float = Field(default=1e-4, ge=0.0, description="Weight decay of the optimizer.")
    momentum: float = Field(default=0.99, ge=0.0, lt=1.0, description="Momentum of `sgd`; `adamw` has none.")
    ema: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Validate and keep the running mean of the weights in place of those of the last step; each step "
        "moves the mean by `1 - ema` of the way, such as .999. 0 for none.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Type of number in which the network computes; `auto` is bfloat16 on CUDA and on processors "
        "that multiply it (AVX512-BF16, AMX), which train 1.6 times as fast in it, and float32 elsewhere.",
    )
    schedule: Literal["one_cycle", "constant", "poly"] = Field(
        default="one_cycle",
        description="Learning rate over the steps. `one_cycle`: linear warm-up over the first tenth, then a cosine "
        "down to zero. `poly`: the share of the steps that are left to the power `poly_power` (DeepLab, PSPNet). "
        "`constant`: but for `rate_drops`.",
    )
    poly_power: float = Field(default=0.9, gt=0.0, description="Power of `schedule: poly`.")
    rate_drops: tuple[float, ...] = Field(
        default=(),
        description="With `schedule: constant`: shares of the training after which the rate falls to a tenth, such as "
        "`[0.5, 0.75]`; rising, between 0 and 1.",
    )
    restarts: tuple[int, ...] = Field(
        default=(),
        description="Steps at which the cycle begins anew (warm restarts, arXiv 1608.03983), rising and below `steps`.",
    )
    loss: Literal["cross_entropy", "dice", "cross_entropy_dice"] = Field(
        default="cross_entropy",
        description="Pixel-wise softmax cross-entropy with the weight map, soft Dice, or their sum.",
    )
    border_weight: float = _shared("border_weight", 10.0)
    border_sigma: float = Field(
        default=5.0,
        gt=0.0,
        description="sigma of the weight map, in pixels. For cells alone; 4 where `train` chooses the target.",
    )
    small_cell_weight: float = Field(
        default=1.0,
        ge=1.0,
        le=100.0,
        description="Weigh cells below 12 pixels wide, and 2 pixels around them, as if they were 12 pixels wide, but "
        "at most so much. With the targets `boundaries` and `centres`.",
    )
    class_weighting: Literal["balanced", "median_frequency", "none"] = Field(
        default="balanced",
        description="Weight of a class: the inverse of its frequency with a cap, the median of the frequencies over "
        "its own (SegNet), or 1. The targets `boundaries` and `centres` weigh all classes alike, so that outlines lie "
        "where they are.",
    )
    class_weight_cap: float = Field(
        default=2.0, ge=1.0, description="Largest weight that `class_weighting: balanced` gives."
    )
    ignore_label: int | None = Field(
        default=None,
        description="Value of unannotated pixels in the masks, which weigh nothing; not 0 for targets of cells.",
    )
    normalization: Normalization = Field(
        default=Normalization(), description="How grey values are scaled to the network's input."
    )
    augmentation: Augmentation = Field(default=Augmentation(), description="Random changes of training patches.")
    validation_fraction: float = Field(
        default=0.1,
        gt=0.0,
        lt=1.0,
        description="Share of images kept for validation where the table does not name them (chosen by a hash of their "
        "names).",
    )
    folds: int = _shared("folds", 0)
    validate_every: PositiveInt | None = Field(
        default=500,
        description="Steps between validations; with `null` twelve are spread over the training, over its steps or its "
        "minutes; over minutes further apart where they would take more than a sixth of the time.",
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="Validations without a better score after which training stops; 0 for never.",
    )
    seed: int = _shared("seed", 0)

    @model_validator(mode="before")
    @classmethod
    def _parameters_of_the_network(cls, values: Any) -> Any:
        is_another = isinstance(values, Mapping) and values.get("network", "unet") != "unet"
        return {"parameters": {}, **values} if is_another else values

    @model_validator(mode="after")
    def _check_sizes(self) -> "TrainingConfig":
        for name, most in MOST.items():
            value = getattr(self, name)
            if any(number > most for number in (value if isinstance(value, tuple) else (value,)) if number is not None):
                raise ValueError(f"{name} must be at most {most:,}".replace(",", " "))
        return self

    @model_validator(mode="after")
    def _check_restarts(self) -> "TrainingConfig":
        edges = (0, *self.restarts, self.steps)
        if any(after <= before for before, after in pairwise(edges)):
            raise ValueError(f"restarts {list(self.restarts)} must rise and lie between 0 and steps ({self.steps})")
        return self

    @model_validator(mode="after")
    def _check_rate_drops(self) -> "TrainingConfig":
        edges = (0.0, *self.rate_drops, 1.0)
        if any(after <= before for before, after in pairwise(edges)):
            raise ValueError(f"rate_drops {list(self.rate_drops)} must rise and lie between 0 and 1")
        if self.rate_drops and self.schedule != "constant":
            raise ValueError(f"rate_drops are for schedule: constant; leave them out with schedule: {self.schedule}")
        return self

    @model_validator(mode="after")
    def _check_classes(self) -> "TrainingConfig":
        lists = {"class_names": self.class_names, "class_values": self.class_values}
        given = {name: values for name, values in lists.items() if values}
        for name, values in given.items():
            if not 2 <= len(set(values)) == len(values) <= MAX_CLASSES:
                raise ValueError(
                    f"{name} {list(values)} must be 2 to {MAX_CLASSES} different ones, the background first"
                )
        if len({len(values) for values in given.values()}) == 2:
            raise ValueError(f"there are {len(self.class_names)} class_names and {len(self.class_values)} class_values")
        if self.ignore_label is not None and self.ignore_label in self.class_values:
            raise ValueError(f"ignore_label {self.ignore_label} is one of class_values {list(self.class_values)}")
        return self


def given_settings(run: object) -> dict[str, Any]:
    """Given options of a command that are settings of training, by name."""
    return {name: value for name, value in given(run).items() if name in TrainingConfig.model_fields}


def load_training_config(path: str | Path | None, overrides: Mapping[str, Any]) -> TrainingConfig:
    """Read training settings from a YAML file and put ``overrides`` over them.

    Raises
    ------
    UsageError
        When the file is not a mapping, or a key is unknown or has a bad value; the message names the key.
    """
    return validated(TrainingConfig, {**read_mapping(path), **overrides}, path)
