"""One image, from its pixels to its label image."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from scipy import ndimage

import unetbio
from unetbio import networks
from unetbio.errors import ImageError, ModelError, UsageError
from unetbio.labels import label_hash
from unetbio.models.model_file import Model, load_model
from unetbio.segmentation import Segmenter
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings

Array = NDArray[Any]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model)


@pytest.fixture
def run(model: Model) -> Callable[..., tuple[Array, dict[str, Any]]]:
    def segment(image: Any, **options: Any) -> tuple[Array, dict[str, Any]]:
        return unetbio.segment(image, model, device="cpu", **options)

    return segment


def test_cells_are_the_bright_discs(run: Callable[..., Any], discs: Array) -> None:
    labels, info = run(discs)
    # The tiny model calls a pixel a cell where it is brighter than 100; ids follow the first pixel in raster order.
    expected, _ = ndimage.label(discs > 100)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint16
    assert info["n_cells"] == 3
    assert info["label_hash"] == label_hash(labels)
    assert info["frames"][0]["area_fraction"] == pytest.approx((discs > 100).mean(), abs=1e-6)
    assert info["frames"][0]["median_diameter_px"] == pytest.approx(2 * np.sqrt(129 / np.pi), abs=1e-3)
    assert info["run"]["exact"] is True


def test_a_path_and_a_model_file_do_the_same(discs: Array, tiny_model: Path, tmp_path: Path, run: Any) -> None:
    tifffile.imwrite(tmp_path / "x.tif", discs)
    labels, info = unetbio.segment(tmp_path / "x.tif", tiny_model, device="cpu")
    np.testing.assert_array_equal(labels, run(discs)[0])
    assert info["model"]["sha256"] == load_model(tiny_model).sha256


def test_errors_of_a_file_name_it(discs: Array, tmp_path: Path, run: Callable[..., Any]) -> None:
    """A loop over many files has to say which one failed."""
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0nothing more")
    tifffile.imwrite(tmp_path / "x.tif", discs)
    for file, options in ((tmp_path / "none.tif", {}), (broken, {}), (tmp_path / "x.tif", {"channel": "DAPI"})):
        with pytest.raises(ImageError) as refused:
            run(file, **options)
        assert str(refused.value).startswith(f"{file}: ")
    assert refused.value.reason == "wrong_channels"


def test_errors_of_an_address_hold_no_password(run: Callable[..., Any]) -> None:
    pytest.importorskip("aiohttp", reason='needs aiohttp: pip install "unetbio[remote]"')
    with pytest.raises(ImageError, match=r"^x\.tif: https://127\.0\.0\.1:1/x\.tif cannot be fetched") as refused:
        run("https://user:secret@127.0.0.1:1/x.tif?signature=secret")
    assert "secret" not in str(refused.value)


def test_one_name_of_a_channel_needs_no_tuple(discs: Array, run: Callable[..., Any]) -> None:
    _, info = run(discs, axes="YX", channel_names="DAPI", channel="DAPI")
    assert info["settings"]["channel_names"] == ["DAPI"]


def test_a_model_file_that_was_replaced_is_read_again(discs: Array, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(tiny_model.read_bytes())
    unetbio.segment(discs, path, device="cpu")
    path.write_bytes(b"no model any more")
    with pytest.raises(ModelError, match=r"m\.safetensors"):
        unetbio.segment(discs, path, device="cpu")


@pytest.mark.parametrize("tile", [9, 33, 1000])
def test_tiles_change_nothing(run: Callable[..., Any], tile: int) -> None:
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.uniform(0, 400, (40, 61)), 2).astype(np.float32)
    whole, _ = run(image, normalize="0,400")
    assert whole.max() > 2
    np.testing.assert_array_equal(run(image, normalize="0,400", tile=tile)[0], whole)


def test_one_pixel(run: Callable[..., Any]) -> None:
    labels, info = run(np.array([[250]], np.uint8))
    # One pixel is constant: there is nothing to see in it.
    assert labels.shape == (1, 1)
    assert info["n_cells"] == 0


def test_a_constant_image_has_no_cells_and_no_network_is_asked(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "unetbio.inference.prediction.decide", lambda *args, **kwargs: pytest.fail("the network was asked")
    )
    labels, info = run(np.full((40, 50), 255, np.uint8))
    assert not labels.any()
    assert info["frames"][0]["warnings"] == ("no_cells", "constant")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused(run: Callable[..., Any], discs: Array, value: float) -> None:
    image = discs.astype(np.float32)
    image[3, 4] = value
    with pytest.raises(ImageError, match="NaN or infinite") as caught:
        run(image)
    assert caught.value.reason == "not_finite"


def test_channels_are_chosen_by_number(run: Callable[..., Any], discs: Array) -> None:
    image = np.stack([np.full_like(discs, 9), discs])
    np.testing.assert_array_equal(run(image, axes="CYX", channel=1)[0], run(discs)[0])


def test_channels_are_chosen_and_named_as_on_the_command_line(run: Callable[..., Any], discs: Array) -> None:
    image = np.stack([np.full_like(discs, 9), discs])
    expected = run(discs)[0]
    # A number of numpy, as tables hold them; names as text, and in a list
    np.testing.assert_array_equal(run(image, axes="CYX", channel=np.int64(1))[0], expected)
    for names in ("DAPI,GFP", ["DAPI", "GFP"]):
        labels, info = run(image, axes="CYX", channel="GFP", channel_names=names)
        np.testing.assert_array_equal(labels, expected)
        assert (info["settings"]["channel"], info["settings"]["channel_names"]) == (["GFP"], ["DAPI", "GFP"])
    # One name of four letters, and not four of one
    with pytest.raises(ImageError, match=r"1 channel name \(DAPI\), and the image has"):
        run(np.stack([discs] * 4), axes="CYX", channel=0, channel_names="DAPI")


@pytest.mark.parametrize("auto", ["auto", "Auto", " AUTO "])
def test_auto_is_the_normalization_of_the_model(run: Callable[..., Any], discs: Array, auto: str) -> None:
    assert run(discs, normalize=auto)[1]["settings"]["normalization"] == {"kind": "range", "low": 0, "high": 200}


def test_several_channels_need_a_choice(run: Callable[..., Any], discs: Array) -> None:
    with pytest.raises(ImageError, match=r"2 channels \(0: .*, 1: .*\), but the model takes 1: choose with --channel"):
        run(np.stack([discs, discs]), axes="CYX")


def test_colour_needs_a_choice_too(run: Callable[..., Any], discs: Array, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "rgb.tif", np.stack([discs, discs // 2, discs * 0], -1), photometric="rgb")
    with pytest.raises(ImageError, match="0: red, 1: green, 2: blue"):
        run(tmp_path / "rgb.tif")
    assert run(tmp_path / "rgb.tif", channel="red")[1]["n_cells"] == 3


def test_a_model_of_one_channel_takes_no_two(run: Callable[..., Any], discs: Array) -> None:
    message = r"--channel is given 2 times, model tiny takes 1 channel \(nuclei\): give --channel once"
    with pytest.raises(UsageError, match=message):
        run(discs, channel=(0, 1))


def test_stacks_need_a_section(run: Callable[..., Any], discs: Array) -> None:
    needed = r"a stack of 3 sections, but the model is 2-D: give --z INDEX .*, --z max or --z each"
    with pytest.raises(ImageError, match=needed):
        run(np.stack([discs] * 3), axes="ZYX")


def test_sections_that_are_not_there(run: Callable[..., Any], discs: Array) -> None:
    with pytest.raises(ImageError, match="no z 3: the image has Z=3 Y=64 X=80 uint8, counted from 0"):
        run(np.stack([discs] * 3), axes="ZYX", z=3)


def test_section_and_projection(run: Callable[..., Any], discs: Array) -> None:
    left, right = discs.copy(), discs.copy()
    left[:, 40:] = 10
    right[:, :40] = 10
    stack = np.stack([left, right])
    np.testing.assert_array_equal(run(stack, axes="ZYX", z="max")[0], run(discs)[0])
    assert run(stack, axes="ZYX", z=1)[1]["n_cells"] == 1
    with pytest.raises(ImageError, match="no z 2"):
        run(stack, axes="ZYX", z=2)


def test_frames_are_segmented_on_their_own(run: Callable[..., Any], discs: Array) -> None:
    dark = np.full_like(discs, 10)
    labels, info = run(np.stack([discs, dark, discs[::-1]]), axes="TYX")
    assert labels.shape == (3, 64, 80)
    assert [frame["n_cells"] for frame in info["frames"]] == [3, 0, 3]
    assert [frame["t"] for frame in info["frames"]] == [0, 1, 2]
    assert info["axes"] == "TYX"
    # Ids begin at 1 in every frame.
    assert set(np.unique(labels[2])) == {0, 1, 2, 3}
    one, info = run(np.stack([discs, dark]), axes="TYX", t=0)
    np.testing.assert_array_equal(one, labels[0])
    assert info["frames"][0]["t"] == 0
    with pytest.raises(ImageError, match="no t 2"):
        run(np.stack([discs, dark]), axes="TYX", t=2)


def test_arrays_of_more_axes_have_to_say_which(run: Callable[..., Any], discs: Array) -> None:
    with pytest.raises(ImageError, match="say what its axes are"):
        run(np.stack([discs, discs]))
    with pytest.raises(ImageError, match="give one letter of TCZYX an axis"):
        run(discs, axes="TYX")


def test_axes_can_come_in_any_order(run: Callable[..., Any], discs: Array) -> None:
    np.testing.assert_array_equal(run(discs.T, axes="XY")[0], run(discs)[0])


def test_diameter_rescales_and_labels_come_back(run: Callable[..., Any], discs: Array) -> None:
    # Cells twice as wide as those of the model: it sees half the image's size.
    large = discs.repeat(2, axis=0).repeat(2, axis=1)
    labels, info = run(large, diameter=24)
    assert info["run"]["zoom"] == [0.5, 0.5]
    assert info["run"]["grid"] == [64, 80]
    assert labels.shape == large.shape
    assert info["n_cells"] == 3
    overlap = (labels > 0) == (large > 100)
    assert overlap.mean() > 0.98
    assert "outside_training_range" not in info["frames"][0]["warnings"]


def test_areas_are_in_pixels_of_the_image_when_it_is_rescaled(run: Callable[..., Any], discs: Array) -> None:
    large = discs.repeat(2, axis=0).repeat(2, axis=1)
    # A disc has 129 pixels in `discs`, 516 here.
    assert run(large, diameter=24, min_area=400)[1]["n_cells"] == 3
    assert run(large, diameter=24, min_area=600)[1]["n_cells"] == 0


@pytest.mark.parametrize(("trusted", "zoom"), [(True, [2.0, 2.0]), (False, [1.0, 1.0])])
def test_only_a_trusted_pixel_size_rescales(
    model: Model, discs: Array, tmp_path: Path, trusted: bool, zoom: list[float]
) -> None:
    # 1 um a pixel, where the model was trained at 0.5; as OME it is meant so, as a TIFF resolution it is for printers.
    path = tmp_path / ("x.ome.tif" if trusted else "x.tif")
    if trusted:
        metadata = {"axes": "YX", "PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0}
        tifffile.imwrite(path, discs, ome=True, metadata=metadata)
    else:
        tifffile.imwrite(path, discs, resolution=(10000, 10000), resolutionunit="CENTIMETER")
    assert unetbio.segment(path, model)[1]["run"]["zoom"] == zoom


def test_a_pixel_size_that_is_told_is_trusted(run: Callable[..., Any], discs: Array) -> None:
    assert run(discs, pixel_size=1.0)[1]["run"]["zoom"] == [2.0, 2.0]
    # Nearly the model's own: not worth the interpolation.
    assert run(discs, pixel_size=0.505)[1]["run"]["zoom"] == [1.0, 1.0]


def test_an_absurd_scale_is_refused(run: Callable[..., Any], discs: Array) -> None:
    with pytest.raises(ImageError, match="it would be rescaled by 200: check its pixel size"):
        run(discs, pixel_size=100.0)


def test_the_threshold_can_be_overridden(run: Callable[..., Any], discs: Array) -> None:
    # A dim cell: sigmoid(20 * (0.6 - 0.5)) = 0.88.
    discs[40:50, 50:60] = 120
    assert run(discs)[1]["n_cells"] == 4
    assert run(discs, threshold=0.95)[1]["n_cells"] == 3


def test_a_lower_threshold_finds_dimmer_cells_and_parts_bright_ones(run: Callable[..., Any], discs: Array) -> None:
    # sigmoid(20 * (98 / 200 - 0.5)) = 0.45, of a cell by itself and of a bridge between two others.
    discs[40:50, 55:65] = 98
    discs[13:18, 20:46] = np.maximum(discs[13:18, 20:46], 98)
    assert run(discs)[1]["n_cells"] == 3
    assert run(discs, threshold=0.2)[1]["n_cells"] == 4


def test_cells_at_the_border_can_be_dropped(run: Callable[..., Any], discs: Array) -> None:
    discs[40:50, :10] = 200
    assert run(discs)[1]["n_cells"] == 4
    assert run(discs, exclude_border=True)[1]["n_cells"] == 3


def test_normalization_can_be_overridden(run: Callable[..., Any], discs: Array) -> None:
    assert run(discs // 4)[1]["n_cells"] == 0
    _, info = run(discs // 4, normalize="p1,p99.8")
    assert info["n_cells"] == 3
    assert info["run"]["scaling"] == [{"low": [2.0], "high": [50.0]}]
    assert run(discs // 4, normalize=Normalization("range", 0, 50))[1]["n_cells"] == 3


def test_saturated_and_unusual_images_are_marked(run: Callable[..., Any], discs: Array) -> None:
    _, info = run(np.where(discs == 200, 255, discs).astype(np.uint8))
    assert info["frames"][0]["warnings"] == ("saturated",)
    # 12 pixels are usual for this model.
    _, info = run(discs.repeat(3, axis=0).repeat(3, axis=1))
    assert info["frames"][0]["warnings"] == ("outside_training_range",)


def test_a_file_of_several_images_says_so(run: Callable[..., Any], discs: Array, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.ome.tif", ome=True) as writer:
        writer.write(discs, metadata={"axes": "YX"})
        writer.write(discs[::-1], metadata={"axes": "YX"})
    first, info = run(tmp_path / "x.ome.tif")
    assert info["frames"][0]["warnings"] == ("more_series",)
    second, info = run(tmp_path / "x.ome.tif", series=1)
    assert info["frames"][0]["warnings"] == ()
    np.testing.assert_array_equal(second > 0, first[::-1] > 0)


@pytest.mark.parametrize("option", [{"series": 1}, {"series": 0}, {"axes": "YX"}])
def test_what_was_chosen_when_an_image_was_opened_is_not_chosen_again(
    run: Callable[..., Any], discs: Array, tmp_path: Path, option: dict[str, Any]
) -> None:
    tifffile.imwrite(tmp_path / "x.tif", discs)
    image = unetbio.read_image(tmp_path / "x.tif")
    with pytest.raises(UsageError, match="is open already: give series and axes to read_image"):
        run(image, **option)
    run(image, **dict.fromkeys(option))
    if "series" in option:
        with pytest.raises(UsageError, match="an array is one image: leave out series"):
            run(discs, **option)


def test_a_diameter_needs_one_of_the_model(model: Model, discs: Array) -> None:
    unknown = replace(model, info=model.info.model_copy(update={"cell_diameter_px": None}))
    with pytest.raises(UsageError, match="does not say how large its cells are: leave out --diameter"):
        unetbio.segment(discs, unknown, device="cpu", diameter=10)


def test_an_image_without_pixels_is_refused(model: Model) -> None:
    with pytest.raises(ImageError, match="no pixels"):
        unetbio.segment(np.zeros((0, 5), np.uint8), model, device="cpu")


def test_probabilities_on_the_way(model: Model, discs: Array) -> None:
    from unetbio.io.arrays import image_of_array

    segmenter = Segmenter(model, "cpu")
    opened = segmenter.open(image_of_array(discs, "YX"), Settings())
    frame = segmenter.read_frame(opened, None)
    probabilities = np.empty((2, *discs.shape), np.float32)
    decided = segmenter.decide(opened, frame, probabilities_out=probabilities)
    np.testing.assert_allclose(probabilities[1], 1 / (1 + np.exp(-20 * (discs / 200 - 0.5))), atol=1e-5)
    np.testing.assert_array_equal(decided.bits[0], probabilities[1] >= 0.5)


def test_where_windows_are_blended_their_size_is_a_setting(model: Model) -> None:
    # One that cannot be tiled exactly, since it pools the whole image
    torch.manual_seed(0)
    network = networks.build("pspnet", {"width": 0.06, "backbone": "resnet18"}).eval()
    parameters = networks.find("pspnet").complete({"width": 0.06, "backbone": "resnet18"})
    info = model.info.model_copy(update={"architecture": "pspnet", "parameters": parameters})
    blended = Model(info, network, model.sha256, model.path)
    windows = [Segmenter(blended, "cpu", tile=tile).record(Settings())["window"] for tile in (None, 64)]
    assert windows == [None, 64]
    # Without a tile, those with which it was trained
    trained = Model(info.model_copy(update={"window": (32, 64)}), network, model.sha256, model.path)
    image = np.zeros((100, 100), np.uint8)
    image[40:60, 40:60] = 200
    # Of weights that mean nothing the search could find any scale.
    runs = [unetbio.segment(image, each, device="cpu", diameter="model")[1]["run"] for each in (trained, blended)]
    assert [run["window"] for run in runs] == [[32, 64], [104, 104]]
    assert {Segmenter(model, "cpu", tile=tile).record(Settings())["window"] for tile in (None, 64)} == {None}
