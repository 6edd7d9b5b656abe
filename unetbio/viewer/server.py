"""The server of the page: the standard library's, on 127.0.0.1, one thread a connection."""

import contextlib
import errno
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from unetbio.errors import EnvironmentStoppedError
from unetbio.viewer.answers import Answer, Answers
from unetbio.viewer.guard import MAX_BODY, Refusal, find_refusal, path_below

__all__ = ["PORT", "Viewer", "open_viewer"]

logger = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
PORT = 8642
"""Port to try first: the same each time is easier to forward."""

IDLE_SECONDS = 20
MAX_CONNECTIONS = 256
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

# OpenSeadragon adds a style of its own unless the page has one in its place: an empty one, with this hash.
EMPTY_STYLE = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; style-src 'self' {EMPTY_STYLE}; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Viewer(ThreadingHTTPServer):
    """The server of the page of an output folder.

    Parameters
    ----------
    answers : Answers
        Of the folder.
    port : int
        On 127.0.0.1; 0 takes a free one.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    # Elsewhere it would let another program take the port.
    allow_reuse_address = os.name == "posix"

    def __init__(self, answers: Answers, port: int) -> None:
        self.answers = answers
        self.token = secrets.token_urlsafe(24)
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._open: set[socket.socket] = set()
        super().__init__((ADDRESS, port), _Handler)

    @property
    def address(self) -> str:
        """Where the page is, with its secret."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own, unless there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.sendall(BUSY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer the requests of a connection."""
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)
            self._free.release()

    def server_close(self) -> None:
        """Stop listening, and end the connections that browsers keep for their next request."""
        super().server_close()
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note what ended a connection; a browser that leaves is no error."""
        logger.debug("a connection ended: %r", sys.exception())


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "unetbio"
    sys_version = ""
    timeout = IDLE_SECONDS
    server: Viewer

    def setup(self) -> None:
        super().setup()
        # Small answers are not held back until the last is confirmed.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(MAX_BODY)

    def _answer(self, limit: int | None) -> None:
        refusal = find_refusal(self.command, self.path, self.headers, self.server.token)
        if refusal:
            self._refuse(refusal)
            return
        target = path_below(self.path, self.server.token) or ""
        if limit is None:
            # A body that is not read would be taken for the next request.
            self.close_connection |= "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
            self._send(self.server.answers.get(target))
            return
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(self.server.answers.post(target, content))

    def _refuse(self, refusal: Refusal) -> None:
        self.close_connection = True
        self._send(Answer(refusal.status, "text/plain; charset=utf-8", f"{refusal.message}\n".encode()))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.is_deflated:
            self.send_header("Content-Encoding", "deflate")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- named by the standard library
        logger.debug("%s", (format % args).replace(self.server.token, "..."))


@contextlib.contextmanager
def open_viewer(out: Path, port: int | None = None) -> Iterator[Viewer]:
    """Listen while the block runs; `Viewer.serve_forever` answers.

    Parameters
    ----------
    out : pathlib.Path
        Output folder of a run.
    port : int, optional
        On 127.0.0.1; `PORT` or, if it is taken, a free one by default.

    Raises
    ------
    UsageError
        When the folder holds no label images.
    EnvironmentStoppedError
        When the port cannot be used.
    """
    answers = Answers(out)
    with _listen(answers, port) as server:
        yield server


def _listen(answers: Answers, port: int | None) -> Viewer:
    try:
        return Viewer(answers, PORT if port is None else port)
    except OSError as error:
        if port is None and error.errno in (errno.EADDRINUSE, errno.EACCES):
            return Viewer(answers, 0)
        raise EnvironmentStoppedError(
            f"--port {port}: {error.strerror or error}; give another number, or leave --port out"
        ) from error
