import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.networks.parameters import PlanarParameters, described


def make(name: str) -> networks.Architecture:
    return networks.Architecture(
        name=name,
        summary="",
        paper="",
        import_path="collections:OrderedDict",
        parameters=PlanarParameters,
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
        ({"poolings": [2, 2, 2, 2]}, "poolings is [2, 2, 2, 2]; it must be a list a level, of whole numbers"),
        ({"kernel_sizes": [[2, 2]] * 5}, "kernel_sizes must be odd"),
        ({"kernel_sizes": 3}, "kernel_sizes is 3; it must be a list a level, of whole numbers from 1 to 63 each"),
        ({"poolings": [[0, 0]] * 4}, "unet: poolings is [[0, 0], [0, 0], [0, 0], [0, 0]]; it must be a list a level"),
        ({"kernel_sizes": [[3, 3]] * 10_000}, "kernel_sizes needs 5 entries of 2 whole numbers from 1 each; given: [["),
        ({"skip": ["sum"]}, "skip is ['sum']; it must be one of concatenate, sum, none"),
        ({"ndim": 2.0}, "ndim is 2.0; it must be one of 2, 3"),
        ({"base_channels": 10**9}, "base_channels is 1000000000; it must be a whole number from 1 to 4096"),
        ({"depth": 1000}, "depth is 1000; it must be a whole number from 0 to 8"),
        ({"in_channels": 10**6}, "in_channels is 1000000; it must be a whole number from 1 to 1024"),
        ({"num_classes": 10**6}, "num_classes is 1000000; it must be a whole number from 2 to 1024"),
        (
            {"base_channels": 1024, "depth": 5},
            "make 32768 feature maps at the deepest level; there can be at most 16384",
        ),
        ({"dropout": float("nan")}, "dropout is nan; it must be a number from 0 to below 1"),
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


def test_names_and_flags_of_another_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="segnet has no parameter 1; it has"):
        networks.find("segnet").complete({1: False})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="unet: dropout is False; it must be"):
        networks.find("unet").complete({"dropout": False})


def test_lists_in_lists_without_end_are_refused_in_a_short_message() -> None:
    nested: list[object] = []
    for _ in range(10_000):
        nested = [nested]
    with pytest.raises(UsageError, match="kernel_sizes is ") as refused:
        networks.find("unet").complete({"kernel_sizes": nested})
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("name", networks.names())
def test_every_parameter_says_what_it_means_and_its_default_can_be_had(name: str) -> None:
    architecture = networks.find(name)
    for key, parameter in described(architecture.parameters).items():
        assert parameter.accepts(parameter.default), key
        assert parameter.meaning, key
        assert all(parameter.choices.values()), key
    assert architecture.complete({}) == architecture.defaults


@pytest.mark.parametrize("name", networks.names())
def test_every_network_can_be_made_narrow(name: str) -> None:
    architecture = networks.find(name)
    narrow = architecture.parameters.of_width(0.5)
    assert narrow
    assert architecture.complete(narrow) != architecture.defaults


OWN_NETWORK = """
import torch
from unetbio.geometry import Layer
from unetbio.networks.parameters import PlanarParameters
from unetbio.networks.registry import Architecture, register

class Parameters(PlanarParameters):
    path = (Layer(1),)

class Network(torch.nn.Conv2d):
    def __init__(self, parameters):
        super().__init__(parameters.in_channels, parameters.num_classes, 1)
        self.geometry = parameters.geometry

register(Architecture("own", "one layer", "no paper", "own_network:Network", Parameters))
"""

USE = """
import logging
logging.basicConfig(format="%(message)s")
from unetbio import networks
print(networks.build("own", {"in_channels": 3}).weight.shape[1], "own" in networks.names())
"""


def test_packages_register_networks_and_a_broken_one_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "own_network.py").write_text(OWN_NETWORK)
    (tmp_path / "broken_network.py").write_text("raise RuntimeError('no\\nway')")
    for package in ("own", "broken"):
        info = tmp_path / f"{package}_package-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}-package\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[unetbio.networks]\n{package} = {package}_network\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", USE], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.stdout == "3 True\n", run.stderr
    assert run.stderr == (
        "broken-package: its network broken (broken_network) cannot be loaded: RuntimeError: no way\n"
    )
