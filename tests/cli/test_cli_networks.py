import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from unetbio import networks
from unetbio.cli.networks import command


@pytest.fixture(scope="module")
def listed() -> str:
    """The list of all networks, whose weights are counted."""
    return CliRunner().invoke(command).stdout


def test_every_architecture_is_listed_with_its_geometry_and_parameters() -> None:
    rows = json.loads(CliRunner().invoke(command, ["--json"]).stdout)
    assert [row["network"] for row in rows] == list(networks.names())
    unet = next(row for row in rows if row["network"] == "unet")
    assert unet["parameters"] == 31_030_658
    assert unet["context"] == [92, 92]
    assert unet["exact"] is True
    assert "1505.04597" in unet["paper"]


def test_the_list_for_people_says_the_same(listed: str) -> None:
    assert "unet: U-Net" in listed
    assert "31 030 658 parameters" in listed
    assert "context 92 x 92, stride 16 x 16, smallest input 188 x 188 px; tiles never change the answer" in listed


@pytest.mark.parametrize(
    ("name", "exact", "exact_by_default", "text"),
    [
        ("segnet", True, True, "; tiles never change the answer\n"),
        ("deconvnet", True, False, "; run over windows, which change the answer, unless --exact-tiles is given\n"),
        ("deeplab_v2", True, False, "; run over windows, which change the answer, unless --exact-tiles is given\n"),
        ("pspnet", False, False, "; run over windows, which change the answer\n"),
    ],
)
def test_the_list_says_what_tiles_do_unless_exact_ones_are_asked_for(
    listed: str, name: str, exact: bool, exact_by_default: bool, text: str
) -> None:
    (row,) = json.loads(CliRunner().invoke(command, [name, "--json"]).stdout)
    assert (row["exact"], row["exact_by_default"]) == (exact, exact_by_default)
    assert text in f"\n{listed}".partition(f"\n{name}: ")[2].partition("\n\n")[0]


def test_a_name_lists_one_and_an_unknown_one_is_refused() -> None:
    assert [row["network"] for row in json.loads(CliRunner().invoke(command, ["unet", "--json"]).stdout)] == ["unet"]
    assert "there is no network named 'unett'" in str(CliRunner().invoke(command, ["unett"]).exception)


def test_a_name_lists_each_parameter_with_its_choices_and_what_they_mean(listed: str) -> None:
    output = CliRunner().invoke(command, ["unet"]).stdout
    assert "\n  depth (4): number of poolings; a whole number from 0 to 8\n" in output
    assert (
        "\n  skip (concatenate): how the decoder gets back the detail that pooling lost\n      concatenate: " in output
    )
    (row,) = json.loads(CliRunner().invoke(command, ["unet", "--json"]).stdout)
    assert {option["name"]: option["default"] for option in row["options"]} == row["defaults"]
    skip = next(option for option in row["options"] if option["name"] == "skip")
    assert list(skip["choices"]) == ["concatenate", "sum", "none"]
    assert "number of poolings" not in listed


def test_drawings_are_made_and_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["segnet", "fcn32s", "--draw", str(tmp_path / "pictures")])
    assert result.stdout.split() == [str(tmp_path / "pictures" / f"{name}.svg") for name in ("segnet", "fcn32s")]
    assert "SegNet" in (tmp_path / "pictures" / "segnet.svg").read_text()


def test_what_finds_objects_is_not_drawn(tmp_path: Path) -> None:
    objects = [name for name in networks.names() if networks.find(name).output == "objects"]
    if not objects:
        pytest.skip("no network of objects is registered")
    result = CliRunner().invoke(command, [*objects, "--draw", str(tmp_path)])
    assert "only networks that classify pixels can be drawn" in str(result.exception)
