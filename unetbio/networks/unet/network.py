"""U-Net: an encoder, a decoder, and skips that are cropped and concatenated.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015,
arXiv 1505.04597 (2-D: section 2 and figure 1; channels double after pooling, the up-convolution halves them).
Cicek, Abdulkadir, Lienkamp, Brox, Ronneberger: 3D U-Net. MICCAI 2016, arXiv 1606.06650 (batch norm before each ReLU;
channels double before pooling, the up-convolution keeps them).
"""

from torch import Tensor, nn

from unetbio.networks import blocks
from unetbio.networks.unet.spec import UNetParameters

__all__ = ["UNet"]


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

        def double_convolution(incoming: int, between: int, outgoing: int, level: int) -> nn.Sequential:
            return nn.Sequential(
                blocks.convolution(incoming, between, kernels[level], batch_norm=batch_norm, padding=padding),
                blocks.convolution(between, outgoing, kernels[level], batch_norm=batch_norm, padding=padding),
            )

        self.geometry = parameters.geometry
        self.needs_float64 = upsampling == "max_unpooling"
        self.factors = factors
        self.skip = skip
        self.encoder = nn.ModuleList(
            double_convolution(wide[level - 1] if level else in_channels, channels[level], wide[level], level)
            for level in range(depth)
        )
        narrow = wide[depth - 1] if depth else in_channels
        self.bottleneck = double_convolution(narrow, channels[depth], wide[depth], depth)
        # Without dropout the layer would still draw a random number for each value of the deepest maps.
        self.dropout = nn.Dropout(parameters.dropout) if parameters.dropout else nn.Identity()
        self.upsamplers = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(depth)):
            # 2-D paper: the up-convolution halves the channels; 3-D paper: it keeps them.
            upsampled = wide[level + 1] if doubles_before else wide[level]
            if upsampling == "max_unpooling" or skip == "sum":
                upsampled = wide[level]
            joined = wide[level] + upsampled if skip == "concatenate" else upsampled
            self.upsamplers.append(_Upsampler(wide[level + 1], upsampled, factors[level], upsampling))
            self.decoder.append(double_convolution(joined, wide[level], wide[level], level))
        self.head = blocks.pointwise(wide[0], parameters.num_classes, parameters.ndim)
        blocks.initialise_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, *spatial) -> (N, K, *output)``.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        """
        self.geometry.check(image.shape[2:])
        features, skips = image, []
        for level, (convolutions, factor) in enumerate(zip(self.encoder, self.factors, strict=True)):
            features = convolutions(features)
            if level == len(self.factors) - 1:
                features = self.dropout(features)
            skips.append(features)
            features = blocks.max_pool(features, factor)
        features = self.dropout(self.bottleneck(features))
        for upsampler, convolutions in zip(self.upsamplers, self.decoder, strict=True):
            skip = skips.pop()
            features = convolutions(self._join(skip, upsampler(features, skip)))
        logits: Tensor = self.head(features)
        return logits

    def _join(self, skip: Tensor, features: Tensor) -> Tensor:
        if self.skip == "concatenate":
            return blocks.concatenate(skip, features)
        return features if self.skip == "none" else features + blocks.crop(skip, features.shape[2:])


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

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        features = self.weights(features)
        if self.upsampling == "transposed":
            return features
        if self.upsampling == "max_unpooling":
            return blocks.max_unpool(features, skip, self.factor)
        spread = {"nearest": blocks.nearest, "bilinear": blocks.bilinear, "bed_of_nails": blocks.bed_of_nails}
        return spread[self.upsampling](features, self.factor)
