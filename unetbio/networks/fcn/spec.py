"""FCN-32s, FCN-16s and FCN-8s (arXiv 1411.4038): parameters and geometry, without torch."""

from typing import ClassVar

from unetbio.geometry import Layer
from unetbio.networks.encoders.vgg.spec import VGGParameters, encoder_path
from unetbio.networks.recipes import Recipe, augmented, sgd
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["FCN8sParameters", "FCN16sParameters", "FCN32sParameters"]


class FCN32sParameters(VGGParameters):
    """Parameters of an FCN whose scores are upsampled at once.

    Attributes
    ----------
    skips : int
        Earlier layers whose scores are summed in.
    """

    skips: ClassVar[int] = 0

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`: through fc6, up by 2 to each skip and by what is left to the size of the input."""
        last = 32 // 2**self.skips
        doubling = Layer(4, stride=2, padding=1, transposed=True)
        up = Layer(2 * last, stride=last, padding=last // 2, transposed=True)
        return (*encoder_path(), Layer(7, padding=3), *(doubling,) * self.skips, up)


class FCN16sParameters(FCN32sParameters):
    """Parameters of an FCN with scores of pool4 summed in."""

    skips = 1


class FCN8sParameters(FCN32sParameters):
    """Parameters of an FCN with scores of pool4 and pool3 summed in."""

    skips = 2


def _register(parameters: type[FCN32sParameters], summary: str, published: tuple[Published, ...]) -> None:
    name = f"fcn{32 // 2**parameters.skips}s"
    register(
        Architecture(
            name=name,
            summary=summary,
            paper="Long, Shelhamer, Darrell 2015, arXiv 1411.4038",
            import_path="unetbio.networks.fcn.network:FCN",
            parameters=parameters,
            paper_tricks=(1, 6) if parameters.skips else (1,),
            published=published,
            recipe=Recipe(
                {
                    "patch_size": 512,
                    "batch_size": 20,
                    **sgd(1e-4),
                    **augmented(),
                    "class_weighting": "none",
                },
                "arXiv 1411.4038, section 4.3",
                "The paper trained for 175 epochs from weights of VGG-16, FCN-16s from FCN-32s with a hundredth of the "
                "rate and FCN-8s from FCN-16s: each network is a command with --start and --network. Biases had twice "
                "the rate.",
            ),
        )
    )


_register(
    FCN32sParameters,
    "FCN-32s: VGG-16, its scores upsampled 32 times",
    (Published(134_000_000, {"in_channels": 3, "num_classes": 21}, "arXiv 1411.4038, table 1: FCN-VGG16, 134 M"),),
)
_register(
    FCN16sParameters,
    "FCN-16s: VGG-16, scores of pool4 summed in, upsampled 16 times",
    (
        Published(
            134_000_000,
            {"in_channels": 3, "num_classes": 21},
            "arXiv 1411.4038, table 1: FCN-VGG16, 134 M, to which the skip adds 17 829",
        ),
    ),
)
_register(
    FCN8sParameters,
    "FCN-8s: VGG-16, scores of pool4 and pool3 summed in, upsampled 8 times",
    (
        Published(
            134_456_985 - 92_416,
            {"in_channels": 3, "num_classes": 19},
            "layer table of a public PyTorch port for Cityscapes, 134 456 985, without the 92 416 of the last "
            "transposed convolution, which the paper fixes; re-counted by hand",
        ),
    ),
)
