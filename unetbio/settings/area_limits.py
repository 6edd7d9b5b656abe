"""Smallest and largest area of a cell: of the settings, in pixels of the image, beside those of the model."""

from typing import TYPE_CHECKING

from unetbio.errors import ImageError

if TYPE_CHECKING:
    from unetbio.postprocessing.instances import PostProcessing
    from unetbio.postprocessing.objects import ObjectSettings

__all__ = ["given_limits", "scaled_limits", "smallest_area"]


def scaled_limits(
    min_area: float | None, max_area: float | None, model: "PostProcessing | ObjectSettings", area_factor: float
) -> dict[str, float]:
    """Limits of the settings, ``min_area`` and ``max_area`` where they are given, in pixels that the model sees.

    Parameters
    ----------
    min_area, max_area : float, optional
        Of the settings, in pixels of the image.
    model : PostProcessing or ObjectSettings
        The model's own limits.
    area_factor : float
        Pixels of the model's grid for one of the image.

    Raises
    ------
    ImageError
        ``wrong_scale``: when one is given, and no cell of the image could be within it and the other of the model.
    """
    limits = given_limits(min_area, max_area, area_factor)
    smallest, largest = limits.get("min_area", model.min_area), limits.get("max_area", model.max_area)
    # Two that do not go together are refused with the settings, before any image.
    if len(limits) == 2 or largest is None or largest >= smallest:
        return limits
    if max_area is not None:
        option, scaled, limit = f"--max-area {max_area:g}", largest, f"smaller than {smallest:g}"
    else:
        option, scaled, limit = f"--min-area {min_area:g}", smallest, f"larger than {largest:g}"
    raise ImageError(
        "wrong_scale",
        f"{option} is {scaled:.3g} pixels at the scale of the model, which drops cells {limit}: none "
        f"could remain; change it, or check the pixel size or --diameter",
    )


def given_limits(min_area: float | None, max_area: float | None, area_factor: float = 1.0) -> dict[str, float]:
    """Those of the limits that are given, by name, in pixels that the model sees; parameters as of `scaled_limits`."""
    given = {"min_area": min_area, "max_area": max_area}
    return {name: area * area_factor for name, area in given.items() if area is not None}


def smallest_area(min_area: float | None, model: "PostProcessing | ObjectSettings", area_factor: float) -> float:
    """Pixels of the image below which a cell is dropped; parameters as of `scaled_limits`."""
    return model.min_area / area_factor if min_area is None else min_area
