"""Multi-scale context aggregation by dilated convolutions (arXiv 1511.07122), as far as it is known without torch."""

from unetbio.geometry import Layer, valid_geometry
from unetbio.networks.encoders.vgg.spec import Pooling, encoder_path
from unetbio.networks.registry import (
    Architecture,
    Parameters,
    Published,
    check_choices,
    check_flags,
    check_fractions,
    check_planar,
    check_whole_numbers,
    register,
)

__all__ = ["CONTEXT_MODULES", "CONTEXT_RATES", "POOLINGS", "front_end_rates"]

POOLINGS: tuple[Pooling, ...] = ("halve", "halve", "halve", "none", "none")

CONTEXT_RATES = (1, 1, 2, 4, 8, 16, 1)
"""Dilation of each 3 x 3 convolution of the context module; a 1 x 1 convolution follows."""

CONTEXT_MODULES = {
    "none": (),
    "basic": (1, 1, 1, 1, 1, 1, 1, 1),
    "large": (2, 2, 4, 8, 16, 32, 32, 1),
}
"""Feature maps of each layer of the module, in multiples of the number of classes (table 1)."""


def front_end_rates(dilation: int) -> tuple[int, int]:
    """Dilation of conv5 and of fc6 where no rate may be larger than ``dilation``."""
    return min(2, dilation), min(4, dilation)


def _check(parameters: Parameters) -> None:
    check_planar("dilated_context", parameters)
    check_choices("dilated_context", parameters, {"context": tuple(CONTEXT_MODULES)})
    check_whole_numbers("dilated_context", parameters, {"dilation": 1})
    check_flags("dilated_context", parameters, ("batch_norm",))
    check_fractions("dilated_context", parameters, ("dropout",))


def _path(parameters: Parameters) -> tuple[Layer, ...]:
    dilation = parameters["dilation"]
    conv5, fc6 = front_end_rates(dilation)
    rates = [min(rate, dilation) for rate in CONTEXT_RATES if CONTEXT_MODULES[parameters["context"]]]
    return (
        *encoder_path(POOLINGS, dilation=conv5, padding=False),
        Layer(7, dilation=fc6),
        *(Layer(3, dilation=rate, padding=rate) for rate in rates),
        # Interpolation has a padding of 4; the 4 outermost pixels, which lack a neighbour, are cropped as well.
        Layer(16, stride=8, padding=8, transposed=True),
    )


register(
    Architecture(
        name="dilated_context",
        summary="VGG-16 at stride 8 without padding, dilated; a context module of growing dilation",
        paper="Yu, Koltun 2016, arXiv 1511.07122",
        import_path="unetbio.networks.dilated_context.network:DilatedContext",
        defaults={
            "ndim": 2,
            "in_channels": 1,
            "num_classes": 2,
            "width": 1.0,
            "batch_norm": False,
            "dropout": 0.5,
            "context": "basic",
            "dilation": 16,
        },
        check=_check,
        geometry=lambda parameters: valid_geometry(_path(parameters)),
        exact=lambda parameters: parameters["context"] == "none",
        path=_path,
        paper_tricks=(2, 3),
        published=(
            Published(
                134_300_000,
                {"in_channels": 3, "num_classes": 21, "context": "none"},
                "arXiv 1412.7062, table 2: DeepLab-CRF-7x7, which has the layers of the front end, 134.3 M",
            ),
            Published(
                134_346_581 + 64 * 21**2,
                {"in_channels": 3, "num_classes": 21, "context": "basic"},
                "front end re-counted from VGG-16's layer table; arXiv 1511.07122, section 3: 64 C**2 in the module",
            ),
        ),
    )
)
