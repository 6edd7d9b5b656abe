"""DeconvNet (arXiv 1505.04366): parameters and geometry, without torch."""

from unetbio.geometry import Layer
from unetbio.networks.encoders.vgg.spec import decoder_path, encoder_path
from unetbio.networks.parameters import PlanarParameters
from unetbio.networks.recipes import MIRRORED, Recipe, sgd
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["DeconvNetParameters"]


class DeconvNetParameters(PlanarParameters):
    """Parameters of DeconvNet: those of every network in the plane."""

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`."""
        return (*encoder_path(), Layer(7, padding=3), Layer(7, padding=3, transposed=True), *decoder_path())


register(
    Architecture(
        name="deconvnet",
        summary="DeconvNet: VGG-16 with fc6 and fc7, mirrored by max-unpooling and transposed convolutions",
        paper="Noh, Hong, Han 2015, arXiv 1505.04366",
        import_path="unetbio.networks.deconvnet.network:DeconvNet",
        parameters=DeconvNetParameters,
        paper_tricks=(1, 5),
        published=(
            Published(
                252_000_000,
                {"in_channels": 3, "num_classes": 21},
                "arXiv 1505.04366, section 4.1: approximately 252 M",
            ),
        ),
        recipe=Recipe(
            {
                "patch_size": 224,
                "batch_size": 64,
                **sgd(0.01),
                "rate_drops": (0.5, 0.8),
                **MIRRORED,
            },
            "arXiv 1505.04366, sections 4.2 and 5.1",
            "The paper trained for 20 000 steps on crops of single objects and then 40 000 steps on proposals, from "
            "weights of VGG-16; it lowered the rate to a tenth whenever the validation got no better, here after a "
            "half and four fifths. Two stages are two commands: the second has --start.",
        ),
    )
)
