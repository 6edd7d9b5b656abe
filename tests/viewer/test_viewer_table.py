"""The table of the page of ``unetbio view`` by itself, in Node: which cells stand in which bars of the histogram."""

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

BARS = 40


def in_bars(folder: Path, values: list[Any], *bars: tuple[int, int]) -> list[list[int]]:
    """Cells, numbered from 1, in each of some ranges of bars."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing")
    # By its ending, Node takes the file for a module.
    module = folder / "table.mjs"
    module.write_bytes((files("unetbio.viewer") / "page" / "table.js").read_bytes())
    columns = json.dumps({"label": list(range(1, len(values) + 1)), "value": values})
    script = (
        f"import {{CellTable}} from {json.dumps(module.as_uri())};"
        f"const table = new CellTable(); table.read({columns});"
        f"const found = {json.dumps(bars)}.map(([first, stop]) => table.inBars('value', first, stop));"
        "console.log(JSON.stringify(found));"
    )
    command = [node, "--input-type=module", "--eval", script]
    found: list[list[int]] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def test_a_value_at_the_end_of_a_bar_is_of_the_next_one(tmp_path: Path) -> None:
    # Of 0 to 4, the bar 30 begins at 3.
    assert in_bars(tmp_path, [0, 1, 2, 3, 4, None], (0, 30), (30, 31), (0, BARS)) == [[1, 2, 3], [4], [1, 2, 3, 4, 5]]


def test_each_cell_stands_in_one_bar(tmp_path: Path) -> None:
    values = [*(0.1 * number for number in range(200)), -50.0, 50.0]
    found = in_bars(tmp_path, values, *((bar, bar + 1) for bar in range(BARS)))
    assert sorted(cell for cells in found for cell in cells) == list(range(1, len(values) + 1))
    # Far values stand in the bars at the ends.
    assert (201 in found[0], 202 in found[-1]) == (True, True)


@pytest.mark.parametrize("value", [0, 2**24, -(2**25), 2**53], ids=str)
def test_cells_of_one_value_stand_in_the_first_bar(tmp_path: Path, value: int) -> None:
    """A sum of grey values is so large that a billionth more is the same number."""
    assert in_bars(tmp_path, [value, value], (0, 1), (1, BARS)) == [[1, 2], []]
