"""Say which options of a segmentation change nothing: for the model, for an image, or for all images of a run."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from unetbio import networks
from unetbio.models.model_file import ModelInfo
from unetbio.notes import say_without_effect
from unetbio.preprocessing.selection import ImageSelection
from unetbio.provenance import FrameRecord
from unetbio.settings.runs import RunOptions
from unetbio.settings.segmentation import Settings

if TYPE_CHECKING:
    from unetbio.segmentation import Segmenter

__all__ = ["ALL_KNOWN", "Permissions", "say_for_image", "say_for_run"]

ALL_KNOWN = "no pixel is NaN or infinite"
"""Why ``--nan fill`` changes nothing."""


def say_for_run(settings: Settings, run: RunOptions, segmenter: "Segmenter") -> None:
    """Say which options have no meaning for the model, or beside other options."""
    info = segmenter.info
    if segmenter.looker is None and isinstance(settings.diameter_px, str):
        say_without_effect(f"--diameter {settings.diameter_px}", f"model {info.name} searches for no scale")
    if run.exact_tiles and networks.find(info.architecture).is_tiled_exactly(info.network_parameters()):
        say_without_effect("--exact-tiles", f"tiles of model {info.name} are exact without it")
    if run.no_tables and run.part:
        say_without_effect("--no-tables", "jobs of --part write no tables")


def say_for_image(opened: ImageSelection, info: ModelInfo, asked: Settings) -> None:
    """Say which options have no meaning for an image; ``asked`` are the settings that the user gave for all."""
    settings, image = opened.settings, opened.image
    # A run that goes on at the model's own scale has the word "model" without being asked.
    is_asked = settings.diameter_px in ("auto", asked.diameter_px) and isinstance(settings.diameter_px, str)
    if is_asked and info.pixel_size_um is not None and image.pixel_size_trusted:
        say_without_effect(
            f"--diameter {settings.diameter_px}", "the scale follows from the pixel sizes of image and model"
        )
    if settings.level == "auto" and len(image.levels) == 1 and image.part is None:
        say_without_effect("--level auto", "images without a pyramid have one resolution")


class Permissions:
    """Options that permit what most images do not need: whether any image of a run did.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    lacks_images : bool
        Whether wells or fields of a plate are missing.
    """

    def __init__(self, settings: Settings, *, lacks_images: bool) -> None:
        self._settings = settings
        self._needed = {"missing_planes"} if lacks_images else set()

    def collect(self, frames: Iterable[FrameRecord]) -> None:
        """Note the warnings of an image; those of one that failed are not known."""
        warnings = (warning for frame in frames for warning in frame.warnings)
        self._needed |= {warning.partition(":")[0] for warning in warnings}

    def say(self) -> None:
        """Say which of them no image needed."""
        if self._settings.partial and not {"missing_planes", "damaged"} & self._needed:
            say_without_effect("--partial", "no plane is missing")
        if self._settings.nan == "fill" and not {"filled", "unknown"} & self._needed:
            say_without_effect("--nan fill", ALL_KNOWN)
