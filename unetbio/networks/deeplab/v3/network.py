"""DeepLab v3: a dilated ResNet with multi-grid, and atrous spatial pyramid pooling with batch norm.

Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution for Semantic Image Segmentation. arXiv 1706.05587
(sections 3.2.1 and 3.3; figure 5).
"""

from torch import Tensor

from unetbio.networks import blocks
from unetbio.networks.deeplab.pyramid import PyramidNetwork
from unetbio.networks.deeplab.v3.spec import DeepLabV3Parameters

__all__ = ["DeepLabV3"]


class DeepLabV3(PyramidNetwork):
    """DeepLab v3.

    Parameters
    ----------
    parameters : DeepLabV3Parameters
        Described in that class.
    """

    def __init__(self, parameters: DeepLabV3Parameters) -> None:
        super().__init__(parameters)
        self.head = blocks.pointwise(self.maps, parameters.num_classes, parameters.ndim)
        blocks.initialise_he(self.context)
        blocks.initialise_he(self.head)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image: ``(N, C, H, W) -> (N, K, H, W)``.

        Raises
        ------
        GeometryError
            When the spatial size is not legal.
        UsageError
            In training with image pooling, when the batch has one image.
        """
        self.geometry.check(image.shape[2:])
        logits = self.head(self.context(self.encoder(image)))
        return blocks.interpolate(logits, (self.encoder.output_stride,) * 2)
