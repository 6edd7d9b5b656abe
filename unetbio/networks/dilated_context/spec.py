"""Context aggregation by dilated convolutions (arXiv 1511.07122): parameters and geometry, without torch."""

from dataclasses import dataclass

from unetbio.geometry import Geometry, Layer, valid_geometry
from unetbio.networks.encoders.vgg.spec import Pooling, VGGParameters, encoder_path
from unetbio.networks.parameters import choice, whole_number
from unetbio.networks.recipes import MIRRORED, Recipe, sgd
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["CONTEXT_MODULES", "CONTEXT_RATES", "POOLINGS", "DilatedContextParameters"]

POOLINGS: tuple[Pooling, ...] = ("halve", "halve", "halve", "none", "none")

CONTEXT_RATES = (1, 1, 2, 4, 8, 16, 1)
"""Dilation of each 3 x 3 convolution of the context module; a 1 x 1 convolution follows."""

CONTEXT_MODULES = {
    "none": (),
    "basic": (1, 1, 1, 1, 1, 1, 1, 1),
    "large": (2, 2, 4, 8, 16, 32, 32, 1),
}
"""Feature maps of each layer of the module, in multiples of the number of classes (table 1)."""


@dataclass(frozen=True, kw_only=True)
class DilatedContextParameters(VGGParameters):
    """Parameters of multi-scale context aggregation."""

    context: str = choice(
        "basic",
        "the context module; it pads with zeros, so tiles are exact without it alone. `width` does not scale it",
        {
            "none": "the front end alone",
            "basic": "as many feature maps as classes in every layer",
            "large": "up to 32 times as many feature maps as classes",
        },
    )
    dilation: int = whole_number(
        16,
        "no rate is larger: 16 leaves all as in the paper, with 1 nothing is dilated, at the same resolution and "
        "number of weights",
        least=1,
        most=256,
    )

    @property
    def front_end_rates(self) -> tuple[int, int]:
        """Dilation of conv5 and of fc6."""
        return min(2, self.dilation), min(4, self.dilation)

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`."""
        conv5, fc6 = self.front_end_rates
        rates = [min(rate, self.dilation) for rate in CONTEXT_RATES if CONTEXT_MODULES[self.context]]
        return (
            *encoder_path(POOLINGS, dilation=conv5, padding=False),
            Layer(7, dilation=fc6),
            *(Layer(3, dilation=rate, padding=rate) for rate in rates),
            # Interpolation has a padding of 4; the 4 outermost pixels, which lack a neighbour, are cropped as well.
            Layer(16, stride=8, padding=8, transposed=True),
        )

    @property
    def geometry(self) -> Geometry:
        """See `NetworkParameters`."""
        return valid_geometry(self.path)

    @property
    def exact(self) -> bool:
        """See `NetworkParameters`: without the context module."""
        return self.context == "none"


register(
    Architecture(
        name="dilated_context",
        summary="VGG-16 at stride 8 without padding, dilated; a context module of growing dilation",
        paper="Yu, Koltun 2016, arXiv 1511.07122",
        import_path="unetbio.networks.dilated_context.network:DilatedContext",
        parameters=DilatedContextParameters,
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
        recipe=Recipe(
            {"patch_size": 900, "batch_size": 14, **sgd(1e-3), **MIRRORED},
            "arXiv 1511.07122, sections 4 and 5",
            "The paper trained the front end (context: none) for 60 000 steps from weights of VGG-16, and then the "
            "context module on top of it: two commands, the second with --start.",
        ),
    )
)
