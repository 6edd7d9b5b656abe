"""FCN-32s, FCN-16s and FCN-8s (arXiv 1411.4038), as far as they are known without torch."""

from functools import partial

from unetbio.geometry import Layer, padded_geometry
from unetbio.networks.encoders.vgg.spec import encoder_path
from unetbio.networks.registry import (
    Architecture,
    Parameters,
    Published,
    check_flags,
    check_fractions,
    check_planar,
    register,
)

__all__: list[str] = []

PAPER = "Long, Shelhamer, Darrell 2015, arXiv 1411.4038"


def _check(name: str, parameters: Parameters) -> None:
    check_planar(name, parameters)
    check_flags(name, parameters, ("batch_norm",))
    check_fractions(name, parameters, ("dropout",))


def _path(skips: int) -> tuple[Layer, ...]:
    # Through fc6, then up by 2 to each skip and by what is left to the size of the input
    last = 32 // 2**skips
    doubling = Layer(4, stride=2, padding=1, transposed=True)
    up = Layer(2 * last, stride=last, padding=last // 2, transposed=True)
    return (*encoder_path(), Layer(7, padding=3), *(doubling,) * skips, up)


def _register(skips: int, summary: str, published: tuple[Published, ...]) -> None:
    stride = 32 // 2**skips
    name, path = f"fcn{stride}s", _path(skips)
    register(
        Architecture(
            name=name,
            summary=summary,
            paper=PAPER,
            import_path=f"unetbio.networks.fcn.network:FCN{stride}s",
            defaults={
                "ndim": 2,
                "in_channels": 1,
                "num_classes": 2,
                "width": 1.0,
                "batch_norm": False,
                "dropout": 0.5,
            },
            check=partial(_check, name),
            geometry=lambda parameters: padded_geometry(path),
            exact=lambda parameters: True,
            path=lambda parameters: path,
            paper_tricks=(1, 6) if skips else (1,),
            published=published,
        )
    )


_register(
    0,
    "FCN-32s: VGG-16, its scores upsampled 32 times",
    (Published(134_000_000, {"in_channels": 3, "num_classes": 21}, "arXiv 1411.4038, table 1: FCN-VGG16, 134 M"),),
)
_register(
    1,
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
    2,
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
