"""A fully convolutional network that keeps the resolution, as far as it is known without torch."""

from unetbio.geometry import Layer, valid_geometry
from unetbio.networks.registry import (
    Architecture,
    Parameters,
    check_flags,
    check_planar,
    check_whole_numbers,
    register,
)

__all__: list[str] = []


def _check(parameters: Parameters) -> None:
    check_planar("full_resolution_fcn", parameters)
    check_whole_numbers("full_resolution_fcn", parameters, {"depth": 1, "channels": 1})
    check_flags("full_resolution_fcn", parameters, ("batch_norm",))


def _path(parameters: Parameters) -> tuple[Layer, ...]:
    return (Layer(3),) * int(parameters["depth"])


register(
    Architecture(
        name="full_resolution_fcn",
        summary="convolutions at full resolution, without pooling",
        paper="the lecture's second idea; no paper",
        import_path="unetbio.networks.full_resolution_fcn.network:FullResolutionFCN",
        defaults={
            "ndim": 2,
            "in_channels": 1,
            "num_classes": 2,
            "width": 1.0,
            "depth": 8,
            "channels": 64,
            "batch_norm": False,
        },
        check=_check,
        geometry=lambda parameters: valid_geometry(_path(parameters)),
        exact=lambda parameters: True,
        path=_path,
    )
)
