"""``unetbio verify``: every way in which a mask can stop being what its provenance says."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from tiny_model import write_tiny_model

from unetbio.cli.main import main
from unetbio.files import write_json
from unetbio.io import read_labels, write_labels
from unetbio.results.verification import verify_folder
from unetbio.settings.normalization import Normalization

Array = NDArray[Any]


class Folder:
    """An output folder of three masks, with its images and its model beside it."""

    def __init__(self, root: Path, model: Path, discs: Array) -> None:
        self.images, self.out, self.model = root / "images", root / "out", root / "m.safetensors"
        self.model.write_bytes(model.read_bytes())
        self.images.mkdir()
        for name, image in (("a", discs), ("b", discs[::-1]), ("c", discs[:, ::-1])):
            tifffile.imwrite(self.images / f"{name}.tif", image)
        self.segment()

    def segment(self, *more: str) -> None:
        line = ["segment", str(self.images), "-o", str(self.out), "-m", str(self.model), "--workers", "1", *more]
        result = CliRunner().invoke(main, line)
        assert result.exit_code == 0, result.stderr

    def verify(self, *more: str) -> Result:
        return CliRunner().invoke(main, ["verify", str(self.out), "--workers", "1", *more])


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, discs: Array) -> Folder:
    return Folder(tmp_path, tiny_model, discs)


def test_all_is_well(folder: Folder) -> None:
    result = folder.verify()
    assert result.exit_code == 0
    assert result.stdout == f"3 masks verified, 0 mismatches: {folder.out}\n"


def test_a_folder_that_was_moved_with_its_images_is_well(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    for name in ("images", "out"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    folder.out = tmp_path / "moved" / "out"
    assert folder.verify().exit_code == 0


MASK, INPUT, MODEL = "out/b_labels.ome.tif", "images/b.tif", "m.safetensors"


@pytest.mark.parametrize(("name", "kind"), [(MASK, "labels"), (INPUT, "input"), (MODEL, "model")])
def test_one_flipped_byte_is_found_wherever_it_is(folder: Folder, tmp_path: Path, name: str, kind: str) -> None:
    content = (tmp_path / name).read_bytes()
    # Headers, metadata and pixels: some of these change no pixel, and all change the file.
    for position in [*range(0, len(content), max(1, len(content) // 12)), len(content) - 1]:
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        (tmp_path / name).write_bytes(flipped)
        count, findings = verify_folder(folder.out, 1)
        changed = ["b"] if kind != "model" else ["a", "b", "c"]
        assert (count, [(f.output[0], f.kind) for f in findings]) == (3, [(mask, kind) for mask in changed]), position
    (tmp_path / name).write_bytes(content)
    assert verify_folder(folder.out, 1) == (3, [])


def edit(folder: Folder) -> None:
    path = folder.out / "b_labels.ome.tif"
    labels = read_labels(path)
    labels[labels == 2] = 0
    write_labels(path, labels)


def save_again(folder: Folder) -> None:
    """As a program does that shows a mask and writes it without its pixel size."""
    path = folder.out / "b_labels.ome.tif"
    tifffile.imwrite(path, read_labels(path))


def change_input(folder: Folder) -> None:
    path = folder.images / "b.tif"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (edit, "labels", "the label image was changed after it was made (label_hash differs)"),
        (
            save_again,
            "labels",
            "the file was changed after it was made, its pixels were not (sha256 differs)",
        ),
        (
            lambda folder: (folder.out / "b_labels.ome.tif").write_bytes(b"torn"),
            "labels",
            "the label image cannot be read: segment again",
        ),
        (
            lambda folder: (folder.out / "b_labels.ome.tif").unlink(),
            "labels",
            "the label image is missing: segment again",
        ),
        (
            change_input,
            "input",
            "the input was changed after it was segmented (sha256 differs): {images}/b.tif",
        ),
        (
            lambda folder: (folder.images / "b.tif").unlink(),
            "input",
            "the input is gone: {images}/b.tif (if it was moved, give its place to segment)",
        ),
        (
            lambda folder: (folder.out / "b_labels.json").unlink(),
            "provenance",
            "no provenance that can be read: b_labels.json; segment keeps such a mask, and segment --overwrite-edited "
            "makes it again",
        ),
    ],
    ids=["edited", "saved again", "torn", "missing", "input changed", "input gone", "no provenance"],
)
def test_each_mismatch_is_a_line_and_3(
    folder: Folder, change: Callable[[Folder], object], kind: str, message: str
) -> None:
    change(folder)
    result = folder.verify()
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert lines[-1] == f"3 masks verified, 1 mismatch: {folder.out}"
    expected = message.format(images=folder.images)
    found = lines[0].replace(f"{folder.out}/../images", str(folder.images))
    assert found == f"b_labels.ome.tif: {kind}: {expected}"


def test_a_model_that_was_replaced(folder: Folder) -> None:
    folder.model.write_bytes(b"another")
    result = folder.verify()
    assert result.exit_code == 3
    assert result.stdout.splitlines()[0] == (
        f"a_labels.ome.tif: model: the model file is another one now (sha256 differs): {folder.model}"
    )


def test_a_model_that_is_gone_is_no_mismatch(folder: Folder) -> None:
    folder.model.unlink()
    assert folder.verify().exit_code == 0


def test_masks_made_with_other_settings(folder: Folder) -> None:
    folder.segment("--threshold", "0.75", "--limit", "1")
    result = folder.verify()
    assert result.exit_code == 3
    assert result.stdout.splitlines()[0] == (
        "a_labels.ome.tif: settings: made differently from most of this folder: "
        "postprocessing.mask_threshold 0.75, others 0.5; postprocessing.seed_thresholds [0.75], others [0.7]"
    )


@pytest.mark.parametrize("column", ["t", "z"])
def test_times_and_sections_of_a_table_are_no_mismatch(
    tmp_path: Path, tiny_model: Path, discs: Array, column: str
) -> None:
    """Nor are axes: one file says nothing of its own, and is a plane."""
    tifffile.imwrite(tmp_path / "plane.tif", discs)
    rows = [f"image,axes,{column}", "plane.tif,,"]
    for number in (0, 1):
        tifffile.imwrite(tmp_path / f"{number}.tif", np.stack([discs, discs[::-1]]))
        rows.append(f"{number}.tif,{column.upper()}YX,{number}")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    out = str(tmp_path / "out")
    line = ["segment", "--table", str(tmp_path / "list.csv"), "-o", out, "-m", str(tiny_model), "--workers", "1"]
    made = CliRunner().invoke(main, line)
    assert made.exit_code == 0, made.stderr
    result = CliRunner().invoke(main, ["verify", out, "--workers", "1"])
    assert (result.exit_code, result.stdout) == (0, f"3 masks verified, 0 mismatches: {out}\n")
    assert "made differently" not in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_an_edit_that_kept_size_and_time_is_found(folder: Folder) -> None:
    path = folder.out / "b_labels.ome.tif"
    provenance = folder.out / "b_labels.json"
    edit(folder)
    content = json.loads(provenance.read_text())
    content["output"] |= {"size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}
    provenance.write_text(json.dumps(content))
    assert folder.verify().exit_code == 3


def test_what_is_said_of_a_mask_without_provenance_is_true(folder: Folder) -> None:
    (folder.out / "b_labels.json").unlink()
    folder.segment()
    assert folder.verify().exit_code == 3
    folder.segment("--overwrite-edited")
    assert folder.verify().exit_code == 0


def test_json(folder: Folder) -> None:
    edit(folder)
    result = folder.verify("--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {
        "masks": 3,
        "mismatches": [
            {
                "output": "b_labels.ome.tif",
                "kind": "labels",
                "message": "the label image was changed after it was made (label_hash differs)",
            }
        ],
    }


@pytest.mark.parametrize(("make", "message"), [(False, "is not a folder"), (True, "holds no results")])
def test_nothing_to_verify_is_2(tmp_path: Path, make: bool, message: str) -> None:
    if make:
        (tmp_path / "out").mkdir()
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert message in result.stderr


def test_other_peoples_files_are_no_masks(folder: Folder) -> None:
    np.save(folder.out / "x_labels.npy", np.zeros(3))
    (folder.out / "notes_labels.json").write_text("{}")
    assert folder.verify().exit_code == 0


# --- --rerun ----------------------------------------------------------------------------------------------------------


def rewrite(path: Path, content: dict[str, Any]) -> None:
    """Write a provenance as versions without a checksum did."""
    content.pop("checksum", None)
    write_json(path, content)


def with_settings(folder: Folder, name: str, **changes: Any) -> None:
    """Write other settings into a provenance."""
    path = folder.out / f"{name}_labels.json"
    content = json.loads(path.read_text())
    content["settings"] |= changes
    rewrite(path, content)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--threshold", "0.6", "--min-area", "3", "--max-area", "500", "--exclude-border", "--normalize", "p1,p99"],
        ["--threshold", "0.3"],
        ["--diameter", "9", "--channel", "0", "--tile", "16"],
        ["--pixel-size", "0.4", "--axes", "YX", "--crf", "largefov"],
    ],
    ids=["model's", "cells", "dim cells", "scale", "crf"],
)
def test_masks_that_are_segmented_again_are_the_same(folder: Folder, options: list[str]) -> None:
    if options:
        folder.segment(*options)
    result = folder.verify("--rerun", "2", "--device", "cpu")
    assert result.exit_code == 0, result.stdout
    assert result.stdout == f"3 masks verified, 2 segmented again, 0 mismatches: {folder.out}\n"


def test_masks_of_another_threshold_are_made_again_at_the_scale_they_had(
    tmp_path: Path, tiny_model: Path, discs: Array
) -> None:
    """Discs that are certain in the middle alone, and by the model's own threshold too large for its scale."""
    image = np.where(discs > 100, 120, 10).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    for y, x in ((60, 60), (60, 200), (180, 120)):
        image[y - 6 : y + 6, x - 6 : x + 6] = 200
    folder = Folder(tmp_path, tiny_model, image)
    folder.segment("--threshold", "0.95")
    assert json.loads((folder.out / "a_labels.json").read_text())["run"]["zoom"] != [1.0, 1.0]
    result = folder.verify("--rerun", "3", "--device", "cpu")
    assert result.exit_code == 0, result.stdout


def test_seeds_of_earlier_versions_are_those_of_the_record(tmp_path: Path, tiny_model: Path, discs: Array) -> None:
    # A dim cell: sigmoid(20 * (103 / 200 - 0.5)) = 0.57, which has a seed with --threshold 0.3 now.
    discs[40:50, 55:65] = 103
    folder = Folder(tmp_path, tiny_model, discs)
    for name in "abc":
        made = json.loads((folder.out / f"{name}_labels.json").read_text())["settings"]["postprocessing"]
        with_settings(folder, name, postprocessing={**made, "mask_threshold": 0.3, "seed_thresholds": [0.7]})
    result = folder.verify("--rerun", "3", "--device", "cpu")
    assert result.exit_code == 0, result.stdout


@pytest.mark.parametrize("options", [[], ["--normalize", "p1,p99.8"]], ids=["auto", "given"])
def test_pictures_are_segmented_again_with_the_normalization_they_had(
    tmp_path: Path, discs: Array, options: list[str]
) -> None:
    own = Normalization("percentile", 1.0, 99.8)
    model = write_tiny_model(tmp_path / "rgb.safetensors", ("red", "green", "blue"), own)
    folder = Folder(tmp_path, model, np.dstack([discs // 2, discs, discs]))
    folder.segment(*options)
    result = folder.verify("--rerun", "3", "--device", "cpu")
    assert result.exit_code == 0, result.stdout


def test_time_lapses_and_sections_are_segmented_again(folder: Folder, discs: Array) -> None:
    for path in folder.images.iterdir():
        path.unlink()
    for path in folder.out.iterdir():
        if path.is_file():
            path.unlink()
    tifffile.imwrite(folder.images / "movie.tif", np.stack([discs, discs[::-1]]), metadata={"axes": "TYX"}, ome=True)
    folder.segment()
    (folder.images / "movie.tif").rename(folder.images.parent / "movie.tif")
    tifffile.imwrite(folder.images / "stack.tif", np.stack([discs, 0 * discs]), metadata={"axes": "ZYX"}, ome=True)
    folder.segment("--z", "max")
    (folder.images.parent / "movie.tif").rename(folder.images / "movie.tif")
    result = folder.verify("--rerun", "9")
    assert "2 masks verified, 2 segmented again" in result.stdout
    assert ": rerun: " not in result.stdout


def test_masks_that_another_run_would_not_make_are_named(folder: Folder) -> None:
    # Nothing of this can be seen without segmenting again: the hashes fit, and all three say the same.
    values = {"mask_threshold": 0.5, "seed_thresholds": [0.7], "reach": 2, "max_hole_area": 20}
    for name in "abc":
        settings = json.loads((folder.out / f"{name}_labels.json").read_text())["settings"]
        with_settings(folder, name, postprocessing={**settings["postprocessing"], **values, "min_area": 10**6})
        content = json.loads((folder.out / f"{name}_labels.json").read_text())
        content["run"]["device"] = "cuda:0"
        content["versions"]["torch"] = "1.0"
        rewrite(folder.out / f"{name}_labels.json", content)
    assert folder.verify().exit_code == 0
    result = folder.verify("--rerun", "1", "--device", "cpu")
    assert result.exit_code == 3
    line = result.stdout.splitlines()[0]
    assert line.startswith(
        "a_labels.ome.tif: rerun: segmented again, another label image comes out (label_hash differs); "
        "made on cuda:0, now on cpu; made with torch 1.0, now "
    )


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ({}, ""),
        ({"zoom": [0.25, 0.25], "scaling": []}, "; made at zoom 0.25, and this version finds 1"),
        (
            {"scaling": [{"low": [0.0], "high": [255.0]}]},
            "; made with grey values scaled otherwise than this version scales them",
        ),
    ],
    ids=["same", "zoom", "grey values"],
)
def test_what_another_version_decided_otherwise_is_named(folder: Folder, run: dict[str, Any], reason: str) -> None:
    path = folder.out / "a_labels.json"
    content = json.loads(path.read_text())
    content["run"] |= run
    content["settings"]["postprocessing"]["min_area"] = 10**6
    rewrite(path, content)
    result = folder.verify("--rerun", "1", "--device", content["run"]["device"])
    (line,) = [line for line in result.stdout.splitlines() if ": rerun: " in line]
    assert line.endswith(f"another label image comes out (label_hash differs){reason}")


def test_rerun_compares_with_what_was_made_not_with_what_was_edited(folder: Folder) -> None:
    edit(folder)
    result = folder.verify("--rerun", "3")
    assert [line.split(": ")[1] for line in result.stdout.splitlines()[:-1]] == ["labels"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder.images / "a.tif").unlink(), "the input is gone: {images}/a.tif"),
        (lambda folder: (folder.images / "a.tif").write_bytes(b""), "the file is empty (0 bytes)"),
        (lambda folder: folder.model.unlink(), "m.safetensors"),
        (
            lambda folder: with_settings(folder, "a", normalization={"kind": "new"}),
            "this version cannot read its settings (",
        ),
        (
            lambda folder: with_settings(folder, "a", sharpen=3),
            "this version reads other settings: sharpen",
        ),
    ],
    ids=["input gone", "input broken", "model gone", "unknown value", "unknown setting"],
)
def test_what_cannot_be_segmented_again_is_named(
    folder: Folder, change: Callable[[Folder], object], message: str
) -> None:
    change(folder)
    result = folder.verify("--rerun", "1")
    assert result.exit_code == 3
    (line,) = [line for line in result.stdout.splitlines() if ": rerun: " in line]
    assert line.startswith("a_labels.ome.tif: rerun: cannot be segmented again: ")
    assert message.format(images=folder.images) in line


def test_another_model_in_its_place_is_not_used(folder: Folder, tiny_model: Path) -> None:
    from unetbio.models.model_file import load_model, save_model

    model = load_model(tiny_model)
    save_model(folder.model, model.info.model_copy(update={"version": "1"}), model.network)
    result = folder.verify("--rerun", "1")
    assert (
        f"a_labels.ome.tif: rerun: cannot be segmented again: the model file is another one now (sha256 differs): "
        f"{folder.model}" in result.stdout
    )


def test_rerun_as_json(folder: Folder) -> None:
    result = folder.verify("--rerun", "2", "--json")
    assert json.loads(result.stdout) == {"masks": 3, "segmented_again": 2, "mismatches": []}


@pytest.mark.parametrize("options", [["--rerun", "0"], ["--rerun", "1", "--device", "abacus"]])
def test_reruns_that_cannot_be_are_2(folder: Folder, options: list[str]) -> None:
    assert folder.verify(*options).exit_code == 2


def test_measure_and_verify_do_without_torch(folder: Folder) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from unetbio.results.tables.collect_tables import measure\n"
        "from unetbio.results.verification import verify_folder\n"
        "out = Path(sys.argv[1])\n"
        "assert measure(out, expand=1.0).cells == 9\n"
        "assert verify_folder(out, 1) == (3, [])\n"
        "assert not {'torch', 'monai', 'matplotlib'} & set(sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, folder.out], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
