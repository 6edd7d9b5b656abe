"""Sizes of training patches that a network can take."""

from collections.abc import Sequence

from unetbio.errors import UsageError
from unetbio.geometry import Geometry

__all__ = ["patch_shape"]

DEFAULT_PATCH_SIZES = {2: 252, 3: 92}
SMALLEST_ANSWER = 2
"""The output of a patch is at least this part of the requested patch size."""


def patch_shape(geometry: Geometry, size: int | Sequence[int] | None) -> tuple[int, ...]:
    """Smallest legal input of at least ``size`` pixels an axis whose output is at least half as wide.

    A network without padding and with a large context needs larger patches to learn from more than a few pixels. See
    `TrainingConfig` for what None means.

    Raises
    ------
    UsageError
        When there is another number of sizes than of axes.
    """
    if size is None:
        size = DEFAULT_PATCH_SIZES[geometry.ndim]
    sizes = (size,) * geometry.ndim if isinstance(size, int) else tuple(size)
    if len(sizes) != geometry.ndim:
        raise UsageError(f"patch_size {list(sizes)} has {len(sizes)} numbers, the images have {geometry.ndim} axes")
    needed = [_patch_pixels(geometry, wanted, axis) for axis, wanted in enumerate(sizes)]
    return tuple(max(geometry.nearest_legal(pixels, axis)) for axis, pixels in enumerate(needed))


def _patch_pixels(geometry: Geometry, wanted: int, axis: int) -> int:
    lost = 2 * geometry.context[axis] if geometry.padding == "valid" else 0
    return max(wanted, lost + wanted // SMALLEST_ANSWER)
