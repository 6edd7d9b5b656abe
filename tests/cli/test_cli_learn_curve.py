"""How the score grows with annotated images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio.cli.main import main
from unetbio.files import lock
from unetbio.models.model_file import CHECKPOINT_KEY, read_info
from unetbio.targets.base import Validation
from unetbio.targets.classes import ClassLearner
from unetbio.tensor_file import load_tensors, save_tensors
from unetbio.training.learning_curve import LearningCurve, Point

TINY = """
parameters: {base_channels: 2, depth: 1, batch_norm: true}
patch_size: 24
batch_size: 1
steps: 1
validate_every: 1
"""

pytestmark = pytest.mark.usefixtures("quick_search")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(4):
        labels = np.zeros((40, 44), np.uint16)
        labels[5:15, 5:20], labels[20:32, 10 + number : 26] = 1, 2
        image = (labels > 0) * 500 + rng.normal(100, 10, labels.shape)
        for folder, array in (("images", image.astype(np.uint16)), ("masks", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", array)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def learn_curve(data: Path, *options: object, inputs: Path | None = None) -> Result:
    fixed = [
        "learn-curve",
        str(inputs or data),
        "-o",
        str(data / "curve"),
        "--config",
        str(data / "tiny.yaml"),
        "--device",
        "cpu",
    ]
    return CliRunner().invoke(main, [str(word) for word in (*fixed, *options)])


def test_nested_parts_are_trained_and_go_on_where_they_stopped(data: Path) -> None:
    result = learn_curve(data)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((data / "curve" / "learning_curve.csv").read_text().splitlines()))
    assert [(row["images"], row["steps"]) for row in rows] == [("1", "1"), ("3", "1")]
    assert set(rows[0]) >= {"mean_AP", "AP@.5", "AP@.75"}
    assert result.stdout.splitlines()[0].startswith("1 image: mean_AP 0.")
    assert "on 1 validation image (a rough figure): " in result.stdout.splitlines()[-1]
    assert (data / "curve" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert read_info(data / "curve" / "0003.safetensors").training["images"] == 3
    again = learn_curve(data)
    assert "1 images: going on from step 1" in again.stderr
    assert again.stdout == result.stdout
    other = learn_curve(data, "--steps", "2")
    assert other.exit_code == 2
    assert "belongs to a run with other settings or other images (steps 1, now 2)" in other.stderr


def test_pairs_are_shown_and_leftovers_listed(data: Path) -> None:
    (data / "masks" / "3.tif").rename(data / "masks" / "three.tif")
    result = learn_curve(data, "--sizes", 2)
    assert result.exit_code == 0, result.output
    assert f"{data / 'images' / '0.tif'} with {data / 'masks' / '0.tif'}" in result.stderr
    for path in (data / "images" / "3.tif", data / "masks" / "three.tif"):
        assert f"left out, nothing to pair it with: {path}" in result.stderr


def test_frames_of_a_file_are_trained_on_together(data: Path) -> None:
    """Three files of three frames train: a part has three, six or nine images."""
    for folder in ("images", "masks"):
        for path in (data / folder).iterdir():
            frames = np.stack([tifffile.imread(path)] * 3)
            tifffile.imwrite(path, frames, ome=True, photometric="minisblack", metadata={"axes": "TYX"})
    result = learn_curve(data)
    assert result.exit_code == 0, result.output
    assert "files are taken whole, with all of their images: parts of 3, 6, 9 images" in result.stderr
    rows = list(csv.DictReader((data / "curve" / "learning_curve.csv").read_text().splitlines()))
    assert [row["images"] for row in rows] == ["3", "6", "9"]
    assert read_info(data / "curve" / "0006.safetensors").training["images"] == 6
    assert "3 validation images" in result.stdout
    asked = learn_curve(data, "--sizes", "4,5,9")
    assert [line.partition(":")[0] for line in asked.stdout.splitlines()[:-1]] == ["6 images", "9 images"]


def test_a_curve_goes_on_with_the_choices_that_it_began_with(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY + "target: instances\nborder_weight: 10.0\nborder_sigma: 5.0\n")
    assert learn_curve(data).exit_code == 0
    (data / "tiny.yaml").write_text(TINY)
    result = learn_curve(data)
    assert result.exit_code == 0, result.output
    assert "3 images: going on from step 1" in result.stderr
    assert learn_curve(data, "--overwrite").exit_code == 0
    assert read_info(data / "curve" / "0003.safetensors").target == "centres"


def test_a_curve_of_other_images_chooses_anew(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY.replace("patch_size: 24", ""))
    model = data / "curve" / "0003.safetensors"
    assert learn_curve(data).exit_code == 0
    before = read_info(model).training["config"]["patch_size"]
    assert "chosen, since" not in learn_curve(data).stderr
    for path in [*(data / "images").iterdir(), *(data / "masks").iterdir()]:
        tifffile.imwrite(path, tifffile.imread(path).repeat(2, axis=0).repeat(2, axis=1))
    result = learn_curve(data, "--replace")
    assert result.exit_code == 0, result.output
    assert "chosen, since nothing is stated: " in result.stderr
    assert read_info(model).training["config"]["patch_size"] > before


def test_two_curves_cannot_write_one_folder(data: Path) -> None:
    with lock(data / "curve" / ".run.lock"):
        result = learn_curve(data)
    assert result.exit_code == 4
    assert f"{data / 'curve'} is in use by another unetbio run (lock file .run.lock)" in result.stderr
    assert [path.name for path in (data / "curve").iterdir()] == [".run.lock"]


def test_folds_are_refused(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY + "folds: 2\n")
    result = learn_curve(data)
    assert result.exit_code == 2
    assert "folds: 2 are for unetbio train: leave folds out of the settings here" in result.stderr


def test_sizes_that_there_are_not_are_refused(data: Path) -> None:
    result = learn_curve(data, "--sizes", "2,9")
    assert result.exit_code == 2
    assert "--sizes 2, 9: there are 3 images to train on, give 1 to 3" in result.stderr
    assert not (data / "curve").exists()


def test_connected_parts_of_masks_of_two_values_are_cells_if_the_option_says_so(data: Path) -> None:
    for path in (data / "masks").iterdir():
        tifffile.imwrite(path, np.uint8(255) * (tifffile.imread(path) > 0))
    refused = learn_curve(data, "--sizes", 3)
    assert refused.exit_code == 3
    assert "say --split-components" in refused.stderr
    taken = learn_curve(data, "--sizes", 3, "--split-components")
    assert taken.exit_code == 0, taken.output
    assert read_info(data / "curve" / "0003.safetensors").training["config"]["split_components"]


@pytest.mark.parametrize(
    ("scores", "advice"),
    [
        ((0.5, 0.6), "twice as many images gave +0.050 mean_AP at the end: more annotated images will help"),
        ((0.5, 0.51), "twice as many images gave +0.005 mean_AP at the end: more images like these will hardly help"),
        ((0.5,), "one point says nothing about more images"),
    ],
)
def test_the_end_of_the_curve_says_whether_more_images_help(scores: tuple[float, ...], advice: str) -> None:
    points = tuple(Point(5 * 4**number, 10, {"mean_AP": score}) for number, score in enumerate(scores))
    assert LearningCurve(points, "mean_AP", 9).advice() == advice


def test_a_score_that_some_points_lack_is_an_empty_cell() -> None:
    """A class that is in no validation mask has a score only if the network predicts it."""
    some, all_of_them = {"mean_IoU": 0.5, "IoU cell": 0.5}, {"mean_IoU": 0.25, "IoU cell": 0.5, "IoU stroma": 0.0}
    for scores, cells in (((some, all_of_them), ["", "0.0000"]), ((all_of_them, some), ["0.0000", ""])):
        points = tuple(Point(2 * number, 10, each) for number, each in enumerate(scores, start=1))
        rows = list(csv.DictReader(LearningCurve(points, "mean_IoU", 1).csv().splitlines()))
        assert [row["IoU stroma"] for row in rows] == cells
        assert [row["images"] for row in rows] == ["2", "4"]


def test_a_class_that_one_network_alone_has_a_score_of_does_not_end_the_curve(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where no validation mask has the class, and the second network predicts it."""
    (data / "tiny.yaml").write_text(TINY + "target: classes\nclass_names: [background, cell, stroma]\n")
    scores = iter(({"mean_IoU": 0.5}, {"mean_IoU": 0.5, "IoU stroma": 0.0}))
    monkeypatch.setattr(ClassLearner, "tune", lambda *_: Validation(next(scores)))
    result = learn_curve(data)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((data / "curve" / "learning_curve.csv").read_text().splitlines()))
    assert [row["IoU stroma"] for row in rows] == ["", "0.0000"]
    assert (data / "curve" / "learning_curve.png").exists()


def test_a_calibrated_model_of_a_point_stays(data: Path) -> None:
    assert learn_curve(data).exit_code == 0
    model = data / "curve" / "0003.safetensors"
    words = ("calibrate", model, data, "-o", model, "--overwrite", "--device", "cpu")
    assert CliRunner().invoke(main, [str(word) for word in words]).exit_code == 0
    calibrated = model.read_bytes()
    result = learn_curve(data)
    assert result.exit_code == 0, result.output
    assert "0003.safetensors was calibrated since: it stays as it is" in result.stderr
    assert model.read_bytes() == calibrated


@pytest.mark.parametrize("empty", [1, 2, 3])
def test_an_image_without_cells_is_never_a_part_alone(data: Path, empty: int) -> None:
    """Classes of cells cannot be balanced without a cell. The draw begins with one of the three."""
    for path in (data / "masks").iterdir():
        labels = tifffile.imread(path)
        if path.stem == str(empty):
            tifffile.imwrite(path, np.zeros_like(labels))
        rows = "" if path.stem == str(empty) else "1,round\n2,long\n"
        path.with_name(f"{path.stem}_objects.csv").write_text(f"label,class\n{rows}")
    rows = "".join(f"images/{n}.tif,masks/{n}.tif,{'training' if n else 'validation'}\n" for n in range(4))
    (data / "table.csv").write_text(f"image,mask,split\n{rows}")
    (data / "tiny.yaml").write_text(TINY + "target: cell_classes\n")
    result = learn_curve(data, "--sizes", "1,3", inputs=data / "table.csv")
    assert result.exit_code == 0, result.output
    assert read_info(data / "curve" / "0001.safetensors").training["cells"] > 0


def test_a_model_that_knows_the_images_is_named(data: Path) -> None:
    words = ["train", data, "-o", data / "m.safetensors", "--config", data / "tiny.yaml", "--device", "cpu"]
    assert CliRunner().invoke(main, [str(word) for word in words]).exit_code == 0
    result = learn_curve(data, "--start", data / "m.safetensors")
    assert result.exit_code == 0, result.output
    assert "m.safetensors has learned from 3 of these 4 images, and every part begins with that" in result.stderr
    assert "has learned from" not in learn_curve(data, "--overwrite").stderr


def test_a_curve_from_a_model_goes_on_with_the_largest_diameter_that_it_began_with(data: Path) -> None:
    """As a training does, where the model to start from would give another one today."""
    assert learn_curve(data, "--sizes", 3).exit_code == 0
    (data / "curve").rename(data / "start")
    start = data / "start" / "0003.safetensors"
    options = ("--sizes", 3, "--start", start)
    assert learn_curve(data, *options).exit_code == 0
    checkpoint = data / "curve" / "0003.checkpoint.safetensors"
    tensors, metadata = load_tensors(checkpoint)
    progress = json.loads(metadata[CHECKPOINT_KEY])
    progress["run"]["config"]["augmentation"]["largest_diameter"] = 77.0
    save_tensors(checkpoint, tensors, {**metadata, CHECKPOINT_KEY: json.dumps(progress)})
    result = learn_curve(data, *options)
    assert result.exit_code == 0, result.output
    assert "3 images: going on from step 1" in result.stderr
