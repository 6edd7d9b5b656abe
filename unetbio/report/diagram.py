"""Draw a network from its code as SVG: the operations that run on an image.

The network runs once on torch's meta device, without memory. Every operation that PyTorch dispatches is recorded with
its input and output feature maps. Consecutive convolutions of one kind become one box.
"""

import html
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.files import write_text

__all__ = ["Box", "boxes_of", "draw_network", "draw_networks"]

COLOURS = {
    "convolution": "#5b8bd0",
    "dilated convolution": "#7a5bd0",
    "transposed convolution": "#d0885b",
    "max pooling": "#c0504d",
    "average pooling": "#b5537f",
    "bilinear": "#e0b040",
    "nearest": "#d7cf4a",
    "bed of nails": "#b8a860",
    "max-unpooling": "#e07a3f",
    "concatenate": "#4fa05a",
    "sum": "#3f8f8f",
}
CONVOLUTIONS = ("convolution", "dilated convolution")
# Functions of networks/blocks.py that are one operation in the drawing.
BLOCKS = {"nearest": "nearest", "bed_of_nails": "bed of nails", "max_unpool": "max-unpooling", "bilinear": "bilinear"}
GAP, TALLEST, TOP = 16, 150, 84


@dataclass
class Box:
    """Consecutive operations of one kind on feature maps of one size.

    Parameters
    ----------
    kind : str
        A key of `COLOURS`.
    channels, size : int
        Channels and height in pixels of the output.
    rates : tuple of int
        Dilation of each convolution with a kernel larger than one pixel, in the order of execution.
    count : int
        Number of operations.
    inputs : list of int
        Indices of the boxes that are inputs; -1 is the image.
    module : str
        Module of the first operation, as the network's code names it.
    """

    kind: str
    channels: int
    size: int
    rates: tuple[int, ...] = ()
    count: int = 1
    inputs: list[int] = field(default_factory=list)
    module: str = ""

    @property
    def caption(self) -> str:
        """Text under the box."""
        times = f" x {self.count}" if self.count > 1 else ""
        rates = f", rates {self.dilations}" if self.dilations else ""
        return f"{self.kind}{times}{rates}: {self.channels} maps of {self.size} x {self.size}"

    @property
    def dilations(self) -> str:
        """Rates of dilated convolutions, each run of equal ones once; empty if none is dilated."""
        return ", ".join(str(rate) for rate, _ in groupby(self.rates)) if max(self.rates, default=1) > 1 else ""


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record operations. Tensor objects identify feature maps; they are kept alive, so that their ids stay unique."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.boxes: list[Box] = []
        self.modules: list[str] = []
        self._made_by: dict[int, int] = {id(image): -1}
        self._kept: list[Any] = [image]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple) else result
        sources = list(dict.fromkeys(self._made_by[id(t)] for t in _tensors(args) if id(t) in self._made_by))
        if not isinstance(first, Tensor) or not sources:
            return result
        self._kept.append(result)
        kind = _kind(str(func), args, sources)
        if kind is None or first.ndim != 4:
            self._made_by[id(first)] = max(sources)
            return result
        spread = kind in CONVOLUTIONS and max(args[1].shape[2:]) > 1
        channels, size = first.shape[1:3]
        rates = (max(args[5]),) if spread else ()
        self._made_by[id(first)] = self._add(Box(kind, channels, size, rates, inputs=sources))
        return result

    def _add(self, box: Box) -> int:
        box.module = ".".join(self.modules[-1].split(".")[:2]) if self.modules else ""
        last = len(self.boxes) - 1
        if self.boxes and _continues(self.boxes[-1], box, last):
            joined = self.boxes[-1]
            joined.channels, joined.size = box.channels, box.size
            joined.count += box.kind in CONVOLUTIONS
            joined.rates += box.rates
            joined.kind = CONVOLUTIONS[max(joined.rates, default=1) > 1]
            return last
        if box.kind in BLOCKS.values() and self.boxes and self.boxes[-1].kind == box.kind:
            # Operations within one block
            self.boxes[-1] = Box(box.kind, box.channels, box.size, inputs=self.boxes[-1].inputs, module=box.module)
            return last
        self.boxes.append(box)
        return last + 1


def _continues(before: Box, box: Box, number: int) -> bool:
    """Whether an operation belongs to the last box: to the same stage, one after another.

    Without padding the size decreases slightly. The sum of a residual block, and the convolution beside it, have the
    input of the box.
    """
    same = before.module == box.module and 0.8 * before.size < box.size <= before.size
    if not same or not set(box.inputs) <= {number, *before.inputs} or before.kind not in CONVOLUTIONS:
        return False
    if box.kind == "sum":
        return True
    return box.kind in CONVOLUTIONS and (number in box.inputs or set(box.rates) <= {1, *before.rates[-1:]})


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _kind(operation: str, args: Sequence[Any], sources: Sequence[int]) -> str | None:
    block = _block()
    if block is not None:
        return block
    name = operation.removeprefix("aten.").partition(".")[0]
    if name in ("convolution", "_convolution"):
        if args[6]:
            return "transposed convolution"
        return "dilated convolution" if max(args[5]) > 1 else "convolution"
    if (name == "add" and len(sources) < 2) or (name == "cat" and len(list(_tensors(args))) < 2):
        return None
    known = {
        "max_pool2d_with_indices": "max pooling",
        "max_pool2d": "max pooling",
        "avg_pool2d": "average pooling",
        "_adaptive_avg_pool2d": "average pooling",
        "mean": "average pooling",
        "upsample_bilinear2d": "bilinear",
        "upsample_nearest2d": "nearest",
        "cat": "concatenate",
        "add": "sum",
        "add_": "sum",
    }
    return known.get(name)


def _block() -> str | None:
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name in BLOCKS and Path(code.co_filename).name == "blocks.py":
            return BLOCKS[code.co_name]
        frame = frame.f_back  # type: ignore[assignment]
    return None


def boxes_of(name: str, parameters: Mapping[str, Any], size: int = 256) -> list[Box]:
    """Operations of a network on an image of about ``size`` pixels.

    Parameters
    ----------
    name : str
        A registered architecture of logits, in two dimensions.
    parameters : mapping
        Parameters that differ from the defaults.
    size : int
        Pixels of the image along each axis; rounded up to a legal size.

    Returns
    -------
    list of Box
        In the order of execution.
    """
    with torch.device("meta"):
        network = networks.build(name, parameters).eval()
    geometry: Any = network.geometry
    legal = geometry.nearest_legal(max(size, geometry.minimum[0]), 0)[-1]
    architecture = networks.find(name)
    channels = architecture.complete(parameters)["in_channels"]
    image = torch.empty((1, channels, legal, legal), device="meta")
    recorder = _Recorder(image)
    handles = []
    for path, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, path=path: recorder.modules.append(path)))
        handles.append(module.register_forward_hook(lambda *_: recorder.modules.pop() and None))
    with torch.inference_mode(mode=False), torch.no_grad(), recorder:
        network(image)
    for handle in handles:
        handle.remove()
    return recorder.boxes


def draw_network(name: str, parameters: Mapping[str, Any] | None = None, size: int = 256) -> str:
    """Draw a network as SVG; see `boxes_of` for the parameters.

    The height of a box shows the size of its feature maps, the width their number.
    """
    boxes = boxes_of(name, parameters or {}, size)
    largest = max(box.size for box in boxes)
    places = []
    x = 30.0
    for box in boxes:
        width = 4 + 3.2 * math.log2(box.channels + 1) + 7 * math.log2(box.count)
        height = max(10.0, TALLEST * 0.74 ** math.log2(largest / box.size))
        # The rates above a box need room beside it, too.
        room = max(width, 6 * len(box.dilations))
        places.append((x + (room - width) / 2, TOP + (TALLEST - height) / 2, width, height))
        x += room + GAP
    bottom = TOP + TALLEST + 34
    parts = [*_arcs(boxes, places), *map(_rectangle, boxes, places), *_legend(boxes, bottom)]
    width, height = max(x + 14, 620.0), bottom + 26 * math.ceil(len({box.kind for box in boxes}) / 4)
    title = f"{name}: {networks.find(name).summary}"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            'font-family="sans-serif" font-size="11">',
            f"<title>{html.escape(title)}</title>",
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="14" y="20" font-size="13">{html.escape(title)}</text>',
            *parts,
            "</svg>\n",
        )
    )


def draw_networks(names: Sequence[str], folder: Path) -> list[Path]:
    """Write the drawing of each network that classifies pixels, ``NAME.svg``.

    Raises
    ------
    UsageError
        When none of them does.
    """
    drawable = [name for name in names if networks.find(name).output == "logits"]
    if not drawable:
        raise UsageError(f"{', '.join(names)}: only networks that classify pixels can be drawn")
    paths = [folder / f"{name}.svg" for name in drawable]
    for name, path in zip(drawable, paths, strict=True):
        write_text(path, draw_network(name))
    return paths


def _rectangle(box: Box, place: tuple[float, float, float, float]) -> str:
    x, y, width, height = place
    middle, below = x + width / 2, y + height + 12
    times = f"{box.count} x " if box.count > 1 else ""
    rate = f'<text x="{middle:.1f}" y="{y - 4:.1f}" text-anchor="middle">r{box.dilations}</text>'
    return (
        f"<g><title>{html.escape(f'{box.module} {box.caption}'.strip())}</title>"
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" fill="{COLOURS[box.kind]}"/>'
        f'<text x="{middle:.1f}" y="{below:.1f}" text-anchor="middle">{times}{box.channels}</text>'
        f"{rate if box.dilations else ''}</g>"
    )


def _arcs(boxes: Sequence[Box], places: Sequence[tuple[float, float, float, float]]) -> Iterator[str]:
    middle = TOP + TALLEST / 2
    for number, box in enumerate(boxes):
        for source in box.inputs:
            if source == number or (source == -1 and number > 0):
                continue
            end = places[number][0]
            start = places[source][0] + places[source][2] if source >= 0 else 10.0
            if source == number - 1:
                yield f'<path d="M{start:.1f} {middle} H{end:.1f}" stroke="#888" fill="none"/>'
                continue
            top = min(place[1] for place in places[source : number + 1])
            lift = max(30.0, top - 16 - 0.02 * (end - start))
            # From the top of one box, above all boxes between, to the top of the other
            a, b = places[source], places[number]
            yield (
                f'<path d="M{a[0] + a[2] / 2:.1f} {a[1]:.1f} V{lift:.1f} H{b[0] + b[2] / 2:.1f} V{b[1]:.1f}" '
                'stroke="#4fa05a" stroke-width="1.5" fill="none"/>'
            )


def _legend(boxes: Sequence[Box], y: float) -> Iterator[str]:
    for index, kind in enumerate(dict.fromkeys(box.kind for box in boxes)):
        x, row = 14 + 160 * (index % 4), y + 26 * (index // 4)
        yield f'<rect x="{x}" y="{row:.0f}" width="12" height="12" fill="{COLOURS[kind]}"/>'
        yield f'<text x="{x + 17}" y="{row + 10:.0f}">{kind}</text>'
