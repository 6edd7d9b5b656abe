"""What a person can ask of a segmentation: everything beside the image and the model that changes pixels."""

import dataclasses
import json
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

from unetbio.errors import UsageError
from unetbio.postprocessing.instances import PostProcessing
from unetbio.postprocessing.linking import check_threshold
from unetbio.postprocessing.objects import ObjectSettings
from unetbio.settings.normalization import Normalization

__all__ = ["PixelSize", "Settings", "check_preset", "parse_pixel_size"]

PixelSize = float | tuple[float, float]
"""Micrometres in the plane; or the distance of sections, and micrometres in the plane."""

SECTION_WORDS = ("max", "each")
CELL_OPTIONS = ("threshold", "min_area", "max_area", "exclude_border")


@dataclass(frozen=True)
class Settings:
    """Settings of one image; what is None is decided by the model or the file.

    Parameters
    ----------
    channel : tuple of str or int
        Names or numbers (from 0) of the channels that the model takes, in its order; empty: the image has just those.
    series, t, z : int, optional
        Index of the image in its file, of the time, of the section. ``z`` can be ``"max"``: the brightest of all
        sections; or ``"each"``: a model of planes segments every section, and the label image is a stack. Sizes of
        cells and the border then count in each section, and one scaling of grey values serves all sections.
    link : float, optional
        With ``z="each"``: cells of neighbouring sections whose intersection over union reaches this are one object,
        see `unetbio.postprocessing.linking`. Without it, every section has its own cells.
    axes : str, optional
        Axes of the file, where it does not say or says wrong: letters of ``TCZYX``, in the file's order.
    pixel_size_um : float or tuple of two floats, optional
        Pixel size in the plane, in micrometres; or the distance of sections and the size in the plane. Taken on trust.
    diameter_px : float, optional
        Typical diameter of the cells in this image, in its pixels: it is rescaled to the size the model was trained on.
    normalization : Normalization, optional
        Instead of the model's.
    threshold : float, optional
        Mask threshold instead of the model's; seed thresholds below it are raised to it. With a model that finds
        objects: the score threshold.
    min_area, max_area : float, optional
        Smallest and largest cell, in pixels (voxels) of this image.
    exclude_border : bool
        Drop cells that touch the border.
    classes : tuple of str
        With a model of classes: the names of those that are kept, others become background; empty: all are kept.
    crf : str, optional
        Name of one of `unetbio.postprocessing.crf.PRESETS`: probabilities are refined with a fully connected CRF.

    Raises
    ------
    UsageError
        When a value cannot be meant.
    """

    channel: tuple[str | int, ...] = ()
    series: int | None = None
    t: int | None = None
    z: int | Literal["max", "each"] | None = None
    link: float | None = None
    axes: str | None = None
    pixel_size_um: PixelSize | None = None
    diameter_px: float | None = None
    normalization: Normalization | None = None
    threshold: float | None = None
    min_area: float | None = None
    max_area: float | None = None
    exclude_border: bool = False
    classes: tuple[str, ...] = ()
    crf: str | None = None

    def __post_init__(self) -> None:
        sizes = self.pixel_size_um if isinstance(self.pixel_size_um, tuple) else (self.pixel_size_um,)
        if len(sizes) > 2:
            raise UsageError(f"pixel_size_um {self.pixel_size_um}: give one number, or (Z, YX)")
        for name, values in (("pixel_size_um", sizes), ("diameter_px", (self.diameter_px,))):
            for value in values:
                # Written so that NaN is refused too.
                if value is not None and not (isinstance(value, Real) and 0 < value < float("inf")):
                    raise UsageError(f"{name} {value} must be a number above 0")
        for name in ("min_area", "max_area"):
            if not math.isfinite(getattr(self, name) or 0):
                raise UsageError(f"{name} {getattr(self, name)} must be a finite number")
        for name, words in (("series", ()), ("t", ()), ("z", SECTION_WORDS)):
            object.__setattr__(self, name, _index(name, getattr(self, name), words))
        if self.axes is not None and not _are_axes(self.axes):
            raise UsageError(
                f"axes {self.axes} must be letters of TCZYX, each once and Y and X among them, such as ZYX"
            )
        if self.link is not None:
            check_threshold(self.link)
            if self.z != "each":
                raise UsageError(f"link {self.link:g} joins the cells of sections: give --z each too")
        if self.crf is not None:
            check_preset(self.crf)
        # What no model could follow, such as a largest area below the smallest.
        self.postprocessing(PostProcessing())

    @property
    def cell_options(self) -> tuple[str, ...]:
        """Which settings are given that only a model of cells can follow."""
        values = {name: getattr(self, name) for name in CELL_OPTIONS}
        return tuple(name for name, value in values.items() if value is not None and value is not False)

    def postprocessing(self, model: PostProcessing, area_factor: float = 1.0) -> PostProcessing:
        """Thresholds and sizes for the pixels that the model sees.

        Parameters
        ----------
        model : PostProcessing
            The model's own.
        area_factor : float
            Pixels of the model's grid for one of the image: areas that a person gave are counted in the image.
        """
        changes = self._limits(model, area_factor)
        if self.threshold is not None:
            changes["mask_threshold"] = self.threshold
            changes["seed_thresholds"] = tuple(max(seed, self.threshold) for seed in model.seed_thresholds)
        return dataclasses.replace(model, **changes)

    def objects(self, model: ObjectSettings, area_factor: float = 1.0) -> ObjectSettings:
        """As `postprocessing`, for a model that finds objects."""
        changes = self._limits(model, area_factor)
        if self.threshold is not None:
            changes["score_threshold"] = self.threshold
        return dataclasses.replace(model, **changes)

    def _limits(self, model: PostProcessing | ObjectSettings, area_factor: float) -> dict[str, Any]:
        """Which cells are dropped."""
        limits: dict[str, Any] = {"exclude_border": self.exclude_border or model.exclude_border}
        for name in ("min_area", "max_area"):
            area = getattr(self, name)
            if area is not None:
                limits[name] = area * area_factor
        return limits

    def record(
        self,
        normalization: Normalization,
        postprocessing: PostProcessing | None,
        objects: ObjectSettings | None = None,
    ) -> dict[str, Any]:
        """The settings as JSON knows them, with the model's where nothing else was asked for.

        Two records that are equal give equal label images of equal inputs with equal models.

        Parameters
        ----------
        normalization, postprocessing, objects
            The model's; a model of classes has neither of the last two.
        """
        values = dataclasses.asdict(self)
        values["normalization"] = dataclasses.asdict(self.normalization or normalization)
        decided = {}
        if postprocessing is not None:
            decided["postprocessing"] = dataclasses.asdict(self.postprocessing(postprocessing))
        if objects is not None:
            decided["objects"] = dataclasses.asdict(self.objects(objects))
        # These are decided now; areas stay, since they are in other pixels where images are rescaled.
        without = ("threshold", "exclude_border", "classes") if decided else CELL_OPTIONS
        values |= decided
        for name in without:
            del values[name]
        if self.link is None:
            # Results of versions that could not link stay what they are.
            del values["link"]
        # JSON does not know numpy's numbers.
        record: dict[str, Any] = json.loads(json.dumps(values, default=float))
        return record


def check_preset(name: str) -> str:
    """The name of a preset of the CRF.

    Raises
    ------
    UsageError
        When there is none of that name; the message lists those there are.
    """
    from unetbio.postprocessing.crf import PRESETS  # here, since numba takes its time

    if name not in PRESETS:
        raise UsageError(f"there is no preset {name} of the CRF; there are: {', '.join(PRESETS)}")
    return name


def _index(name: str, value: Any, words: Sequence[str]) -> int | str | None:
    """A number from 0, as Python has them, or one of the words."""
    if value is None or (isinstance(value, str) and value in words):
        return value
    # numpy's whole numbers too; a truth value is none that anybody means.
    if not hasattr(value, "__index__") or isinstance(value, bool) or operator.index(value) < 0:
        choices = "".join(f", or {word!r}" for word in words)
        raise UsageError(f"{name} {value!r} must be a number from 0{choices}")
    return operator.index(value)


def parse_pixel_size(text: str) -> PixelSize:
    """``0.5``: micrometres in the plane; ``2,0.5``: the distance of sections first.

    Raises
    ------
    ValueError
        When it is neither.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 < number < float("inf") for number in numbers):
        raise ValueError(f"{text!r} is no number above 0, such as 0.5; of stacks Z,YX, such as 2,0.5")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _are_axes(axes: str) -> bool:
    # Some programs call colours samples.
    letters = axes.upper().replace("S", "C")
    return len(set(letters)) == len(letters) and {"Y", "X"} <= set(letters) <= set("TCZYX")
