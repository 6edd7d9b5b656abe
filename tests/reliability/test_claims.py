"""Images whose header claims what their pixels do not have, or what no image can have."""

import json
import os
import re
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner

from unetbio.batch import pipeline
from unetbio.cli.main import main
from unetbio.errors import ImageError
from unetbio.io import read_image

PIXELS = np.arange(32 * 40, dtype=np.uint16).reshape(32, 40)


def refused(path: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(path).read()
    return caught.value


@pytest.mark.parametrize(
    "changes", [{"vox_offset": -352.0}, {"vox_offset": 16.0}, {"scl_inter": np.inf, "scl_slope": 1}]
)
def test_a_nifti_header_that_no_volume_has(tmp_path: Path, changes: dict[str, float]) -> None:
    volume = nibabel.Nifti1Image(PIXELS[..., None], np.eye(4))
    content = bytearray(volume.to_bytes())
    offsets = {"vox_offset": 108, "scl_slope": 112, "scl_inter": 116}
    for name, value in changes.items():
        content[offsets[name] : offsets[name] + 4] = struct.pack("<f", value)
    (tmp_path / "x.nii").write_bytes(content)
    assert refused(tmp_path / "x.nii").reason in ("bad_metadata", "unreadable")


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_nifti_affine_without_extent(tmp_path: Path, value: float) -> None:
    content = bytearray(nibabel.Nifti1Image(PIXELS[..., None], np.eye(4)).to_bytes())
    content[280:328] = np.full(12, value, "<f4").tobytes()
    (tmp_path / "x.nii").write_bytes(content)
    error = refused(tmp_path / "x.nii")
    assert (error.reason, "affine" in str(error)) == ("bad_metadata", True)


def test_ome_xml_of_another_type(tmp_path: Path) -> None:
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, PIXELS, metadata={"axes": "YX"})
    path.write_bytes(path.read_bytes().replace(b'Type="uint16"', b'Type="uint8" '))
    error = refused(path)
    assert error.reason == "inconsistent"
    assert "claims pixels of type uint8, the page has uint16" in str(error)


def test_a_strip_at_the_start_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, PIXELS, metadata=None)
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[0].tags["StripOffsets"]
        place = tag.valueoffset
    content = bytearray(path.read_bytes())
    content[place : place + 4] = bytes(4)
    path.write_bytes(content)
    assert "at the start of the file, where its header is" in str(refused(path))


def test_a_fax_compression_of_eight_bits(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, PIXELS.astype(np.uint8), metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[0].tags["Compression"].overwrite(4)
    assert "fax compression (CCITT) of 8 bits a sample" in str(refused(path))


def ome_zarr(root: Path, version: int = 2) -> Path:
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    attributes = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]}
    group = zarr.create_group(root, zarr_format=version, attributes=attributes if version == 2 else {"ome": attributes})
    group.create_array("0", data=PIXELS, chunks=(16, 20), compressors=None)
    return root


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("version", [2, 3])
def test_consolidated_metadata_that_contradict_the_array(tmp_path: Path, version: int) -> None:
    root = ome_zarr(tmp_path / "x.zarr", version)
    zarr.consolidate_metadata(root)
    np.testing.assert_array_equal(read_image(root).read(), PIXELS)
    file = root / (".zmetadata" if version == 2 else "zarr.json")
    content = json.loads(file.read_text())
    copies = content["metadata"] if version == 2 else content["consolidated_metadata"]["metadata"]
    copies["0/.zarray" if version == 2 else "0"]["shape"] = [6400, 6400]
    file.write_text(json.dumps(content))
    error = refused(root)
    assert error.reason == "inconsistent"
    assert re.search(r"consolidated metadata say shape \[6400, 6400\], 0/.* \[32, 40\]", str(error))


@pytest.mark.parametrize("target", ["/dev/zero", "/dev", "fifo"])
def test_a_folder_may_hold_anything_and_nothing_is_waited_for(tmp_path: Path, target: str) -> None:
    root = ome_zarr(tmp_path / "x.zarr")
    chunk = root / "0" / "1.1"
    chunk.unlink()
    if target == "fifo":
        os.mkfifo(chunk)
    else:
        chunk.symlink_to(target)
    error = refused(root)
    assert (error.reason, "0/1.1 is a pipe, a device or a link to a folder elsewhere" in str(error)) == (
        "unreadable",
        True,
    )


@pytest.mark.parametrize("attributes", ["1", '"text"'])
def test_attributes_of_an_array_that_are_no_mapping(tmp_path: Path, attributes: str) -> None:
    root = ome_zarr(tmp_path / "x.zarr")
    (root / "0" / ".zattrs").write_text(attributes)
    assert refused(root).reason == "unreadable"


def test_training_masks_without_a_cell_are_refused_before_the_first_step(tmp_path: Path) -> None:
    masks = np.zeros((64, 64), np.uint16)
    # Cells of one pixel at the border.
    masks[0, ::9] = range(1, 9)
    for folder, values in (("images", PIXELS[:8, :8].repeat(8, 0).repeat(8, 1)), ("masks", masks)):
        (tmp_path / folder).mkdir()
        for name in "ab":
            tifffile.imwrite(tmp_path / folder / f"{name}.tif", values)
    line = ["train", str(tmp_path), "-o", str(tmp_path / "m.safetensors"), "--steps", "1"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 3
    assert "cannot be learned; draw the area of each cell" in result.stderr
    assert not (tmp_path / "m.safetensors").exists()


def test_images_whose_results_no_file_system_holds_fail_alone(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MOST_FOLDERS", 3)
    monkeypatch.setattr(pipeline, "PATH_BYTES", len(os.fsencode(tmp_path)) + 100)
    deep = tmp_path / "images" / "a" / "b" / "c"
    deep.mkdir(parents=True)
    names = ("good.tif", f"{'y' * 230}.tif", f"{'z' * 100}.tif", "a/b/c/deep.tif")
    for name in names:
        tifffile.imwrite(tmp_path / "images" / name, PIXELS, metadata=None)
    line = ["segment", tmp_path / "images", "-o", tmp_path / "out", "-m", tiny_model, "--overlays", "none"]
    result = CliRunner().invoke(main, [str(part) for part in line])
    assert result.exit_code == 3, result.output
    entries = [json.loads(line) for line in (tmp_path / "out" / "run.jsonl").read_bytes().splitlines()]
    found = {entry["path"]: (entry["status"], entry["reason"]) for entry in entries}
    assert found == dict.fromkeys(names[1:], ("failed", "bad_name")) | {"good.tif": ("done", "")}
    messages = {entry["path"][:1]: entry["message"] for entry in entries}
    assert "its results need a name of 262 bytes, longer than file systems take" in messages["y"]
    assert re.search(r"its results need a path of \d+ bytes, longer than file systems take", messages["z"])
    assert "it lies 4 folders below the input, at most 3 are possible" in messages["a"]
