"""ResNet as an encoder: without its classifier, with dilation in the place of strides.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv 1512.03385 (section 4.1, table 1 and
figure 5), in the layout in which weights are public: the stride of a bottleneck sits in its 3 x 3 convolution, and
layers are called ``conv1``, ``bn1``, ``layer1.0.conv1`` and so on.
"""

import os
import re
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from unetbio.errors import UsageError
from unetbio.networks import blocks
from unetbio.networks.encoders.resnet.spec import BACKBONES, Stage, stages
from unetbio.networks.public_weights import find_encoder, load_public_weights

__all__ = ["ResNet", "load_resnet"]


class _BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = blocks.normalised_convolution(in_channels, channels, 3, stride=stride, dilation=dilation)
        self.conv2 = blocks.normalised_convolution(channels, channels, 3, dilation=dilation, relu=False)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, features: Tensor) -> Tensor:
        residual: Tensor = self.conv2(self.conv1(features))
        return functional.relu_(residual + self.downsample(features))


class _Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut; the last one has four times the channels."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = blocks.normalised_convolution(in_channels, channels, 1)
        self.conv2 = blocks.normalised_convolution(channels, channels, 3, stride=stride, dilation=dilation)
        self.conv3 = blocks.normalised_convolution(channels, self.expansion * channels, 1, relu=False)
        self.downsample = _shortcut(in_channels, self.expansion * channels, stride)

    def forward(self, features: Tensor) -> Tensor:
        residual: Tensor = self.conv3(self.conv2(self.conv1(features)))
        return functional.relu_(residual + self.downsample(features))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    layer = _StridedPointwise(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out_channels))


class _StridedPointwise(nn.Conv2d):
    """1 x 1 convolution of every ``stride``-th pixel.

    In training the other pixels are left out first. oneDNN writes beyond its memory where it computes gradients of a
    strided 1 x 1 convolution of fewer than eight channels in ``channels_last`` with AVX2 (PyTorch 2.13), and the
    process crashes some time later.
    """

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, K, ceil(H / stride), ceil(W / stride))``."""
        if not self.training:
            return super().forward(features)
        rows, columns = self.stride
        return functional.conv2d(features[:, :, ::rows, ::columns], self.weight)


class ResNet(nn.Module):
    """The convolutions of a ResNet: a stem of stride 4 and four stages.

    Weights are drawn as for the public ones: from a normal distribution with variance ``2 / N``, N being the number of
    outgoing connections.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    backbone : str
        One of `unetbio.networks.encoders.resnet.spec.BACKBONES`.
    output_stride : {8, 16, 32}
        Pixels of the image for one of the last feature map.
    multi_grid : sequence of int
        Factors of the dilation in the blocks of the last stage.
    width : float
        Factor of every number of channels.

    Attributes
    ----------
    channels : tuple of int
        Of the four stages' feature maps.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        backbone: str,
        output_stride: int,
        multi_grid: Sequence[int] = (1, 1, 1),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        self.output_stride = output_stride
        self.block = _Bottleneck if BACKBONES[backbone].bottleneck else _BasicBlock
        narrow = [blocks.scaled(64 * 2**level, width) for level in range(4)]
        self.channels = tuple(self.block.expansion * count for count in narrow)
        first, second, third, fourth = stages(backbone, output_stride, multi_grid)
        self.conv1 = blocks.normalised_convolution(in_channels, narrow[0], 7, stride=2)
        self.layer1 = self._stage(narrow[0], narrow[0], first)
        self.layer2 = self._stage(self.channels[0], narrow[1], second)
        self.layer3 = self._stage(self.channels[1], narrow[2], third)
        self.layer4 = self._stage(self.channels[2], narrow[3], fourth)
        self.initialise()

    def initialise(self) -> None:
        """Draw the weights of all convolutions."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _stage(self, in_channels: int, channels: int, stage: Stage) -> nn.Sequential:
        stride, made = stage.stride, nn.Sequential()
        for dilation in stage.dilations:
            made.append(self.block(in_channels, channels, stride, dilation))
            in_channels, stride = self.block.expansion * channels, 1
        return made

    def halved(self, image: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C', H / 2, W / 2)``: 7 x 7 convolution with stride 2.

        Raises
        ------
        UsageError
            In training, when batch norm would get one value a channel in the last stage.
        """
        if self.training and image.shape[0] * image.shape[2] * image.shape[3] <= self.output_stride**2:
            raise UsageError(
                f"batch norm needs more than one value to train on, and one image of {tuple(image.shape[2:])} pixels "
                f"has one at output stride {self.output_stride}: use larger patches or batches"
            )
        features: Tensor = self.conv1(image)
        return features

    def stem(self, image: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C', H / 4, W / 4)``: `halved` and max pooling with stride 2; raises as `halved`."""
        return functional.max_pool2d(self.halved(image), 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Features of the last stage: ``(N, C, H, W) -> (N, C', H / output_stride, W / output_stride)``."""
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(image)))))
        return features


def load_resnet(network: nn.Module, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Load public weights of a ResNet into the encoder of a network.

    Parameters
    ----------
    network : torch.nn.Module
        A network with a `ResNet` encoder, or the encoder itself; of width 1 for the weights that are public. For one
        channel the first convolution takes the sum over the colours, which is what a grey image gives as red, green and
        blue. Weights are trained for images that were normalised as their source says.
    path : path
        A safetensors file in the public layout, of the same backbone: ``conv1.weight``, ``bn1.weight``,
        ``layer1.0.conv1.weight``, ...; its classifier (``fc``) is left out.

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
        When the network has no ResNet encoder.
    """
    encoder = find_encoder(network, ResNet, "ResNet")
    tensors = {_public_name(name): tensor for name, tensor in encoder.state_dict().items()}
    return load_public_weights(path, tensors, layout="a ResNet of its own backbone", classifier="fc.")


def _public_name(name: str) -> str:
    # A convolution and its batch norm are one Sequential here: conv1.0 and conv1.1 are public as conv1 and bn1.
    return re.sub(r"conv(\d)\.1\.", r"bn\1.", re.sub(r"conv(\d)\.0\.", r"conv\1.", name))
