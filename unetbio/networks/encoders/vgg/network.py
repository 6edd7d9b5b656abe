"""VGG-16 as an encoder, and its public weights.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015, arXiv 1409.1556
(configuration D: 13 convolutions in five stages, each stage followed by max pooling; fully connected layers fc6, fc7).
Batch norm, where a network asks for it, is torchvision's vgg16_bn: between each convolution and its ReLU.
"""

import os
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from unetbio.networks import blocks
from unetbio.networks.encoders.vgg.spec import HALVINGS, STAGES, Pooling
from unetbio.networks.public_weights import find_encoder, load_public_weights

__all__ = ["VGG16", "FullyConnected", "load_vgg16", "mirrored_stages", "unpooled"]


class VGG16(nn.Module):
    """The 13 convolutions of VGG-16 in five stages.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    width : float
        Factor of the feature maps.
    batch_norm : bool
        Batch norm before each ReLU.
    poolings : sequence of {"halve", "keep", "none"}
        What follows each stage; see `unetbio.networks.encoders.vgg.spec.Pooling`.
    dilation : int
        Of the last stage.
    padding : bool
        Pad with zeros, so that convolutions keep the size.

    Attributes
    ----------
    stages, poolings : torch.nn.ModuleList
        Convolutions of each stage, and what follows them.
    channels : list of int
        Feature maps of each stage.
    """

    def __init__(
        self,
        in_channels: int,
        width: float,
        *,
        batch_norm: bool = False,
        poolings: Sequence[Pooling] = HALVINGS,
        dilation: int = 1,
        padding: bool = True,
    ) -> None:
        super().__init__()
        self.channels = [blocks.scaled(channels, width) for _, channels in STAGES]
        self.stages = nn.ModuleList()
        incoming = in_channels
        for (count, _), channels, rate in zip(STAGES, self.channels, (1, 1, 1, 1, dilation), strict=True):
            self.stages.append(
                nn.Sequential(
                    *(
                        blocks.convolution(
                            channels if index else incoming,
                            channels,
                            (3, 3),
                            batch_norm=batch_norm,
                            padding=padding,
                            dilation=rate,
                        )
                        for index in range(count)
                    )
                )
            )
            incoming = channels
        self.poolings = nn.ModuleList(_pooling(kind) for kind in poolings)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of the five stages, each after its pooling: ``(N, C, H, W) -> [(N, channels, h, w), ...]``."""
        features, pooled = image, []
        for stage, pooling in zip(self.stages, self.poolings, strict=True):
            features = pooling(stage(features))
            pooled.append(features)
        return pooled

    def with_switches(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features after the last pooling, and those before each pooling, which say where the maxima were."""
        features, switches = image, []
        for stage, pooling in zip(self.stages, self.poolings, strict=True):
            switches.append(stage(features))
            features = pooling(switches[-1])
        return features, switches


def unpooled(decoder: nn.ModuleList, features: Tensor, switches: Sequence[Tensor]) -> Tensor:
    """Run the stages of a decoder, each after unpooling the maxima to where they were in the encoder."""
    for stage, switch in zip(decoder, reversed(switches), strict=True):
        features = stage(blocks.max_unpool(features, switch, (2, 2)))
    return features


def _pooling(kind: Pooling) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return nn.MaxPool2d(2) if kind == "halve" else nn.MaxPool2d(3, stride=1, padding=1)


class FullyConnected(nn.Module):
    """The fully connected layers fc6 and fc7 of VGG-16 as convolutions (arXiv 1411.4038), each with ReLU and dropout.

    Parameters
    ----------
    in_channels, channels : int
        Feature maps before and after.
    kernel_size : int
        Of fc6; fc7 has 1.
    dilation : int
        Of fc6.
    padding : bool
        Pad with zeros before fc6, so that it keeps the size.
    batch_norm : bool
        Batch norm before each ReLU.
    dropout : float
        Probability with which a value is dropped after each of the two.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        padding: bool = True,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kernel = (kernel_size, kernel_size)
        self.fc6 = blocks.convolution(
            in_channels, channels, kernel, batch_norm=batch_norm, padding=padding, dilation=dilation
        )
        self.fc7 = blocks.convolution(channels, channels, (1, 1), batch_norm=batch_norm)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, in_channels, H, W) -> (N, channels, h, w)``, of the same size where fc6 pads."""
        dropped: Tensor = self.dropout(self.fc7(self.dropout(self.fc6(features))))
        return dropped


def mirrored_stages(channels: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Feature maps in and out of each convolution of a decoder that mirrors the encoder, from the deepest stage on.

    Parameters
    ----------
    channels : sequence of int
        Feature maps of the encoder's stages.

    Returns
    -------
    list of list of tuple
        As many convolutions a stage as in the encoder; the last one of a stage leaves as many maps as the stage above
        works with, at the top as many as it has itself.
    """
    above = [channels[0], *channels[:-1]]
    stages = zip(STAGES, channels, above, strict=True)
    return [[(own, own)] * (count - 1) + [(own, next_one)] for (count, _), own, next_one in stages][::-1]


def load_vgg16(network: nn.Module, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Load public weights of VGG-16 into the encoder of a network, and into its fc6 and fc7 where they fit.

    Parameters
    ----------
    network : torch.nn.Module
        A network with a `VGG16` encoder, or the encoder itself; of width 1 for the weights that are public. For one
        channel the first convolution takes the sum over the colours, which is what a grey image gives as red, green and
        blue. Weights are trained for images that were normalised as their source says.
    path : path
        A safetensors file in torchvision's layout: of vgg16 (``features.0.weight``, ...), or of vgg16_bn for a network
        with batch norm. ``classifier.0`` and ``classifier.3`` fill fc6 (as a 7 x 7 convolution) and fc7.

    Returns
    -------
    tuple of str
        Names of the tensors that were loaded.

    Raises
    ------
    ModelError
        When the file cannot be read, lacks a tensor of the encoder, has it in another shape or has more than there are;
        then nothing was loaded.
    UsageError
        When the network has no VGG-16 encoder.
    """
    encoder = find_encoder(network, VGG16, "VGG-16")
    return load_public_weights(
        path,
        dict(_encoder_tensors(encoder)),
        layout=f"torchvision's {_layout(encoder)}",
        classifier="classifier.",
        heads=dict(_classifier_tensors(network)),
    )


def _layout(encoder: VGG16) -> str:
    return "vgg16_bn" if any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules()) else "vgg16"


def _encoder_tensors(encoder: VGG16) -> Iterator[tuple[str, Tensor]]:
    # In torchvision's list of layers each convolution, batch norm, ReLU and pooling has a number.
    number = 0
    for stage in encoder.stages:
        for layer in [layer for convolution in stage.children() for layer in convolution.children()]:
            for name, tensor in layer.state_dict(keep_vars=True).items():
                yield f"features.{number}.{name}", tensor
            number += 1
        number += 1


def _classifier_tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for module in network.modules():
        if isinstance(module, FullyConnected):
            for number, layer in ((0, module.fc6[0]), (3, module.fc7[0])):
                for name, tensor in layer.named_parameters():
                    yield f"classifier.{number}.{name}", tensor
