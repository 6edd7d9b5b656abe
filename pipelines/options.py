"""Options of the rules of the Snakemake workflow: each section of its settings, and the command line that it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from unetbio.errors import UsageError
from unetbio.measurement.table_schema import path_expression
from unetbio.settings.base import Section
from unetbio.settings.normalization import parse
from unetbio.settings.segmentation import Settings, check_preset

__all__ = [
    "CheckOptions",
    "CheckSwitch",
    "CompareOptions",
    "JobResources",
    "MeasureOptions",
    "OneOrMore",
    "SegmentOptions",
    "TrainOptions",
    "as_arguments",
]

_READING = ("channel", "series", "t", "z", "axes", "pixel_size", "diameter", "normalize")


def _listed(value: Any) -> Any:
    """One value where a list is meant is a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


def _normalize(text: str) -> str:
    try:
        parse(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


def _preset(name: str) -> str:
    try:
        return check_preset(name)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _regex(pattern: str) -> str:
    path_expression(pattern)
    return pattern


# For the schema, by which editors judge what people type, a string is as good as a list.
OneOrMore = Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...])]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
_DEVICE = Field(default="auto", description="`auto`, `cpu`, `cuda`, `cuda:N`, `mps`.")


class SegmentOptions(Section):
    """Options of ``unetbio segment``, named as there; what is left out is decided by the model or the file."""

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
        return as_arguments({**self._words(), "classes": ",".join(self.classes) or None})

    def reading_arguments(self) -> list[str]:
        """Those of the options that say which part of a file is the image, as they stand on the command line."""
        words = self._words()
        return as_arguments({name: words[name] for name in _READING})

    def _words(self) -> dict[str, Any]:
        size = self.pixel_size
        return {**dict(self), "pixel_size": ",".join(map(str, size)) if isinstance(size, tuple) else size}


def as_arguments(options: Mapping[str, Any]) -> list[str]:
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
        return as_arguments({"expand": self.expand})


class CheckOptions(Section):
    """Whether and with what ``unetbio check`` is run."""

    run: bool = Field(default=True, description="Look at all images first.")
    resources: JobResources = Field(default=JobResources(), description="Of the check rule's job.")


def _check(value: Any) -> Any:
    """``check: false`` says it all."""
    return {"run": value} if isinstance(value, bool) else value


CheckSwitch = Annotated[CheckOptions, BeforeValidator(_check, json_schema_input_type=bool | CheckOptions)]


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
        return as_arguments(self.model_dump(include={"config", "start", "steps", "minutes", "device"}))


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
        return as_arguments({**named, **self.model_dump(include={"config", "steps", "minutes", "width", "device"})})


def _files_below(key: str, paths: Sequence[str]) -> list[Path]:
    """These files, and all below these folders but for hidden ones; from the root, as a prefix leaves them alone."""
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UsageError(f"{key}: {path} does not exist: give a file or folder, relative to where snakemake runs")
        below = sorted(path.absolute().rglob("*")) if path.is_dir() else [path.absolute()]
        files += [file for file in below if file.is_file() and not file.name.startswith(".")]
    return files
