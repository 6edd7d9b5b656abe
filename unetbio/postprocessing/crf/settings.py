"""Settings and presets of the fully connected CRF."""

import math
from dataclasses import dataclass, replace
from typing import Any

from unetbio.errors import UsageError

__all__ = ["PAPER_NAMES", "PRESETS", "CrfSettings", "crf_settings"]

MOST_ITERATIONS = 1000


@dataclass(frozen=True)
class CrfSettings:
    """Weights and widths of the two kernels.

    Parameters
    ----------
    bilateral_weight, gaussian_weight : float
        w1 and w2, 0 or more; 0 leaves the kernel out.
    bilateral_xy, gaussian_xy : float
        Standard deviations over the image, in pixels.
    bilateral_rgb : float
        Standard deviation over colours of 0 to 255.
    iterations : int
        Steps of mean field. The papers use 10; with a coarse network, 5 raise the pixel IoU from .51 to
        .660, and 10 to .666.

    Raises
    ------
    UsageError
        When a weight is negative, a standard deviation is not above 0, or there is no iteration or more than
        `MOST_ITERATIONS`.
    """

    bilateral_weight: float
    bilateral_xy: float
    bilateral_rgb: float
    gaussian_weight: float
    gaussian_xy: float
    iterations: int = 5

    def __post_init__(self) -> None:
        for name in ("bilateral_weight", "gaussian_weight"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UsageError(f"{name} {getattr(self, name)}: must be 0 or more; 0 leaves the kernel out")
        for name in ("bilateral_xy", "bilateral_rgb", "gaussian_xy"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UsageError(f"{name} {getattr(self, name)}: must be above 0; choose the width of the kernel")
        if self.iterations != int(self.iterations) or not 1 <= self.iterations <= MOST_ITERATIONS:
            raise UsageError(
                f"iterations {self.iterations}: must be a whole number from 1 to {MOST_ITERATIONS}; 5 is usual"
            )


PRESETS = {
    "largefov": CrfSettings(4, 121, 5, 3, 3),
    "deeplab_v2_vgg": CrfSettings(4, 65, 3, 2, 2),
    "deeplab_v2_resnet": CrfSettings(4, 67, 3, 3, 1),
}
"""Settings of the scripts released with DeepLab v1 (its LargeFOV network) and v2, but for the number of iterations."""

PAPER_NAMES = {
    "w1": "bilateral_weight",
    "theta_alpha": "bilateral_xy",
    "theta_beta": "bilateral_rgb",
    "w2": "gaussian_weight",
    "theta_gamma": "gaussian_xy",
    "iterations": "iterations",
}
"""Fields of `CrfSettings` by the names in the papers (arXiv 1412.7062, equation 3)."""


def crf_settings(preset: str, changes: str | None = None) -> CrfSettings:
    """Settings of a preset, with changes by the names of the papers.

    Parameters
    ----------
    preset : str
        One of `PRESETS`.
    changes : str, optional
        Such as ``theta_beta=13,iterations=10``.

    Raises
    ------
    UsageError
        When there is no such preset or name, or a value is no number or out of range.

    Examples
    --------
    >>> crf_settings("largefov", "theta_beta=13,iterations=10").bilateral_rgb
    13.0
    """
    if preset not in PRESETS:
        raise UsageError(f"there is no preset {preset} of the CRF; there are: {', '.join(PRESETS)}")
    changed: dict[str, Any] = dict(map(_change, changes.split(","))) if changes else {}
    return replace(PRESETS[preset], **changed)


def _change(part: str) -> tuple[str, float | int]:
    name, _, value = (word.strip() for word in part.partition("="))
    if name not in PAPER_NAMES:
        raise UsageError(
            f"crf_settings {part}: names with values are needed, such as theta_beta=13,iterations=10; names are "
            f"{', '.join(PAPER_NAMES)}"
        )
    try:
        return PAPER_NAMES[name], int(value) if name == "iterations" else float(value)
    except ValueError as error:
        kind = "a whole number" if name == "iterations" else "a number"
        raise UsageError(f"crf_settings {part}: {value!r} is not {kind}") from error
