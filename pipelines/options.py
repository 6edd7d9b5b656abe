"""Sections of the workflow's settings, and the command-line options that they become."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field, create_model, model_validator

from unetbio.errors import UsageError
from unetbio.files import paths_below
from unetbio.inference.backends.base import check_choice
from unetbio.measurement.table_schema import path_expression
from unetbio.settings.base import Section
from unetbio.settings.normalization import Normalization
from unetbio.settings.options import Option, options_of
from unetbio.settings.runs import MeasureRun, RunOptions
from unetbio.settings.segmentation import READING, Settings
from unetbio.settings.training_runs import CompareRun, TrainRun
from unetbio.settings.values import Precision

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

WORKFLOW_RUN = (
    "group",
    "tile",
    "exact_tiles",
    "device",
    "overlays",
    "format",
    "save_probabilities",
    "metadata_regex",
    "backend",
    "scheduler",
)
"""Run options of ``unetbio segment`` that are keys of the workflow; the rules set the others."""

_LATER = (
    *("backend", "scheduler", "nan", "group", "partial", "augment", "ensemble", "precision", "level", "region"),
    "tissue",
)
"""Keys that version 0.1.0 did not have: left out at their default, so that jobs of its projects do not run twice."""


def _listed(value: Any) -> Any:
    """A single value counts as a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


def _checked(read: Callable[[str], Any]) -> AfterValidator:
    """Validate text with the reader of the command; the text stays as it is."""

    def check(text: str) -> str:
        try:
            read(text)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return text

    return AfterValidator(check)


# The schema, which editors use, accepts a string in place of a list.
OneOrMore = Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...])]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
_SPECIAL: Mapping[str, Any] = {
    "backend": Annotated[str, _checked(check_choice)],
    "device": Device,
    "metadata_regex": Annotated[str, _checked(path_expression)] | None,
}


def _setting(option: Option) -> tuple[Any, Any]:
    """Type and field of an option in the workflow's settings."""
    hint = _SPECIAL.get(option.field) or reduce(or_, (_kind(kind, option) for kind in option.kinds))
    if option.default is None:
        hint |= None
        # Text may be the word already.
        if option.unset and option.words:
            is_none = BeforeValidator(_none_for(option.unset), json_schema_input_type=hint | Literal[option.unset])
            hint = Annotated[hint, is_none]
    return hint, Field(default=option.default, description=option.text)


def _none_for(word: str) -> Callable[[Any], Any]:
    """A validator that takes the word that stands for None on the command line."""
    return lambda value: None if value == word else value


def _kind(kind: Any, option: Option) -> Any:
    """One type of an option, with its limits; text for types that the command reads from text."""
    if get_origin(kind) is tuple and option.default == ():
        one = get_args(kind)[0]
        return Annotated[kind, BeforeValidator(_listed, json_schema_input_type=one | kind)]
    if kind in (int, float):
        return Annotated[kind, Field(**option.limits.given())]
    if kind in (str, Normalization) and option.read is not None:
        return Annotated[str, _checked(option.read)]
    return kind


def _described(run: type, name: str) -> Any:
    """The field of an option of a command."""
    option = options_of(run)[name]
    return Field(default=option.default, description=option.text, **option.limits.given())


_OF_SEGMENT = [*options_of(Settings).values(), *(options_of(RunOptions)[name] for name in WORKFLOW_RUN)]

_OF_READING = [options_of(Settings)[name] for name in READING]

if TYPE_CHECKING:

    class _SegmentFields(Section):
        """Those that code names; all others follow from the options."""

        series: int | str | None = None
        group: str = ""
        precision: Precision | None = None

    _ReadingFields = Section
else:
    _ReadingFields = create_model(
        "_ReadingFields", __base__=Section, **{option.key: _setting(option) for option in _OF_READING}
    )
    _SegmentFields = create_model(
        "_SegmentFields", __base__=Section, **{option.key: _setting(option) for option in _OF_SEGMENT}
    )


class SegmentOptions(_SegmentFields):
    """Options of ``unetbio segment``; the model or the file decides those that are left out."""

    @model_validator(mode="after")
    def _possible(self) -> "SegmentOptions":
        # `Settings` of the command refuses impossible combinations.
        values = {name: getattr(self, option.key) for name, option in options_of(Settings).items()}
        try:
            Settings(**{**values, "normalization": None})
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        return _words(self, _OF_SEGMENT)

    def members(self) -> tuple[str, ...]:
        """Further models whose probabilities are averaged."""
        return tuple(getattr(self, options_of(Settings)["ensemble"].key))

    def regions(self) -> tuple[str, ...]:
        """Boxes and outlines to segment, and files of outlines."""
        return tuple(getattr(self, options_of(Settings)["region"].key))

    def reading_arguments(self) -> list[str]:
        """The options that select pixels of a file, as they stand on the command line."""
        others = [*(options_of(Settings)[name] for name in ("nan", "normalization")), options_of(RunOptions)["group"]]
        return _words(self, [*_OF_READING, *others])


def _words(section: Section, options: Iterable[Option]) -> list[str]:
    """Options of a section as they stand on the command line."""
    values = {option: getattr(section, option.key) for option in options}
    given = {
        option.key: _text(option, value)
        for option, value in values.items()
        if not (option.field in _LATER and value == option.default)
    }
    return as_arguments(given)


def _text(option: Option, value: Any) -> Any:
    """Text for several values, if the command reads them from one text."""
    is_text = isinstance(value, tuple) and option.read is not None
    return ",".join(map(str, value)) or None if is_text else value


def as_arguments(options: Mapping[str, Any]) -> list[str]:
    """Words of a command line: none for None and False, one option for each value of a tuple."""
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
    """Resources of one job of a rule."""

    threads: int = Field(default=2, ge=1, description="Processor cores.")
    mem_mb: int = Field(default=4000, ge=1, description="Memory, in MB.")
    runtime: int = Field(default=240, ge=1, description="Longest time, in minutes.")
    gpu: int = Field(default=0, ge=0, description="Graphics processors to ask a cluster for.")


class MeasureOptions(Section):
    """Options of ``unetbio measure``, named as there."""

    expand: float | None = _described(MeasureRun, "expand")
    features: Literal["basic", "shape", "texture", "all"] = _described(MeasureRun, "features")
    resources: JobResources = Field(default=JobResources(), description="Of the measure rule's job.")

    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        features = None if self.features == "basic" else self.features
        return as_arguments({"expand": self.expand, "features": features})


class CheckOptions(Section):
    """Whether and with what ``unetbio check`` is run."""

    run: bool = Field(default=True, description="Look at all images first.")
    resources: JobResources = Field(default=JobResources(), description="Of the check rule's job.")


def _check(value: Any) -> Any:
    """``check: false`` is short for ``check: {run: false}``."""
    return {"run": value} if isinstance(value, bool) else value


CheckSwitch = Annotated[CheckOptions, BeforeValidator(_check, json_schema_input_type=bool | CheckOptions)]


class LongJobResources(JobResources):
    """Resources of a job that trains."""

    mem_mb: int = Field(default=8000, ge=1, description="Memory, in MB.")
    runtime: int = Field(default=1440, ge=1, description="Longest time, in minutes.")


class TrainOptions(_ReadingFields):
    """What the network named by `network` is trained on, with ``unetbio train``."""

    images: str = Field(default="", description="Folder or file of images to train on.")
    masks: str = Field(default="", description="Folder or file of their label images, or class masks.")
    config: str | None = _described(TrainRun, "config")
    recipe: Literal["paper"] | None = _described(TrainRun, "recipe")
    start: Annotated[str, Field(min_length=1)] | None = _described(TrainRun, "start")
    encoder: Annotated[str, Field(min_length=1)] | None = _described(TrainRun, "encoder")
    trust_masks: bool = _described(TrainRun, "trust_masks")
    steps: int | None = _described(TrainRun, "steps")
    minutes: float | None = _described(TrainRun, "minutes")
    device: Device = _described(TrainRun, "device")
    resources: LongJobResources = Field(default=LongJobResources(), description="Of the train rule's job.")

    def inputs(self) -> list[str]:
        """Images and masks, as they stand on the command line."""
        return [path for path in (self.images, self.masks) if path]

    def files(self) -> list[Path]:
        """All files that training depends on.

        Raises
        ------
        UsageError
            When a path does not exist.
        """
        start = [self.start] if self.start and Path(self.start).is_file() else []
        named = [path for path in (self.config, self.encoder) if path]
        return _files_below("training", [*self.inputs(), *named, *start])

    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        words = {"config", "recipe", "start", "encoder", "trust_masks", "steps", "minutes", "device"}
        own = as_arguments(self.model_dump(include=words))
        return [*_words(self, _OF_READING), *own]


class CompareOptions(_ReadingFields):
    """What ``unetbio compare`` compares, and on what."""

    data: OneOrMore = Field(default=(), description="Images and masks (a list of two), a folder with both, or a table.")
    networks: OneOrMore = Field(
        default=(), description="`all`, or a list of names such as `unet`, `unet:skip=none`, `fcn32s+crf`."
    )
    lessons: OneOrMore = Field(
        default=(), description="Lessons, each a set of networks that shows one trick: a list of names."
    )
    config: str | None = _described(CompareRun, "config")
    steps: int | None = _described(CompareRun, "steps")
    minutes: float | None = _described(CompareRun, "minutes")
    width: float | None = _described(CompareRun, "width")
    device: Device = _described(CompareRun, "device")
    resources: LongJobResources = Field(default=LongJobResources(), description="Of the compare rule's job.")

    @model_validator(mode="after")
    def _complete(self) -> "CompareOptions":
        chosen = self.networks or self.lessons
        if bool(self.data) != bool(chosen):
            raise ValueError("data and networks (or lessons) are needed: on what is compared, and what")
        return self

    def files(self) -> list[Path]:
        """All files that the comparison depends on; raises as `TrainOptions.files`."""
        return _files_below("compare", [*self.data, *([self.config] if self.config else [])])

    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        named = {"networks": ",".join(self.networks) or None, "lesson": self.lessons}
        own = as_arguments({**named, **self.model_dump(include={"config", "steps", "minutes", "width", "device"})})
        return [*_words(self, _OF_READING), *own]


def _files_below(key: str, paths: Sequence[str]) -> list[Path]:
    """These files and all in these folders except hidden ones, as absolute paths, which no prefix changes."""
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UsageError(f"{key}: {path} does not exist: give a file or folder, relative to where snakemake runs")
        below = sorted(paths_below(path.absolute())) if path.is_dir() else [path.absolute()]
        files += [file for file in below if file.is_file() and not file.name.startswith(".")]
    return files
