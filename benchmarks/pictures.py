"""Pictures of results of the shipped model on images from other sources, good and bad ones.

    python benchmarks/pictures.py SAMPLES FORMATS docs/images

SAMPLES is what ``unetbio samples`` wrote, FORMATS a folder with the public files named in `FILES`. Each picture shows
the raw image beside the outlines of the cells found; its caption is printed as a row of a Markdown table. The picture
of the README is one of them.
"""

import argparse
from pathlib import Path

import imagecodecs
import numpy as np

import unetbio
from unetbio.files import write_bytes
from unetbio.io import read_image
from unetbio.report.overlays import draw_overlay

# File, options of the run, in the folder FORMATS.
FILES = (
    ("FOV7_HV110_P0500510000.ome.tiff", {}),
    ("hela-cells.tif", {"channel": 2}),
    ("hela-cells.tif", {"channel": 2, "diameter_px": 110}),
    ("membrane_2d_timelapse.tif", {"axes": "TYX"}),
)
GAP_PX = 6
TOUR = "confocal_z32.ome.tif"


def picture(path: Path, out: Path, options: dict[str, object]) -> str:
    """Write one picture and give its row of the table."""
    labels, info = unetbio.segment(path, model="nuclei", device="cpu", **options)
    image = read_image(path, axes=options.get("axes"))
    raw = image.read(t=options.get("t", 0), c=options.get("channel", 0))
    empty = draw_overlay(raw, np.zeros_like(labels))
    gap = np.full((len(empty), GAP_PX, 3), 255, np.uint8)
    joined = np.concatenate([empty, gap, draw_overlay(raw, labels)], axis=1)
    if path.name == TOUR:
        write_bytes(out / "tour.png", bytes(imagecodecs.png_encode(joined.repeat(2, 0).repeat(2, 1))))
    target = out / ("_".join([path.name.split(".")[0], *(f"{key}{value}" for key, value in options.items())]) + ".jpg")
    write_bytes(target, bytes(imagecodecs.jpeg8_encode(joined, level=85)))
    said = ", ".join(f"{key} {value}" for key, value in options.items()) or "none"
    return f"| {path.name} | {said} | {info['n_cells']} | | ![{path.name}](images/{target.name}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("samples", "formats", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    # Three frames of the time-lapse are files of their own.
    wanted = [(path, {}) for path in sorted(arguments.samples.glob("*_*.tif"))]
    wanted += [(arguments.formats / name, options) for name, options in FILES]
    print("| file | options | cells | what is right and wrong | raw, and outlines |\n|---|---|---|---|---|")
    for path, options in wanted:
        first = {"t": 0} if read_image(path, axes=options.get("axes")).size("T") > 1 else {}
        print(picture(path, arguments.out, {**options, **first}))


if __name__ == "__main__":
    main()
