"""Which requests are answered: those of the page itself. All others are refused before any of their bytes are used.

Every program of this machine reaches 127.0.0.1, and so does every page that a browser has open. So the address holds
a secret; the name of the host has to be that of this machine (DNS rebinding); and a page of another origin is refused
even if it knows the secret.
"""

import hmac
import re
from email.message import Message
from typing import NamedTuple

__all__ = ["MAX_BODY", "Refusal", "find_refusal", "path_below"]

MAX_BODY = 1 << 20
"""Largest body in bytes: an outline of many thousand corners."""

HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine; the port is another one at the near end of ``ssh -L``."""

_HOST = re.compile(r"(.*?)(:\d{1,5})?")
_LENGTH = re.compile(r"\d{1,12}")


class Refusal(NamedTuple):
    """Status of HTTP, and one line."""

    status: int
    message: str


def find_refusal(method: str, target: str, headers: Message, token: str) -> Refusal | None:
    """Why a request is refused; None if it is answered.

    Parameters
    ----------
    method, target : str
        Of the first line of the request.
    headers : email.message.Message
        Of the request.
    token : str
        The secret of the address.
    """
    host = headers.get("Host", "")
    name = _HOST.fullmatch(host)
    if name is None or name[1].lower() not in HOSTS:
        return Refusal(403, "the page is at 127.0.0.1 or localhost alone")
    if path_below(target, token) is None:
        return Refusal(403, "open the address that unetbio view has printed, with all of its letters")
    origin = headers.get("Origin")
    if origin is not None and origin != f"http://{host}":
        return Refusal(403, "a page of another origin asks")
    if headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none") and not _is_opened(method, headers):
        return Refusal(403, "a page of another site asks")
    return _body_refusal(headers) if method == "POST" else None


def _is_opened(method: str, headers: Message) -> bool:
    """Whether a person follows a link to the page, as from a terminal in a browser."""
    return method == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"


def _body_refusal(headers: Message) -> Refusal | None:
    if "Transfer-Encoding" in headers or not _LENGTH.fullmatch(headers.get("Content-Length", "")):
        return Refusal(411, "a body needs its length")
    if int(headers["Content-Length"]) > MAX_BODY:
        return Refusal(413, f"a body has at most {MAX_BODY} bytes")
    if headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        return Refusal(415, "a body is application/json")
    return None


def path_below(target: str, token: str) -> str | None:
    """What follows the secret in the path; None if the secret is missing or wrong."""
    given, slash, rest = target.removeprefix("/").partition("/")
    is_right = hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
    return rest if slash and is_right and target.startswith("/") else None
