"""Pictures of the lecture (docs/networks.md): ``python docs/lecture_pictures.py`` writes docs/images/lecture/.

The functions of the project compute every number and every pixel.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from svg import CELL, PALE, WARM, Fills, arrow, box, coloured, grid, middle, picture, svg, text
from torch import Tensor, nn
from torch.nn import functional

from unetbio import networks
from unetbio.inference.tiling import read_mirrored
from unetbio.networks import blocks
from unetbio.networks.dilated_context.spec import CONTEXT_RATES
from unetbio.networks.mask_rcnn import network as mask_rcnn
from unetbio.networks.mask_rcnn import proposals
from unetbio.networks.pspnet.spec import BINS
from unetbio.postprocessing.crf import PRESETS, refine
from unetbio.supervision.weight_maps import force_gap, weight_map

__all__ = ["FOLDER", "PICTURES"]

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "images" / "lecture"
COLOURS = {"convolution": "#5b8bd0", "pooling": "#c0504d", "up": "#d0885b", "copy": "#4fa05a", "head": "#3f8f8f"}

Place = tuple[float, float, float]
"""Upper edge, height and width of a box."""


def planes(values: Sequence[Sequence[float]]) -> Tensor:
    """(Y, X) numbers as (1, 1, Y, X)."""
    return torch.tensor(values, dtype=torch.float32)[None, None]


def array(features: Tensor) -> NDArray[Any]:
    """(1, 1, Y, X) features as (Y, X)."""
    return np.asarray(features[0, 0].detach().numpy())


# --- upsampling ------------------------------------------------------------------------------------------------------

INPUT = planes([[1, 2, 0], [0, 3, 1], [2, 0, 1]])
KERNEL = planes([[1, 0, 2], [0, 1, 0], [1, 0, 1]])
CASES = (
    {"stride": 1},
    {"stride": 2},
    {"stride": 2, "padding": 1},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"stride": 1, "dilation": 2},
)


def transposed_convolution() -> str:
    """One input and one kernel, with each of the parameters; the kernel of the input 3 is coloured."""
    alone = torch.where(INPUT == 3, 1.0, 0.0)
    parts = [text(20, 24, "input"), *grid(array(INPUT), 20, 34, _hot(array(alone)))]
    parts += [text(140, 24, "kernel"), *grid(array(KERNEL), 140, 34)]
    parts.append(text(250, 56, "Each input is multiplied by the kernel; the products are added up where they meet."))
    parts.append(text(250, 76, "Orange: what the input 3 (row 2, column 2) is part of."))
    x, y, lowest = 20.0, 160.0, 0.0
    for index, case in enumerate(CASES):
        if index == 3:
            x, y = 20.0, lowest + 56
        output = array(functional.conv_transpose2d(INPUT, KERNEL, **case))
        reached = array(functional.conv_transpose2d(alone, torch.ones_like(KERNEL), **case))
        title = ", ".join(f"{name} {value}" for name, value in case.items())
        size = len(output)
        parts += [text(x, y - 24, title), *grid(output, x, y, _hot(reached))]
        parts.append(text(x, y - 9, _size_of(case, size), size=11, colour="#777"))
        lowest = max(lowest, y + size * CELL)
        x += max(size * CELL, 210) + 30
    return svg(760, lowest + 16, parts)


def _hot(reached: NDArray[Any]) -> Fills:
    return lambda row, column: WARM if reached[row, column] else PALE


def _size_of(case: dict[str, int], size: int) -> str:
    stride, padding = case["stride"], case.get("padding", 0)
    dilation, more = case.get("dilation", 1), case.get("output_padding", 0)
    expected = 2 * stride - 2 * padding + dilation * 2 + more + 1
    if expected != size:
        raise ValueError(f"{case}: {expected} expected, {size} found")
    return f"(3 - 1) · {stride} - 2 · {padding} + {dilation} · (3 - 1) + {more} + 1 = {size}"


def upsampling() -> str:
    """The five ways from 2 x 2 to 4 x 4."""
    small = planes([[1, 2], [3, 4]])
    pooled_from = planes([[1, 0, 0, 2], [0, 0, 1, 0], [0, 3, 0, 0], [1, 0, 0, 4]])
    layer = blocks.transposed_convolution(1, 1, (2, 2), bias=False)
    learned = planes([[1, 0], [0, 2]])
    with torch.no_grad():
        layer.weight.copy_(learned)  # type: ignore[union-attr, operator]
    pooled = array(blocks.max_pool(pooled_from, (2, 2)))
    ways = (
        ("nearest", blocks.nearest(small, (2, 2)), None),
        ("bed of nails", blocks.bed_of_nails(small, (2, 2)), None),
        ("bilinear", blocks.interpolate(small, (2, 2)), None),
        ("max-unpooling", blocks.max_unpool(small, pooled_from, (2, 2)), ("was pooled from", array(pooled_from))),
        ("transposed convolution", layer(small), ("kernel, stride 2", array(learned))),
    )
    if not (pooled == array(small)).all():
        raise ValueError("the maxima of the encoder are the map that is unpooled")
    quarter = ("#cfe2f7", "#f7e3c4", "#d8efd3", "#efd6ea")
    parts = [text(20, 30, "2 x 2"), *grid(array(small), 20, 40, lambda row, column: quarter[2 * row + column])]
    x = 110.0
    for name, output, extra in ways:
        values = array(output)
        parts.append(text(x, 30, name))
        parts += grid(values, x, 40, _quarters(values, quarter))
        if extra:
            parts += [text(x, 164, extra[0], size=11, colour="#777"), *grid(extra[1], x, 172, cell=20)]
        x += 144
    return svg(x, 262, parts)


def _quarters(values: NDArray[Any], colours: Sequence[str]) -> Fills:
    """Of a 4 x 4 map: the colour of the quarter where there is a number, none for zeros."""
    return lambda row, column: colours[row // 2 * 2 + column // 2] if values[row, column] else PALE


# --- dilated convolutions --------------------------------------------------------------------------------------------


def dilation() -> str:
    """What one output sees through three 3 x 3 convolutions: with rates 1, 1, 1 and with 1, 2, 4."""
    parts, cell = [], 11
    for row, rates in enumerate(((1, 1, 1), CONTEXT_RATES[1:4])):
        seen = torch.zeros((1, 1, 17, 17))
        seen[..., 8, 8] = 1
        for column, rate in enumerate(rates):
            seen = functional.conv2d(seen, torch.ones((1, 1, 3, 3)), padding=rate, dilation=rate)
            paths = array(seen)
            wide = _width(paths)
            x, y = 20 + column * 225, 40 + row * 240
            parts.append(text(x, y - 12, f"layer {column + 1}, rate {rate}: sees {wide} x {wide}"))
            shades = coloured(np.sqrt(paths), "Blues", 0, float(np.sqrt(paths.max())))
            parts.append(picture(shades, x, y, 17 * cell, 17 * cell))
            parts.append(box(x, y, 17 * cell, 17 * cell, "none", line="#bbb"))
            parts.append(box(x + 8 * cell, y + 8 * cell, cell, cell, "none", line="#c0504d"))
    return svg(680, 490, parts)


def _width(paths: NDArray[Any]) -> int:
    columns = np.flatnonzero(paths.sum(axis=0))
    return int(columns[-1] - columns[0] + 1)


# --- tiles and weights -----------------------------------------------------------------------------------------------


def sample() -> NDArray[np.float64]:
    """(160, 160) grey values of nuclei, 0 to 1."""
    image = tifffile.imread(ROOT / ".test" / "images" / "nuclei_1.ome.tif").astype(float)
    return np.asarray(image / np.percentile(image, 99.8))


def overlap_tile() -> str:
    """A tile at the corner of an image: what the network gives, what it takes, and what is mirrored."""
    geometry = networks.find("unet").geometry({"depth": 2})
    context, stride = geometry.context[0], geometry.stride[0]
    zoom, image = 2.0, sample()
    legal = next(size for size in range(geometry.minimum[0], 999, stride) if size - 2 * context >= 60)
    output, size = legal - 2 * context, zoom * (image.shape[0] + 2 * context)
    mirrored = read_mirrored(image[None], (-context,) * 2, [side + 2 * context for side in image.shape])[0]
    parts = [picture(coloured(mirrored, "gray", 0, 1), 20, 40, size, size)]
    left = 20 + zoom * context
    parts.append(
        box(left, 40 + zoom * context, zoom * image.shape[1], zoom * image.shape[0], "none", line="white", dashed=True)
    )
    for index, colour in enumerate(("#f2b880", "#7fd0ff")):
        shift = zoom * output * index
        parts.append(box(20 + shift, 40, zoom * legal, zoom * legal, "none", line=colour, dashed=True))
        parts.append(box(left + shift, 40 + zoom * context, zoom * output, zoom * output, "none", line=colour))
    x = 40 + size
    notes = (
        "dashed white: the border of the image;",
        "outside it the image is mirrored",
        "",
        f"solid orange: the first tile, {output} x {output},",
        "for which the network gives probabilities",
        f"dashed orange: what it takes for that, {legal} x {legal}:",
        f"{context} pixels more on each side, the context",
        "",
        "blue: the next tile; the two outputs touch,",
        "the two inputs overlap",
        "",
        f"A U-Net of depth 2; tiles begin at multiples of {stride}.",
    )
    parts += [text(x, 60 + 18 * line, note) for line, note in enumerate(notes)]
    parts.insert(1, text(20, 28, "Overlap-tile: tiles of the output touch, those of the input overlap", size=13))
    return svg(x + 330, size + 60, parts)


def cells() -> NDArray[np.int64]:
    """(64, 96) numbers of six cells, some of which touch."""
    rows, columns = np.mgrid[:64, :96]
    labels = np.zeros((64, 96), np.int64)
    ellipses = (
        (18, 20, 13, 15),
        (20, 48, 14, 13),
        (47, 33, 14, 16),
        (46, 62, 12, 12),
        (18, 76, 11, 11),
        (49, 84, 10, 9),
    )
    for cell, (y, x, height, width) in enumerate(ellipses, 1):
        inside = ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 <= 1
        labels[inside & (labels == 0)] = cell
    return labels


def weights() -> str:
    """Cells, the gaps that are forced between them, and the weight of each pixel."""
    labels, zoom = cells(), 3.2
    parted, weight = force_gap(labels), weight_map(labels)
    tab = (np.asarray(mpl.colormaps["tab10"].colors) * 255).astype(np.uint8)
    shown = [np.where((each > 0)[..., None], tab[each % 10], np.uint8(20)) for each in (labels, parted)]
    low, high = float(weight.min()), float(weight.max())
    shown.append(coloured(weight, "inferno", low, high))
    titles = ("label image", "with gaps between touching cells", f"weights, {low:.0f} to {high:.1f}")
    width, height, parts = zoom * labels.shape[1], zoom * labels.shape[0], []
    for column, (pixels, title) in enumerate(zip(shown, titles, strict=True)):
        x = 20 + column * (width + 20)
        parts += [text(x, 26, title), picture(pixels, x, 36, width, height)]
    x, row = 20.0, 20
    profile = weight[row]
    top, tall = 36 + height + 60, 90.0
    across = 3 * width + 40
    points = " ".join(
        f"{x + across * i / (len(profile) - 1):.1f},{top + tall * (1 - value / high):.1f}"
        for i, value in enumerate(profile)
    )
    parts.append(text(x, top - 16, f"weights along row {row}"))
    for value in (1, 5, 10):
        y = top + tall * (1 - value / high)
        parts.append(f'<path d="M{x:.1f} {y:.1f} H{x + across:.1f}" stroke="#ddd"/>')
        parts.append(text(x + across + 8, y + 4, str(value), size=11))
    parts.append(f'<polyline points="{points}" fill="none" stroke="#c0504d" stroke-width="2"/>')
    return svg(across + 70, top + tall + 20, parts)


# --- scale, CRF ------------------------------------------------------------------------------------------------------


def pyramid_pooling() -> str:
    """Averages of an image over grids of 1, 2, 3 and 6 cells, as PSPNet takes them of its features."""
    image, side = sample(), 140.0
    features = torch.from_numpy(image)[None, None]
    shown = [("features (here an image)", image)]
    shown += [(f"{bins} x {bins}", array(functional.adaptive_avg_pool2d(features, bins))) for bins in BINS]
    parts = []
    for column, (title, values) in enumerate(shown):
        x = 20 + column * (side + 14)
        parts += [text(x, 26, title), picture(coloured(values, "gray", 0, 0.8), x, 36, side, side)]
    return svg(20 + len(shown) * (side + 14), side + 56, parts)


def crf() -> str:
    """A coarse network's probabilities, the kernels around one pixel, and what the CRF makes of them."""
    settings = PRESETS["largefov"]
    image = sample()[:96, :96]
    inside = torch.from_numpy((image > 0.35).astype(np.float32))[None, None]
    coarse = blocks.interpolate(functional.avg_pool2d(inside, 8), (8, 8))
    cell = np.clip(array(coarse), 0.05, 0.95).astype(np.float32)
    refined = refine(np.stack([1 - cell, cell]), image[None].astype(np.float32), settings)[1]
    place = (int(np.argmin(np.abs(cell[:, 40] - 0.5))), 40)
    rows, columns = np.indices(image.shape)
    distance = (rows - place[0]) ** 2 + (columns - place[1]) ** 2
    colour = (255 * (np.clip(image, 0, 1) - np.clip(image[place], 0, 1))) ** 2
    bilateral = np.exp(-distance / (2 * settings.bilateral_xy**2) - colour / (2 * settings.bilateral_rgb**2))
    gaussian = np.exp(-distance / (2 * settings.gaussian_xy**2))
    shown = (
        ("image", coloured(image, "gray", 0, 1)),
        ("network, stride 8", coloured(cell, "viridis", 0, 1)),
        ("kernel of colour and place", coloured(bilateral, "magma", 0, 1)),
        ("kernel of place", coloured(gaussian, "magma", 0, 1)),
        ("after the CRF", coloured(refined, "viridis", 0, 1)),
    )
    side, parts = 160.0, []
    for column, (title, pixels) in enumerate(shown):
        x = 20 + column * (side + 14)
        parts += [text(x, 26, title), picture(pixels, x, 36, side, side)]
        step = side / len(image)
        parts.append(box(x + place[1] * step - 2, 36 + place[0] * step - 2, step + 4, step + 4, "none", line="#ff4040"))
    return svg(20 + len(shown) * (side + 14), side + 56, parts)


# --- networks --------------------------------------------------------------------------------------------------------


def convolutions_of(network: nn.Module, image: Tensor) -> list[tuple[str, int, int]]:
    """Kind, channels and size of the output of each convolution of a network, in the order in which they run."""
    found: list[tuple[str, int, int]] = []

    def note(layer: nn.Module, _: Any, output: Tensor) -> None:
        kind = "up" if isinstance(layer, nn.ConvTranspose2d) else "convolution"
        found.append((kind, output.shape[1], output.shape[2]))

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    for layer in layers:
        layer.register_forward_hook(note)
    network(image)
    return found


def unet() -> str:
    """The U-Net of the paper as a U; sizes and channels are those of the network that is built."""
    with torch.device("meta"):
        network = networks.build("unet").eval()
        ran = convolutions_of(network, torch.empty((1, 1, 572, 572)))
    depth = networks.find("unet").defaults["depth"]
    down = [ran[2 * level : 2 * level + 2] for level in range(depth + 1)]
    up = [ran[2 * depth + 2 + 3 * step : 2 * depth + 5 + 3 * step] for step in range(depth)]
    parts, place = [], {}

    def bar(x: float, level: int, size: int, channels: int, fill: str) -> float:
        tall, wide = 14 + 130 * size / 572, 5 + 3.0 * np.log2(channels)
        y = (60, 270, 440, 590, 715)[level]
        parts.append(box(x, y, wide, tall, fill, line="#555"))
        parts.append(middle(x + wide / 2, y - 5, str(channels), size=11))
        parts.append(middle(x + wide / 2, y + tall + 13, f"{size}²", size=10, colour="#777"))
        place[x] = (y, tall, wide)
        return float(wide)

    step, ends = 52.0, {}
    for level, pair in enumerate(down):
        x = 40 + 100.0 * level
        boxes = (
            [(572, 1, PALE)]
            if level == 0
            else [(down[level - 1][1][2] // 2, down[level - 1][1][1], COLOURS["pooling"])]
        )
        boxes += [(size, channels, COLOURS["convolution"]) for _, channels, size in pair]
        for index, (size, channels, fill) in enumerate(boxes):
            bar(x + index * step, level, size, channels, fill)
        ends[level] = x + 2 * step
        if level:
            parts.append(_downwards(place, ends[level - 1], x))
    previous = ends[depth]
    for level, (upsampled, *pair) in zip(reversed(range(depth)), up, strict=True):
        x = 40 + 100.0 * depth + 2 * step + 100.0 * (depth - level)
        skip, half = down[level][1], upsampled[1]
        wide = bar(x - 26, level, upsampled[2], skip[1], COLOURS["copy"])
        bar(x - 24 + wide, level, upsampled[2], half, COLOURS["up"])
        for index, (_, channels, size) in enumerate(pair, 1):
            bar(x + index * step, level, size, channels, COLOURS["convolution"])
        y, tall, _ = place[x - 26]
        start = ends[level] + place[ends[level]][2] + 4
        parts.append(arrow(start, y + tall / 2, x - 30, y + tall / 2, COLOURS["copy"]))
        words = f"crop {skip[2]}² to {upsampled[2]}²"
        parts.append(middle((start + x) / 2 - 16, y + tall / 2 - 6, words, size=10, colour=COLOURS["copy"]))
        parts.append(_upwards(place, previous, x - 24 + wide))
        previous = x + 2 * step
    _, channels, size = ran[-1]
    bar(previous + step, 0, size, channels, COLOURS["head"])
    legend = (
        ("convolution", "3 x 3 convolution, no padding, ReLU"),
        ("pooling", "2 x 2 max pooling"),
        ("up", "2 x 2 transposed convolution"),
        ("copy", "cropped and copied"),
        ("head", "1 x 1 convolution"),
    )
    for index, (kind, words) in enumerate(legend):
        parts += [box(40, 640 + 22 * index, 12, 12, COLOURS[kind]), text(60, 651 + 22 * index, words)]
    parts.append(text(40, 24, f"U-Net: {len(ran)} convolutions, 572 x 572 to {size} x {size}", size=14))
    return svg(previous + step + 60, 780, parts)


def _downwards(places: dict[float, Place], start: float, end: float) -> str:
    """An arrow from a box to the one below it."""
    (y1, tall1, wide1), (y2, _, wide2) = places[start], places[end]
    return arrow(start + wide1 / 2, y1 + tall1 + 18, end + wide2 / 2, y2 - 18, COLOURS["pooling"])


def _upwards(places: dict[float, Place], start: float, end: float) -> str:
    """An arrow from a box to the one above it."""
    (y1, _, wide1), (y2, tall2, wide2) = places[start], places[end]
    return arrow(start + wide1 / 2, y1 - 18, end + wide2 / 2, y2 + tall2 + 20, COLOURS["up"])


def mask_rcnn_network() -> str:
    """Encoder, feature pyramid, proposals, RoIAlign and heads, with the sizes of the network that is built."""
    with torch.device("meta"):
        network = networks.build("mask_rcnn").eval()
    image = 512
    channels = network.proposals.shared.in_channels
    anchors = len(proposals.RATIOS)
    sizes = network.proposals.anchor_sizes
    parts = [text(20, 26, f"Mask R-CNN on an image of {image} x {image}", size=14)]
    heads = ("image", "encoder (ResNet)", "feature pyramid (FPN)", "proposals (RPN)")
    xs = (20, 110, 280, 450)
    parts += [text(x, 54, head) for x, head in zip(xs, heads, strict=True)]
    parts.append(box(xs[0], 70, 64, 64, PALE, line="#555"))
    stages = network.encoder.channels
    for level, (stride, size) in enumerate(zip(proposals.STRIDES, sizes, strict=True)):
        y, side = 70 + 84 * level, max(12.0, 64 / 1.45**level)
        map_size = -(-image // stride)
        if level < len(stages):
            parts.append(box(xs[1], y, side, side, COLOURS["convolution"]))
            parts.append(text(xs[1] + 70, y + 14, f"C{level + 2}: {stages[level]}", size=11))
            parts.append(text(xs[1] + 70, y + 28, f"{map_size} x {map_size}", size=11, colour="#777"))
            parts.append(arrow(xs[1] + 70, y + 40, xs[2] - 6, y + 40))
            if level:
                parts.append(arrow(xs[1] + 16, y - 84 + 64 / 1.45 ** (level - 1) + 2, xs[1] + 16, y - 3))
        parts.append(box(xs[2], y, side, side, COLOURS["copy"]))
        parts.append(text(xs[2] + 70, y + 14, f"P{level + 2}: {channels}", size=11))
        parts.append(text(xs[2] + 70, y + 28, f"stride {stride}", size=11, colour="#777"))
        if 0 < level < len(stages):
            parts.append(arrow(xs[2] + 16, y - 3, xs[2] + 16, y - 84 + 64 / 1.45 ** (level - 1) + 2, COLOURS["up"]))
        parts.append(arrow(xs[2] + 70, y + 40, xs[3] - 6, y + 40))
        parts.append(box(xs[3], y + 24, 150, 30, PALE, line="#555"))
        parts.append(middle(xs[3] + 75, y + 43, f"{anchors} anchors of {size} px", size=11))
    parts.append(arrow(xs[0] + 66, 100, xs[1] - 4, 100))
    parts.append(text(xs[2] + 26, 70 + 84 * 3 - 8, "up x 2, added", size=11, colour=COLOURS["up"]))
    x = 664
    parts.append(text(x, 54, "for each proposal"))
    parts.append(f'<path d="M{xs[3] + 156} 94 v350" stroke="#888" stroke-width="1.5"/>')
    parts.append(arrow(xs[3] + 156, 97, x + 10, 97))
    parts.append(middle(xs[3] + 188, 90, f"{proposals.MOST_PROPOSALS[False]} best", size=10))
    parts.append(arrow(xs[2] + 8, 348, xs[2] + 8, 402))
    parts.append(text(xs[2] + 16, 380, "every other pixel", size=10, colour="#777"))
    steps = (
        (
            100,
            f"RoIAlign {mask_rcnn.BOX_BINS} x {mask_rcnn.BOX_BINS} x {channels}",
            "of the map that suits the size of the box",
        ),
        (170, f"2 fully connected, {network.box_head.classes.in_features}", "box head"),
        (240, "class, exact box", f"overlap above {mask_rcnn.SAME_OBJECT_OVERLAP}: the better one"),
        (310, f"RoIAlign {mask_rcnn.MASK_BINS} x {mask_rcnn.MASK_BINS} x {channels}", "in the exact box"),
        (380, "4 convolutions, transposed x 2", "mask head"),
        (450, f"mask of {mask_rcnn.MASK_SIZE} x {mask_rcnn.MASK_SIZE} for each class", "resized to the box"),
    )
    for y, words, below in steps:
        parts.append(box(x + 14, y - 24, 220, 42, PALE, line="#555"))
        parts += [middle(x + 124, y - 7, words), middle(x + 124, y + 10, below, size=10, colour="#777")]
        if y != steps[-1][0]:
            parts.append(arrow(x + 124, y + 19, x + 124, y + 45))
    return svg(924, 500, parts)


PICTURES: dict[str, Callable[[], str]] = {
    "transposed_convolution": transposed_convolution,
    "upsampling": upsampling,
    "dilation": dilation,
    "pyramid_pooling": pyramid_pooling,
    "crf": crf,
    "overlap_tile": overlap_tile,
    "weight_map": weights,
    "unet": unet,
    "mask_rcnn": mask_rcnn_network,
}
"""By the name of its file."""


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
