"""Fully convolutional networks: VGG-16, its scores upsampled, with scores of earlier layers summed in.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation. CVPR 2015, arXiv 1411.4038
(section 4 and figure 3).

The paper pads the image by 100 pixels, so that fc6 fits, and crops the scores by offsets that differ from skip to skip.
Here fc6 pads by 3 and the transposed convolutions crop half a stride a side, so that for sizes that are multiples of 32
all maps lie above one another without cropping, and the output has the size of the input.
"""

from torch import Tensor, nn

from unetbio.networks import blocks
from unetbio.networks.encoders.vgg.network import VGG16, FullyConnected
from unetbio.networks.fcn.spec import FCN32sParameters

__all__ = ["FCN"]


class FCN(nn.Module):
    """VGG-16 with fc6 and fc7 as convolutions; its scores, and those of earlier layers, are upsampled and summed.

    Parameters
    ----------
    parameters : FCN32sParameters
        Described in that class.

    Notes
    -----
    All upsampling is by transposed convolutions that start as bilinear interpolation. As in the paper (section 4.3) the
    last one stays that; those between skips are learned.
    """

    def __init__(self, parameters: FCN32sParameters) -> None:
        super().__init__()
        self.geometry = parameters.geometry
        self.encoder = VGG16(parameters.in_channels, parameters.width, batch_norm=parameters.batch_norm)
        channels = self.encoder.channels
        wide, num_classes = blocks.scaled(4096, parameters.width), parameters.num_classes
        self.fully_connected = FullyConnected(
            channels[-1], wide, 7, batch_norm=parameters.batch_norm, dropout=parameters.dropout
        )
        self.score = blocks.pointwise(wide, num_classes, parameters.ndim)
        # pool4, then pool3
        self.skip_scores = nn.ModuleList(
            blocks.pointwise(channels[stage], num_classes, parameters.ndim) for stage in (3, 2)[: parameters.skips]
        )
        self.doublings = nn.ModuleList(
            blocks.transposed_convolution(num_classes, num_classes, (2, 2), kernel_size=(4, 4), padding=1, bias=False)
            for _ in range(parameters.skips)
        )
        factor = 32 // 2**parameters.skips
        self.upsampling = blocks.transposed_convolution(
            num_classes,
            num_classes,
            (factor, factor),
            kernel_size=(2 * factor, 2 * factor),
            padding=factor // 2,
            groups=num_classes,
            bias=False,
        )
        blocks.initialise_he(self)
        for layer in (*self.doublings, self.upsampling):
            blocks.initialise_bilinear(layer)
        blocks.freeze(self.upsampling)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, H, W) -> (N, K, H, W)``.

        Raises
        ------
        GeometryError
            When the spatial size is not a multiple of 32.
        """
        self.geometry.check(image.shape[2:])
        pooled = self.encoder(image)
        # (N, K, H / 32, W / 32)
        scores: Tensor = self.score(self.fully_connected(pooled.pop()))
        for doubling, skip_score in zip(self.doublings, self.skip_scores, strict=True):
            # Twice the size each: H / 16, H / 8
            scores = doubling(scores) + skip_score(pooled.pop())
        logits: Tensor = self.upsampling(scores)
        return logits
