"""Widget Results: look at the images of a run one after another, correct their masks and save them."""

from pathlib import Path

from napari.layers import Labels, Layer
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QMessageBox, QPushButton, QVBoxLayout, QWidget

from napari_unetbio.layers import ShownRows, image_layers, placed
from napari_unetbio.runs import LoadedImage, list_images, load_image, save_correction, update_tables
from napari_unetbio.work import Task
from unetbio.errors import UnetbioError

__all__ = ["ReviewWidget"]


class ReviewWidget(QWidget):
    """Shows the images of an output folder with their masks.

    Parameters
    ----------
    viewer : napari.Viewer
        Given by napari.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._out = Path()
        self._entries = []
        self._index = -1
        self._loaded: LoadedImage | None = None
        self._layers: list[Layer] = []
        self._rows: ShownRows | None = None
        self._mask: Labels | None = None
        self._saved: NDArray | None = None
        self.task = Task(self)
        self.open_button = QPushButton("Open results ...")
        self.images = QComboBox()
        self.previous_button, self.next_button = QPushButton("Previous"), QPushButton("Next")
        self.save_button = QPushButton("Save corrections")
        self.measure_button = QPushButton("Update tables")
        self.status = QLabel("Open an output folder of unetbio segment.")
        self._build()
        self._connect()
        self._enable()

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.addWidget(self.open_button)
        self.images.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
        column.addWidget(self.images)
        for pair in ((self.previous_button, self.next_button), (self.save_button, self.measure_button)):
            row = QHBoxLayout()
            for button in pair:
                row.addWidget(button)
            column.addLayout(row)
        self.previous_button.setShortcut("Alt+Left")
        self.next_button.setShortcut("Alt+Right")
        self.save_button.setShortcut("Alt+S")
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextSelectableByMouse)
        column.addWidget(self.status)
        column.addStretch()

    def _connect(self) -> None:
        self.open_button.clicked.connect(self._ask_for_folder)
        self.images.activated.connect(self.go_to)
        self.previous_button.clicked.connect(lambda: self.go_to(self._index - 1))
        self.next_button.clicked.connect(lambda: self.go_to(self._index + 1))
        self.save_button.clicked.connect(self.save)
        self.measure_button.clicked.connect(self.measure)
        self.task.done.connect(self._on_measured)
        self.task.failed.connect(self._on_measuring_failed)

    def _enable(self) -> None:
        """Enable the buttons that can be used now."""
        self.previous_button.setEnabled(self._index > 0)
        self.next_button.setEnabled(-1 < self._index < len(self._entries) - 1)
        self.save_button.setEnabled(self._loaded is not None)
        self.measure_button.setEnabled(bool(self._entries) and not self.task.is_running)

    # --- Images -------------------------------------------------------------------------------------------------------

    def _ask_for_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Output folder of unetbio segment", str(self._out))
        if folder:
            self.open(Path(folder))

    def open(self, folder: Path) -> None:
        """Show the first image of an output folder."""
        if not self._may_leave():
            return
        try:
            entries = list_images(folder)
        except UnetbioError as error:
            self.status.setText(str(error))
            return
        self._out, self._entries = folder, entries
        self.images.clear()
        self.images.addItems([_title(entry.path, entry.series) for entry in entries])
        self._show(0)

    def go_to(self, index: int) -> None:
        """Show another image of the folder, after asking what to do with corrections that were not saved."""
        if 0 <= index < len(self._entries) and index != self._index and self._may_leave():
            self._show(index)
        self.images.setCurrentIndex(self._index)

    def _show(self, index: int) -> None:
        self._clear()
        self._index = index
        self.images.setCurrentIndex(index)
        try:
            self._loaded = load_image(self._out, self._entries[index])
        except UnetbioError as error:
            self.status.setText(f"{self._entries[index].path}: {error}")
        else:
            self._add_layers(self._loaded)
            self._say("")
        self._enable()

    def _clear(self) -> None:
        """Remove the layers of the image that was shown."""
        if self._rows is not None:
            self._rows.disconnect()
        for layer in self._layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._layers, self._rows, self._mask, self._saved, self._loaded = [], None, None, None, None

    def _add_layers(self, loaded: LoadedImage) -> None:
        self._layers = [self._viewer.add_image(pixels, **arguments) for pixels, arguments in image_layers(loaded)]
        where = placed(loaded.mask.axes, loaded.mask.pixel_size_um)
        # The brush paints into the array of the layer.
        self._mask = self._viewer.add_labels(loaded.labels.copy(), name="cells", **where)
        self._saved = loaded.labels
        self._layers.append(self._mask)
        self._rows = ShownRows(self._viewer, self._mask, loaded.table, loaded.mask.axes, loaded.numbers)
        self._viewer.reset_view()

    def _say(self, message: str) -> None:
        loaded = self._loaded
        if loaded is None:
            return
        place = f"{self._index + 1} of {len(self._entries)}, {len(loaded.table)} cells"
        missing = "" if loaded.channels else "; its image is not there"
        self.status.setText(f"{place}{missing}{'; ' if message else ''}{message}")

    # --- Corrections --------------------------------------------------------------------------------------------------

    @property
    def is_changed(self) -> bool:
        """Whether the mask has corrections that are not saved."""
        if self._mask is None or self._saved is None:
            return False
        return not (self._mask.data.shape == self._saved.shape and bool((self._mask.data == self._saved).all()))

    def save(self) -> bool:
        """Save the corrections as the mask of the run; returns whether they are saved now."""
        if self._loaded is None or self._mask is None:
            return False
        try:
            changed = save_correction(self._loaded, self._mask.data)
            if changed:
                self._read_again()
        except UnetbioError as error:
            self.status.setText(f"not saved: {error}")
            return False
        self._say("saved; Update tables brings it into the tables of the run" if changed else "nothing has changed")
        return True

    def _read_again(self) -> None:
        """Take the rows of the saved mask."""
        self._loaded = load_image(self._out, self._entries[self._index])
        self._saved = self._loaded.labels
        if self._rows is not None:
            self._rows.table = self._loaded.table
            self._rows.show()

    def _may_leave(self) -> bool:
        """Ask what to do with corrections that are not saved."""
        if not self.is_changed:
            return True
        buttons = QMessageBox.Save | QMessageBox.Discard | QMessageBox.Cancel
        answer = QMessageBox.question(self, "Corrections", "Save the corrections of this mask?", buttons)
        return self.save() if answer == QMessageBox.Save else answer == QMessageBox.Discard

    # --- Tables -------------------------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Measure the masks that changed and write the tables of the run, beside the window."""
        if not self.task.is_running:
            out = self._out
            self.status.setText("measuring ...")
            self.task.start(lambda progress, cancel: update_tables(out))
            self.measure_button.setEnabled(False)

    def _on_measured(self, summary: object) -> None:
        self._say("the tables are up to date")
        self.measure_button.setEnabled(True)

    def _on_measuring_failed(self, message: str) -> None:
        self.status.setText(message)
        self.measure_button.setEnabled(True)


def _title(path: str, series: int | None) -> str:
    return path if series is None else f"{path}, image {series}"
