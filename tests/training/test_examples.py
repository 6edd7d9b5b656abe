"""Annotated images as a training reads them: channels, series, times, sections, scale, and the mask of each."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unetbio.compare.data import fingerprint
from unetbio.errors import ImageError, UsageError
from unetbio.io import write_labels
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.training.data.dataset import Example, split_examples
from unetbio.training.data.examples import load_examples
from unetbio.training.data.pairs import AnnotatedFiles, AnnotatedPair, find_pairs

RNG = np.random.default_rng(3)
GREY = RNG.integers(1, 4000, (2, 3, 4, 16, 20)).astype(np.uint16)  # (T, Z, C, Y, X)
NAMES = ["WGA", "brightfield", "DAPI", "GFP"]
LABELS = np.zeros((2, 3, 16, 20), np.uint16)  # (T, Z, Y, X)
LABELS[:, :, 2:8, 2:8] = 1
LABELS[1, :, 9:15, 9:15] = 2
LABELS[:, 2, 2:8, 12:18] = 3


def write(path: Path, pixels: NDArray[Any], axes: str) -> Path:
    names = {"Channel": {"Name": NAMES}} if "C" in axes else {}
    tifffile.imwrite(path, pixels, ome=True, photometric="minisblack", metadata={"axes": axes, **names})
    return path


def load(pair: AnnotatedPair, **config: Any) -> list[Example]:
    return load_examples([pair], TrainingConfig(**config))


@pytest.fixture
def stack(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "i.ome.tif", GREY[0], "ZCYX"), write(tmp_path / "m.ome.tif", LABELS[0], "ZYX")


def test_channels_are_chosen_by_name_or_number(stack: tuple[Path, Path]) -> None:
    (example,) = load(AnnotatedPair(*stack, Settings(channel=("dapi", 0))))
    np.testing.assert_array_equal(example.image, GREY[0, :, [2, 0]])
    assert example.channel_names == ("DAPI", "WGA")
    with pytest.raises(ImageError, match=r"i\.ome\.tif: no channel 'RFP'; this image has 0: WGA, 1: brightfield"):
        load(AnnotatedPair(*stack, Settings(channel="RFP")))


@pytest.mark.parametrize("opacity", [255, 254])
def test_alpha_is_a_channel_only_where_something_is_transparent(tmp_path: Path, opacity: int) -> None:
    picture = RNG.integers(0, 255, (16, 20, 4)).astype(np.uint8)
    picture[..., 3] = 255
    picture[3, 4, 3] = opacity
    tifffile.imwrite(tmp_path / "p.tif", picture, photometric="rgb", extrasamples=["unassalpha"])
    mask = write(tmp_path / "m.tif", LABELS[0, 2], "YX")
    (example,) = load(AnnotatedPair(tmp_path / "p.tif", mask))
    assert example.channel_names == ("red", "green", "blue", "alpha")[: 3 if opacity == 255 else 4]
    np.testing.assert_array_equal(example.image, picture.transpose(2, 0, 1)[: len(example.channel_names)])
    (chosen,) = load(AnnotatedPair(tmp_path / "p.tif", mask, Settings(channel=("alpha",))))
    assert chosen.channel_names == ("alpha",)


def test_alpha_is_a_channel_of_all_pictures_where_one_is_transparent(tmp_path: Path) -> None:
    mask = write(tmp_path / "m.tif", LABELS[0, 2], "YX")
    pairs = []
    for opacity in (255, 254):
        picture = RNG.integers(0, 255, (16, 20, 4)).astype(np.uint8)
        picture[..., 3] = 255
        picture[3, 4, 3] = opacity
        pairs.append(AnnotatedPair(tmp_path / f"{opacity}.tif", mask))
        tifffile.imwrite(pairs[-1].image, picture, photometric="rgb", extrasamples=["unassalpha"])
    opaque, both = pairs[:1], load_examples(pairs, TrainingConfig())
    assert [len(example.image) for example in both] == [4, 4]
    # Images to validate on have the channels of those to train on.
    assert len(load_examples(opaque, TrainingConfig(), like=both[1])[0].image) == 4
    (three,) = load_examples(opaque, TrainingConfig())
    assert len(load_examples(opaque, TrainingConfig(), like=three)[0].image) == 3


@pytest.mark.parametrize("whole_mask", [True, False])
def test_a_section_is_trained_on_with_its_part_of_the_mask(
    tmp_path: Path, stack: tuple[Path, Path], whole_mask: bool
) -> None:
    mask = stack[1] if whole_mask else write(tmp_path / "plane.tif", LABELS[0, 2], "YX")
    (example,) = load(AnnotatedPair(stack[0], mask, Settings(z=2)))
    np.testing.assert_array_equal(example.image, GREY[0, 2])
    np.testing.assert_array_equal(example.label_image, LABELS[0, 2])


def test_each_section_is_an_example_scaled_as_the_stack(stack: tuple[Path, Path]) -> None:
    examples = load(AnnotatedPair(*stack, Settings(z="each", channel="DAPI")))
    np.testing.assert_array_equal([example.image[0] for example in examples], GREY[0, :, 2])
    np.testing.assert_array_equal([example.label_image for example in examples], LABELS[0])
    assert len({example.scaling for example in examples}) == 1


def test_a_projection_needs_a_mask_of_the_projection(tmp_path: Path, stack: tuple[Path, Path]) -> None:
    plane = write(tmp_path / "plane.tif", LABELS[0, 2], "YX")
    (example,) = load(AnnotatedPair(stack[0], plane, Settings(z="max")))
    np.testing.assert_array_equal(example.image, GREY[0].max(axis=0))
    with pytest.raises(ImageError, match=r"m\.ome\.tif: it has \(3, 16, 20\) .*; with --z max it is that of the proj"):
        load(AnnotatedPair(*stack, Settings(z="max")))


@pytest.fixture
def lapse(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "i.tif", GREY[:, 0, 0], "TYX"), write(tmp_path / "m.tif", LABELS[:, 0], "TYX")


def test_each_time_is_an_example_as_in_a_segmentation(lapse: tuple[Path, Path]) -> None:
    examples = load(AnnotatedPair(*lapse))
    np.testing.assert_array_equal([example.image[0] for example in examples], GREY[:, 0, 0])
    np.testing.assert_array_equal([example.label_image for example in examples], LABELS[:, 0])


def test_one_time_has_a_mask_of_its_own_or_its_part(tmp_path: Path, lapse: tuple[Path, Path]) -> None:
    plane = write(tmp_path / "plane.tif", LABELS[1, 0], "YX")
    for mask in (lapse[1], plane):
        (example,) = load(AnnotatedPair(lapse[0], mask, Settings(t=1)))
        np.testing.assert_array_equal(example.label_image, LABELS[1, 0])
    with pytest.raises(ImageError, match=r"plane\.tif: it has no time points, and its image has T=2 .*--t INDEX"):
        load(AnnotatedPair(lapse[0], plane))
    three = write(tmp_path / "three.tif", GREY[0, :, 0], "TYX")
    with pytest.raises(ImageError, match=r"m\.tif: it has 2 time points, and its image has T=3 .*--t INDEX"):
        load(AnnotatedPair(three, lapse[1]))


def test_frames_of_one_file_are_not_split(lapse: tuple[Path, Path]) -> None:
    """Unless there is one file alone."""
    examples = load(AnnotatedPair(*lapse))
    others = [replace(example, name=f"other/{number}.tif") for number in range(3) for example in examples]
    for part in split_examples([*examples, *others], 0.5):
        assert len({example.name for example in part}) == 2
        assert len(part) == 4
    assert [len(part) for part in split_examples(examples, 0.5)] == [1, 1]


def test_connected_parts_of_one_time_are_its_cells(lapse: tuple[Path, Path], tmp_path: Path) -> None:
    """Cells that meet at another time are two."""
    masks = np.zeros((2, 16, 20), np.uint8)
    masks[:, 2:6, 2:18] = 255
    masks[0, 2:6, 9:11] = 0
    mask = write(tmp_path / "binary.tif", masks, "TYX")
    first, second = load(AnnotatedPair(lapse[0], mask), split_components=True)
    assert (first.label_image.max(), second.label_image.max()) == (2, 1)


def partly_annotated(tmp_path: Path, foreground: int) -> AnnotatedPair:
    """Two cells, and an area at the right, beside one of them, that is not annotated (255)."""
    mask = np.zeros((16, 20), np.uint8)
    mask[2:6, 2:6] = mask[9:14, 8:15] = foreground
    mask[:, 15:] = 255
    image = write(tmp_path / "i.tif", GREY[0, 0, 0], "YX")
    return AnnotatedPair(image, write(tmp_path / "m.tif", mask, "YX"))


def test_what_is_not_annotated_is_no_cell_of_a_mask_that_is_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = partly_annotated(tmp_path, 1)
    (example,) = load(pair, split_components=True, ignore_label=255)
    expected = tifffile.imread(pair.mask).astype(int)
    expected[9:14, 8:15] = 2
    np.testing.assert_array_equal(example.label_image, expected)
    assert "changes nothing" not in caplog.text


def test_no_cell_of_a_split_mask_has_the_number_of_what_is_not_annotated(tmp_path: Path) -> None:
    pair = partly_annotated(tmp_path, 255)
    (example,) = load(pair, split_components=True, ignore_label=2)
    assert np.unique(example.label_image).tolist() == [0, 1, 3]


@pytest.mark.parametrize("split_components", [False, True])
def test_a_mask_without_cells_may_have_parts_that_are_not_annotated(tmp_path: Path, split_components: bool) -> None:
    pair = partly_annotated(tmp_path, 0)
    (example,) = load(pair, split_components=split_components, ignore_label=255)
    np.testing.assert_array_equal(example.label_image, tifffile.imread(pair.mask))


def test_the_annotated_part_of_a_mask_has_cells_with_numbers(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"m\.tif: the annotated part of the mask holds only 0 and 1: touching cells"):
        load(partly_annotated(tmp_path, 1), ignore_label=255)


def test_pixel_size_and_diameter_are_those_given(stack: tuple[Path, Path]) -> None:
    (example,) = load(AnnotatedPair(*stack, Settings(pixel_size_um=(2.0, 0.5), diameter_px=12.0)))
    assert (example.pixel_size_um, example.diameter_px) == ((2.0, 0.5, 0.5), 12.0)
    (plane,) = load(AnnotatedPair(*stack, Settings(pixel_size_um=(2.0, 0.5), z=0)))
    assert plane.pixel_size_um == (0.5, 0.5)


def test_a_pixel_size_stands_above_those_of_the_files(tmp_path: Path) -> None:
    for name, size in (("i.tif", 0.5), ("m.tif", 0.25)):
        write_labels(tmp_path / name, LABELS[0, 2], pixel_size_um={"Y": size, "X": size})
    pair = AnnotatedPair(tmp_path / "i.tif", tmp_path / "m.tif")
    with pytest.raises(
        ImageError, match=r"m\.tif: its pixel size is 0.25 .*, or give --pixel-size, which stands above"
    ):
        load(pair)
    (example,) = load(pair._replace(reading=Settings(pixel_size_um=0.3)))
    assert example.pixel_size_um == (0.3, 0.3)


def test_axes_that_no_file_names_are_given(tmp_path: Path) -> None:
    for name, pixels in (("i.tif", GREY[0, :, 0]), ("m.tif", LABELS[0])):
        tifffile.imwrite(tmp_path / name, pixels, photometric="minisblack", metadata=None)
    pair = AnnotatedPair(tmp_path / "i.tif", tmp_path / "m.tif")
    with pytest.raises(ImageError, match=r"i\.tif: 3 pages .*: say --axes ZYX, TYX or CYX"):
        load(pair)
    (example,) = load(pair._replace(reading=Settings(axes="ZYX")))
    np.testing.assert_array_equal(example.label_image, LABELS[0])


def test_the_mask_is_named_where_it_is_at_fault(tmp_path: Path, stack: tuple[Path, Path]) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0")
    with pytest.raises(ImageError, match=r"^\S*broken\.tif: "):
        load(AnnotatedPair(stack[0], broken))


def test_channels_in_another_order_are_refused(tmp_path: Path) -> None:
    pairs = []
    for number, names in enumerate((["DAPI", "GFP"], ["GFP", "DAPI"])):
        path, mask = tmp_path / f"i{number}.tif", write(tmp_path / f"m{number}.tif", LABELS[0, 0], "YX")
        metadata = {"axes": "CYX", "Channel": {"Name": names}}
        tifffile.imwrite(path, GREY[0, 0, :2], ome=True, photometric="minisblack", metadata=metadata)
        pairs.append(AnnotatedPair(path, mask))
    with pytest.raises(ImageError, match=r"i1\.tif has the channels GFP, DAPI, .*: give one order, --channel DAPI"):
        load_examples(pairs, TrainingConfig())
    chosen = [pair._replace(reading=Settings(channel=("DAPI", "GFP"))) for pair in pairs]
    first, second = load_examples(chosen, TrainingConfig())
    np.testing.assert_array_equal(first.image, second.image[::-1])


def test_rows_of_a_table_override_the_options(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    table = tmp_path / "t.csv"
    rows = "a.tif,a_m.tif,,DAPI,,1", "b.tif,b_m.tif,validation,,20,2"
    table.write_text("\n".join(["image,mask,split,channel,diameter_px,dose", *rows]))
    files = find_pairs([table], reading=Settings(channel="GFP", diameter_px=30.0))
    assert files.training[0].reading == Settings(channel="DAPI", diameter_px=30.0)
    assert files.validation[0].reading == Settings(channel="GFP", diameter_px=20.0)
    assert "t.csv: columns without a meaning here: dose" in caplog.text


def test_the_diameter_of_a_model_is_for_segmentations(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("image,mask,diameter_px\na.tif,b.tif,model\n")
    with pytest.raises(UsageError, match=r"t\.csv, line 2: diameter 'model' is for a segmentation: give the pixels of"):
        find_pairs([table])
    with pytest.raises(UsageError, match=r"^diameter 'model' is for a segmentation"):
        find_pairs([tmp_path], reading=Settings(diameter_px="model"))
    table.write_text("image,mask,diameter_px\na.tif,b.tif,auto\n")
    assert find_pairs([table]).training[0].reading.diameter_px == "auto"


def test_a_root_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--root .* is where the paths of a table start, and no table is given"):
        find_pairs([tmp_path, tmp_path], tmp_path)


def test_a_comparison_of_other_channels_is_another(stack: tuple[Path, Path]) -> None:
    of = [fingerprint(AnnotatedFiles([AnnotatedPair(*stack, Settings(channel=name))])) for name in ("DAPI", "GFP", ())]
    assert len(set(of)) == 3
