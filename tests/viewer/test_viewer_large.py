"""``unetbio view`` of images larger than memory: the answers and the files are those of images in memory."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray
from page_client import Page, serve

from unetbio.cli.main import main
from unetbio.errors import UsageError
from unetbio.io import write_labels
from unetbio.io.arrays import image_of_array
from unetbio.io.image import Image
from unetbio.postprocessing import bands
from unetbio.results import reuse
from unetbio.results.tables import measure_cells
from unetbio.viewer import document, edits, large_planes, mask_pixels, pictures, planes
from unetbio.viewer.large_planes import large_pyramid
from unetbio.viewer.pictures import pyramid

Array = NDArray[Any]

SIDE = 32
SQUARE = [[60.0, 40.0], [72.0, 40.0], [72.0, 52.0], [60.0, 52.0]]


def run(*words: object) -> None:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles so small that an image has some, at several zooms."""
    for module in (pictures, large_planes, document):
        monkeypatch.setattr(module, "TILE", SIDE)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes every image large, of which no plane and no mask may be read as a whole."""

    def make() -> None:
        monkeypatch.setattr(reuse, "LARGE_PIXELS", 1)
        for module in (reuse, mask_pixels, measure_cells):
            monkeypatch.setattr(module, "read_label_file", _refuse)
        for module in (bands, measure_cells):
            monkeypatch.setattr(module, "BAND_PIXELS", 7 * 80)
        monkeypatch.setattr(large_planes, "PIXELS_AT_ONCE", 1)
        monkeypatch.setattr(large_planes, "ROWS_OF_CHUNKS", 16)
        monkeypatch.setattr(planes, "SAMPLED_PIXELS", 300)

    return make


def _refuse(path: Path, provenance: object) -> Array:
    raise AssertionError(f"{path} is read as a whole")


def look(page: Page) -> dict[str, Any]:
    """All that the page shows of the first image."""
    found = page.get("image/0")
    found.pop("version")
    # Contrast is that of a zoom of a large image.
    layers = "layers=0:10:200:ffffff"
    for channel in found.pop("channels"):
        found[channel["name"]] = sorted(channel)
    planes, zooms = range(found["times"] * found["sections"]), [(0, 3, 5), (1, 2, 3), (2, 1, 2), (3, 1, 1)]
    for plane in planes:
        found[f"rows {plane}"] = page.get(f"image/0/rows/{plane}")
        for zoom, columns, rows in zooms:
            for place in (f"{zoom}/{x}_{y}" for x in range(columns) for y in range(rows)):
                found[f"image {plane} {place}"] = page.get(f"image/0/tile/{plane}/{place}?{layers}")
                found[f"labels {plane} {place}"] = page.get(f"image/0/labels/{plane}/{place}")
    return found


def correct(page: Page, results: Path) -> list[Any]:
    """A mask that is corrected in all ways, and corrections that are taken back: answers and files."""
    plane = page.get("image/0")["sections"] - 1
    ids = page.get(f"image/0/rows/{plane}")["columns"]["label"]
    steps: list[tuple[str, dict[str, Any]]] = [
        ("correct", {"kind": "draw", "points": SQUARE}),
        ("correct", {"kind": "erase", "points": SQUARE[:3]}),
        ("correct", {"kind": "extend", "ids": ids[1:2], "points": SQUARE}),
        ("correct", {"kind": "split", "points": [[15.0, 0.0], [15.0, 60.0]]}),
        ("correct", {"kind": "delete", "ids": ids[2:3]}),
        ("accept", {"ids": ids[:1], "accept": True}),
        *[("undo", {})] * 2,
        ("redo", {}),
    ]
    found: list[Any] = []
    for what, body in steps:
        answer = page.post(f"image/0/{what}", plane=plane, **body)
        answer.pop("version")
        found += [answer, page.get(f"image/0/rows/{plane}"), files_of(results)]
    for _ in range(page.get("image/0")["can_undo"]):
        page.post("image/0/undo")
    return [*found, look(page), files_of(results)]


def files_of(results: Path) -> dict[str, bytes]:
    """Masks, whole, and reviews."""
    return {
        path.relative_to(results).as_posix(): path.read_bytes()
        for path in results.rglob("*")
        if path.is_file() and ("_labels" in path.as_posix() or "_review" in path.name)
    }


@pytest.fixture(params=["plane", "zarr", "sections", "time-lapse"])
def results(request: pytest.FixtureRequest, tmp_path: Path, discs: Array, tiny_model: Path) -> Path:
    """Results of an image of 80 x 160 pixels, and what it takes to segment a stack, or a time-lapse, of such."""
    if request.param == "zarr":
        pytest.importorskip("zarr")
    image = np.tile(discs, (3, 1))[:160]
    options: list[object] = ["--format", "ome-zarr"] if request.param == "zarr" else []
    if request.param in ("sections", "time-lapse"):
        axes = "ZYX" if request.param == "sections" else "TYX"
        options += ["--z", "each"] if axes == "ZYX" else []
        stack = np.stack([image, np.roll(image, 5, axis=1)])
        tifffile.imwrite(tmp_path / "a.ome.tif", stack, ome=True, metadata={"axes": axes}, photometric="minisblack")
    else:
        tifffile.imwrite(tmp_path / "a.ome.tif", image, tile=(16, 16))
    line = ("segment", tmp_path / "a.ome.tif", "-o", tmp_path / "out", "-m", tiny_model, "--normalize", "0,200")
    run(*line, *options, "--diameter", "model", "--overlays", "none", "--device", "cpu", "--workers", "1")
    return tmp_path / "out"


@pytest.mark.usefixtures("tiles")
def test_pieces_show_and_save_what_whole_images_do(results: Path, tmp_path: Path, large: Callable[[], None]) -> None:
    other = tmp_path / "in_memory"
    shutil.copytree(results, other, copy_function=shutil.copy2)
    seen: list[Any] = []
    for folder in (other, results):
        if folder is results:
            large()
        with serve(folder) as page:
            seen.append([look(page), correct(page, folder)])
    assert seen[0] == seen[1]
    with serve(results) as page:
        assert not page.get("image/0")["is_edited"]


@pytest.mark.usefixtures("tiles")
def test_masks_that_other_programs_save_without_smaller_copies_are_shown(
    tmp_path: Path, tiny_model: Path, discs: Array, large: Callable[[], None]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.tile(discs, (3, 1)))
    run("segment", tmp_path / "a.tif", "-o", tmp_path / "out", "-m", tiny_model, "--overlays", "none")
    labels = np.tile(np.arange(80, dtype=np.uint16), (192, 1))
    write_labels(tmp_path / "out" / "a_labels.ome.tif", labels)
    large()
    with serve(tmp_path / "out") as page:
        assert page.get("image/0")["is_edited"]
        shown = np.frombuffer(page.get("image/0/labels/0/1/0_0"), "<u4").reshape(33, -1)
        np.testing.assert_array_equal(shown, labels[:66:2, :66:2])


def pyramid_of(folder: Path, image: Image) -> list[Array]:
    return [np.asarray(level[:, :]) for level in large_pyramid(image, 0, [0], 0, folder)]


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("shape", [(300, 517), (33, 32), (1, 1000), (1030, 7)])
def test_zooms_are_those_of_a_plane_in_memory(
    tmp_path: Path, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_planes, "PIXELS_AT_ONCE", 1)
    plane = np.random.default_rng(1).integers(0, 65536, shape, np.uint16)
    found, expected = pyramid_of(tmp_path, image_of_array(plane, "YX")), pyramid(plane)
    assert len(found) == len(expected)
    for level, whole in zip(found, expected, strict=True):
        np.testing.assert_array_equal(level, whole)


def test_a_correction_over_a_box_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "MOST_PIXELS", 9)
    labels = np.zeros((1, 5, 5), np.uint16)
    labels[0, 0, 0], labels[0, 4, 4] = 1, 2
    assert edits.changed_ids(edits.delete(labels, [1])) == {1}
    with pytest.raises(UsageError, match="cells 1, 2 lie in a box of 5 x 5 pixels: correct fewer of them at once"):
        edits.delete(labels, [1, 2])
