"""Names of files as microscopes write them, and names of wells."""

from pathlib import Path

import pytest

from unetbio.errors import UsageError
from unetbio.io.namings import NAMINGS, Naming, naming_of_pattern
from unetbio.io.wells import place_of_well, row_letters, well_name


@pytest.mark.parametrize("naming", NAMINGS, ids=lambda naming: naming.name)
def test_an_example_fits_its_own_naming_alone(naming: Naming) -> None:
    assert [other.name for other in NAMINGS if other.match(f"plate/sub/{naming.example}")] == [naming.name]


@pytest.mark.parametrize(
    "name",
    ["a.tif", "image_001.tif", "IMG_1234.jpg", "exp1_c1.tif", "slide-3.png", "A01.tif", "mouse_w2left.tif", "C1-x.tif"],
)
def test_other_names_fit_no_naming(name: str) -> None:
    assert [naming.name for naming in NAMINGS if naming.match(name)] == []


@pytest.mark.parametrize(
    ("path", "naming", "name", "axes", "place"),
    [
        ("r03c12f103p02-ch4sk7fk1fl1.tiff", "phenix", "r03c12f103", ("7", "4", "02"), ("C12", "12", "103")),
        ("r01c01f01p01-ch1t02.tiff", "phenix", "r01c01f01", ("02", "1", "01"), ("A01", "1", "1")),
        ("P_B02_s1_w2.TIF", "metaxpress", "P_B02_s1", ("", "2", ""), ("B02", "2", "1")),
        ("b02_w2.tif", "metaxpress", "b02", ("", "2", ""), ("B02", "2", "")),
        ("TimePoint_3/9987_B02.TIF", "metaxpress", "9987_B02", ("3", "", ""), ("B02", "2", "")),
        (
            "mcf-z_a01_s1_w1BEDC2073-A983-4B98-95E9-84466707A25D.tif",
            "metaxpress",
            "mcf-z_a01_s1",
            ("", "1", ""),
            ("A01", "1", "1"),
        ),
        (
            "B - 03(fld 07 wv Blue - FITC z 2 tm 5).tif",
            "incell",
            "B - 03(fld 07)",
            ("5", "Blue - FITC", "2"),
            ("B03", "3", "7"),
        ),
        (
            "WellC3_PointC3_0004_ChannelDAPI_Seq0011.tif",
            "nis",
            "WellC3_PointC3_0004",
            ("", "DAPI", ""),
            ("C03", "3", "C3_0004"),
        ),
        ("AF48_s1_w1.TIF", "metaxpress", "AF48_s1", ("", "1", ""), ("AF48", "48", "1")),
        ("WellA01_ChannelDAPI_Seq0000.tif", "nis", "WellA01", ("", "DAPI", ""), ("A01", "1", "")),
        (
            "P001_Wells-A1_Points-001__Channel_Cy5_30p.tif",
            "nis",
            "P001_WellA1_Point001",
            ("", "Cy5_30p", ""),
            ("A01", "1", "1"),
        ),
        (
            "img_channel001_position002_time000000003_z004.tif",
            "micromanager",
            "position002",
            ("000000003", "001", "004"),
            ("", "", "2"),
        ),
        ("img_000000000_Cy5_000.tif", "micromanager1", "image", ("000000000", "Cy5", "000"), ("", "", "")),
        (
            "plate 1/B3-Site_2/img_000000000_DAPI_000.tif",
            "micromanager1",
            "B3-Site_2",
            ("000000000", "DAPI", "000"),
            ("B03", "3", "2"),
        ),
        ("exp_A01_s3_w2FITC-long.TIF", "metamorph", "exp_A01_s3", ("", "FITC-long", ""), ("A01", "1", "3")),
        ("day 1_w1Conf 405_s12.TIF", "metamorph", "day 1_s12", ("", "Conf 405", ""), ("", "", "12")),
        ("Position 2_RAW_ch01.tif", "lasx", "Position 2", ("", "01", ""), ("", "", "Position 2")),
        ("r01c01f01p01rc1-ch2sk1fk1fl1.tiff", "phenix", "r01c01f01", ("1", "2", "01"), ("A01", "1", "1")),
    ],
)
def test_parts_of_a_name(path: str, naming: str, name: str, axes: tuple[str, ...], place: tuple[str, ...]) -> None:
    (found,) = [found for each in NAMINGS if each.name == naming and (found := each.match(path))]
    assert found.name == name
    assert tuple(found.axes.get(axis, "") for axis in "TCZ") == axes
    assert tuple(found.place.get(column, "") for column in ("well", "column", "field")) == place


@pytest.mark.parametrize("inner", [".", "TimePoint_1", "ZStep_1", "TimePoint_1/ZStep_1"])
def test_names_of_dyes_lie_beside_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str) -> None:
    (tmp_path / "plate.HTD").write_bytes(
        b'"NWavelengths", 2\r\n"WaveName1", "DAPI"\r\n"WaveName2", "Texas Red"\r\n\xff'
    )
    naming = next(naming for naming in NAMINGS if naming.name == "metaxpress")
    folder = tmp_path / inner
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    assert naming.side_file is not None
    for given in (folder, Path()):
        side = naming.side_file(given)
        assert [naming.channel_name(number, side) for number in ("1", "2", "3")] == ["DAPI", "Texas Red", "w3"]


def test_dyes_and_pixel_size_of_harmony(tmp_path: Path) -> None:
    image = (
        "<Image><id>x</id><ChannelID>{}</ChannelID><FlimID>1</FlimID><ChannelName>{}</ChannelName>"
        '<ImageResolutionX Unit="m">5.98E-07</ImageResolutionX>'
        '<ImageResolutionY Unit="m">5.98E-07</ImageResolutionY></Image>'
    )
    text = image.format(1, "HOECHST 33342") + image.format(2, "EGFP") + image.format(1, "HOECHST 33342")
    (tmp_path / "Index.idx.xml").write_text(f"<EvaluationInputData><Images>{text}</Images></EvaluationInputData>")
    naming = NAMINGS[0]
    assert naming.side_file is not None
    side = naming.side_file(tmp_path)
    assert side.channel_names == {"1": "HOECHST 33342", "2": "EGFP"}
    assert side.pixel_size_um == pytest.approx({"X": 0.598, "Y": 0.598})


def test_a_pattern_of_the_user() -> None:
    found = naming_of_pattern(r"(?P<site>\d+)_(?P<channel>.+)").match("day 1/scan_007_DAPI.ome.tif")
    assert found is not None
    assert (found.folder, found.name, found.axes, found.place) == ("day 1/", "007", {"C": "DAPI"}, {"field": "7"})


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("(", "is no regular expression"), ("phenx", "is none of auto, none, phenix"), ("(?P<field>.)", "names no group")],
)
def test_patterns_that_cannot_be_used(pattern: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        naming_of_pattern(pattern)


def test_wells_have_one_form() -> None:
    assert [row_letters(number) for number in (1, 26, 27, 32, 703)] == ["A", "Z", "AA", "AF", "AAA"]
    assert [well_name("b", "3"), well_name("2", "03"), well_name("AF", "48")] == ["B03", "B03", "AF48"]
    # Numbers above those of any plate, such as dates, are letters too.
    assert well_name("20240101", "1") == "ARGNYK01"
    assert well_name("2" * 20, "1")[:-2].isalpha()
    assert place_of_well("b - 3") == {"well": "B03", "row": "B", "column": "3"}
    assert place_of_well("control") == {"well": "control"}
