"""The page shows the picture of tracks where it is of the cells of the mask."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray

from unetbio.cli.main import main
from unetbio.provenance import read_provenance
from unetbio.report.page import write_page
from unetbio.results.tables.lineages import FrameOfTrack, Lineage, write_lineage


def tracked_run(tmp_path: Path, model: Path, discs: NDArray[Any]) -> Path:
    """An output folder of a time-lapse, with its tracks and their picture."""
    tifffile.imwrite(tmp_path / "x.tif", np.stack([discs] * 2), metadata={"axes": "TYX"})
    out = tmp_path / "out"
    line = ["segment", str(tmp_path / "x.tif"), "-o", str(out), "-m", str(model), "--workers", "1"]
    assert CliRunner().invoke(main, line).exit_code == 0
    provenance = read_provenance(out / "x_labels.json")
    assert provenance is not None
    digest, output = provenance.output.label_hash, "x_labels.ome.tif"
    frames = (FrameOfTrack(path="x.tif", output=output, label_hash=digest, index=t, t=t) for t in range(2))
    write_lineage(out, "x", Lineage(frames=tuple(frames), tracks=()))
    (out / "overlays" / "x.tracks.jpg").touch()
    return out


def pictures(out: Path) -> set[str]:
    return set(re.findall(r'src="([^"]+)"', write_page(out).read_text(encoding="utf-8")))


def set_age(path: Path, seconds: int) -> None:
    now = path.stat().st_mtime
    os.utime(path, (now - seconds, now - seconds))


def test_a_copy_with_other_times_keeps_it(tmp_path: Path, tiny_model: Path, discs: NDArray[Any]) -> None:
    out = tracked_run(tmp_path, tiny_model, discs)
    assert pictures(out) == {"overlays/x.tracks.jpg"}
    set_age(out / "x_labels.ome.tif", -1000)
    assert pictures(out) == {"overlays/x.tracks.jpg"}


def test_cells_that_were_segmented_anew_lack_it(tmp_path: Path, tiny_model: Path, discs: NDArray[Any]) -> None:
    """Whatever the time of the picture, which a copy may have changed."""
    out = tracked_run(tmp_path, tiny_model, discs)
    line = ["segment", str(tmp_path / "x.tif"), "-o", str(out), "-m", str(tiny_model), "--workers", "1"]
    assert CliRunner().invoke(main, [*line, "--min-area", "9999"]).exit_code == 0
    set_age(out / "overlays" / "x.tracks.jpg", -1000)
    assert pictures(out) == {"overlays/x.labels.jpg"}


def test_a_mask_that_was_edited_since_lacks_it(tmp_path: Path, tiny_model: Path, discs: NDArray[Any]) -> None:
    out = tracked_run(tmp_path, tiny_model, discs)
    tifffile.imwrite(out / "x_labels.ome.tif", np.zeros((2, *discs.shape), np.uint16), metadata={"axes": "TYX"})
    set_age(out / "x_labels.ome.tif", -1000)
    assert pictures(out) == {"overlays/x.labels.jpg"}
