"""OME-Zarr folders through a batch: as inputs, and as label images."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.files import sha256_path
from unetbio.io import read_image, read_labels
from unetbio.labels import label_hash
from unetbio.provenance import read_provenance

zarr = pytest.importorskip("zarr")

Array = NDArray[Any]


def write_image(
    folder: Path,
    image: Array,
    version: int = 3,
    *,
    chunks: tuple[int, int] = (32, 32),
    shards: tuple[int, int] | None = None,
    write_empty_chunks: bool = True,
) -> Path:
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    entry = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    attributes = {"multiscales": [entry]}
    zarr.create_group(folder, attributes={"ome": attributes} if version == 3 else attributes, zarr_format=version)
    array = zarr.create_array(
        folder / "0",
        shape=image.shape,
        dtype=image.dtype,
        chunks=chunks,
        shards=shards,
        zarr_format=version,
        config={"write_empty_chunks": write_empty_chunks},
    )
    array[...] = image
    return folder


class Run:
    """``unetbio segment`` of the folder ``images`` into ``out``."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.images, self.out = folder, folder / "images", folder / "out"
        self.model = model
        self.images.mkdir()

    def __call__(self, *arguments: str, out: str = "out") -> Result:
        given = [str(self.images), "-o", str(self.folder / out), "-m", str(self.model), "--workers", "1"]
        return CliRunner().invoke(main, ["segment", *given, "--overlays", "1", *arguments])

    def command(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments))

    @property
    def journal(self) -> list[str]:
        lines = (self.out / "run.jsonl").read_text().splitlines()
        return [json.loads(line)["status"] for line in lines]


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path) -> Run:
    return Run(tmp_path, tiny_model)


def hash_of(path: Path) -> str:
    return label_hash(read_labels(path))


def test_a_folder_is_segmented_like_a_file(run: Run, discs: Array) -> None:
    write_image(run.images / "sub" / "a.ome.zarr", discs, 2)
    write_image(run.images / "b.zarr", discs)
    tifffile.imwrite(run.images / "c.tif", discs, resolution=(2, 2), imagej=True, metadata={"unit": "um"})
    before = sha256_path(run.images)
    result = run()
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("3 images, 9 cells, 0 failed")
    names = ("sub/a", "b", "c")
    assert len({hash_of(run.out / f"{name}_labels.ome.tif") for name in names}) == 1
    provenance = read_provenance(run.out / "sub" / "a_labels.json")
    assert provenance is not None
    assert provenance.input.fingerprint.sha256 == sha256_path(run.images / "sub" / "a.ome.zarr")
    assert provenance.input.pixel_size_um == {"Y": 0.5, "X": 0.5}
    # Nothing is written into an input.
    assert sha256_path(run.images) == before
    assert run().stdout.startswith("3 images, 9 cells")
    assert run.journal == ["done"] * 3 + ["skipped"] * 3
    result = run.command("verify", str(run.out))
    assert result.exit_code == 0, result.output
    result = run.command("measure", str(run.out))
    assert (result.exit_code, "without grey values" in result.stderr) == (0, False)


def test_a_changed_chunk_is_noticed(run: Run, discs: Array) -> None:
    image = write_image(run.images / "a.zarr", discs)
    run()
    chunk = image / "0" / "c" / "0" / "0"
    content = chunk.read_bytes()
    # The same bytes at another time are the same image.
    os.utime(chunk, ns=(1, 1))
    run()
    assert run.journal == ["done", "skipped"]
    zarr.open_array(image / "0", mode="r+")[20:30, 10:20] = 10
    assert chunk.read_bytes() != content
    assert "the input was changed after it was segmented" in run.command("verify", str(run.out)).output
    run()
    assert run.journal == ["done", "skipped", "done"]
    (image / "0" / "c" / "1" / "1").unlink()
    result = run()
    assert result.exit_code == 0
    assert "1 of 6 chunks are not stored; read as the fill value" in result.stderr


@pytest.mark.parametrize("shards", [None, (128, 128)])
def test_chunks_that_are_not_stored_are_never_silent(
    run: Run, shared_data: Path, shards: tuple[int, int] | None
) -> None:
    """A real image, dark where there are no nuclei, without the chunks that are empty, and one lost."""
    real = read_image(sorted((shared_data / "bbbc039" / "val" / "images").iterdir())[0]).read()
    sparse = np.where(real < np.percentile(real, 93), 0, real)[:256, :256].astype(np.uint16)
    sparse[:64, :128] = 0
    image = write_image(run.images / "a.zarr", sparse, chunks=(64, 64), shards=shards, write_empty_chunks=False)
    lost = sum(not sparse[y : y + 64, x : x + 64].any() for y in range(0, 256, 64) for x in range(0, 256, 64))
    assert lost >= 2
    if shards is None:
        nonzero = {p: np.count_nonzero(zarr_chunk(sparse, p)) for p in (image / "0" / "c").rglob("*") if p.is_file()}
        # One with hardly anything at its borders.
        rest = sorted(nonzero, key=lambda p: border(sparse, p))
        assert nonzero[rest[0]]
        rest[0].unlink()
        lost += 1
    result = run.command("check", str(run.images), "--no-model", "--cache", str(run.folder / "known.jsonl"))
    message = f"{lost} of 16 chunks are not stored; read as 0; if they were lost, copy the file again"
    assert result.exit_code == 3
    assert f"{image}: not_stored: {message}" in result.stdout.splitlines()
    again = run.command("check", str(run.images), "--no-model", "--cache", str(run.folder / "known.jsonl"))
    assert again.stdout == result.stdout
    result = run()
    assert result.exit_code == 0, result.stderr
    assert f"{lost} of 16 chunks are not stored; read as the fill value" in result.stderr
    with open(run.out / "summary.csv", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert f"not_stored:{lost}/16" in row["warnings"].split()
    page = run.command("report", str(run.out))
    assert page.exit_code == 0, page.output
    assert "parts of the image are not in the file" in (run.out / "index.html").read_text(encoding="utf-8")
    # Whole, there is nothing to say.
    shutil.rmtree(image)
    write_image(image, sparse, chunks=(64, 64), shards=shards)
    assert "not_stored" not in run.command("check", str(run.images), "--no-model").stdout
    run()
    assert "not_stored" not in (run.out / "summary.csv").read_text()


def zarr_chunk(image: Array, path: Path) -> Array:
    row, column = int(path.parent.name), int(path.name)
    return image[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]


def border(image: Array, path: Path) -> int:
    """Pixels around a chunk that are not 0."""
    row, column = 64 * int(path.parent.name), 64 * int(path.name)
    around = image[max(0, row - 1) : row + 65, max(0, column - 1) : column + 65]
    return int(np.count_nonzero(around)) - int(np.count_nonzero(zarr_chunk(image, path)))


def test_the_hash_is_that_of_the_lines_of_sha256sum(tmp_path: Path, discs: Array) -> None:
    image = write_image(tmp_path / "a.zarr", discs, 2)
    (image / ".DS_Store").write_bytes(b"of a file manager")
    line = "find . -type f ! -name .DS_Store -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    if not shutil.which("sha256sum"):
        pytest.skip("there is no sha256sum")
    printed = subprocess.run(line, shell=True, cwd=image, capture_output=True, text=True, check=True).stdout
    assert sha256_path(image) == printed.split()[0]


def test_label_images_in_every_format_are_the_same(run: Run, discs: Array) -> None:
    write_image(run.images / "a.ome.zarr", discs)
    tifffile.imwrite(run.images / "b.tif", discs)
    result = run("--format", "ome-zarr")
    assert result.exit_code == 0, result.stderr
    assert run("--format", "ome-tiff", out="tiff").exit_code == 0
    for name in ("a", "b"):
        folder, file = (run.out / f"{name}_labels.ome.zarr", run.folder / "tiff" / f"{name}_labels.ome.tif")
        provenance = read_provenance(run.out / f"{name}_labels.json")
        assert provenance is not None
        assert provenance.output.name == folder.name
        assert provenance.output.label_hash == hash_of(folder) == hash_of(file)
    for table in ("cells.csv", "summary.csv"):
        assert (run.out / table).read_bytes() == (run.folder / "tiff" / table).read_bytes()
    # An output folder is searched for images without its own.
    assert run("--format", "ome-zarr").stdout.startswith("2 images, 6 cells")
    assert run.journal == ["done", "done", "skipped", "skipped"]
    for command in ("verify", "measure", "report"):
        assert run.command(command, str(run.out)).exit_code == 0, command
    evaluated = run.command("evaluate", str(run.out), str(run.folder / "tiff"), "--json")
    assert evaluated.exit_code == 0, evaluated.output
    assert not list(run.folder.rglob(".unetbio-*"))


def test_an_edited_folder_is_kept(run: Run, discs: Array) -> None:
    tifffile.imwrite(run.images / "b.tif", discs)
    run("--format", "ome-zarr")
    folder = run.out / "b_labels.ome.zarr"
    pixels = zarr.open_array(folder / "labels" / "cells" / "0", mode="r+")
    pixels[:30] = 0
    result = run("--format", "ome-zarr", "--overwrite")
    assert result.stdout.startswith("1 image, 1 cell,"), result.stderr
    assert "b_labels.ome.zarr was edited by hand or has no provenance, and is kept" in result.stderr
    assert "label_hash differs" in run.command("verify", str(run.out)).output
    # Neither is it replaced by another format.
    result = run()
    assert result.exit_code == 3
    assert "b_labels.ome.zarr was edited by hand and would be replaced by b_labels.ome.tif" in result.stderr
    assert folder.is_dir()
    # What was drawn can still be exported.
    assert run.command("export", str(run.out), "--to", "geojson").exit_code == 3
    assert (run.out / "b_cells.geojson").is_file()
    assert run("--overwrite-edited").stdout.startswith("1 image, 3 cells, 0 failed")
    assert not folder.exists()


def test_another_format_takes_the_place_of_the_first(run: Run, discs: Array) -> None:
    tifffile.imwrite(run.images / "b.tif", discs)
    (run.images / "bad.tif").write_bytes(b"")
    for chosen, name in (("auto", "b_labels.ome.tif"), ("ome-zarr", "b_labels.ome.zarr"), ("auto", "b_labels.ome.tif")):
        result = run("--format", chosen)
        assert result.stdout.startswith("2 images, 3 cells, 1 failed"), result.stderr
        assert [path.name for path in run.out.glob("b_labels.*") if path.suffix != ".json"] == [name]
        with open(run.out / "summary.csv", newline="") as stream:
            assert [row["path"] for row in csv.DictReader(stream)] == ["b.tif", "bad.tif"]
    assert run.command("verify", str(run.out)).exit_code == 0


def test_a_torn_folder_is_made_again(run: Run, discs: Array) -> None:
    tifffile.imwrite(run.images / "b.tif", discs)
    run("--format", "ome-zarr")
    folder = run.out / "b_labels.ome.zarr"
    (folder / "labels" / "cells" / "0" / "c" / "0" / "0").unlink()
    # What a run leaves that is killed while it writes.
    left = run.out / ".unetbio-abc.ome.zarr"
    shutil.copytree(folder, left)
    assert "cannot be read" in run.command("verify", str(run.out)).output
    assert run("--format", "ome-zarr").stdout.startswith("1 image, 3 cells, 0 failed")
    assert run.journal == ["done", "done"]
    assert not left.exists()


def test_probabilities_stay_ome_tiff(run: Run, discs: Array) -> None:
    write_image(run.images / "a.zarr", discs)
    assert run("--format", "ome-zarr", "--save-probabilities").exit_code == 0
    assert (run.out / "a_probabilities.ome.tif").is_file()
    with open(run.out / "cells.csv", newline="") as stream:
        confidences = [row["confidence"] for row in csv.DictReader(stream)]
    assert run.command("measure", str(run.out)).exit_code == 0
    with open(run.out / "cells.csv", newline="") as stream:
        assert [row["confidence"] for row in csv.DictReader(stream)] == confidences
    assert all(confidences)


def test_the_package_is_asked_for_in_one_line(run: Run, discs: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(run.images / "b.tif", discs)
    monkeypatch.setitem(sys.modules, "zarr", None)
    result = run("-q", "--format", "ome-zarr")
    assert result.exit_code == 2
    assert 'pip install "unetbio[formats]"' in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not run.out.exists()
