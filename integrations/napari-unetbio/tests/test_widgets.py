"""The two widgets in a real window."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import unetbio

if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    pytest.skip("the window needs a display: run with xvfb-run, as make napari does", allow_module_level=True)

from napari.viewer import Viewer
from qtpy.QtWidgets import QMessageBox

from napari_unetbio.reviewing import ReviewWidget
from napari_unetbio.segmenting import RECTANGLE, VISIBLE, SegmentWidget

WAIT_MS = 60_000
MakeViewer = Callable[..., Viewer]


@pytest.fixture
def viewer(make_napari_viewer: MakeViewer) -> Viewer:
    return make_napari_viewer()


@pytest.fixture
def segmenting(viewer: Viewer, model: Path) -> SegmentWidget:
    """The widget, docked as napari does it, with a model whose answer is known."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-unetbio", "Segment")
    widget.choose_model(str(model))
    widget.diameter.setText("model")
    return widget


@pytest.fixture
def reviewing(viewer: Viewer) -> ReviewWidget:
    _, widget = viewer.window.add_plugin_dock_widget("napari-unetbio", "Results")
    return widget


def _segment(qtbot: Any, widget: SegmentWidget) -> Any:
    with qtbot.waitSignal(widget.task.done, timeout=WAIT_MS):
        widget.start_button.click()
    return widget._viewer.layers[-1]


# --- Segment ----------------------------------------------------------------------------------------------------------


def test_a_layer_is_segmented_as_the_command_does(
    qtbot: Any, viewer: Viewer, segmenting: SegmentWidget, discs: np.ndarray, model: Path
) -> None:
    image = viewer.add_image(discs, name="nuclei", scale=(2, 2), translate=(10, 20))
    labels = _segment(qtbot, segmenting)
    expected, _ = unetbio.segment(discs, model, diameter="model")
    assert (labels.data == expected).all()
    assert labels.features["index"].tolist() == [1, 2, 3]
    assert labels.features["confidence"].between(0.9, 1).all()
    assert (tuple(labels.scale), tuple(labels.translate)) == (tuple(image.scale), tuple(image.translate))
    assert segmenting.status.text() == "3 cells"
    assert segmenting.bar.value() == segmenting.bar.maximum()


def test_the_precision_is_that_which_is_chosen(
    qtbot: Any, viewer: Viewer, segmenting: SegmentWidget, discs: np.ndarray
) -> None:
    viewer.add_image(discs)
    segmenting.precision.setCurrentText("bfloat16")
    labels = _segment(qtbot, segmenting)
    assert labels.metadata["unetbio"]["run"]["precision"] == "bfloat16"
    assert "not_exact:bfloat16" in segmenting.status.text()


def test_a_rectangle_is_segmented_in_its_place(
    qtbot: Any, viewer: Viewer, segmenting: SegmentWidget, discs: np.ndarray
) -> None:
    viewer.add_image(discs, scale=(0.5, 0.5))
    viewer.add_shapes([[[15, 0], [15, 40], [32, 40], [32, 0]]], shape_type="rectangle")
    segmenting.area.setCurrentText(RECTANGLE)
    labels = _segment(qtbot, segmenting)
    assert labels.data.shape == (34, 80)
    assert labels.data.max() == 1
    assert tuple(labels.data_to_world((0, 0))) == (15, 0)


def test_the_visible_part_is_segmented(
    qtbot: Any, viewer: Viewer, segmenting: SegmentWidget, discs: np.ndarray
) -> None:
    layer = viewer.add_image(discs)
    layer.corner_pixels = np.array([[5, 5], [30, 30]])
    segmenting.area.setCurrentText(VISIBLE)
    labels = _segment(qtbot, segmenting)
    assert labels.data.shape == (25, 25)
    assert labels.data.max() == 1


def test_rows_follow_the_slider_of_a_time_lapse(
    qtbot: Any, viewer: Viewer, segmenting: SegmentWidget, discs: np.ndarray
) -> None:
    one = np.where(np.arange(80) < 30, discs, 10).astype(np.uint8)
    viewer.add_image(np.stack([discs, one]))
    segmenting.planes.setCurrentText("each time (T)")
    labels = _segment(qtbot, segmenting)
    assert labels.data.shape == (2, 64, 80)
    for frame, cells in ((0, 3), (1, labels.data[1].max())):
        viewer.dims.set_current_step(0, frame)
        assert len(labels.features) == cells


def test_only_the_shown_section_is_segmented(
    qtbot: Any, viewer: Viewer, segmenting: SegmentWidget, discs: np.ndarray
) -> None:
    viewer.add_image(np.stack([np.full_like(discs, 10), discs]))
    viewer.dims.set_current_step(0, 1)
    labels = _segment(qtbot, segmenting)
    assert labels.data.shape == (1, 64, 80)
    assert labels.data.max() == len(labels.features) == 3
    assert tuple(labels.data_to_world((0, 0, 0))) == (1, 0, 0)


def test_each_channel_of_a_model_is_a_layer(
    qtbot: Any, viewer: Viewer, segmenting: SegmentWidget, discs: np.ndarray, model_of_two: Path
) -> None:
    viewer.add_image(discs, name="first")
    viewer.add_image(np.zeros_like(discs), name="second")
    segmenting.choose_model(str(model_of_two))
    assert [choice.currentText() for choice in segmenting.channels] == ["first", "second"]
    assert _segment(qtbot, segmenting).data.max() == 3


def test_a_chosen_layer_may_get_another_name(
    qtbot: Any, viewer: Viewer, segmenting: SegmentWidget, discs: np.ndarray
) -> None:
    viewer.add_image(np.zeros_like(discs), name="empty")
    chosen = viewer.add_image(discs, name="nuclei")
    (choice,) = segmenting.channels
    choice.setCurrentText("nuclei")
    chosen.name = "DAPI"
    assert _segment(qtbot, segmenting).data.max() == 3
    assert choice.currentText() == "DAPI"


def test_stop_ends_the_work_and_adds_nothing(
    qtbot: Any, viewer: Viewer, segmenting: SegmentWidget, discs: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_image(discs)
    pressed, real = threading.Event(), unetbio.segment

    def slow(*args: Any, **options: Any) -> object:
        pressed.wait(60)
        return real(*args, **options)

    monkeypatch.setattr(unetbio, "segment", slow)
    segmenting.start_button.click()
    assert segmenting.stop_button.isEnabled()
    assert not segmenting.start_button.isEnabled()
    with qtbot.waitSignal(segmenting.task.stopped, timeout=WAIT_MS):
        segmenting.stop_button.click()
        pressed.set()
    assert len(viewer.layers) == 1
    assert segmenting.status.text().startswith("stopped")
    assert segmenting.start_button.isEnabled()


def test_refusals_say_what_to_do(
    qtbot: Any, viewer: Viewer, segmenting: SegmentWidget, discs: np.ndarray, model: Path, tmp_path: Path
) -> None:
    segmenting.start_button.click()
    assert "open an image" in segmenting.status.text()
    viewer.add_image(discs)
    segmenting.diameter.setText("large")
    segmenting.start_button.click()
    assert "give a number" in segmenting.status.text()
    segmenting.diameter.setText("-1")
    with qtbot.waitSignal(segmenting.task.failed, timeout=WAIT_MS):
        segmenting.start_button.click()
    assert "diameter" in segmenting.status.text()
    segmenting.area.setCurrentText(RECTANGLE)
    segmenting.start_button.click()
    assert "draw a rectangle" in segmenting.status.text()
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    segmenting.choose_model(str(tmp_path / "other.safetensors"))
    assert "not a model file" in segmenting.status.text()
    assert segmenting.model.currentText() == str(model)


# --- Results ----------------------------------------------------------------------------------------------------------


def test_images_are_shown_one_after_another(viewer: Viewer, reviewing: ReviewWidget, results: Path) -> None:
    reviewing.open(results)
    assert [layer.name for layer in viewer.layers] == ["channel 0", "cells"]
    assert viewer.layers["cells"].features["area_px"].gt(0).all()
    assert tuple(viewer.layers["cells"].scale) == (0.5, 0.5)
    assert not reviewing.previous_button.isEnabled()
    reviewing.next_button.click()
    reviewing.next_button.click()
    assert reviewing.images.currentText() == "c.ome.tif"
    assert not reviewing.next_button.isEnabled()
    labels = viewer.layers["cells"]
    for frame, cells in ((0, 0), (1, 3)):
        viewer.dims.set_current_step(0, frame)
        assert len(labels.features) == cells
    reviewing.previous_button.click()
    assert reviewing.status.text().startswith("2 of 3")
    assert len(viewer.layers) == 2


def test_a_correction_is_saved_and_measured(qtbot: Any, viewer: Viewer, reviewing: ReviewWidget, results: Path) -> None:
    reviewing.open(results)
    labels = viewer.layers["cells"]
    labels.fill((15, 15), 0)
    labels.selected_label = 9
    labels.brush_size = 5
    labels.paint((58, 70), 9)
    assert reviewing.is_changed
    reviewing.save_button.click()
    assert not reviewing.is_changed
    assert set(np.unique(tifffile.imread(results / "a_labels.ome.tif"))) == {0, 2, 3, 9}
    assert labels.features["index"].tolist() == [2, 3, 9]
    with qtbot.waitSignal(reviewing.task.done, timeout=WAIT_MS):
        reviewing.measure_button.click()
    assert "a.ome.tif" in (results / "cells.csv").read_text()
    assert "edited" in (results / "summary.csv").read_text()


@pytest.mark.parametrize(
    ("answer", "shown", "cells"),
    [(QMessageBox.Save, "b.ome.tif", 2), (QMessageBox.Discard, "b.ome.tif", 3), (QMessageBox.Cancel, "a.ome.tif", 3)],
)
def test_leaving_an_image_asks_about_corrections(
    viewer: Viewer,
    reviewing: ReviewWidget,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: QMessageBox.StandardButton,
    shown: str,
    cells: int,
) -> None:
    monkeypatch.setattr(QMessageBox, "question", lambda *args: answer)
    reviewing.open(results)
    viewer.layers["cells"].fill((15, 15), 0)
    reviewing.next_button.click()
    assert reviewing.images.currentText() == shown
    assert len(np.unique(tifffile.imread(results / "a_labels.ome.tif"))) == cells + 1
    # The window may close now: nothing is left to ask.
    monkeypatch.setattr(QMessageBox, "question", lambda *args: QMessageBox.Discard)


def test_folders_and_masks_that_cannot_be_read_are_said(
    viewer: Viewer, reviewing: ReviewWidget, results: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    reviewing.open(tmp_path / "empty")
    assert "holds no label images" in reviewing.status.text()
    (results / "b_labels.ome.tif").write_bytes(b"II*\0 cut")
    reviewing.open(results)
    reviewing.next_button.click()
    assert reviewing.status.text().startswith("b.ome.tif: ")
    assert not reviewing.save_button.isEnabled()
    reviewing.next_button.click()
    assert "cells" in viewer.layers


def test_the_window_opens_a_mask_with_its_image(viewer: Viewer, results: Path) -> None:
    viewer.open(str(results / "a_labels.ome.tif"), plugin="napari-unetbio")
    assert [type(layer).__name__ for layer in viewer.layers] == ["Image", "Labels"]
    assert len(viewer.layers[-1].features) == 3
