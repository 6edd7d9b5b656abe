"""Pictures stored as colours are checked as the channels that each model gets."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from unetbio.checking.folder import check
from unetbio.io import image as images

GREY = np.kron(np.random.default_rng(0).integers(180, 230, (16, 16)), np.ones((20, 20))).astype(np.uint8)
GREY[100:140, 100:140] = 20
OPAQUE = np.full_like(GREY, 255)
COLOUR = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])
GLASS = np.where(COLOUR > 200, 255, COLOUR).astype(np.uint8)


def write(folder: Path, picture: NDArray[np.uint8]) -> Path:
    path = folder / "a.png"
    path.write_bytes(imagecodecs.png_encode(picture))
    return path


def found(path: Path, *models: str, cache: Path | None = None) -> list[tuple[str, str]]:
    return [(finding.code, finding.message) for finding in check(path, models=models, cache=cache, workers=1).findings]


def test_a_grey_picture_is_one_channel_however_it_is_stored(tmp_path: Path) -> None:
    """Dark things on a bright ground, for a model of bright ones."""
    ((code, message),) = expected = found(write(tmp_path, GREY), "nuclei")
    assert (code, message.rsplit(": ", 1)[-1]) == ("odd_intensity", "dark things on a bright ground?")
    for channels in ([GREY] * 3, [*[GREY] * 3, OPAQUE], [GREY, OPAQUE]):
        assert found(write(tmp_path, np.dstack(channels)), "nuclei") == expected


@pytest.mark.parametrize("picture", [COLOUR, GLASS], ids=["colours", "with glass"])
def test_an_opaque_alpha_is_no_channel(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    expected = found(write(tmp_path, picture), "nuclei-histology")
    assert "saturated" not in dict(expected)
    assert found(write(tmp_path, np.dstack([picture, OPAQUE])), "nuclei-histology") == expected


def test_without_a_model_an_opaque_alpha_is_left_out(tmp_path: Path) -> None:
    assert found(write(tmp_path, np.dstack([GLASS, OPAQUE]))) == found(write(tmp_path, GLASS)) == []
    # Of a transparent picture it is looked at: here one pixel alone is transparent.
    transparent = OPAQUE.copy()
    transparent[0, 0] = 0
    assert [code for code, _ in found(write(tmp_path, np.dstack([COLOUR, transparent])))] == ["saturated"]


def test_a_picture_that_is_known_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = write(tmp_path, np.dstack([GREY] * 3 + [OPAQUE])), tmp_path / "check.jsonl"
    models = ("nuclei", "nuclei-histology")
    first = found(path, *models, cache=cache)
    monkeypatch.delattr(images.Image, "read")
    assert found(path, *models, cache=cache) == first
