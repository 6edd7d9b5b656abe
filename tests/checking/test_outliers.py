"""Which values are unlike the others, and which images are unlike those of the training."""

import math
import statistics
from pathlib import Path

import numpy as np
import pytest

from unetbio.checking.file_report import Channels, FileReport
from unetbio.checking.folder import check
from unetbio.checking.image_stats import ImageStats
from unetbio.checking.outliers import compare_with_model, compare_with_others, find_outliers
from unetbio.io import write_image
from unetbio.models.model_file import ModelInfo
from unetbio.preprocessing.grey_values import GreyFingerprint, GreyLevels
from unetbio.results.items import Item
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings


def report_of(
    name: str,
    levels: tuple[GreyLevels, ...] = (GreyLevels(0, 10, 20, 200, 250, 1, 4096),),
    *,
    shape: tuple[int, ...] = (64, 64),
    dtype: str = "uint8",
    pixel_size_um: float | None = None,
    settings: Settings = Settings(),  # noqa: B008
) -> FileReport:
    axes = "TCZYX"[-len(shape) :] if len(shape) != 3 else "CYX"
    sizes = {} if pixel_size_um is None else {"Y": pixel_size_um, "X": pixel_size_um}
    names = ("",) * len(levels)
    stats = ImageStats(axes, shape, dtype, sizes, True, 1, name, levels, names)
    return FileReport(
        Item(Path(name), name, settings), stats, True, Channels(tuple(range(len(levels))), names, len(levels))
    )


def unlike_training(report: FileReport, info: ModelInfo, fingerprint: GreyFingerprint | None) -> list[tuple[str, str]]:
    return list(compare_with_model(report, report.channels, info, fingerprint))


def levels(high: float, median: float = 20.0, low: float = 10.0) -> GreyLevels:
    return GreyLevels(0, low, median, high, high * 1.2, 1, 4096)


def codes(reports: list[FileReport]) -> list[tuple[str, str]]:
    return [(finding.path, finding.code) for finding in compare_with_others(reports)]


def test_odd_values_follow_the_rule() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = np.exp(rng.normal(3, rng.uniform(0, 1), rng.integers(5, 30))).tolist()
        values[0] *= rng.choice([1, 3, 10, 0.01])
        logs = [math.log(value) for value in values]
        middle = statistics.median(logs)
        spread = 1.4826 * statistics.median(abs(log - middle) for log in logs)
        expected = [
            i for i, log in enumerate(logs) if abs(log - middle) > 5 * spread and abs(log - middle) > math.log(2)
        ]
        assert find_outliers(values, 2.0) == expected


@pytest.mark.parametrize(
    ("values", "odd"),
    [
        pytest.param([10, 10, 10, 1000], [], id="four are too few to judge"),
        pytest.param([10, 10, 10, 10, 19], [], id="nearly a factor of two"),
        pytest.param([10, 10, 10, 10, 20], [], id="just a factor of two"),
        pytest.param([10, 10, 10, 10, 21], [4], id="more than a factor of two"),
        pytest.param([1, 3, 10, 30, 100, 300], [], id="nothing is odd where all differ"),
        pytest.param([10, 11, 12, 10, 1], [4], id="small ones too"),
    ],
)
def test_odd_values(values: list[float], odd: list[int]) -> None:
    assert find_outliers(values, 2.0) == odd


def test_an_image_of_other_brightness_or_size_is_odd() -> None:
    usual = [report_of(f"{i}.tif", (levels(200 + i),)) for i in range(6)]
    assert codes(usual) == []
    assert codes([*usual, report_of("bright", (levels(900),))]) == [("bright", "odd_intensity")]
    assert codes([*usual, report_of("grey", (levels(200, median=150),))]) == [("grey", "odd_intensity")]
    assert codes([*usual, report_of("large", shape=(64, 640))]) == [("large", "odd_size")]
    assert codes([*usual, report_of("deep", dtype="uint16")]) == [("deep", "odd_kind")]
    colour = report_of("colour", (levels(200),) * 3, shape=(3, 64, 64))
    assert codes([*usual, colour]) == [("colour", "odd_kind")]
    assert codes([*usual, *[report_of(f"u{i}", dtype="uint16") for i in range(6)]]) == []


def test_an_odd_pixel_size_is_found() -> None:
    usual = [report_of(f"{i}.tif", pixel_size_um=0.5) for i in range(6)]
    assert codes([*usual, report_of("metres", pixel_size_um=500.0)]) == [("metres", "odd_pixel_size")]


def write_plate(folder: Path) -> list[Path]:
    """Six files of two channels; in the last, channel 1 is ten times brighter and pixels are twice as wide."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(6):
        is_last = number == 5
        image = rng.poisson(100, (2, 40, 40)).astype(np.uint16)
        image[1] *= 10 if is_last else 1
        size = 1.0 if is_last else 0.5
        paths.append(folder / f"{number}.ome.tif")
        write_image(paths[-1], image, axes="CYX", pixel_size_um={"Y": size, "X": size})
    return paths


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        pytest.param(Settings(), {"odd_intensity", "odd_pixel_size"}, id="as the files are"),
        pytest.param(Settings(channel=(0,)), {"odd_pixel_size"}, id="the channel that all share"),
        pytest.param(Settings(channel=(1,)), {"odd_intensity", "odd_pixel_size"}, id="the brighter channel"),
        pytest.param(Settings(pixel_size_um=0.5), {"odd_intensity"}, id="one pixel size for all"),
        pytest.param(Settings(channel=(0,), pixel_size_um=0.5), set(), id="both"),
    ],
)
def test_what_is_not_segmented_is_not_compared(tmp_path: Path, settings: Settings, found: set[str]) -> None:
    last = str(write_plate(tmp_path)[-1])
    findings = check(str(tmp_path), models=(), settings=settings, workers=1).findings
    assert {(finding.path, finding.code) for finding in findings} == {(last, code) for code in found}


def test_an_image_without_the_selected_channel_is_not_compared(tmp_path: Path) -> None:
    """Its first channel is bright, as that of the others is, which is not selected."""
    rng = np.random.default_rng(0)
    for number in range(6):
        image = np.stack([rng.integers(5000, 6000, (64, 64)), rng.integers(200, 300, (64, 64))]).astype(np.uint16)
        names = ("DAPI", "GFP" if number < 5 else "RFP")
        write_image(tmp_path / f"{number}.ome.tif", image, axes="CYX", channel_names=names)
    findings = check(str(tmp_path), models=(), settings=Settings(channel=("GFP",)), workers=1).findings
    assert [(finding.path, finding.code) for finding in findings] == [(str(tmp_path / "5.ome.tif"), "wrong_channels")]


def test_constant_images_say_nothing_of_the_others() -> None:
    black = GreyLevels(0, 0, 0, 0, 0, 4096, 4096)
    reports = [report_of(f"black{i}", (black,)) for i in range(5)] + [report_of("image", (levels(200),))]
    assert codes(reports) == []


def info_of(kind: str = "percentile") -> ModelInfo:
    return ModelInfo(
        name="m",
        architecture="unet",
        parameters={},
        channels=("nuclei",),
        normalization=Normalization(kind, 1.0, 99.8),  # type: ignore[arg-type]
    )


FINGERPRINT = GreyFingerprint(
    ("uint8",), ({"low": (5, 15), "median": (10, 30), "high": (100, 250), "level": (0.02, 0.2)},)
)


def test_percentiles_hide_brightness_and_show_what_is_bright() -> None:
    fluorescence = report_of("f", (levels(4000, median=300, low=100),), dtype="uint16")
    assert unlike_training(fluorescence, info_of(), FINGERPRINT) == []
    brightfield = report_of("b", (levels(220, median=200),))
    ((code, message),) = unlike_training(brightfield, info_of(), FINGERPRINT)
    assert code == "odd_intensity"
    assert message == (
        "half of its pixels are above 0.90 of the way from dark to bright, in the training images 0.02 to 0.20: dark "
        "things on a bright ground?"
    )


@pytest.mark.parametrize(
    ("seen", "median", "looks"),
    [
        ((0.8, 0.81), 70, "training images 0.80 to 0.81: dark almost everywhere?"),
        ((0.0, 0.2), 150, ": noise or haze, cells that fill it, or dark things on a bright ground?"),
        ((0.0, 0.2), 200, ": dark things on a bright ground?"),
    ],
)
def test_what_an_image_may_be_is_said(seen: tuple[float, float], median: float, looks: str) -> None:
    fingerprint = GreyFingerprint(("uint8",), ({**FINGERPRINT.channels[0], "level": seen},))
    ((_, message),) = unlike_training(report_of("b", (levels(220, median=median),)), info_of(), fingerprint)
    assert message.endswith(looks)


def test_without_percentiles_grey_values_have_to_agree() -> None:
    assert unlike_training(report_of("f", (levels(499),)), info_of("range"), FINGERPRINT) == []
    ((_, message),) = unlike_training(report_of("f", (levels(501),)), info_of("range"), FINGERPRINT)
    assert "grey value 501, those of the training images 100 to 250" in message
    own = Settings(normalization=Normalization())
    assert unlike_training(report_of("f", (levels(501),), settings=own), info_of("range"), FINGERPRINT) == []


@pytest.mark.parametrize(
    ("normalize", "high", "message"),
    [
        (Normalization("range", 100, 30000), 20000, ""),
        (Normalization("range", 0, 4095), 200, "bright pixels become 0.0488 with --normalize, and about 1 in "),
        (Normalization("none", 0, 1), 200, "bright pixels become 200 with --normalize"),
    ],
)
def test_what_given_limits_make_of_an_image_is_compared_with_percentiles(
    normalize: Normalization, high: float, message: str
) -> None:
    report = report_of("f", (levels(high),), dtype="uint16", settings=Settings(normalization=normalize))
    found = unlike_training(report, info_of(), FINGERPRINT)
    assert [code for code, _ in found] == (["odd_intensity"] if message else [])
    assert all(text.startswith(message) for _, text in found)


def test_a_crystal_does_not_make_limits_too_narrow() -> None:
    """The percentile of bright pixels lies in it, and the limits fit the cells."""
    settings = Settings(normalization=Normalization("range", 150, 1700))
    report = report_of("f", (levels(60000, median=200),), dtype="uint16", settings=settings)
    assert unlike_training(report, info_of(), FINGERPRINT) == []


@pytest.mark.parametrize(
    ("high", "message"), [(60000, ""), (4000, "bright pixels become 15.6 with --normalize, and 100 to 250 in the ")]
)
def test_what_given_limits_make_of_an_image_is_compared_with_what_those_of_the_model_made(
    high: float, message: str
) -> None:
    settings = Settings(normalization=Normalization("range", 0, 65535))
    report = report_of("f", (levels(high),), dtype="uint16", settings=settings)
    info = info_of().model_copy(update={"normalization": Normalization("range", 0, 255)})
    found = unlike_training(report, info, FINGERPRINT)
    assert [text.startswith(message) for _, text in found] == ([True] if message else [])


def test_without_a_fingerprint_nothing_is_compared() -> None:
    assert unlike_training(report_of("b", (levels(220, median=200),)), info_of(), None) == []
