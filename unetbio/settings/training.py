"""Settings of training."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from unetbio.settings.base import Section, read_mapping, validated
from unetbio.settings.normalization import Normalization
from unetbio.settings.options import given

__all__ = ["MAX_CLASSES", "Augmentation", "TrainingConfig", "given_settings", "load_training_config"]


MAX_CLASSES = 255
"""Classes are written as uint8, and one value is left for pixels that nobody annotated."""


class Augmentation(Section):
    """Random changes of training patches.

    Parameters
    ----------
    aligned_fraction : float
        Share of patches that are mirrored and turned by quarters alone, pixel on pixel: interpolation blurs, and the
        images that will be segmented are as sharp as they are.
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
        With which each of the last five changes is made.
    """

    aligned_fraction: float = Field(default=0.3, ge=0.0, le=1.0)
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
        The model's name; ``unetbio train`` calls it like the file that it writes, unless the settings name it.
    target : {"instances", "classes"}
        What the masks hold and the network learns: cells, each with a number of its own, or the class of each pixel.
    class_names : tuple of str
        With target classes: what the classes are called, the background first. Without, the masks tell how many there
        are.
    class_values : tuple of int
        With target classes: the value in the masks that stands for each class, such as 0 and 255; 0, 1, 2 ... unless
        given.
    split_components : bool
        With target instances: take each connected part of a mask of 0 and 1 (or 255) for a cell.
    network : str
        A registered architecture.
    parameters : dict
        Its parameters where they differ from the defaults; ``in_channels`` and ``num_classes`` follow from the data.
        Unless given, a small U-Net's for ``unet``, and none for any other network.
    licence : str
        Of the weights that come out.
    patch_size : int or tuple of int, optional
        Input pixels of a training patch, one number or one an axis; rounded up to a legal size whose answer is at least
        half as wide. 252 in two dimensions and 92 in three unless given.
    batch_size, steps : int
        Patches a step, and number of steps.
    foreground_fraction : float
        Share of patches that are placed on a cell, or on a class other than the background; the others are placed
        anywhere.
    optimizer : {"adamw", "sgd"}
        AdamW, or the paper's SGD (momentum .99 unless set).
    learning_rate, weight_decay, momentum : float
        Momentum is for SGD alone.
    precision : {"auto", "float32", "bfloat16"}
        In which the network computes; auto is bfloat16 on CUDA and float32 elsewhere. Processors that multiply
        bfloat16 (AVX512-BF16, AMX) train about twice as fast in it, others slower.
    schedule : {"one_cycle", "constant"}
        One cycle: linear warm-up over the first tenth, then a cosine down to zero.
    restarts : tuple of int
        Steps at which the cycle begins anew (warm restarts, arXiv 1608.03983), rising and below ``steps``.
    loss : {"cross_entropy", "dice", "cross_entropy_dice"}
        Pixel-wise softmax cross-entropy with the weight map, soft Dice, or their sum.
    border_weight, border_sigma : float
        w0 and sigma (pixels) of the weight map; ``border_weight: 0`` leaves the border term out. For cells alone.
    class_weighting : {"balanced", "median_frequency", "none"}
        How much a class weighs: the inverse of its frequency with a cap, the median of the frequencies over its own
        (SegNet), or 1.
    class_weight_cap : float
        Largest weight that "balanced" may give.
    ignore_label : int, optional
        Value of pixels in the masks that nobody annotated; they weigh nothing.
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
    target: Literal["instances", "classes"] = "instances"
    class_names: tuple[str, ...] = ()
    class_values: tuple[NonNegativeInt, ...] = ()
    split_components: bool = False
    network: str = "unet"
    parameters: dict[str, Any] = Field(default={"base_channels": 16, "depth": 3, "batch_norm": True, "dropout": 0.0})
    licence: str = ""
    patch_size: PositiveInt | tuple[PositiveInt, ...] | None = None
    batch_size: int = Field(default=4, ge=1)
    steps: int = Field(default=3000, ge=1)
    foreground_fraction: float = Field(default=0.5, ge=0.0, le=1.0)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0.0)
    weight_decay: float = Field(default=1e-4, ge=0.0)
    momentum: float = Field(default=0.99, ge=0.0, lt=1.0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    restarts: tuple[int, ...] = ()
    loss: Literal["cross_entropy", "dice", "cross_entropy_dice"] = "cross_entropy"
    border_weight: float = Field(default=10.0, ge=0.0)
    border_sigma: float = Field(default=5.0, gt=0.0)
    class_weighting: Literal["balanced", "median_frequency", "none"] = "balanced"
    class_weight_cap: float = Field(default=2.0, ge=1.0)
    ignore_label: int | None = None
    normalization: Normalization = Normalization()
    augmentation: Augmentation = Augmentation()
    validation_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
    validate_every: int = Field(default=500, ge=1)
    patience: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _parameters_of_the_network(cls, values: Any) -> Any:
        is_another = isinstance(values, Mapping) and values.get("network", "unet") != "unet"
        return {"parameters": {}, **values} if is_another else values

    @model_validator(mode="after")
    def _check_restarts(self) -> "TrainingConfig":
        edges = (0, *self.restarts, self.steps)
        if any(after <= before for before, after in pairwise(edges)):
            raise ValueError(f"restarts {list(self.restarts)} must rise and lie between 0 and steps ({self.steps})")
        return self

    @model_validator(mode="after")
    def _check_classes(self) -> "TrainingConfig":
        lists = {"class_names": self.class_names, "class_values": self.class_values}
        given = {name: values for name, values in lists.items() if values}
        if self.target == "instances" and given:
            raise ValueError(f"{' and '.join(given)} need target: classes; with target: instances, cells have numbers")
        if self.target == "classes" and self.split_components:
            raise ValueError("split_components makes cells of masks: it needs target: instances")
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
    """Settings of training among the options of a command that were given, by name."""
    return {name: value for name, value in given(run).items() if name in TrainingConfig.model_fields}


def load_training_config(path: Path | None, overrides: Mapping[str, Any]) -> TrainingConfig:
    """Read training settings from a YAML file and put ``overrides`` over them.

    Raises
    ------
    UsageError
        When the file is not a mapping, or a key is unknown or has a bad value; the message names the key.
    """
    return validated(TrainingConfig, {**read_mapping(path), **overrides}, path)
