"""Semantic segmentation, from a model of classes to masks, tables, scores."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray

import unetbio
from unetbio import networks
from unetbio.cli.main import main
from unetbio.errors import UsageError
from unetbio.io import read_labels, write_labels
from unetbio.models.model_file import load_model, save_model
from unetbio.postprocessing.instances import PostProcessing
from unetbio.provenance import read_provenance

Array = NDArray[Any]
Unetbio = Callable[..., Result]

NAMES = ("ground", "dim", "bright")


@pytest.fixture(scope="module")
def class_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with three classes: dim from a normalized grey value of .5 on, bright from .9 on."""
    tiny = load_model(tiny_model)
    parameters = {**tiny.info.parameters, "num_classes": 3}
    network = networks.build("unet", parameters)
    weights = {name: weight for name, weight in tiny.network.state_dict().items() if not name.startswith("head")}
    head = torch.zeros(3, 2, 1, 1)
    head[:, 0, 0, 0] = torch.tensor([0.0, 20.0, 60.0])
    network.load_state_dict({**weights, "head.weight": head, "head.bias": torch.tensor([0.0, -10.0, -46.0])})
    info = tiny.info.model_copy(
        update={
            "name": "tiny classes",
            "parameters": parameters,
            "target": "classes",
            "class_names": NAMES,
            "cell_diameter_px": None,
            "postprocessing": PostProcessing(),
        }
    )
    path = tmp_path_factory.mktemp("model") / "classes.safetensors"
    save_model(path, info, network)
    return path


@pytest.fixture
def image(discs: Array) -> Array:
    """Three discs, of which the lower one is dim."""
    discs[32:][discs[32:] == 200] = 140
    return discs


def expected(image: Array) -> Array:
    return np.digitize(image, [100, 180]).astype(np.uint8)


@pytest.fixture
def images(tmp_path: Path, image: Array) -> Path:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    tifffile.imwrite(folder / "a.tif", image)
    tifffile.imwrite(folder / "sub" / "b.tif", image[::-1])
    return folder


@pytest.fixture
def run(images: Path, tmp_path: Path, class_model: Path) -> Unetbio:
    def invoke(command: str, *arguments: object) -> Result:
        out = tmp_path / "out"
        line = {"segment": [images, "-o", out, "-m", class_model, "--workers", 1, "--device", "cpu"]}
        return CliRunner().invoke(main, [command, *map(str, [*line.get(command, [out]), *arguments])])

    return invoke


def summary(out: Path) -> list[dict[str, str]]:
    with open(out / "summary.csv", newline="") as stream:
        return list(csv.DictReader(stream))


# --- From Python ------------------------------------------------------------------------------------------------------


def test_every_pixel_gets_its_class(image: Array, class_model: Path) -> None:
    mask, info = unetbio.segment(image, class_model, device="cpu")
    np.testing.assert_array_equal(mask, expected(image))
    assert mask.dtype == np.uint8
    assert info["n_cells"] is None
    assert info["run"]["class_names"] == list(NAMES)
    fractions = info["frames"][0]["class_fractions"]
    assert fractions == pytest.approx({name: (mask == n).mean() for n, name in enumerate(NAMES)}, abs=1e-6)
    assert info["frames"][0]["area_fraction"] == pytest.approx((mask > 0).mean(), abs=1e-6)
    np.testing.assert_array_equal(unetbio.segment(image, class_model, device="cpu", tile=9)[0], mask)


@pytest.mark.parametrize("options", [{}, {"tile": 9}, {"crf": "largefov"}])
def test_outside_an_outline_all_is_background(image: Array, class_model: Path, options: dict[str, Any]) -> None:
    outline = ("POLYGON ((0 0, 50 0, 50 60, 0 1))",)
    mask, info = unetbio.segment(image, class_model, device="cpu", region=outline, **options)
    boxed, _ = unetbio.segment(image, class_model, device="cpu", region=("0,0,50,60",), **options)
    row, column = np.mgrid[:60, :50] + 0.5
    inside = row < 1 + column * 59 / 50
    np.testing.assert_array_equal(mask, boxed * inside)
    assert info["run"]["area"] == {"pixels": inside.sum(), "left_out": (~inside).sum()}


def test_classes_that_were_not_asked_for_become_background(image: Array, class_model: Path) -> None:
    mask, info = unetbio.segment(image, class_model, device="cpu", classes=("bright",))
    np.testing.assert_array_equal(mask, np.where(expected(image) == 2, 2, 0))
    assert info["settings"]["classes"] == ["bright"]


def test_masks_come_back_to_the_size_of_the_image(image: Array, class_model: Path) -> None:
    large = image.repeat(2, axis=0).repeat(2, axis=1)
    mask, info = unetbio.segment(large, class_model, device="cpu", pixel_size=0.25)
    assert info["run"]["grid"] == [64, 80]
    assert mask.shape == large.shape
    assert (mask == expected(large)).mean() > 0.98


def test_a_constant_image_is_ground(class_model: Path) -> None:
    mask, info = unetbio.segment(np.full((2, 9, 12), 250, np.uint8), class_model, device="cpu", axes="TYX")
    assert mask.shape == (2, 9, 12)
    assert not mask.any()
    assert info["frames"][1]["warnings"] == ("constant",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("bright", "dark")}, "model tiny classes has no class 'dark': give some of ground, dim, bright"),
        ({"min_area": 5}, "model tiny classes segments classes, not cells: leave out --min-area"),
        ({"exclude_border": True}, "not cells: leave out --exclude-border"),
        ({"diameter_px": 9}, "does not say how large its cells are: leave out --diameter"),
    ],
)
def test_options_that_a_model_of_classes_cannot_follow(
    image: Array, class_model: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        unetbio.segment(image, class_model, device="cpu", **options)


def test_a_model_of_cells_has_no_classes_to_choose(image: Array, tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="model tiny segments cells, it has no classes to choose: leave out --classes"):
        unetbio.segment(image, tiny_model, device="cpu", classes=("cell",))


# --- Many images ------------------------------------------------------------------------------------------------------


def test_a_batch_writes_masks_palette_tables_and_pictures(run: Unetbio, tmp_path: Path, image: Array) -> None:
    result = run("segment", "--save-probabilities")
    out = tmp_path / "out"
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"2 images, 0 failed: {out / 'summary.csv'}\n"
    np.testing.assert_array_equal(tifffile.imread(out / "a_classes.ome.tif"), expected(image))
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"sub/b_classes.ome.tif", "sub/b_classes.json", "sub/b_probabilities.ome.tif"} < files
    assert {"overlays/a.classes.jpg", "overlays/sub/b.classes.jpg", "index.html"} < files
    assert (out / "classes.csv").read_text().splitlines() == [
        "class,name,colour",
        "0,ground,#000000",
        "1,dim,#00c8ff",
        "2,bright,#ff52a5",
    ]
    rows = summary(out)
    assert [row["path"] for row in rows] == ["a.tif", "sub/b.tif"]
    assert rows[0]["n_cells"] == ""
    assert float(rows[0]["area_fraction_bright"]) == pytest.approx((image == 200).mean(), abs=1e-6)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "classes.csv" in page
    assert "0 cells" not in page
    provenance = read_provenance(out / "a_classes.json")
    assert provenance is not None
    assert provenance.n_cells is None


def test_what_is_done_is_kept_and_what_was_edited_is_counted_anew(run: Unetbio, tmp_path: Path, image: Array) -> None:
    run("segment")
    out = tmp_path / "out"
    first = (out / "a_classes.ome.tif").stat().st_mtime_ns
    write_labels(out / "sub" / "b_classes.ome.tif", np.zeros_like(image))
    assert run("segment").exit_code == 0
    assert (out / "a_classes.ome.tif").stat().st_mtime_ns == first
    for again in ("segment", "measure"):
        assert run(again).stdout == f"2 images, 0 failed: {out / 'summary.csv'}\n"
        rows = summary(out)
        assert rows[0]["warnings"] == ""
        assert (rows[1]["warnings"], rows[1]["area_fraction_ground"]) == ("edited", "1.0")
    result = run("verify")
    assert result.exit_code == 3
    assert "sub/b_classes.ome.tif: labels: the label image was changed after it was made" in result.stdout
    assert "2 masks verified, 1 mismatch" in result.stdout
    assert run("segment", "--overwrite-edited", "--classes", "dim").exit_code == 0
    np.testing.assert_array_equal(read_labels(out / "a_classes.ome.tif", allow_binary=True), expected(image) == 1)
    assert run("verify").exit_code == 0


def test_a_dry_run_and_parts(run: Unetbio, tmp_path: Path) -> None:
    assert "2 images: 2 to do" in run("segment", "--dry-run").stdout
    for part in ("1/2", "2/2"):
        assert run("segment", "--part", part).exit_code == 0
    assert run("measure").exit_code == 0
    assert len(summary(tmp_path / "out")) == 2
    assert "2 images: 0 to do, 2 done already" in run("segment", "--dry-run").stdout


def test_an_unknown_class_stops_before_anything_is_made(run: Unetbio, tmp_path: Path) -> None:
    result = run("segment", "--classes", "bright,dark")
    assert result.exit_code == 2
    assert "has no class 'dark'" in result.stderr
    assert not (tmp_path / "out" / "a_classes.ome.tif").exists()


def test_what_lies_there_is_checked_without_torch(run: Unetbio, tmp_path: Path) -> None:
    run("segment")
    code = (
        "import sys; from unetbio.cli.main import main\n"
        "for command in ('verify', 'measure', 'report'):\n"
        f"    try: main([command, {str(tmp_path / 'out')!r}])\n"
        "    except SystemExit as error: assert not error.code, command\n"
        "    assert 'torch' not in sys.modules, command"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_cells_and_classes_of_an_image_have_a_picture_each(
    run: Unetbio, images: Path, tmp_path: Path, tiny_model: Path
) -> None:
    def pictures() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "out" / "overlays").iterdir() if path.is_file()}

    assert run("segment").exit_code == 0
    classes = pictures()
    line = ["segment", images, "-o", tmp_path / "out", "-m", tiny_model, "--workers", 1, "--device", "cpu"]
    for _ in range(2):
        assert CliRunner().invoke(main, [*map(str, line)]).exit_code == 0
        both = pictures()
        assert set(both) == {"a.labels.jpg", "a.classes.jpg"}
        assert both["a.classes.jpg"] == classes["a.classes.jpg"] != both["a.labels.jpg"]


# --- Scores -----------------------------------------------------------------------------------------------------------


def test_class_masks_are_scored_by_name(run: Unetbio, tmp_path: Path, image: Array) -> None:
    run("segment")
    truth = tmp_path / "truth"
    (truth / "sub").mkdir(parents=True)
    # The truth has other values, and the first rows of one image are not annotated.
    values = np.array([0, 100, 255], np.uint8)
    tifffile.imwrite(truth / "a_mask.tif", values[expected(image)])
    wrong = values[expected(image[::-1])]
    wrong[wrong == 100] = 0
    wrong[:2] = 7
    tifffile.imwrite(truth / "sub" / "b_mask.tif", wrong)
    options = ("--classes", "--class-values", "0,100,255", "--ignore-label", 7)
    result = run("evaluate", truth, *options, "-o", tmp_path / "scores")
    assert result.exit_code == 0, result.stderr
    header = result.stdout.splitlines()[0].split("  ")
    assert [word.strip() for word in header if word] == [
        "image",
        "mean IoU",
        "mean Dice",
        "pixel accuracy",
        "boundary F1",
        "IoU ground",
        "IoU dim",
        "IoU bright",
    ]
    with open(tmp_path / "scores" / "evaluation.csv", newline="") as stream:
        rows = {Path(row["predicted"]).name: row for row in csv.DictReader(stream)}
    dim = int((expected(image) == 1).sum())
    assert rows["a_classes.ome.tif"]["mean_IoU"] == "1.0"
    pixels = 2 * image.size - 2 * image.shape[1]
    assert float(rows["pooled"]["pixel_accuracy"]) == pytest.approx(1 - dim / pixels)
    assert float(rows["pooled"]["IoU dim"]) == pytest.approx(0.5)
    assert float(rows["b_classes.ome.tif"]["IoU dim"]) == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--classes", "--thresholds", ".5"), "--thresholds, --split-components and --cell-classes are about cells"),
        (("--class-values", "0,1"), "--class-values and --ignore-label are about classes: say --classes too"),
    ],
)
def test_options_of_the_other_kind_of_mask_are_refused(
    run: Unetbio, images: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "out").mkdir()
    assert message in run("evaluate", images, *options).stderr


def test_values_that_are_no_class_fail_that_pair(run: Unetbio, tmp_path: Path, image: Array) -> None:
    run("segment")
    tifffile.imwrite(tmp_path / "a.tif", image)
    result = run("evaluate", tmp_path / "a.tif", "--classes", "--class-values", "0,10,200")
    assert result.exit_code == 3
    assert "a.tif: holds 140, which is none of the classes 0, 10, 200" in result.stderr


def test_a_palette_that_is_none_is_named(run: Unetbio, tmp_path: Path, images: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "classes.csv").write_text("a,b\n1,2\n")
    assert "classes.csv cannot be read as a table of classes" in run("evaluate", images, "--classes").stderr
