"""U-Net (arXiv 1505.04597; in 3-D arXiv 1606.06650), as far as it is known without torch."""

from unetbio.errors import UsageError
from unetbio.geometry import Geometry, Layer, unet_geometry
from unetbio.networks.registry import (
    Architecture,
    Parameters,
    Published,
    check_choices,
    check_flags,
    check_fractions,
    check_whole_numbers,
    register,
)

__all__ = ["UNET_CHOICES"]

UNET_CHOICES = {
    "ndim": (2, 3),
    "upsampling": ("transposed", "nearest", "bilinear", "bed_of_nails", "max_unpooling"),
    "doubling": ("after_pooling", "before_pooling"),
    "padding": ("valid", "same"),
    "skip": ("concatenate", "sum", "none"),
}


def _check(parameters: Parameters) -> None:
    check_whole_numbers("unet", parameters, {"in_channels": 1, "num_classes": 2, "base_channels": 1, "depth": 0})
    check_choices("unet", parameters, UNET_CHOICES)
    check_flags("unet", parameters, ("batch_norm",))
    check_fractions("unet", parameters, ("dropout",))
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


def _levels(parameters: Parameters) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    ndim, depth = parameters["ndim"], parameters["depth"]
    kernels = parameters["kernel_sizes"] or ((3,) * ndim,) * (depth + 1)
    poolings = parameters["poolings"] or ((2,) * ndim,) * depth
    return kernels, poolings


def _geometry(parameters: Parameters) -> Geometry:
    kernels, poolings = _levels(parameters)
    return unet_geometry(
        kernels, poolings, bilinear=parameters["upsampling"] == "bilinear", padding=parameters["padding"]
    )


def _path(parameters: Parameters) -> tuple[Layer, ...]:
    # Through the bottleneck, along the last axis
    kernels, poolings = _levels(parameters)
    same = parameters["padding"] == "same"
    convolutions = [2 * (Layer(kernel[-1], padding=kernel[-1] // 2 * same),) for kernel in kernels]
    path: tuple[Layer, ...] = convolutions[-1]
    for convolution, pooling in zip(convolutions[-2::-1], poolings[::-1], strict=True):
        factor = pooling[-1]
        up = Layer(factor, factor, transposed=True)
        if parameters["upsampling"] == "bilinear" and factor > 1:
            up = Layer(2 * factor, factor, padding=factor // 2, transposed=True)
        path = (*convolution, Layer(factor, factor), *path, up, *convolution)
    return path


register(
    Architecture(
        name="unet",
        summary="U-Net: valid convolutions, skips cropped and concatenated; 2-D and 3-D",
        paper="Ronneberger et al. 2015, arXiv 1505.04597; 3-D: Cicek et al. 2016, arXiv 1606.06650",
        import_path="unetbio.networks.unet.network:UNet",
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
            "skip": "concatenate",
        },
        check=_check,
        geometry=_geometry,
        exact=lambda parameters: True,
        path=_path,
        tricks=(1, 6),
        paper_tricks=(1, 6),
        published=(
            Published(31_031_685, {}, "github.com/zhixuhao/unet, model summary (with one more convolution of 1 154)"),
            Published(
                19_069_955,
                {"ndim": 3, "in_channels": 3, "num_classes": 3, "base_channels": 32, "depth": 3}
                | {"batch_norm": True, "doubling": "before_pooling"},
                "arXiv 1606.06650, section 2",
            ),
        ),
    )
)
