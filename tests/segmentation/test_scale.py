"""The scale of an image, found by itself where nothing tells it."""

import csv
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray

import unetbio
from unetbio.cli.main import main
from unetbio.errors import ImageError, UsageError
from unetbio.io import read_labels
from unetbio.models.model_file import Model, load_model, save_model
from unetbio.preprocessing.scale import Look
from unetbio.scale.choice import is_better, is_doubtful, is_last, needs_coarse, needs_fine, prefers_fine
from unetbio.segmentation import Segmenter
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings

Array = NDArray[Any]
DIAMETER = 24.0


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    """Without a pixel size of its own, so that the pixel size of no image tells the scale."""
    known = load_model(tiny_model)
    return Model(known.info.model_copy(update={"pixel_size_um": None}), known.network, known.sha256, known.path)


@pytest.fixture
def run(model: Model) -> Callable[..., tuple[Array, dict[str, Any]]]:
    def segment(image: Any, **options: Any) -> tuple[Array, dict[str, Any]]:
        return unetbio.segment(image, model, device="cpu", **options)

    return segment


def by_percentiles(model: Model, **changes: Any) -> Model:
    info = model.info.model_copy(update={"normalization": Normalization(), **changes})
    return Model(info, model.network, model.sha256, model.path)


def enlarged(discs: Array, factor: int) -> Array:
    return discs.repeat(factor, axis=0).repeat(factor, axis=1)


def zoom_of(info: dict[str, Any]) -> float:
    return float(info["run"]["zoom"][-1])


def test_cells_of_the_usual_size_are_looked_at_once(run: Callable[..., Any], discs: Array) -> None:
    labels, info = run(discs)
    own, told = run(discs, diameter_px="model")
    np.testing.assert_array_equal(labels, own)
    tried = info["run"]["scale"]["tried"]
    assert [(look["zoom"], look["cells"]) for look in tried] == [(1.0, 3)]
    assert info["frames"][0]["zoom"] == 1.0
    assert "scale" not in told["run"], "nothing was searched"


def test_large_cells_are_seen_at_a_coarser_zoom(run: Callable[..., Any], discs: Array) -> None:
    # 51 pixels wide, where those in training were 12
    large = enlarged(discs, 4)
    labels, info = run(large)
    assert zoom_of(info) == 0.25
    assert [look["zoom"] for look in info["run"]["scale"]["tried"]] == [1.0, 0.5, 0.25]
    assert info["frames"][0]["zoom"] == 0.25
    assert info["frames"][0]["warnings"] == ()
    np.testing.assert_array_equal(labels, run(large, diameter_px=48)[0])


@pytest.mark.parametrize("diameter", [np.int64(48), np.float32(48)])
def test_a_diameter_of_numpy_is_a_diameter(run: Callable[..., Any], discs: Array, diameter: Any) -> None:
    labels, info = run(enlarged(discs, 4), diameter=diameter)
    assert (zoom_of(info), info["settings"]["diameter_px"]) == (0.25, 48)
    np.testing.assert_array_equal(labels, run(enlarged(discs, 4), diameter=48)[0])


def test_images_of_a_few_cells_are_not_looked_at_coarsely(run: Callable[..., Any], discs: Array) -> None:
    # Half as wide they would show less than three of the model's cells.
    dim = np.where(discs > 100, 120, 10).astype(np.uint8)
    _, info = run(dim)
    tried = info["run"]["scale"]["tried"]
    assert [look["zoom"] for look in tried] == [1.0]
    assert tried[0]["certainty"] < 0.65


def test_small_cells_are_enlarged(model: Model) -> None:
    image = np.full((60, 60), 10, np.uint8)
    for y, x in ((10, 10), (10, 40), (40, 20)):
        image[y : y + 6, x : x + 6] = 200
    wide = model.info.model_copy(update={"cell_diameter_px": 24.0})
    _, info = unetbio.segment(image, Model(wide, model.network, model.sha256, model.path), device="cpu")
    assert zoom_of(info) == 2.0
    assert info["n_cells"] == 3


@pytest.mark.parametrize("tile", [16, 40])
def test_tiles_do_not_change_the_scale(run: Callable[..., Any], discs: Array, tile: int) -> None:
    large = enlarged(discs, 4)
    whole, info = run(large)
    labels, tiled = run(large, tile=tile)
    np.testing.assert_array_equal(labels, whole)
    assert tiled["run"]["scale"] == info["run"]["scale"]


def test_a_diameter_or_a_pixel_size_tells_the_scale(tiny_model: Path, run: Callable[..., Any], discs: Array) -> None:
    large = enlarged(discs, 4)
    assert zoom_of(run(large, diameter_px=24)[1]) == 0.5
    assert zoom_of(run(large, diameter_px="model")[1]) == 1.0
    # The file of this model has a pixel size of .5 um.
    _, info = unetbio.segment(large, tiny_model, device="cpu", pixel_size_um=0.25)
    assert zoom_of(info) == 0.5
    assert "scale" not in info["run"]


def test_auto_is_the_default_and_is_recorded(run: Callable[..., Any], discs: Array) -> None:
    assert run(discs)[1]["settings"]["diameter_px"] == "auto"
    assert run(discs, diameter_px="auto")[1]["settings"]["diameter_px"] == "auto"
    # As versions wrote it that knew no other scale, so that their results are kept
    assert run(discs, diameter_px="model")[1]["settings"]["diameter_px"] is None


def test_models_that_cannot_find_a_scale_keep_their_own(model: Model, discs: Array) -> None:
    unknown = model.info.model_copy(update={"cell_diameter_px": None})
    _, info = unetbio.segment(enlarged(discs, 4), Model(unknown, model.network, model.sha256, model.path), device="cpu")
    assert zoom_of(info) == 1.0
    assert info["settings"]["diameter_px"] is None, "results of earlier versions are kept"


def test_a_diameter_is_a_number_or_a_word() -> None:
    with pytest.raises(UsageError, match="diameter_px large must be a finite number above 0"):
        Settings(diameter_px="large")  # type: ignore[arg-type]


def test_one_scale_for_all_frames_of_a_time_lapse(run: Callable[..., Any], discs: Array) -> None:
    small = np.pad(discs, ((0, 3 * 64), (0, 3 * 80)), constant_values=10)
    labels, info = run(np.stack([enlarged(discs, 4), small]), axes="TYX")
    assert [frame["zoom"] for frame in info["frames"]] == [0.25, 0.25]
    assert labels.shape == (2, 256, 320)
    # A frame without cells says nothing, and the next one does.
    dark = np.full_like(small, 10)
    dark[0, 0] = 20
    _, info = run(np.stack([dark, enlarged(discs, 4)]), axes="TYX")
    assert [frame["zoom"] for frame in info["frames"]] == [1.0, 0.25]


def test_the_section_in_the_middle_tells_the_scale_of_a_stack(run: Callable[..., Any], discs: Array) -> None:
    large = enlarged(discs, 4)
    dark = np.full_like(large, 10)
    labels, info = run(np.stack([dark, large, dark]), axes="ZYX", z="each")
    assert info["run"]["zoom"] == [1.0, 0.25, 0.25]
    np.testing.assert_array_equal(labels[1], run(large)[0])
    same, usual = run(np.stack([discs, discs[::-1], discs]), axes="ZYX", z="each")
    assert usual["run"]["zoom"] == [1.0, 1.0, 1.0]
    np.testing.assert_array_equal(
        same, run(np.stack([discs, discs[::-1], discs]), axes="ZYX", z="each", diameter_px="model")[0]
    )


def test_the_grey_values_of_the_whole_stack_tell_its_scale(model: Model, discs: Array) -> None:
    """Blur in the middle section, a quarter as bright as the cells of the others, would be a cell by its own values."""
    cells = np.tile(discs, (4, 4))
    blur = np.where(enlarged(discs, 4) > 100, 50, 10).astype(np.uint8)
    _, found = unetbio.segment(
        np.stack([cells, blur, cells]),
        by_percentiles(model),
        device="cpu",
        axes="ZYX",
        z="each",
    )
    assert found["run"]["zoom"] == [1.0, 1.0, 1.0]
    assert found["n_cells"] == 96


def test_noise_does_not_hide_the_scale_of_a_stack(model: Model, discs: Array) -> None:
    """Reducing averages it away: by the percentiles of the noisy sections the cells would stay as dim as they were."""
    cells = np.where(enlarged(discs, 4) > 100, 1300, 1000)
    noise = np.random.default_rng(0).normal(0, 100, (3, *cells.shape))
    _, found = unetbio.segment(
        (cells + noise).clip(0).astype(np.uint16),
        by_percentiles(model),
        device="cpu",
        axes="ZYX",
        z="each",
    )
    assert found["run"]["zoom"] == [1.0, 0.25, 0.25]
    assert found["n_cells"] == 9


def test_an_enlarged_piece_has_the_grey_values_of_its_image(model: Model) -> None:
    """Small cells that are uncertain beside something brighter, which the fullest piece does not hold."""
    image = np.full((512, 512), 10, np.uint16)
    for y in range(10, 200, 20):
        image[y : y + 6, 10:200] = np.where(np.arange(190) % 20 < 6, 1200, 10)
    image[500, 500] = 2000
    own = by_percentiles(model, cell_diameter_px=24.0)
    _, found = unetbio.segment(image, own, device="cpu", normalize="p0,p100")
    tried = found["run"]["scale"]["tried"]
    assert tried[-1]["zoom"] == 2.0
    assert max(tried[0]["certainty"], tried[-1]["certainty"]) < 0.01
    assert zoom_of(found) == 1.0


def test_a_small_image_is_enlarged_as_it_is_segmented(model: Model) -> None:
    """Enlarging averages noise away, so that the limits lie closer: with those of zoom 1 fewer pixels are certain."""
    image = np.random.default_rng(0).normal(1000, 100, (200, 200))
    for y, x in itertools.product(range(10, 190, 20), repeat=2):
        image[y : y + 6, x : x + 6] += 700
    own = by_percentiles(model, cell_diameter_px=24.0)
    _, found = unetbio.segment(image.astype(np.uint16), own, device="cpu")
    assert (zoom_of(found), found["n_cells"]) == (2.0, 81)
    assert found["run"]["scale"]["tried"][-1]["certainty"] == pytest.approx(0.958, abs=0.005)


@pytest.mark.parametrize(("threshold", "cells"), [(0.2, 4), (0.95, 3)])
def test_a_threshold_has_no_say_in_the_scale(
    run: Callable[..., Any], discs: Array, threshold: float, cells: int
) -> None:
    """Cells that are certain in the middle alone; with the lower threshold a dimmer one is found."""
    image = np.where(discs > 100, 120, 10).astype(np.uint8)
    for y, x in ((15, 15), (15, 50), (45, 30)):
        image[y - 3 : y + 4, x - 3 : x + 4] = 200
    image[40:50, 55:65] = 98
    _, info = run(image, threshold=threshold)
    assert info["n_cells"] == cells
    assert info["run"]["scale"] == run(image)[1]["run"]["scale"]


def test_the_crf_has_no_say_in_the_scale(run: Callable[..., Any], discs: Array) -> None:
    large = enlarged(discs, 4)
    refined, info = run(large, crf="largefov")
    assert zoom_of(info) == 0.25
    np.testing.assert_array_equal(refined, run(large, crf="largefov", diameter_px=48)[0])
    assert zoom_of(run(discs, crf="largefov")[1]) == 1.0


@pytest.fixture
def model_of_large_cells(model: Model, tmp_path: Path) -> Path:
    """Model file that drops cells below 30 pixels of its own scale."""
    limited = replace(model.info.postprocessing, min_area=30)
    path = tmp_path / "large.safetensors"
    save_model(path, model.info.model_copy(update={"postprocessing": limited}), model.network)
    return path


def test_limits_of_cells_have_no_say_in_the_scale(model_of_large_cells: Path, discs: Array) -> None:
    # Without a cell it is looked at down to 1/8, where 1500 pixels are 23.
    blank = np.full((640, 640), 10, np.uint8)
    blank[0, 0] = 20
    _, info = unetbio.segment(blank, model_of_large_cells, device="cpu", max_area=1500)
    assert [look["zoom"] for look in info["run"]["scale"]["tried"]] == [1.0, 0.5, 0.25, 0.125]
    assert info["n_cells"] == 0
    assert unetbio.segment(discs, model_of_large_cells, device="cpu", max_area=1500)[1]["n_cells"] == 3


def segmented_table(images: dict[str, Array], rows: str, model: Path, tmp_path: Path, *options: str) -> Any:
    """Segment images by a table: the result of the command, and status and reason of each image."""
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for name, image in images.items():
        tifffile.imwrite(folder / name, image)
    table = folder / "t.csv"
    table.write_text(f"image,diameter_px\n{rows}\n")
    line = ["segment", "--table", str(table), "-o", str(out), "-m", str(model), "--workers", "1", "--device", "cpu"]
    result = CliRunner().invoke(main, [*line, *options])
    with open(out / "summary.csv", newline="", encoding="utf-8") as stream:
        return result, {row["path"]: (row["status"], row["reason"]) for row in csv.DictReader(stream)}


def test_limits_that_leave_no_cell_at_the_scale_of_an_image_are_its_failure(
    model_of_large_cells: Path, tmp_path: Path, discs: Array
) -> None:
    images = {"A01.tif": discs, "A02.tif": enlarged(discs, 4), "A03.tif": discs}
    rows = "A01.tif,12\nA02.tif,48\nA03.tif,12"
    result, found = segmented_table(images, rows, model_of_large_cells, tmp_path, "--max-area", "400")
    assert result.exit_code == 3, result.output
    assert "--max-area 400 is 25 pixels at the scale of the model, which drops cells smaller than 30:" in result.stderr
    assert found == {"A01.tif": ("done", ""), "A02.tif": ("failed", "wrong_scale"), "A03.tif": ("done", "")}


def test_limits_that_leave_cells_at_the_scale_of_an_image_are_not_refused_for_others(
    model_of_large_cells: Path, tmp_path: Path, discs: Array
) -> None:
    # Of an image enlarged threefold 25 pixels are 225; the model drops cells below 30.
    images = {"found.tif": discs, "own.tif": discs, "small.tif": discs[::3, ::3]}
    rows = "found.tif,auto\nown.tif,model\nsmall.tif,4"
    result, found = segmented_table(images, rows, model_of_large_cells, tmp_path, "--max-area", "25")
    assert result.exit_code == 3, result.output
    assert "--max-area 25 is 25 pixels at the scale of the model, which drops cells smaller than 30:" in result.stderr
    assert found.pop("small.tif") == ("done", "")
    assert found == dict.fromkeys(("found.tif", "own.tif"), ("failed", "wrong_scale"))
    assert read_labels(tmp_path / "out" / "small_labels.ome.tif").max() == 3
    verified = CliRunner().invoke(main, ["verify", str(tmp_path / "out"), "--rerun", "1", "--device", "cpu"])
    assert "1 mask verified, 1 segmented again, 0 mismatches" in verified.stdout


def test_a_smallest_cell_above_the_largest_of_the_model_names_the_option(model: Model, discs: Array) -> None:
    limited = model.info.model_copy(update={"postprocessing": replace(model.info.postprocessing, max_area=500)})
    small = Model(limited, model.network, model.sha256, model.path)
    with pytest.raises(ImageError, match="--min-area 200 is 800 pixels at the scale of the model, which drops cells l"):
        unetbio.segment(discs, small, device="cpu", diameter=6, min_area=200)
    assert unetbio.segment(enlarged(discs, 4), small, device="cpu", diameter=48, min_area=1000)[1]["n_cells"] == 3


def test_probabilities_are_those_of_the_scale_that_was_found(model: Model, discs: Array) -> None:
    from unetbio.io.arrays import image_of_array

    segmenter = Segmenter(model, "cpu")
    for factor, zoom in ((1, 1.0), (4, 0.25)):
        image = enlarged(discs, factor)
        opened = segmenter.open(image_of_array(image, "YX"), Settings())
        made = segmenter.decide_frame(opened, segmenter.read_frame(opened, None), with_probabilities=True)
        told = segmenter.open(image_of_array(image, "YX"), Settings(diameter_px=12 / zoom))
        same = segmenter.decide_frame(told, segmenter.read_frame(told, None), with_probabilities=True)
        assert made.probabilities is not None
        assert same.probabilities is not None
        np.testing.assert_allclose(made.probabilities, same.probabilities, atol=1e-5)


def look(zoom: float, diameter: float, certainty: float, cells: int = 20) -> Look:
    return Look(zoom, cells, diameter, certainty)


def test_when_another_look_is_needed() -> None:
    assert not needs_coarse(look(1, 24, 0.8), DIAMETER)
    assert not needs_coarse(look(1, 24, 0.6), DIAMETER)
    assert needs_coarse(look(1, 25, 0.6), DIAMETER)
    assert needs_coarse(look(1, 24, 0.5), DIAMETER), "pieces of large cells are uncertain"
    assert needs_coarse(look(1, 60, 0.9), DIAMETER), "so large that a coarser zoom may be better"
    assert needs_coarse(Look(1, 0, 0.0, 0.0), DIAMETER), "cells may be too large to be seen"
    assert needs_fine(look(1, 8, 0.6), DIAMETER)
    assert not needs_fine(look(1, 12, 0.6), DIAMETER)
    assert not needs_fine(look(1, 4, 0.6), DIAMETER), "specks"
    assert not needs_fine(Look(1, 0, 0.0, 0.0), DIAMETER)


def test_a_coarser_zoom_has_to_be_more_certain() -> None:
    own = look(1, 24, 0.3)
    assert is_better(look(0.5, 41, 0.69), own, DIAMETER)
    assert is_better(look(0.25, 22, 0.72), look(0.5, 41, 0.69), DIAMETER)
    assert is_better(look(0.25, 28, 0.73), look(0.5, 56, 0.74), DIAMETER), "nearer to the training cells"
    assert not is_better(look(0.5, 6, 0.95), own, DIAMETER), "specks are certain too"
    assert not is_better(Look(0.5, 0, 0.0, 0.0), own, DIAMETER)
    assert is_better(look(0.5, 24, 0.1), Look(1, 0, 0.0, 0.0), DIAMETER)
    assert not is_better(look(0.5, 24, 0.88), look(1, 47, 0.92), DIAMETER), "too little to leave the model's own zoom"


def test_the_search_ends_where_coarser_looks_get_worse() -> None:
    # Beyond, clumps of cells look like cells.
    assert is_last(look(1, 11, 0.41))
    assert not is_last(look(1, 20, 0.1)), "too wrong to say anything"
    assert not is_last(Look(1, 0, 0.0, 0.0))


def test_an_enlarged_piece_may_be_a_little_less_certain() -> None:
    assert prefers_fine(look(1, 8, 0.6), look(2, 17, 0.56), DIAMETER)
    assert not prefers_fine(look(1, 8, 0.6), look(2, 17, 0.4), DIAMETER)
    assert not prefers_fine(look(1, 8, 0.6), Look(2, 0, 0.0, 0.0), DIAMETER)


def test_low_certainty_leaves_the_scale_in_doubt() -> None:
    assert is_doubtful(look(0.25, 24, 0.3))
    assert not is_doubtful(look(0.25, 24, 0.7))
    assert not is_doubtful(Look(1, 0, 0.0, 0.0))
