"""Take the pictures of docs/napari.md: `xvfb-run -s "-screen 0 1280x800x24" python screenshots.py`."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import napari
import tifffile
from qtpy.QtWidgets import QApplication

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / ".test" / "images"
PICTURES = ROOT / "docs" / "images"
SIZE = (1180, 720)


def _wait(is_done: Callable[[], bool], seconds: float = 120) -> None:
    end = monotonic() + seconds
    while not is_done():
        QApplication.processEvents()
        if monotonic() > end:
            raise TimeoutError("the window did not get ready")
        sleep(0.02)


def _window(widget: str) -> tuple[napari.Viewer, Any]:
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    _, shown = viewer.window.add_plugin_dock_widget("napari-unetbio", widget)
    return viewer, shown


def _save(viewer: napari.Viewer, name: str) -> None:
    viewer.window.activate()
    for _ in range(2):
        # The canvas has its size once the window is drawn.
        start = monotonic()
        _wait(lambda start=start: monotonic() - start > 2)
        viewer.reset_view()
    viewer.window.screenshot(str(PICTURES / name), canvas_only=False, flash=False)
    viewer.close()


def segment() -> None:
    """The widget Segment after it has segmented an image."""
    viewer, widget = _window("Segment")
    viewer.add_image(tifffile.imread(IMAGES / "nuclei_1.ome.tif"), name="nuclei_1")
    widget.start()
    _wait(lambda: len(viewer.layers) == 2)
    viewer.layers[-1].selected_label = 7
    _save(viewer, "napari_segment.png")


def results() -> None:
    """The widget Results at an image whose mask was corrected."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "unetbio", "segment", str(IMAGES), "-o", name, "-q", "--overlays", "none"]
        subprocess.run(command, check=True)
        viewer, widget = _window("Results")
        widget.open(Path(name))
        widget.go_to(1)
        labels = viewer.layers["cells"]
        labels.contour = 2
        labels.data = labels.data * (labels.data != 5)
        widget.save()
        _save(viewer, "napari_results.png")


if __name__ == "__main__":
    segment()
    results()
