"""Grey values that a model has not seen: warnings for images of other kinds, and counts in sparse fields.

    python benchmarks/grey_values.py DATA [--model nuclei] [--size 500 1000 2000 4000] [--kinds] [--fields] [--specks]

Kinds: images with the warning ``unlike_training``, of the kinds that the model was trained on (bar: at most 2 %) and of
others (bar: a warning, or no cell, for each). Fields: nuclei of ``bbbc039`` val are pasted into background of the same
camera, an image without nuclei that is continued by mirroring; bar: counts within 5 %. Specks: a bright disc is added
to images of ``bbbc039`` val, as many times brighter than the brightest nuclei as the table says; bar: AP within .1.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from collections_of_images import FLUORESCENCE, annotated, read_plane
from numpy.typing import NDArray
from scipy import ndimage

from unetbio.io import read_image, read_labels
from unetbio.io.arrays import image_of_array
from unetbio.metrics.instances import evaluate
from unetbio.models.model_file import load_model
from unetbio.provenance import FrameRecord
from unetbio.segmentation import Segmenter
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings

OTHER = {"t98g_phase": "images/*", "tnbc_he": "images/*", "isbi2012_em": "*/images/*"}
EMPTY = "IXMtest_L10_s6"
"""Image of ``bbbc039`` val without nuclei."""
NUMBERS = (1, 2, 5, 10, 20)
HALO = 10
LEAST_AREA = 200
APART = 90

SPECKS = ((16, 3, 0), (16, 10, 0), (16, 40, 0), (16, 40, 8), (60, 20, 5))
"""Radius in pixels, contrast as a multiple of that of the upper percentile, and standard deviation of its blur."""

WITH_SPECKS = 10
"""Images."""

Grey = NDArray[np.float64]


def other_kinds(data: Path) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Kind and grey values of each channel of images that are no fluorescence."""
    with open(data / "dsb2018" / "index.csv", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["modality"] != "fluorescence"]
    for row in rows:
        path = next((data / "dsb2018" / row["split"] / "images").glob(f"{row['name']}.*"))
        yield from ((f"dsb2018 {row['modality']}", plane) for plane in _planes(path))
    for name, pattern in OTHER.items():
        for path in sorted((data / name).glob(pattern)):
            yield from ((name, plane) for plane in _planes(path))


def _planes(path: Path) -> list[NDArray[np.generic]]:
    array = read_image(path).read()
    return [array] if array.ndim == 2 else list(array)


def is_unlike(segmenter: Segmenter, image: NDArray[np.generic]) -> bool:
    """Whether the grey values are unlike the training, which no network is needed for."""
    opened = segmenter.open(image_of_array(image, "YX"), Settings())
    frame = segmenter.read_frame(opened, None)
    record = segmenter.finish(opened, frame, segmenter.decoder.decide_constant(opened)).record
    return any(code.startswith("unlike_training") for code in record.warnings)


def segment(segmenter: Segmenter, image: NDArray[np.generic], settings: Settings) -> tuple[FrameRecord, float]:
    """The row of the summary, and the zoom."""
    opened = segmenter.open(image_of_array(image, "YX"), settings)
    made = segmenter.decide_frame(opened, segmenter.read_frame(opened, None))
    return segmenter.finish(made.opened, made.frame, made.decided).record, made.opened.zoom[0]


def passes_silently(segmenter: Segmenter, image: NDArray[np.generic]) -> bool:
    """Whether there are cells, and no warning."""
    record, _ = segment(segmenter, image, Settings())
    return bool(record.n_cells) and not record.warnings


def kinds(segmenter: Segmenter, data: Path) -> None:
    print("| kind | planes | unlike_training | cells without a warning |")
    print("|---|---|---|---|", flush=True)
    for name in FLUORESCENCE:
        found = [is_unlike(segmenter, read_plane(image)) for _, image, *_ in annotated(data, name)]
        print(f"| {name} val | {len(found)} | {sum(found)} | |", flush=True)
    counts: dict[str, list[tuple[bool, bool]]] = {}
    for kind, plane in other_kinds(data):
        unlike = is_unlike(segmenter, plane)
        counts.setdefault(kind, []).append((unlike, not unlike and passes_silently(segmenter, plane)))
    for kind, results in counts.items():
        print(f"| {kind} | {len(results)} | {sum(w for w, _ in results)} | {sum(c for _, c in results)} |", flush=True)


def nuclei(data: Path) -> list[tuple[Grey, Grey]]:
    """Isolated nuclei: grey values above the background, and how much of each pixel is pasted."""
    found = []
    for _, path, mask, _ in annotated(data, "bbbc039"):
        image, labels = read_plane(path).astype(np.float64), read_labels(mask)
        if not labels.any():
            continue
        image -= np.median(image[labels == 0])
        for label, box in enumerate(ndimage.find_objects(labels), 1):
            if box is None or any(side.start < HALO for side in box):
                continue
            wide = tuple(slice(side.start - HALO, side.stop + HALO) for side in box)
            own = labels[wide] == label
            if own.sum() < LEAST_AREA or np.any((labels[wide] > 0) & ~own):
                continue
            if own.shape == tuple(side.stop - side.start for side in wide):
                share = ndimage.gaussian_filter(ndimage.binary_dilation(own, iterations=6).astype(float), 1.5)
                found.append((image[wide], share))
    return found


def field(background: Grey, size: int, number: int, cells: list[tuple[Grey, Grey]], seed: int) -> NDArray[np.uint16]:
    """So many nuclei at random places of a square of background."""
    rng = np.random.default_rng(seed)
    rows, columns = (-(-size // side) for side in background.shape)
    grown = ((0, rows * background.shape[0]), (0, columns * background.shape[1]))
    image = np.pad(background, grown, mode="symmetric")[:size, :size]
    places: list[tuple[int, int]] = []
    while len(places) < number:
        grey, share = cells[rng.integers(len(cells))]
        y, x = (int(rng.integers(0, size - side)) for side in grey.shape)
        if all(abs(y - other_y) > APART or abs(x - other_x) > APART for other_y, other_x in places):
            places.append((y, x))
            image[y : y + grey.shape[0], x : x + grey.shape[1]] += grey * share
    return np.clip(np.round(image), 0, 65535).astype(np.uint16)


def fields(segmenter: Segmenter, data: Path, sizes: list[int]) -> None:
    background = next(read_plane(image) for _, image, *_ in annotated(data, "bbbc039") if image.stem == EMPTY)
    cells = nuclei(data)
    print("| size | nuclei | found with percentiles alone | found | zoom |")
    print("|---|---|---|---|---|", flush=True)
    for size in sizes:
        for number in NUMBERS:
            image = field(background.astype(np.float64), size, number, cells, seed=size + number)
            plain = Settings(diameter_px="model", normalization=_almost(segmenter))
            before, _ = segment(segmenter, image, plain)
            found, zoom = segment(segmenter, image, Settings())
            print(f"| {size} | {number} | {before.n_cells} | {found.n_cells} | {zoom:g} |", flush=True)


def specks(segmenter: Segmenter, data: Path) -> None:
    """Scores of images with a speck that outshines the nuclei, by percentiles alone and as they are scaled today."""
    chosen = [one for one in annotated(data, "bbbc039") if one.truth().any()][:WITH_SPECKS]
    plain = Settings(normalization=_almost(segmenter))
    print("| speck | AP@.5 with percentiles alone | AP@.5 |\n|---|---|---|", flush=True)
    for speck in (None, *SPECKS):
        images = [(with_speck(read_plane(one.image).astype(np.float64), speck), one.truth()) for one in chosen]
        found = [pooled(segmenter, images, settings) for settings in (plain, Settings())]
        print(f"| {words_of(speck)} | {found[0]:.3f} | {found[1]:.3f} |", flush=True)


def words_of(speck: tuple[int, int, int] | None) -> str:
    if speck is None:
        return "none"
    radius, factor, blur = speck
    return f"{2 * radius} px, {factor} times as bright, blurred by {blur} px"


def with_speck(image: Grey, speck: tuple[int, int, int] | None) -> NDArray[np.uint16]:
    """An image with a bright disc near its corner."""
    if speck is not None:
        radius, factor, blur = speck
        rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
        disc = ((rows - 64) ** 2 + (columns - 64) ** 2 < radius**2).astype(np.float64)
        contrast = np.percentile(image, 99.8) - np.median(image)
        image = image + factor * contrast * ndimage.gaussian_filter(disc, blur)
    return np.clip(np.round(image), 0, 65535).astype(np.uint16)


def pooled(
    segmenter: Segmenter, images: list[tuple[NDArray[np.uint16], NDArray[np.unsignedinteger]]], settings: Settings
) -> float:
    """AP at an IoU of .5 of all cells."""
    labels = []
    for image, _ in images:
        opened = segmenter.open(image_of_array(image, "YX"), settings)
        made = segmenter.decide_frame(opened, segmenter.read_frame(opened, None))
        labels.append(segmenter.finish(made.opened, made.frame, made.decided).label_image)
    names = [str(number) for number in range(len(images))]
    return float(evaluate(labels, [truth for _, truth in images], names=names).pooled["AP@.5"])


def _almost(segmenter: Segmenter) -> Normalization:
    """The model's percentiles, but for a millionth: as they are, they would be automatic."""
    own = segmenter.info.normalization
    return replace(own, high=own.high - 1e-6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--size", dest="sizes", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    parser.add_argument("--kinds", action="store_true", help="only these")
    parser.add_argument("--fields", action="store_true", help="only these")
    parser.add_argument("--specks", action="store_true", help="only these")
    arguments = parser.parse_args()
    segmenter = Segmenter(load_model(arguments.model), "cpu")
    has_all = not (arguments.kinds or arguments.fields or arguments.specks)
    if arguments.kinds or has_all:
        kinds(segmenter, arguments.data)
    if arguments.fields or has_all:
        fields(segmenter, arguments.data, arguments.sizes)
    if arguments.specks or has_all:
        specks(segmenter, arguments.data)


if __name__ == "__main__":
    main()
