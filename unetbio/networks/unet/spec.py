"""U-Net (arXiv 1505.04597; in 3-D arXiv 1606.06650): parameters and geometry, without torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from unetbio.geometry import Geometry, Layer, Padding, padded_geometry, unet_geometry
from unetbio.networks.encoders.resnet.spec import backbone, encoder_path, padded_layer
from unetbio.networks.parameters import (
    NetworkParameters,
    batch_norm,
    choice,
    described,
    dropout,
    flag,
    shown,
    sizes_per_level,
    whole_number,
)
from unetbio.networks.recipes import Recipe, augmented, sgd
from unetbio.networks.registry import Architecture, Published, register

__all__ = ["OWN", "RESNET_CHANNELS", "RESNET_DEPTH", "UNetParameters"]

OWN = "own"
"""The encoder that is no ResNet."""

RESNET_DEPTH = 5
"""Halvings of a ResNet."""

RESNET_CHANNELS = 64
"""Base channels at which a ResNet has the channels of its paper; the decoder's first level has a quarter."""

MOST_CHANNELS = 2**14
"""Of the deepest level; the paper's network has 1024."""


@dataclass(frozen=True, kw_only=True)
class UNetParameters(NetworkParameters):
    """Parameters of the U-Net."""

    base_channels: int = whole_number(
        64,
        "feature maps of the first level; they double at each pooling. With a ResNet 64 gives it the maps of its "
        "paper, and the decoder 16 at full size, doubling at each level below",
        least=1,
        most=4096,
    )
    depth: int = whole_number(4, "number of poolings", least=0, most=8)
    batch_norm: bool = batch_norm("when a model is applied it is constant, so tiles stay exact")
    dropout: float = dropout("at the end of the contracting path (before and after the bottleneck)")
    upsampling: str = choice(
        "transposed",
        "how the decoder doubles the size; all but `transposed` come with a 1 x 1 convolution",
        {
            "transposed": "transposed convolution: each value times a learned kernel",
            "nearest": "each value is repeated",
            "bilinear": "interpolation between pixel centres; needs one more pixel a level",
            "bed_of_nails": "each value with zeros around it",
            "max_unpooling": "each value where the maximum was that it came from",
        },
    )
    doubling: str = choice(
        "after_pooling",
        "where the number of feature maps doubles",
        {
            "after_pooling": "in the first convolution after a pooling (2-D paper)",
            "before_pooling": "in the last convolution before a pooling (3-D paper)",
        },
    )
    kernel_sizes: Sequence[Sequence[int]] | None = sizes_per_level(
        "kernel of both convolutions of each level, one size an axis, odd: `depth` + 1 lists; 3 along every axis "
        "unless given"
    )
    poolings: Sequence[Sequence[int]] | None = sizes_per_level(
        "pooling below each level, one size an axis: `depth` lists; 2 along every axis unless given"
    )
    padding: Padding = choice(  # noqa: RUF009
        "valid",
        "what convolutions do at the border",
        {
            "valid": "no padding: the output is smaller than the input (the paper)",
            "same": "padding with zeros: the output is as large as the input, as in other tools",
        },
    )
    skip: str = choice(
        "concatenate",
        "how the decoder gets back the detail that pooling lost",
        {
            "concatenate": "the encoder's features beside the upsampled ones (the paper)",
            "sum": "the encoder's features added to the upsampled ones (as in FCN)",
            "none": "not at all; max-unpooling still gets its switches",
        },
    )

    encoder: str = backbone(OWN, {OWN: "two convolutions a level, as in the paper"})
    residual: bool = flag(
        False,
        "both convolutions of each level beside a shortcut, cropped and added before the last ReLU (residual units: "
        "arXiv 1512.03385, in a U-Net arXiv 1711.10684); where the number of maps changes, the shortcut is a 1 x 1 "
        "convolution",
    )
    attention: bool = flag(
        False,
        "additive attention gates on the skips (Attention U-Net, arXiv 1804.03999): the upsampled features decide how "
        "much of each pixel of the skip passes. Computed pixel by pixel, at the size of the skip, so that tiles stay "
        "exact",
    )
    deep_supervision: bool = flag(
        False,
        "training adds the losses of 1 x 1 heads on the levels of the decoder below, each with half the share of the "
        "one above (nnU-Net, doi:10.1038/s41592-020-01008-z); a model is applied without them",
    )
    arithmetic: str = choice(
        "float",
        "numbers that the network computes with",
        {
            "float": "numbers with a fraction, of 32 bits",
            "int8": "integers of 8 bits with sums of 32: `unetbio models quantize` makes such a model of a trained "
            "one; it cannot be trained",
        },
    )

    @property
    def kernels(self) -> tuple[tuple[int, ...], ...]:
        """Kernel of each level, the bottleneck included."""
        return tuple(map(tuple, self.kernel_sizes or ((3,) * self.ndim,) * (self.depth + 1)))

    @property
    def factors(self) -> tuple[tuple[int, ...], ...]:
        """Pooling below each level."""
        return tuple(map(tuple, self.poolings or ((2,) * self.ndim,) * self.depth))

    @property
    def geometry(self) -> Geometry:
        """See `NetworkParameters`."""
        if self.encoder != OWN:
            return padded_geometry(self.path)
        return unet_geometry(self.kernels, self.factors, bilinear=self.upsampling == "bilinear", padding=self.padding)

    @property
    def path(self) -> tuple[Layer, ...]:
        """See `NetworkParameters`: through the bottleneck, along the last axis."""
        if self.encoder != OWN:
            level = (Layer(2, 2, transposed=True), padded_layer(3), padded_layer(3))
            return (*encoder_path(self.encoder, 2**RESNET_DEPTH), *level * RESNET_DEPTH)
        same = self.padding == "same"
        convolutions = [2 * (Layer(kernel[-1], padding=kernel[-1] // 2 * same),) for kernel in self.kernels]
        path: tuple[Layer, ...] = convolutions[-1]
        for convolution, pooling in zip(convolutions[-2::-1], self.factors[::-1], strict=True):
            factor = pooling[-1]
            up = Layer(factor, factor, transposed=True)
            if self.upsampling == "bilinear" and factor > 1:
                up = Layer(2 * factor, factor, padding=factor // 2, transposed=True)
            path = (*convolution, Layer(factor, factor), *path, up, *convolution)
        return path

    @classmethod
    def of_width(cls, width: float) -> dict[str, Any]:
        """See `NetworkParameters`."""
        return {"base_channels": max(1, round(described(cls)["base_channels"].default * width))}

    def conflicts(self) -> Iterator[str]:
        """See `NetworkParameters`."""
        if self.encoder != OWN:
            yield from self._conflicts_of_resnet()
        yield from self._wrong_levels("kernel_sizes", self.kernel_sizes, self.depth + 1)
        yield from self._wrong_levels("poolings", self.poolings, self.depth)
        if any(size % 2 == 0 for kernel in self.kernels for size in kernel):
            yield "kernel_sizes must be odd, so that as much is lost on either side"
        if self.attention and (self.skip == "none" or not self.depth):
            yield "attention gates are on skips: it needs a depth of 1 or more, and skip concatenate or sum"
        if self.deep_supervision and self.depth < 2:
            yield f"deep supervision needs a level between bottleneck and output: depth {self.depth} must be 2 or more"
        if self.padding == "same" and self.upsampling == "bilinear":
            yield "the rim is cropped after bilinear upsampling, which padding 'same' does not allow"
        if self.arithmetic == "int8":
            yield from self._conflicts_of_integers()
        if self.base_channels * 2**self.depth > MOST_CHANNELS:
            yield (
                f"base_channels {self.base_channels} and depth {self.depth} make {self.base_channels * 2**self.depth} "
                f"feature maps at the deepest level; there can be at most {MOST_CHANNELS}"
            )

    def unused(self) -> Iterator[tuple[str, str]]:
        """See `NetworkParameters`."""
        if not self.depth:
            yield "upsampling", "depth is 0"
            yield "skip", "depth is 0"

    def _conflicts_of_integers(self) -> Iterator[str]:
        if self.ndim != 2 or self.padding != "valid" or self.encoder != OWN:
            yield "arithmetic int8 is for planes, convolutions without padding, and the encoder of the U-Net itself"
        if self.upsampling != "transposed" or self.skip != "concatenate" or self.residual or self.attention:
            yield "arithmetic int8 is for transposed convolutions, and for skips that are concatenated, without gates"
        if any(len(set(factor)) > 1 for factor in self.factors):
            yield "arithmetic int8 needs poolings that are the same along both axes"
        if self.batch_norm or self.dropout or self.deep_supervision:
            yield (
                "arithmetic int8 has no batch norm, dropout or deep supervision: train with arithmetic: float, and "
                "make integers of the model with unetbio models quantize"
            )

    def _conflicts_of_resnet(self) -> Iterator[str]:
        if self.ndim != 2 or self.padding != "same" or self.depth != RESNET_DEPTH:
            yield (
                f"{self.encoder} is for planes, pads and halves {RESNET_DEPTH} times: give padding: same and depth: "
                f"{RESNET_DEPTH}"
            )
        if self.kernel_sizes or self.poolings or self.doubling != "after_pooling":
            yield f"{self.encoder} has its own kernels, poolings, maps: leave out kernel_sizes, poolings, doubling"
        if self.upsampling == "max_unpooling" or self.skip == "sum":
            yield (
                f"{self.encoder} has other numbers of maps than the decoder: upsampling max_unpooling and skip sum are "
                "for the U-Net's own encoder"
            )

    def _wrong_levels(self, name: str, entries: Sequence[Sequence[int]] | None, levels: int) -> Iterator[str]:
        if entries is not None and [len(entry) for entry in entries] != [self.ndim] * levels:
            yield f"{name} needs {levels} entries of {self.ndim} whole numbers from 1 each; given: {shown(entries)}"


register(
    Architecture(
        name="unet",
        summary="U-Net: valid convolutions, skips cropped and concatenated; 2-D and 3-D",
        paper="Ronneberger et al. 2015, arXiv 1505.04597; 3-D: Cicek et al. 2016, arXiv 1606.06650",
        import_path="unetbio.networks.unet.network:build",
        parameters=UNetParameters,
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
        recipe=Recipe(
            {
                "parameters": {},
                "patch_size": 572,
                "batch_size": 1,
                **sgd(1e-3, momentum=0.99, decay=0.0),
                **augmented(flip=True, rotate=True, elastic_sigma=10.0, elastic_grid=3, probability=0.3),
                "class_weighting": "balanced",
                "border_weight": 10.0,
                "border_sigma": 5.0,
            },
            "arXiv 1505.04597, section 3",
            "The paper trained for 10 hours and gives no learning rate. It shifts, rotates and deforms patches and "
            "varies grey values, without saying how much. For stacks as in arXiv 1606.06650 state parameters: {depth: "
            "3, base_channels: 32, batch_norm: true, doubling: before_pooling}.",
        ),
    )
)
