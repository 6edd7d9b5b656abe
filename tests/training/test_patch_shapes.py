"""Sizes of training patches that a network can take."""

import pytest

from unetbio import networks
from unetbio.errors import UnetbioError
from unetbio.geometry import unet_geometry
from unetbio.training.data.patch_shapes import patch_shape


def test_patch_shape_is_the_smallest_legal_one_that_covers_the_request() -> None:
    geometry = unet_geometry([(3, 3)] * 4, [(2, 2)] * 3)
    assert patch_shape(geometry, 252) == (252, 252)
    assert patch_shape(geometry, 253) == (260, 260)
    assert patch_shape(geometry, 1) == geometry.minimum
    assert patch_shape(geometry, (220, 252)) == (220, 252)
    assert patch_shape(geometry, None) == (252, 252)
    with pytest.raises(UnetbioError, match=r"patch_size .* has 3 numbers, the images have 2 axes"):
        patch_shape(geometry, (92, 92, 92))


def test_a_patch_is_large_enough_for_an_answer_of_half_of_it() -> None:
    parameters = networks.find("dilated_context").complete({})
    geometry = networks.find("dilated_context").geometry(parameters)
    (size, _) = patch_shape(geometry, 256)
    assert 128 <= geometry.output_size((size, size))[0] < 128 + geometry.stride[0]
