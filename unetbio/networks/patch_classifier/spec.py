"""The sliding window (Ciresan et al. 2012), as far as it is known without torch."""

from itertools import chain

from unetbio.geometry import Layer, valid_geometry
from unetbio.networks.registry import Architecture, Parameters, Published, check_planar, register

__all__ = ["KERNELS", "WINDOW"]

KERNELS = (4, 5, 4, 4)
"""Of the convolutions, each followed by 2 x 2 max pooling (table 1 of the paper)."""

WINDOW = 3
"""Side of what is left of a patch before the fully connected layers."""


def _path(parameters: Parameters) -> tuple[Layer, ...]:
    # The dense form: each pooling keeps the resolution, so everything after it is spread out twice as far.
    pairs = ((Layer(kernel, dilation=2**level), Layer(2, dilation=2**level)) for level, kernel in enumerate(KERNELS))
    return (*chain.from_iterable(pairs), Layer(WINDOW, dilation=2 ** len(KERNELS)))


register(
    Architecture(
        name="patch_classifier",
        summary="the sliding window: each pixel is classified by the 95 x 95 patch around it",
        paper="Ciresan et al. 2012, NIPS 25, pages 2843-2851 (network N4)",
        import_path="unetbio.networks.patch_classifier.network:PatchClassifier",
        defaults={"ndim": 2, "in_channels": 1, "num_classes": 2, "width": 1.0},
        check=lambda parameters: check_planar("patch_classifier", parameters),
        geometry=lambda parameters: valid_geometry(_path(parameters)),
        exact=lambda parameters: True,
        path=_path,
        published=(Published(219_290, {}, "counted by hand from kernels and maps in table 1 of the paper"),),
    )
)
