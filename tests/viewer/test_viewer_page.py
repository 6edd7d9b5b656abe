"""The page of ``unetbio view`` in a real Chromium: ten thousand cells, corrected by hand, saved and measured."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tifffile
from chromium import Browser
from click.testing import CliRunner

from unetbio.cli.main import main
from unetbio.io import read_labels
from unetbio.provenance import CELL_CLASSES, read_provenance, write_provenance
from unetbio.viewer.server import Viewer, open_viewer

pytestmark = pytest.mark.slow

PITCH, SIDE = 14, 100
SIZE = PITCH * SIDE
# The bars of issue 17 are 2 s and .5 s; machines that run tests do other work beside.
PICTURE_SECONDS, SAVE_SECONDS = 20, 10

ROWS = "document.getElementById('count').textContent !== ''"
SAVED = "document.getElementById('saved').textContent === 'saved'"
PICTURE = "performance.getEntriesByType('resource').some((each) => each.name.includes('/tile/') && each.responseEnd)"


def hold(browser: Browser, condition: str) -> None:
    """Let a request whose ``path`` and ``options`` fit wait until ``window.release()``."""
    browser.run(
        "const ask = window.fetch, hold = (...request) => new Promise((answer) => {"
        "  window.release = () => { window.fetch = ask; answer(ask(...request)); }; });"
        f"window.fetch = (path, options) => ({condition} ? hold : ask)(path, options);"
    )


def run(*line: object) -> None:
    result = CliRunner().invoke(main, [str(word) for word in line])
    assert result.exit_code == 0, result.stderr


@pytest.fixture(scope="module")
def many(browser: Browser, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run over one image of 10 000 cells."""
    folder = tmp_path_factory.mktemp("many")
    rows, columns = np.mgrid[:SIZE, :SIZE] % PITCH
    radius = 3 + (np.mgrid[:SIZE, :SIZE] // PITCH).sum(axis=0) % 3
    image = np.where((rows - 7) ** 2 + (columns - 7) ** 2 <= radius**2, 200, 10).astype(np.uint8)
    (folder / "images").mkdir()
    tifffile.imwrite(folder / "images" / "many.tif", image)
    line = ("segment", folder / "images", "-o", folder / "results", "-m", tiny_model, "--normalize", "0,200")
    run(*line, "--diameter", "model", "--workers", "1", "--overlays", "none")
    return folder / "results"


@pytest.fixture
def two(browser: Browser, tmp_path: Path, tiny_model: Path) -> Path:
    """A run over two images."""
    rows, columns = np.mgrid[:64, :64]
    (tmp_path / "images").mkdir()
    for name, value in (("a.tif", 130), ("b.tif", 200)):
        image = np.where((rows - 20) ** 2 + (columns - 20) ** 2 <= 40, value, 10).astype(np.uint8)
        tifffile.imwrite(tmp_path / "images" / name, image)
    line = ("segment", tmp_path / "images", "-o", tmp_path / "results", "-m", tiny_model, "--normalize", "0,200")
    run(*line, "--diameter", "model", "--workers", "1", "--overlays", "none")
    return tmp_path / "results"


@contextlib.contextmanager
def served(results: Path) -> Iterator[Viewer]:
    with open_viewer(results) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, args=[0.05], daemon=True)
        thread.start()
        yield viewer
        viewer.shutdown()
        thread.join()


def on_screen(browser: Browser, x: float, y: float) -> tuple[float, float]:
    """Place in the window of a pixel of the image."""
    script = (
        "const view = window.unetbioView, point = view.toScreen(arguments[0], arguments[1]);"
        "const box = document.getElementById('cells').getBoundingClientRect();"
        "return [box.left + point.x, box.top + point.y];"
    )
    left, top = browser.run(script, x, y)
    return left, top


def text(browser: Browser, name: str) -> str:
    found: str = browser.run("return document.getElementById(arguments[0]).textContent", name)
    return found


def look_at(browser: Browser, x: float, y: float) -> None:
    """Zoom in on a pixel of the image."""
    browser.run("window.unetbioView.lookAt(arguments[0], arguments[1], 200)", x, y)


def test_ten_thousand_cells_are_drawn_corrected_saved_and_measured(browser: Browser, many: Path) -> None:
    path = many / "many_labels.ome.tif"
    before = read_labels(path)
    assert before.max() == SIDE**2
    with served(many) as viewer:
        browser.open(viewer.address)
        assert browser.wait(PICTURE) < PICTURE_SECONDS
        browser.wait(ROWS)
        assert text(browser, "count") == str(SIDE**2)

        # A cell over the corner of four others, which keep their pixels.
        look_at(browser, 98, 98)
        browser.press("d")
        corners = [(92, 92), (104, 92), (104, 104), (92, 104)]
        browser.drag([on_screen(browser, x, y) for x, y in corners])
        assert browser.wait(SAVED) < SAVE_SECONDS
        browser.wait(f"document.getElementById('count').textContent === '{SIDE**2 + 1}'")
        drawn = read_labels(path)
        new = drawn == SIDE**2 + 1
        assert 20 < new.sum() <= 13 * 13
        np.testing.assert_array_equal(np.where(new, 0, drawn), before)

        # Click, Delete, and a line across a cell.
        browser.press("Escape")
        browser.drag([on_screen(browser, 91.5, 91.5)])
        browser.wait("document.getElementById('rows').textContent.startsWith('Cell ')")
        chosen = int(before[91, 91])
        assert text(browser, "rows").startswith(f"Cell {chosen}")
        browser.press("Delete")
        browser.wait(f"document.getElementById('count').textContent === '{SIDE**2}'")
        browser.press("s")
        browser.drag([on_screen(browser, 105.5, y) for y in (84, 92, 98)])
        browser.wait(f"document.getElementById('count').textContent === '{SIDE**2 + 1}'")
        browser.press("z")
        browser.wait(f"document.getElementById('count').textContent === '{SIDE**2}'")
        assert browser.errors() == []

        # The page again: it shows what was saved.
        browser.open(viewer.address)
        browser.wait(ROWS)
        assert text(browser, "count") == str(SIDE**2)
        now = read_labels(path)
        np.testing.assert_array_equal(now, np.where(drawn == chosen, 0, drawn))
    run("measure", many)
    table = pl.read_csv(many / "cells.csv")
    assert len(table) == SIDE**2
    assert table.filter(pl.col("label") == SIDE**2 + 1)["area_px"].to_list() == [int(new.sum())]


def test_keys_accept_cells_and_images(browser: Browser, many: Path) -> None:
    with served(many) as viewer:
        browser.open(viewer.address)
        browser.wait(ROWS)
        browser.press("j")
        browser.wait("document.getElementById('rows').textContent.startsWith('Cell ')")
        first = text(browser, "rows").split("confidence")[0]
        browser.press(" ")
        browser.wait(f"!document.getElementById('rows').textContent.startsWith('{first}confidence')")
        browser.press("Enter")
        browser.wait("document.getElementById('accept-image').classList.contains('done')")
        assert (many / "corrections.csv").read_text().count("\n") == 2
        browser.run("document.getElementById('train').click()")
        browser.wait("document.getElementById('training').open")
        assert text(browser, "training-command").startswith(f"unetbio train {many / 'corrections.csv'} --start ")
        assert browser.errors() == []


def test_the_histogram_selects_cells(browser: Browser, many: Path) -> None:
    with served(many) as viewer:
        browser.open(viewer.address)
        browser.wait(ROWS)
        choose = "const list = document.getElementById('column'); list.value = 'area_px';"
        browser.run(f"{choose} list.dispatchEvent(new Event('change'));")
        box = browser.run("return Object.values(document.getElementById('histogram').getBoundingClientRect().toJSON())")
        x, y, width, height = box[:4]
        browser.drag([(x + 2, y + height / 2), (x + width / 6, y + height / 2)])
        browser.wait("document.getElementById('rows').textContent.includes('cells selected')")
        assert 1000 < int(text(browser, "rows").split()[0]) < 5000


def test_cells_with_classes_have_the_colours_of_their_classes(browser: Browser, two: Path) -> None:
    for name in ("a", "b"):
        path = two / f"{name}_labels.json"
        found = read_provenance(path)
        assert found is not None
        settings = {**found.settings, CELL_CLASSES: ["round", "long"]}
        write_provenance(path, found.model_copy(update={"settings": settings}))
        (two / f"{name}_objects.csv").write_text("label,class\n1,long\n")
    with served(two) as viewer:
        browser.open(viewer.address)
        browser.wait(ROWS)
        assert browser.run("return document.getElementById('column').value") == "class"
        assert browser.run("return document.getElementById('histogram').hidden")
        lines = "return [...document.querySelectorAll('#classes button')].map((line) => line.innerText.split(/\\s+/))"
        assert browser.run(lines) == [["round", "0"], ["long", "1"]]
        browser.run("document.querySelectorAll('#classes button')[1].click()")
        assert text(browser, "rows").startswith("Cell 1")
        assert "classlong" in text(browser, "rows")
        swatch = browser.run("return document.querySelectorAll('#classes i')[1].style.background")
        assert swatch == "rgb(255, 82, 165)"
        browser.press("Escape")
        browser.wait("document.getElementById('rows').hidden && window.unetbioView.isWhole()")
        pixels = browser.run(
            "const cells = document.getElementById('cells');"
            "const {data} = cells.getContext('2d').getImageData(0, 0, cells.width, cells.height);"
            "for (let at = 0; at < data.length; at += 4)"
            "  if (data[at + 3] === 255) return [data[at], data[at + 1], data[at + 2]];"
        )
        assert pixels == [255, 82, 165]
        assert browser.errors() == []


def test_what_is_saved_marks_its_own_image_though_another_was_opened_meanwhile(browser: Browser, two: Path) -> None:
    with served(two) as viewer:
        browser.open(viewer.address)
        browser.wait(ROWS)
        hold(browser, "options?.method === 'POST'")
        browser.press("Enter")
        browser.wait("window.release")
        other = browser.run("return document.querySelectorAll('#images .name')[1].textContent")
        browser.run("document.querySelectorAll('#images button')[1].click()")
        browser.wait(f"document.getElementById('name').textContent === '{other}'")
        browser.wait(ROWS)
        # A correction of the other image has to wait, and the page says so.
        browser.press("d")
        corners = [(40, 40), (52, 40), (52, 52), (40, 52)]
        browser.drag([on_screen(browser, x, y) for x, y in corners])
        browser.wait("document.getElementById('message').textContent.includes('still being saved')")
        browser.run("window.release()")
        browser.wait("document.querySelectorAll('#images .done')[0].textContent === '✓'")
        assert browser.run("return document.querySelectorAll('#images .done')[1].textContent") == ""
        assert text(browser, "accept-image") == "Accept image"
        assert text(browser, "name") == other
        assert (two / "corrections.csv").read_text().count("\n") == 2
        browser.drag([on_screen(browser, x, y) for x, y in corners])
        browser.wait("document.querySelectorAll('#images .done')[1].textContent === '✎'")
        assert browser.errors() == []


def test_rows_come_though_a_cell_is_accepted_while_they_are_measured(browser: Browser, two: Path) -> None:
    with served(two) as viewer:
        browser.open(viewer.address)
        browser.wait(ROWS)
        # Rows are held back from here on, also those of the image that is opened next.
        browser.run(
            "const ask = window.fetch; window.held = [];"
            "const hold = (...request) => new Promise((answer) => window.held.push(() => answer(ask(...request))));"
            "window.fetch = (path, options) => (path.includes('/rows/') ? hold : ask)(path, options);"
            "window.release = () => { window.fetch = ask; window.held.forEach((answer) => answer()); };"
        )
        other = browser.run("return document.querySelectorAll('#images .name')[1].textContent")
        browser.run("document.querySelectorAll('#images button')[1].click()")
        browser.wait(f"document.getElementById('name').textContent === '{other}'")
        browser.wait("window.held.length && window.unetbioView.isWhole()")
        browser.run("document.getElementById('count').textContent = ''")
        browser.drag([on_screen(browser, 20.5, 20.5)])
        browser.press("a")
        browser.wait(SAVED)
        browser.press("z")
        browser.wait("document.getElementById('undo').disabled")
        browser.press("a")
        browser.wait("!document.getElementById('undo').disabled")
        browser.run("window.release()")
        browser.wait(ROWS, 20)
        assert text(browser, "count") == "1"
        assert text(browser, "rows").startswith("Cell 1")
        assert browser.errors() == []


def test_rows_that_were_measured_before_a_correction_are_not_shown(browser: Browser, two: Path) -> None:
    with served(two) as viewer:
        browser.open(viewer.address)
        browser.wait(ROWS)
        # The first answer from here on comes last.
        browser.run(
            "const ask = window.fetch;"
            "window.fetch = async (path, options) => {"
            "  const answer = await ask(path, options);"
            "  if (!path.includes('/rows/') || window.release) return answer;"
            "  return new Promise((finish) => { window.release = () => finish(answer); });"
            "};"
        )
        browser.run("document.querySelectorAll('#images button')[0].click()")
        browser.wait("window.release && window.unetbioView.isWhole()")
        browser.press("d")
        corners = [(40, 40), (52, 40), (52, 52), (40, 52)]
        browser.drag([on_screen(browser, x, y) for x, y in corners])
        browser.wait("document.getElementById('count').textContent === '2'")
        browser.run("window.release(); return new Promise((done) => setTimeout(done, 300))")
        assert text(browser, "count") == "2"
        assert browser.errors() == []


def test_the_file_that_opens_the_page_leads_to_it(browser: Browser, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_page(address: str) -> None:
        browser.open(address)
        browser.wait("document.getElementById('name')?.textContent")
        raise KeyboardInterrupt

    @contextlib.contextmanager
    def open_served(*_: object) -> Iterator[Viewer]:
        with served(two) as viewer:
            yield viewer

    monkeypatch.setattr("unetbio.viewer.server.open_viewer", open_served)
    monkeypatch.setattr("webbrowser.open", open_page)
    run("view", two, "--open")


@pytest.fixture
def lapse(browser: Browser, tmp_path: Path, tiny_model: Path) -> Path:
    """A run over two times, of two cells and of one."""
    rows, columns = np.mgrid[:64, :64]
    cell, other = ((rows - 20) ** 2 + (columns - x) ** 2 <= 40 for x in (20, 44))
    times = np.stack([np.where(cell | other, 200, 10), np.where(other, 200, 10)]).astype(np.uint8)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "lapse.ome.tif", times, ome=True, metadata={"axes": "TYX"})
    line = ("segment", tmp_path / "images", "-o", tmp_path / "results", "-m", tiny_model, "--normalize", "0,200")
    run(*line, "--diameter", "model", "--workers", "1", "--overlays", "none")
    return tmp_path / "results"


def test_cells_of_one_time_are_not_those_of_another(browser: Browser, lapse: Path) -> None:
    with served(lapse) as viewer:
        browser.open(viewer.address)
        browser.wait(ROWS)
        assert (text(browser, "count"), text(browser, "plane-name")) == ("2", "time 0 of 0 to 1")
        choose = "const list = document.getElementById('column'); list.value = 'area_px';"
        browser.run(f"{choose} list.dispatchEvent(new Event('change'));")
        # The rows of the other time take long.
        hold(browser, "path.includes('/rows/')")
        is_hidden = "return document.getElementById('histogram').hidden"
        assert not browser.run(is_hidden)
        browser.press(".")
        browser.wait("window.release")
        assert (text(browser, "count"), text(browser, "plane-name")) == ("", "time 1 of 0 to 1")
        assert browser.run(is_hidden)
        browser.run("window.release()")
        browser.wait(ROWS)
        assert text(browser, "count") == "1"
        # The column that was chosen stays.
        assert not browser.run(is_hidden)
        assert browser.errors() == []


def test_what_is_saved_after_a_step_in_time_selects_no_cell(browser: Browser, lapse: Path) -> None:
    with served(lapse) as viewer:
        browser.open(viewer.address)
        browser.wait(ROWS)
        hold(browser, "options?.method === 'POST'")
        browser.press("d")
        browser.drag([on_screen(browser, x, y) for x, y in [(4, 40), (16, 40), (16, 52), (4, 52)]])
        browser.wait("window.release")
        browser.press(".")
        browser.wait("document.getElementById('count').textContent === '1'")
        browser.run("window.release()")
        browser.wait(SAVED)
        assert browser.run("return document.getElementById('rows').hidden")
        assert browser.errors() == []
