import pytest

from unetbio import architectures
from unetbio.errors import UsageError
from unetbio.geometry import Geometry


def make(name: str) -> architectures.Architecture:
    return architectures.Architecture(
        name=name,
        summary="",
        paper="",
        import_path="collections:OrderedDict",
        defaults={"width": 1.0},
        geometry=lambda parameters: Geometry((0,), (1,), (1,)),
        exact=lambda parameters: True,
    )


def test_unknown_name_lists_the_names_there_are() -> None:
    with pytest.raises(UsageError, match=r"no network named 'unett'; there are: .*unet"):
        architectures.find("unett")


def test_registering_a_name_twice_raises() -> None:
    with pytest.raises(ValueError, match="'unet' is registered already"):
        architectures.register(make("unet"))


def test_unknown_parameter_lists_the_parameters_there_are() -> None:
    with pytest.raises(UsageError, match=r"unet has no parameter dpeth; it has .*depth"):
        architectures.find("unet").complete({"dpeth": 3})


def test_complete_keeps_what_is_given_and_fills_in_the_rest() -> None:
    complete = architectures.find("unet").complete({"depth": 2})
    assert complete["depth"] == 2
    assert complete["base_channels"] == 64
    assert architectures.find("unet").defaults["depth"] == 4


def test_load_imports_the_class() -> None:
    assert make("other").load().__name__ == "OrderedDict"
