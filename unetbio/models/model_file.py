"""Model files: a network's weights and everything needed to use them, in one ``*.safetensors`` file.

The header's metadata holds `ModelInfo` as JSON under the key ``unetbio``. Nothing pickled is ever read: a checkpoint's
optimiser and random states are tensors and JSON as well (`unetbio.tensor_file`). Networks, and with them torch, are
imported where weights are read, so that listing models starts at once.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import safetensors
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unetbio import networks
from unetbio.errors import ModelError, UsageError
from unetbio.files import open_regular, sha256_file, stopping
from unetbio.geometry import Geometry
from unetbio.models import SUFFIX, model_path
from unetbio.postprocessing.instances import PostProcessing
from unetbio.postprocessing.objects import ObjectSettings
from unetbio.settings.normalization import Normalization
from unetbio.tensor_file import load_layout, load_tensors, save_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "CHECKPOINT_KEY",
    "CHECKPOINT_SUFFIX",
    "Model",
    "ModelInfo",
    "check_new_model",
    "first_problem",
    "load_model",
    "read_info",
    "save_model",
]

Probability = Annotated[float, Field(ge=0, le=1)]

METADATA_KEY = "unetbio"

CHECKPOINT_KEY = "progress"
"""Stands in the header of a checkpoint (`unetbio.training.checkpoints`) in place of a model's description."""

CHECKPOINT_SUFFIX = ".checkpoint.safetensors"
"""Ending of checkpoints, which lie beside the models that come of them."""


MAX_NAMES = 1024
"""Most channels or classes of a network."""

MAX_WINDOW = 1 << 20

Text = Annotated[str, Field(max_length=1000)]
Name = Annotated[str, Field(min_length=1, max_length=1000)]
Diameter = Annotated[float, Field(gt=1e-3, lt=1e6, allow_inf_nan=False)]
"""In pixels; outside these limits it is a mistake."""

PixelSize = Annotated[float, Field(gt=1e-6, lt=1e6, allow_inf_nan=False)]
"""In micrometres: from below those of electron microscopes, some 1e-4."""


class ModelInfo(BaseModel):
    """Metadata of a model file.

    Parameters
    ----------
    name : str
        What people call it.
    architecture : str
        A registered architecture.
    parameters : dict
        All its parameters.
    channels : tuple of str
        Names of the input channels; their number is what counts.
    class_names : tuple of str
        Class 0 is the background.
    target : str
        What the network learned, and so what its output means: a name in `unetbio.targets`.
    pixel_size_um : tuple of float, optional
        Pixel size of the training images, one entry a spatial axis; absent when they had none or many.
    cell_diameter_px : float, optional
        Median diameter of the training cells (of a disc or ball of the same size), in pixels.
    normalization : Normalization
        How raw grey values become the network's input.
    postprocessing : PostProcessing
        Thresholds and sizes found on validation data.
    confidence : tuple of (float, float)
        Calibration of confidences, found on validation data: pairs of a mean probability over a cell's pixels and the
        share of right cells there. Without any, a cell's confidence is the mean probability.
    objects : ObjectSettings, optional
        Instead of them, of a network that finds objects.
    window : tuple of int, optional
        For how many pixels along each axis the network answered at once in training: the windows of one that cannot be
        tiled exactly.
    training : dict
        Fingerprint of the training data and settings.
    scores : dict
        Measured on the validation part of the training data.
    calibration : dict
        What ``unetbio calibrate`` searched the thresholds on, and the scores before and after; empty where they are
        those of the training.
    licence : str
        Of the weights.
    version : str
        Version of unetbio that wrote the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    name: Name
    architecture: Name
    parameters: dict[str, Any]
    channels: tuple[Text, ...] = Field(min_length=1, max_length=MAX_NAMES)
    class_names: tuple[Text, ...] = Field(default=("background", "cell"), min_length=2, max_length=MAX_NAMES)
    target: Name = "instances"
    pixel_size_um: tuple[PixelSize, ...] | None = Field(default=None, min_length=2, max_length=3)
    cell_diameter_px: Diameter | None = None
    normalization: Normalization = Normalization()
    postprocessing: PostProcessing = PostProcessing()
    confidence: tuple[tuple[Probability, Probability], ...] = ()
    objects: ObjectSettings | None = None
    window: tuple[Annotated[int, Field(ge=1, le=MAX_WINDOW)], ...] | None = Field(
        default=None, min_length=2, max_length=3
    )
    training: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    calibration: dict[str, Any] = {}
    licence: Text = ""
    version: Text = ""

    @property
    def is_integer(self) -> bool:
        """Whether its network computes with integers (`unetbio.networks.unet.integers`)."""
        return self.parameters.get("arithmetic") == "int8"

    def network_parameters(self) -> dict[str, Any]:
        """Give all parameters of the network; those that the file does not name, as it is older, have their defaults.

        Raises
        ------
        UsageError
            When this version has no such architecture, or it has no such parameter.
        """
        return networks.find(self.architecture).complete(self.parameters)

    @property
    def geometry(self) -> Geometry:
        """Which sizes the network takes, and what it loses at the border; raises as `network_parameters`."""
        return networks.find(self.architecture).geometry(self.network_parameters())


@dataclass(frozen=True)
class Model:
    """A trained network in memory.

    Parameters
    ----------
    info : ModelInfo
        Settings that belong to the weights.
    network : torch.nn.Module
        In evaluation mode, on the CPU.
    sha256 : str
        Of the file's bytes.
    path : pathlib.Path
        Where it was read from.
    """

    info: ModelInfo
    network: "nn.Module"
    sha256: str
    path: Path

    @property
    def geometry(self) -> Geometry:
        """Which sizes the network takes, and what it loses at the border."""
        return self.info.geometry


def read_info(name_or_path: str | os.PathLike[str]) -> ModelInfo:
    """Read what a model file says of itself, without its weights.

    Raises
    ------
    ModelError
        When the file is missing or not a model.
    """
    path = model_path(name_or_path)
    try:
        # The library would wait for a pipe.
        with open_regular(path), safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is not a model file ({error}): models are *{SUFFIX} files written by unetbio"
        ) from error
    return _parse_info(path, metadata)


def load_model(name_or_path: str | os.PathLike[str]) -> Model:
    """Load a model by the name of a shipped one, or from a file.

    Raises
    ------
    ModelError
        When the file is missing, is not a model, or its weights are not finite or do not fit its architecture.
    """
    path = model_path(name_or_path)
    info = read_info(path)

    try:
        network_parameters = info.network_parameters()
        _check_weights(path, info.architecture, network_parameters)
    except UsageError as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path}: {error}; it may have been written by a newer unetbio ({info.version})") from error
    for field, parameter in (("channels", "in_channels"), ("class_names", "num_classes")):
        named, needed = len(getattr(info, field)), network_parameters[parameter]
        if named != needed:
            raise ModelError(f"{path}: its description names {named} {field}, its network has {needed}")
    tensors, _ = load_tensors(path)
    network: Any = networks.build(info.architecture, network_parameters)
    _check_kinds(path, network.state_dict(), tensors)
    network.load_state_dict(tensors)
    if info.is_integer and not network.keeps_sums_exact():
        raise ModelError(f"{path}: its integers are out of range: quantize the model that it was made of again")
    # A sum is finite only if all are, and takes a tenth of the time.
    if not all(tensor.sum().isfinite() or tensor.isfinite().all() for tensor in tensors.values()):
        raise ModelError(f"{path}: its weights are not finite (NaN or infinity): train it again, or give another model")
    return Model(info, network.eval(), sha256_file(path), path)


def _check_weights(path: Path, architecture: str, network_parameters: Mapping[str, Any]) -> None:
    """Compare the weights in a file with those of the network, before memory is taken for either."""
    needed, stored = networks.weight_shapes(architecture, network_parameters), load_layout(path)
    wrong = next((name for name in needed | stored if needed.get(name) != stored.get(name)), None)
    if wrong is not None:
        shapes = [shapes.get(wrong, "missing") for shapes in (stored, needed)]
        raise ModelError(
            f"{path}: its weights do not fit its architecture {architecture}: {wrong[:80]} is {shapes[0]} in the file "
            f"and {shapes[1]} in the network"
        )


def _check_kinds(path: Path, needed: "Mapping[str, Tensor]", stored: "Mapping[str, Tensor]") -> None:
    """Refuse fractions in place of integers, which would be cut off, and integers of another size."""
    for name, tensor in stored.items():
        kind = needed[name].dtype
        if not kind.is_floating_point and tensor.dtype != kind:
            raise ModelError(
                f"{path}: its weights do not fit its architecture: {name[:80]} is {tensor.dtype} in the file and "
                f"{kind} in the network"
            )


def check_new_model(path: Path, *, overwrite: bool) -> None:
    """Check the name of a model file that is to be written.

    Raises
    ------
    UsageError
        When it has another ending, or exists and is not to be replaced.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"-o {path}: a model file's name ends in {SUFFIX}")
    with stopping(path):
        exists = path.exists()
    if exists and not overwrite:
        raise UsageError(f"{path} exists already: choose another name, or --overwrite it")


def save_model(path: str | os.PathLike[str], info: ModelInfo, network: "nn.Module") -> None:
    """Write a model file atomically; the weights may be on any device."""
    save_tensors(path, network.state_dict(), {METADATA_KEY: info.model_dump_json()})


def _parse_info(path: Path, metadata: Mapping[str, str]) -> ModelInfo:
    if METADATA_KEY not in metadata:
        if CHECKPOINT_KEY in metadata:
            raise ModelError(f"{path} is the checkpoint of a training, not a model: {_model_of(path)}")
        raise ModelError(
            f"{path} is a safetensors file, but not a unetbio model: its header has no {METADATA_KEY!r} entry; "
            "give public weights of an encoder to train --encoder"
        )
    try:
        return ModelInfo.model_validate(json.loads(metadata[METADATA_KEY], parse_constant=_refuse_constant))
    except (ValueError, RecursionError, UsageError) as error:
        first = first_problem(error) if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise ModelError(f"{path}: its description cannot be used ({first}); is it from a newer unetbio?") from error


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"it holds {text}, where a finite number is needed")


def _model_of(checkpoint: Path) -> str:
    """Message for a checkpoint given as a model."""
    if not checkpoint.name.endswith(CHECKPOINT_SUFFIX):
        return "give the model file that unetbio train wrote beside it"
    model = checkpoint.with_name(checkpoint.name.removesuffix(CHECKPOINT_SUFFIX) + SUFFIX)
    return f"give {model}" if model.exists() else f"the command that wrote it goes on from it and makes {model}"


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a description, after the name of its field."""
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
