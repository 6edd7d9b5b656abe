"""Requests to the server of ``unetbio view``, as its page sends them."""

import contextlib
import http.client
import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.viewer.server import Viewer, open_viewer

__all__ = ["Page", "index_of", "serve"]

Array = NDArray[Any]


class Page:
    """What the page asks."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        target = f"/{self.viewer.token}/{path}"
        return self.raw(method, target, None if body is None else json.dumps(body).encode(), **headers)

    def raw(self, method: str, target: str, content: bytes | None = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.viewer.server_port, timeout=60)
        sent = {"Content-Type": "application/json"} if content is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, target, content, sent)
            answer = connection.getresponse()
            body = answer.read()
        if answer.headers["Content-Encoding"] == "deflate":
            body = zlib.decompress(body)
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(body) if is_json else body

    def get(self, path: str) -> Any:
        status, answer = self.ask("GET", path)
        assert status == 200, answer
        return answer

    def post(self, path: str, **body: Any) -> Any:
        version = self.get("/".join(path.split("/")[:2]))["version"]
        status, answer = self.ask("POST", path, {"version": version, "plane": 0, **body})
        assert status == 200, answer
        return answer

    def ids(self, index: int, plane: int, width: int = 80) -> Array:
        return np.frombuffer(zlib.decompress(self.raw_ids(index, plane)), "<u4").reshape(-1, width)

    def raw_ids(self, index: int, plane: int) -> bytes:
        return zlib.compress(self.get(f"image/{index}/labels/{plane}/0/0_0"))


def index_of(page: Page, name: str) -> int:
    """Place of an image in the list of the page."""
    return [image["name"] for image in page.get("images")["images"]].index(name)


@contextlib.contextmanager
def serve(results: Path) -> Iterator[Page]:
    """Serve an output folder."""
    with open_viewer(results, None) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, args=[0.005], daemon=True)
        thread.start()
        yield Page(viewer)
        viewer.shutdown()
        thread.join()
