"""Link cells of successive frames with LapTrack: linear assignment, gaps, divisions.

Source: Fukai & Kawaguchi, LapTrack, Bioinformatics 2023; Jaqaman et al., Nature Methods 2008.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.results.tables.lineages import Track

__all__ = ["Cells", "check_laptrack", "link_cells"]


@dataclass(frozen=True)
class Cells:
    """Cells of one frame: their numbers, and their centroids ``(n, ndim)``."""

    labels: NDArray[np.int64]
    centroids: NDArray[np.float64]


def check_laptrack() -> None:
    """Refuse to track where the package is missing.

    Raises
    ------
    UsageError
        Naming what to install.
    """
    try:
        import laptrack  # noqa: F401
    except ImportError as error:
        raise UsageError('unetbio track needs a package: pip install "unetbio[track]"') from error


def link_cells(
    frames: Sequence[Cells], numbers: Sequence[int], *, distance: float, gap: int = 0, divisions: bool = True
) -> tuple[Track, ...]:
    """Link cells to tracks.

    Parameters
    ----------
    frames : sequence of Cells
        By time.
    numbers : sequence of int
        Of the frames, rising; one that is left out is a frame in which all cells are missing.
    distance : float
        Farthest that a cell moves from one frame to the next, in the unit of the centroids.
    gap : int
        Most frames that a cell may be missing.
    divisions : bool
        Whether a track may divide.

    Returns
    -------
    tuple of Track
        Numbered by their first frame, then by the number of their first cell.
    """
    import pandas as pd

    places = np.repeat(np.arange(len(frames)), [len(frame.labels) for frame in frames])
    if not len(places):
        return ()
    labels = np.concatenate([frame.labels for frame in frames])
    centroids = np.concatenate([frame.centroids for frame in frames])
    axes = [f"axis_{axis}" for axis in range(centroids.shape[1])]
    # LapTrack visits each number from the first to the last, and no gap is closed that is longer than the largest.
    frame = np.cumsum([0, *np.minimum(np.diff(numbers), gap + 2)])[places]
    table = pd.DataFrame(
        {"place": places, "frame_number": frame, "label": labels, **dict(zip(axes, centroids.T, strict=True))}
    )
    tracked, split = _run(table, axes, distance, gap, divisions)
    cells: dict[int, list[tuple[int, int]]] = {}
    for place, label, track in zip(tracked["place"], tracked["label"], tracked["track_id"], strict=True):
        cells.setdefault(int(track), []).append((int(place), int(label)))
    order = sorted(cells, key=lambda track: min(cells[track]))
    of = {track: number for number, track in enumerate(order, start=1)}
    parents = {}
    if len(split):
        parents = {
            int(child): of[int(parent)]
            for parent, child in zip(split["parent_track_id"], split["child_track_id"], strict=True)
        }
    return tuple(
        Track(number=of[track], parent=parents.get(track), cells=tuple(sorted(cells[track]))) for track in order
    )


def _run(table: Any, axes: list[str], distance: float, gap: int, divisions: bool) -> tuple[Any, Any]:
    from laptrack import LapTrack

    # What lies within the distance is linked rather than begun or ended.
    alone = 1.05 * distance**2
    tracker = LapTrack(
        metric="sqeuclidean",
        cutoff=distance**2,
        gap_closing_metric="sqeuclidean",
        gap_closing_cutoff=distance**2 if gap else False,
        # LapTrack counts the frames from one cell to the next.
        gap_closing_max_frame_count=gap + 1,
        splitting_metric="sqeuclidean",
        splitting_cutoff=distance**2 if divisions else False,
        merging_cutoff=False,
        track_start_cost=alone,
        track_end_cost=alone,
        segment_start_cost=alone,
        segment_end_cost=alone,
        no_splitting_cost=alone,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracked, split, _ = tracker.predict_dataframe(
            table, coordinate_cols=axes, frame_col="frame_number", only_coordinate_cols=False
        )
    return tracked, split
