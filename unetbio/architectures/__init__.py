"""The registry of networks: name, parameters, geometry, paper and import path, without importing torch.

A new architecture is one file here, which registers it, and one in ``unetbio/networks``, which builds it.
"""

from unetbio.architectures import deconvnet as deconvnet
from unetbio.architectures import deeplab_v1 as deeplab_v1
from unetbio.architectures import deeplab_v2 as deeplab_v2
from unetbio.architectures import deeplab_v3 as deeplab_v3
from unetbio.architectures import deeplab_v3plus as deeplab_v3plus
from unetbio.architectures import dilated_context as dilated_context
from unetbio.architectures import fcn as fcn
from unetbio.architectures import full_resolution_fcn as full_resolution_fcn
from unetbio.architectures import mask_rcnn as mask_rcnn
from unetbio.architectures import patch_classifier as patch_classifier
from unetbio.architectures import pspnet as pspnet
from unetbio.architectures import segnet as segnet
from unetbio.architectures import unet as unet
from unetbio.architectures.registry import Architecture, Published, find, names, register

__all__ = ["Architecture", "Published", "find", "names", "register"]
