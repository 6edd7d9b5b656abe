"""U-Net: an encoder, a decoder, and skips that are cropped and concatenated.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015,
arXiv 1505.04597 (2-D: section 2 and figure 1; channels double after pooling, the up-convolution halves them).
Cicek, Abdulkadir, Lienkamp, Brox, Ronneberger: 3D U-Net. MICCAI 2016, arXiv 1606.06650 (batch norm before each ReLU;
channels double before pooling, the up-convolution keeps them).
Oktay et al.: Attention U-Net. MIDL 2018, arXiv 1804.03999 (section 2.2: additive attention gates).
Zhang, Liu, Wang: Road Extraction by Deep Residual U-Net. arXiv 1711.10684 (residual units).
Isensee et al.: nnU-Net. Nature Methods 18, 2021 (deep supervision: the share of a level is half of that above).
"""

from itertools import accumulate
from operator import mul

from torch import Tensor, nn
from torch.nn import functional

from unetbio.networks import blocks
from unetbio.networks.encoders.resnet.network import ResNet
from unetbio.networks.unet.spec import OWN, RESNET_CHANNELS, RESNET_DEPTH, UNetParameters

__all__ = ["UNet", "build"]


def build(parameters: UNetParameters) -> nn.Module:
    """Build a U-Net of floating-point numbers, or of integers."""
    if parameters.arithmetic == "int8":
        from unetbio.networks.unet.integers import IntegerUNet

        return IntegerUNet(parameters)
    return UNet(parameters)


class UNet(nn.Module):
    """U-Net, in 2-D or 3-D.

    The defaults of the registered architecture are the paper's network: 23 convolutions, 64 to 1024 channels, 572 ->
    388.

    Parameters
    ----------
    parameters : UNetParameters
        Described in that class.
    """

    def __init__(self, parameters: UNetParameters) -> None:
        super().__init__()
        depth, batch_norm, padding = parameters.depth, parameters.batch_norm, parameters.padding == "same"
        in_channels, upsampling, skip = parameters.in_channels, parameters.upsampling, parameters.skip
        kernels, factors = parameters.kernels, parameters.factors
        channels = [parameters.base_channels * 2**level for level in range(depth + 1)]
        # Channels that leave each level: the 3-D paper doubles before pooling, so its skips are twice as wide.
        doubles_before = parameters.doubling == "before_pooling"
        wide = [2 * count for count in channels] if doubles_before else channels
        width = parameters.base_channels / RESNET_CHANNELS

        def double_convolution(incoming: int, between: int, outgoing: int, level: int) -> nn.Module:
            first, second = (
                blocks.convolution(before, after, kernels[level], batch_norm=batch_norm, padding=padding)
                for before, after in ((incoming, between), (between, outgoing))
            )
            if parameters.residual:
                return _ResidualUnit(first, second, incoming, outgoing, parameters.ndim)
            return nn.Sequential(first, second)

        self.resnet = _resnet(parameters)
        # Channels of the skip of each level; the image itself is no skip of a ResNet.
        skipped = wide
        if self.resnet is not None:
            skipped = [0, blocks.scaled(RESNET_CHANNELS, width), *self.resnet.channels[:-1]]
            wide = [*(blocks.scaled(16 * 2**level, width) for level in range(depth)), self.resnet.channels[-1]]
        self.geometry = parameters.geometry
        self.needs_float64 = upsampling == "max_unpooling"
        self.factors = factors
        self.skip = skip
        self.encoder = nn.ModuleList()
        self.bottleneck: nn.Module = nn.Identity()
        if self.resnet is None:
            self.encoder.extend(
                double_convolution(wide[level - 1] if level else in_channels, channels[level], wide[level], level)
                for level in range(depth)
            )
            narrow = wide[depth - 1] if depth else in_channels
            self.bottleneck = double_convolution(narrow, channels[depth], wide[depth], depth)
        # Without dropout the layer would still draw a random number for each value of the deepest maps.
        self.dropout = nn.Dropout(parameters.dropout) if parameters.dropout else nn.Identity()
        self.upsamplers = nn.ModuleList()
        self.decoder = nn.ModuleList()
        self.gates = nn.ModuleList()
        for level in reversed(range(depth)):
            # 2-D paper: the up-convolution halves the channels; 3-D paper: it keeps them.
            upsampled = wide[level + 1] if doubles_before else wide[level]
            if upsampling == "max_unpooling" or skip == "sum":
                upsampled = wide[level]
            joined = skipped[level] + upsampled if skip == "concatenate" else upsampled
            self.upsamplers.append(_Upsampler(wide[level + 1], upsampled, factors[level], upsampling))
            self.decoder.append(double_convolution(joined, wide[level], wide[level], level))
            if parameters.attention and skipped[level]:
                self.gates.append(_AttentionGate(skipped[level], upsampled, parameters.ndim))
        self.head = blocks.pointwise(wide[0], parameters.num_classes, parameters.ndim)
        # From the level above the bottleneck to that below the head, as the decoder runs.
        deep = range(depth - 1, 0, -1) if parameters.deep_supervision else ()
        self.deep_heads = nn.ModuleList(
            blocks.pointwise(wide[level], parameters.num_classes, parameters.ndim) for level in deep
        )
        blocks.initialise_he(self)
        if self.resnet is not None:
            self.resnet.initialise()

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, *spatial) -> (N, K, *output)``.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        """
        logits: Tensor = self.head(self._decode(image)[0])
        return logits

    def training_logits(self, image: Tensor) -> list[tuple[Tensor, float]]:
        """Logits with their share of the loss; with deep supervision those of lower levels too, at the output's size.

        For training mode.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        """
        features, deep = self._decode(image)
        logits: Tensor = self.head(features)
        levels = range(len(self.deep_heads), 0, -1)
        scales = [list(accumulate(sizes, mul)) for sizes in zip(*self.factors, strict=True)]
        lower = [
            blocks.crop(blocks.nearest(head(maps), [along[level - 1] for along in scales]), logits.shape[2:])
            for level, head, maps in zip(levels, self.deep_heads, deep, strict=True)
        ]
        shares = [0.5**level for level in levels]
        total = 1 + sum(shares)
        return [(logits, 1 / total), *((one, share / total) for one, share in zip(lower, shares, strict=True))]

    def _decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features of full resolution, and in training those of the decoder's levels that have heads."""
        self.geometry.check(image.shape[2:])
        features, skips = self._contract(image)
        deep = []
        for number, (upsampler, convolutions) in enumerate(zip(self.upsamplers, self.decoder, strict=True)):
            if self.training and self.deep_heads and number:
                deep.append(features)
            skip = skips.pop() if skips else None
            features = convolutions(self._join(skip, upsampler(features, skip), number))
        return features, deep

    def _contract(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features of the bottleneck, and the skips, that of the highest resolution first."""
        if self.resnet is not None:
            skips = [self.resnet.halved(image)]
            features = functional.max_pool2d(skips[0], 3, stride=2, padding=1)
            for stage in (self.resnet.layer1, self.resnet.layer2, self.resnet.layer3):
                features = stage(features)
                skips.append(features)
            return self.dropout(self.resnet.layer4(features)), skips
        features, skips = image, []
        for level, (convolutions, factor) in enumerate(zip(self.encoder, self.factors, strict=True)):
            features = convolutions(features)
            if level == len(self.factors) - 1:
                features = self.dropout(features)
            skips.append(features)
            features = blocks.max_pool(features, factor)
        return self.dropout(self.bottleneck(features)), skips

    def _join(self, skip: Tensor | None, features: Tensor, number: int) -> Tensor:
        if skip is None:
            return features
        if self.gates:
            skip = self.gates[number](blocks.crop(skip, features.shape[2:]), features)
        if self.skip == "concatenate":
            return blocks.concatenate(skip, features)
        return features if self.skip == "none" else features + blocks.crop(skip, features.shape[2:])


def _resnet(parameters: UNetParameters) -> ResNet | None:
    if parameters.encoder == OWN:
        return None
    width = parameters.base_channels / RESNET_CHANNELS
    return ResNet(parameters.in_channels, backbone=parameters.encoder, output_stride=2**RESNET_DEPTH, width=width)


class _ResidualUnit(nn.Module):
    """Two convolutions beside a shortcut, which is cropped by what they lose."""

    def __init__(
        self, first: nn.Sequential, second: nn.Sequential, in_channels: int, out_channels: int, ndim: int
    ) -> None:
        super().__init__()
        self.first = first
        # The last ReLU comes after the sum.
        self.second = second[:-1]
        is_same = in_channels == out_channels
        self.shortcut = nn.Identity() if is_same else blocks.pointwise(in_channels, out_channels, ndim)

    def forward(self, features: Tensor) -> Tensor:
        residual: Tensor = self.second(self.first(features))
        return functional.relu(residual + blocks.crop(self.shortcut(features), residual.shape[2:]))


class _AttentionGate(nn.Module):
    """Additive attention: ``skip * sigmoid(psi(relu(of_skip(skip) + of_gate(gate))))``, equations 1 and 2 of the paper.

    The paper computes the coefficients at the size of the gate and interpolates them; here the gate is upsampled
    already, so that they depend on no neighbours.
    """

    def __init__(self, skip_channels: int, gate_channels: int, ndim: int) -> None:
        super().__init__()
        between = max(1, skip_channels // 2)
        self.of_skip = blocks.pointwise(skip_channels, between, ndim)
        self.of_gate = blocks.pointwise(gate_channels, between, ndim)
        self.psi = blocks.pointwise(between, 1, ndim)

    def forward(self, skip: Tensor, gate: Tensor) -> Tensor:
        coefficients: Tensor = self.psi(functional.relu(self.of_skip(skip) + self.of_gate(gate))).sigmoid()
        return skip * coefficients


class _Upsampler(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, factor: tuple[int, ...], upsampling: str) -> None:
        super().__init__()
        self.factor = factor
        self.upsampling = upsampling
        self.weights = (
            blocks.transposed_convolution(in_channels, out_channels, factor)
            if upsampling == "transposed"
            else blocks.pointwise(in_channels, out_channels, len(factor))
        )

    def forward(self, features: Tensor, skip: Tensor | None) -> Tensor:
        features = self.weights(features)
        if self.upsampling == "transposed":
            return features
        if self.upsampling == "max_unpooling" and skip is not None:
            return blocks.max_unpool(features, skip, self.factor)
        spread = {"nearest": blocks.nearest, "bilinear": blocks.bilinear, "bed_of_nails": blocks.bed_of_nails}
        return spread[self.upsampling](features, self.factor)
