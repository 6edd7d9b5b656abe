import json

from click.testing import CliRunner

from unetbio import architectures
from unetbio.cli.networks import command


def test_every_architecture_is_listed_with_its_geometry_and_parameters() -> None:
    rows = json.loads(CliRunner().invoke(command, ["--json"]).stdout)
    assert [row["network"] for row in rows] == list(architectures.names())
    unet = next(row for row in rows if row["network"] == "unet")
    assert unet["parameters"] == 31_030_658
    assert unet["context"] == [92, 92]
    assert unet["exact"] is True
    assert "1505.04597" in unet["paper"]


def test_the_list_for_people_says_the_same() -> None:
    output = CliRunner().invoke(command).stdout
    assert "unet: U-Net" in output
    assert "31 030 658 parameters" in output
    assert "context 92 x 92, stride 16 x 16, smallest input 188 x 188 px; tiles never change the answer" in output
