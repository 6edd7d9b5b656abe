"""The command that trains, on images of touching discs."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result

import unetbio.models
from unetbio.cli.main import main
from unetbio.files import lock
from unetbio.models.model_file import ModelInfo, load_model, read_info
from unetbio.tensor_file import load_metadata, load_tensors, save_tensors
from unetbio.training import loss_curve
from unetbio.training.trainer import Trainer, TrainingResult

TINY = """
parameters: {base_channels: 2, depth: 1, batch_norm: true}
patch_size: 40
batch_size: 2
steps: 4
validate_every: 2
"""

pytestmark = pytest.mark.usefixtures("quick_pictures", "quick_search")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        label_image = np.zeros((48, 56), np.uint16)
        label_image[5:20, 5:25] = 1
        label_image[22:40, 10 + number : 30] = 2
        image = (label_image > 0) * 500 + rng.normal(100, 10, label_image.shape)
        tifffile.imwrite(tmp_path / "images" / f"zelle_ü{number}.tif", image.astype(np.uint16))
        tifffile.imwrite(tmp_path / "masks" / f"zelle_ü{number}_labels.tif", label_image)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", *(str(argument) for argument in arguments)])


def train(data: Path, *inputs: object, options: tuple[object, ...] = ()) -> Result:
    return run(
        *inputs, "-o", data / "out" / "m.safetensors", "--config", data / "tiny.yaml", "--device", "cpu", *options
    )


def test_a_folder_with_images_and_masks_becomes_a_model(data: Path) -> None:
    result = train(data, data)
    assert result.exit_code == 0, result.output
    assert "m.safetensors: mean_AP" in result.stdout
    assert "2 images to train on, 1 to validate on" in result.stderr
    model = load_model(data / "out" / "m.safetensors")
    assert model.info.training["steps"] == 4
    assert model.info.version == version("unetbio")
    beside = {path.name for path in (data / "out").iterdir()}
    assert beside == {"m.safetensors", "m.checkpoint.safetensors", "m.png", "m.log", ".m.lock"}


def test_a_model_names_the_images_of_warnings_without_their_folder(data: Path) -> None:
    path = data / "masks" / "zelle_ü0_labels.tif"
    torn = tifffile.imread(path)
    torn[12] = 0
    tifffile.imwrite(path, torn)
    result = train(data, data)
    assert result.exit_code == 0, result.output
    assert f"the mask of {data}/images/zelle_ü0.tif: 1 cell of 2 in pieces" in result.stderr
    (warning,) = load_model(data / "out" / "m.safetensors").info.training["warnings"]
    assert warning.startswith("the mask of zelle_ü0.tif: 1 cell of 2 in pieces")


def test_another_network_has_the_parameters_of_its_paper_unless_told(data: Path) -> None:
    (data / "tiny.yaml").write_text("patch_size: 40\nbatch_size: 1\nsteps: 1\nvalidate_every: 1")
    result = train(data, data, options=("--network", "full_resolution_fcn"))
    assert result.exit_code == 0, result.output
    info = load_model(data / "out" / "m.safetensors").info
    assert info.architecture == "full_resolution_fcn"
    assert info.parameters["width"] == 1.0
    (data / "tiny.yaml").write_text("patch_size: 40\nparameters: {skop: 1}")
    result = train(data, data, options=("--network", "full_resolution_fcn", "--overwrite"))
    assert "full_resolution_fcn has no parameter skop; it has " in result.stderr


def test_a_model_is_fine_tuned(data: Path) -> None:
    """With a vanishing learning rate it stays what it was; of other images it is refused."""
    assert train(data, data).exit_code == 0
    first = data / "out" / "m.safetensors"
    (data / "slow.yaml").write_text(
        "patch_size: 40\nbatch_size: 2\nsteps: 2\nvalidate_every: 2\nlearning_rate: 1.0e-12\n"
    )
    options = ("-o", data / "second.safetensors", "--config", data / "slow.yaml", "--device", "cpu")
    result = run(data, *options, "--start", first)
    assert result.exit_code == 0, result.output
    before, after = load_model(first), load_model(data / "second.safetensors")
    assert after.info.parameters == before.info.parameters
    assert after.info.normalization == before.info.normalization
    for name, weight in before.network.named_parameters():
        np.testing.assert_allclose(after.network.get_parameter(name).detach(), weight.detach(), atol=1e-6)

    other = run(data, *options, "--start", first, "--network", "fcn8s", "--overwrite")
    assert other.exit_code == 2
    assert "m.safetensors is a unet, --network asks for fcn8s" in other.stderr
    for path in (data / "images").iterdir():
        image = tifffile.imread(path)
        tifffile.imwrite(path, np.stack([image, image]), imagej=True, metadata={"axes": "CYX"})
    colours = run(data, *options, "--start", first, "--overwrite")
    assert colours.exit_code == 2
    assert "does not fit the images and masks (in_channels 1, needed 2): start from another model" in colours.stderr


def test_pairs_are_shown_and_leftovers_listed(data: Path) -> None:
    (data / "masks" / "zelle_ü2_labels.tif").unlink()
    result = train(data, data)
    assert f"{data / 'images' / 'zelle_ü0.tif'} with {data / 'masks' / 'zelle_ü0_labels.tif'}" in result.stderr
    assert f"left out, nothing to pair it with: {data / 'images' / 'zelle_ü2.tif'}" in result.stderr


def test_images_and_masks_may_be_two_folders(data: Path) -> None:
    assert train(data, data / "images", data / "masks").exit_code == 0


def test_a_table_names_the_validation_images(data: Path) -> None:
    table = data / "pairs.csv"
    rows = [
        f"images/zelle_ü{n}.tif,masks/zelle_ü{n}_labels.tif,{'validation' if n else 'training'}\n" for n in range(3)
    ]
    table.write_text("image,mask,split\n" + "".join(rows), encoding="utf-8")
    result = train(data, table)
    assert result.exit_code == 0, result.output
    assert "1 image to train on, 2 to validate on" in result.stderr


def test_the_same_command_again_goes_on_and_ends_with_the_same_model(data: Path) -> None:
    train(data, data)
    first = (data / "out" / "m.safetensors").read_bytes()
    result = train(data, data)
    assert "going on from step 4" in result.stderr
    assert (data / "out" / "m.safetensors").read_bytes() == first


def test_a_complete_training_says_so_and_how_to_go_on(data: Path) -> None:
    model = data / "out" / "m.safetensors"
    assert "training is complete" not in train(data, data).stderr
    result = train(data, data)
    assert result.exit_code == 0
    spent = json.loads(load_metadata(data / "out" / "m.checkpoint.safetensors")["progress"])["history"]["seconds"] / 60
    assert f"the training is complete (all 4 steps): it goes on with --minutes above the {spent:.1f} " in result.stderr
    assert f"another model starts from this one with --start {model}" in result.stderr
    # It is true.
    more = ("--minutes", spent + 0.01)
    assert "training is complete" not in train(data, data, options=more).stderr
    assert read_info(model).training["steps"] > 4
    assert " minutes): it goes on with --minutes above the " in train(data, data, options=more).stderr


def test_in_folds_each_image_validates_and_the_model_learns_from_all(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY + "folds: 3\n")
    result = train(data, data)
    assert result.exit_code == 0, result.output
    assert "3 images to train on; each validates in one of 3 folds" in result.stderr
    assert "fold 3 of 3: step 1" in result.stderr
    assert result.stdout.splitlines()[-1].endswith("on 3 images in 3 folds (a rough figure)")
    model = data / "out" / "m.safetensors"
    first = model.read_bytes()
    assert fold_files(data) == [f".m.fold{number}.checkpoint.safetensors" for number in (1, 2, 3)]
    again = train(data, data)
    assert "the training is complete (all 4 steps)" in again.stderr
    assert model.read_bytes() == first
    assert "the training is complete" not in train(data, data, options=("--overwrite",)).stderr
    assert model.read_bytes() == first
    assert "folds: 4 need as many annotated images, and there are 3" in (
        train(data, data, options=("--folds", "4", "--overwrite")).stderr
    )
    assert "going on from step 4" in train(data, data).stderr


def fold_files(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "out").iterdir() if "fold" in path.name)


def test_a_run_killed_in_its_folds_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "tiny.yaml").write_text(TINY + "folds: 2\n")
    assert train(data, data).exit_code == 0
    model = data / "out" / "m.safetensors"
    whole = model.read_bytes()
    original, seen = Trainer.run, []

    def killed_later(self: Trainer) -> TrainingResult:
        seen.append(self)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Trainer, "run", killed_later)
    assert train(data, data, options=("--overwrite",)).exit_code != 0
    monkeypatch.setattr(Trainer, "run", original)
    assert fold_files(data) == [".m.fold1.checkpoint.safetensors"]
    result = train(data, data)
    assert result.exit_code == 0, result.output
    assert "fold 1 of 2: going on from step 2" in result.stderr
    assert model.read_bytes() == whole


def test_a_checkpoint_of_other_settings_is_refused_before_the_folds(data: Path) -> None:
    assert train(data, data).exit_code == 0
    result = train(data, data, options=("--folds", "2"))
    assert result.exit_code == 2
    assert "folds 0, now 2" in result.stderr
    assert "fold 1" not in result.stderr
    assert train(data, data, options=("--folds", "2", "--replace")).exit_code == 0
    assert fold_files(data)
    assert train(data, data, options=("--overwrite",)).exit_code == 0
    assert fold_files(data) == []


def test_the_order_of_a_table_does_not_matter_to_folds(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY + "folds: 2\n")
    rows = [f"images/zelle_ü{n}.tif,masks/zelle_ü{n}_labels.tif\n" for n in range(3)]
    table = data / "pairs.csv"
    table.write_text("image,mask\n" + "".join(rows), encoding="utf-8")
    assert train(data, table).exit_code == 0
    table.write_text("image,mask\n" + "".join(rows[::-1]), encoding="utf-8")
    assert "going on from step 4" in train(data, table).stderr


def test_equal_images_in_two_folds_are_named(data: Path) -> None:
    for folder, name in (("images", "zelle_ü{}.tif"), ("masks", "zelle_ü{}_labels.tif")):
        first = (data / folder / name.format(0)).read_bytes()
        for number in (1, 2):
            (data / folder / name.format(number)).write_bytes(first)
    assert "shares pixels with training images" in train(data, data, options=("--folds", "3")).stderr


def test_folds_keep_the_model_to_start_from_where_they_are_no_better(data: Path) -> None:
    start = data / "out" / "m.safetensors"
    assert train(data, data, options=("--steps", "60")).exit_code == 0
    (data / "tiny.yaml").write_text(TINY + "folds: 3\nlearning_rate: 1.0\n")
    result = run(
        data,
        "-o",
        data / "out" / "ruined.safetensors",
        "--config",
        data / "tiny.yaml",
        "--start",
        start,
        "--device",
        "cpu",
    )
    assert result.exit_code == 0, result.output
    assert "the model keeps the weights that it began with; train for longer" in result.stderr
    begun, kept = (load_model(data / "out" / name) for name in ("m.safetensors", "ruined.safetensors"))
    for name, tensor in begun.network.state_dict().items():
        assert torch.equal(tensor, kept.network.state_dict()[name]), name
    assert kept.info.training["validation_images"] == 3


def test_a_model_that_learned_from_the_images_is_no_judge_of_folds(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY + "folds: 3\n")
    start = data / "out" / "m.safetensors"
    assert train(data, data, options=("--steps", "60")).exit_code == 0
    (data / "tiny.yaml").write_text(TINY + "folds: 3\nlearning_rate: 1.0\n")
    words = (data, "-o", data / "out" / "n.safetensors", "--config", data / "tiny.yaml", "--start", start)
    result = run(*words, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "m.safetensors has learned from all of these images: the scores are too good" in result.stderr
    assert "; 1 warning: " in result.stdout.splitlines()[-1]
    assert "keeps the weights" not in result.stderr


def test_a_unet_learns_centres_unless_told(data: Path) -> None:
    assert train(data, data).exit_code == 0
    assert read_info(data / "out" / "m.safetensors").target == "centres"
    # A run that began before this choice goes on as it began.
    assert train(data, data, options=("--target", "instances", "--overwrite")).exit_code == 0
    result = train(data, data)
    assert "going on from step 4" in result.stderr
    assert read_info(data / "out" / "m.safetensors").target == "instances"


def test_a_training_without_a_better_score_is_complete(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY.replace("steps: 4", "steps: 40") + "learning_rate: 1.0e-12\npatience: 1\n")
    assert "training is complete" not in train(data, data).stderr
    message = train(data, data).stderr
    assert "the training is complete: no better score in 1 validations (patience); another model starts from" in message


def test_a_model_is_called_like_its_file_unless_the_settings_name_it(data: Path) -> None:
    model, checkpoint = data / "out" / "m.safetensors", data / "out" / "m.checkpoint.safetensors"
    train(data, data)
    assert read_info(model).name == "m"
    # A run goes on whatever its model is called: once all were called "model" that had no name.
    tensors, metadata = load_tensors(checkpoint)
    progress = json.loads(metadata["progress"])
    progress["run"]["config"]["name"] = "model"
    save_tensors(checkpoint, tensors, {"progress": json.dumps(progress)})
    (data / "tiny.yaml").write_text(TINY + "name: mine")
    assert "going on from step 4" in train(data, data).stderr
    assert read_info(model).name == "mine"


def test_a_model_without_its_checkpoint_is_not_overwritten_unasked(data: Path) -> None:
    train(data, data)
    (data / "out" / "m.checkpoint.safetensors").unlink()
    result = train(data, data)
    assert result.exit_code == 2
    assert "exists already: choose another name, or --overwrite it" in result.stderr
    assert train(data, data, options=("--overwrite",)).exit_code == 0


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda data: [data / "images"], "has no folders images and masks, and no masks beside images"),
        (lambda data: [data / "images"] * 3, "3 inputs given: give IMAGES and MASKS"),
        (
            lambda data: [data / "images"] * 2,
            "images was given twice, as images and as masks: give two folders, or name",
        ),
        (lambda data: [data / "masks"] * 2, "masks was given twice, as images and as masks: give two folders, or name"),
    ],
)
def test_inputs_of_no_known_kind_are_refused(data: Path, prepare: object, message: str) -> None:
    result = train(data, *prepare(data))  # type: ignore[operator]
    assert message in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,truth\na,b\n", "has no column 'image'; it has file, truth"),
        ("image,mask,split\na,b,test\n", "line 2: split is 'test'; it must be training or validation"),
        ("", "has no column 'image'; it has none"),
        ("image,mask\na.tif\n", "line 2: the column 'mask' is empty"),
        ("image,mask,split\na,b,validation\n", "has no row to train on: split is validation everywhere"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(data: Path, content: str, message: str) -> None:
    (data / "pairs.csv").write_text(content)
    assert message in train(data, data / "pairs.csv").stderr


def test_an_image_and_a_mask_of_different_size_are_named(data: Path) -> None:
    tifffile.imwrite(data / "masks" / "zelle_ü1_labels.tif", np.ones((48, 50), np.uint16) * 3)
    message = train(data, data).stderr
    assert "zelle_ü1_labels.tif: it has (48, 50) pixels, its image" in message
    assert "zelle_ü1.tif has (48, 56): they must have the same size" in message


def test_images_with_different_channels_are_named(data: Path) -> None:
    colours = np.zeros((48, 56, 3), np.uint8)
    colours[0, 0, 0] = 1
    tifffile.imwrite(data / "images" / "zelle_ü1.tif", colours, photometric="rgb")
    assert "training images need the same channels" in train(data, data).stderr


def test_planes_and_stacks_are_not_mixed(data: Path) -> None:
    stack = np.ones((4, 48, 56), np.uint16)
    for folder, name in (("images", "zelle_ü1.tif"), ("masks", "zelle_ü1_labels.tif")):
        tifffile.imwrite(data / folder / name, stack, imagej=True, metadata={"axes": "ZYX"})
    assert "train on planes or on stacks, not on both" in train(data, data).stderr


def test_a_table_says_what_is_trained_on(data: Path) -> None:
    """Stacks of four channels: one channel and section, with pixel size and diameter for the model file."""
    for path in (data / "images").iterdir():
        plane = tifffile.imread(path)
        stack = np.stack([np.zeros_like(plane), plane])[:, np.newaxis].repeat(3, axis=1)
        metadata = {"axes": "CZYX", "Channel": {"Name": ["GFP", "DAPI"]}}
        tifffile.imwrite(path, stack, ome=True, photometric="minisblack", metadata=metadata)
    rows = [f"images\\zelle_ü{n}.tif;masks\\zelle_ü{n}_labels.tif;DAPI;1;0,65;{20 + n}" for n in range(3)]
    table = data / "pairs.csv"
    table.write_text("\n".join(["Image;Mask;Channel;z;pixel_size_um;diameter_px", *rows]), encoding="cp1252")
    result = train(data, table)
    assert result.exit_code == 0, result.output
    info = load_model(data / "out" / "m.safetensors").info
    assert info.channels == ("DAPI",)
    assert info.pixel_size_um == (0.65, 0.65)
    assert 20 <= info.cell_diameter_px <= 22


def test_plain_stacks_with_long_voxels_get_flat_kernels(data: Path) -> None:
    for path in [*(data / "images").iterdir(), *(data / "masks").iterdir()]:
        stack = np.repeat(tifffile.imread(path)[np.newaxis], 4, axis=0)
        tifffile.imwrite(path, stack, photometric="minisblack", metadata=None)
    refused = train(data, data)
    assert refused.exit_code == 3
    assert "zelle_ü0.tif: 4 pages of 48 x 56 pixels and no word what they are: say --axes ZYX" in refused.stderr
    (data / "tiny.yaml").write_text(TINY.replace("patch_size: 40", "patch_size: [24, 40, 40]"))
    result = train(data, data, options=("--axes", "ZYX", "--pixel-size", "2,0.5", "--steps", "1"))
    assert result.exit_code == 0, result.output
    info = load_model(data / "out" / "m.safetensors").info
    assert info.pixel_size_um == (2.0, 0.5, 0.5)
    assert info.parameters["poolings"] == [[1, 2, 2]] or info.parameters["poolings"] == ((1, 2, 2),)


def test_ids_may_be_large(data: Path) -> None:
    path = data / "masks" / "zelle_ü1_labels.tif"
    tifffile.imwrite(path, tifffile.imread(path).astype(np.uint32) * 2_000_000_000)
    assert train(data, data).exit_code == 0


def as_classes(data: Path, values: tuple[int, int, int]) -> None:
    for path in (data / "masks").iterdir():
        tifffile.imwrite(path, np.array(values, np.uint8)[tifffile.imread(path)])


def test_class_masks_become_a_model_of_classes(data: Path) -> None:
    as_classes(data, (0, 128, 255))
    options = ("--target", "classes", "--class-names", "ground, leaf,root", "--class-values", "0,128,255")
    result = train(data, data, options=options)
    assert result.exit_code == 0, result.output
    assert "m.safetensors: mean_IoU" in result.stdout
    info = load_model(data / "out" / "m.safetensors").info
    assert (info.target, info.class_names) == ("classes", ("ground", "leaf", "root"))
    assert (data / "out" / "m.png").is_file()


def test_binary_masks_are_refused_for_cells_and_say_how_they_can_be_taken(data: Path) -> None:
    as_classes(data, (0, 255, 255))
    message = train(data, data).stderr
    assert "--split-components" in message
    assert "--target classes" in message
    assert train(data, data, options=("--split-components",)).exit_code == 0
    result = train(data, data, options=("--target", "classes", "--class-values", "0,255", "--overwrite"))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--target", "classes", "--class-values", "0,x"),
            "'--class-values': 0,x: needs whole numbers from 0 with commas",
        ),
        (("--target", "classes", "--class-names", "a,,b"), "'--class-names': a,,b: needs names with commas between"),
        (("--class-names", "a,b"), "class_names need target: classes"),
        (("--target", "classes", "--class-names", "a,b"), "_labels.tif: holds 2, which is none of the classes 0 to 1"),
    ],
)
def test_classes_that_cannot_be_meant_are_refused(data: Path, options: tuple[str, ...], message: str) -> None:
    result = train(data, data, options=options)
    assert message in result.stderr
    assert not (data / "out").exists()


def test_two_trainings_cannot_write_one_model(data: Path) -> None:
    with lock(data / "out" / ".m.lock"):
        result = train(data, data)
    assert result.exit_code == 4
    assert f"{data / 'out' / 'm.safetensors'} is in use by another unetbio run (lock file .m.lock)" in result.stderr
    assert not (data / "out" / "m.log").exists()


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Files can grow to so many bytes and no further."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_full_disk_is_4_and_leaves_no_piece_of_a_file(data: Path, small_disk: Callable[[int], None]) -> None:
    out = data / "out"
    small_disk(5_000)
    result = train(data, data)
    assert result.exit_code == 4
    assert f"error: cannot write {out / 'm.checkpoint.safetensors'}: File too large; choose another" in result.stderr
    assert names_in(out) == ["m.log"]


def test_what_was_finished_before_the_disk_was_full_stays(data: Path, small_disk: Callable[[int], None]) -> None:
    out = data / "out"
    train(data, data)
    finished = {name: (out / name).read_bytes() for name in names_in(out) if name != "m.log"}
    small_disk(5_000)
    assert train(data, data).exit_code == 4
    assert names_in(out) == sorted([*finished, "m.log"])
    assert {name: (out / name).read_bytes() for name in finished} == finished


def test_a_loss_curve_that_finds_no_room_is_4_and_the_model_stays(
    data: Path, small_disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = loss_curve.draw_loss_curve

    def draw_on_a_full_disk(*arguments: object) -> None:
        small_disk(1_000)
        draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loss_curve, "draw_loss_curve", draw_on_a_full_disk)
    result = train(data, data)
    assert result.exit_code == 4
    assert "m.png: File too large" in result.stderr
    assert names_in(data / "out") == ["m.checkpoint.safetensors", "m.log", "m.safetensors"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("tiny.yaml/m.safetensors", "m.safetensors: File exists; choose another output folder"),
        ("x" * 300 + ".safetensors", "x.safetensors: File name too long; choose another output folder"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_4(data: Path, output: str, message: str) -> None:
    result = run(data, "-o", data / output, "--config", data / "tiny.yaml", "--device", "cpu")
    assert result.exit_code == 4
    assert message in result.stderr


def test_a_log_that_cannot_be_written_is_4(data: Path) -> None:
    (data / "out" / "m.log").mkdir(parents=True)
    result = train(data, data)
    assert result.exit_code == 4
    assert "m.log: Is a directory; choose another output folder" in result.stderr


def test_a_checkpoint_that_cannot_be_removed_is_4(data: Path) -> None:
    (data / "out" / "m.checkpoint.safetensors").mkdir(parents=True)
    result = train(data, data, options=("--overwrite",))
    assert result.exit_code == 4
    assert "m.checkpoint.safetensors: Is a directory; choose another output folder" in result.stderr


def test_an_unknown_network_is_refused_before_images_are_looked_for(data: Path) -> None:
    result = train(data, data / "tiny.yaml", options=("--network", "unett"))
    assert result.exit_code == 2
    assert "there is no network named 'unett'; there are: deconvnet, " in result.stderr


def test_a_model_name_of_another_kind_is_refused(data: Path) -> None:
    result = run(data, "-o", data / "m.pth")
    assert "m.pth: a model file's name ends in .safetensors" in result.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("stepz: 3", "unknown key stepz: did you mean steps?"),
        ("steps: many", "steps: Input should be a valid integer"),
        ("augmentation: {scale: 0.5}", "augmentation.scale: Input should be greater than or equal to 1"),
        ("batch_size: 1000000000", "batch_size must be at most 4 096"),
        ("patch_size: [64, 1000000000]", "patch_size must be at most 65 536"),
        ("steps: 5\nrestarts: [7]", "restarts [7] must rise and lie between 0 and steps (5)"),
        ("- a\n- b", "holds list, settings are a mapping of names to values"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_settings_that_cannot_be_used_name_the_key(data: Path, settings: str, message: str) -> None:
    (data / "tiny.yaml").write_text(settings)
    assert message in train(data, data).stderr


def break_image(data: Path) -> None:
    (data / "images" / "zelle_ü1.tif").write_bytes(b"no image")


def break_patch_size(data: Path) -> None:
    (data / "tiny.yaml").write_text(TINY.replace("patch_size: 40", "patch_size: [40, 40, 40]"))


@pytest.mark.parametrize("spoil", [break_image, break_patch_size])
def test_a_training_that_cannot_start_leaves_nothing(data: Path, spoil: Callable[[Path], None]) -> None:
    spoil(data)
    assert train(data, data).exit_code in (2, 3)
    assert not (data / "out").exists()


def test_an_unknown_device_leaves_nothing(data: Path) -> None:
    assert train(data, data, options=("--device", "abacus")).exit_code == 2
    assert not (data / "out").exists()


def test_overwrite_keeps_the_checkpoint_of_a_run_that_cannot_start(data: Path) -> None:
    train(data, data)
    break_image(data)
    train(data, data, options=("--overwrite",))
    assert (data / "out" / "m.checkpoint.safetensors").exists()


def test_a_killed_run_with_other_settings_says_what_differs_and_can_be_replaced(data: Path) -> None:
    train(data, data)
    # As a kill leaves it: a checkpoint without a model.
    (data / "out" / "m.safetensors").unlink()
    result = train(data, data, options=("--steps", "6", "--seed", "3"))
    assert result.exit_code == 2
    assert "(steps 4, now 6; seed 0, now 3): use the same ones to go on from step 4; or start anew" in result.stderr
    result = train(data, data, options=("--steps", "6", "--seed", "3", "--replace"))
    assert result.exit_code == 0, result.stderr
    assert "starting anew: " in result.stderr
    assert load_model(data / "out" / "m.safetensors").info.training["steps"] == 6
    assert (data / "out" / "m.old.checkpoint.safetensors").exists()


def test_a_finished_model_is_set_aside_with_its_checkpoint(data: Path) -> None:
    """And comes back with it."""
    model, aside = data / "out" / "m.safetensors", data / "out" / "m.old.safetensors"
    train(data, data)
    first = model.read_bytes()
    assert train(data, data, options=("--steps", "2", "--replace")).exit_code == 0
    second = model.read_bytes()
    assert aside.read_bytes() == first
    assert load_model(model).info.training["steps"] == 2
    assert train(data, data, options=("--replace",)).exit_code == 0
    assert (model.read_bytes(), aside.read_bytes()) == (first, second)
    # Starting anew is starting anew.
    result = train(data, data, options=("--steps", "2", "--replace", "--overwrite"))
    assert "going on" not in result.stderr
    assert aside.read_bytes() == second
    # Nobody knows of which settings a model without its checkpoint is.
    (data / "out" / "m.checkpoint.safetensors").unlink()
    assert "m.safetensors exists already" in train(data, data, options=("--replace",)).stderr


def test_quiet_spares_the_log(data: Path) -> None:
    result = train(data, data, options=("--quiet",))
    assert (result.exit_code, result.stderr) == (0, "")
    log = (data / "out" / "m.log").read_text(encoding="utf-8").splitlines()
    assert log[0].startswith("training on cpu")
    assert "2 images to train on, 1 to validate on" in log
    assert log[-1].startswith("step 4/4")


def test_inputs_are_refused_before_torch_is_imported(data: Path) -> None:
    code = (
        "import sys; from unetbio.cli.main import main\n"
        f"try: main(['train', {str(data / 'images')!r}, '-o', 'm.safetensors'])\n"
        "except SystemExit as error: assert error.code == 2\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=data, check=False).returncode == 0


MODELS = Path(unetbio.models.__file__).parent
SHIPPED = sorted(path.stem for path in MODELS.glob("*.safetensors") if not path.name.endswith(".int8.safetensors"))


def in_the_kind_of(info: ModelInfo, ndim: int, data: Path) -> None:
    """Make the images (and masks) of ``data`` stacks or pictures in colour, where the model takes those."""
    for path in (data / "images").iterdir():
        if len(info.channels) == 3:
            grey = (tifffile.imread(path) // 4).astype(np.uint8)
            tifffile.imwrite(path, np.stack([grey, grey // 2, grey // 3], axis=-1), photometric="rgb")
    for path in [*(data / "images").iterdir(), *(data / "masks").iterdir()]:
        if ndim == 3:
            tifffile.imwrite(path, np.stack([tifffile.imread(path)] * 12), imagej=True, metadata={"axes": "ZYX"})


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model_is_fine_tuned(data: Path, name: str) -> None:
    """Its file may be older than parameters of its network: these have their defaults."""
    info = read_info(name)
    ndim = info.parameters.get("ndim", 2)
    in_the_kind_of(info, ndim, data)
    settings = f"patch_size: {124 if ndim == 2 else 44}\nbatch_size: 1\nsteps: 1\nvalidate_every: 1\n"
    (data / "few.yaml").write_text(settings)
    result = run(data, "-o", data / "m.safetensors", "--config", data / "few.yaml", "--device", "cpu", "--start", name)
    assert result.exit_code == 0, result.output
    assert read_info(data / "m.safetensors").architecture == info.architecture
