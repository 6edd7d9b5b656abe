"""Memory of a run: how it is divided, and what ``--memory`` takes."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio.batch.budget import DEFAULT_MEMORY, PROGRAM_BYTES, MemoryShares
from unetbio.batch.pipeline import LABELLING_BYTES
from unetbio.cli.main import main
from unetbio.models.model_file import load_model
from unetbio.postprocessing.instances import PostProcessing, label
from unetbio.provenance import read_provenance
from unetbio.segmentation import Segmenter
from unetbio.settings.runs import LEAST_MEMORY, parse_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4G", 4 << 30), ("4 GiB", 4 << 30), ("1.5gb", 3 << 29), ("2048M", 2 << 30), ("5000000000", 5_000_000_000)],
)
def test_sizes_of_memory(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("memory", [LEAST_MEMORY, 2 << 30, 4 << 30, 64 << 30])
def test_the_shares_fit_together(memory: int) -> None:
    shares = MemoryShares.of(memory)
    assert shares.tile is not None
    assert shares.frames <= DEFAULT_MEMORY
    assert PROGRAM_BYTES + min(shares.tile, 400 << 20) + shares.frames < memory
    assert MemoryShares.of(memory + (1 << 30)).frames >= shares.frames


def test_unknown_memory_sets_no_limit() -> None:
    assert MemoryShares.of(None) == MemoryShares(None, DEFAULT_MEMORY)


def run(source: Path, out: Path, model: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["segment", str(source), "-o", str(out), "-m", str(model), *options])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("much", "'much' is no size of memory: give bytes, or a number with a unit such as 4G"),
        ("300M", "300M is too little, the program itself takes most of a gigabyte: give 1G or more"),
    ],
)
def test_impossible_sizes_are_refused(tmp_path: Path, tiny_model: Path, text: str, message: str) -> None:
    result = run(tmp_path, tmp_path / "out", tiny_model, "--memory", text)
    assert result.exit_code == 2
    assert message in result.stderr


def test_little_memory_makes_small_tiles_and_the_same_masks(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unetbio.batch.budget.LEAST_SHARE", 1 << 20)
    monkeypatch.setattr("unetbio.batch.budget.PROGRAM_BYTES", LEAST_MEMORY)
    rows, columns = np.mgrid[:300, :280]
    discs = (rows % 40 - 20) ** 2 + (columns % 40 - 20) ** 2 <= 36
    tifffile.imwrite(tmp_path / "a.tif", (200 * discs).astype(np.uint8))
    records = []
    for name, options in {"little": ["--memory", "1G"], "much": []}.items():
        line = [*options, "--diameter", "model", "--overlays", "none"]
        assert run(tmp_path / "a.tif", tmp_path / name, tiny_model, *line).exit_code == 0
        records.append(read_provenance(tmp_path / name / "a_labels.json"))
    little, much = records
    assert max(little.run["tile"]) < max(much.run["tile"])
    assert little.output.label_hash == much.output.label_hash
    assert little.settings == much.settings


def test_a_tile_takes_no_more_than_the_backend_proposes(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    own = Segmenter(model, "cpu").decoder.runner.memory_budget
    assert Segmenter(model, "cpu", memory_budget=1 << 40).memory_budget == own
    assert Segmenter(model, "cpu", memory_budget=1 << 20).memory_budget == 1 << 20


def test_labelling_takes_no_more_memory_than_is_predicted() -> None:
    """In a process of its own, since the heap of this one has holes of other tests that count as resident."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        measured = pool.submit(memory_of_labelling, 1500).result()
    if measured is None:
        pytest.skip("the system does not set the largest resident set back")
    assert measured < LABELLING_BYTES * 1500**2


def memory_of_labelling(side: int) -> int | None:
    """Bytes by which the largest resident set, which Linux sets back on request, exceeds that before."""
    offsets = np.arange(side) % 40 - 20
    planes = np.empty((2, side, side), np.bool_)
    for row, offset in enumerate(offsets):
        distances = offset**2 + offsets**2
        planes[:, row] = distances <= 150, distances <= 60
    settings = PostProcessing(0.5, (0.7,))
    label(planes[:, :200, :200], settings)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
    except OSError:
        return None
    assert label(planes, settings).max() > 1000
    return resident("VmHWM") - before


def resident(name: str) -> int:
    """Bytes of memory that the process holds now (``VmRSS``), or held at most (``VmHWM``)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
