"""Random changes of training patches: geometry with one interpolation, then intensity.

The elastic deformation is that of Ronneberger et al. 2015 (arXiv 1505.04597, section 3.1): displacements drawn from a
Gaussian on a coarse grid, interpolated bicubically to every pixel. Rotation, flip, zoom and displacement are one set of
coordinates, so that the image is interpolated once.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetbio.settings.training import Augmentation

__all__ = ["change_intensity", "patch_coordinates", "warp"]


def patch_coordinates(
    rng: np.random.Generator,
    centre: Sequence[float] | NDArray[np.float64],
    shape: Sequence[int],
    settings: Augmentation,
    *,
    largest_zoom: float = math.inf,
) -> NDArray[np.float32]:
    """Image coordinates of each pixel of a randomly deformed patch.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all randomness.
    centre : sequence of float
        The patch's centre in the image, in pixels, one entry a spatial axis.
    shape : sequence of int
        The patch's shape.
    settings : Augmentation
        How much may change.
    largest_zoom : float
        Above this no patch is enlarged; below 1 all are reduced, aligned ones too.

    Returns
    -------
    ndarray of float32
        ``(ndim, *shape)``, pixel coordinates; they may lie outside the image, which is mirrored there.
    """
    ndim = len(shape)
    aligned = rng.random() < settings.aligned_fraction and largest_zoom >= 1
    grid = np.stack(np.meshgrid(*(np.arange(size) - (size - 1) / 2 for size in shape), indexing="ij"))
    offsets = np.tensordot(_random_matrix(rng, ndim, settings, largest_zoom, aligned=aligned), grid, axes=1)
    if aligned:
        # The patch's first pixel falls on a pixel of the image, and with it all others.
        first = offsets.reshape(ndim, -1)[:, 0]
        centre = np.asarray(np.round(np.add(centre, first)) - first, dtype=np.float64)
    elif settings.elastic_sigma > 0:
        offsets += _elastic_displacement(rng, shape, settings.elastic_grid, settings.elastic_sigma)
    coordinates: NDArray[np.float32] = (offsets + np.reshape(centre, (ndim, *[1] * ndim))).astype(np.float32)
    return coordinates


def warp(image: NDArray[np.generic], coordinates: NDArray[np.float32], *, nearest: bool = False) -> NDArray[np.generic]:
    """Sample an image at coordinates, mirrored beyond its border.

    Parameters
    ----------
    image : ndarray
        ``(*spatial)``; label images keep their dtype.
    coordinates : ndarray of float32
        ``(ndim, *shape)`` in pixels.
    nearest : bool
        Take the nearest pixel, as label images need it. If False, interpolate linearly into float32.

    Returns
    -------
    ndarray
        ``shape``, of the dtype of ``image`` if ``nearest``, else float32.
    """
    dtype = image.dtype if nearest else np.float32
    # scipy's "mirror" reflects without repeating the edge, like overlap tiles beyond the border.
    order = 0 if nearest else 1
    sampled: NDArray[np.generic] = ndimage.map_coordinates(image, coordinates, output=dtype, order=order, mode="mirror")
    return sampled


def change_intensity(
    rng: np.random.Generator, image: NDArray[np.float32], settings: Augmentation
) -> NDArray[np.float32]:
    """Change contrast, brightness, gamma, sharpness, noise and colour of a patch at random.

    All but the colour with MONAI's transforms. Mixed channels stand for stains that differ between laboratories, as the
    changes of stains do in Tellez et al. 2018 (doi:10.1109/TMI.2018.2820199).

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all randomness.
    image : ndarray of float32
        ``(C, *spatial)`` in normalised grey values.
    settings : Augmentation
        How much may change.

    Returns
    -------
    ndarray of float32
        Of the same shape.
    """
    from monai import transforms

    chance = settings.probability
    blur = (0.0, settings.blur)
    steps = [
        transforms.RandAdjustContrast(prob=chance, gamma=(1 / settings.gamma, settings.gamma)),
        transforms.RandScaleIntensity(prob=chance, factors=settings.contrast),
        transforms.RandShiftIntensity(prob=chance, offsets=settings.brightness),
        transforms.RandGaussianSmooth(prob=chance, sigma_x=blur, sigma_y=blur, sigma_z=blur),
        transforms.RandGaussianNoise(prob=chance, std=settings.noise),
    ]
    changed = image
    for step in steps:
        step.set_random_state(seed=int(rng.integers(2**31)))
        changed = step(changed)
    changed = np.asarray(changed, dtype=np.float32)
    # Without colour no number is drawn, so that trainings without it stay as they are.
    return _mix_channels(rng, changed, settings.colour) if settings.colour and rng.random() < chance else changed


def _mix_channels(rng: np.random.Generator, image: NDArray[np.float32], colour: float) -> NDArray[np.float32]:
    """Add to each channel a random share of every channel, and a constant."""
    count = len(image)
    shares, constants = rng.uniform(-colour, colour, (count, count)), rng.uniform(-colour, colour, count)
    mixed = np.tensordot(np.eye(count) + shares, image, axes=1) + constants.reshape(-1, *[1] * (image.ndim - 1))
    return mixed.astype(np.float32)


def _random_matrix(
    rng: np.random.Generator, ndim: int, settings: Augmentation, largest_zoom: float, *, aligned: bool
) -> NDArray[np.float64]:
    # The last two axes are the image plane; a stack's z axis is neither rotated nor zoomed, since its voxels differ.
    turns = _quarter_turns(rng, settings, aligned=aligned) if settings.rotate else 0.0
    zoom = min(largest_zoom, np.exp(rng.uniform(-1, 1) * np.log(settings.scale)))
    signs = rng.choice((-1.0, 1.0), size=2) if settings.flip else np.ones(2)
    if aligned:
        zoom = 1.0
    angle = turns * np.pi / 2
    plane = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag(signs) / zoom
    if aligned:
        plane = np.round(plane)
    matrix = np.eye(ndim)
    matrix[-2:, -2:] = plane
    return matrix


def _quarter_turns(rng: np.random.Generator, settings: Augmentation, *, aligned: bool) -> float:
    turns = rng.uniform(0, 4)
    if settings.largest_angle == 180:
        return math.floor(turns) if aligned else turns
    turns = (turns - 2) * settings.largest_angle / 180
    return math.trunc(turns) if aligned else turns


def _elastic_displacement(
    rng: np.random.Generator, shape: Sequence[int], grid: int, sigma: float
) -> NDArray[np.float64]:
    ndim = len(shape)
    # In-plane displacements alone: sigma is given in in-plane pixels.
    displacement = np.zeros((ndim, *shape))
    for axis in (ndim - 2, ndim - 1):
        field = rng.normal(0.0, sigma, size=(grid,) * ndim)
        for along, size in enumerate(shape):
            field = np.moveaxis(np.tensordot(_cubic_weights(grid, size), field, axes=(1, along)), 0, along)
        displacement[axis] = field
    return displacement


@lru_cache(maxsize=16)
def _cubic_weights(grid: int, size: int) -> NDArray[np.float64]:
    # (size, grid): cubic spline interpolation is linear in the grid's values, so one matrix an axis does it.
    places = np.linspace(0, grid - 1, size)
    columns = [ndimage.map_coordinates(unit, places[None], order=3, mode="nearest") for unit in np.eye(grid)]
    return np.stack(columns, axis=1)
