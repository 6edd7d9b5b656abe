"""Seeds of cells by the component tree of nested planes, found band by band.

A node of the tree is a component (over faces) of one plane. Each foreground pixel keeps the number of its node in the
highest plane that it reaches; its nodes in lower planes are the ancestors of that one. Which nodes are seeds is decided
in tables of nodes, so that one look-up a pixel gives its seed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.compilation import compiled
from unetbio.labels import as_volume, connected_components, renumbered
from unetbio.postprocessing.bands import Band, Ids, Numbers, Repeated, Seams, with_context

__all__ = ["PARTING_REACH", "SeedPlanes", "find_seeds"]

PARTING_REACH = 128
"""Steps from a centre, at most, over which it takes its part of a seed."""

NOT_SEED = -1
PLANE, AREA, PARENT, FIRST, TABLE_WIDTH = 0, 1, 2, 3, 4


@dataclass(frozen=True)
class SeedPlanes:
    """Meaning of the planes.

    Parameters
    ----------
    seeds, centres : int
        Number of seed planes, which follow the foreground, and of planes of centres, which follow the seeds.
    min_seed_area : int
        See `unetbio.postprocessing.instances.PostProcessing`.
    """

    seeds: int
    centres: int
    min_seed_area: int

    @property
    def lowest(self) -> int:
        """First plane of seeds: the foreground if there is no other."""
        return min(1, self.seeds)

    @property
    def highest(self) -> int:
        """Last plane."""
        return self.seeds + self.centres


def find_seeds(planes: Any, bands: list[Band], meaning: SeedPlanes) -> Iterator[Ids]:
    """Find the seeds of an image.

    Parameters
    ----------
    planes : array-like of bool
        ``(P, *spatial)``; a plane counts only where all planes before it are set.
    bands : list of slice
        Of the first spatial axis.
    meaning : SeedPlanes
        What the planes are.

    Yields
    ------
    ndarray of int32
        A band: seeds numbered in raster order, -1 in the foreground without a seed, 0 in the background.
    """
    tree = _find_tree(planes, bands)
    seeds, parts = _choose(tree, meaning)
    if parts is None:
        of_node = _with_foreground(tree.inherited(_numbered(seeds, tree.table[seeds, FIRST], len(tree.table))))
        for nodes in tree.bands:
            yield renumbered(nodes, of_node)
    else:
        yield from _parted(tree, meaning, seeds, parts, len(bands))


@dataclass(frozen=True)
class _Tree:
    """The component tree.

    Parameters
    ----------
    bands : iterable of ndarray of int32
        The node of each pixel in the highest plane that it reaches, 0 in the background.
    table : ndarray of int64
        Of each node, numbered from 1: its plane, its pixels, its node in the plane below (0 for none), and its first
        pixel in raster order.
    root : ndarray of int64
        For each node the one that stands for it: a component of several bands has a node in each, and the first of
        them stands for all.
    """

    bands: Iterable[Ids]
    table: Numbers
    root: Numbers

    def nodes_of(self, plane: int) -> Numbers:
        """Nodes of a plane, each component once, in raster order."""
        is_root = self.root == np.arange(len(self.root))
        return np.flatnonzero(is_root & (self.table[:, PLANE] == plane) & (self.table[:, AREA] > 0))

    def inherited(self, values: Ids) -> Ids:
        """For each node its own value, or that of the nearest ancestor that has one; changes ``values``."""
        for plane in range(1, int(self.table[:, PLANE].max()) + 1):
            nodes = self.nodes_of(plane)
            values[nodes] = np.where(values[nodes] > 0, values[nodes], values[self.table[nodes, PARENT]])
        return values[self.root]


def _find_tree(planes: Any, bands: list[Band]) -> _Tree:
    row = prod(planes.shape[2:])
    seams, starts = Seams(), list[int]()
    tables, last = [np.zeros((1, TABLE_WIDTH), np.int64)], list[Numbers]()
    for band in bands:
        starts.append(seams.total)
        nodes, added, faces = _nodes_of(planes[:, band], seams.total, band.start * row)
        seams.total += sum(map(len, added))
        tables += added
        for upper, (lower, _) in zip(last, faces, strict=False):
            seams.join(upper, lower)
        last = [face for _, face in faces]
    table, root = np.concatenate(tables), seams.roots()
    moved = np.flatnonzero(root != np.arange(len(root)))
    np.add.at(table[:, AREA], root[moved], table[moved, AREA])
    table[:, PARENT] = root[table[:, PARENT]]

    def read() -> Iterator[Ids]:
        return (_nodes_of(planes[:, band], start, 0)[0] for band, start in zip(bands, starts, strict=True))

    # An image in one piece is not read twice.
    return _Tree([nodes] if len(bands) == 1 else Repeated(read), table, root)


def _nodes_of(
    planes: NDArray[np.bool_], start: int, position: int
) -> tuple[Ids, list[Numbers], list[tuple[Numbers, Numbers]]]:
    """Nodes of a band; and for each plane a table of its nodes, and its nodes in the first and the last row.

    ``start`` nodes and ``position`` pixels are in the bands before.
    """
    shape = planes.shape[1:]
    depths = _count_planes(np.ascontiguousarray(planes).reshape(len(planes), -1)).reshape(shape)
    nodes = np.zeros(shape, np.int32)
    tables, faces = [], []
    for plane in range(len(planes)):
        components, count = connected_components(depths > plane)
        table = np.zeros((count, TABLE_WIDTH), np.int64)
        table[:, PLANE] = plane
        _add_plane(nodes.reshape(-1), components.reshape(-1), table, start, position)
        first, last = (np.where(face > 0, face + np.int64(start), 0) for face in (components[0], components[-1]))
        tables.append(table)
        faces.append((first, last))
        start += count
    return nodes, tables, faces


@compiled
def _count_planes(planes: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Count the planes, from the first without a gap, in which a pixel is set: plane ``k`` nested is ``depth > k``."""
    depths = np.zeros(planes.shape[1], dtype=np.uint8)
    for plane in range(planes.shape[0]):
        for pixel in range(planes.shape[1]):
            depths[pixel] += depths[pixel] == plane and planes[plane, pixel]
    return depths


@compiled
def _add_plane(nodes: Ids, components: Ids, table: Numbers, start: int, position: int) -> None:
    """Number the components of a plane after ``start``; ``nodes`` holds those of the plane below and is changed."""
    for pixel in range(len(nodes)):
        component = components[pixel]
        if component == 0:
            continue
        row = table[component - 1]
        if row[1] == 0:
            row[2], row[3] = nodes[pixel], position + pixel
        row[1] += 1
        nodes[pixel] = start + component


def _choose(tree: _Tree, meaning: SeedPlanes) -> tuple[Numbers, Numbers | None]:
    """Nodes that are seeds, from the highest plane down; and those by which components are parted, if there are."""
    area, parent = tree.table[:, AREA], tree.table[:, PARENT]
    parts: Numbers | None = None
    seeds, within = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for plane in range(meaning.highest, meaning.lowest - 1, -1):
        nodes, within = tree.nodes_of(plane), parent[within]
        counts = np.bincount(within, minlength=len(area))
        # A component takes the place of the seed in it, unless there are two or more.
        whole = nodes[(counts[nodes] < 2) & (area[nodes] >= meaning.min_seed_area)]
        stays = counts[within] >= 2
        seeds, within = np.concatenate([whole, seeds[stays]]), np.concatenate([whole, within[stays]])
        if plane == meaning.seeds < meaning.highest:
            parts = seeds
    return np.concatenate([seeds, _largest_of_unseeded(tree, meaning.lowest, within)]), parts


def _largest_of_unseeded(tree: _Tree, plane: int, seeded: Numbers) -> Numbers:
    """Largest node of a plane in each foreground component without a seed; of equal ones the first."""

    def foreground(nodes: Numbers) -> Numbers:
        return nodes if plane == 0 else tree.table[nodes, PARENT]

    nodes = tree.nodes_of(plane)
    nodes = nodes[~np.isin(foreground(nodes), foreground(seeded))]
    nodes = nodes[np.lexsort((nodes, -tree.table[nodes, AREA], foreground(nodes)))]
    largest: Numbers = nodes[np.unique(foreground(nodes), return_index=True)[1]]
    return largest


def _numbered(seeds: Numbers, first: Numbers, length: int) -> Ids:
    """For each of ``length`` nodes its number among the seeds in raster order of their first pixels, or 0."""
    numbers = np.zeros(length, np.int32)
    numbers[seeds[np.argsort(first)]] = np.arange(1, len(seeds) + 1)
    return numbers


def _with_foreground(of_node: Ids) -> Ids:
    of_node[of_node == 0] = NOT_SEED
    of_node[0] = 0
    return of_node


def _parted(tree: _Tree, meaning: SeedPlanes, seeds: Numbers, parts: Numbers, bands: int) -> Iterator[Ids]:
    """As `find_seeds`, where components of the last seed plane are parted by the nodes ``parts``."""
    # Numbers decide ties, and follow from the pixels alone when they are in raster order.
    part_of_node = tree.inherited(_numbered(parts, tree.table[parts, FIRST], len(tree.table)))
    component_of_node = np.zeros(len(tree.table), np.int32)
    components = tree.nodes_of(meaning.seeds)
    component_of_node[components] = components
    component_of_node = tree.inherited(component_of_node)

    def grow() -> Iterator[tuple[Ids, Ids]]:
        for window, core in with_context(tree.bands, PARTING_REACH):
            grown = part_of_node[window]
            _part(as_volume(grown), as_volume(component_of_node[window]), PARTING_REACH)
            yield window[core], grown[core]

    grown = list(grow()) if bands == 1 else Repeated(grow)
    first = _first_pixels((part for _, part in grown), len(parts))
    is_part = np.isin(seeds, parts)
    firsts = np.where(is_part, first[part_of_node[seeds] * is_part], tree.table[seeds, FIRST])
    numbers = _numbered(seeds, firsts, len(tree.table))
    of_part = np.full(len(parts) + 1, NOT_SEED, np.int32)
    of_part[part_of_node[seeds[is_part]]] = numbers[seeds[is_part]]
    numbers[seeds[is_part]] = 0
    of_node = _with_foreground(tree.inherited(numbers))
    for nodes, part in grown:
        yield np.maximum(of_node[nodes], of_part[part])


def _first_pixels(bands: Iterable[Ids], count: int) -> Numbers:
    """First pixel in raster order of the ids up to ``count``."""
    first, position = np.full(count + 1, -1, np.int64), 0
    for ids in bands:
        _find_first(ids.reshape(-1), first, position)
        position += ids.size
    return first


@compiled
def _find_first(ids: Ids, first: Numbers, position: int) -> None:
    for pixel in range(len(ids)):
        if first[ids[pixel]] < 0:
            first[ids[pixel]] = position + pixel


@compiled
def _part(seeds: Ids, components: Ids, reach: int) -> None:
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
