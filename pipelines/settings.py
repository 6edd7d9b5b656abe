"""Settings of the Snakemake workflow, and its jobs."""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.files import list_contents, utf8_text
from unetbio.io.discover import Found, part_of, pieces_of, table_input
from unetbio.io.list_images import find_images, images_of
from unetbio.models import DEFAULT_MODEL
from unetbio.models.precision import find_model
from unetbio.output_layout import part_count
from unetbio.pipelines.options import (
    CheckOptions,
    CheckSwitch,
    CompareOptions,
    JobResources,
    MeasureOptions,
    OneOrMore,
    SegmentOptions,
    TrainOptions,
    as_arguments,
)
from unetbio.settings.base import Section, read_mapping, validated
from unetbio.settings.image_tables import ImageRow, read_image_table
from unetbio.settings.regions import is_region_file
from unetbio.settings.segmentation import Settings
from unetbio.settings.values import Precision, parse_series

__all__ = [
    "ModelSettings",
    "ModelUse",
    "WorkflowConfig",
    "input_names",
    "input_stamps",
    "load_config",
    "workflow_schema",
]

# Folders in the output of a workflow that are not results of a model.
_TAKEN = ("benchmarks", "comparison", "logs", "models")


def _folder(text: str) -> str:
    if os.path.normpath(text) == os.curdir:
        raise ValueError("a folder of its own is needed")
    if _is_special(text):
        raise ValueError("Snakemake gives { } < > in the names of what it makes a meaning: choose another folder")
    return os.path.normpath(text)


def _network(name: str) -> str:
    try:
        return networks.find(name).name
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
    """One of several models for the same images."""

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
    """A model and the folder of its results.

    Parameters
    ----------
    folder : str
        Folder of the results.
    model : str
        Name of a shipped model, or a file.
    name : str
        Name of the model in tables.
    network : str, optional
        Network to train, if the workflow makes the file ``model``.
    training : TrainOptions, optional
        Training data and options of the network.
    precision : str, optional
        As of `Settings`.
    """

    folder: str
    model: str
    name: str
    network: str | None = None
    training: TrainOptions | None = None
    precision: Precision | None = None

    def file(self) -> str:
        """The model's file, an absolute path if it exists, so that Snakemake notices changes of a shipped model.

        Raises
        ------
        ModelError, UsageError
            When the model does not exist, or not in this precision.
        """
        return self.model if self.network else _model_file(self.model, self.precision)


def _model_file(model: str, precision: Precision | None) -> str:
    return str(find_model(model, precision).absolute())


def _named_models(value: Any) -> Any:
    """Models by name; those of a list are named after their files, a string is a list of one."""
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
    """Settings of the Snakemake workflow; paths are relative to the folder in which Snakemake runs."""

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
    model: str = Field(default=DEFAULT_MODEL, min_length=1, description="Name of a shipped model, or a model file.")
    network: Annotated[str, AfterValidator(_network)] | None = Field(
        default=None, description="Instead of `model`: the network that is trained first; see `training`."
    )
    models: Models = Field(
        default={},
        description="Instead of `model`: several, side by side: a list, or names, each with a model or `network`.",
    )
    training: TrainOptions = Field(default=TrainOptions(), description="What `network` is trained on.")
    check: CheckSwitch = Field(
        default=CheckOptions(), description="Whether `unetbio check` looks at all images first; it stops nothing."
    )
    compare: CompareOptions = Field(default=CompareOptions(), description="Networks to train and compare besides.")
    images_per_job: int = Field(
        default=1000, ge=1, description="About as many images are one job, since starting one costs some seconds."
    )
    segment: SegmentOptions = Field(default=SegmentOptions(), description="Options of `unetbio segment`.")
    measure: MeasureOptions = Field(default=MeasureOptions(), description="Options of `unetbio measure`.")
    resources: JobResources = Field(default=JobResources(), description="Of one job of the segment rule.")
    container: str | None = Field(
        default=None,
        min_length=1,
        description="Image in which Apptainer runs all jobs: a file (*.sif), or an address such as docker://NAME.",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, values: Any) -> Any:
        # In YAML, "segment:" with all its lines commented out is None, which means the defaults.
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _one_source(self) -> "WorkflowConfig":
        # An empty list stands in settings that are not filled in: all can be looked at, and nothing run.
        if bool(self.images) == bool(self.table) and (self.images or "images" not in self.model_fields_set):
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
        if trained and self.segment.precision == "int8":
            raise ValueError(
                "precision: int8 needs a model in integers, which unetbio models quantize makes of a trained one"
            )
        if self.training.inputs() and not trained:
            raise ValueError("training needs network: the name of what is trained, such as unet")
        return self

    def uses(self) -> list[ModelUse]:
        """The models and their folders of results: the output folder, or with several models one below it for each."""
        if not self.models:
            return [self._use(self.output, self.network or self.model, self.model, self.network, self.training)]
        return [
            self._use(f"{self.output}/{name}", name, each.model or "", each.network, each.training or self.training)
            for name, each in self.models.items()
        ]

    def _use(self, folder: str, name: str, model: str, network: str | None, training: TrainOptions) -> ModelUse:
        if network is None:
            return ModelUse(folder, model, name, precision=self.segment.precision)
        return ModelUse(folder, f"{self.output}/models/{name}.safetensors", name, network, training)

    def ensemble_files(self) -> list[str]:
        """The files of `segment: ensemble:`, as of `ModelUse.file`; those that the workflow trains by their names."""
        trained = {use.model for use in self.uses() if use.network}
        members = self.segment.members()
        return [each if each in trained else _model_file(each, self.segment.precision) for each in members]

    def source_arguments(self) -> list[str]:
        """Inputs as they stand on the command line."""
        return ["--table", self.table] if self.table else list(self.images)

    def check_arguments(self) -> list[str]:
        """Options of ``unetbio check``, as they stand on the command line."""
        # A model that is not trained yet has no images to compare with.
        models = [use.model for use in self.uses() if not use.network]
        return [*as_arguments({"model": tuple(models), "no_model": not models}), *self.segment.reading_arguments()]

    def source_files(self) -> list[str]:
        """The table and the files of regions, so that a change in them is noticed; the command reports missing ones."""
        regions = [*self.segment.regions(), *(text for row in self._rows() for text in row.settings.region)]
        files = dict.fromkeys(Path(text.strip()) for text in regions if is_region_file(text))
        given = [Path(self.table)] if self.table else []
        return [str(path.absolute()) for path in (*given, *(path for path in files if path.is_file()))]

    def batches(self, written: Callable[[str], str] = str) -> dict[str, tuple[int, dict[int, list[str]]]]:
        """Divide the images among jobs.

        Parameters
        ----------
        written : callable
            Gives the place of a path that the workflow writes, where that is another, as in a Snakemake module.

        Returns
        -------
        dict
            By folder of results: the number of parts, and the absolute paths in each part (counted from 1) that is not
            empty. A hash of the relative path gives the part, as in ``unetbio segment --part``. The number is a power
            of two. It stays that of an earlier run while jobs are at most twice as large as requested and not much
            smaller, so that a few new images move no others. Files that are missing, pipes, and links that
            lead to themselves are in no part; the command reports them.

        Raises
        ------
        UsageError
            When there are no images, or the table cannot be read.
        """
        if not self.table and not self.images:
            return {use.folder: (1, {}) for use in self.uses()}
        found = self._found(written(self.output))
        paths = [(item.relative, path.absolute()) for item in found for path in item.files]
        divided = {}
        for use in self.uses():
            count = _part_count(Path(written(use.folder)), len(found), self.images_per_job)
            parts: dict[int, list[str]] = {}
            for relative, path in paths:
                files = parts.setdefault(part_of(relative, count), [])
                if path.is_file() or path.is_dir():
                    files.append(str(path))
            divided[use.folder] = (count, dict(sorted(parts.items())))
        return divided

    def _found(self, out: str) -> list[Found]:
        """The images of all jobs, as the command lists them."""
        if self.table:
            inputs = (table_input(Path(self.table), row.cells["image"]) for row in self._rows())
            return [image for found in inputs for image in images_of(found)]
        # A value of YAML is a number or text, as the command reads it.
        series = None if self.segment.series is None else parse_series(str(self.segment.series))
        return find_images(self.images, out=out, group=self.segment.group, series=series)

    def _rows(self) -> Sequence[ImageRow]:
        """Rows of the table, if there is one."""
        try:
            return read_image_table(Path(self.table), Settings()).rows if self.table else ()
        except UsageError as error:
            raise UsageError(f"table: {error}") from error


def _part_count(folder: Path, images: int, images_per_job: int) -> int:
    """Number of jobs: that of an earlier run if it still fits, or a power of two."""
    wanted = 1 << (math.ceil(images / images_per_job) - 1).bit_length()
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    earlier = {count for name in names if (count := part_count(name))}
    return max((n for n in earlier if 2 * n * images_per_job >= images and n <= 4 * wanted), default=wanted)


def load_config(source: Mapping[str, Any] | str | os.PathLike[str]) -> WorkflowConfig:
    """Check the settings of a workflow.

    Parameters
    ----------
    source : mapping or path-like
        Settings that Snakemake has read, or a YAML file.

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
    """The files that a rule can name as inputs.

    Snakemake reads braces as wildcards and angle brackets as path variables, with no way to escape them, and cannot
    record names that are no UTF-8.
    """
    return [str(path) for path in paths if not _is_special(path)]


def input_stamps(paths: Iterable[str | Path]) -> str:
    """Hash of the names, sizes and times of files: as a parameter of a rule, it makes the rule run after a change.

    Snakemake itself looks whether an input is newer than the outputs. It misses a file in whose place an older one was
    put, files in a folder such as OME-Zarr, other files of an image (`unetbio.io.discover.pieces_of`), which may come
    later, and those that `input_names` leaves out.
    """
    files = {file for path in map(Path, paths) for file in (path, *pieces_of(path))}
    lines = sorted(f"{utf8_text(file)} {_stamp_text(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _stamp_text(path: Path) -> str:
    """Size and time, of each file in a folder; the command reports what cannot be looked at."""
    try:
        files = list_contents(path) if path.is_dir() else [("", path)]
        stats = [(name, file.stat()) for name, file in files]
    except (OSError, ValueError):
        return "missing"
    return " ".join(f"{utf8_text(name)} {found.st_size} {found.st_mtime_ns}" for name, found in stats)


def _is_special(path: str | Path) -> bool:
    return not set("{}<>").isdisjoint(str(path)) or utf8_text(path) != str(path)


def workflow_schema() -> str:
    """JSON schema of `WorkflowConfig` for editors, kept as ``config/schema.json``."""
    return json.dumps(WorkflowConfig.model_json_schema(), indent=2) + "\n"
