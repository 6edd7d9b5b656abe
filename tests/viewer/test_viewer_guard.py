"""The server of ``unetbio view``: what it refuses of other pages, other users and other programs."""

import concurrent.futures
import contextlib
import http.client
import socket

import pytest
from page_client import Page

from unetbio.viewer.guard import MAX_BODY
from unetbio.viewer.server import MAX_CONNECTIONS


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8642"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_pages_of_others_are_refused_even_with_the_token(page: Page, headers: dict[str, str]) -> None:
    for path in ("images", "image/0/tile/0/0/0_0?layers=0:0:1:ffffff"):
        status, answer = page.ask("GET", path, **{name.replace("-", "_"): value for name, value in headers.items()})
        assert status == 403
        assert b"doubtful" not in answer
    body = {"version": 0, "plane": 0, "kind": "delete", "ids": [1]}
    status, _ = page.ask("POST", "image/0/correct", body, **{k.replace("-", "_"): v for k, v in headers.items()})
    assert status == 403
    assert not page.get("image/0")["is_edited"]


def test_the_port_at_the_near_end_of_ssh_may_differ_and_a_link_may_be_followed(page: Page) -> None:
    assert page.ask("GET", "images", Host="localhost:9999", Origin="http://localhost:9999")[0] == 200
    followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert page.ask("GET", "", **followed)[0] == 200


@pytest.mark.parametrize("token", ["", "x", "{short}", "{token}x", "{upper}", "%00", ".."])
def test_without_the_token_nothing_is_served(page: Page, token: str) -> None:
    right = page.viewer.token
    given = token.format(token=right, short=right[:-1], upper=right.swapcase())
    for rest in ("", "images", "app.js", "image/0"):
        status, answer = page.raw("GET", f"/{given}/{rest}")
        assert status == 403
        assert b"open the address that unetbio view has printed" in answer


@pytest.mark.parametrize(
    "path",
    [
        "../summary.csv",
        "..%2f..%2fetc/passwd",
        "%2e%2e/summary.csv",
        "/etc/passwd",
        "page/../__init__.py",
        "app.js/../../answers.py",
        "..\\answers.py",
        "app.js%00.css",
        "image/0/../../x",
        "image/-1",
        "image/1e9",
        "image/99999999999999999999",
        "http://evil.example/",
    ],
)
def test_no_path_leads_to_another_file(page: Page, path: str) -> None:
    status, answer = page.ask("GET", path)
    assert (status, answer) == (404, {"error": "there is no such page"})
    assert page.ask("POST", path, {})[0] == 404


def test_bodies_are_limited(page: Page) -> None:
    target = f"/{page.viewer.token}/image/0/correct"
    assert page.raw("POST", target, b"x", Content_Length=str(MAX_BODY + 1))[0] == 413
    assert page.raw("POST", target, b"x", Content_Length="9" * 30)[0] == 411
    assert page.raw("POST", target, b"x", Content_Length="-1")[0] == 411
    assert page.raw("POST", target, b"x", Transfer_Encoding="chunked")[0] == 411
    assert page.raw("POST", target, b"{}", Content_Type="text/plain")[0] == 415
    assert page.raw("POST", target, b"[" * 100_000)[0] == 422
    assert page.raw("POST", target, b"[]")[1] == {"error": "the body is no JSON object"}
    assert page.raw("POST", target, b"\xff")[1] == {"error": "the body is no JSON"}
    assert page.raw("PUT", target, b"{}")[0] == 501
    assert not page.get("image/0")["is_edited"]


def test_every_answer_forbids_what_the_page_does_not_need(page: Page) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", page.viewer.server_port, timeout=60)
    for path in ("", "images", "nothing"):
        connection.request("GET", f"/{page.viewer.token}/{path}")
        answer = connection.getresponse()
        answer.read()
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Access-Control-Allow-Origin"] is None
    connection.close()


def test_it_listens_on_this_machine_alone(page: Page) -> None:
    assert page.viewer.server_address[0] == "127.0.0.1"
    assert len(page.viewer.token) >= 32


def test_a_thousand_hostile_requests_at_once_are_survived(page: Page) -> None:
    def attack(number: int) -> bytes:
        with socket.create_connection(("127.0.0.1", page.viewer.server_port), timeout=60) as connection:
            if number % 10 == 0:
                return b""  # connects, and says nothing
            with contextlib.suppress(OSError):
                connection.sendall(b"GET /guess/images HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                return connection.recv(64)
        return b""

    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(attack, range(1000)))
    assert {answer.partition(b"\r\n")[0] for answer in answers} <= {
        *(b"", b"HTTP/1.1 403 Forbidden", b"HTTP/1.1 503 Service Unavailable")
    }
    assert len(page.get("images")["images"]) == 3


def test_silent_connections_are_turned_away_once_there_are_many(page: Page) -> None:
    silent = [socket.create_connection(("127.0.0.1", page.viewer.server_port)) for _ in range(MAX_CONNECTIONS + 5)]
    try:
        assert silent[-1].recv(64).startswith(b"HTTP/1.1 503")
    finally:
        for connection in silent:
            connection.close()
    # Threads notice that their connections have ended.
    for _ in range(200):
        status, _ = page.ask("GET", "images")
        if status == 200:
            return
    raise AssertionError("it answers no more")
