"""Times of the page of ``unetbio view`` in a real Chromium, with one image of 10 000 cells.

    python benchmarks/view.py [--repeats 5] [--picture FILE.png]

First picture: from the address to the first tile of the image. Correction: from the end of the line that is drawn until
the mask is on disk and the page says so. Needs chromium and chromedriver.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import tifffile

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "viewer")]

from chromium import MISSING, Browser, find_chromium, open_browser  # noqa: E402 -- the driver that the tests use
from tiny_model import write_tiny_model  # noqa: E402

from unetbio.viewer.server import open_viewer  # noqa: E402

PITCH, SIDE = 28, 100
PICTURE = "performance.getEntriesByType('resource').some((each) => each.name.includes('/tile/') && each.responseEnd)"
COUNT = "document.getElementById('count').textContent"


def segmented(folder: Path) -> Path:
    """A run over one image of 10 000 discs."""
    rows, columns = np.mgrid[: PITCH * SIDE, : PITCH * SIDE] % PITCH
    image = np.where((rows - 14) ** 2 + (columns - 14) ** 2 <= 81, 200, 10).astype(np.uint8)
    (folder / "images").mkdir()
    tifffile.imwrite(folder / "images" / "many.tif", image)
    model = write_tiny_model(folder / "tiny.safetensors")
    line = ["segment", folder / "images", "-o", folder / "results", "-m", model, "--normalize", "0,200", "-q"]
    subprocess.run([sys.executable, "-m", "unetbio", *line, "--diameter", "model", "--overlays", "none"], check=True)
    return folder / "results"


def first_picture(browser: Browser, address: str) -> float:
    """Seconds until the first tile of the image is there."""
    begin = time.perf_counter()
    browser.open(address)
    browser.wait(PICTURE)
    seconds = time.perf_counter() - begin
    browser.wait(f"{COUNT} !== ''")
    return seconds


def correction(browser: Browser, number: int) -> float:
    """Seconds until a cell that is drawn between four others is saved."""
    corner = PITCH * (3 + 2 * number)
    browser.run("window.unetbioView.lookAt(arguments[0], arguments[1], 200)", corner, corner)
    browser.press("d")
    script = (
        "const view = window.unetbioView, box = document.getElementById('cells').getBoundingClientRect();"
        "return arguments[0].map(([x, y]) => [box.left + view.toScreen(x, y).x, box.top + view.toScreen(x, y).y]);"
    )
    outline = [(corner + x, corner + y) for x, y in ((-4, -4), (4, -4), (4, 4), (-4, 4))]
    wanted = int(browser.run(f"return {COUNT}")) + 1
    browser.run("document.getElementById('saved').textContent = ''")
    browser.drag(browser.run(script, outline))
    seconds = browser.wait("document.getElementById('saved').textContent === 'saved'")
    browser.wait(f"{COUNT} === '{wanted}'")
    return seconds


def measure(browser: Browser, results: Path, repeats: int, picture: Path | None) -> None:
    with open_viewer(results) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, args=[0.05], daemon=True)
        thread.start()
        pictures = [first_picture(browser, viewer.address) for _ in range(repeats)]
        corrections = [correction(browser, number) for number in range(repeats)]
        if picture:
            browser.picture(picture)
        viewer.shutdown()
        thread.join()
    for name, seconds in (("first picture", pictures), ("correction saved", corrections)):
        print(f"{name}: {', '.join(f'{each:.2f}' for each in seconds)} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--picture", type=Path, help="screenshot at the end")
    arguments = parser.parse_args()
    if find_chromium() is None:
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        measure(browser, segmented(Path(folder)), arguments.repeats, arguments.picture)


if __name__ == "__main__":
    main()
