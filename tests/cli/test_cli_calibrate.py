"""Thresholds of a model are searched on annotated images; the network stays."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result
from tiny_model import write_tiny_model

from unetbio import networks
from unetbio.cli.main import main
from unetbio.model_export.quantization import quantize_model
from unetbio.models.model_file import load_model, read_info, save_model
from unetbio.postprocessing.instances import PostProcessing
from unetbio.settings.training import Augmentation
from unetbio.training import calibration
from unetbio.training.data import dataset
from unetbio.training.data.dataset import Example


@pytest.fixture
def data(tmp_path: Path, tiny_model: Path) -> Path:
    """Discs whose grey value the model takes for a probability of .62; its own thresholds find none of them."""
    model = load_model(tiny_model)
    strict = PostProcessing(0.9, (0.95,), min_area=5)
    record = {"images": 7, "config": {"ignore_label": None}}
    info = model.info.model_copy(update={"postprocessing": strict, "training": record})
    save_model(tmp_path / "m.safetensors", info, model.network)
    rows, columns = np.mgrid[:64, :80]
    for number in range(2):
        labels = np.zeros((64, 80), np.uint16)
        for label, (y, x) in enumerate(((15, 15 + number), (15, 50), (45, 30)), start=1):
            labels[(rows - y) ** 2 + (columns - x) ** 2 <= 40] = label
        image = np.where(labels > 0, 105, 10 + (rows + columns) % 3).astype(np.uint8)
        for folder, array in (("images", image), ("masks", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", array)
    return tmp_path


def calibrate(data: Path, *options: object, model: object = None) -> Result:
    inputs = ["calibrate", str(model or data / "m.safetensors"), str(data), "--device", "cpu"]
    return CliRunner().invoke(main, [*inputs, *(str(option) for option in options)])


def test_thresholds_are_found_and_recorded(data: Path) -> None:
    result = calibrate(data, "-o", data / "new.safetensors")
    assert result.exit_code == 0, result.output
    assert "new.safetensors: mean_AP 1.000, before 0.000, on the 2 images that chose them (a rough figure)" in (
        result.stdout
    )
    before, after = load_model(data / "m.safetensors"), load_model(data / "new.safetensors")
    assert after.info.postprocessing.mask_threshold < 0.65
    record = after.info.calibration
    assert (record["images"], record["model_sha256"]) == (2, before.sha256)
    assert record["scores_before"]["mean_AP"] < record["scores"]["mean_AP"] == 1.0
    # All else is the model's.
    same = {"name", "postprocessing", "confidence", "calibration"}
    assert after.info.model_dump(exclude=same) == before.info.model_dump(exclude=same)
    assert after.info.name == "new"
    for name, tensor in before.network.state_dict().items():
        assert (after.network.state_dict()[name] == tensor).all()
    # What was found stays when it is asked for again.
    again = calibrate(data, "-o", data / "third.safetensors", model=data / "new.safetensors")
    assert "no thresholds are clearly better than the model's, mean_AP 1.000" in again.stdout
    assert read_info(data / "third.safetensors").postprocessing == after.info.postprocessing


def test_pairs_are_shown_and_leftovers_listed(data: Path) -> None:
    (data / "masks" / "1.tif").rename(data / "masks" / "one.tif")
    result = calibrate(data, "-o", data / "new.safetensors")
    assert result.exit_code == 0, result.output
    assert f"{data / 'images' / '0.tif'} with {data / 'masks' / '0.tif'}" in result.stderr
    for path in (data / "images" / "1.tif", data / "masks" / "one.tif"):
        assert f"left out, nothing to pair it with: {path}" in result.stderr


def test_a_table_of_validation_images_alone_is_enough(data: Path) -> None:
    rows = "".join(f"images/{number}.tif,masks/{number}.tif,validation\n" for number in range(2))
    (data / "table.csv").write_text(f"image,mask,split\n{rows}")
    arguments = ["calibrate", data / "m.safetensors", data / "table.csv", "-o", data / "new.safetensors"]
    result = CliRunner().invoke(main, [*map(str, arguments), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "on the 2 images that chose them" in result.stdout


@pytest.mark.parametrize("largest", [5, "wide", None])
def test_cells_are_reduced_as_the_training_reduced_them(
    data: Path, monkeypatch: pytest.MonkeyPatch, largest: object
) -> None:
    model = load_model(data / "m.safetensors")
    training = {"images": 7, "config": {"augmentation": {"largest_diameter": largest}}}
    save_model(data / "m.safetensors", model.info.model_copy(update={"training": training}), model.network)
    sizes = []

    def as_learned(example: Example, augmentation: Augmentation) -> Example:
        sizes.append(augmentation.largest_diameter)
        return dataset.as_learned(example, augmentation)

    monkeypatch.setattr(calibration, "as_learned", as_learned)
    assert calibrate(data, "-o", data / "new.safetensors").exit_code == 0
    assert sizes == [5 if largest == 5 else None] * 2


def test_a_file_is_replaced_only_when_asked(data: Path) -> None:
    result = calibrate(data, "-o", data / "m.safetensors")
    assert result.exit_code == 2
    assert "m.safetensors exists already: choose another name, or --overwrite it" in result.stderr
    assert "a model file's name ends in .safetensors" in calibrate(data, "-o", data / "m.pth").stderr


def test_images_and_models_that_do_not_go_together_are_refused(data: Path) -> None:
    for path in (data / "images").iterdir():
        tifffile.imwrite(path, np.stack([tifffile.imread(path)] * 2), imagej=True, metadata={"axes": "CYX"})
    result = calibrate(data, "-o", data / "new.safetensors")
    assert result.exit_code == 3
    assert "0.tif: 2 channels" in result.stderr
    assert "but the model takes 1: choose with --channel NAME or INDEX" in result.stderr
    result = calibrate(data, "-o", data / "new.safetensors", "--channel", "0", "--channel", "1")
    assert result.exit_code == 2
    assert "has 2 channels, " in result.stderr
    assert "takes 1: choose as many with --channel" in result.stderr


def test_pictures_are_taken_as_segment_takes_them(data: Path) -> None:
    """Grey as colours, for a model of one channel; opaque and with alpha, for one of three."""
    for path in (data / "images").iterdir():
        grey = tifffile.imread(path)
        alpha = np.full_like(grey, 255)
        tifffile.imwrite(path, np.stack([grey, grey, grey, alpha], -1), photometric="rgb", extrasamples=["unassalpha"])
    assert calibrate(data, "-o", data / "new.safetensors").exit_code == 0
    write_tiny_model(data / "c.safetensors", channels=("red", "green", "blue"))
    result = calibrate(data, "-o", data / "colours.safetensors", model=data / "c.safetensors")
    assert result.exit_code == 0, result.output


def test_confidences_stay_where_there_are_few_cells(data: Path) -> None:
    model = load_model(data / "m.safetensors")
    knots = ((0.5, 0.1), (0.9, 0.8))
    save_model(data / "m.safetensors", model.info.model_copy(update={"confidence": knots}), model.network)
    result = calibrate(data, "-o", data / "new.safetensors")
    assert "fewer than 100 cells were found, too few to calibrate confidences: they stay those of the" in result.stderr
    assert read_info(data / "new.safetensors").confidence == knots


def test_the_list_of_models_has_the_scores_of_a_calibration(data: Path) -> None:
    assert calibrate(data, "-o", data / "new.safetensors").exit_code == 0
    listed = CliRunner().invoke(main, ["models", str(data)]).stdout
    assert listed.count("  calibrated on 2 images: ") == 1
    assert "mean_AP 1.000" in listed


def enlarge(data: Path, names: str, factor: int, *, pixel_size: float | None) -> None:
    """Enlarge images and masks; a pixel size is written into the images."""
    for folder in ("images", "masks"):
        for name in names:
            path = data / folder / f"{name}.tif"
            array = tifffile.imread(path).repeat(factor, axis=0).repeat(factor, axis=1)
            sizes = (
                {}
                if pixel_size is None or folder == "masks"
                else {"PhysicalSizeX": pixel_size, "PhysicalSizeY": pixel_size}
            )
            tifffile.imwrite(path, array, ome=True, metadata={"axes": "YX", **sizes})


@pytest.mark.parametrize(
    ("size", "options", "is_rescaled"),
    [
        (0.125, (), True),
        (None, ("--pixel-size", "0.125"), True),
        (None, ("--diameter", "48"), True),
        (None, (), False),
    ],
)
def test_images_have_the_scale_of_the_model(
    data: Path, size: float | None, options: tuple[str, ...], is_rescaled: bool
) -> None:
    """The model has pixels of 0.5 um and cells of 12 pixels; its smallest cell is larger than the discs are there."""
    model = load_model(data / "m.safetensors")
    info = model.info.model_copy(update={"postprocessing": PostProcessing(0.5, (0.5,), min_area=200)})
    save_model(data / "large.safetensors", info, model.network)
    enlarge(data, "01", 4, pixel_size=size)
    result = calibrate(data, "-o", data / "new.safetensors", *options, model=data / "large.safetensors")
    assert result.exit_code == 0, result.stderr
    assert (", before 0.000, " in result.stdout) == is_rescaled


def test_images_at_the_scale_of_the_model_are_not_said_to_differ(data: Path) -> None:
    enlarge(data, "0", 4, pixel_size=0.125)
    result = calibrate(data, "-o", data / "new.safetensors")
    assert result.exit_code == 0, result.output
    assert "pixel sizes differ" not in result.stderr


def test_stacks_are_refused_for_a_model_of_planes(data: Path) -> None:
    for folder in ("images", "masks"):
        for path in (data / folder).iterdir():
            tifffile.imwrite(path, np.stack([tifffile.imread(path)] * 3), imagej=True, metadata={"axes": "ZYX"})
    result = calibrate(data, "-o", data / "new.safetensors")
    assert result.exit_code == 3
    assert "has the axes ZYX, and the model is 2-D: choose a plane with --z INDEX, max or each" in result.stderr
    assert calibrate(data, "-o", data / "new.safetensors", "--z", "1").exit_code == 0


def test_models_without_thresholds_are_refused(data: Path) -> None:
    model = load_model(data / "m.safetensors")
    info = model.info.model_copy(update={"target": "classes"})
    save_model(data / "classes.safetensors", info, model.network)
    # Masks of foreground are no reason to ask for options of other commands.
    for path in (data / "masks").iterdir():
        tifffile.imwrite(path, np.where(tifffile.imread(path) > 0, 255, 0).astype(np.uint8))
    result = calibrate(data, "-o", data / "new.safetensors", model=data / "classes.safetensors")
    assert result.exit_code == 2
    assert "has the target classes and no thresholds of probabilities to search" in result.stderr


def test_masks_are_checked(data: Path) -> None:
    for path in (data / "masks").iterdir():
        tifffile.imwrite(path, np.zeros((64, 80), np.uint16))
    result = calibrate(data, "-o", data / "new.safetensors")
    assert result.exit_code == 3
    assert "all masks are empty" in result.stderr
    assert not (data / "new.safetensors").exists()


def test_models_that_find_objects_are_refused(data: Path) -> None:
    complete = networks.find("mask_rcnn").complete({"width": 1 / 32, "backbone": "resnet18"})
    info = load_model(data / "m.safetensors").info.model_copy(
        update={"architecture": "mask_rcnn", "parameters": complete, "class_names": ("background", "cell")}
    )
    save_model(data / "objects.safetensors", info, networks.build("mask_rcnn", complete))
    result = calibrate(data, "-o", data / "new.safetensors", model=data / "objects.safetensors")
    assert result.exit_code == 2, result.output
    assert "no thresholds of probabilities to search" in result.stderr


def test_models_in_integers_are_calibrated_on_the_processor(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantize_model(data / "m.safetensors", [data / "images" / "0.tif"], data / "m.int8.safetensors")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    line = ["calibrate", str(data / "m.int8.safetensors"), str(data), "-o", str(data / "new.safetensors")]
    asked = CliRunner().invoke(main, [*line, "--device", "cuda"])
    assert asked.exit_code == 2, asked.output
    assert "models in integers run on the CPU and not on 'cuda:0': give --device cpu, or the model that" in asked.stderr
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    after = read_info(data / "new.safetensors")
    assert after.is_integer
    assert after.postprocessing.mask_threshold < 0.65
