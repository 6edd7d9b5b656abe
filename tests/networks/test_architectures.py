import re

import pytest

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.geometry import Geometry


def make(name: str) -> networks.Architecture:
    return networks.Architecture(
        name=name,
        summary="",
        paper="",
        import_path="collections:OrderedDict",
        defaults={"width": 1.0},
        check=lambda parameters: None,
        geometry=lambda parameters: Geometry((0,), (1,), (1,)),
        exact=lambda parameters: True,
        path=lambda parameters: (),
    )


def test_unknown_name_lists_the_names_there_are() -> None:
    with pytest.raises(UsageError, match=r"no network named 'unett'; there are: .*unet"):
        networks.find("unett")


def test_registering_a_name_twice_raises() -> None:
    with pytest.raises(ValueError, match="'unet' is registered already"):
        networks.register(make("unet"))


def test_unknown_parameter_lists_the_parameters_there_are() -> None:
    with pytest.raises(UsageError, match=r"unet has no parameter dpeth; it has .*depth"):
        networks.find("unet").complete({"dpeth": 3})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"depth": "three"}, "depth is 'three'; it must be a whole number from 0"),
        ({"base_channels": 0}, "base_channels is 0; it must be a whole number from 1"),
        ({"depth": 2.0}, "depth is 2.0"),
        ({"ndim": 4}, "ndim is 4; it must be one of 2, 3"),
        ({"doubling": "sideways"}, "doubling is 'sideways'; it must be one of after_pooling, before_pooling"),
        ({"padding": "reflect"}, "padding is 'reflect'"),
        ({"upsampling": "magic"}, "upsampling is 'magic'; it must be one of transposed, nearest"),
        ({"dropout": 7}, "dropout is 7; it must be a number from 0 to below 1"),
        ({"kernel_sizes": [[3, 3]]}, "kernel_sizes needs 5 entries of 2 whole numbers"),
        ({"poolings": [2, 2, 2, 2]}, "poolings needs 4 entries of 2 whole numbers"),
        ({"kernel_sizes": [[2, 2]] * 5}, "kernel_sizes must be odd"),
        ({"padding": "same", "upsampling": "bilinear"}, "padding 'same' does not allow"),
    ],
)
def test_values_that_a_unet_cannot_have_are_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        networks.find("unet").complete(parameters)


def test_complete_keeps_what_is_given_and_fills_in_the_rest() -> None:
    complete = networks.find("unet").complete({"depth": 2})
    assert complete["depth"] == 2
    assert complete["base_channels"] == 64
    assert networks.find("unet").defaults["depth"] == 4


def test_load_imports_the_class() -> None:
    assert make("other").load().__name__ == "OrderedDict"
