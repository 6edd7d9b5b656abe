"""The registry of networks: name, parameters, geometry, paper and import path, without importing torch.

A new architecture is one file in ``unetbio/networks`` and one `register` call here.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unetbio.errors import UsageError
from unetbio.geometry import Geometry, unet_geometry

__all__ = ["Architecture", "find", "names", "register"]

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Architecture:
    """What can be known of a network before it is built.

    Parameters
    ----------
    name : str
        What the command line and model files call it.
    summary : str
        One line for lists.
    paper : str
        Where it was published.
    import_path : str
        ``module:Class``; the class takes ``parameters`` as keyword arguments.
    defaults : mapping
        Every parameter with its default.
    check : callable
        Raises UsageError when a complete set of parameters cannot be meant.
    geometry : callable
        From a complete set of parameters to the `Geometry`.
    exact : callable
        From a complete set of parameters to whether a tiled prediction equals that of the whole image.
    """

    name: str
    summary: str
    paper: str
    import_path: str
    defaults: Parameters
    check: Callable[[Parameters], None]
    geometry: Callable[[Parameters], Geometry]
    exact: Callable[[Parameters], bool]

    def complete(self, parameters: Parameters) -> dict[str, Any]:
        """Fill ``parameters`` up with the defaults and check them.

        Raises
        ------
        UsageError
            When a parameter is not one of this architecture, or has a value that it cannot have.
        """
        unknown = sorted(set(parameters) - set(self.defaults))
        if unknown:
            raise UsageError(
                f"{self.name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(self.defaults))}"
            )
        complete = {**self.defaults, **parameters}
        self.check(complete)
        return complete

    def load(self) -> Callable[..., Any]:
        """Import the network's class."""
        module, _, attribute = self.import_path.partition(":")
        loaded: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return loaded


UNET_CHOICES = {
    "ndim": (2, 3),
    "upsampling": ("transposed", "nearest", "bilinear", "bed_of_nails", "max_unpooling"),
    "doubling": ("after_pooling", "before_pooling"),
    "padding": ("valid", "same"),
}

_REGISTRY: dict[str, Architecture] = {}


def register(architecture: Architecture) -> Architecture:
    """Add an architecture.

    Raises
    ------
    ValueError
        When the name is taken.
    """
    if architecture.name in _REGISTRY:
        raise ValueError(f"an architecture named {architecture.name!r} is registered already")
    _REGISTRY[architecture.name] = architecture
    return architecture


def names() -> tuple[str, ...]:
    """Names of all architectures, sorted."""
    return tuple(sorted(_REGISTRY))


def find(name: str) -> Architecture:
    """The architecture called ``name``.

    Raises
    ------
    UsageError
        When there is none; the message lists those there are.
    """
    if name not in _REGISTRY:
        raise UsageError(f"there is no network named {name!r}; there are: {', '.join(names())}")
    return _REGISTRY[name]


def _check_unet(parameters: Parameters) -> None:
    for name, least in (("in_channels", 1), ("num_classes", 2), ("base_channels", 1), ("depth", 0)):
        value = parameters[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UsageError(f"unet: {name} is {value!r}; it must be a whole number from {least}")
    for name, choices in UNET_CHOICES.items():
        if parameters[name] not in choices:
            raise UsageError(f"unet: {name} is {parameters[name]!r}; it must be one of {', '.join(map(str, choices))}")
    if not isinstance(parameters["dropout"], int | float) or not 0 <= parameters["dropout"] < 1:
        raise UsageError(f"unet: dropout is {parameters['dropout']!r}; it must be a number from 0 to below 1")
    _check_levels(parameters, "kernel_sizes", parameters["depth"] + 1)
    _check_levels(parameters, "poolings", parameters["depth"])
    if any(size % 2 == 0 for kernel in parameters["kernel_sizes"] or () for size in kernel):
        raise UsageError("unet: kernel_sizes must be odd, so that as much is lost on either side")
    if parameters["padding"] == "same" and parameters["upsampling"] == "bilinear":
        raise UsageError("unet crops the rim after bilinear upsampling, which padding 'same' does not allow")


def _check_levels(parameters: Parameters, name: str, levels: int) -> None:
    entries, ndim = parameters[name], parameters["ndim"]
    if entries is None:
        return
    try:
        good = len(entries) == levels and all(
            len(entry) == ndim and all(isinstance(size, int) and size > 0 for size in entry) for entry in entries
        )
    except TypeError:
        good = False
    if not good:
        raise UsageError(f"unet: {name} needs {levels} entries of {ndim} whole numbers from 1 each; given: {entries!r}")


def _unet_levels(parameters: Parameters) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    ndim, depth = parameters["ndim"], parameters["depth"]
    kernels = parameters["kernel_sizes"] or ((3,) * ndim,) * (depth + 1)
    poolings = parameters["poolings"] or ((2,) * ndim,) * depth
    return kernels, poolings


def _unet_geometry(parameters: Parameters) -> Geometry:
    kernels, poolings = _unet_levels(parameters)
    return unet_geometry(
        kernels, poolings, bilinear=parameters["upsampling"] == "bilinear", padding=parameters["padding"]
    )


register(
    Architecture(
        name="unet",
        summary="U-Net: valid convolutions, skips cropped and concatenated; 2-D and 3-D",
        paper="Ronneberger et al. 2015, arXiv 1505.04597; 3-D: Cicek et al. 2016, arXiv 1606.06650",
        import_path="unetbio.networks.unet:UNet",
        defaults={
            "ndim": 2,
            "in_channels": 1,
            "num_classes": 2,
            "base_channels": 64,
            "depth": 4,
            "batch_norm": False,
            "dropout": 0.5,
            "upsampling": "transposed",
            "doubling": "after_pooling",
            "kernel_sizes": None,
            "poolings": None,
            "padding": "valid",
        },
        check=_check_unet,
        geometry=_unet_geometry,
        # Where values of a window are equal but for rounding, the place of the maximum jumps with the tile's shape.
        exact=lambda parameters: parameters["upsampling"] != "max_unpooling",
    )
)
