"""A Chromium that all tests of the page share."""

import subprocess
from collections.abc import Iterator

import pytest
from chromium import Browser, find_chromium, free_port, start


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; tests that need it skip where it, or chromedriver, is missing."""
    if find_chromium() is None:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    port = free_port()
    with subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            found = start(f"http://127.0.0.1:{port}")
            yield found
            found.close()
        finally:
            process.terminate()
