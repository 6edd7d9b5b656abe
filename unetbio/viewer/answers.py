"""What the page asks for, and the answers."""

import contextlib
import functools
import json
import logging
import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from unetbio.errors import EnvironmentStoppedError, UnetbioError, UsageError
from unetbio.output_layout import CORRECTIONS
from unetbio.viewer import edits
from unetbio.viewer.document import Correction, Document
from unetbio.viewer.folder import (
    ListedImage,
    hold_for_view,
    list_again,
    list_images,
    training_command,
    why_read_only,
    write_corrections,
)
from unetbio.viewer.pictures import Layer

__all__ = ["Answer", "Answers"]

logger = logging.getLogger(__name__)

KEPT = 4
"""Images in memory, with their undo steps."""

KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".txt": "text/plain",
    ".svg": "image/svg+xml",
}
NOT_FOUND, UNUSABLE, LOCKED, INTERNAL = 404, 422, 423, 500

# JavaScript writes 0.000015259021893143654 with all its digits; smaller numbers have an exponent.
_NUMBER = r"-?\d{1,30}(?:\.\d{1,30})?(?:e[-+]?\d{1,2})?"
_LAYER = re.compile(rf"(\d{{1,4}}):({_NUMBER}):({_NUMBER}):([0-9a-f]{{6}})")
_ROUTES = {
    "images": re.compile(r"images"),
    "training": re.compile(r"training"),
    "image": re.compile(r"image/(\d{1,9})"),
    "tile": re.compile(r"image/(\d{1,9})/tile/(\d{1,9})/(\d{1,2})/(\d{1,6})_(\d{1,6})"),
    "labels": re.compile(r"image/(\d{1,9})/labels/(\d{1,9})/(\d{1,2})/(\d{1,6})_(\d{1,6})"),
    "rows": re.compile(r"image/(\d{1,9})/rows/(\d{1,9})"),
}
_POST = re.compile(r"image/(\d{1,9})/(correct|accept|accept-image|undo|redo)")

Body = Mapping[str, Any]


class Answer(NamedTuple):
    """Status of HTTP, type and bytes."""

    status: int
    kind: str
    body: bytes
    is_deflated: bool = False


class Answers:
    """Answers to the page of one output folder.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.

    Raises
    ------
    UsageError
        When it holds no label images.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._images = list_images(out)
        self._documents: OrderedDict[int, Document] = OrderedDict()
        self._opening = threading.Lock()
        page = files("unetbio.viewer") / "page"
        self._drop_stale_corrections()
        self._files = {
            source.name: source.read_bytes() for source in page.iterdir() if Path(source.name).suffix in KINDS
        }

    def _drop_stale_corrections(self) -> None:
        """Leave images out of the table that were segmented again since they were accepted."""
        if (self._out / CORRECTIONS).exists():
            with contextlib.suppress(EnvironmentStoppedError), hold_for_view(self._out):
                write_corrections(self._out, self._images)

    def get(self, target: str) -> Answer:
        """Answer a request for a file of the page, a picture or data; ``target`` follows the secret of the address."""
        parts = urlsplit(target)
        name = parts.path or "view.html"
        if name in self._files:
            return Answer(200, f"{KINDS[Path(name).suffix]}; charset=utf-8", self._files[name])
        for route, pattern in _ROUTES.items():
            if found := pattern.fullmatch(parts.path):
                numbers = [int(number) for number in found.groups()]
                return _answered(functools.partial(self._get, route, numbers, parts.query))
        return _failed(NOT_FOUND, "there is no such page")

    def _get(self, route: str, numbers: Sequence[int], query: str) -> Answer:
        answer: Callable[..., Answer] = getattr(self, f"_get_{route}")
        return answer(*numbers, **({"layers": _layers(query)} if route == "tile" else {}))

    def post(self, target: str, content: bytes) -> Answer:
        """Make a correction; ``content`` is JSON."""
        found = _POST.fullmatch(target)
        if found is None:
            return _failed(NOT_FOUND, "there is no such page")
        return _answered(lambda: self._change(int(found[1]), found[2], _parse(content)))

    # --- What is shown ------------------------------------------------------------------------------------------------

    def _get_images(self) -> Answer:
        self._list_again()
        images = [
            {
                "name": image.name,
                "doubtful": image.doubtful,
                "is_edited": image.is_edited,
                "is_accepted": image.is_accepted,
            }
            for image in self._images
        ]
        return _json({"folder": str(self._out), "images": images, "read_only": why_read_only(self._out)})

    def _get_training(self) -> Answer:
        self._list_again()
        accepted = sum(image.is_accepted for image in self._images)
        waiting = sum(image.is_edited and not image.is_accepted for image in self._images)
        return _json({"command": training_command(self._out, self._images), "accepted": accepted, "waiting": waiting})

    def _get_image(self, index: int) -> Answer:
        document = self._document(index)
        if not document.is_current:
            with self._opening:
                self._documents.pop(index, None)
            document = self._document(index)
        return _json({**document.describe(), "read_only": why_read_only(self._out)})

    def _get_tile(self, index: int, plane: int, level: int, x: int, y: int, layers: Mapping[int, Layer]) -> Answer:
        return Answer(200, "image/jpeg", self._document(index).tile(plane, level, x, y, layers))

    def _get_labels(self, index: int, plane: int, level: int, x: int, y: int) -> Answer:
        content = self._document(index).label_tile(plane, level, x, y)
        return Answer(200, "application/octet-stream", content, is_deflated=True)

    def _get_rows(self, index: int, plane: int) -> Answer:
        document = self._document(index)
        return _json({"columns": document.rows(plane), "classes": document.class_colours(plane)})

    def _document(self, index: int) -> Document:
        if index >= len(self._images):
            raise UsageError(f"there is no image {index}")
        with self._opening:
            if index not in self._documents:
                self._documents[index] = Document(self._out, self._images[index].entry)
                if len(self._documents) > KEPT:
                    self._documents.popitem(last=False)
            self._documents.move_to_end(index)
            return self._documents[index]

    # --- What is changed ----------------------------------------------------------------------------------------------

    def _change(self, index: int, what: str, body: Body) -> Answer:
        document, version = self._document(index), _whole(body, "version")
        if what == "undo":
            state = document.undo(version)
        elif what == "redo":
            state = document.redo(version)
        elif what == "accept-image":
            state = document.accept_image(version, accept=bool(body.get("accept")))
        elif what == "accept":
            state = document.accept(_whole(body, "plane"), version, _ids(body), accept=bool(body.get("accept")))
        else:
            state = document.correct(_whole(body, "plane"), version, _correction(body))
        self._remember(index, document)
        return _json(state)

    def _remember(self, index: int, document: Document) -> None:
        """Keep the list and the table of accepted images up to date."""
        before: ListedImage = self._images[index]
        # The stamp first: if a request meanwhile changes the review, it is an old one, and the image is read again.
        now = before.reviewed(document.review_stamp, document.review, is_edited=document.is_edited)
        if now.accepted_hash == before.accepted_hash:
            self._images[index] = now
            return
        try:
            with hold_for_view(self._out):
                self._list([*self._images[:index], now, *self._images[index + 1 :]])
        except EnvironmentStoppedError as error:
            if now.is_accepted != before.is_accepted:
                raise
            logger.warning("the mask is saved, and its hash in %s is not: %s", CORRECTIONS, error)

    def _list_again(self) -> None:
        """Take over what was accepted in another view of the folder."""
        # Nothing waits for it: the next request looks again.
        with contextlib.suppress(EnvironmentStoppedError), hold_for_view(self._out, patience=0):
            self._list(self._images)

    def _list(self, images: Sequence[ListedImage]) -> None:
        """Replace the list, and the table if other masks are accepted now; the caller holds the lock of the folder."""
        images = list_again(self._out, images)
        if [image.accepted_hash for image in images] != [image.accepted_hash for image in self._images]:
            write_corrections(self._out, images)
        # Listed once it is in the table, so that a table that could not be written is written next time.
        self._images = images


def _correction(body: Body) -> Correction:
    """The function of `unetbio.viewer.edits` that a body asks for."""
    kind, ids, points = body.get("kind"), _ids(body), body.get("points", ())
    corrections: dict[str, Correction] = {
        "delete": lambda labels, plane, above: edits.delete(labels, ids),
        "merge": lambda labels, plane, above: edits.merge(labels, ids),
        "split": lambda labels, plane, above: edits.split(labels, plane, points, ids, above),
        "draw": lambda labels, plane, above: edits.draw(labels, plane, points, above),
        "extend": lambda labels, plane, above: edits.extend(labels, plane, points, ids),
        "erase": lambda labels, plane, above: edits.erase(labels, plane, points, ids),
    }
    if not isinstance(kind, str) or kind not in corrections:
        raise UsageError(f"there is no correction {str(kind)[:40]!r}; there are {', '.join(corrections)}")
    return corrections[kind]


def _parse(content: bytes) -> Body:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is no JSON") from error
    if not isinstance(body, dict):
        raise UsageError("the body is no JSON object")
    return body


def _whole(body: Body, name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        raise UsageError(f"{name} is no whole number from 0")
    return value


def _ids(body: Body) -> list[int]:
    ids = body.get("ids", [])
    if not isinstance(ids, list) or not all(type(each) is int and 0 < each < 1 << 32 for each in ids):
        raise UsageError("ids are no numbers of cells")
    return ids


def _layers(query: str) -> dict[int, Layer]:
    """Channels, as ``layers=0:12:4000:ffffff,2:0:255:00ff00``: number, grey values that are black and white, colour."""
    parts = parse_qs(query).get("layers", [""])[0].split(",")
    return dict(_layer(part) for part in parts)


def _layer(text: str) -> tuple[int, Layer]:
    found = _LAYER.fullmatch(text)
    if found is None:
        raise UsageError("a channel is shown as NUMBER:BLACK:WHITE:COLOUR")
    channel, low, high, colour = found.groups()
    if not float(low) < float(high):
        raise UsageError("black has to be darker than white")
    return int(channel), Layer(
        float(low), float(high), (int(colour[:2], 16), int(colour[2:4], 16), int(colour[4:], 16))
    )


def _json(value: Any) -> Answer:
    content = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    return Answer(200, "application/json", zlib.compress(content, 1), is_deflated=True)


def _answered(answer: Callable[[], Answer]) -> Answer:
    """An answer, or the message of what went wrong."""
    try:
        return answer()
    except EnvironmentStoppedError as error:
        return _failed(LOCKED, str(error))
    except UnetbioError as error:
        return _failed(UNUSABLE, str(error))
    except Exception as error:
        logger.exception("internal error")
        return _failed(INTERNAL, f"internal error: {type(error).__name__}: {' '.join(str(error).split())}")


def _failed(status: int, message: str) -> Answer:
    return _json({"error": message})._replace(status=status)
