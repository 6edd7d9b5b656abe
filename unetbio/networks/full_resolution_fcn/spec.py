"""A fully convolutional network that keeps the resolution: parameters and geometry, without torch."""

from dataclasses import dataclass

from unetbio.geometry import Geometry, Layer, valid_geometry
from unetbio.networks.parameters import PlanarParameters, batch_norm, whole_number
from unetbio.networks.registry import Architecture, register

__all__ = ["FullResolutionParameters"]


@dataclass(frozen=True, kw_only=True)
class FullResolutionParameters(PlanarParameters):
    """Parameters of the network at full resolution."""

    depth: int = whole_number(8, "number of convolutions; a pixel sees as many pixels to each side", least=1, most=256)
    channels: int = whole_number(64, "feature maps of each convolution", least=1, most=4096)
    batch_norm: bool = batch_norm("when a model is applied it is constant, so tiles stay exact")

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`."""
        return (Layer(3),) * self.depth

    @property
    def geometry(self) -> Geometry:
        """See `NetworkParameters`."""
        return valid_geometry(self.path)


register(
    Architecture(
        name="full_resolution_fcn",
        summary="convolutions at full resolution, without pooling",
        paper="the lecture's second idea; no paper",
        import_path="unetbio.networks.full_resolution_fcn.network:FullResolutionFCN",
        parameters=FullResolutionParameters,
    )
)
