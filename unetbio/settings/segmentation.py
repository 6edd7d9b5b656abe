"""Options of a segmentation that change its result: type, default, limits and meaning of each.

Command options, workflow settings, pages and the record in the provenance are derived from them.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from unetbio.errors import UsageError
from unetbio.settings.area_limits import given_limits, scaled_limits
from unetbio.settings.normalization import Normalization, parse
from unetbio.settings.options import Limits, Option, options_of, split_names
from unetbio.settings.regions import is_region_file, parse_region
from unetbio.settings.values import (
    Diameter,
    PixelSize,
    Precision,
    are_axes,
    as_typed,
    check_preset,
    parse_pixel_size,
    parse_series,
)

if TYPE_CHECKING:
    from unetbio.postprocessing.crf import CrfSettings
    from unetbio.postprocessing.instances import PostProcessing
    from unetbio.postprocessing.objects import ObjectSettings

__all__ = ["PARTS", "READING", "Settings"]

READING = ("channel", "channel_names", "series", "t", "z", "axes", "pixel_size_um", "diameter_px")
"""Options that say which part of a file is the image, and at which scale."""

PARTS = ("level", "region")
"""Options that say which part of a large image is segmented; tables of images have them too."""

CELL_OPTIONS = ("threshold", "min_area", "max_area", "min_certain", "exclude_border")


@dataclass(frozen=True)
class Settings:
    """Settings of one image; the model or the file decides values that are None.

    ``docs/settings.md`` describes every field. Axes are letters of ``TCZYX`` in the file's order; pixel sizes are in
    micrometres; diameters and areas are in pixels (voxels) of the image.

    Raises
    ------
    UsageError
        When a value is out of its limits, or options do not go together.
    """

    channel: Annotated[
        tuple[str | int, ...],
        Option(
            "Channel of the image, by name or number from 0.",
            "Once for each channel that the model takes, in its order. Without it the image has just those channels; "
            "a training takes all.",
            metavar="NAME|INDEX",
        ),
    ] = ()
    channel_names: Annotated[
        tuple[str, ...],
        Option(
            "Names of all channels, in their order, for files that have none.",
            "Tables have them, and `channel` takes them; they stand above names in the file. With commas between on "
            "the command line, a list in the workflow.",
            metavar="NAME,...",
            read=split_names,
        ),
    ] = ()
    series: Annotated[
        int | str | None,
        Option(
            "Images of a file that holds several (positions, scenes, fields of a plate).",
            "Each is an image of its own, with the results `x_s00`, `x_s01` ... and its name in the column `position`. "
            "A number from 0, a range such as `2-5`, a name, or of plates a well such as `B03`; all by default.",
            metavar="all|INDEX|NAME|A-B",
            limits=Limits(ge=0),
            unset="all",
            read=parse_series,
        ),
    ] = None
    t: Annotated[
        int | None, Option("One time point, from 0; all by default.", metavar="INDEX", limits=Limits(ge=0))
    ] = None
    z: Annotated[
        int | Literal["max", "each"] | None,
        Option(
            "Section of a stack, from 0, the brightest of all, or each by itself.",
            "`max` is the brightest of all sections. With `each`, a model of planes segments every section: the label "
            "image is a stack, sizes of cells and the border count in each section, and one scaling of grey values "
            "serves all sections.",
            metavar="INDEX|max|each",
            limits=Limits(ge=0),
        ),
    ] = None
    link: Annotated[
        float | None,
        Option(
            "With --z each: join cells of neighbouring sections that overlap so much, such as 0.25.",
            "Cells whose intersection over union reaches the value are one object, as docs/stacks.md describes. "
            "Without it each section has its own cells.",
            metavar="IOU",
            limits=Limits(gt=0, le=1),
        ),
    ] = None
    axes: Annotated[
        str | None,
        Option(
            "Axes of the file where it does not say, such as ZYX or TYX.",
            "Letters of `TCZYX` in the file's order; also where the file says them wrong.",
            metavar="LETTERS",
            read=str.upper,
        ),
    ] = None
    partial: Annotated[
        bool,
        Option(
            "Segment what is there of images, sets and plates that lack planes, files, fields or wells.",
            "Times that lack a plane are left out; if all do, sections outside the longest run that all times have. A "
            "warning in the row says how many planes are missing. Without it such images fail, unless `t`, `z` or "
            "`channel` choose planes that are there. Parts of a plane that cannot be decoded, as of a slide with a "
            "damaged tile, are background: the run names them, the row counts them, the provenance lists them.",
        ),
    ] = False
    level: Annotated[
        int | Literal["auto"] | None,
        Option(
            "Resolution of a pyramid to segment: 0 is the full one, auto the nearest to the model's.",
            "`unetbio inspect` lists them. The mask has the size and the pixel size of that resolution; so do areas. "
            "`auto` goes by the pixel size of image and model, or by the diameter where that is a number. Regions, "
            "pixel size and diameter stay those of the full resolution, which is segmented by default.",
            metavar="INDEX|auto",
            limits=Limits(ge=0),
        ),
    ] = None
    region: Annotated[
        tuple[str, ...],
        Option(
            "Part of the image: X,Y,W,H in pixels, or X,Y,W,Hum in um, or a GeoJSON file; may be repeated.",
            "Column and row of the upper left corner, width and height, at the full resolution. Each is an image of "
            "its own, with the result `x_x1000_y2000_w512_h512` and the path `x.tif#xywh=1000,2000,512,512` in the "
            "tables. Of a file of QuPath that ends in `.geojson` each annotation is a region, with the cells that have "
            "half of their pixels or more in its outline. Grey values are scaled by those of the region (of the box "
            "around an outline), unless `normalize` gives them.",
            metavar="X,Y,W,H|FILE",
        ),
    ] = ()
    tissue: Annotated[
        Literal["auto", "none"],
        Option(
            "Skip the empty glass of stained slides, or segment all.",
            "`auto` finds tissue by its colour, on a small copy of the slide of red, green and blue (docs/slides.md); "
            "cells are looked for in tissue and around it. The provenance and a warning in the row say how much was "
            "left out. Regions choose by themselves what is segmented.",
        ),
    ] = "none"
    pixel_size_um: Annotated[
        PixelSize | None,
        Option(
            "Pixel size in um, where the file does not say; of stacks the distance of sections in front.",
            "Of stacks `2,0.5` on the command line, `[2, 0.5]` in the workflow. The image is rescaled to the size that "
            "the model was trained on. Without this option and the diameter it is rescaled when both the image and the "
            "model have a pixel size that can be trusted.",
            word="pixel_size",
            metavar="[Z,]UM",
            limits=Limits(gt=0),
            read=parse_pixel_size,
        ),
    ] = None
    diameter_px: Annotated[
        Diameter | None,
        Option(
            "Typical diameter of the cells in pixels, to rescale by; auto finds the scale, model keeps the model's.",
            "In pixels of the image (at full resolution), which is rescaled to the size that the model was trained on. "
            "`auto` finds the scale of each image by itself where no pixel size gives it (docs/scale.md), for 2-D "
            "models of cells; all other models keep the scale that they were trained on, as `model` does. For a 3-D "
            "model it is the diameter of a ball of as many voxels as a cell has, and scales all axes alike, whatever "
            "the voxel sizes: for voxels of another shape than in training give `--pixel-size` instead.",
            word="diameter",
            metavar="PX|auto|model",
            limits=Limits(gt=0),
            default_text="auto",
        ),
    ] = None
    threshold: Annotated[
        float | None,
        Option(
            "Probability, or score of an object, from which on it is a cell.",
            "Instead of the model's. Seeds follow: their thresholds are raised to a higher one, and with a lower one "
            "dimmer cells have seeds too: together with `--min-certain 0` where the model drops uncertain cells. For a "
            "model of cells, or of objects, of which the network gives none that score below .05.",
            metavar="P",
            limits=Limits(gt=0, lt=1),
        ),
    ] = None
    min_area: Annotated[
        float | None,
        Option(
            "Smallest cell, in pixels.",
            "Instead of the model's; pixels (voxels) of the image. For a model of cells, or of objects.",
            metavar="PX",
            limits=Limits(ge=0),
        ),
    ] = None
    max_area: Annotated[
        float | None,
        Option("Largest cell, in pixels.", "Instead of the model's, as `min_area`.", metavar="PX", limits=Limits(ge=0)),
    ] = None
    min_certain: Annotated[
        float | None,
        Option(
            "Least share of a cell's pixels that are certain; 0 keeps all cells.",
            "Instead of the model's. A pixel is certain where the probability of a cell is .9 or more; dim specks and "
            "what is out of focus have few such pixels. For a model of cells.",
            metavar="SHARE",
            limits=Limits(ge=0, le=1),
        ),
    ] = None
    exclude_border: Annotated[
        bool, Option("Drop cells that touch the border.", "For a model of cells, or of objects.")
    ] = False
    classes: Annotated[
        tuple[str, ...],
        Option(
            "Keep these classes alone, with a model of classes.",
            "All others become background. Names with commas between on the command line, a list in the workflow.",
            metavar="NAME,...",
            read=split_names,
        ),
    ] = ()
    crf: Annotated[
        str | None,
        Option(
            "Refine with the fully connected CRF: largefov and others.",
            "Refines the probabilities before anything is decided: `largefov`, `deeplab_v2_vgg`, `deeplab_v2_resnet`. "
            "For planes, and not for a model that finds objects. It links all pixels of an image, so tiles may change "
            'single pixels; the provenance says `"exact": false`. The model\'s thresholds are used as they are, '
            "although refined probabilities are sharper; `unetbio compare` searches new ones for a name with `+crf`.",
            metavar="PRESET",
            read=check_preset,
        ),
    ] = None
    crf_settings: Annotated[
        str | None,
        Option(
            "Values of the CRF in place of the preset's, such as theta_beta=13,iterations=10.",
            "Names are those of the papers: weights `w1` of the bilateral and `w2` of the Gaussian kernel, their "
            "widths `theta_alpha` (pixels), `theta_beta` (grey values of 0 to 255) and `theta_gamma` (pixels), and "
            "`iterations` of mean field.",
            metavar="NAME=VALUE,...",
        ),
    ] = None
    augment: Annotated[
        bool,
        Option(
            "Average over mirrored and turned images (test-time augmentation); takes eight times as long.",
            "The mean of the probabilities over the eight symmetries of a square; of stacks, over mirrors along z, y "
            "and x. Tiles change no mask here either. For models that give probabilities.",
        ),
    ] = False
    ensemble: Annotated[
        tuple[str, ...],
        Option(
            "Average the probabilities with those of this model too; may be repeated.",
            "Models with the target, classes, number of channels, normalization and pixel size of `--model`, such as "
            "those of several trainings on the same images. Thresholds and scale are those of `--model`.",
            metavar="NAME|FILE",
        ),
    ] = ()
    precision: Annotated[
        Precision | None,
        Option(
            "Numbers that the network computes with: float32, int8 (a model in integers) or bfloat16 (not exact).",
            "`auto` is `int8` for a model in integers and `float32` for all others: tiles change no mask. `int8` takes "
            "the integers that lie beside the model (docs/models.md). `bfloat16` is faster on GPUs and on processors "
            "that multiply such numbers, but tiles, processors and devices change some masks: a warning in the row and "
            'in the last line says so, and the provenance `"exact": false`. It is for `torch` and networks that '
            "classify pixels.",
            unset="auto",
        ),
    ] = None
    nan: Annotated[
        Literal["refuse", "fill"],
        Option(
            "Pixels that are NaN or infinite: refuse the image, or fill them.",
            "`fill` gives them the grey value of the nearest pixel. Parts of more than nine pixels, and those at the "
            "border, stay unknown: they are background in the mask, and a warning in the row counts them. Cells that "
            "they cut below `min_area` are dropped. With `--z each` each section is filled by itself.",
        ),
    ] = "refuse"
    normalization: Annotated[
        Normalization | None,
        Option(
            "auto, p1,p99.8, 0,4095 or none.",
            "What becomes 0 and 1: `auto` (the model's; where that is percentiles, red, green and blue of 8 bits are "
            "scaled by their range, 0 to 255), percentiles `p1,p99.8`, grey values `0,4095` (in YAML in quotes), "
            "`none`.",
            word="normalize",
            metavar="HOW",
            unset="auto",
            read=parse,
        ),
    ] = None

    def __post_init__(self) -> None:
        for name, option in options_of(Settings).items():
            self._set(name, as_typed(name, option, getattr(self, name)))
        self._set("ensemble", tuple(map(os.fspath, self.ensemble)))
        self._set("region", tuple(map(_region_text, self.region)))
        sizes = self.pixel_size_um if isinstance(self.pixel_size_um, tuple) else (self.pixel_size_um,)
        if len(sizes) > 2:
            raise UsageError(f"pixel_size_um {self.pixel_size_um}: give one number, or (Z, YX)")
        if self.axes is not None and not are_axes(self.axes):
            raise UsageError(
                f"axes {self.axes} must be letters of TCZYX, each once and Y and X among them, such as ZYX"
            )
        if self.tissue == "auto" and self.region:
            raise UsageError("--tissue auto looks for tissue on the whole slide: leave out --region or --tissue")
        if self.link is not None and self.z != "each":
            raise UsageError(f"link {self.link:g} joins the cells of sections: give --z each too")
        if self.crf_settings is not None and self.crf is None:
            raise UsageError(f"crf_settings {self.crf_settings} change a preset: give --crf too, such as largefov")
        self.crf_values()
        # Refuses areas that go together with no model.
        from unetbio.postprocessing.instances import PostProcessing  # here, since numpy takes its time

        self.postprocessing(PostProcessing())

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def finds_scale(self) -> bool:
        """Whether the scale is found, where no pixel size gives it and the model can."""
        return self.diameter_px in (None, "auto")

    @property
    def cell_options(self) -> tuple[str, ...]:
        """Given settings that apply to models of cells alone."""
        values = {name: getattr(self, name) for name in CELL_OPTIONS}
        return tuple(name for name, value in values.items() if value is not None and value is not False)

    def crf_values(self) -> "CrfSettings | None":
        """Settings of the CRF; None without one."""
        if self.crf is None:
            return None
        from unetbio.postprocessing.crf import crf_settings  # here, since numba takes its time

        return crf_settings(self.crf, self.crf_settings)

    def postprocessing(self, model: "PostProcessing", area_factor: float = 1.0) -> "PostProcessing":
        """Thresholds and sizes for the pixels that the model sees.

        Parameters
        ----------
        model : PostProcessing
            The model's own.
        area_factor : float
            Pixels of the model's grid for one of the image: areas in the settings count pixels of the image.

        Raises
        ------
        UsageError
            When no cell could be within the limits of the settings.
        ImageError
            ``wrong_scale``: when no cell of the image could be within those of the settings and of the model.
        """
        changes = self._limits(model, area_factor)
        if self.threshold is not None:
            changes["mask_threshold"] = self.threshold
            changes["seed_thresholds"] = _seed_thresholds(model, self.threshold)
        if self.min_certain is not None:
            changes["min_certain"] = self.min_certain
        return dataclasses.replace(model, **changes)

    def objects(self, model: "ObjectSettings", area_factor: float = 1.0) -> "ObjectSettings":
        """As `postprocessing`, for a model that finds objects."""
        changes = self._limits(model, area_factor)
        if self.threshold is not None:
            changes["score_threshold"] = self.threshold
        return dataclasses.replace(model, **changes)

    def _limits(self, model: "PostProcessing | ObjectSettings", area_factor: float) -> dict[str, Any]:
        """Limits of the cells that are kept."""
        exclude_border = self.exclude_border or model.exclude_border
        return {"exclude_border": exclude_border, **scaled_limits(self.min_area, self.max_area, model, area_factor)}

    def record(
        self,
        normalization: Normalization,
        postprocessing: "PostProcessing | None",
        objects: "ObjectSettings | None" = None,
    ) -> dict[str, Any]:
        """Settings as JSON values, with the model's own in place of values that are None.

        Equal records with equal inputs and equal models give equal label images.

        Parameters
        ----------
        normalization, postprocessing, objects
            The model's; a model of classes has neither of the last two.
        """
        values = dataclasses.asdict(self)
        # Versions that knew no other scale than the model's wrote None for it.
        if isinstance(self.diameter_px, str) or self.diameter_px is None:
            values["diameter_px"] = "auto" if self.finds_scale else None
        values["normalization"] = dataclasses.asdict(self.normalization or normalization)
        # Whether given limits leave a cell within those of the model depends on the scale of each image.
        limits = given_limits(self.min_area, self.max_area)
        without_limits = dataclasses.replace(self, min_area=None, max_area=None)
        decided = {}
        if postprocessing is not None:
            decided["postprocessing"] = {**without_limits.postprocessing(postprocessing).as_record(), **limits}
        if objects is not None:
            decided["objects"] = {**dataclasses.asdict(without_limits.objects(objects)), **limits}
        # These are part of the decided values; areas stay, since they count pixels of the image before rescaling.
        without = ("threshold", "min_certain", "exclude_border", "classes") if decided else CELL_OPTIONS
        values |= decided
        # Where planes are missing, the run says what was left out; whole images do not depend on it.
        # The segmenter records the models of an ensemble by their weights.
        for name in (*without, "partial", "ensemble"):
            del values[name]
        # Without these the record equals that of versions that did not have them, so that their results are reused.
        for name in (name for name in ("link", "crf_settings", "channel_names", "region") if not values[name]):
            del values[name]
        if self.level is None:
            del values["level"]
        # As in versions that knew nothing else.
        if self.nan == "refuse":
            del values["nan"]
        if self.tissue == "none":
            del values["tissue"]
        if not self.augment:
            del values["augment"]
        # The model itself is of integers or not.
        if self.precision != "bfloat16":
            del values["precision"]
        # JSON has no numpy numbers.
        record: dict[str, Any] = json.loads(json.dumps(values, default=float))
        return record


def _seed_thresholds(model: "PostProcessing", threshold: float) -> tuple[float, ...]:
    """Seed thresholds beside another threshold of the foreground."""
    seeds = tuple(max(seed, threshold) for seed in model.seed_thresholds)
    if not seeds or threshold >= model.mask_threshold:
        return seeds
    # A dimmer cell needs a seed of its own; the model's seeds go on parting bright cells that touch.
    return (threshold + (seeds[0] - model.mask_threshold), *seeds)


def _region_text(region: str | os.PathLike[str]) -> str:
    """A region as it is recorded; files are read where the images are listed."""
    text = os.fspath(region)
    return text if is_region_file(text) else str(parse_region(text))
