"""``unetbio verify``: every way in which a mask can stop being what its provenance says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.io import read_labels, write_labels

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


def edit(folder: Folder) -> None:
    path = folder.out / "b_labels.ome.tif"
    labels = read_labels(path)
    labels[labels == 2] = 0
    write_labels(path, labels)


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
        (lambda folder: (folder.images / "b.tif").unlink(), "input", "the input is gone: {images}/b.tif"),
        (
            lambda folder: (folder.out / "b_labels.json").unlink(),
            "provenance",
            "no provenance that can be read: b_labels.json",
        ),
    ],
    ids=["edited", "torn", "missing", "input changed", "input gone", "no provenance"],
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


def test_an_edit_that_kept_size_and_time_is_found(folder: Folder) -> None:
    path = folder.out / "b_labels.ome.tif"
    provenance = folder.out / "b_labels.json"
    edit(folder)
    content = json.loads(provenance.read_text())
    content["output"] |= {"size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}
    provenance.write_text(json.dumps(content))
    assert folder.verify().exit_code == 3


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
