"""A run to look at, its server, and a Chromium that all tests of the page share."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from chromium import MISSING, Browser, find_chromium, open_browser
from click.testing import CliRunner
from page_client import Page, serve
from tiny_model import three_discs

from unetbio.cli.main import main


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; tests that need it skip where it, or chromedriver, is missing."""
    if find_chromium() is None:
        pytest.skip(MISSING)
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run over x.tif, three cells, and y.tif, of which the model is less sure; a time-lapse of two frames."""
    folder = tmp_path_factory.mktemp("segmented")
    image = three_discs()
    (folder / "images").mkdir()
    tifffile.imwrite(folder / "images" / "x.tif", image)
    tifffile.imwrite(folder / "images" / "y.tif", np.where(image > 100, 130, 10).astype(np.uint8))
    lapse = np.stack([image, np.roll(image, 5, axis=1)])
    tifffile.imwrite(folder / "images" / "z.ome.tif", lapse, ome=True, metadata={"axes": "TYX"})
    line = ("segment", folder / "images", "-o", folder / "results", "-m", tiny_model, "--normalize", "0,200")
    result = CliRunner().invoke(main, [*map(str, line), "--workers", "1", "--overlays", "none"])
    assert result.exit_code == 0, result.stderr
    return folder / "results"


@pytest.fixture
def results(segmented: Path) -> Iterator[Path]:
    """The run, whose files are put back after the test."""
    files = {path: path.read_bytes() for path in segmented.rglob("*") if path.is_file()}
    yield segmented
    for path in segmented.rglob("*"):
        if path.is_file() and path not in files:
            path.unlink()
    for path, content in files.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


@pytest.fixture
def page(results: Path) -> Iterator[Page]:
    with serve(results) as page:
        yield page
