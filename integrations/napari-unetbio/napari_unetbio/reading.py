"""Reader: a mask of a run, with its image and the rows of its cells."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_unetbio.layers import features, image_layers, placed
from napari_unetbio.runs import find_run, load_image
from unetbio.results.journal import Entry

__all__ = ["get_reader"]

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | Sequence[str]) -> Callable[[object], list[LayerData]] | None:
    """Reader of a label image in an output folder of unetbio; None for all other files."""
    paths = [Path(one) for one in ([path] if isinstance(path, str) else path)]
    found = [find_run(one) for one in paths]
    if not found or any(one is None for one in found):
        return None

    def read(_: object) -> list[LayerData]:
        return [layer for one in found if one is not None for layer in _read(*one)]

    return read


def _read(out: Path, entry: Entry) -> list[LayerData]:
    loaded = load_image(out, entry)
    images: list[LayerData] = [(pixels, arguments, "image") for pixels, arguments in image_layers(loaded)]
    # The cells of a time-lapse have numbers of their own in each frame; the widget Results follows the slider.
    of_one_frame = len(loaded.times) < 2 and "z" not in loaded.table
    rows = {"features": features(loaded.table, {})} if of_one_frame else {}
    where = placed(loaded.mask.axes, loaded.mask.pixel_size_um)
    return [*images, (loaded.labels, {"name": f"cells of {entry.path}", **where, **rows}, "labels")]
