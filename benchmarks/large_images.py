"""Memory and time of one large image: a mosaic of real images as tiled TIFF and as OME-Zarr, in memory and streamed.

    python benchmarks/large_images.py DATA/bbbc039/val/images [--sides 4000 8000] [--model NAME|FILE] [--whole]
    python benchmarks/large_images.py DATA/bbbc039/val/images --sides 6000 --formats tiff --kills 10
    python benchmarks/large_images.py DATA/bbbc039/val/images --sides 20000 --formats tiff --precision int8 --crops
    python benchmarks/large_images.py DATA/bbbc039/val/images --sides 3000 --formats tiff --overhead 2
    python benchmarks/large_images.py DATA/bbbc039/val/images --sides 40000 --formats tiff --first-tile 2
    python benchmarks/large_images.py DATA/bbbc050_3d/images --stack 512 1024 1024 --model nuclei-3d --crops

Each image is segmented by ``unetbio segment`` in a process of its own; memory is the largest resident set of that
process and the one that decodes, added up ten times a second. ``--whole`` compares with a run that holds all in memory:
equal label hashes and tables. ``--crops`` compares with four parts of the image that overlap, each cut out and
segmented in memory with the grey values scaled alike: equal cells, where they are as far from the edges of the part
that these cannot change them. ``--stack`` makes an OME-Zarr of stacks instead. ``--kills N`` compares with a run that
is killed so often, each time within a row of tiles, and goes on; its seconds are those of all runs together.
``--overhead N`` segments images that fit into memory in parts and in memory, in turns, N times each: the processor
seconds of one for those of the other. ``--first-tile N`` stops N runs when the network has decided the first tile: the
seconds from the command until then. Real images are cut and mirrored, so that their seams are no cells of their own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from common import print_table
from numpy.typing import NDArray

from unetbio.io import read_image, read_labels

TILE = 256
STRIP_ROWS = 1024
CROP = {2: (3000, 3000), 3: (128, 256, 256)}
MARGIN = {2: 200, 3: 40}
"""Pixels by which the edges of a part can change cells: the context of the network, and the cells that it cuts."""
VOXEL_UM = {"z": 1.75, "y": 0.8, "x": 0.8}
IN_MEMORY = "import unetbio.batch.pipeline as batch; batch.streamed_if_large = lambda opened, *_: opened; "

IN_PARTS = (
    "import functools, unetbio.batch.pipeline as batch; "
    "batch.streamed_if_large = lambda opened, item, segmenter, policy, out, memory: "
    "segmenter.streamed(opened, functools.partial(batch.DiskArray, out), batch.BAND_BYTES); "
)

UNTIL_FIRST_TILE = """
import os
from unetbio.inference.executors import TileExecutor
run = TileExecutor.run
TileExecutor.run = lambda self, image, tiles, on_tile, **rest: run(self, image, tiles, lambda *_: os._exit(0), **rest)
"""


def strips(images: Sequence[NDArray[np.uint16]], side: int) -> Iterator[NDArray[np.uint16]]:
    """Rows of a mosaic, `STRIP_ROWS` at a time; each image in turn, every other one mirrored."""
    size = min(min(image.shape[:2]) for image in images) // TILE * TILE
    across = -(-side // size)
    number = 0
    for start in range(0, side, STRIP_ROWS):
        blocks = []
        for _ in range(-(-STRIP_ROWS // size)):
            row = [images[(number + column) % len(images)][:size, :size] for column in range(across)]
            blocks.append(np.hstack([tile[:, ::-1] if column % 2 else tile for column, tile in enumerate(row)]))
            number += across
        yield np.vstack(blocks)[: min(STRIP_ROWS, side - start), :side]


def write_tiff(path: Path, images: Sequence[NDArray[np.uint16]], side: int) -> None:
    """As microscopes do: BigTIFF, tiles, deflate."""

    def tiles() -> Iterator[NDArray[np.uint16]]:
        for strip in strips(images, side):
            for y in range(0, len(strip), TILE):
                rows = strip[y : y + TILE]
                rows = np.pad(rows, ((0, TILE - len(rows)), (0, -side % TILE)))
                yield from (np.ascontiguousarray(rows[:, x : x + TILE]) for x in range(0, side, TILE))

    options = {"tile": (TILE, TILE), "compression": "zlib", "bigtiff": True}
    tifffile.imwrite(path, tiles(), shape=(side, side), dtype=np.uint16, **options)


def write_zarr(path: Path, images: Sequence[NDArray[np.uint16]], side: int) -> None:
    """OME-Zarr 0.5 with one resolution."""
    array = _new_zarr(path, (side, side), (min(side, STRIP_ROWS),) * 2, {"y": 1, "x": 1})
    for number, strip in enumerate(strips(images, side)):
        array[number * STRIP_ROWS : number * STRIP_ROWS + len(strip)] = strip


def write_stack(path: Path, stacks: Sequence[NDArray[np.uint16]], shape: tuple[int, ...]) -> None:
    """OME-Zarr 0.5 of stacks beside each other, mirrored where they meet."""
    size = tuple(min(sides) for sides in zip(*(stack.shape for stack in stacks), strict=True))
    array = _new_zarr(path, shape, (size[0], 256, 256), VOXEL_UM)
    corners = product(*(range(0, whole, side) for whole, side in zip(shape, size, strict=True)))
    for number, corner in enumerate(corners):
        part = stacks[number % len(stacks)][tuple(map(slice, size))]
        for axis, start in enumerate(corner):
            if start // size[axis] % 2:
                part = np.flip(part, axis)
        place = tuple(slice(start, start + side) for start, side in zip(corner, size, strict=True))
        kept = tuple(slice(whole - start) for whole, start in zip(shape, corner, strict=True))
        array[place] = part[kept]


def _new_zarr(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], sizes: dict[str, float]) -> Any:
    import zarr

    unit = {"unit": "micrometer"} if len(shape) == 3 else {}
    axes = [{"name": name, "type": "space", **unit} for name in sizes]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": list(sizes.values())}]}
    zarr.create_group(
        path, attributes={"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [dataset]}]}}
    )
    return zarr.create_array(path / "0", shape=shape, dtype=np.uint16, chunks=chunks)


def resident_bytes(process: int) -> int:
    """Memory of a process and of those that it started."""
    total = 0
    for pid in [process, *children(process)]:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            continue
    return total


def children(process: int) -> list[int]:
    """Processes that a process started."""
    try:
        tasks = Path(f"/proc/{process}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:
        return []


def start(image: Path, out: Path, how: Sequence[str], first: str = "") -> subprocess.Popen[bytes]:
    """Begin a run with some options; ``first`` is run before it."""
    script = f"{first}import sys; from unetbio.cli.main import main; sys.exit(main())"
    arguments = ["segment", str(image), "-o", str(out), *how, "--diameter", "model", "--quiet"]
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.DEVNULL)


def kill_within_row(image: Path, out: Path, how: Sequence[str], rows: int) -> None:
    """Kill a run when it has finished so many rows of tiles more than are there, some time into the next."""
    before = finished_rows(out)
    process = start(image, out, how)
    while process.poll() is None and finished_rows(out) < before + rows:
        time.sleep(0.1)
    time.sleep(0.7)
    process.kill()
    process.wait()


def finished_rows(out: Path) -> int:
    """Rows of tiles that are kept for the next run."""
    return sum(1 for _ in out.glob(".bands-*/[0-9a-f]*"))


def segment(
    image: Path, out: Path, how: Sequence[str], *, first: str = "", kills: int = 0
) -> tuple[float, int, str, int, bytes]:
    """Seconds, largest memory, label hash, number of cells and table of cells of one run."""
    started, peak = time.perf_counter(), 0
    for _ in range(kills):
        kill_within_row(image, out, how, rows=1)
    process = start(image, out, how, first)
    while process.poll() is None:
        peak = max(peak, resident_bytes(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"unetbio segment {image} ended with {process.returncode}")
    provenance = provenance_of(out)
    cells = (out / "cells.csv").read_bytes()
    seconds = time.perf_counter() - started
    return seconds, peak, provenance["output"]["label_hash"], provenance["frames"][0]["n_cells"], cells


def provenance_of(out: Path) -> dict[str, Any]:
    """What stands beside the label image of a run of one image."""
    provenance: dict[str, Any] = json.loads(next(out.glob("*_labels.json")).read_text())
    return provenance


def compare_crops(image: Path, out: Path, how: Sequence[str]) -> None:
    """Print how many cells of some parts around the middle of an image are the same when they are segmented alone."""
    (scaling,) = provenance_of(out)["run"]["scaling"]
    grey_values = ["--normalize", f"{scaling['low'][0]!r},{scaling['high'][0]!r}"]
    pixels, labels = (pixels_of(path) for path in (image, next(out.glob("*_labels.ome.*"))))
    size, margin = CROP[pixels.ndim], MARGIN[pixels.ndim]
    # Those of a plane overlap; of a stack two at the ends of a diagonal are enough.
    offsets = product(*((margin - side, -margin) for side in size))
    for number, offset in enumerate(offsets if pixels.ndim == 2 else list(offsets)[::7]):
        corner = [whole // 2 + place for whole, place in zip(pixels.shape, offset, strict=True)]
        part = tuple(slice(start, start + side) for start, side in zip(corner, size, strict=True))
        folder = out.parent / f"{out.name}_part_{number}"
        folder.mkdir()
        axes = {"metadata": {"axes": "ZYX", "spacing": VOXEL_UM["z"], "unit": "um"}} if pixels.ndim == 3 else {}
        resolution = {"imagej": True, "resolution": (1 / VOXEL_UM["y"],) * 2} if pixels.ndim == 3 else {}
        tifffile.imwrite(folder / "part.tif", np.asarray(pixels[part]), **axes, **resolution)
        alone = segment(folder / "part.tif", folder / "out", [*how, *grey_values], first=IN_MEMORY)[2]
        found = read_labels(next((folder / "out").glob("*_labels.ome.tif")))
        same, cells = same_cells(np.asarray(labels[part]), found, margin)
        print(f"part at {corner}: {same} of {cells} cells the same, label hash of the part {alone[:12]}", flush=True)


def pixels_of(path: Path) -> Any:
    """The first resolution of an image as an array from which parts can be read."""
    import zarr

    if path.is_dir():
        return zarr.open_array(path / "0", mode="r")
    return zarr.open_array(tifffile.imread(path, aszarr=True, level=0), mode="r")


def same_cells(within: NDArray[np.integer], alone: NDArray[np.integer], margin: int) -> tuple[int, int]:
    """Of the cells in a part of a label image that lie off its edges, how many are cells of another; and all.

    Parameters
    ----------
    within, alone : ndarray of int
        ``(*spatial)``: the part of the large label image, and that of the part alone; ids can differ.
    margin : int
        Pixels from the edges that cells have to keep.
    """
    near_edge = np.ones(within.shape, np.bool_)
    near_edge[(slice(margin, -margin),) * within.ndim] = False
    inside = np.setdiff1d(within, within[near_edge])
    inside = inside[inside > 0]
    count = int(alone.max()) + 1
    keys, shared = np.unique(within.astype(np.int64) * count + alone, return_counts=True)
    pairs = np.stack(np.divmod(keys, count))
    areas, areas_alone = (np.bincount(labels.ravel()) for labels in (within, alone))
    equal = (pairs.min(axis=0) > 0) & (shared == areas[pairs[0]]) & (shared == areas_alone[pairs[1]])
    return int(np.isin(inside, pairs[0][equal]).sum()), len(inside)


def overhead(image: Path, folder: Path, how: Sequence[str], repeats: int) -> None:
    """Print the processor seconds of runs in parts and in memory, in turns."""
    taken: dict[str, list[float]] = {IN_PARTS: [], IN_MEMORY: []}
    hashes = set()
    for number in range(repeats):
        for first, seconds in taken.items():
            out = folder / f"overhead_{number}_{len(seconds)}_{len(first)}"
            # Seconds of the processor, which other work on the machine changes little.
            _, status, used = os.wait4(start(image, out, how, first).pid, 0)
            if status:
                raise SystemExit(f"unetbio segment {image} ended with {status}")
            seconds.append(used.ru_utime + used.ru_stime)
            hashes.add(provenance_of(out)["output"]["label_hash"])
            print(f"{seconds[-1]:.1f} s {'in parts' if first == IN_PARTS else 'in memory'}", flush=True)
    parts, memory = (float(np.median(seconds)) for seconds in taken.values())
    print(f"{image.name}: in parts {parts / memory - 1:+.1%}, {len(hashes)} label hash", flush=True)


def first_tile(image: Path, folder: Path, how: Sequence[str], repeats: int) -> None:
    """Print the seconds from the command to the first tile, of runs that end there."""
    for number in range(repeats):
        out = folder / f"first_tile_{number}"
        started = time.perf_counter()
        status = start(image, out, how, UNTIL_FIRST_TILE).wait()
        seconds = time.perf_counter() - started
        if status or any(out.glob("*_labels*")):
            raise SystemExit(f"unetbio segment {image} did not end at its first tile")
        print(f"{image.name}: first tile after {seconds:.1f} s", flush=True)


def made_images(
    options: argparse.Namespace, images: Sequence[NDArray[np.uint16]]
) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Name of each image, and what writes it."""
    if options.stack:
        yield "stack.ome.zarr", partial(write_stack, stacks=images, shape=tuple(options.stack))
        return
    for side in options.sides:
        for kind in options.formats:
            write = write_tiff if kind == "tiff" else write_zarr
            name = f"mosaic_{side}.{'tif' if kind == 'tiff' else 'ome.zarr'}"
            yield name, partial(write, images=images, side=side)


def measured(path: Path, options: argparse.Namespace, how: Sequence[str]) -> list[tuple[object, ...]]:
    """Rows of the table for the runs of one image."""
    runs: dict[str, dict[str, Any]] = {
        "as it is run": {},
        **({"in memory": {"first": IN_MEMORY}} if options.whole else {}),
        **({f"killed {options.kills} times": {"kills": options.kills}} if options.kills else {}),
    }
    found = [segment(path, path.parent / f"out_{number}", how, **run) for number, run in enumerate(runs.values())]
    equal = len({(digest, cells) for _, _, digest, _, cells in found}) == 1 if len(runs) > 1 else ""
    rows: list[tuple[object, ...]] = []
    for name, (seconds, peak, digest, count, _) in zip(runs, found, strict=True):
        rows.append((path.name, name, f"{seconds:.0f}", f"{peak / 1e9:.2f}", count, digest[:12], equal))
        print(*rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[4000, 8000])
    parser.add_argument("--stack", type=int, nargs=3, metavar=("Z", "Y", "X"), help="a stack in place of planes")
    parser.add_argument("--formats", nargs="+", choices=("tiff", "zarr"), default=["tiff", "zarr"])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--precision", default="auto", help="as of unetbio segment")
    parser.add_argument("--crops", action="store_true", help="compare with four parts that are segmented alone")
    parser.add_argument("--whole", action="store_true", help="run in memory too, and compare")
    parser.add_argument("--kills", type=int, default=0, help="run once more, killed so often, and compare")
    parser.add_argument("--overhead", type=int, default=0, help="compare in turns, so often, and do nothing else")
    parser.add_argument(
        "--first-tile", type=int, default=0, help="run to the first tile, so often, and do nothing else"
    )
    options = parser.parse_args()
    how = ["--model", options.model, "--precision", options.precision]
    images = [read_image(path, axes=options.stack and "ZYX").read() for path in sorted(options.images.iterdir())[:20]]
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        for place, (name, write) in enumerate(made_images(options, images)):
            path = Path(folder, str(place), name)
            path.parent.mkdir()
            write(path)
            if options.overhead:
                overhead(path, path.parent, how, options.overhead)
                continue
            if options.first_tile:
                first_tile(path, path.parent, how, options.first_tile)
                continue
            rows += measured(path, options, how)
            if options.crops:
                compare_crops(path, path.parent / "out_0", how)
    if rows:
        print_table(("image", "how", "s", "GB", "cells", "label hash", "equal"), rows)


if __name__ == "__main__":
    main()
