"""Images that take more memory than a batch may: the files of the result equal those of images in memory."""

import csv
import errno
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unetbio.batch.budget import MemoryShares
from unetbio.batch.overlays import Overlays
from unetbio.batch.pipeline import streamed_if_large
from unetbio.batch.plan import found_items
from unetbio.batch.rerun import rerun_masks
from unetbio.batch.run import BatchOptions, run_batch
from unetbio.errors import EnvironmentStoppedError
from unetbio.files import sha256_path
from unetbio.io import read_image, read_labels, write_labels
from unetbio.io.image import Image
from unetbio.labels import label_hash
from unetbio.models.model_file import Model
from unetbio.postprocessing import bands
from unetbio.provenance import Provenance, read_provenance
from unetbio.report.overlays import write_overlay
from unetbio.results import disk_arrays
from unetbio.results.disk_arrays import DiskArray
from unetbio.results.reuse import Policy
from unetbio.segmentation import Segmenter
from unetbio.segmentation.segmenter import BYTES_IN_BAND
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings
from unetbio.targets.cells import CellDecoder

Array = NDArray[Any]

WHOLE = 1 << 30
NOT_SCALED = Settings(diameter_px="model")


@pytest.fixture
def mosaic(discs: Array) -> Array:
    """Cells, some of them on the seams of bands of any size; uint16."""
    return np.tile(discs, (2, 1)).astype(np.uint16) * 3


def segment(image: Path, out: Path, segmenter: Segmenter, memory: int, settings: Settings, **options: Any) -> None:
    items = [replace(item, **options) for item in found_items([image], settings, out)]
    overlays = {item.result: out / "overlay.png" for item in items}
    batch = BatchOptions(overlays=overlays, draw=write_overlay, memory=memory)
    summary = run_batch(items, out, segmenter, batch, lambda outcome: None)
    assert summary.failed == 0


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def provenance(out: Path) -> Provenance:
    found = read_provenance(next(out.glob("*_labels.json")))
    assert found is not None
    return found


def check_equal(streamed: Path, whole: Path) -> None:
    """Label image, tables, picture and provenance, apart from times."""
    for name in ("cells.csv", "summary.csv"):
        assert rows(streamed / name) == rows(whole / name)
    assert (streamed / "overlay.png").read_bytes() == (whole / "overlay.png").read_bytes()
    one, other = provenance(streamed), provenance(whole)
    assert one.output.label_hash == other.output.label_hash
    assert one.output.sha256 == other.output.sha256
    assert one.frames == other.frames
    assert one.frames[0].n_cells
    assert {**one.run, "network_seconds": 0, "finished": ""} == {**other.run, "network_seconds": 0, "finished": ""}


def opened(image: Path, segmenter: Segmenter, settings: Settings = NOT_SCALED, **policy: bool) -> Any:
    """The image as a batch with hardly any memory opens it."""
    item = found_items([image], settings, None)[0]
    selection = segmenter.open(item.read(), settings)
    return streamed_if_large(selection, item, segmenter, Policy(**policy), image.parent, 1)


@pytest.mark.parametrize(
    "settings", [NOT_SCALED, Settings(min_certain=0.05)], ids=["threshold", "certain, scale found"]
)
@pytest.mark.parametrize("band", [7, 50, 100])
def test_bands_do_not_change_the_files(
    mosaic: Array, tmp_path: Path, segmenter: Segmenter, band: int, settings: Settings
) -> None:
    image = tmp_path / "mosaic.tif"
    tifffile.imwrite(image, mosaic, tile=(32, 32))
    segment(image, tmp_path / "whole", segmenter, WHOLE, settings)
    segment(image, tmp_path / "streamed", segmenter, band * BYTES_IN_BAND * mosaic.shape[1], settings)
    check_equal(tmp_path / "streamed", tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.glob("streamed/*")) == sorted(
        path.name for path in tmp_path.glob("whole/*")
    )


def test_channels_are_measured_and_zarr_is_written_in_parts(
    mosaic: Array, tmp_path: Path, segmenter: Segmenter
) -> None:
    pytest.importorskip("zarr")
    image = tmp_path / "channels.tif"
    tifffile.imwrite(image, np.stack([mosaic, mosaic[::-1]]), metadata={"axes": "CYX"}, imagej=True)
    settings = replace(NOT_SCALED, channel=("1",))
    for name, memory in (("whole", WHOLE), ("streamed", 30 * BYTES_IN_BAND * mosaic.shape[1])):
        segment(image, tmp_path / name, segmenter, memory, settings, format="ome-zarr")
    check_equal(tmp_path / "streamed", tmp_path / "whole")
    assert "intensity_mean_0" in rows(tmp_path / "streamed/cells.csv")[0]


@pytest.mark.parametrize("diameter", [7.0, 17.0, 31.0])
@pytest.mark.parametrize("band", [7, 50])
def test_a_rescaled_image_is_read_in_parts(
    mosaic: Array, tmp_path: Path, segmenter: Segmenter, diameter: float, band: int
) -> None:
    image = tmp_path / "mosaic.tif"
    noise = np.random.default_rng(0).integers(0, 40, mosaic.shape).astype(np.uint16)
    tifffile.imwrite(image, mosaic + noise, tile=(32, 32))
    for name, memory in (("whole", WHOLE), ("streamed", band * BYTES_IN_BAND * mosaic.shape[1])):
        segment(image, tmp_path / name, segmenter, memory, Settings(diameter_px=diameter))
    check_equal(tmp_path / "streamed", tmp_path / "whole")
    assert provenance(tmp_path / "streamed").run["zoom"][0] != 1


def test_small_cells_of_an_image_in_parts_are_enlarged(tmp_path: Path, model: Model) -> None:
    info = model.info.model_copy(update={"cell_diameter_px": 24.0, "pixel_size_um": None})
    segmenter = Segmenter(Model(info, model.network, model.sha256, model.path), "cpu")
    cells = np.full((130, 60), 10, np.uint8)
    for y, x in ((10, 10), (10, 40), (40, 20), (90, 30)):
        cells[y : y + 6, x : x + 6] = 200
    image = tmp_path / "small_cells.tif"
    tifffile.imwrite(image, cells)
    for name, memory in (("whole", WHOLE), ("streamed", 20 * BYTES_IN_BAND * 60)):
        segment(image, tmp_path / name, segmenter, memory, Settings())
    check_equal(tmp_path / "streamed", tmp_path / "whole")
    assert provenance(tmp_path / "streamed").run["zoom"] == [2.0, 2.0]


def test_the_scale_of_an_image_in_parts_is_looked_for_in_parts(
    mosaic: Array, tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[int, ...]] = []
    look = CellDecoder.look

    def noted(self: CellDecoder, image: Any, *others: Any, **options: Any) -> Any:
        looked.append(image.shape[1:])
        return look(self, image, *others, **options)

    monkeypatch.setattr(CellDecoder, "look", noted)
    image = tmp_path / "large_cells.tif"
    tifffile.imwrite(image, mosaic.repeat(4, axis=0).repeat(4, axis=1))
    for name, memory in (("whole", WHOLE), ("streamed", 100 * BYTES_IN_BAND * 320)):
        segment(image, tmp_path / name, segmenter, memory, Settings())
    check_equal(tmp_path / "streamed", tmp_path / "whole")
    # The network sees each scale once, in both runs, and the image never as a whole in memory.
    assert looked == looked[: len(looked) // 2] * 2
    assert len(looked) > 2


@pytest.mark.parametrize("kind", ["ome-tiff", "ome-zarr"])
@pytest.mark.parametrize("place", ["bands", "labels"])
def test_a_disk_that_fills_up_keeps_the_finished_bands(
    mosaic: Array, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch, kind: str, place: str
) -> None:
    if kind == "ome-zarr":
        pytest.importorskip("zarr")
    # Rows of tiles: 5 of 26 pixels.
    segmenter = Segmenter(model, "cpu", tile=26)
    image, out = tmp_path / "mosaic.tif", tmp_path / "out"
    tifffile.imwrite(image, mosaic, tile=(32, 32))
    memory = 50 * BYTES_IN_BAND * mosaic.shape[1]
    segment(image, tmp_path / "whole", segmenter, WHOLE, NOT_SCALED, format=kind)
    tiles: list[int] = []
    compute = segmenter.decoder.runner.probabilities

    def counted(batch: Array) -> Array:
        tiles.append(len(batch))
        return compute(batch)

    def stop(*_: Any, **__: Any) -> None:
        raise EnvironmentStoppedError("No space left on device")

    def write(path: Path, content: bytes) -> None:
        if ".bands-" in str(path) and len(list(out.glob(".bands-*/[0-9a-f]*"))) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        with path.open("wb") as stream:
            stream.write(content)

    monkeypatch.setattr(segmenter.decoder.runner, "probabilities", counted)
    with monkeypatch.context() as patch:
        if place == "bands":
            patch.setattr(Path, "write_bytes", write)
        else:
            patch.setattr("unetbio.results.result_files.write_labels", stop)
        with pytest.raises(EnvironmentStoppedError, match="No space left on device"):
            segment(image, out, segmenter, memory, NOT_SCALED, format=kind)
    assert not list(out.glob("mosaic_labels*"))
    kept = len(list(out.glob(".bands-*/[0-9a-f]*")))
    assert kept == (2 if place == "bands" else 5)
    before = len(tiles)
    segment(image, out, segmenter, memory, NOT_SCALED, format=kind)
    check_equal(out, tmp_path / "whole")
    assert len(tiles) - before == len(segmenter.plan(mosaic.shape)) * (5 - kept) // 5
    assert not list(out.glob(".bands-*"))


class Stopped(BaseException):
    """Ends a run as Ctrl-C does."""


@pytest.mark.parametrize("diameter", ["model", "auto"])
def test_a_run_that_was_stopped_goes_on_at_its_last_band(
    mosaic: Array, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch, diameter: str
) -> None:
    # Rows of tiles: 5 of 26 pixels.
    segmenter = Segmenter(model, "cpu", tile=26)
    image, out, settings = tmp_path / "mosaic.tif", tmp_path / "out", Settings(diameter_px=diameter)
    tifffile.imwrite(image, mosaic, tile=(32, 32))
    memory = 50 * BYTES_IN_BAND * mosaic.shape[1]
    segment(image, tmp_path / "whole", segmenter, WHOLE, settings)
    tiles: list[int] = []
    stops = [6, 11]
    compute = segmenter.decoder.runner.probabilities

    def counted(batch: Array) -> Array:
        if len(tiles) in stops:
            stops.remove(len(tiles))
            raise Stopped
        tiles.append(len(batch))
        return compute(batch)

    monkeypatch.setattr(segmenter.decoder.runner, "probabilities", counted)
    while stops:
        with pytest.raises(Stopped):
            segment(image, out, segmenter, memory, settings)
        assert not list(out.glob("*_labels*"))
    segment(image, out, segmenter, memory, settings)
    check_equal(out, tmp_path / "whole")
    # Of rows of four tiles, each stop lost at most one row that was not finished.
    assert len(tiles) <= len(segmenter.plan(mosaic.shape)) + 2 * 3
    assert sorted(path.name for path in out.glob(".*")) == sorted(path.name for path in tmp_path.glob("whole/.*"))


def test_a_missing_overlay_is_drawn_in_parts(
    mosaic: Array, tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, out = tmp_path / "mosaic.tif", tmp_path / "out"
    tifffile.imwrite(image, mosaic, tile=(32, 32))
    segment(image, out, segmenter, 50 * BYTES_IN_BAND * mosaic.shape[1], NOT_SCALED)
    before = (out / "overlay.png").read_bytes()
    (out / "overlay.png").unlink()
    read: list[int] = []
    whole = Image.read

    def noted(self: Image, **window: Any) -> Array:
        found = whole(self, **window)
        read.append(found.size)
        return found

    monkeypatch.setattr(Image, "read", noted)
    monkeypatch.setattr(bands, "BAND_PIXELS", 20 * mosaic.shape[1])
    segment(image, out, segmenter, 50 * BYTES_IN_BAND * mosaic.shape[1], NOT_SCALED)
    assert (out / "overlay.png").read_bytes() == before
    assert max(read) < mosaic.size / 4


def test_the_picture_of_a_large_image_holds_no_more_than_it_shows(tmp_path: Path) -> None:
    image = tmp_path / "large.tif"
    tifffile.imwrite(image, np.zeros((256, 256), np.uint8))
    (item,) = found_items([image], NOT_SCALED, tmp_path)
    side = 6000
    drawn: list[tuple[int, ...]] = []

    class Rows:
        """Zeros that are made where they are read."""

        def __init__(self, *shape: int) -> None:
            self.shape, self.dtype = shape, np.dtype(np.uint16)

        def __getitem__(self, index: Any) -> Array:
            band = index[-1] if isinstance(index, tuple) else index
            return np.zeros((band.stop - band.start, side), self.dtype)

    overlays = Overlays(
        tmp_path, (), {item.result: tmp_path / "a.png"}, lambda path, plane, labels, _: drawn.append(plane.shape)
    )
    tracemalloc.start()
    try:
        overlays.draw(item, Rows(1, side, side), Rows(side, side), None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert drawn == [(2000, 2000)]
    # Of 72 million bytes each of image and cells.
    assert peak < 60_000_000


def test_an_image_of_one_grey_value_has_no_cells(tmp_path: Path, segmenter: Segmenter) -> None:
    image = tmp_path / "flat.tif"
    tifffile.imwrite(image, np.full((90, 40), 7, np.uint16))
    out = tmp_path / "out"
    segment(image, out, segmenter, 20 * BYTES_IN_BAND * 40, NOT_SCALED)
    assert provenance(out).frames[0].warnings == ("no_cells", "constant")
    assert not read_labels(next(out.glob("*_labels.ome.tif"))).any()


def test_what_is_streamed(mosaic: Array, tmp_path: Path, segmenter: Segmenter) -> None:
    plane, lapse, real = (tmp_path / name for name in ("plane.tif", "lapse.tif", "real.tif"))
    tifffile.imwrite(plane, mosaic)
    tifffile.imwrite(lapse, np.stack([mosaic, mosaic]), metadata={"axes": "TYX"}, imagej=True)
    tifffile.imwrite(real, mosaic.astype(np.float32))
    assert opened(plane, segmenter).rows == 1
    assert opened(plane, segmenter, Settings(diameter_px=20)).rows == 1
    # Probabilities are as large as the image, and frames of a time-lapse and real numbers need it all.
    assert opened(plane, segmenter, save_probabilities=True).rows is None
    assert opened(lapse, segmenter).rows is None
    assert opened(real, segmenter).rows is None


def test_percentiles_of_wide_numbers_need_all_of_them(mosaic: Array, tmp_path: Path, segmenter: Segmenter) -> None:
    image = tmp_path / "wide.tif"
    tifffile.imwrite(image, mosaic.astype(np.uint32))
    assert opened(image, segmenter, replace(NOT_SCALED, normalization=Normalization())).rows is None
    assert opened(image, segmenter, replace(NOT_SCALED, normalization=Normalization("range", 0, 600))).rows == 1


def test_arrays_on_disk_hold_what_is_written(tmp_path: Path) -> None:
    array = DiskArray(tmp_path, (5, 4), np.uint16)
    array[1:3, 2:] = [[1, 2], [3, 4]]
    part = array[1:4]
    part[...] = 9
    np.testing.assert_array_equal(array[:], [[0] * 4, [0, 0, 1, 2], [0, 0, 3, 4], [0] * 4, [0] * 4])
    assert (array.ndim, len(array), array.dtype) == (2, 5, np.uint16)
    assert label_hash(array) == label_hash(array[:])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(300, 517), (3, 70, 300)])
@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_arrays_on_disk_are_written_as_those_in_memory(
    tmp_path: Path, shape: tuple[int, ...], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zarr")
    # Parts that begin in odd rows of the smaller sizes.
    monkeypatch.setattr("unetbio.io.formats.zarr.writer.CHUNK", 36)
    monkeypatch.setattr("unetbio.io.formats.zarr.writer.SMALLEST", 20)
    monkeypatch.setattr("unetbio.io.write.LARGE_SIDE", 299)
    monkeypatch.setattr("unetbio.io.write.SMALLEST_SIDE", 20)
    array = DiskArray(tmp_path, shape, np.uint32)
    array[:] = np.random.default_rng(0).integers(0, 99999, shape)
    for name, labels in (("disk", array), ("memory", array[:])):
        write_labels(tmp_path / f"{name}{suffix}", labels, pixel_size_um={"Y": 0.5, "X": 0.5})
    assert sha256_path(tmp_path / f"disk{suffix}") == sha256_path(tmp_path / f"memory{suffix}")
    image = read_image(tmp_path / f"disk{suffix}", labels=True)
    assert len(image.levels) > 3
    for level in range(len(image.levels)):
        np.testing.assert_array_equal(image.at_level(level).read(), array[:][..., :: 2**level, :: 2**level])


def test_a_full_disk_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk_arrays, "_reserve_space", full)
    with pytest.raises(EnvironmentStoppedError, match=r"cannot write 80 bytes in .*: No space left on device"):
        DiskArray(tmp_path, (5, 4), np.int32)


def test_a_mask_is_made_again_in_parts(
    mosaic: Array, tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, out = tmp_path / "mosaic.tif", tmp_path / "out"
    tifffile.imwrite(image, mosaic, tile=(32, 32))
    segment(image, out, segmenter, WHOLE, NOT_SCALED)
    parts: list[int | None] = []
    finish = CellDecoder.finish

    def noted(self: CellDecoder, decided: Any, opened: Any) -> Any:
        parts.append(opened.rows)
        return finish(self, decided, opened)

    monkeypatch.setattr(CellDecoder, "finish", noted)
    memory = 30 * BYTES_IN_BAND * mosaic.shape[1]
    monkeypatch.setattr("unetbio.batch.rerun.MemoryShares.of", lambda memory_of_machine: MemoryShares(None, memory))
    assert rerun_masks(out, 1, "cpu", lambda name: None) == (1, [])
    assert parts == [30]


def test_a_mask_in_a_folder_that_is_read_only_is_made_again_in_parts(
    mosaic: Array, tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, out, scratch = tmp_path / "mosaic.tif", tmp_path / "out", tmp_path / "scratch"
    tifffile.imwrite(image, mosaic, tile=(32, 32))
    segment(image, out, segmenter, WHOLE, NOT_SCALED)
    scratch.mkdir()
    used: list[Path] = []
    reserve = disk_arrays.reserved_file

    def noted(folder: Path, size: int) -> Any:
        used.append(folder)
        return reserve(folder, size)

    monkeypatch.setattr(disk_arrays, "reserved_file", noted)
    # Root may write everywhere.
    monkeypatch.setattr("os.access", lambda folder, mode: folder != out)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(scratch))
    memory = 30 * BYTES_IN_BAND * mosaic.shape[1]
    monkeypatch.setattr("unetbio.batch.rerun.MemoryShares.of", lambda memory_of_machine: MemoryShares(None, memory))
    assert rerun_masks(out, 1, "cpu", lambda name: None) == (1, [])
    assert set(used) == {scratch}
