"""Pictures of the page of ``unetbio view`` in a real Chromium: an image whole, and a part of it.

    python benchmarks/view_pictures.py RESULTS docs/images/slide [--image 0] [--at X,Y] [--across 400]

RESULTS is what ``unetbio segment`` wrote. Writes slide_whole.jpg and slide_cells.jpg, and prints how long each part of
the page took. Needs chromium and chromedriver.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import imagecodecs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "viewer"))

from chromium import MISSING, Browser, find_chromium, open_browser

from unetbio.viewer.server import open_viewer

LIMIT_SECONDS = 1800
"""A slide of 30 000 x 30 000 px is read, and its cells are measured, when the page asks for them."""

JPEG_QUALITY = 80
COUNT = "document.getElementById('count').textContent"
LOOK = (
    "window.unetbioView.lookAt(...arguments);"
    "return new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
)
SEEN = "window.unetbioView.isWhole()"


def write_picture(browser: Browser, path: Path) -> None:
    """The window as it is, as JPEG."""
    with tempfile.TemporaryDirectory() as folder:
        browser.picture(Path(folder, "window.png"))
        window = imagecodecs.png_decode(Path(folder, "window.png").read_bytes())
    path.write_bytes(imagecodecs.jpeg8_encode(window[..., :3].copy(), level=JPEG_QUALITY))


def timed(browser: Browser, what: str, condition: str) -> None:
    begin = time.perf_counter()
    browser.wait(condition, LIMIT_SECONDS)
    print(f"{what}: {time.perf_counter() - begin:.1f} s", flush=True)


def take_pictures(browser: Browser, address: str, arguments: argparse.Namespace) -> None:
    browser.open(address)
    timed(browser, "list of images", "document.querySelector('#images button')")
    if arguments.image:
        browser.run("document.querySelectorAll('#images button')[arguments[0]].click()", arguments.image)
    timed(browser, "picture of the whole", SEEN)
    timed(browser, "rows of the cells", f"{COUNT} !== ''")
    print(f"{browser.run(f'return {COUNT}')} cells")
    timed(browser, "outlines in their colours", SEEN)
    write_picture(browser, Path(f"{arguments.pictures}_whole.jpg"))
    browser.run(LOOK, *arguments.at, arguments.across)
    timed(browser, "picture of the part", SEEN)
    write_picture(browser, Path(f"{arguments.pictures}_cells.jpg"))
    if errors := browser.errors():
        sys.exit("\n".join(errors))


def place(text: str) -> tuple[int, int]:
    x, y = text.split(",")
    return int(x), int(y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("pictures", type=Path, help="beginning of the names of the pictures")
    parser.add_argument("--image", type=int, default=0, help="number of the image in the list of the page")
    parser.add_argument("--at", type=place, default=(1000, 1000), metavar="X,Y", help="middle of the part")
    parser.add_argument("--across", type=int, default=400, help="pixels along the shorter side of the part")
    arguments = parser.parse_args()
    if find_chromium() is None:
        sys.exit(MISSING)
    with open_browser() as browser, open_viewer(arguments.results, 0) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, args=[0.05], daemon=True)
        thread.start()
        try:
            take_pictures(browser, viewer.address, arguments)
        finally:
            viewer.shutdown()
            thread.join()


if __name__ == "__main__":
    main()
