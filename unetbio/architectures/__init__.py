"""The registry of networks: name, parameters, geometry, paper and import path, without importing torch.

A new architecture is one file here, which registers it, and one in ``unetbio/networks``, which builds it.
"""

from unetbio.architectures import full_resolution_fcn as full_resolution_fcn
from unetbio.architectures import patch_classifier as patch_classifier
from unetbio.architectures import unet as unet
from unetbio.architectures.registry import Architecture, Published, find, names, register

__all__ = ["Architecture", "Published", "find", "names", "register"]
