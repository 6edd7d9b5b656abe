"""A real Chromium, driven through the WebDriver protocol of chromedriver: plain HTTP and JSON."""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,900")
KEYS = {"Escape": "\ue00c", "Enter": "\ue007", "Delete": "\ue017"}
SECONDS = 60
MISSING = "no chromium and chromedriver: apt-get install chromium chromium-driver"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Path of the browser, if it and its driver are installed."""
    found = [path for name in NAMES if (path := shutil.which(name))]
    return found[0] if found and shutil.which("chromedriver") else None


class Browser:
    """One window of Chromium."""

    def __init__(self, address: str) -> None:
        self._address = address
        options = {"args": ARGUMENTS, "binary": find_chromium()}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._address + path, content, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error

    def _do(self, command: str, body: Any = None, method: str = "POST") -> Any:
        return self._ask(method, f"/session/{self._session}/{command}", body)

    def open(self, address: str) -> None:
        # A page before this one may have asked a server that had ended.
        self.errors()
        self._do("url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self._do("execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, seconds: float = SECONDS) -> float:
        """Wait until an expression is true; returns the seconds."""
        begin = time.perf_counter()
        while not self.run(f"return Boolean({script})"):
            if time.perf_counter() - begin > seconds:
                raise AssertionError(f"{script} is not true after {seconds} s: {self.errors()}")
            time.sleep(0.02)
        return time.perf_counter() - begin

    def press(self, key: str, *, ctrl: bool = False) -> None:
        strokes = [{"type": kind, "value": KEYS.get(key, key)} for kind in ("keyDown", "keyUp")]
        if ctrl:
            strokes = [{"type": "keyDown", "value": "\ue009"}, *strokes, {"type": "keyUp", "value": "\ue009"}]
        self._do("actions", {"actions": [{"type": "key", "id": "keys", "actions": strokes}]})

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Press at the first point of the window, draw through the others, and release; one point is a click."""
        (x, y), *rest = [(round(x), round(y)) for x, y in points]
        moves = [{"type": "pointerMove", "duration": 20, "x": to_x, "y": to_y} for to_x, to_y in rest]
        steps = [
            {"type": "pointerMove", "duration": 0, "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            *moves,
            {"type": "pointerUp", "button": 0},
        ]
        self._do("actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": steps}]})

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._do("screenshot", method="GET")))

    def errors(self) -> list[str]:
        """Errors of the page since the last call."""
        return [entry["message"] for entry in self._do("se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def close(self) -> None:
        self._ask("DELETE", f"/session/{self._session}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """A window of Chromium while the block runs."""
    port = free_port()
    with subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as driver:
        try:
            with contextlib.closing(_start(f"http://127.0.0.1:{port}")) as browser:
                yield browser
        finally:
            driver.terminate()


def _start(address: str) -> Browser:
    for _ in range(200):
        with contextlib.suppress(urllib.error.URLError):
            return Browser(address)
        time.sleep(0.05)
    raise AssertionError("chromedriver does not start")
