"""The sliding window: a network that classifies a patch says what the pixel in its middle is.

Ciresan, Giusti, Gambardella, Schmidhuber: Deep Neural Networks Segment Neuronal Membranes in Electron Microscopy
Images. NIPS 2012, pages 2843-2851 (network N4, table 1). The same answer without computing for each patch what its
neighbours have computed already: Giusti et al. 2013, arXiv 1302.1700; here by dilation, as in Li, Zhao, Wang 2014,
arXiv 1412.4526.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unetbio.networks import blocks
from unetbio.networks.patch_classifier.spec import KERNELS, WINDOW, PatchClassifierParameters

__all__ = ["PatchClassifier"]

MAPS = 48
HIDDEN = 200


class PatchClassifier(nn.Module):
    """Network N4: four convolutions, each with max pooling, and two fully connected layers, over a 95 x 95 patch.

    `forward` and `classify_patches` give the same result.

    The even kernels and windows put the pixel that a patch decides at its middle, 47 pixels from each side. The
    activation is ReLU, and weights are drawn as He et al. do, so that the network trains from scratch as the others do:
    the table names no activation; ZNN's version of N4 has the scaled hyperbolic tangent ``1.7159 tanh(2 x / 3)``.

    Parameters
    ----------
    parameters : PatchClassifierParameters
        Described in that class.
    """

    def __init__(self, parameters: PatchClassifierParameters) -> None:
        super().__init__()
        self.geometry = parameters.geometry
        maps, hidden = blocks.scaled(MAPS, parameters.width), blocks.scaled(HIDDEN, parameters.width)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(maps if level else parameters.in_channels, maps, kernel, dilation=2**level)
            for level, kernel in enumerate(KERNELS)
        )
        # A fully connected layer over all that is left of a patch is a convolution of that size.
        self.hidden = nn.Conv2d(maps, hidden, WINDOW, dilation=2 ** len(KERNELS))
        self.head = blocks.pointwise(hidden, parameters.num_classes, parameters.ndim)
        blocks.initialise_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of all pixels at once: ``(N, C, H, W) -> (N, K, H - 94, W - 94)``.

        A pooling with stride 2 keeps every second of the values that a pooling with stride 1 gives. To have them for
        all patches, each pooling has stride 1, and what comes after it takes every second value: it is dilated twice
        as much.

        Raises
        ------
        GeometryError
            When the image is smaller than a patch.
        """
        self.geometry.check(image.shape[2:])
        features = image
        for level, layer in enumerate(self.convolutions):
            features = functional.max_pool2d(layer(features), 2, stride=1, dilation=2**level).relu_()
        logits: Tensor = self.head(self.hidden(features).relu_())
        return logits

    def classify_patches(self, image: Tensor, *, batch_size: int = 64) -> Tensor:
        """Result of `forward`, computed patch by patch, to show the cost of the sliding window.

        Parameters
        ----------
        image : torch.Tensor
            ``(N, C, H, W)``.
        batch_size : int
            Patches that are classified at a time.

        Returns
        -------
        torch.Tensor
            ``(N, K, H - 94, W - 94)``.

        Raises
        ------
        GeometryError
            When the image is smaller than a patch.
        """
        self.geometry.check(image.shape[2:])
        side = self.geometry.minimum[0]
        # (N, C, H', W', side, side), a view; then one row a patch, copied batch by batch
        windows = image.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5)
        count, rows, columns = windows.shape[:3]
        places = torch.cartesian_prod(*map(torch.arange, (count, rows, columns)))
        logits = [self._classify(windows[tuple(batch.T)]) for batch in torch.split(places, batch_size)]
        # (N * H' * W', K) -> (N, K, H', W')
        return torch.cat(logits).reshape(count, rows, columns, -1).permute(0, 3, 1, 2)

    def _classify(self, patches: Tensor) -> Tensor:
        # (B, C, 95, 95) -> (B, K): the weights of `forward`, without dilation
        features = patches
        convolutions: Any = self.convolutions
        for layer in convolutions:
            features = functional.max_pool2d(functional.conv2d(features, layer.weight, layer.bias), 2).relu_()
        hidden = functional.linear(features.flatten(1), self.hidden.weight.flatten(1), self.hidden.bias).relu_()
        logits: Tensor = self.head(hidden[:, :, None, None]).flatten(1)
        return logits
