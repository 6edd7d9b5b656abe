"""Which surroundings change label images: ``python tests/reliability/same_bytes.py FOLDER --count 24`` prints a table.

Images of the folder are segmented with the shipped model in a process each for other instruction sets, hash seeds,
locales, threads, tiles and orders, and label hashes are compared. docs/reliability.md has the last table.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Surroundings:
    """Variables of the environment and options of ``segment``; images in reversed order if wanted."""

    variables: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    is_reversed: bool = False

    @property
    def title(self) -> str:
        """What differs, in the words of a shell."""
        order = ["images in reversed order"] if self.is_reversed else []
        return " ".join([*(f"{name}={value}" for name, value in self.variables.items()), *self.options, *order])


SURROUNDINGS = [
    Surroundings({"ATEN_CPU_CAPABILITY": "default"}),
    Surroundings({"ATEN_CPU_CAPABILITY": "avx2"}),
    *(Surroundings({"ONEDNN_MAX_CPU_ISA": name}) for name in ("SSE41", "AVX", "AVX2")),
    Surroundings({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
    Surroundings({"PYTHONHASHSEED": "1", "LC_ALL": "C"}, is_reversed=True),
    *(Surroundings({"LC_ALL": f"{name}.UTF-8", "PYTHONHASHSEED": "2"}) for name in ("de_DE", "tr_TR")),
    Surroundings({"OMP_NUM_THREADS": "2"}, ["--workers", "2"]),
    *(Surroundings(options=["--tile", size]) for size in ("64", "128")),
]


def segment(images: Sequence[Path], out: Path, surroundings: Surroundings) -> dict[str, tuple[str, int]]:
    """Label hash and number of cells of each image."""
    ordered = images[::-1] if surroundings.is_reversed else images
    table = out.with_suffix(".csv")
    table.write_text("\n".join(["image", *map(str, ordered)]))
    options = {"--workers": "1"} | dict(zip(surroundings.options[::2], surroundings.options[1::2], strict=True))
    line = [
        sys.executable,
        "-m",
        "unetbio",
        "segment",
        "--table",
        table,
        "-o",
        out,
        "--overlays",
        "none",
        "-q",
        "--failed-ok",
    ]
    variables = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", **surroundings.variables}
    more = [word for option in options.items() for word in option]
    subprocess.run(
        [*line, "--no-tables", *more], env={**os.environ, **variables}, check=True, stdout=subprocess.DEVNULL
    )
    found = {}
    for path in sorted(out.rglob("*_labels.json")):
        said = json.loads(path.read_bytes())
        found[path.name] = (said["output"]["label_hash"], sum(frame["n_cells"] for frame in said["frames"]))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=24)
    options = parser.parse_args()
    images = sorted(path for path in options.folder.iterdir() if re.fullmatch(r".+\.(tif|png)", path.name))
    images = images[:: max(1, len(images) // options.count)][: options.count]
    print("| surroundings | images | with another label hash | with another number of cells |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as work:
        usual = segment(images, Path(work, "usual"), Surroundings())
        for number, surroundings in enumerate(SURROUNDINGS):
            found = segment(images, Path(work, str(number)), surroundings)
            hashes = sum(found[name][0] != usual[name][0] for name in usual)
            cells = sum(found[name][1] != usual[name][1] for name in usual)
            print(f"| `{surroundings.title}` | {len(usual)} | {hashes} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
