"""From decided bit planes to cells.

`label` is a function of bits and integer squared distances alone, never of float priorities: equal planes give label
images equal to the byte, for any tile size, batch size or number of threads.

Each step has a reach, the distance over which a pixel can change another; steps without one use a global union-find
over components:

==================== ===================================================================================================
step                 reach
==================== ===================================================================================================
nesting              0: a pixel's own bits
seeds                global union-find over the components of each plane, and sums over them
parting by centres   ``PARTING_REACH`` pixels along paths in a component, for the nearest centre
growth               ``reach`` pixels for the nearest seed (Euclidean). A grown pixel lies within ``reach`` of its seed,
                     so whether it hangs together with it is decided within ``reach`` of the seed as well
hole filling         ``max_hole_area`` pixels: a hole is smaller than that and so is its extent
area and border      sums over cells, by id
raster order         ids alone
==================== ===================================================================================================
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.errors import UsageError
from unetbio.labels import LabelImage, as_volume, connected_components, relabel_raster

__all__ = ["PostProcessing", "label"]

MAX_REACH = 10_000  # px; squared distances stay far below 2**31
MAX_PLANES = 255

PARTING_REACH = 128
"""Steps from a centre, at most, over which it takes its part of a seed."""

# Squared distance and label share one integer, so that one comparison prefers the nearer seed and then the lower label.
LABEL_BITS = 32
LABEL_MASK = (1 << LABEL_BITS) - 1
NO_SEED = np.iinfo(np.int64).max


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

    def __post_init__(self) -> None:
        for name in ("seed_thresholds", "centre_thresholds"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        thresholds = self.thresholds
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
        if self.max_area is not None and not self.max_area >= self.min_area:
            raise UsageError(
                f"max_area {self.max_area:g} is below min_area {self.min_area:g}: no cell could remain; change one"
            )

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The planes to decide, in the order in which `label` takes them: the foreground, the seeds, the centres."""
        return (self.mask_threshold, *self.seed_thresholds, *self.centre_thresholds)

    def as_record(self) -> dict[str, Any]:
        """Values for files; without centre thresholds as files of versions before them."""
        record = asdict(self)
        if not self.centre_thresholds:
            del record["centre_thresholds"]
        return record


def _join(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def label(planes: NDArray[np.bool_], settings: PostProcessing) -> LabelImage:
    """Turn decided bit planes into a label image.

    1. The planes are nested: a pixel counts in a plane only where it is set in all planes before it.
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
    5. Cells outside ``min_area`` and ``max_area`` are dropped, with ``exclude_border`` also those at the border.

    Up to step 2 nothing depends on the order of the axes. Growth depends on it in ties alone: where no foreground pixel
    is equally far from two seeds, transposing or flipping the planes transposes or flips the cells (their ids follow
    the new raster order).

    Parameters
    ----------
    planes : ndarray of bool, shape (P, Y, X) or (P, Z, Y, X)
        One plane for each of ``settings.thresholds``: the foreground, the seeds, the centres.
    settings : PostProcessing
        Only the number of thresholds matters, since the planes are decided already.

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
    planes = np.asarray(planes)
    count = len(settings.thresholds)
    if planes.dtype != np.bool_ or planes.ndim not in (3, 4) or len(planes) != count:
        raise ValueError(f"planes are {planes.dtype} of shape {planes.shape}: need bool, ({count}, [Z,] Y, X)")
    shape = planes.shape[1:]
    if 0 in shape:
        return np.zeros(shape, dtype=np.uint16)
    depths = _count_planes(np.ascontiguousarray(planes).reshape(count, -1)).reshape(shape)
    cells = _find_seeds(as_volume(depths), settings)
    _grow(cells, as_volume(depths > 0), settings.reach)
    if settings.max_hole_area > 0:
        _fill_holes(cells, as_volume(connected_components(cells == 0)[0]), settings.max_hole_area)
    return relabel_raster(_drop_cells(cells, settings).reshape(shape))


@compiled
def _count_planes(planes: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Count the planes, from the first without a gap, in which a pixel is set: plane ``k`` nested is ``depth > k``."""
    depths = np.zeros(planes.shape[1], dtype=np.uint8)
    for plane in range(planes.shape[0]):
        for pixel in range(planes.shape[1]):
            depths[pixel] += depths[pixel] == plane and planes[plane, pixel]
    return depths


def _find_seeds(depths: NDArray[np.uint8], settings: PostProcessing) -> NDArray[np.int32]:
    """Seeds by the component tree of the nested planes, from the highest plane down; ids in raster order."""
    seeds = np.zeros(depths.shape, dtype=np.int32)
    seed_count = 0
    highest = len(settings.thresholds) - 1
    below_centres = highest - len(settings.centre_thresholds)
    for plane in range(highest, min(1, highest) - 1, -1):
        components, component_count = connected_components(depths > plane)
        seed_count = _replace_seeds(seeds, seed_count, components, component_count, settings.min_seed_area)
        if plane == below_centres < highest:
            # Ids decide ties and follow from the pixels alone when they are in raster order.
            seeds = relabel_raster(seeds).astype(np.int32)
            _part(seeds, components, PARTING_REACH)
    foreground, foreground_count = connected_components(depths > 0)
    _seed_small_components(seeds, components, component_count, foreground, foreground_count)
    return relabel_raster(seeds).astype(np.int32)


@compiled
def _seed_small_components(
    seeds: NDArray[np.int32],
    components: NDArray[np.int32],
    component_count: int,
    foreground: NDArray[np.int32],
    foreground_count: int,
) -> None:
    """Give each foreground component without a seed the largest component of the first seed plane in it, in place."""
    flat_seeds = seeds.reshape(-1)
    flat_components = components.reshape(-1)
    flat_foreground = foreground.reshape(-1)
    areas = np.zeros(component_count + 1, dtype=np.int64)
    parents = np.zeros(component_count + 1, dtype=np.int32)
    seeded = np.zeros(foreground_count + 1, dtype=np.bool_)
    highest = 0
    for pixel in range(flat_seeds.size):
        areas[flat_components[pixel]] += 1
        parents[flat_components[pixel]] = flat_foreground[pixel]
        seeded[flat_foreground[pixel]] |= flat_seeds[pixel] > 0
        highest = max(highest, flat_seeds[pixel])
    largest = np.zeros(foreground_count + 1, dtype=np.int32)
    for component in range(1, component_count + 1):
        # Of equal ones the first in raster order, as components are numbered
        known = largest[parents[component]]
        if known == 0 or areas[component] > areas[known]:
            largest[parents[component]] = component
    for pixel in range(flat_seeds.size):
        component = flat_components[pixel]
        if component > 0 and not seeded[parents[component]] and largest[parents[component]] == component:
            flat_seeds[pixel] = highest + component


@compiled
def _replace_seeds(
    seeds: NDArray[np.int32], seed_count: int, components: NDArray[np.int32], component_count: int, min_seed_area: int
) -> int:
    """Let each component of a plane take the place of the seeds in it, unless there are two or more; in place.

    A seed of a higher plane lies in one component, since the planes are nested.
    """
    flat_seeds = seeds.reshape(-1)
    flat_components = components.reshape(-1)
    areas = np.zeros(component_count + 1, dtype=np.int64)
    parents = np.zeros(seed_count + 1, dtype=np.int32)
    for pixel in range(flat_seeds.size):
        areas[flat_components[pixel]] += 1
        parents[flat_seeds[pixel]] = flat_components[pixel]
    parts = np.zeros(component_count + 1, dtype=np.int32)
    for seed in range(1, seed_count + 1):
        parts[parents[seed]] += 1
    component_ids = np.zeros(component_count + 1, dtype=np.int32)
    seed_ids = np.zeros(seed_count + 1, dtype=np.int32)
    count = 0
    for component in range(1, component_count + 1):
        if parts[component] < 2 and areas[component] >= min_seed_area:
            count += 1
            component_ids[component] = count
    for seed in range(1, seed_count + 1):
        if parts[parents[seed]] >= 2:
            count += 1
            seed_ids[seed] = count
    for pixel in range(flat_seeds.size):
        # At most one of the two is not zero.
        flat_seeds[pixel] = component_ids[flat_components[pixel]] + (
            seed_ids[flat_seeds[pixel]] if parts[flat_components[pixel]] >= 2 else 0
        )
    return count


@compiled
def _part(seeds: NDArray[np.int32], components: NDArray[np.int32], reach: int) -> None:
    """Grow the seeds over their components, a step over faces at a time, in place."""
    depth, height, width = seeds.shape
    flat_seeds = seeds.reshape(-1)
    flat_components = components.reshape(-1)
    steps = np.zeros(flat_seeds.size, dtype=np.int16)
    front = np.flatnonzero((flat_seeds > 0) & (flat_components > 0))
    for step in range(1, reach + 1):
        count = 0
        reached = np.empty(6 * front.size, dtype=np.int64)
        for pixel in front:
            z, rest = divmod(pixel, height * width)
            y, x = divmod(rest, width)
            for w, v, u in ((z - 1, y, x), (z + 1, y, x), (z, y - 1, x), (z, y + 1, x), (z, y, x - 1), (z, y, x + 1)):
                if not (0 <= w < depth and 0 <= v < height and 0 <= u < width):
                    continue
                other = (w * height + v) * width + u
                if flat_components[other] != flat_components[pixel]:
                    continue
                if flat_seeds[other] == 0:
                    steps[other] = step
                    reached[count] = other
                    count += 1
                elif steps[other] != step or flat_seeds[other] <= flat_seeds[pixel]:
                    continue
                flat_seeds[other] = flat_seeds[pixel]
        if count == 0:
            return
        front = reached[:count]


def _grow(seeds: NDArray[np.int32], foreground: NDArray[np.bool_], reach: int) -> None:
    """Grow the seeds to cells, in place, since arrays of the size of the image are costly."""
    if reach == 0:
        return
    keys = _nearest_along_y(seeds, reach)
    if seeds.shape[0] > 1:
        keys = _nearest_along_z(keys, reach)
    _assign_nearest(seeds, keys, foreground, reach)
    _flood(seeds)


# The nearest seed is found one axis after another. For a pixel (y, x) and a column x', the seed of that column with the
# lowest (squared distance, label) does not depend on x, since all of the column is (x - x')**2 further away; so the
# lowest pair over a column first, and over columns second, is the lowest of all, ties included.


@compiled
def _nearest_along_y(seeds: NDArray[np.int32], reach: int) -> NDArray[np.int64]:
    """Squared distance and label of the nearest seed in the same column, as one integer."""
    depth, height, width = seeds.shape
    keys = np.full(seeds.shape, NO_SEED, dtype=np.int64)
    for z in range(depth):
        for direction in (1, -1):
            distance = np.full(width, reach + 1, dtype=np.int64)
            nearest = np.zeros(width, dtype=np.int64)
            for step in range(height):
                y = step if direction == 1 else height - 1 - step
                for x in range(width):
                    is_seed = seeds[z, y, x] > 0
                    nearest[x] = seeds[z, y, x] if is_seed else nearest[x]
                    distance[x] = 0 if is_seed else min(distance[x] + 1, reach + 1)
                    key = (distance[x] * distance[x]) << LABEL_BITS | nearest[x]
                    keys[z, y, x] = min(keys[z, y, x], key) if distance[x] <= reach else keys[z, y, x]
    return keys


@compiled
def _nearest_along_z(keys: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Look through the slices within reach; keys that are too far in all are left out along x."""
    depth, height, width = keys.shape
    best = keys.copy()
    for z in range(depth):
        for other in range(max(0, z - reach), min(depth, z + reach + 1)):
            offset = ((z - other) * (z - other)) << LABEL_BITS
            for y in range(height):
                for x in range(width):
                    if keys[other, y, x] != NO_SEED:
                        best[z, y, x] = min(best[z, y, x], keys[other, y, x] + offset)
    return best


@compiled
def _assign_nearest(
    cells: NDArray[np.int32], keys: NDArray[np.int64], foreground: NDArray[np.bool_], reach: int
) -> None:
    """Write the label of the nearest seed within reach to foreground pixels, as a negative number: not yet claimed."""
    depth, height, width = cells.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if not foreground[z, y, x] or cells[z, y, x] > 0:
                    continue
                best = (reach * reach + 1) << LABEL_BITS
                best = min(best, keys[z, y, x])
                step = 1
                # A column step pixels away can still win or tie while step**2 is at most the best squared distance.
                while step <= reach and step * step <= best >> LABEL_BITS:
                    offset = (step * step) << LABEL_BITS
                    if x >= step and keys[z, y, x - step] != NO_SEED:
                        best = min(best, keys[z, y, x - step] + offset)
                    if x + step < width and keys[z, y, x + step] != NO_SEED:
                        best = min(best, keys[z, y, x + step] + offset)
                    step += 1
                if best >> LABEL_BITS <= reach * reach:
                    cells[z, y, x] = -(best & LABEL_MASK)


@compiled
def _touches(cells: NDArray[np.int32], cell: int, z: int, y: int, x: int) -> bool:
    """Whether a face neighbour of the pixel belongs to the cell."""
    depth, height, width = cells.shape
    return bool(
        (x > 0 and cells[z, y, x - 1] == cell)
        or (x < width - 1 and cells[z, y, x + 1] == cell)
        or (y > 0 and cells[z, y - 1, x] == cell)
        or (y < height - 1 and cells[z, y + 1, x] == cell)
        or (z > 0 and cells[z - 1, y, x] == cell)
        or (z < depth - 1 and cells[z + 1, y, x] == cell)
    )


@compiled
def _claim_neighbours(cells: NDArray[np.int32], z: int, y: int, x: int, stack: NDArray[np.int64], size: int) -> int:
    """Claim the pixels over the faces of a cell's pixel that were assigned to the cell; they go on the stack."""
    depth, height, width = cells.shape
    cell = cells[z, y, x]
    for step in (-1, 1):
        if 0 <= x + step < width and cells[z, y, x + step] == -cell:
            cells[z, y, x + step] = cell
            stack[size] = (z * height + y) * width + x + step
            size += 1
        if 0 <= y + step < height and cells[z, y + step, x] == -cell:
            cells[z, y + step, x] = cell
            stack[size] = (z * height + y + step) * width + x
            size += 1
        if 0 <= z + step < depth and cells[z + step, y, x] == -cell:
            cells[z + step, y, x] = cell
            stack[size] = ((z + step) * height + y) * width + x
            size += 1
    return size


@compiled
def _flood(cells: NDArray[np.int32]) -> None:
    """Keep the pixels connected with their own seed over faces, the same set in any order, and drop the rest."""
    depth, height, width = cells.shape
    stack = np.empty(1024, dtype=np.int64)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if cells[z, y, x] >= 0 or not _touches(cells, -cells[z, y, x], z, y, x):
                    continue
                cells[z, y, x] = -cells[z, y, x]
                size = _claim_neighbours(cells, z, y, x, stack, 0)
                while size > 0:
                    if size + 6 > len(stack):
                        stack = np.concatenate((stack, np.empty_like(stack)))
                    size -= 1
                    row, column = divmod(stack[size], width)
                    size = _claim_neighbours(cells, row // height, row % height, column, stack, size)
    flat = cells.reshape(-1)
    for pixel in range(flat.size):
        flat[pixel] = max(flat[pixel], 0)


@compiled
def _fill_holes(cells: NDArray[np.int32], background: NDArray[np.int32], max_hole_area: int) -> None:
    """Give components of the background to the one cell that surrounds them; in place.

    ``background`` numbers the components of the background over faces.
    """
    depth, height, width = cells.shape
    flat_cells = cells.reshape(-1)
    flat_background = background.reshape(-1)
    areas = _count_pixels(background)
    # 0: no cell seen yet; -1: more than one cell, or the border of the image.
    owners = np.zeros(areas.size, dtype=np.int32)
    sizes = (width, height, depth)
    strides = (1, width, width * height)
    for pixel in range(flat_cells.size):
        component = flat_background[pixel]
        if component == 0 or areas[component] > max_hole_area or owners[component] == -1:
            continue
        for axis in range(3):
            if sizes[axis] == 1:
                continue
            position = pixel // strides[axis] % sizes[axis]
            if position == 0 or position == sizes[axis] - 1:
                owners[component] = -1
                break
            for step in (-strides[axis], strides[axis]):
                cell = flat_cells[pixel + step]
                if cell != 0 and owners[component] == 0:
                    owners[component] = cell
                elif cell != 0 and cell != owners[component]:
                    owners[component] = -1
    for pixel in range(flat_cells.size):
        component = flat_background[pixel]
        if component != 0 and areas[component] <= max_hole_area and owners[component] > 0:
            flat_cells[pixel] = owners[component]


def _drop_cells(cells: NDArray[np.int32], settings: PostProcessing) -> NDArray[np.int32]:
    areas = _count_pixels(cells)
    keep = areas >= settings.min_area
    if settings.max_area is not None:
        keep &= areas <= settings.max_area
    if settings.exclude_border:
        for axis in range(cells.ndim):
            if cells.shape[axis] > 1:
                keep[np.take(cells, [0, -1], axis=axis)] = False
    keep[0] = True
    if keep.all():
        return cells
    new_ids: NDArray[np.int32] = np.where(keep, np.arange(keep.size, dtype=np.int32), np.int32(0))
    return new_ids[cells]


@compiled
def _count_pixels(cells: NDArray[np.int32]) -> NDArray[np.int64]:
    flat = cells.reshape(-1)
    areas = np.zeros(cells.max() + 1, dtype=np.int64)
    for cell in flat:
        areas[cell] += 1
    return areas
