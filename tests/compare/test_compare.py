"""The parts of a comparison: names of variants, the oracle, scores by size, the price of a pass, the table."""

import csv
import io
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unetbio import networks
from unetbio.compare.data import result_names
from unetbio.compare.lessons import LESSONS
from unetbio.compare.measuring import Measurement, MeteredPredictor, measure
from unetbio.compare.oracle import oracle_iou, output_stride, reconstruct
from unetbio.compare.pictures import choose_panels, crop_to_cells
from unetbio.compare.runs import Row
from unetbio.compare.sizes import average_precision_by_size, size_borders
from unetbio.compare.table import COLUMNS, write_csv, write_markdown
from unetbio.compare.variants import Variant, lesson_variants, parse_variant, parse_variants, training_config
from unetbio.errors import UsageError
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.inference.prediction import predict
from unetbio.models.model_file import ModelInfo
from unetbio.preprocessing.normalization import Scaling
from unetbio.settings.options import options_of
from unetbio.settings.training import Augmentation, TrainingConfig
from unetbio.settings.training_runs import CompareRun
from unetbio.training.data.dataset import Example
from unetbio.training.data.pairs import find_pairs

TINY = TrainingConfig(parameters={"base_channels": 2, "depth": 1, "batch_norm": True, "dropout": 0.0}, steps=7)


# Names


def test_a_name_is_a_network_settings_and_a_crf() -> None:
    variant = parse_variant("unet:skip=none:augmentation.elastic_sigma=0+crf=largefov")
    assert variant.network == "unet"
    assert dict(variant.settings) == {"skip": "none", "augmentation.elastic_sigma": "0"}
    assert variant.crf == "largefov"
    assert parse_variant(variant.name) == variant
    assert variant.trained == parse_variant("unet:augmentation.elastic_sigma=0:skip=none")


def test_the_order_of_settings_does_not_matter() -> None:
    assert parse_variant("unet:depth=2:skip=none") == parse_variant("unet:skip=none:depth=2")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("unet", "unet"),
        ("unet:skip=none:depth=2", "unet_depth-2_skip-none"),
        ("fcn32s:width=0.25+crf", "fcn32s_width-0.25_crf"),
        ("fcn32s+crf=deeplab_v2_vgg", "fcn32s_crf-deeplab_v2_vgg"),
        ("unet:licence=a/b", "unet_licence-a_b"),
    ],
)
def test_a_variant_has_a_folder_of_its_name(name: str, slug: str) -> None:
    assert parse_variant(name).slug == slug


def test_a_list_has_each_variant_once() -> None:
    assert [each.name for each in parse_variants("unet, unet:depth=1,unet")] == ["unet", "unet:depth=1"]


def test_all_is_every_registered_network_and_can_stand_beside_others() -> None:
    names = [each.name for each in parse_variants("unet:depth=1,all")]
    assert names == ["unet:depth=1", *networks.names()]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unot", "there is no network named 'unot'; there are: "),
        ("unet:skip", "'unet:skip' is no network to compare: give a name, settings after colons and +crf at the end"),
        ("unet+crv", "is no network to compare"),
        ("", "'' is no network to compare"),
        ("mask_rcnn+crf", "mask_rcnn+crf: mask_rcnn finds objects, and the CRF needs the probabilities of pixels"),
        ("unet+crf=sharp", "unet+crf=sharp: there is no preset sharp of the CRF; there are: largefov"),
    ],
)
def test_a_name_that_cannot_be_meant_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_variants(name)
    assert message in str(caught.value)


# Settings


def test_settings_go_to_the_network_or_to_training() -> None:
    variant = parse_variant("unet:depth=2:batch_norm=false:border_weight=0:augmentation.elastic_sigma=0")
    config = training_config(variant, TINY)
    assert (config.network, config.name) == ("unet", variant.name)
    assert config.parameters["depth"] == 2
    assert config.parameters["batch_norm"] is False
    assert config.parameters["base_channels"] == 2  # of the comparison
    assert config.border_weight == 0
    assert config.augmentation.elastic_sigma == 0
    assert config.augmentation.scale == TINY.augmentation.scale
    assert config.steps == 7


def test_shared_parameters_hold_for_the_networks_that_have_them() -> None:
    config = training_config(parse_variant("fcn32s"), TINY)
    assert config.parameters["batch_norm"] is True
    assert "base_channels" not in config.parameters


def test_parameters_that_nothing_states_are_those_of_each_network() -> None:
    def parameters(name: str, base: TrainingConfig) -> dict[str, object]:
        return training_config(parse_variant(name), base).parameters

    for base in (TrainingConfig(), TrainingConfig(network="fcn8s")):
        small = parameters("unet", base)
        assert (small["base_channels"], small["depth"], small["batch_norm"]) == (16, 3, True)
        assert parameters("unet:depth=2", base)["depth"] == 2
        for name in ("full_resolution_fcn", "fcn8s", "dilated_context"):
            assert parameters(name, base) == networks.find(name).defaults, name
    assert parameters("full_resolution_fcn", TrainingConfig())["depth"] == 8
    papers = TrainingConfig(parameters={})
    assert parameters("unet", papers) == networks.find("unet").defaults


def test_width_scales_every_network_and_what_the_name_says_stands_above_it() -> None:
    def parameters(name: str) -> dict[str, object]:
        return training_config(parse_variant(name), TINY, width=0.25).parameters

    assert parameters("fcn32s")["width"] == 0.25
    assert parameters("fcn32s:width=0.5")["width"] == 0.5
    assert parameters("unet")["base_channels"] == 16
    assert parameters("unet:base_channels=3")["base_channels"] == 3
    assert training_config(parse_variant("unet"), TINY, width=0.001).parameters["base_channels"] == 1


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("unet:skop=none", ("unet:skop=none: there is no setting skop; unet has arithmetic, ", "training has ")),
        ("unet:network=fcn8s", ("there is no setting network;",)),
        ("unet:validation_fraction=0.5", ("there is no setting validation_fraction;",)),
        ("unet:depth=-1", ("unet: depth is -1; it must be a whole number from 0",)),
        ("unet:steps=many", ("unet:steps=many: steps: Input should be a valid integer",)),
        ("unet:steps.a=1", ("unet:steps.a=1: there is no setting steps.a: steps has no settings of its own",)),
        ("unet:augmentation.zoom=1", ("unet:augmentation.zoom=1: unknown key augmentation.zoom",)),
        ("unet:skip=[a]", ("unet:skip=[a]: skip is '[a]'; one number, word, true or false is needed",)),
        ("unet:skip=2001-99-99", ("unet:skip=2001-99-99: skip is '2001-99-99'; one number, word",)),
        ("unet:skip='", ('skip is "\'"; one number, word, true or false is needed',)),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(name: str, messages: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        training_config(parse_variant(name), TINY)
    assert all(message in str(caught.value) for message in messages), caught.value
    assert "\n" not in str(caught.value)


def test_shared_settings_that_no_network_can_have_are_refused() -> None:
    with pytest.raises(UsageError, match="parameters: no network has base_canals; there are: anchor_sizes"):
        training_config(Variant("unet"), TrainingConfig(parameters={"base_canals": 3}))
    with pytest.raises(UsageError, match="target: classes cannot be compared: the scores are those of cells"):
        training_config(Variant("unet"), TrainingConfig(target="classes"))


# Lessons


def test_the_option_names_all_lessons() -> None:
    assert options_of(CompareRun)["lesson"].words == tuple(LESSONS)


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_networks_of_a_lesson_can_be_built(lesson: str) -> None:
    assert LESSONS[lesson].title
    assert LESSONS[lesson].question.endswith("?")
    variants = lesson_variants(lesson)
    assert len(set(variants)) >= 3
    for variant in variants:
        config = training_config(variant, TINY, width=0.05)
        with torch.device("meta"):
            networks.build(config.network, config.parameters)


# The oracle


def test_the_oracle_of_stride_one_is_the_foreground() -> None:
    foreground = np.random.default_rng(0).random((9, 7)) < 0.5
    np.testing.assert_array_equal(reconstruct(foreground, 1), foreground)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_oracle_averages_and_interpolates(height: int, width: int, stride: int, seed: int) -> None:
    foreground = np.random.default_rng(seed).random((height, width)) < 0.5

    def sample(y: int, x: int) -> float:
        """Bilinear interpolation between the centres of blocks, one pixel at a time."""
        total = 0.0
        places = [(i + 0.5) / stride - 0.5 for i in (y, x)]
        for steps in itertools.product((0, 1), repeat=2):
            share, block = 1.0, []
            for place, step, size in zip(places, steps, (height, width), strict=True):
                low = math.floor(place)
                share *= place - low if step else 1 - (place - low)
                block.append(min(max(low + step, 0), (size - 1) // stride))
            rows, columns = (slice(b * stride, (b + 1) * stride) for b in block)
            total += share * foreground[rows, columns].mean()
        return total

    expected = [[sample(y, x) >= 0.5 - 1e-9 for x in range(width)] for y in range(height)]
    np.testing.assert_array_equal(reconstruct(foreground, stride), expected)


def test_the_oracle_is_pooled_over_images() -> None:
    line, square = np.zeros((8, 8), int), np.zeros((8, 8), int)
    line[:, 0] = 1
    square[:4] = 2
    # The line's blocks average one half, which holds up to their centres.
    assert reconstruct(line > 0, 2)[0].tolist() == [True, False, False, False, False, False, False, False]
    assert oracle_iou([line, square], 2) == 1.0
    dot = np.zeros((8, 8), int)
    dot[0, 0] = 1
    # A quarter of a block is nothing to it: 8 + 32 pixels found of 8 + 32 + 1.
    assert oracle_iou([line, square, dot], 2) == pytest.approx(40 / 41)


@pytest.mark.parametrize(
    ("name", "stride"),
    [("unet", 1), ("segnet", 1), ("fcn32s", 32), ("fcn16s", 16), ("fcn8s", 8), ("deeplab_v1", 8), ("deeplab_v3", 16)],
)
def test_the_stride_of_the_answer_is_that_of_the_last_interpolation(name: str, stride: int) -> None:
    architecture = networks.find(name)
    assert output_stride(architecture.path(architecture.defaults)) == stride


@pytest.mark.parametrize(("parameters", "stride"), [({}, 8), ({"dilated": False}, 32)])
def test_the_stride_of_the_answer_is_the_same_with_multi_scale_input(parameters: dict[str, bool], stride: int) -> None:
    architecture = networks.find("deeplab_v2")
    for multi_scale in (False, True):
        assert output_stride(architecture.path({**parameters, "multi_scale": multi_scale})) == stride


# Sizes


def test_scores_by_size_are_those_counted_by_hand() -> None:
    truth = np.zeros((12, 30), np.uint16)
    truth[0:1, 0:2] = 1  # 2 px, found
    truth[0:2, 4:6] = 2  # 4 px, missed
    truth[4:7, 0:3] = 3  # 9 px, found
    truth[4:7, 6:10] = 4  # 12 px, found in half of it: IoU .5 is a match
    truth[8:12, 0:5] = 5  # 20 px, found
    truth[8:12, 8:14] = 6  # 24 px, found in a part that is too small: 8 / 24
    found = np.zeros_like(truth)
    found[0:1, 0:2] = 9
    found[4:7, 0:3] = 8
    found[4:7, 6:8] = 7
    found[8:12, 0:5] = 6
    found[8:12, 8:10] = 5  # 8 px, matches nothing: a false one among the medium
    found[0:1, 20:22] = 4  # 2 px, nothing there: a false one among the small
    # Of 2, 4, 9, 12, 20, 24: two thirds of the way from 4 to 9, and one third of that from 12 to 20.
    borders = size_borders([truth])
    assert borders == (pytest.approx(22 / 3), pytest.approx(44 / 3))
    scores = average_precision_by_size([found], [truth], borders)
    assert scores == {
        "small": pytest.approx(1 / 3),  # one found, one missed, one false
        "medium": pytest.approx(2 / 3),  # two found, one false
        "large": pytest.approx(1 / 2),  # one found, one missed
    }


def test_borders_are_terciles_over_all_images() -> None:
    one, other = np.zeros((4, 4), int), np.zeros((4, 4), int)
    one[0, 0], one[1, :2], one[2, :3] = 1, 2, 3
    other[0, :4] = 1
    # Areas 1, 2, 3, 4: thirds at 1 + 3 / 3 and 1 + 3 * 2 / 3
    assert size_borders([one, other]) == (pytest.approx(2), pytest.approx(3))
    assert size_borders([np.zeros((3, 3), int)]) == (0.0, 0.0)


def test_an_area_on_the_border_belongs_to_the_smaller_size_and_no_cells_have_no_score() -> None:
    label_image = np.zeros((3, 3), int)
    label_image[0, :2] = 1
    scores = average_precision_by_size([label_image], [label_image], (2.0, 3.0))
    assert scores["small"] == 1
    assert math.isnan(scores["medium"])
    assert math.isnan(scores["large"])


# Costs


@pytest.mark.parametrize("exact", [True, False])
def test_a_metered_predictor_counts_what_is_run(exact: bool) -> None:
    network = networks.build("unet", {"base_channels": 2, "depth": 1, "padding": "same"})
    plain = TorchPredictor(network, exact=exact)
    metered = MeteredPredictor(network, exact=exact)
    image = np.random.default_rng(0).random((1, 70, 40), dtype=np.float32)
    answer = predict(image, metered, tile=32)
    np.testing.assert_array_equal(answer, predict(image, plain, tile=32))
    shapes: list[tuple[int, ...]] = []
    plain_probabilities = plain.probabilities
    plain.probabilities = lambda batch: shapes.append(batch.shape) or plain_probabilities(batch)  # type: ignore[func-returns-value]
    predict(image, plain, tile=32)
    assert metered.work == sum(shape[0] * plain.multiply_adds(shape[2:]) for shape in shapes)
    assert metered.memory == max(shape[0] * plain.memory_bytes(shape[2:]) for shape in shapes)
    assert metered.seconds > 0
    assert (metered.exact, metered.num_classes, metered.geometry) == (exact, 2, plain.geometry)
    assert metered.memory_budget == plain.memory_budget
    batch = np.zeros((1, 1, *metered.geometry.minimum), np.float32)
    np.testing.assert_array_equal(metered.probabilities_float64(batch), plain.probabilities_float64(batch))


def test_a_network_that_finds_objects_is_measured_without_a_stride() -> None:
    parameters = networks.find("mask_rcnn").complete({"width": 0.05})
    torch.manual_seed(0)
    network = networks.build("mask_rcnn", parameters).eval()
    info = ModelInfo(
        name="m",
        architecture="mask_rcnn",
        parameters=parameters,
        channels=("0",),
        training={"steps": 1, "seconds": 2},
    )
    truth = np.zeros((40, 50), np.uint16)
    truth[5:15, 5:15] = 1
    image = np.random.default_rng(0).random((1, 40, 50))
    example = Example("a.tif", image, Scaling((0.0,), (1.0,)), truth)
    found = measure(network, info, [], [example], TrainingConfig(), torch.device("cpu"))
    assert found.label_images[0].shape == truth.shape
    assert found.postprocessing is None
    assert {column.key for column in COLUMNS} == set(found.scores)
    unknown = {name for name, value in found.scores.items() if isinstance(value, float) and math.isnan(value)}
    costs = {"multiply_adds_per_pixel", "memory_bytes"}
    no_cells = {"AP@.5_medium", "AP@.5_large"}  # the one true cell is the smallest third
    assert costs | {"output_stride", "oracle_IoU", "IoU_of_oracle"} <= unknown
    assert unknown - costs - no_cells == {"output_stride", "oracle_IoU", "IoU_of_oracle"}
    assert float(found.scores["seconds_per_megapixel"]) > 0


def measured_as_painted(
    labels: np.ndarray, config: TrainingConfig, painted: np.ndarray
) -> tuple[Measurement, list[tuple[int, ...]]]:
    """What is measured where all that is painted is found, and the shapes of the images that were seen."""
    shapes = []

    def refine(probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
        shapes.append(image.shape[1:])
        inside = np.clip(image[0], 0.01, 0.99)
        return np.stack([1 - inside, inside]).astype(np.float32)

    parameters = networks.find("unet").complete({"base_channels": 2, "depth": 1})
    info = ModelInfo(
        name="m", architecture="unet", parameters=parameters, channels=("0",), training={"steps": 1, "seconds": 2}
    )
    image = painted.astype(np.float32)[None]
    example = Example("a.tif", image, Scaling((0.0,), (1.0,)), labels, annotated_diameter_px=40.0)
    network = networks.build("unet", parameters).eval()
    return measure(network, info, [example], [example], config, torch.device("cpu"), refine), shapes


def two_squares() -> np.ndarray:
    labels = np.zeros((120, 140), np.uint16)
    labels[20:60, 20:60] = 1
    labels[70:110, 80:120] = 2
    return labels


def test_a_network_is_measured_at_the_scale_of_its_training() -> None:
    config = TrainingConfig(augmentation=Augmentation(largest_diameter=20))
    found, shapes = measured_as_painted(two_squares(), config, two_squares() > 0)
    assert set(shapes) == {(60, 70)}
    np.testing.assert_array_equal(found.label_images[0] > 0, two_squares() > 0)
    assert found.scores["AP@.5"] == found.images[0]["AP@.5"] == 1


def test_the_border_of_what_is_not_annotated_is_no_outline() -> None:
    labels, painted = two_squares(), np.zeros((120, 140), bool)
    labels[:, 40:] = 255
    # Six pixels inside of the cell that is there in part: no outline agrees.
    painted[26:54, 26:60] = True
    found, _ = measured_as_painted(labels, TrainingConfig(ignore_label=255), painted)
    assert found.scores["boundary_F1"] == found.images[0]["boundary_F1"] == 0


# The table


def test_the_table_has_a_row_a_variant_and_says_why_one_failed() -> None:
    scores: dict[str, float | str] = dict.fromkeys((column.key for column in COLUMNS), 0.25)
    scores |= {"exact_tiling": "yes", "AP@.5_large": math.nan, "parameters": 31_031_685, "memory_bytes": 3 * 2**20}
    rows = [
        Row(Variant("unet"), scores, (12.4, 40.0)),
        Row(Variant("fcn8s", (("width", "9"),)), {}, failure="a | b"),
    ]
    lines = write_markdown("Title", "Question?", rows, "3 test images").splitlines()
    assert lines[:3] == ["# Title", "", "Question?"]
    heading, _, first, second = (line.strip("| ").split(" | ") for line in lines[4:8])
    assert heading == ["network", *(column.heading for column in COLUMNS)]
    shown = dict(zip(heading, lines[6].removeprefix("| ").split(" | "), strict=True))
    assert first[0] == "unet"
    assert (shown["AP@.5"], shown["AP large"], shown["parameters"]) == ("0.250", "", "31 M")
    assert (shown["of oracle"], shown["memory"], shown["exact tiles"]) == ("25 %", "3.0 MiB", "yes")
    assert second[:2] == ["fcn8s:width=9", "failed: a / b"]
    assert lines[9] == "Scored on 3 test images. Small cells have at most 12 pixels, large ones more than 40."
    read = list(csv.DictReader(io.StringIO(write_csv(rows))))
    assert read[0]["parameters"] == "31031685"
    assert (read[0]["AP@.5_large"], read[0]["failure"]) == ("", "")
    assert (read[1]["network"], read[1]["AP@.5"], read[1]["failure"]) == ("fcn8s:width=9", "", "a | b")


# Pictures


def test_panels_are_spread_evenly() -> None:
    assert choose_panels(3, 12) == [0, 1, 2]
    assert choose_panels(101, 3) == [0, 50, 100]


def test_a_large_image_is_cut_to_where_most_cells_are() -> None:
    label_image = np.zeros((50, 30), int)
    label_image[40, 20], label_image[45, 25], label_image[5, 5] = 1, 2, 3
    rows, columns = crop_to_cells(label_image, side=20)
    assert len(np.unique(label_image[rows, columns])) == 3
    assert label_image[rows, columns].shape == (20, 20)
    assert crop_to_cells(label_image, side=64) == (slice(0, 64), slice(0, 64))


# Files


def test_a_table_may_name_test_images(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    rows = ("a,a_m,training", "b,b_m,test", "c,c_m,validation", "d,d_m,", "e,e_m,test")
    table.write_text("\n".join(("image,mask,split", *rows)))
    files = find_pairs([table], with_test=True)
    assert [pair.image.name for pair in files.training] == ["a", "d"]
    assert [pair.image.name for pair in files.validation] == ["c"]
    assert [pair[:2] for pair in files.test] == [(tmp_path / name, tmp_path / f"{name}_m") for name in "be"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,mask,split\na,b,test\nc,d,tset\n", "line 3: split is 'tset'"),
        ("image,split\na,test\n", "has no column 'mask'; it has image, split"),
        ("image,mask,split\na,b,test\n", "has no row to train on"),
    ],
)
def test_a_table_with_test_images_that_cannot_be_used_is_named(tmp_path: Path, content: str, message: str) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(content)
    with pytest.raises(UsageError) as caught:
        find_pairs([table], with_test=True)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(table))


def test_results_are_named_after_images_and_never_alike() -> None:
    def example(name: str) -> Example:
        return Example(name, np.zeros((1, 2, 2)), Scaling((0,), (1,)), np.zeros((2, 2), int))

    assert result_names([example(name) for name in ("a/x.ome.tif", "b/x.tif", "y.png")]) == ["x_1", "x_2", "y"]
    # A time-lapse of two frames beside images that are named as its frames.
    times = result_names([example(name) for name in ("x.tif", "x.tif", "x_1.tif", "x_3.tif")])
    assert times == ["x_2", "x_4", "x_1", "x_3"]
