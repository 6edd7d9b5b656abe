"""Packages of the BioImage Model Zoo (specification 0.5), which ilastik, deepImageJ and others run.

A package holds the network as ONNX and TorchScript, the normalization as preprocessing, a test image with its
probabilities, a cover, the model card, authors, citation and licence. Thresholds and the separation of cells are parts
of unetbio: the package holds the model file too, from which `unetbio.model_export.import_package` gives it back.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.files import atomic_path
from unetbio.geometry import Geometry
from unetbio.model_export.card import ARXIV, card, licence_of
from unetbio.model_export.graphs import OUTPUT, need_packages, onnx_graph, probability_network, torchscript_graph
from unetbio.model_export.import_package import MODEL_IN_PACKAGE
from unetbio.models.model_file import Model
from unetbio.networks.registry import Architecture
from unetbio.settings.normalization import Normalization

__all__ = ["write_package"]

TEST_PIXELS = {2: 160, 3: 32}
"""Length of the test image's axes, about, by their number."""


def write_package(model: Model, path: str | os.PathLike[str], *, authors: Sequence[str], licence: str = "") -> Path:
    """Write a model as a package.

    Parameters
    ----------
    model : Model
        A trained model that classifies pixels.
    path : path-like
        The package, a zip file; replaced when it exists.
    authors : sequence of str
        Names of those who trained the model.
    licence : str
        SPDX identifier, for a model that states none.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    UsageError
        When a package is missing, authors or licence are missing or unknown, the model has another licence, or the
        network has no ONNX graph.
    EnvironmentStoppedError
        When the file cannot be written.
    """
    need_packages("bioimageio.core", "onnx", "onnxruntime")
    licence = licence_of(model, "a package", authors, licence)
    from bioimageio.spec import save_bioimageio_package
    from pydantic import ValidationError

    with tempfile.TemporaryDirectory(prefix="unetbio-package-") as name:
        folder = Path(name)
        _write_parts(model, folder, licence)
        try:
            description = _describe(model, folder, authors, licence)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"model {model.info.name} cannot be described: {place}: {first['msg']}") from error
        with atomic_path(path) as temporary:
            save_bioimageio_package(description, output_path=temporary, allow_invalid=False)
    return Path(path)


def _write_parts(model: Model, folder: Path, licence: str) -> None:
    """Write the files of the package."""
    (folder / "model.onnx").write_bytes(onnx_graph(model))
    (folder / "model.pt").write_bytes(torchscript_graph(model))
    image = _test_image(model.geometry, len(model.info.channels))
    with torch.inference_mode():
        probabilities = probability_network(model)(torch.from_numpy(_normalized(model, image))).numpy()
    np.save(folder / "test_input.npy", image)
    np.save(folder / "test_output.npy", probabilities)
    (folder / "cover.png").write_bytes(imagecodecs.png_encode(_cover(image[0, 0], 1 - probabilities[0, 0])))
    (folder / "README.md").write_text(card(model, licence), encoding="utf-8")
    shutil.copyfile(model.path, folder / MODEL_IN_PACKAGE)


def _smallest(geometry: Geometry) -> list[int]:
    """The smallest input along each axis that gives a pixel."""
    lost = _lost(geometry)
    axes = zip(geometry.minimum, geometry.stride, lost, strict=True)
    return [minimum + stride * max(0, -(-(less + 1 - minimum) // stride)) for minimum, stride, less in axes]


def _lost(geometry: Geometry) -> list[int]:
    """Pixels by which the output is smaller than the input."""
    return [0 if geometry.padding == "same" else 2 * context for context in geometry.context]


def _test_image(geometry: Geometry, channels: int) -> NDArray[np.float32]:
    """Bright blobs on a dark ground, ``(1, C, *spatial)``, of a different length along each axis."""
    shape = [
        smallest + (TEST_PIXELS[geometry.ndim] // stride + axis) * stride
        for axis, (smallest, stride) in enumerate(zip(_smallest(geometry), geometry.stride, strict=True))
    ]
    noise = np.random.default_rng(0).normal(size=(channels, *shape))
    blobs = np.stack([ndimage.gaussian_filter(plane, 6) for plane in noise])
    image: NDArray[np.float32] = (np.clip(blobs / blobs.std(), 0, 2) * 100 + 5 * noise + 20).astype(np.float32)
    return image[None]


def _normalized(model: Model, image: NDArray[np.float32]) -> NDArray[np.float32]:
    from unetbio.preprocessing.normalization import apply, measure

    return apply(image[0], measure(image[0], _normalization(model)))[None].astype(np.float32)


def _normalization(model: Model) -> Normalization:
    """Of 8-bit images: the description has one normalization, and red, green and blue are hardly ever of more bits."""
    from unetbio.preprocessing.normalization import for_picture

    return for_picture(model.info.normalization, np.uint8, model.info.channels)


def _cover(image: NDArray[np.float32], foreground: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Image and probability of the foreground, one beside the other; of volumes the middle section."""
    lost = [(a - b) // 2 for a, b in zip(image.shape, foreground.shape, strict=True)]
    image = image[tuple(slice(less, less + size) for less, size in zip(lost, foreground.shape, strict=True))]
    while image.ndim > 2:
        image, foreground = image[len(image) // 2], foreground[len(foreground) // 2]
    grey = (image - image.min()) / max(float(np.ptp(image)), 1e-6)
    cover: NDArray[np.uint8] = np.concatenate([grey, foreground], axis=1)
    return (np.clip(cover, 0, 1) * 255).astype(np.uint8)


def _describe(model: Model, folder: Path, authors: Sequence[str], licence: str) -> Any:
    import bioimageio.spec.model.v0_5 as spec
    import onnx

    info, geometry = model.info, model.geometry
    axes = "zyx"[-geometry.ndim :]
    channels = [name or f"channel{number}" for number, name in enumerate(info.channels)]
    input_axes = [
        spec.SpaceInputAxis(id=spec.AxisId(axis), size=spec.ParameterizedSize(min=smallest, step=stride))
        for axis, smallest, stride in zip(axes, _smallest(geometry), geometry.stride, strict=True)
    ]
    output_axes = [
        spec.SpaceOutputAxis(
            id=spec.AxisId(axis),
            size=spec.SizeReference(tensor_id=spec.TensorId("image"), axis_id=spec.AxisId(axis), offset=-lost),
        )
        for axis, lost in zip(axes, _lost(geometry), strict=True)
    ]
    architecture = networks.find(info.architecture)
    opset = onnx.load(folder / "model.onnx").opset_import[0].version
    return spec.ModelDescr(
        name=f"unetbio {re.sub(r'[^A-Za-z0-9_+./,()-]+', ' ', info.name)}",
        description=architecture.summary,
        authors=[spec.Author(name=name) for name in authors],
        cite=_citations(architecture),
        license=spec.LicenseId(licence),
        documentation=spec.FileDescr(source=folder / "README.md"),
        covers=[spec.FileDescr(source=folder / "cover.png")],
        attachments=[spec.FileDescr(source=folder / MODEL_IN_PACKAGE)],
        tags=["segmentation", "microscopy", "unetbio", info.architecture.replace("_", "-")],
        inputs=[
            spec.InputTensorDescr(
                id=spec.TensorId("image"),
                axes=[spec.BatchAxis(), spec.ChannelAxis(channel_names=channels), *input_axes],
                test_tensor=spec.FileDescr(source=folder / "test_input.npy"),
                preprocessing=_preprocessing(model, axes),
            )
        ],
        outputs=[
            spec.OutputTensorDescr(
                id=spec.TensorId(OUTPUT),
                axes=[spec.BatchAxis(), spec.ChannelAxis(channel_names=list(info.class_names)), *output_axes],
                test_tensor=spec.FileDescr(source=folder / "test_output.npy"),
            )
        ],
        weights=spec.WeightsDescr(
            onnx=spec.OnnxWeightsDescr(source=folder / "model.onnx", opset_version=opset),
            torchscript=spec.TorchscriptWeightsDescr(
                source=folder / "model.pt",
                pytorch_version=spec.Version(torch.__version__.partition("+")[0]),
                parent="onnx",
            ),
        ),
    )


def _citations(architecture: Architecture) -> list[Any]:
    import bioimageio.spec.model.v0_5 as spec

    found = [spec.Doi(f"10.48550/arXiv.{number}") for number in ARXIV.findall(architecture.paper)]
    return [spec.CiteEntry(text=architecture.paper, doi=doi) for doi in found]


def _preprocessing(model: Model, axes: str) -> list[Any]:
    """The normalization of the model, in the words of the specification."""
    import bioimageio.spec.model.v0_5 as spec

    normalization = _normalization(model)
    low, high = normalization.low, normalization.high
    if normalization.kind == "percentile":
        kwargs = spec.ScaleRangeKwargs(
            axes=tuple(spec.AxisId(axis) for axis in axes), min_percentile=low, max_percentile=high
        )
        return [spec.ScaleRangeDescr(kwargs=kwargs)]
    if normalization.kind == "range":
        return [spec.ScaleLinearDescr(kwargs=spec.ScaleLinearKwargs(gain=1 / (high - low), offset=-low / (high - low)))]
    return []
