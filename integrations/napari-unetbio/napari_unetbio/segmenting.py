"""Widget Segment: a model, the layers of its channels, a part of them; run and stop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Shapes
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QWidget,
)

import unetbio
from napari_unetbio.layers import ShownRows, measured
from napari_unetbio.parts import Box, Part, Planes, cut
from napari_unetbio.work import FULL, Task
from unetbio.errors import ImageError, UnetbioError, UsageError
from unetbio.models import SUFFIX, shipped_models
from unetbio.models.model_file import read_info
from unetbio.preprocessing.prepare import complete_pixel_size
from unetbio.settings.options import options_of
from unetbio.settings.segmentation import Settings

__all__ = ["SegmentWidget"]

WHOLE, VISIBLE, RECTANGLE = "whole plane", "visible part", "rectangle of a Shapes layer"
PLANES: Mapping[str, Planes] = {
    "shown plane": "shown",
    "each section (Z)": "sections",
    "volume (Z)": "volume",
    "each time (T)": "times",
}
OTHER_MODEL = "model file ..."
NUMBERS = {"threshold": "model's", "min_area": "model's"}
_PRECISION = options_of(Settings)["precision"]


class SegmentWidget(QWidget):
    """Segments layers of an open viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        Given by napari.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._followed: list[ShownRows] = []
        self.task = Task(self)
        self.model = _choices([*shipped_models(), OTHER_MODEL])
        self._chosen_model = self.model.currentText()
        self.channels: list[QComboBox] = []
        self._listed: list[Image] = []
        self.planes = _choices(PLANES)
        self.area = _choices([WHOLE, VISIBLE, RECTANGLE])
        self.diameter = QLineEdit()
        self.diameter.setPlaceholderText("auto, or pixels")
        self.numbers = {name: QLineEdit() for name in NUMBERS}
        self.precision = _choices([_PRECISION.unset, *_PRECISION.words])
        self.precision.setToolTip(_PRECISION.help)
        self.start_button, self.stop_button = QPushButton("Segment"), QPushButton("Stop")
        self.bar = QProgressBar()
        self.status = QLabel()
        self._build()
        self._connect()
        self._on_model(self.model.currentText())

    def _build(self) -> None:
        self._form = QFormLayout(self)
        self._form.addRow("Model", self.model)
        self._first_channel_row = self._form.rowCount()
        self._form.addRow("Planes", self.planes)
        self._form.addRow("Part", self.area)
        self._form.addRow("Diameter", self.diameter)
        for (name, field), hint in zip(self.numbers.items(), NUMBERS.values(), strict=True):
            field.setPlaceholderText(hint)
            self._form.addRow(name.capitalize().replace("_", " "), field)
        self._form.addRow("Precision", self.precision)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start_button)
        buttons.addWidget(self.stop_button)
        self.stop_button.setEnabled(False)
        self._form.addRow(buttons)
        self.bar.setRange(0, FULL)
        self._form.addRow(self.bar)
        self.status.setWordWrap(True)
        self._form.addRow(self.status)

    def _connect(self) -> None:
        self.model.textActivated.connect(self._on_model)
        self.start_button.clicked.connect(self.start)
        self.stop_button.clicked.connect(self.task.stop)
        self.task.progressed.connect(self.bar.setValue)
        self.task.done.connect(self._on_done)
        self.task.failed.connect(self._on_failed)
        self.task.stopped.connect(self._on_stopped)
        for event in (self._viewer.layers.events.inserted, self._viewer.layers.events.removed):
            event.connect(self._list_layers)

    # --- What is chosen -----------------------------------------------------------------------------------------------

    def choose_model(self, path: str) -> None:
        """Choose a model file; one that cannot be read is refused with the reason."""
        if self.model.findText(path) < 0:
            self.model.insertItem(self.model.count() - 1, path)
        self.model.setCurrentText(path)
        self._on_model(path)

    def _on_model(self, name: str) -> None:
        if name == OTHER_MODEL:
            path, _ = QFileDialog.getOpenFileName(self, "Model file", str(Path.home()), f"Models (*{SUFFIX})")
            self.choose_model(path or self._chosen_model)
            return
        try:
            names = read_info(name).channels
        except UnetbioError as error:
            self.model.removeItem(self.model.findText(name))
            self.model.setCurrentText(self._chosen_model)
            self.status.setText(str(error))
            return
        self._chosen_model = name
        self._ask_for_channels(names)

    def _ask_for_channels(self, names: tuple[str, ...]) -> None:
        """One choice of a layer for each channel of the model."""
        for _ in self.channels:
            self._form.removeRow(self._first_channel_row)
        self.channels = [QComboBox() for _ in names]
        for number, (name, choice) in enumerate(zip(names, self.channels, strict=True)):
            title = name or (f"Channel {number}" if len(names) > 1 else "Image")
            self._form.insertRow(self._first_channel_row + number, title, choice)
        self._list_layers()

    def _list_layers(self, event: object = None) -> None:
        before = [self._chosen_layer(choice) for choice in self.channels]
        self._listed = self._images()
        for number, choice in enumerate(self.channels):
            choice.clear()
            choice.addItems([layer.name for layer in self._listed])
            layer = before[number]
            is_there = layer is not None and layer in self._listed
            choice.setCurrentIndex(self._listed.index(layer) if is_there else min(number, len(self._listed) - 1))

    def _chosen_layer(self, choice: QComboBox) -> Image | None:
        return self._listed[choice.currentIndex()] if choice.currentIndex() >= 0 else None

    def _images(self) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _chosen_layers(self) -> list[Image]:
        # Layers may be called otherwise since they were listed.
        self._list_layers()
        chosen = [self._chosen_layer(choice) for choice in self.channels]
        layers = [layer for layer in chosen if layer is not None]
        if not layers:
            raise UsageError("no layer is chosen: open an image")
        return layers[:1] if layers[0].rgb else layers

    def _part(self, layers: list[Image]) -> Part:
        first = layers[0]
        if self._viewer.dims.ndisplay != 2 or list(self._viewer.dims.displayed) != sorted(self._viewer.dims.displayed):
            raise UsageError("show the image as planes of rows and columns: 2D, without transposed axes")
        step = [round(value) for value in first.world_to_data(self._viewer.dims.point)]
        return cut(layers, PLANES[self.planes.currentText()], step, self._box(first))

    def _box(self, layer: Image) -> Box | None:
        area = self.area.currentText()
        if area == VISIBLE:
            return _box_of(layer.corner_pixels * _downsampling(layer))
        if area == RECTANGLE:
            return _box_of(self._rectangle(layer))
        return None

    def _rectangle(self, layer: Image) -> NDArray[Any]:
        shapes = [one for one in self._viewer.layers if isinstance(one, Shapes) and len(one.data)]
        if not shapes:
            raise UsageError("draw a rectangle in a Shapes layer first")
        top = shapes[-1]
        number = max(top.selected_data, default=len(top.data) - 1)
        corners = [layer.world_to_data(top.data_to_world(corner)) for corner in top.data[number]]
        return np.array([np.min(corners, axis=0), np.max(corners, axis=0)])

    def _options(self, layer: Image) -> dict[str, Any]:
        """Options of `unetbio.segment` that are given."""
        options: dict[str, Any] = {}
        if text := self.diameter.text().strip():
            options["diameter"] = text if text in ("auto", "model") else _number("Diameter", text)
        for name, field in self.numbers.items():
            if text := field.text().strip():
                options[name] = _number(name.capitalize().replace("_", " "), text)
        if (precision := self.precision.currentText()) != _PRECISION.unset:
            options[_PRECISION.key] = precision
        if size := _pixel_size(layer, PLANES[self.planes.currentText()]):
            options["pixel_size"] = size
        return options

    # --- Work ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Segment what is chosen, beside the window."""
        if self.task.is_running:
            return
        try:
            layers = self._chosen_layers()
            part = self._part(layers)
            options = self._options(layers[0]) | part.options
        except (UsageError, ImageError) as error:
            self.status.setText(str(error))
            return
        layer, model, size = layers[0], self.model.currentText(), options.get("pixel_size")
        self._set_running(True, "segmenting ...")
        sizes = complete_pixel_size(size, {}) if size else {}

        def work(progress: Any, cancel: Any) -> object:
            labels, info = unetbio.segment(
                part.pixels, model, axes=part.axes, progress=progress, cancel=cancel, **options
            )
            return layer, part, labels, info, measured(labels, info, _grey(part, labels), sizes)

        self.task.start(work)

    def _set_running(self, is_running: bool, message: str) -> None:
        self.start_button.setEnabled(not is_running)
        self.stop_button.setEnabled(is_running)
        self.bar.setValue(0)
        self.status.setText(message)

    def _on_failed(self, message: str) -> None:
        self._set_running(False, message)

    def _on_stopped(self) -> None:
        self._set_running(False, "stopped: nothing was changed")

    def _on_done(self, result: Any) -> None:
        layer, part, labels, info, table = result
        # A plane of a stack is shown at its own step.
        data = np.expand_dims(labels, tuple(range(len(part.corner) - labels.ndim)))
        added = self._viewer.add_labels(data, name=f"{layer.name} {info['model']['name']}", **_place(layer, part))
        added.metadata["unetbio"] = info
        numbers = {axis: range(size) for axis, size in zip(info["axes"], labels.shape, strict=True)}
        self._followed.append(ShownRows(self._viewer, added, table, info["axes"], numbers))
        count = "classes" if info["n_cells"] is None else f"{info['n_cells']} cells"
        warnings = sorted({code for frame in info["frames"] for code in frame["warnings"]})
        self._set_running(False, "; ".join([count, *warnings]))
        self.bar.setValue(FULL)


def _choices(names: Any) -> QComboBox:
    box = QComboBox()
    box.addItems(list(names))
    return box


def _number(title: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{title} {text}: give a number, or leave the field empty") from error


def _box_of(corners: NDArray[Any]) -> Box:
    """Rows and columns between two corners."""
    (top, left), (bottom, right) = corners[:, -2:]
    return slice(int(np.floor(top)), int(np.ceil(bottom))), slice(int(np.floor(left)), int(np.ceil(right)))


def _downsampling(layer: Image) -> NDArray[Any]:
    """Pixels of the full resolution for one of the level that is shown."""
    return layer.downsample_factors[layer.data_level] if layer.multiscale else np.ones(1)


def _pixel_size(layer: Image, planes: Planes) -> float | tuple[float, float] | None:
    """Micrometres along a row, of volumes the distance of sections first; None unless the units are a length."""
    sizes = [_micrometres(scale, unit) for scale, unit in zip(layer.scale, layer.units, strict=True)]
    row = sizes[-1]
    if row is None or sizes[-2] is None or not np.isclose(row, sizes[-2], rtol=0.01):
        return None
    distance = sizes[-3] if planes == "volume" else None
    return row if distance is None else (distance, row)


def _micrometres(scale: float, unit: Any) -> float | None:
    return float((scale * unit).to("um").magnitude) if unit.dimensionality == {"[length]": 1} else None


def _place(layer: Image, part: Part) -> dict[str, Any]:
    """Scale, units and translation of the label image of a part of a layer."""
    corner = zip(layer.translate, layer.scale, part.corner, strict=True)
    translate = [start + size * index for start, size, index in corner]
    return {"scale": layer.scale, "units": layer.units, "translate": translate}


def _grey(part: Part, labels: NDArray[Any]) -> NDArray[Any] | None:
    """Grey values ``(C, *shape of labels)``."""
    pixels = part.pixels
    if pixels.ndim == labels.ndim:
        return pixels[np.newaxis]
    return pixels if part.axes.startswith("C") else np.moveaxis(pixels, -1, 0)
