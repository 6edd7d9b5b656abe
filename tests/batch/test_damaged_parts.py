"""A damaged tile or chunk in the middle of an image: its place is named, and `--partial` leaves it out."""

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from unetbio.batch.plan import found_items
from unetbio.batch.run import BatchOptions, run_batch
from unetbio.cli.main import main
from unetbio.errors import ImageError
from unetbio.io import read_image, read_labels
from unetbio.io.tolerant import without_damage
from unetbio.models.model_file import Model, load_model
from unetbio.preprocessing import rescaling
from unetbio.provenance import Provenance, read_provenance
from unetbio.segmentation import Segmenter
from unetbio.segmentation.segmenter import BYTES_IN_BAND
from unetbio.settings.segmentation import Settings

Array = NDArray[Any]

PLACE = "rows 256 to 511, columns 256 to 511"


def write_tiff(path: Path, image: Array) -> Path:
    path = path.with_suffix(".tif")
    tifffile.imwrite(path, image, tile=(256, 256), compression="zlib")
    return _with_damaged_tile(path)


def write_svs(path: Path, image: Array) -> Path:
    path = path.with_suffix(".svs")
    colours = np.repeat(image[..., np.newaxis], 3, axis=2)
    colours[..., 1] //= 2
    description = "Aperio Image Library v11.2.1\r\n768x768 (256x256) JPEG/RGB Q=90|AppMag = 20|MPP = 0.5"
    tifffile.imwrite(path, colours, tile=(256, 256), compression="jpeg", description=description, metadata=None)
    return _with_damaged_tile(path)


def write_zarr(path: Path, image: Array) -> Path:
    zarr = pytest.importorskip("zarr")
    path = path.with_suffix(".ome.zarr")
    group = zarr.open_group(path, mode="w", zarr_format=2)
    array = group.create_array("0", shape=image.shape, chunks=(256, 256), dtype=image.dtype)
    array[:] = image
    scale = {"type": "scale", "scale": [1.0, 1.0]}
    axes = [{"name": name, "type": "space"} for name in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    chunk = path / "0" / "1.1"
    content = chunk.read_bytes()
    # What the chunk says of its size stays.
    chunk.write_bytes(content[:20] + bytes(len(content) - 20))
    return path


def _with_damaged_tile(path: Path) -> Path:
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        offset, count = page.dataoffsets[4], page.databytecounts[4]
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(bytes(count))
    return path


@pytest.fixture
def mosaic(discs: Array) -> Array:
    """768 x 768: nine parts."""
    return np.tile(discs, (12, 10))[:, :768]


@pytest.fixture(params=[write_tiff, write_svs, write_zarr], ids=["tiff", "svs", "zarr"])
def image(request: pytest.FixtureRequest, tmp_path: Path, mosaic: Array) -> Path:
    write: Callable[[Path, Array], Path] = request.param
    (tmp_path / "images").mkdir()
    return write(tmp_path / "images" / "a", mosaic)


def unetbio(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def segment(image: Path, model: Path, *options: object) -> Result:
    line = ("segment", image, "-o", image.parents[1] / "out", "-m", model, "--diameter", "model", "--channel", "0")
    return unetbio(*line, "--device", "cpu", "--overlays", "none", *options)


def test_the_place_of_the_damage_is_named(image: Path, tiny_model: Path, tmp_path: Path) -> None:
    result = segment(image, tiny_model)
    assert result.exit_code == 3, result.output
    line = next(line for line in result.stderr.splitlines() if PLACE in line)
    assert f"{image}: {PLACE} cannot be decoded: " in line
    assert line.endswith("[unreadable]")


def test_the_damaged_part_is_left_out(image: Path, tiny_model: Path, tmp_path: Path, mosaic: Array) -> None:
    result = segment(image, tiny_model, "--partial")
    assert result.exit_code == 0, result.output
    assert f"{image}: {PLACE} are left out: " in result.stderr
    assert "1 of 9 parts of 256 x 256 pixels cannot be decoded, and are background [damaged]" in result.stderr
    assert "--partial changes nothing" not in result.stderr
    out = tmp_path / "out"
    with open(out / "summary.csv", newline="") as stream:
        assert "damaged:1/9" in next(csv.DictReader(stream))["warnings"]
    mask = next(path for path in out.glob("a_labels.*") if path.suffix != ".json")
    labels = read_labels(mask)
    assert not labels[256:512, 256:512].any()
    # Far from it cells are those of the whole image.
    assert np.array_equal(labels[:200] > 0, mosaic[:200] > 100)
    assert json.loads((out / "a_labels.json").read_text())["run"]["damaged"] == [[256, 512, 256, 512]]
    measured = unetbio("measure", out, "--overwrite")
    assert measured.exit_code == 0, measured.output
    assert unetbio("verify", out, "--rerun", "1", "--device", "cpu").exit_code == 0
    # Without the option, what was left out is not taken for the result.
    assert segment(image, tiny_model).exit_code == 3


def test_an_image_in_parts_leaves_the_same_out(image: Path, tiny_model: Path, tmp_path: Path) -> None:
    segmenter = Segmenter(load_model(tiny_model), "cpu")
    settings = Settings(diameter_px="model", channel=("0",), partial=True)
    hashes = []
    for name, memory in (("whole", 1 << 30), ("parts", 100 * BYTES_IN_BAND * 768)):
        out = tmp_path / name
        items = found_items([image], settings, out)
        assert run_batch(items, out, segmenter, BatchOptions(memory=memory), lambda outcome: None).failed == 0
        made = read_provenance(out / "a_labels.json")
        assert made is not None
        assert made.run["damaged"] == [[256, 512, 256, 512]]
        hashes.append(made.output.label_hash)
    assert hashes[0] == hashes[1]


def test_small_tiles_of_a_rescaled_image_leave_the_same_out(
    mosaic: Array, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part that is left out is larger than the tile: rows above the tile must not be taken as they are."""
    bright = mosaic.astype(np.uint16)
    bright[:150, :200] = 1500
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, bright, tile=(64, 64), compression="zlib")
    _damage(image, page=0, tile=3 * 12)
    monkeypatch.setattr(rescaling, "BAND_PIXELS", 60 * 768)
    segmenter = Segmenter(load_model(tiny_model), "cpu", tile=40)
    whole, parts = (
        _run(image, tmp_path / name, segmenter, memory, Settings(diameter_px=17.0, partial=True))
        for name, memory in (("whole", 1 << 30), ("parts", 20 * BYTES_IN_BAND * 768))
    )
    assert whole.run["scaling"] == parts.run["scaling"]
    assert whole.output.label_hash == parts.output.label_hash
    assert whole.run["damaged"] == parts.run["damaged"] == [[0, 256, 0, 256]]


def test_a_channel_is_not_left_out_for_the_damage_of_another(mosaic: Array, tmp_path: Path, tiny_model: Path) -> None:
    image = tmp_path / "a.tif"
    channels = np.stack([mosaic, mosaic[::-1]])
    options: Any = {"metadata": {"axes": "CYX"}, "photometric": "minisblack", "ome": True}
    tifffile.imwrite(image, channels, tile=(256, 256), compression="zlib", **options)
    _damage(image, page=1, tile=4)
    damaged, _ = without_damage(read_image(image))
    together = damaged.read()
    np.testing.assert_array_equal(together[0], channels[0])
    np.testing.assert_array_equal(together, np.stack([damaged.read(c=channel) for channel in (0, 1)]))
    assert (together[1] != channels[1]).any()


def test_a_damaged_part_is_in_its_place_where_the_scale_is_looked_for(tmp_path: Path, tiny_model: Path) -> None:
    cells = np.full((768, 768), 10, np.uint8)
    for y in range(520, 760, 24):
        for x in range(520, 760, 24):
            cells[y : y + 6, x : x + 6] = 200
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, cells, tile=(256, 256), compression="zlib")
    _damage(image, page=0, tile=0)
    known = load_model(tiny_model)
    info = known.info.model_copy(update={"cell_diameter_px": 24.0, "pixel_size_um": None})
    segmenter = Segmenter(Model(info, known.network, known.sha256, known.path), "cpu")
    made = _run(image, tmp_path / "out", segmenter, 1 << 30, Settings(partial=True))
    assert made.run["zoom"] == [2.0, 2.0]
    assert made.run["damaged"] == [[0, 256, 0, 256]]


def _damage(path: Path, page: int, tile: int) -> None:
    with tifffile.TiffFile(path) as file:
        found = file.pages[page].aspage()
        offset, count = found.dataoffsets[tile], found.databytecounts[tile]
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * count)


def _run(image: Path, out: Path, segmenter: Segmenter, memory: int, settings: Settings) -> Provenance:
    items = found_items([image], settings, out)
    assert run_batch(items, out, segmenter, BatchOptions(memory=memory), lambda outcome: None).failed == 0
    made = read_provenance(out / "a_labels.json")
    assert made is not None
    return made


def test_a_region_names_the_place_in_the_slide(tmp_path: Path, mosaic: Array) -> None:
    whole = read_image(write_tiff(tmp_path / "a", mosaic))
    part = whole.crop(slice(100, 700), slice(200, 700))
    with pytest.raises(ImageError, match="rows 100 to 355, columns 200 to 455 cannot be decoded"):
        part.read()
    assert part.read(y=slice(0, 100)).shape == (100, 500)


def test_an_image_that_is_damaged_everywhere_fails(
    tmp_path: Path, mosaic: Array, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, mosaic, tile=(256, 256), compression="zlib")
    with tifffile.TiffFile(path) as file:
        places = [*zip(file.pages.first.dataoffsets, file.pages.first.databytecounts, strict=True)]
    with open(path, "r+b") as stream:
        for offset, count in places:
            stream.seek(offset)
            stream.write(bytes(count))
    with pytest.raises(ImageError, match=r"^a broken TIFF file"):
        read_image(path).read()
    segmenter = Segmenter(load_model(tiny_model), "cpu")
    settings = Settings(diameter_px="model", partial=True)
    opened = segmenter.open(path, settings)
    with caplog.at_level(logging.WARNING), pytest.raises(ImageError, match="a broken TIFF file"):
        segmenter.read_frame(opened, None)


def test_intensities_of_another_channel_are_not_invented(tmp_path: Path, tiny_model: Path, mosaic: Array) -> None:
    """Cells of a whole channel cannot be measured in one that is damaged."""
    path = tmp_path / "images" / "two.tif"
    path.parent.mkdir()
    stack = np.stack([mosaic, mosaic // 2])
    tifffile.imwrite(
        path, stack, tile=(256, 256), compression="zlib", metadata={"axes": "CYX"}, photometric="minisblack"
    )
    with tifffile.TiffFile(path) as file:
        page = file.pages[1]
        offset, count = page.dataoffsets[4], page.databytecounts[4]
    content = path.read_bytes()
    path.write_bytes(content[:offset] + bytes(count) + content[offset + count :])
    result = segment(path, tiny_model, "--partial")
    assert result.exit_code == 3, result.output
    assert f"{PLACE} cannot be decoded: " in result.stderr
    assert (
        "the channels that were segmented are whole there, and --partial leaves out no part of the others"
        in result.stderr
    )
