"""``unetbio compare`` from the outside: what it trains, writes, keeps and refuses."""

import csv
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio.cli.main import main
from unetbio.compare.lessons import LESSONS, Lesson
from unetbio.io import read_labels
from unetbio.metrics.instances import evaluate
from unetbio.models.model_file import load_model
from unetbio.training.data.dataset import Example
from unetbio.training.trainer import Trainer

SETTINGS = """
parameters: {base_channels: 2, depth: 1, batch_norm: true, dropout: 0.0}
patch_size: 32
batch_size: 2
steps: 4
validate_every: 2
"""
NETWORKS = "unet,unet:skip=none,fcn32s:width=0.01"

pytestmark = pytest.mark.usefixtures("quick_pictures", "quick_search")


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    yield
    logging.getLogger("unetbio").setLevel(logging.INFO)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A table of five images of three cells, two of which touch: three to train on, one to validate, one to test on."""
    rng = np.random.default_rng(0)
    rows = ["image,mask,split"]
    for number, split in enumerate(("training", "training", "training", "validation", "test")):
        label_image = np.zeros((40, 44), np.uint16)
        label_image[4:16, 4:18] = 1
        label_image[20:34, 8 + number : 24] = 2
        label_image[20:34, 24:30] = 3
        image = (label_image > 0) * 500 + rng.normal(100, 10, label_image.shape)
        tifffile.imwrite(tmp_path / f"cells{number}.tif", image.astype(np.uint16))
        tifffile.imwrite(tmp_path / f"truth{number}.tif", label_image)
        rows.append(f"cells{number}.tif,truth{number}.tif,{split}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    (tmp_path / "tiny.yaml").write_text(SETTINGS)
    return tmp_path


def compare(data: Path, *options: object, networks: str | None = NETWORKS) -> Result:
    chosen = ["--networks", networks] if networks is not None else []
    fixed = [data / "pairs.csv", "-o", data / "out", "--config", data / "tiny.yaml", "--device", "cpu"]
    return CliRunner().invoke(main, ["compare", *map(str, [*fixed, *chosen, *options])])


def read_table(data: Path, stem: str = "comparison") -> dict[str, dict[str, str]]:
    with open(data / "out" / f"{stem}.csv", newline="", encoding="utf-8") as stream:
        return {row["network"]: row for row in csv.DictReader(stream)}


def test_a_comparison_leaves_a_table_pictures_a_page_and_a_folder_a_network(data: Path) -> None:
    out = data / "out"
    result = compare(data)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"3 networks, 0 failed: {out / 'comparison.md'}\n"
    assert "unet:skip=none: step 4/4" in result.stderr
    table = read_table(data)
    assert list(table) == NETWORKS.split(",")
    for name, folder in zip(table, ("unet", "unet_skip-none", "fcn32s_width-0.01"), strict=True):
        files = {path.name for path in (out / folder).iterdir()}
        assert files == {"model.safetensors", "training.log", "loss.png", "scores.json", "settings.json", "predictions"}
        model = load_model(out / folder / "model.safetensors")
        assert model.info.name == name
        assert (model.info.training["images"], model.info.training["validation_images"]) == (3, 1)
        # The table's scores are those of the label images beside it, on the test image alone.
        found = read_labels(out / folder / "predictions" / "cells4_labels.ome.tif", allow_binary=True)
        truth = tifffile.imread(data / "truth4.tif")
        scores = evaluate([found], [truth]).pooled
        row = table[name]
        assert row["failure"] == ""
        assert float(row["foreground_IoU"]) == scores["foreground_IoU"]
        assert float(row["boundary_F1"]) == scores["boundary_F1"]
        assert float(row["parameters"]) == sum(p.numel() for p in model.network.parameters())
        assert float(row["seconds_per_megapixel"]) > 0
        assert float(row["multiply_adds_per_pixel"]) > 0
        weights = sum(tensor.numel() * tensor.element_size() for tensor in model.network.state_dict().values())
        assert float(row["memory_bytes"]) > weights
        assert (row["exact_tiling"], row["steps"]) == ("yes", "4")
    # 3 x 3 x 1 x 2 and 3 x 3 x 2 x 2 at full size are the least that a U-Net of these channels does for a pixel.
    assert float(table["unet"]["multiply_adds_per_pixel"]) > 9 * 2 + 9 * 4
    assert float(table["unet"]["oracle_IoU"]) == 1
    assert table["fcn32s:width=0.01"]["output_stride"] == "32"
    markdown = (out / "comparison.md").read_text(encoding="utf-8")
    assert "Scored on 1 test image that chose nothing." in markdown
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "panels/cells4.png" in page
    for link in re.findall(r'(?:src|href)="([^#"]+)"', page):
        assert (out / link).is_file(), link
    for picture in ("comparison.png", "panels/cells4.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")


def test_without_test_images_the_caption_says_so(data: Path) -> None:
    table = (data / "pairs.csv").read_text().replace(",test", ",validation")
    (data / "pairs.csv").write_text(table)
    assert compare(data, networks="unet").exit_code == 0
    markdown = (data / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "Scored on 2 validation images, which also chose each network's best step and thresholds." in markdown


def test_the_same_command_again_trains_nothing_and_more_networks_can_be_added(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compare(data, networks="unet").exit_code == 0
    first = read_table(data)["unet"]
    trained: list[str] = []
    run = Trainer.run

    def noted(trainer: Trainer) -> Any:
        trained.append(trainer.config.name)
        return run(trainer)

    monkeypatch.setattr(Trainer, "run", noted)
    assert compare(data, networks="unet").exit_code == 0
    assert trained == []
    assert compare(data, networks="unet:border_weight=0,unet").exit_code == 0
    assert trained == ["unet:border_weight=0"]
    assert list(read_table(data)) == ["unet:border_weight=0", "unet"]
    assert read_table(data)["unet"] == first


def test_a_training_that_was_interrupted_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer._train_step

    def interrupted(trainer: Trainer, patches: Any) -> Any:
        if trainer.step == 3:
            raise KeyboardInterrupt
        return step(trainer, patches)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    result = compare(data, networks="unet")
    assert result.exit_code == 130
    assert not (data / "out" / "unet" / "model.safetensors").exists()
    monkeypatch.undo()
    result = compare(data, networks="unet")
    assert result.exit_code == 0
    assert "unet: going on from step 2" in result.stderr
    assert load_model(data / "out" / "unet" / "model.safetensors").info.training["steps"] == 4


def test_other_settings_are_refused_unless_they_shall_replace(data: Path) -> None:
    assert compare(data, networks="unet").exit_code == 0
    result = compare(data, "--steps", 5, "--width", 0.05, networks="unet")
    assert result.exit_code == 2
    assert "was made with other settings (steps 4, now 5, width None, now 0.05): use the same ones" in result.stderr
    assert read_table(data)["unet"]["steps"] == "4"
    assert compare(data, "--steps", 5, "--overwrite", networks="unet").exit_code == 0
    assert read_table(data)["unet"]["steps"] == "5"


def test_what_is_left_from_replaced_settings_is_made_anew(data: Path) -> None:
    assert compare(data, networks="unet,unet:depth=0").exit_code == 0
    assert compare(data, "--seed", 1, "--overwrite", networks="unet").exit_code == 0
    result = compare(data, "--seed", 1, networks="unet:depth=0")
    assert result.exit_code == 0
    assert "unet:depth=0: step 4/4" in result.stderr


def test_other_images_are_refused(data: Path) -> None:
    assert compare(data, networks="unet").exit_code == 0
    tifffile.imwrite(data / "cells4.tif", np.zeros((40, 44), np.uint16))
    result = compare(data, networks="unet")
    assert result.exit_code == 2
    assert re.search(r"other settings \(images [0-9a-f]{12}, now [0-9a-f]{12}\)", result.stderr)


@pytest.mark.parametrize("sampling", ["groups", "cells"])
def test_other_groups_are_refused_where_patches_are_drawn_by_them(sampling: str, data: Path) -> None:
    rows = (data / "pairs.csv").read_text().splitlines()
    settings = (data / "tiny.yaml").read_text()
    (data / "tiny.yaml").write_text(settings + f"sampling: {sampling}\n")

    def run(*groups: str) -> Result:
        grouped = [f"{row},{group}" for row, group in zip(rows[1:], groups, strict=True)]
        (data / "pairs.csv").write_text("\n".join([f"{rows[0]},group", *grouped]))
        return compare(data, networks="unet")

    assert run("a", "a", "b", "a", "a").exit_code == 0
    again = run("a", "b", "b", "a", "a")
    assert again.exit_code == (2 if sampling == "groups" else 0)
    assert ("was made with other settings (groups" in again.output) == (sampling == "groups")


def test_connected_parts_of_masks_of_two_values_are_cells_if_the_option_says_so(data: Path) -> None:
    for path in data.glob("truth*.tif"):
        tifffile.imwrite(path, np.uint8(255) * (tifffile.imread(path) > 0))
    refused = compare(data, networks="unet")
    assert refused.exit_code == 3
    assert "say --split-components" in refused.stderr
    taken = compare(data, "--split-components", networks="unet")
    assert taken.exit_code == 0, taken.output
    assert read_table(data)["unet"]["failure"] == ""


def test_a_network_that_fails_is_a_row_and_the_others_go_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer._train_step

    def failing(trainer: Trainer, patches: Any) -> Any:
        if "fcn32s" in trainer.config.name:
            raise RuntimeError("no\nluck")
        return step(trainer, patches)

    monkeypatch.setattr(Trainer, "_train_step", failing)
    result = compare(data, networks="fcn32s:width=0.01,fcn32s:width=0.01+crf,unet")
    assert result.exit_code == 3
    assert "unetbio: error: fcn32s:width=0.01: RuntimeError: no luck\n" in result.stderr
    assert result.stdout == f"3 networks, 2 failed: {data / 'out' / 'comparison.md'}\n"
    table = read_table(data)
    assert table["fcn32s:width=0.01"]["failure"] == "RuntimeError: no luck"
    assert table["fcn32s:width=0.01"]["AP@.5"] == ""
    assert table["fcn32s:width=0.01+crf"]["failure"] == "RuntimeError: no luck"
    assert table["unet"]["failure"] == ""
    assert "| fcn32s:width=0.01 | failed: RuntimeError: no luck |" in (data / "out" / "comparison.md").read_text()
    assert "failed: RuntimeError: no luck" in (data / "out" / "index.html").read_text()
    assert "Traceback" in (data / "out" / "fcn32s_width-0.01" / "training.log").read_text()
    # What failed is tried again.
    monkeypatch.undo()
    assert compare(data, networks="fcn32s:width=0.01,unet").exit_code == 0


def test_a_full_disk_stops_the_comparison(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = compare(data, networks="unet")
    assert result.exit_code == 4
    assert "free space" in result.stderr


def test_a_crf_shares_the_training_of_its_network(data: Path) -> None:
    result = compare(data, networks="unet+crf,unet")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("step 4/4") == 1
    assert not (data / "out" / "unet_crf" / "model.safetensors").exists()
    table = read_table(data)
    assert list(table) == ["unet+crf", "unet"]
    assert table["unet+crf"]["parameters"] == table["unet"]["parameters"]
    assert (data / "out" / "unet_crf" / "predictions" / "cells4_labels.ome.tif").is_file()
    assert json.loads((data / "out" / "unet_crf" / "scores.json").read_text())["variant"] == "unet+crf"


def test_a_crf_is_refused_on_stacks_before_a_network_is_trained(data: Path) -> None:
    for path in data.glob("*.tif"):
        tifffile.imwrite(path, np.repeat(tifffile.imread(path)[None], 8, axis=0), metadata={"axes": "ZYX"})
    result = compare(data, networks="unet,unet+crf")
    assert result.exit_code == 2
    assert "unet+crf: the CRF is for planes, and the images are stacks: leave out +crf, or choose" in result.stderr
    assert not (data / "out" / "unet").exists()


def test_a_network_that_finds_objects_has_a_row_like_the_others(data: Path) -> None:
    result = compare(data, networks="mask_rcnn:width=0.03125:backbone=resnet18:patch_size=64")
    assert result.exit_code == 0, result.output
    (row,) = read_table(data).values()
    assert (row["failure"], row["exact_tiling"], row["steps"], row["output_stride"]) == ("", "no", "4", "")
    assert float(row["AP@.5"]) >= 0
    (folder,) = (path.parent for path in (data / "out").glob("*/model.safetensors"))
    assert load_model(folder / "model.safetensors").info.objects is not None
    assert (folder / "predictions" / "cells4_labels.ome.tif").is_file()


def test_a_lesson_gets_a_table_of_its_own_beside_that_of_all(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LESSONS, "weights", Lesson("Weights", "Why?", ("unet:border_weight=0", "unet")))  # type: ignore[index]
    result = compare(data, "--lesson", "weights", networks="unet:depth=0")
    assert result.exit_code == 0, result.output
    assert list(read_table(data)) == ["unet:depth=0", "unet:border_weight=0", "unet"]
    assert list(read_table(data, "lesson_weights")) == ["unet:border_weight=0", "unet"]
    assert (data / "out" / "lesson_weights.md").read_text().startswith("# Weights\n\nWhy?\n")
    assert (data / "out" / "lesson_weights.png").is_file()
    page = (data / "out" / "index.html").read_text()
    assert "<p>Why?</p>" in page
    assert "lesson_weights.png" in page


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (None, "nothing to compare: give --networks all, --networks with names, or --lesson"),
        ("unet:skop=1", "unet:skop=1: there is no setting skop"),
        ("unet,fcn33s", "there is no network named 'fcn33s'"),
    ],
)
def test_what_cannot_be_meant_leaves_nothing(data: Path, networks: str | None, message: str) -> None:
    result = compare(data, networks=networks)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (data / "out").exists()


def test_an_image_that_cannot_be_read_leaves_nothing(data: Path) -> None:
    (data / "cells4.tif").write_bytes(b"no image")
    result = compare(data, networks="unet")
    assert result.exit_code == 3
    assert "cells4.tif" in result.stderr
    assert not (data / "out").exists()


def test_parameters_that_a_variant_switches_off_are_said(data: Path) -> None:
    # The device, which is not there, ends the comparison before it trains.
    networks = "deeplab_v2,deeplab_v2:dropout=0.1"
    result = compare(data, "--device", "cuda:99", networks=networks)
    assert result.exit_code == 2
    reason = "changes nothing here: the backbone resnet101"
    assert f"parameters.batch_norm {reason} always has it" in result.stderr
    assert f"deeplab_v2:dropout=0.1: dropout {reason} has none" in result.stderr


def test_steps_of_a_variant_are_said_to_change_nothing_with_minutes(data: Path) -> None:
    result = compare(data, "--device", "cuda:99", "--minutes", 1, networks="unet,unet:steps=5")
    assert "unet:steps=5: steps changes nothing here: the training ends after its minutes" in result.stderr


def test_test_images_are_checked(data: Path) -> None:
    for name in ("cells", "truth"):
        (data / f"{name}4.tif").write_bytes((data / f"{name}0.tif").read_bytes())
    result = compare(data, networks="unet")
    assert result.exit_code == 0, result.output
    assert "1 test image of 1 shares pixels with training or validation images" in result.stderr
    tifffile.imwrite(data / "truth4.tif", tifffile.imread(data / "truth4.tif")[::-1])
    refused = compare(data, "--replace", networks="unet")
    assert refused.exit_code == 3
    assert f"the mask of {data / 'cells4.tif'} does not lie on the image" in refused.stderr
    assert compare(data, "--replace", "--trust-masks", networks="unet").exit_code == 0


def test_pictures_draw_no_area_without_annotation(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in data.glob("truth*.tif"):
        label_image = tifffile.imread(path)
        label_image[:, 34:] = 255
        tifffile.imwrite(path, label_image)
    (data / "tiny.yaml").write_text(SETTINGS + "ignore_label: 255\n")
    drawn: list[list[int]] = []

    def draw(example: Example, *rest: object, **options: object) -> None:
        drawn.append(np.unique(example.label_image).tolist())

    monkeypatch.setattr("unetbio.compare.results.draw_panel", draw)
    result = compare(data, networks="unet")
    assert result.exit_code == 0, result.output
    assert drawn == [[0, 1, 2, 3]] * 2


def test_pairs_are_shown_and_leftovers_listed(data: Path) -> None:
    for folder, name in (("images", "cells"), ("masks", "truth")):
        (data / folder).mkdir()
        for number in range(3):
            (data / f"{name}{number}.tif").rename(data / folder / f"{number}.tif")
    (data / "masks" / "2.tif").rename(data / "masks" / "two.tif")
    words = ("compare", data, "-o", data / "out", "--config", data / "tiny.yaml", "--networks", "unet")
    result = CliRunner().invoke(main, [*map(str, words), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert f"{data / 'images' / '0.tif'} with {data / 'masks' / '0.tif'}" in result.stderr
    for path in (data / "images" / "2.tif", data / "masks" / "two.tif"):
        assert f"left out, nothing to pair it with: {path}" in result.stderr
