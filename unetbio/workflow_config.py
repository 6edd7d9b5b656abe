"""Settings of the Snakemake workflow, and the jobs that follow from them."""

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from unetbio import architectures, normalization
from unetbio.config import Section, check_preset, read_mapping, validated
from unetbio.errors import UsageError
from unetbio.files import stamp
from unetbio.io.discover import Found, find_inputs, part_of, table_input
from unetbio.models import model_path
from unetbio.settings import Settings

__all__ = [
    "CheckOptions",
    "CompareOptions",
    "JobResources",
    "MeasureOptions",
    "ModelSettings",
    "ModelUse",
    "SegmentOptions",
    "TrainOptions",
    "WorkflowConfig",
    "input_names",
    "input_stamps",
    "load_config",
    "workflow_schema",
]

# Folders of a workflow's output beside those of its models.
_TAKEN = ("benchmarks", "comparison", "logs", "models")
_READING = ("channel", "series", "t", "z", "axes", "pixel_size", "diameter", "normalize")
_JOURNAL = re.compile(r"\.?run\.\d+-of-(\d+)\.(?:jsonl|lock)")


def _listed(value: Any) -> Any:
    """One value where a list is meant is a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


def _normalize(text: str) -> str:
    try:
        normalization.parse(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


def _preset(name: str) -> str:
    try:
        return check_preset(name)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _regex(text: str) -> str:
    try:
        groups = re.compile(text).groupindex
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    if not groups:
        raise ValueError("has no named group such as (?P<well>[A-H][0-9]+)")
    return text


def _folder(text: str) -> str:
    if os.path.normpath(text) == os.curdir:
        raise ValueError("a folder of its own is needed")
    if "{" in text or "}" in text:
        raise ValueError("Snakemake takes braces in the names of what it makes for wildcards: choose another folder")
    return os.path.normpath(text)


# For the schema, by which editors judge what people type, a string is as good as a list.
OneOrMore = Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...])]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
_DEVICE = Field(default="auto", description="`auto`, `cpu`, `cuda`, `cuda:N`, `mps`.")


class SegmentOptions(Section):
    """Options of ``unetbio segment``, named as there; what is left out is decided by the model or the file."""

    model_config = ConfigDict(allow_inf_nan=False)

    channel: Annotated[
        tuple[str | int, ...], BeforeValidator(_listed, json_schema_input_type=str | int | tuple[str | int, ...])
    ] = Field(default=(), description="Name or number (from 0) of the channel that the model takes, or a list of them.")
    series: int | None = Field(default=None, ge=0, description="Image in its file, from 0.")
    t: int | None = Field(default=None, ge=0, description="Time point, from 0.")
    z: Annotated[int, Field(ge=0)] | Literal["max", "each"] | None = Field(
        default=None, description="Section, from 0, `max` for the brightest of all sections, `each` for each by itself."
    )
    link: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="With `z: each`: cells of neighbouring sections whose intersection over union is so large are one.",
    )
    axes: str | None = Field(default=None, description="Axes of the file where it does not say, such as `ZYX`.")
    pixel_size: float | tuple[float, float] | None = Field(
        default=None,
        description="Pixel size in um, where the file does not say; of stacks a list: distance of sections, size.",
    )
    diameter: float | None = Field(
        default=None, gt=0, description="Typical diameter of the cells in pixels: images are rescaled to the model's."
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="Probability, or score of an object, from which on it is a cell."
    )
    min_area: float | None = Field(default=None, ge=0, description="Smallest cell, in pixels.")
    max_area: float | None = Field(default=None, ge=0, description="Largest cell, in pixels.")
    exclude_border: bool = Field(default=False, description="Drop cells that touch the border of the image.")
    classes: OneOrMore = Field(
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
    format: Literal["ome-tiff", "ome-zarr"] | None = Field(
        default=None, description="Of the label images; by default NIfTI for NIfTI and OME-TIFF otherwise."
    )
    save_probabilities: bool = Field(default=False, description="Write the probabilities beside the label images.")
    metadata_regex: Annotated[str, AfterValidator(_regex)] | None = Field(
        default=None, description="Named groups of each image's path become columns: `(?P<well>[A-H][0-9]+)`."
    )

    @model_validator(mode="after")
    def _possible(self) -> "SegmentOptions":
        # The settings of the command itself judge what does not go together.
        try:
            Settings(
                channel=self.channel,
                series=self.series,
                t=self.t,
                z=self.z,
                link=self.link,
                axes=self.axes,
                pixel_size_um=self.pixel_size,
                diameter_px=self.diameter,
                threshold=self.threshold,
                min_area=self.min_area,
                max_area=self.max_area,
            )
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        return _as_arguments({**self._words(), "classes": ",".join(self.classes) or None})

    def reading_arguments(self) -> list[str]:
        """Those of the options that say which part of a file is the image, as they stand on the command line."""
        words = self._words()
        return _as_arguments({name: words[name] for name in _READING})

    def _words(self) -> dict[str, Any]:
        size = self.pixel_size
        return {**dict(self), "pixel_size": ",".join(map(str, size)) if isinstance(size, tuple) else size}


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
    runtime: int = Field(default=240, ge=1, description="Longest time, in minutes.")
    gpu: int = Field(default=0, ge=0, description="Graphics processors to ask a cluster for.")


class MeasureOptions(Section):
    """Options of ``unetbio measure``, named as there."""

    expand: float | None = Field(
        default=None, gt=0, description="Measure the ring of background around each cell too, so many um wide."
    )
    resources: JobResources = Field(default=JobResources(), description="Of the measure rule's job.")

    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        return _as_arguments({"expand": self.expand})


class CheckOptions(Section):
    """Whether and with what ``unetbio check`` is run."""

    run: bool = Field(default=True, description="Look at all images first.")
    resources: JobResources = Field(default=JobResources(), description="Of the check rule's job.")


def _check(value: Any) -> Any:
    """``check: false`` says it all."""
    return {"run": value} if isinstance(value, bool) else value


class LongJobResources(JobResources):
    """What a job that trains asks for."""

    mem_mb: int = Field(default=8000, ge=1, description="Memory, in MB.")
    runtime: int = Field(default=1440, ge=1, description="Longest time, in minutes.")


class TrainOptions(Section):
    """What the network named by `network` is trained on, with ``unetbio train``."""

    images: str = Field(default="", description="Folder or file of images to train on.")
    masks: str = Field(default="", description="Folder or file of their label images, or class masks.")
    config: str | None = Field(default=None, description="Settings of training, a YAML file.")
    start: str | None = Field(
        default=None, min_length=1, description="Fine-tuning: the model, a name or a file, that training starts from."
    )
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
        start = [self.start] if self.start and Path(self.start).is_file() else []
        return _files_below("training", [*self.inputs(), *([self.config] if self.config else []), *start])

    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        return _as_arguments(self.model_dump(include={"config", "start", "steps", "minutes", "device"}))


class CompareOptions(Section):
    """What ``unetbio compare`` compares, and on what."""

    data: OneOrMore = Field(default=(), description="Images and masks (a list of two), a folder with both, or a table.")
    networks: OneOrMore = Field(
        default=(), description="`all`, or a list of names such as `unet`, `unet:skip=none`, `fcn32s+crf`."
    )
    lessons: OneOrMore = Field(
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
    """These files, and all below these folders but for hidden ones; from the root, as a prefix leaves them alone."""
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UsageError(f"{key}: {path} does not exist: give a file or folder, relative to where snakemake runs")
        below = sorted(path.absolute().rglob("*")) if path.is_dir() else [path.absolute()]
        files += [file for file in below if file.is_file() and not file.name.startswith(".")]
    return files


def _network(name: str) -> str:
    try:
        return architectures.find(name).name
    except UsageError as error:
        raise ValueError(str(error)) from error


def _model_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", name) or name in _TAKEN:
        raise ValueError(
            f"{name!r} cannot name a folder of results: letters, digits, '_', '-' and '.' can; "
            f"{', '.join(_TAKEN)} are taken"
        )
    return name


class ModelSettings(Section):
    """One of several models that the same images are segmented with."""

    model: str | None = Field(default=None, min_length=1, description="Name of a shipped model, or a model file.")
    network: Annotated[str, AfterValidator(_network)] | None = Field(
        default=None, description="Instead: the network that is trained first."
    )
    training: TrainOptions | None = Field(
        default=None, description="What this network is trained on; the `training` of all unless given."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "ModelSettings":
        if bool(self.model) == bool(self.network):
            raise ValueError("one of 'model' and 'network' is needed")
        if self.model and self.training:
            raise ValueError("training needs network: the name of what is trained, such as unet")
        return self


@dataclass(frozen=True)
class ModelUse:
    """A model and where its results go.

    Parameters
    ----------
    folder : str
        Of its results.
    model : str
        Name of a shipped model, or a file.
    name : str
        Of the model, in tables.
    network : str, optional
        What is trained, where ``model`` is a file that the workflow makes.
    training : TrainOptions, optional
        What it is trained on.
    """

    folder: str
    model: str
    name: str
    network: str | None = None
    training: TrainOptions | None = None

    def file(self) -> str:
        """The model's file, so that another one of the same name is noticed; from the root, if it is there already.

        Raises
        ------
        ModelError
            When there is no such model.
        """
        return self.model if self.network else str(model_path(self.model).absolute())


def _named_models(value: Any) -> Any:
    """A list of models gets its names from the models; a string is a model."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):
        names = [_default_name(entry) for entry in value]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two of them would be called {twice}: give names, as in 'models: {{{twice}_2: ...}}'")
        value = dict(zip(names, value, strict=True))
    if isinstance(value, Mapping):
        return {name: {"model": entry} if isinstance(entry, str) else entry for name, entry in value.items()}
    return value


def _default_name(entry: Any) -> str:
    if isinstance(entry, Mapping):
        entry = entry.get("model") or entry.get("network") or ""
    return Path(str(entry)).name.removesuffix(".safetensors")


ModelName = Annotated[str, AfterValidator(_model_name)]
OneModel = str | ModelSettings
Models = Annotated[
    dict[ModelName, ModelSettings],
    BeforeValidator(_named_models, json_schema_input_type=str | tuple[OneModel, ...] | dict[str, OneModel]),
]


class WorkflowConfig(Section):
    """Everything that the Snakemake workflow can be told; paths are relative to where Snakemake runs."""

    images: OneOrMore = Field(
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
    models: Models = Field(
        default={},
        description="Instead of `model`: several, side by side: a list, or names, each with a model or `network`.",
    )
    training: TrainOptions = Field(default=TrainOptions(), description="What `network` is trained on.")
    check: Annotated[CheckOptions, BeforeValidator(_check, json_schema_input_type=bool | CheckOptions)] = Field(
        default=CheckOptions(), description="Whether `unetbio check` looks at all images first; it stops nothing."
    )
    compare: CompareOptions = Field(default=CompareOptions(), description="Networks to train and compare besides.")
    images_per_job: int = Field(
        default=1000, ge=1, description="About as many images are one job, since starting one costs some seconds."
    )
    segment: SegmentOptions = Field(default=SegmentOptions(), description="Options of `unetbio segment`.")
    measure: MeasureOptions = Field(default=MeasureOptions(), description="Options of `unetbio measure`.")
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
    def _models_and_training(self) -> "WorkflowConfig":
        if self.models and (self.network or "model" in self.model_fields_set):
            given = "network" if self.network else "model"
            raise ValueError(f"models stands instead of {given}: name that one under models, too")
        trained = [use for use in self.uses() if use.network]
        for use in trained:
            if not (use.training and use.training.images and use.training.masks):
                raise ValueError(f"network: {use.network} has to be trained: training needs images and masks")
        if self.training.inputs() and not trained:
            raise ValueError("training needs network: the name of what is trained, such as unet")
        return self

    def uses(self) -> list[ModelUse]:
        """The models, each with the folder of its results: the output folder, or with several one below it each."""
        if not self.models:
            return [self._use(self.output, self.network or self.model, self.model, self.network, self.training)]
        return [
            self._use(f"{self.output}/{name}", name, each.model or "", each.network, each.training or self.training)
            for name, each in self.models.items()
        ]

    def _use(self, folder: str, name: str, model: str, network: str | None, training: TrainOptions) -> ModelUse:
        if network is None:
            return ModelUse(folder, model, name)
        return ModelUse(folder, f"{self.output}/models/{name}.safetensors", name, network, training)

    def source_arguments(self) -> list[str]:
        """What to segment, as it stands on the command line."""
        return ["--table", self.table] if self.table else list(self.images)

    def check_arguments(self) -> list[str]:
        """What the images are compared with, and which part of them, as it stands on the command line."""
        # A model that is still to be trained cannot be asked what it knows.
        models = [use.model for use in self.uses() if not use.network]
        return [*_as_arguments({"model": tuple(models), "no_model": not models}), *self.segment.reading_arguments()]

    def source_files(self) -> list[str]:
        """The table, if there is one, so that a change in its columns is noticed."""
        return [str(Path(self.table).absolute())] if self.table else []

    def batches(self) -> dict[str, tuple[int, dict[int, list[str]]]]:
        """Divide the images among jobs.

        Returns
        -------
        dict
            By folder of results: the number of parts, and of each part (counted from 1) that has any its files, from
            the root. The parts are those of ``unetbio segment --part``: by a hash of the relative path. Their number is
            a power of two and stays what it was in an earlier run, as long as the jobs are at most twice as large as
            asked for, and not much smaller: a few images more add to some parts and move nothing. Files of a table that
            are missing are in no part; the command says of each that it failed.

        Raises
        ------
        UsageError
            When there are no images, or the table cannot be read.
        """
        found = _table_images(Path(self.table)) if self.table else find_inputs(self.images, out=self.output)
        paths = [(item.relative, item.path.absolute()) for item in found]
        divided = {}
        for use in self.uses():
            count = _part_count(Path(use.folder), len(found), self.images_per_job)
            parts: dict[int, list[str]] = {}
            for relative, path in paths:
                files = parts.setdefault(part_of(relative, count), [])
                if not self.table or path.exists():
                    files.append(str(path))
            divided[use.folder] = (count, dict(sorted(parts.items())))
        return divided


def _part_count(folder: Path, images: int, images_per_job: int) -> int:
    """Jobs for so many images: what an earlier run left in its folder where that still fits, or a power of two."""
    wanted = 1 << (math.ceil(images / images_per_job) - 1).bit_length()
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    earlier = {int(match[1]) for name in names if (match := _JOURNAL.fullmatch(name))}
    return max((n for n in earlier if 2 * n * images_per_job >= images and n <= 4 * wanted), default=wanted)


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
        return validated(WorkflowConfig, source, None)
    path = Path(source)
    return validated(WorkflowConfig, read_mapping(path), path)


def input_names(paths: Iterable[str | Path]) -> list[str]:
    """Those of the files that a rule can name as inputs: Snakemake takes braces for wildcards, whatever is done."""
    return [str(path) for path in paths if not _has_braces(path)]


def input_stamps(paths: Iterable[str | Path]) -> list[str]:
    """Size and time of the others: as a parameter of the rule they, too, make it run again when they change."""
    return [" ".join(map(str, (path, *stamp(path)[:2]))) for path in paths if _has_braces(path)]


def _has_braces(path: str | Path) -> bool:
    return not set("{}").isdisjoint(str(path))


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
