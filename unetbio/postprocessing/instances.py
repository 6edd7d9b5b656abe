"""From decided bit planes to cells.

`label` is a function of bits and integer squared distances alone, never of float priorities: equal planes give label
images equal to the byte, for any tile size, batch size or number of threads.

Images larger than memory are labelled in bands of rows (`unetbio.postprocessing.bands`), with the same result. Each
step has a reach, the distance over which a pixel can change another; steps without one join what each band has:

==================== ===================================================================================================
step                 reach
==================== ===================================================================================================
nesting              0: a pixel's own bits
seeds                any: union-find over the components of each plane, and sums over them
parting by centres   ``PARTING_REACH`` pixels along paths in a component, for the nearest centre
growth               ``reach`` pixels for the nearest seed (Euclidean); any for whether a pixel hangs together with it,
                     so bands are flooded again from those beside them until none changes
hole filling         any: union-find over the components of the background, with the cells around each
areas and border     sums over cells, by id
raster order         ids alone
==================== ===================================================================================================
"""

from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.errors import UsageError
from unetbio.labels import LabelImage, label_dtype, renumbered
from unetbio.postprocessing.bands import Allocate, Area, Band, Ids, Numbers, RowArray, bands_of, planes_of
from unetbio.postprocessing.growth import grow
from unetbio.postprocessing.holes import fill_holes
from unetbio.postprocessing.seeds import PARTING_REACH, SeedPlanes, find_seeds

__all__ = ["CERTAIN", "PostProcessing", "label", "label_in_bands", "rows_in_memory"]

MAX_REACH = 10_000  # px; squared distances stay far below 2**31
MAX_PLANES = 255

CERTAIN = 0.9
"""Probability of a cell from which on a pixel is certain to be of one."""

# Columns of the census of cells: pixels, those in the area that is segmented, those that are certain, the position in
# raster order of the first pixels, from 1, and whether a pixel lies at the border.
AREA, INSIDE, CERTAIN_AREA, ORDER, AT_BORDER, CENSUS_WIDTH = 0, 1, 2, 3, 4, 5


@dataclass(frozen=True)
class PostProcessing:
    """Options that turn probabilities into cells; stored in the model file, each can be overridden for a run.

    Parameters
    ----------
    mask_threshold : float
        A pixel is foreground where the probability of a cell is at least this.
    seed_thresholds : tuple of float
        Rising thresholds of the seeds. One is usual; further ones part bright cells that touch and keep dim ones whole.
        Without any, the components of the foreground are the cells.
    reach : int
        Cells grow from their seeds to foreground within this distance, in pixels.
    min_area, max_area : float
        Cells with fewer or more pixels (voxels in 3-D) are dropped; ``None`` is no limit.
    max_hole_area : int
        Holes inside one cell with at most so many pixels are filled; 0 fills none.
    min_seed_area : int
        A component of a seed plane with fewer pixels does not part a cell. Where a foreground component has no larger
        one, its largest is a seed all the same; how small a cell may be is for ``min_area`` to say.
    exclude_border : bool
        Drop cells that touch the border of the image; axes of length 1 have none.
    centre_thresholds : tuple of float
        Rising thresholds of the centres of cells, for models that learn them. Centres part a seed that holds two or
        more of them.
    min_certain : float
        Cells of whose pixels a smaller share is certain (probability `CERTAIN`) are dropped; 0 drops none.

    Raises
    ------
    UsageError
        When a value is out of range, or the thresholds do not rise.
    """

    mask_threshold: float = 0.5
    seed_thresholds: tuple[float, ...] = (0.7,)
    reach: int = 8
    min_area: float = 0
    max_area: float | None = None
    max_hole_area: int = 100
    min_seed_area: int = 5
    exclude_border: bool = False
    centre_thresholds: tuple[float, ...] = ()
    min_certain: float = 0

    def __post_init__(self) -> None:
        for name in ("seed_thresholds", "centre_thresholds"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        thresholds = self.nested_thresholds
        if not all(0 < threshold < 1 for threshold in thresholds):
            raise UsageError(f"thresholds {_join(thresholds)}: each must lie between 0 and 1; choose other thresholds")
        if self.centre_thresholds and not self.seed_thresholds:
            raise UsageError("centre thresholds need seed thresholds: give both, or seed thresholds alone")
        for rising in ((self.mask_threshold, *self.seed_thresholds), self.centre_thresholds):
            if list(rising) != sorted(rising):
                raise UsageError(
                    f"thresholds {_join(rising)}: must not fall from the mask to the last seed, nor from centre to "
                    "centre; lower the first ones or raise the last ones"
                )
        if len(thresholds) > MAX_PLANES:
            raise UsageError(f"{len(thresholds)} thresholds: at most {MAX_PLANES} are possible; leave some out")
        if not 0 <= self.reach <= MAX_REACH:
            raise UsageError(f"reach {self.reach}: must be between 0 and {MAX_REACH} pixels; choose another reach")
        for name in ("min_area", "max_hole_area", "min_seed_area"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} {getattr(self, name)}: must not be negative; use 0 for no limit")
        if not 0 <= self.min_certain <= 1:
            raise UsageError(f"min_certain {self.min_certain:g}: must be between 0 and 1; use 0 to keep all cells")
        if self.max_area is not None and not self.max_area >= self.min_area:
            raise UsageError(
                f"max_area {self.max_area:g} is below min_area {self.min_area:g}: no cell could remain; change one"
            )

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The planes to decide, in the order in which `label` takes them.

        The foreground, the seeds, the centres; the certain pixels, if they are asked for.
        """
        return (*self.nested_thresholds, *((CERTAIN,) if self.min_certain else ()))

    @property
    def nested_thresholds(self) -> tuple[float, ...]:
        """Thresholds of the foreground, the seeds and the centres."""
        return (self.mask_threshold, *self.seed_thresholds, *self.centre_thresholds)

    def as_record(self) -> dict[str, Any]:
        """Values for files; without centre thresholds and certain pixels as files of versions before them."""
        record = asdict(self)
        return {
            name: value for name, value in record.items() if value or name not in ("centre_thresholds", "min_certain")
        }


def _join(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def label(planes: NDArray[np.bool_], settings: PostProcessing) -> LabelImage:
    """Turn decided bit planes into a label image.

    1. The planes are nested, those of certain pixels aside: a pixel counts in a plane only where it is set in all
       planes before it.
    2. Every component (over faces) of the first seed plane of at least ``min_seed_area`` pixels is a seed, unless it
       holds two or more seeds of the planes above it: then these take its place. So dim cells stay whole and bright
       ones that touch are parted. Where a foreground component reaches the first seed plane in smaller components
       alone, the largest of them is a seed (a tie goes to the first in raster order). Centres are planes above the
       seeds: a component of the last seed plane that holds two or more centres is divided among them, each pixel going
       to the centre with the shortest path over faces within the component (a tie to the lower id).
    3. Every foreground pixel goes to the nearest seed within ``reach`` (Euclidean, exact; a tie goes to the seed whose
       first pixel comes first in raster order). What does not hang together with its own seed over faces becomes
       background, so growth neither joins nor makes cells.
    4. Holes are filled: components of the background (over faces) of at most ``max_hole_area`` pixels that do not reach
       the border of the image and whose face neighbours all belong to one cell.
    5. Cells outside ``min_area`` and ``max_area`` are dropped, those of whose pixels less than ``min_certain`` are
       certain, and with ``exclude_border`` those at the border.

    Up to step 2 nothing depends on the order of the axes. Growth depends on it in ties alone: where no foreground pixel
    is equally far from two seeds, transposing or flipping the planes transposes or flips the cells (their ids follow
    the new raster order).

    Parameters
    ----------
    planes : ndarray of bool, shape (P, Y, X) or (P, Z, Y, X)
        One plane for each of ``settings.thresholds``: the foreground, the seeds, the centres, the certain pixels.
    settings : PostProcessing
        Of the thresholds only the number matters, since the planes are decided already.

    Returns
    -------
    ndarray of uint16 or uint32, shape (Y, X) or (Z, Y, X)
        Ids from 1 without gaps, in raster order of each cell's first pixel; each cell is connected over faces.

    Raises
    ------
    ValueError
        When the planes are not boolean or do not fit the thresholds.

    Examples
    --------
    >>> foreground = [[1, 1, 1, 1, 1, 1, 0]]
    >>> seeds = [[0, 1, 0, 0, 0, 1, 0]]
    >>> label(np.array([foreground, seeds], dtype=bool), PostProcessing(min_seed_area=1))
    array([[1, 1, 1, 1, 2, 2, 0]], dtype=uint16)
    """
    return cast("LabelImage", label_in_bands(np.asarray(planes), settings))


def rows_in_memory(settings: PostProcessing, rows: int) -> int:
    """Rows (sections in 3-D) that `label_in_bands` holds for a band of ``rows``: a band is seen with its context."""
    return rows + 2 * max(settings.reach, PARTING_REACH if settings.centre_thresholds else 0)


def label_in_bands(
    planes: RowArray,
    settings: PostProcessing,
    *,
    rows: int | None = None,
    allocate: Allocate = np.zeros,
    area: Area | None = None,
) -> RowArray:
    """Turn decided bit planes into the label image that `label` gives, some rows at a time.

    Parameters
    ----------
    planes, settings
        See `label`; the planes may be on disk.
    rows : int, optional
        Rows (sections in 3-D) that are worked on at once; all unless given. They decide the memory: about 40 bytes for
        each pixel in `rows_in_memory`, and some tables of the components.
    allocate : callable
        Makes the arrays of the size of the image, which may be on disk: the cells while they are worked on, and the
        label image. It is not called where all rows are one band.
    area : Area, optional
        Cells with less than half of their pixels in it are dropped; the others are whole.

    Raises
    ------
    ValueError
        As `label`.
    """
    count, shape = len(settings.thresholds), tuple(planes.shape[1:])
    if planes.dtype != np.bool_ or len(shape) not in (2, 3) or planes.shape[0] != count:
        raise ValueError(f"planes are {planes.dtype} of shape {planes.shape}: need bool, ({count}, [Z,] Y, X)")
    if 0 in shape:
        return np.zeros(shape, dtype=np.uint16)
    bands = bands_of(shape[0], rows)
    meaning = SeedPlanes(len(settings.seed_thresholds), len(settings.centre_thresholds), settings.min_seed_area)
    certain = planes_of(planes, count - 1) if settings.min_certain else None
    nested = planes if certain is None else planes_of(planes, slice(count - 1))
    cells = grow(find_seeds(nested, bands, meaning), shape, bands, settings.reach, allocate)
    census = _Census(shape, area)
    for band, ids in zip(bands, fill_holes(cells, bands, settings.max_hole_area), strict=True):
        census.add(ids, band, None if certain is None else certain[band])
        if len(bands) > 1:
            cells[band] = ids
    numbers = census.numbers(settings)
    if len(bands) == 1:
        return cast("LabelImage", renumbered(cells[bands[0]], numbers))
    label_image = allocate(shape, numbers.dtype)
    for band in bands:
        label_image[band] = renumbered(cells[band], numbers)
    return label_image


class _Census:
    """Areas and places of the cells, counted band by band."""

    def __init__(self, shape: tuple[int, ...], area: Area | None) -> None:
        self._shape, self._area = shape, area
        self._table = np.zeros((1, CENSUS_WIDTH), np.int64)
        self._seen = 0

    def add(self, cells: Ids, band: Band, certain: NDArray[np.bool_] | None) -> None:
        more = max(0, int(cells.max()) + 1 - len(self._table))
        self._table = np.pad(self._table, ((0, more), (0, 0)))
        # Without a plane of certain pixels each is one.
        certain = np.ones(1, np.bool_) if certain is None else certain
        self._seen = _count_cells(cells.reshape(-1), certain.reshape(-1), self._table, self._seen)
        for axis, size in enumerate(self._shape):
            ends = [end for end, is_end in ((0, band.start == 0), (-1, band.stop == self._shape[0])) if axis or is_end]
            if size > 1:
                self._table[np.take(cells, ends, axis=axis), AT_BORDER] = 1
        if self._area is not None:
            within = self._area((band, slice(None)) if len(self._shape) == 2 else ())
            self._table[:, INSIDE] += np.bincount(cells[..., within].reshape(-1), minlength=len(self._table))

    def numbers(self, settings: PostProcessing) -> NDArray[np.unsignedinteger]:
        """For each cell its id in the label image, or 0 where it is dropped."""
        areas, order = self._table[:, AREA], self._table[:, ORDER]
        keep = (order > 0) & (areas >= settings.min_area)
        if settings.max_area is not None:
            keep &= areas <= settings.max_area
        if settings.min_certain:
            keep &= self._table[:, CERTAIN_AREA] >= settings.min_certain * areas
        if settings.exclude_border:
            keep &= self._table[:, AT_BORDER] == 0
        if self._area is not None:
            keep &= 2 * self._table[:, INSIDE] >= areas
        kept = np.flatnonzero(keep)
        numbers = np.zeros(len(keep), label_dtype(len(kept)))
        numbers[kept[np.argsort(order[kept])]] = np.arange(1, len(kept) + 1)
        return numbers


@compiled
def _count_cells(cells: Ids, certain: NDArray[np.bool_], table: Numbers, seen: int) -> int:
    """Count the pixels of each cell, and of these the certain ones; where ``certain`` has one pixel, it is for all."""
    step = 1 if len(certain) == len(cells) else 0
    for pixel in range(len(cells)):
        cell = cells[pixel]
        if cell == 0:
            continue
        table[cell, AREA] += 1
        table[cell, CERTAIN_AREA] += certain[step * pixel]
        if table[cell, ORDER] == 0:
            seen += 1
            table[cell, ORDER] = seen
    return seen
