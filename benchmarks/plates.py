"""A plate as Opera Phenix files, MetaXpress files and OME-Zarr; and the time to list a plate of 10 000 files.

    python benchmarks/plates.py DATA [--wells 96] [--fields 4]
    python benchmarks/plates.py --list 10000

The plate is made of real crops (``DATA/bbbc039/val``), 128 pixels wide: the image is DAPI, its mirror image GFP. Each
form is segmented by one command. Bars: the same label hashes and the same table of wells. Listing is timed in a process
of its own, which also tells how much memory it takes beyond that of a hundredth of the files. Bar: 3 s.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
import zarr
from common import print_table
from numpy.typing import NDArray

from unetbio.io import read_image
from unetbio.io.wells import row_letters

CROP = 128
COLUMNS = 12
LIST = """
import resource, sys, time
from unetbio.batch.plan import check_names, found_items
from unetbio.settings.segmentation import Settings
from pathlib import Path
start, used = time.perf_counter(), time.process_time()
items = found_items([sys.argv[1]], Settings(), None)
check_names(items, Path("out"))
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(items), time.perf_counter() - start, time.process_time() - used, memory)
"""

Field = tuple[int, int, int, NDArray[np.uint16]]


def plate_fields(data: Path, wells: int, count: int) -> Iterator[Field]:
    """Row, column and field from 1, and the image ``(2, Y, X)``, of each field of a plate."""
    images = [read_image(path).read() for path in sorted((data / "bbbc039" / "val" / "images").iterdir())]
    crops = [
        image[y : y + CROP, x : x + CROP]
        for image in images
        for y in range(0, image.shape[0] - CROP + 1, CROP)
        for x in range(0, image.shape[1] - CROP + 1, CROP)
    ]
    for number in range(wells * count):
        well, field = divmod(number, count)
        crop = crops[number % len(crops)]
        yield well // COLUMNS + 1, well % COLUMNS + 1, field + 1, np.stack([crop, crop[::-1]])


def write_phenix(folder: Path, fields: list[Field]) -> None:
    (folder / "Images").mkdir(parents=True)
    for row, column, field, image in fields:
        for c in range(2):
            name = f"r{row:02d}c{column:02d}f{field:02d}p01-ch{c + 1}sk1fk1fl1.tiff"
            tifffile.imwrite(folder / "Images" / name, image[c])


def write_metaxpress(folder: Path, fields: list[Field]) -> None:
    (folder / "TimePoint_1").mkdir(parents=True)
    for row, column, field, image in fields:
        for c in range(2):
            name = f"P_{row_letters(row)}{column:02d}_s{field}_w{c + 1}.TIF"
            tifffile.imwrite(folder / "TimePoint_1" / name, image[c])


def write_zarr(folder: Path, fields: list[Field]) -> None:
    """An OME-Zarr 0.5 plate."""
    names: dict[tuple[str, str], list[str]] = {}
    for row, column, field, image in fields:
        well = (row_letters(row), str(column))
        names.setdefault(well, []).append(str(field))
        entry = {"axes": [{"name": axis} for axis in "cyx"], "datasets": [{"path": "0"}]}
        place = folder / well[0] / well[1] / str(field)
        zarr.create_group(place, attributes={"ome": {"version": "0.5", "multiscales": [entry]}})
        array = zarr.create_array(place / "0", shape=image.shape, dtype=image.dtype, chunks=(1, CROP, CROP))
        array[...] = image
    for (row_name, column_name), images in names.items():
        write_group(folder / row_name / column_name, {"well": {"images": [{"path": name} for name in images]}})
    wells = [{"path": "/".join(well), "rowIndex": 0, "columnIndex": 0} for well in names]
    write_group(folder, {"plate": {"wells": wells, "rows": [], "columns": []}})


def write_group(folder: Path, attributes: dict[str, object]) -> None:
    text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"ome": attributes}})
    (folder / "zarr.json").write_text(text)


def segmented(given: Path, out: Path, workers: int) -> tuple[float, list[str], list[tuple[str, ...]]]:
    """Seconds of one command, label hashes in the order of the fields, and rows of the table of wells."""
    line = [sys.executable, "-m", "unetbio", "segment", str(given), "-o", str(out), "--channel", "0", "-q"]
    started = time.perf_counter()
    subprocess.run([*line, "--overlays", "none", "--workers", str(workers)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    with open(out / "summary.csv", newline="") as stream:
        rows = [
            (row["well"], row["row"], row["column"], row["field"], row["n_cells"]) for row in csv.DictReader(stream)
        ]
    found = []
    for path in out.rglob("*_labels.json"):
        record = json.loads(path.read_text())
        place = record["place"]
        found.append((place["well"], int(place["field"]), record["output"]["label_hash"]))
    return seconds, [digest for *_, digest in sorted(found)], sorted(rows)


def compare(data: Path, wells: int, count: int, workers: int) -> None:
    """Segment the plate in its three forms."""
    fields = list(plate_fields(data, wells, count))
    forms = {"phenix": write_phenix, "metaxpress": write_metaxpress, "plate.zarr": write_zarr}
    results = {}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, write in forms.items():
            write(Path(temporary) / name, fields)
            results[name] = segmented(Path(temporary) / name, Path(temporary) / f"out {name}", workers)
            seconds, hashes, table = results[name]
            cells = sum(int(row[-1]) for row in table)
            rows.append([name, len(hashes), cells, f"{seconds:.1f}"])
    print_table(["plate as", "images", "cells", "s"], rows)
    (_, hashes, table), *others = results.values()
    print("the same label hashes:", all(hashes == other[1] for other in others))
    print("the same table of wells:", all(table == other[2] for other in others))


def list_files(count: int) -> None:
    """Time to list a plate of empty files, and memory."""
    rows = []
    for files in (count // 100, count // 10, count):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "Images"
            folder.mkdir()
            for number in range(files):
                field, channel = divmod(number, 4)
                well, place = divmod(field, 9)
                row, column = divmod(well, 24)
                (folder / f"r{row + 1:02d}c{column + 1:02d}f{place + 1:02d}p01-ch{channel + 1}sk1fk1fl1.tiff").touch()
            said = subprocess.run([sys.executable, "-c", LIST, temporary], check=True, capture_output=True, text=True)
        images, seconds, used, memory = said.stdout.split()
        rows.append([files, images, f"{float(seconds):.2f}", f"{float(used):.2f}", f"{int(memory) / 1024:.0f}"])
    print_table(["files", "images", "s", "s of processor time", "peak MB of the process"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--wells", type=int, default=96)
    parser.add_argument("--fields", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--list", type=int, metavar="FILES", help="list a plate of so many files instead")
    arguments = parser.parse_args()
    if arguments.list:
        list_files(arguments.list)
    elif arguments.data:
        compare(arguments.data, arguments.wells, arguments.fields, arguments.workers)
    else:
        parser.error("DATA, or --list FILES")


if __name__ == "__main__":
    main()
