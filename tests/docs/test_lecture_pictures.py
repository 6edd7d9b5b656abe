"""The pictures of the lecture show what the code computes."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from lecture_pictures import FOLDER, PICTURES  # noqa: E402 docs/ is no package


def test_the_page_shows_each_picture() -> None:
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    for name in PICTURES:
        assert f"](images/lecture/{name}.svg)" in page
    assert {path.stem for path in FOLDER.iterdir()} == set(PICTURES)


# The others embed pixels, whose compressed bytes depend on the version of zlib.
@pytest.mark.parametrize("name", ["transposed_convolution", "upsampling", "unet", "mask_rcnn"])
def test_numbers_are_those_of_the_code(name: str) -> None:
    drawn = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert PICTURES[name]() == drawn, "run: python docs/lecture_pictures.py"


def test_the_u_has_the_sizes_of_the_paper() -> None:
    drawn = PICTURES["unet"]()
    assert "U-Net: 23 convolutions, 572 x 572 to 388 x 388" in drawn
    for size in (568, 280, 136, 64, 28, 56, 104, 200, 392):
        assert f">{size}²<" in drawn
