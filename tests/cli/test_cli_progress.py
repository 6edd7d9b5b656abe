"""The line of progress: finished images, the part of the next, and the time that is left."""

import pytest

from unetbio.cli import progress as module
from unetbio.cli.progress import Progress


def test_the_line_counts_images_and_the_part_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    progress = Progress(4)
    assert progress.text() == "0 of 4 images"
    now = 30.0
    progress.begin(0.5)
    assert progress.text() == "0 of 4 images and 50 % of the next, 0:03:30 left"
    progress.begin(1.0)
    assert progress.text() == "0 of 4 images"
    progress.advance(failed=False)
    progress.advance(failed=True)
    assert progress.text() == "2 of 4 images, 1 failed, 0:00:30 left"
    progress.begin(0.25)
    assert progress.text().startswith("2 of 4 images and 25 % of the next, 1 failed")


def test_the_number_of_images_can_be_unknown() -> None:
    progress = Progress()
    progress.begin(0.5)
    assert progress.text() == "0 images and 50 % of the next"
    progress.advance(failed=False, total=3)
    assert progress.text().startswith("1 of 3 images")
