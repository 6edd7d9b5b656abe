"""Images and label images of every supported format, and which files to work on."""

from unetbio.io.discover import Found, find_inputs, output_names
from unetbio.io.image import Image, select_channel
from unetbio.io.labels import read_labels, write_labels, write_probabilities
from unetbio.io.mask_names import stem
from unetbio.io.pairing.pairs import Pairing, pair
from unetbio.io.read import read_image
from unetbio.io.write import write_image

__all__ = [
    "Found",
    "Image",
    "Pairing",
    "find_inputs",
    "output_names",
    "pair",
    "read_image",
    "read_labels",
    "select_channel",
    "stem",
    "write_image",
    "write_labels",
    "write_probabilities",
]
