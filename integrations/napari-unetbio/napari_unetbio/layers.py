"""Layers of images, masks and rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Labels
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_unetbio.runs import LoadedImage
from unetbio.measurement.regions import measure
from unetbio.measurement.table_schema import SECTION
from unetbio.segmentation import Segmentation

__all__ = ["ShownRows", "image_layers", "measured", "placed"]

MICROMETRE = "micrometer"
LayerArguments = dict[str, Any]


def placed(axes: str, pixel_size_um: Mapping[str, float]) -> LayerArguments:
    """Scale and units of a layer with these axes; without any where a size is unknown."""
    if not all(axis in pixel_size_um for axis in "YX"):
        return {}
    sizes = [pixel_size_um.get(axis) for axis in axes]
    return {"scale": [size or 1 for size in sizes], "units": [MICROMETRE if size else "pixel" for size in sizes]}


def image_layers(loaded: LoadedImage) -> list[tuple[NDArray[Any], LayerArguments]]:
    """Pixels and arguments of `Viewer.add_image` for each channel of an image of a run."""
    where = placed(loaded.mask.axes, loaded.mask.pixel_size_um)
    colour = {"rgb": True} if loaded.is_colour else {}
    own = {} if len(loaded.channels) < 2 else {"blending": "additive"}
    maps = ["gray"] if len(loaded.channels) < 2 else ["green", "magenta", "cyan", "yellow", "red", "blue"]
    layers = []
    for number, (name, pixels) in enumerate(loaded.channels.items()):
        maps_of = {} if loaded.is_colour else {"colormap": maps[number % len(maps)]}
        arguments = {"name": f"channel {name}" if name.isdecimal() else name, **where, **colour, **own, **maps_of}
        layers.append((pixels, arguments))
    return layers


class ShownRows:
    """Rows of the cells as features of a layer: those of the time and section that are shown.

    The numbers of cells begin anew in each frame, and napari finds features by the number alone.

    Parameters
    ----------
    viewer : napari.Viewer
        Its sliders choose the frame.
    layer : napari.layers.Labels
        The mask.
    table : pandas.DataFrame
        Rows, with columns ``t`` and ``z`` where frames and sections have cells of their own.
    axes : str
        The last axes of the mask; those before have the length 1.
    numbers : mapping
        Number in the table of each time (``T``) and section (``Z``), which a run may have left out.
    """

    def __init__(
        self,
        viewer: Viewer,
        layer: Labels,
        table: pd.DataFrame,
        axes: str,
        numbers: Mapping[str, Sequence[int | None]],
    ) -> None:
        self._viewer, self._layer, self._axes, self._numbers = viewer, layer, axes, numbers
        self.table = table
        viewer.dims.events.current_step.connect(self.show)
        self.show()

    def disconnect(self) -> None:
        """Follow the sliders no longer."""
        self._viewer.dims.events.current_step.disconnect(self.show)

    def show(self, event: object = None) -> None:
        """Give the layer the rows of the shown frame; one that was removed needs none."""
        if self._layer not in self._viewer.layers:
            self.disconnect()
            return
        self._layer.features = features(self.table, self._shown())

    def _shown(self) -> dict[str, int | None]:
        """Values of the columns ``t`` and ``z`` of the shown plane."""
        step = self._layer.world_to_data(self._viewer.dims.point)[-len(self._axes) :]
        index = dict(zip(self._axes, (round(value) for value in step), strict=True))
        shown: dict[str, int | None] = {}
        for axis, column in (("T", "t"), ("Z", SECTION)):
            if axis in index:
                numbers = self._numbers[axis]
                shown[column] = numbers[min(max(index[axis], 0), len(numbers) - 1)]
        return shown


def features(table: pd.DataFrame, shown: Mapping[str, int | None]) -> pd.DataFrame:
    """Rows of one frame; napari finds the row of a cell by the column ``index``."""
    for name, value in shown.items():
        if name in table:
            table = table[table[name] == value]
    if "label" not in table:
        return pd.DataFrame()
    return table.assign(index=table["label"]).reset_index(drop=True)


def measured(
    labels: NDArray[Any], info: Segmentation, image: NDArray[Any] | None, pixel_size_um: Mapping[str, float]
) -> pd.DataFrame:
    """Rows of the cells of a label image that `unetbio.segment` returned, or of the classes of a class mask.

    Parameters
    ----------
    labels, info
        As returned.
    image : ndarray, optional
        Grey values ``(C, *shape of labels)``.
    pixel_size_um : mapping
        By axis, if known.
    """
    if info["n_cells"] is None:
        names = info["run"]["class_names"]
        return pd.DataFrame({"label": range(len(names)), "class": names})
    frames, column = _frames(labels, info)
    tables = []
    for number, index in enumerate(frames):
        grey = None if image is None else image[(slice(None), *index)]
        rows = pd.DataFrame(measure(labels[index], grey, pixel_size_um=pixel_size_um))
        confidences = _confidences(info, number, len(frames))
        if len(confidences) == len(rows):
            rows["confidence"] = np.asarray(confidences, np.float64)
        if column:
            rows.insert(0, column, number)
        tables.append(rows)
    return pd.concat(tables, ignore_index=True)


def _frames(labels: NDArray[Any], info: Segmentation) -> tuple[list[tuple[int, ...]], str]:
    """Indices of the parts that have cells of their own, and the column of their number."""
    if info["axes"].startswith("T"):
        return [(t,) for t in range(len(labels))], "t"
    if info["axes"].startswith("Z") and info["settings"].get("z") == "each":
        return [(z,) for z in range(len(labels))], SECTION
    return [()], ""


def _confidences(info: Segmentation, number: int, count: int) -> Sequence[float]:
    """Of the cells of a part, in the order of their ids; empty if they are those of several parts."""
    if len(info["frames"]) != count:
        return ()
    found = info["frames"][number].get("confidences")
    return found if isinstance(found, Sequence) else ()
