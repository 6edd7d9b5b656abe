"""Settings that people write down, checked before anything runs; unknown keys are refused."""

import csv
import difflib
import json
import math
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from unetbio import architectures, normalization
from unetbio.errors import UsageError
from unetbio.io.discover import Found, find_inputs, part_of, table_input
from unetbio.normalization import Normalization

__all__ = [
    "MAX_CLASSES",
    "Augmentation",
    "CompareOptions",
    "JobResources",
    "SegmentOptions",
    "TrainOptions",
    "TrainingConfig",
    "WorkflowConfig",
    "check_preset",
    "load_config",
    "load_training_config",
    "workflow_schema",
]


MAX_CLASSES = 255
"""Classes are written as uint8, and one value is left for pixels that nobody annotated."""


class Section(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SectionT = TypeVar("SectionT", bound=Section)


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
        The model's name.
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
        Input pixels of a training patch, one number or one an axis; rounded up to a legal size. 252 in two dimensions
        and 92 in three unless given.
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
    parameters: dict[str, Any] = {"base_channels": 16, "depth": 3, "batch_norm": True, "dropout": 0.0}
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


def _listed(value: Any) -> Any:
    """One value where a list is meant is a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


def _normalize(text: str) -> str:
    try:
        normalization.parse(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


def check_preset(name: str) -> str:
    """The name of a preset of the CRF.

    Raises
    ------
    UsageError
        When there is none of that name; the message lists those there are.
    """
    from unetbio.crf import PRESETS  # here, since numba takes its time

    if name not in PRESETS:
        raise UsageError(f"there is no preset {name} of the CRF; there are: {', '.join(PRESETS)}")
    return name


def _preset(name: str) -> str:
    try:
        return check_preset(name)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _folder(text: str) -> str:
    if os.path.normpath(text) == os.curdir:
        raise ValueError("a folder of its own is needed")
    return os.path.normpath(text)


Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
_DEVICE = Field(default="auto", description="`auto`, `cpu`, `cuda`, `cuda:N`, `mps`.")


class SegmentOptions(Section):
    """Options of ``unetbio segment``, named as there; what is left out is decided by the model or the file."""

    channel: Annotated[tuple[str | int, ...], BeforeValidator(_listed)] = Field(
        default=(), description="Name or number (from 0) of the channel that the model takes, or a list of them."
    )
    series: int | None = Field(default=None, ge=0, description="Image in its file, from 0.")
    t: int | None = Field(default=None, ge=0, description="Time point, from 0.")
    z: Annotated[int, Field(ge=0)] | Literal["max"] | None = Field(
        default=None, description="Section, from 0, or `max` for the brightest of all sections."
    )
    axes: str | None = Field(
        default=None, pattern="^[TCZYX]+$", description="Axes of the file where it does not say, such as `ZYX`."
    )
    pixel_size: float | None = Field(default=None, gt=0, description="Pixel size in um, where the file does not say.")
    diameter: float | None = Field(
        default=None, gt=0, description="Typical diameter of the cells in pixels: images are rescaled to the model's."
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="Probability, or score of an object, from which on it is a cell."
    )
    min_area: float | None = Field(default=None, ge=0, description="Smallest cell, in pixels.")
    max_area: float | None = Field(default=None, gt=0, description="Largest cell, in pixels.")
    exclude_border: bool = Field(default=False, description="Drop cells that touch the border of the image.")
    classes: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(), description="Names of the classes that are kept, with a model of classes; a list, or one."
    )
    crf: Annotated[str, AfterValidator(_preset)] | None = Field(
        default=None, description="Refine with the fully connected CRF: the name of a preset, such as `largefov`."
    )
    normalize: Annotated[str, AfterValidator(_normalize)] | None = Field(
        default=None, description="Grey values that become 0 and 1: `auto`, `p1,p99.8` (percentiles) or `0,4095`."
    )
    tile: int | None = Field(
        default=None, ge=1, description="Output pixels of a tile; the answer does not depend on it."
    )
    exact_tiles: bool = Field(
        default=False, description="Tile exactly also where a pixel's context is above 256 pixels; takes longer."
    )
    device: Device = _DEVICE
    overlays: Annotated[int, Field(ge=0)] | Literal["all", "none"] = Field(
        default=50, description="Pictures on the page: a number, `all` or `none`."
    )
    save_probabilities: bool = Field(default=False, description="Write the probabilities beside the label images.")

    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        return _as_arguments({**dict(self), "classes": ",".join(self.classes) or None})


def _as_arguments(options: Mapping[str, Any]) -> list[str]:
    """Words of a command line: nothing for None and False, one option each for the values of a tuple."""
    words: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, tuple):
            words += [word for item in value for word in (option, str(item))]
        elif value is not None and value is not False:
            words += [option, str(value)]
    return words


class JobResources(Section):
    """What one job of a rule asks its machine or cluster for."""

    threads: int = Field(default=2, ge=1, description="Processor cores.")
    mem_mb: int = Field(default=4000, ge=1, description="Memory, in MB.")
    runtime: int = Field(default=120, ge=1, description="Longest time, in minutes.")


class LongJobResources(JobResources):
    """What a job that trains asks for."""

    mem_mb: int = Field(default=8000, ge=1, description="Memory, in MB.")
    runtime: int = Field(default=1440, ge=1, description="Longest time, in minutes.")


class TrainOptions(Section):
    """What the network named by `network` is trained on, with ``unetbio train``."""

    images: str = Field(default="", description="Folder or file of images to train on.")
    masks: str = Field(default="", description="Folder or file of their label images, or class masks.")
    config: str | None = Field(default=None, description="Settings of training, a YAML file.")
    steps: int | None = Field(default=None, ge=1, description="Steps to train; overrides the settings.")
    minutes: float | None = Field(default=None, gt=0, description="Train for as many minutes instead.")
    device: Device = _DEVICE
    resources: LongJobResources = Field(default=LongJobResources(), description="Of the train rule's job.")

    def inputs(self) -> list[str]:
        """Images and masks, as they stand on the command line."""
        return [path for path in (self.images, self.masks) if path]

    def files(self) -> list[Path]:
        """Everything that training depends on.

        Raises
        ------
        UsageError
            When a path does not exist.
        """
        return _files_below("training", [*self.inputs(), *([self.config] if self.config else [])])

    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        return _as_arguments(self.model_dump(include={"config", "steps", "minutes", "device"}))


class CompareOptions(Section):
    """What ``unetbio compare`` compares, and on what."""

    data: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(), description="Images and masks (a list of two), a folder with both, or a table."
    )
    networks: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(), description="`all`, or a list of names such as `unet`, `unet:skip=none`, `fcn32s+crf`."
    )
    lessons: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(), description="Lessons, each a set of networks that shows one trick: a list of names."
    )
    config: str | None = Field(default=None, description="Settings of training, a YAML file.")
    steps: int | None = Field(default=None, ge=1, description="Steps to train each network; overrides the settings.")
    minutes: float | None = Field(default=None, gt=0, description="Train each for as many minutes instead.")
    width: float | None = Field(
        default=None, gt=0, le=4, description="Channels of every network as a multiple of its paper's."
    )
    device: Device = _DEVICE
    resources: LongJobResources = Field(default=LongJobResources(), description="Of the compare rule's job.")

    @model_validator(mode="after")
    def _complete(self) -> "CompareOptions":
        chosen = self.networks or self.lessons
        if bool(self.data) != bool(chosen):
            raise ValueError("data and networks (or lessons) are needed: on what is compared, and what")
        return self

    def files(self) -> list[Path]:
        """Everything that the comparison depends on; raises as `TrainOptions.files`."""
        return _files_below("compare", [*self.data, *([self.config] if self.config else [])])

    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        named = {"networks": ",".join(self.networks) or None, "lesson": self.lessons}
        return _as_arguments({**named, **self.model_dump(include={"config", "steps", "minutes", "width", "device"})})


def _files_below(key: str, paths: Sequence[str]) -> list[Path]:
    """These files, and all below these folders but for hidden ones."""
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UsageError(f"{key}: {path} does not exist: give a file or folder, relative to where snakemake runs")
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [file for file in below if file.is_file() and not file.name.startswith(".")]
    return files


def _network(name: str) -> str:
    try:
        return architectures.find(name).name
    except UsageError as error:
        raise ValueError(str(error)) from error


class WorkflowConfig(Section):
    """Everything that the Snakemake workflow can be told; paths are relative to where Snakemake runs."""

    images: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(), description="Files, folders (searched with all folders below) and patterns in quotes."
    )
    table: str | None = Field(
        default=None,
        description="Instead of `images`: csv or tsv with the column `image`; see `unetbio segment --table`.",
    )
    output: Annotated[str, AfterValidator(_folder)] = Field(
        default="results", description="Folder that gets all results."
    )
    model: str = Field(default="nuclei", min_length=1, description="Name of a shipped model, or a model file.")
    network: Annotated[str, AfterValidator(_network)] | None = Field(
        default=None, description="Instead of `model`: the network that is trained first; see `training`."
    )
    training: TrainOptions = Field(default=TrainOptions(), description="What `network` is trained on.")
    compare: CompareOptions = Field(default=CompareOptions(), description="Networks to train and compare besides.")
    images_per_job: int = Field(
        default=100, ge=1, description="About as many images are one job, since starting one costs some seconds."
    )
    segment: SegmentOptions = Field(default=SegmentOptions(), description="Options of `unetbio segment`.")
    resources: JobResources = Field(default=JobResources(), description="Of one job of the segment rule.")

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, values: Any) -> Any:
        # "segment:" with all its lines commented out is None in YAML and means the defaults.
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _one_source(self) -> "WorkflowConfig":
        if bool(self.images) == bool(self.table):
            found = "both are" if self.table else "none is"
            raise ValueError(f"one of 'images' and 'table' is needed, {found} given")
        return self

    @model_validator(mode="after")
    def _network_and_training(self) -> "WorkflowConfig":
        if self.network and not (self.training.images and self.training.masks):
            raise ValueError(f"network: {self.network} has to be trained: training needs images and masks")
        if self.training.inputs() and not self.network:
            raise ValueError("training needs network: the name of what is trained, such as unet")
        return self

    @property
    def trained_model(self) -> str:
        """Where the model file goes that is trained."""
        return f"{self.output}/models/{self.network}.safetensors"

    @property
    def model_used(self) -> str:
        """The model that images are segmented with."""
        return self.trained_model if self.network else self.model

    def source_arguments(self) -> list[str]:
        """What to segment, as it stands on the command line."""
        return ["--table", self.table] if self.table else list(self.images)

    def model_files(self) -> list[str]:
        """The model where it is a file, so that another one of the same name is noticed; a shipped one is none."""
        return [self.model_used] if self.network or Path(self.model).is_file() else []

    def batches(self) -> tuple[int, dict[int, list[Path]]]:
        """Divide the images among jobs.

        Returns
        -------
        tuple of int and dict
            The number of parts, and the files of each part (counted from 1) that has any. The parts are those of
            ``unetbio segment --part``.

        Raises
        ------
        UsageError
            When there are no images, or the table cannot be read.
        """
        found = _table_images(Path(self.table)) if self.table else find_inputs(self.images, out=self.output)
        count = math.ceil(len(found) / self.images_per_job)
        parts: dict[int, list[Path]] = {}
        for item in found:
            parts.setdefault(part_of(item.relative, count), []).append(item.path)
        return count, dict(sorted(parts.items()))


def load_config(source: Mapping[str, Any] | str | os.PathLike[str]) -> WorkflowConfig:
    """Check the settings of a workflow.

    Parameters
    ----------
    source : mapping or path-like
        What Snakemake read, or a YAML file.

    Raises
    ------
    UsageError
        One line that names the key, what was given, and for an unknown key those that are known.
    """
    if isinstance(source, Mapping):
        return _validated(WorkflowConfig, source, None)
    path = Path(source)
    return _validated(WorkflowConfig, _read_mapping(path), path)


def workflow_schema() -> str:
    """JSON schema of `WorkflowConfig`, by which editors check what is typed; kept as ``config/schema.json``."""
    return json.dumps(WorkflowConfig.model_json_schema(), indent=2) + "\n"


def _table_images(table: Path) -> list[Found]:
    """Images that a table names."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as stream:
            delimiter = "\t" if table.suffix.lower() in (".tsv", ".tab") else ","
            names = [(row.get("image") or "").strip() for row in csv.DictReader(stream, delimiter=delimiter)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"table: {table} cannot be read as csv or tsv: {error}") from error
    if not names or not all(names):
        raise UsageError(f"table: {table} needs a column 'image' with a file in every row")
    return [table_input(table, name) for name in names]


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
        place = f"{path}: " if path else ""
        raise UsageError(place + _explain(kind, error)) from error


def _explain(kind: type[BaseModel], error: ValidationError) -> str:
    """One line of what pydantic found first, naming the key as it stands in the file."""
    problems = error.errors()
    problem = problems[0]
    key, known = _locate(kind, problem["loc"])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key.rpartition(".")[2], known, n=1)
        advice = f"did you mean {near[0]}? " if near else ""
        return f"unknown key {key}: {advice}known are {', '.join(known)}"
    if problem["type"] in ("model_type", "dataclass_type"):
        return f"{key}: names with values are needed (given: {problem['input']!r})"
    # Where several kinds of value are allowed, each says why it is not the one.
    messages = dict.fromkeys(
        p["msg"].removeprefix("Value error, ") for p in problems if _locate(kind, p["loc"])[0] == key
    )
    text = ", or ".join(messages)
    return f"{key}: {text} (given: {problem['input']!r})" if key else text


def _locate(kind: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """Dotted key of a pydantic location, without the names it gives to members of a union; and the keys beside it."""
    words: list[str] = []
    known = list(kind.model_fields)
    inner: Any = kind
    for part in location:
        fields = getattr(inner, "model_fields", None) or getattr(inner, "__dataclass_fields__", {})
        if isinstance(part, int):
            words.append(str(part))
            continue
        if fields:
            known = list(fields)
        elif words:
            break
        words.append(part)
        inner = getattr(fields.get(part), "annotation", None)
    return ".".join(words), known
