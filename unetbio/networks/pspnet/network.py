"""PSPNet: a dilated ResNet and pyramid pooling.

Zhao, Shi, Qi, Wang, Jia: Pyramid Scene Parsing Network. CVPR 2017, arXiv 1612.01105 (section 3.2 and figure 3; the
auxiliary loss of section 3.3 and figure 4).
"""

from torch import Tensor, nn

from unetbio.networks import blocks
from unetbio.networks.encoders.resnet.network import ResNet
from unetbio.networks.pspnet.spec import AUXILIARY_SHARE, BINS, PSPNetParameters
from unetbio.networks.scale_context import PyramidPooling

__all__ = ["PSPNet"]

DROPOUT = 0.1


class PSPNet(nn.Module):
    """PSPNet.

    Its pooling covers the whole input, so that every output depends on all of it, and it cannot be trained on batches
    of one image.

    Parameters
    ----------
    parameters : PSPNetParameters
        Described in that class.
    """

    def __init__(self, parameters: PSPNetParameters) -> None:
        super().__init__()
        self.geometry = parameters.geometry
        width, num_classes = parameters.width, parameters.num_classes
        self.encoder = ResNet(
            parameters.in_channels, backbone=parameters.backbone, output_stride=parameters.stride, width=width
        )
        third, fourth = self.encoder.channels[2:]
        self.context = PyramidPooling(fourth, BINS)
        self.head = _head(self.context.out_channels, blocks.scaled(512, width), num_classes)
        self.auxiliary_head = _head(third, blocks.scaled(256, width), num_classes)
        for part in (self.context, self.head, self.auxiliary_head):
            blocks.initialise_he(part)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, H, W) -> (N, K, H, W)``.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        UsageError
            In training, when the batch has one image.
        """
        return self._logits(image, self._third_stage(image))

    def training_logits(self, image: Tensor) -> list[tuple[Tensor, float]]:
        """Logits to train on, and their shares of the loss: those of the network, and others from the third stage.

        Raises
        ------
        GeometryError, UsageError
            As `forward`.
        """
        features = self._third_stage(image)
        auxiliary = _resized(self.auxiliary_head(features), image)
        return [(self._logits(image, features), 1.0), (auxiliary, AUXILIARY_SHARE)]

    def _third_stage(self, image: Tensor) -> Tensor:
        self.geometry.check(image.shape[2:])
        encoder = self.encoder
        features: Tensor = encoder.layer3(encoder.layer2(encoder.layer1(encoder.stem(image))))
        return features

    def _logits(self, image: Tensor, features: Tensor) -> Tensor:
        return _resized(self.head(self.context(self.encoder.layer4(features))), image)


def _head(in_channels: int, channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        blocks.normalised_convolution(in_channels, channels, 3),
        nn.Dropout(DROPOUT),
        blocks.pointwise(channels, num_classes, 2),
    )


def _resized(logits: Tensor, image: Tensor) -> Tensor:
    factor = image.shape[-1] // logits.shape[-1]
    return blocks.interpolate(logits, (factor, factor))
