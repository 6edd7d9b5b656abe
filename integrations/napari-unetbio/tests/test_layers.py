"""Rows of cells and classes as features, without a window."""

from typing import Any

import numpy as np

from napari_unetbio.layers import features, measured, placed

LABELS = np.zeros((2, 6, 8), np.uint16)
LABELS[0, 1:3, 1:4] = 1
LABELS[1, 1:3, 1:4] = 1
LABELS[1, 4:, 5:] = 2


def _info(axes: str, **settings: Any) -> Any:
    """As `unetbio.segment` returns it."""
    frames = [{"confidences": (0.5,)}, {"confidences": (0.25, 0.75)}]
    return {"axes": axes, "n_cells": 3, "settings": settings, "frames": frames}


def test_frames_have_rows_of_their_own() -> None:
    table = measured(LABELS, _info("TYX"), LABELS[None], {"Y": 0.5, "X": 0.5})
    assert table["t"].tolist() == [0, 1, 1]
    assert table["label"].tolist() == [1, 1, 2]
    assert table["confidence"].tolist() == [0.5, 0.25, 0.75]
    assert table["area_um2"].tolist() == [1.5, 1.5, 1.5]
    assert features(table, {"t": 1})["index"].tolist() == [1, 2]
    assert features(table, {"t": 0})["intensity_mean_0"].tolist() == [1.0]


def test_sections_are_planes_and_volumes_are_not() -> None:
    sections = measured(LABELS, _info("ZYX", z="each"), None, {})
    assert (sections["z"].tolist(), "area_px" in sections) == ([0, 1, 1], True)
    volume = measured(LABELS, _info("ZYX", z=None), None, {})
    assert volume["volume_px"].tolist() == [12, 6]
    # A record for each frame says nothing of a volume.
    assert "confidence" not in volume


def test_class_masks_have_the_names_of_their_classes() -> None:
    table = measured(LABELS, {"n_cells": None, "run": {"class_names": ["background", "cell"]}}, None, {})  # type: ignore
    assert features(table, {})["class"].tolist() == ["background", "cell"]


def test_layers_have_units_where_the_pixel_size_is_known() -> None:
    assert placed("YX", {}) == {}
    expected = {"scale": [1, 0.5, 0.5], "units": ["pixel", "micrometer", "micrometer"]}
    assert placed("TYX", {"Y": 0.5, "X": 0.5}) == expected
