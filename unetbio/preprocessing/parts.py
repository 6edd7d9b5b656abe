"""Choose the part of a file that is segmented: a resolution of its pyramid, and a region of the plane."""

import math
from typing import TYPE_CHECKING

from unetbio.errors import ImageError, UsageError
from unetbio.io.image import Image
from unetbio.preprocessing.areas import OutlinedArea, outlined_area
from unetbio.preprocessing.drawn_regions import read_regions
from unetbio.settings.regions import Region
from unetbio.settings.segmentation import Settings

if TYPE_CHECKING:
    from unetbio.models.model_file import ModelInfo

__all__ = ["area_of", "full_pixels", "select_part"]


def full_pixels(image: Image) -> float:
    """Pixels of the file's full resolution for one pixel of the image, along a row."""
    return 1.0 if image.part is None else image.part.scale[1]


def select_part(image: Image, settings: Settings, info: "ModelInfo | None" = None) -> Image:
    """The part of an image that the settings choose; all of it at full resolution unless they do.

    Parameters
    ----------
    image : Image
        At full resolution, with its pixel size.
    settings : Settings
        Of this image.
    info : ModelInfo, optional
        The model, for ``level="auto"``.

    Raises
    ------
    ImageError
        ``no_such_level``, ``no_such_region``; ``wrong_scale`` where the pixel size is needed and unknown.
    UsageError
        When several regions are given, which are several images.
    """
    at_level = image.at_level(_level(image, settings, info))
    region = _region(settings)
    if region is None:
        return at_level
    sizes = image.pixel_size_um if image.pixel_size_trusted else {}
    box = region.box(image.size("Y"), image.size("X"), sizes)
    scales = (1.0, 1.0) if at_level.part is None else at_level.part.scale
    rows, columns = (
        slice(int(part.start / scale), min(at_level.size(axis), math.ceil(part.stop / scale)))
        for axis, part, scale in zip("YX", box, scales, strict=True)
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise ImageError(
            "no_such_region", f"region {region.title} has no pixel at level {settings.level}: take a larger one"
        )
    return at_level.crop(rows, columns)


def area_of(part: Image, settings: Settings) -> OutlinedArea | None:
    """The pixels of the part that `select_part` took which the settings choose; None where these are all."""
    region = _region(settings)
    return outlined_area(region.outline, part) if region is not None and region.outline else None


def _region(settings: Settings) -> Region | None:
    """The one region that is chosen; None for all of the image."""
    regions = [given.region for given in read_regions(settings.region)]
    if len(regions) > 1:
        titles = " and ".join(region.title for region in regions)
        raise UsageError(f"regions {titles} are {len(regions)} images: give one")
    return regions[0] if regions else None


def _level(image: Image, settings: Settings, info: "ModelInfo | None") -> int:
    if settings.level != "auto":
        return settings.level or 0
    if len(image.levels) == 1:
        return 0
    wanted = _wanted_scale(image, settings, info)
    factors = [full_pixels(image.at_level(level)) for level in range(len(image.levels))]
    return min(range(len(factors)), key=lambda level: abs(math.log(factors[level] / wanted)))


def _wanted_scale(image: Image, settings: Settings, info: "ModelInfo | None") -> float:
    """Pixels of the image for one pixel of the model."""
    if info is None:
        raise ImageError("wrong_scale", "--level auto is the resolution nearest to a model's: give a number")
    diameter = settings.diameter_px
    if isinstance(diameter, int | float) and info.cell_diameter_px is not None:
        return diameter / info.cell_diameter_px
    if info.pixel_size_um is not None and image.pixel_size_trusted:
        return info.pixel_size_um[-1] / image.pixel_size_um["X"]
    raise ImageError(
        "wrong_scale",
        "--level auto needs the pixel size of the image and one of the model, or the diameter of the cells: give "
        "--level INDEX, or --diameter PX of the full resolution",
    )
