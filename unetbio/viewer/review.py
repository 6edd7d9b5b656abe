"""Which cells of an image were accepted by hand, and which were changed: a file beside the mask."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from unetbio.files import Stamp, read_bytes, stamp, write_json
from unetbio.output_layout import result_name, review_name

__all__ = ["Review", "read_review", "review_path", "stamp_review", "write_review"]

Cells = Mapping[str, tuple[int, ...]]


class Review(BaseModel):
    """What was done to a mask by hand.

    Parameters
    ----------
    label_hash : str
        Of the mask that the review belongs to.
    is_accepted : bool
        Whether the whole image was accepted: it is ready to train on.
    accepted, changed : mapping
        Ids of cells by the number of the volume that holds them (`unetbio.viewer.document.Document`): those that were
        accepted, and those that have other pixels than the model gave them.
    """

    model_config = ConfigDict(frozen=True)

    label_hash: str = ""
    is_accepted: bool = False
    accepted: Cells = {}
    changed: Cells = {}

    def with_accepted(self, volume: int, ids: Iterable[int], *, accept: bool) -> "Review":
        """The review after cells of a volume were accepted, or no longer are."""
        known = set(self.accepted.get(str(volume), ()))
        return self.model_copy(
            update={"accepted": _with(self.accepted, volume, known | {*ids} if accept else known - {*ids})}
        )

    def with_changed(self, volume: int, ids: Iterable[int]) -> "Review":
        """The review after cells of a volume have got other pixels."""
        known = self.changed.get(str(volume), ())
        return self.model_copy(update={"changed": _with(self.changed, volume, {*known, *ids})})


def _with(cells: Cells, volume: int, ids: Iterable[int]) -> Cells:
    return {**cells, str(volume): tuple(sorted(ids))}


def review_path(out: Path, output: str) -> Path:
    """File of the review of a label image of an output folder."""
    return out / review_name(result_name(output))


def stamp_review(path: Path) -> Stamp | None:
    """Stamp of the file of a review, by which changes of another program show; None if the file is missing."""
    try:
        return stamp(path)
    except OSError:
        return None


def read_review(path: Path) -> Review:
    """Read a review; an empty one if the file is missing or invalid."""
    try:
        return Review.model_validate_json(read_bytes(path))
    except (OSError, ValidationError):
        return Review()


def write_review(path: Path, review: Review) -> None:
    """Write a review atomically."""
    write_json(path, review.model_dump(mode="json"))
