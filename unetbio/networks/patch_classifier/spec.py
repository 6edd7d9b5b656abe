"""The sliding window (Ciresan et al. 2012): parameters and geometry, without torch."""

from itertools import chain

from unetbio.geometry import Geometry, Layer, valid_geometry
from unetbio.networks.parameters import PlanarParameters
from unetbio.networks.recipes import Recipe, augmented
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["KERNELS", "WINDOW", "PatchClassifierParameters"]

KERNELS = (4, 5, 4, 4)
"""Of the convolutions, each followed by 2 x 2 max pooling (table 1 of the paper)."""

WINDOW = 3
"""Side of what is left of a patch before the fully connected layers."""


class PatchClassifierParameters(PlanarParameters):
    """Parameters of the sliding window: those of every network in the plane."""

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`: of the dense form, where what follows a pooling is spread out twice as far."""
        pairs = (
            (Layer(kernel, dilation=2**level), Layer(2, dilation=2**level)) for level, kernel in enumerate(KERNELS)
        )
        return (*chain.from_iterable(pairs), Layer(WINDOW, dilation=2 ** len(KERNELS)))

    @property
    def geometry(self) -> Geometry:
        """See `NetworkParameters`."""
        return valid_geometry(self.path)


register(
    Architecture(
        name="patch_classifier",
        summary="the sliding window: each pixel is classified by the 95 x 95 patch around it",
        paper="Ciresan et al. 2012, NIPS 25, pages 2843-2851 (network N4)",
        import_path="unetbio.networks.patch_classifier.network:PatchClassifier",
        parameters=PatchClassifierParameters,
        published=(Published(219_290, {}, "counted by hand from kernels and maps in table 1 of the paper"),),
        recipe=Recipe(
            {
                "optimizer": "sgd",
                "learning_rate": 1e-3,
                "momentum": 0.0,
                "weight_decay": 0.0,
                "schedule": "constant",
                "batch_size": 1,
                **augmented(flip=True, rotate=True),
                "class_weighting": "balanced",
            },
            "Ciresan et al. 2012, section 3",
            "The paper trained for 30 epochs of single patches, as many of each class, while the rate fell; here a "
            "patch has as many outputs as its size allows, and weights balance the classes.",
        ),
    )
)
