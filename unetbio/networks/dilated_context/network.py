"""Multi-scale context aggregation: a front end without padding, and a module of ever more dilated convolutions.

Yu, Koltun: Multi-Scale Context Aggregation by Dilated Convolutions. ICLR 2016, arXiv 1511.07122 (context module:
section 3, table 1, equations 4 and 5; front end: section 4).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from unetbio.networks import blocks
from unetbio.networks.dilated_context.spec import CONTEXT_MODULES, CONTEXT_RATES, POOLINGS, DilatedContextParameters
from unetbio.networks.encoders.vgg.network import VGG16, FullyConnected

__all__ = ["ContextModule", "DilatedContext"]

SCORE_DEVIATION = 0.01
"""Standard deviation of the weights of the scores that a context module gets, at the start."""

NOISE = 0.01
"""Standard deviation of the weights that are not part of the identity, as a part of those that are (equation 5)."""


class DilatedContext(nn.Module):
    """VGG-16 without its last two poolings and without padding, then the context module, then interpolation by 8.

    The image is to be mirrored by the context of the geometry: 186 pixels a side that convolutions lose, as in the
    paper, and the 4 outermost pixels of the interpolation, whose neighbours are missing.

    Parameters
    ----------
    parameters : DilatedContextParameters
        Described in that class.
    """

    def __init__(self, parameters: DilatedContextParameters) -> None:
        super().__init__()
        conv5, fc6 = parameters.front_end_rates
        batch_norm, num_classes = parameters.batch_norm, parameters.num_classes
        self.geometry = parameters.geometry
        self.encoder = VGG16(
            parameters.in_channels,
            parameters.width,
            batch_norm=batch_norm,
            poolings=POOLINGS,
            dilation=conv5,
            padding=False,
        )
        wide = blocks.scaled(4096, parameters.width)
        self.fully_connected = FullyConnected(
            self.encoder.channels[-1],
            wide,
            7,
            dilation=fc6,
            padding=False,
            batch_norm=batch_norm,
            dropout=parameters.dropout,
        )
        self.score = blocks.pointwise(wide, num_classes, parameters.ndim)
        blocks.initialise_he(self)
        self.context: nn.Module = nn.Identity()
        if parameters.context != "none":
            self.context = ContextModule(num_classes, parameters.context, parameters.dilation)
            _start_positive(self.score)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, H, W) -> (N, K, H - 380, W - 380)`` with the paper's dilations.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        """
        self.geometry.check(image.shape[2:])
        # (N, K, n, m) with n = (H - 372) / 8
        scores = self.context(self.score(self.fully_connected(self.encoder(image)[-1])))
        # (N, K, 8 n, 8 m), and without the rim, which would interpolate towards neighbours that are not there
        return blocks.crop(blocks.interpolate(scores, (8, 8)), self.geometry.output_size(image.shape[2:]))


class ContextModule(nn.Module):
    """Seven padded 3 x 3 convolutions of growing dilation, each with ReLU, and a 1 x 1 convolution.

    It starts as the identity (for input that is not negative), and sees 67 x 67 pixels.

    Parameters
    ----------
    channels : int
        Feature maps before and after: the number of classes.
    kind : {"basic", "large"}
        ``"basic"`` has as many maps everywhere, ``"large"`` up to 32 times as many.
    largest_dilation : int
        No rate is larger than this.
    """

    def __init__(self, channels: int, kind: str, largest_dilation: int = 16) -> None:
        super().__init__()
        counts = [channels, *(channels * times for times in CONTEXT_MODULES[kind])]
        rates = [min(rate, largest_dilation) for rate in CONTEXT_RATES]
        layers = [
            nn.Conv2d(incoming, outgoing, 3, padding=rate, dilation=rate)
            for incoming, outgoing, rate in zip(counts, counts[1:], rates, strict=False)
        ]
        layers.append(nn.Conv2d(counts[-2], counts[-1], 1))
        for layer in layers:
            _initialise_identity(layer, channels)
        self.layers = nn.ModuleList(layers)

    def forward(self, scores: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        *dilated, last = self.layers
        for layer in dilated:
            scores = functional.relu(layer(scores))
        result: Tensor = last(scores)
        return result


def _start_positive(score: nn.Module) -> None:
    # The module is the identity for what is not negative. Scores that start on both sides of 0 lose a part to its first
    # ReLU, and with two classes all of it sooner or later: the network then answers the same everywhere, for good. The
    # paper adds the module to a front end that has been trained, whose scores are well above 0 where they matter.
    for name, values in score.named_parameters():
        if name == "bias":
            nn.init.ones_(values)
        else:
            nn.init.normal_(values, std=SCORE_DEVIATION)


def _initialise_identity(layer: nn.Conv2d, classes: int) -> None:
    # Equation 5: of c_i maps before and c_(i+1) after, a and b belong to the same of C classes if
    # floor(a C / c_i) = floor(b C / c_(i+1)). Maps after share the sum of those before: C / c_(i+1) each.
    # Equation 4 is the case in which there is one map a class, without noise.
    share = classes / layer.out_channels
    before = torch.arange(layer.in_channels) * classes // layer.in_channels
    after = torch.arange(layer.out_channels) * classes // layer.out_channels
    middle = layer.kernel_size[0] // 2
    one_map_a_class = layer.in_channels == layer.out_channels == classes
    with torch.no_grad():
        layer.weight.normal_(std=0.0 if one_map_a_class else NOISE * share)
        layer.weight[:, :, middle, middle].masked_fill_(after[:, None] == before, share)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
