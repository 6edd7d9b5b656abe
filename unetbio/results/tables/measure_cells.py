"""Tables of cells: of a frame that was just segmented, or of a label image of an earlier run."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.io.grey_pictures import grey_view
from unetbio.io.image import Image, with_channel_names
from unetbio.io.pairing.matching import check_pixel_size, put_over
from unetbio.io.tolerant import without_damage
from unetbio.labels import label_hash, resize_nearest
from unetbio.measurement import regions
from unetbio.measurement.frame_summary import (
    calibrated,
    describe_classes,
    describe_labels,
    median_diameter_in_sections,
)
from unetbio.measurement.grey_columns import unique_names
from unetbio.measurement.table_schema import SECTION
from unetbio.output_layout import holds_classes
from unetbio.postprocessing.bands import BAND_PIXELS, planes_of
from unetbio.postprocessing.linking import number_sections
from unetbio.postprocessing.objects import ObjectTable
from unetbio.preprocessing.prepare import complete_pixel_size, with_pixel_size
from unetbio.preprocessing.selection import ImageSelection
from unetbio.provenance import CONFIDENCE_DECIMALS, FrameRecord, Provenance
from unetbio.results.journal import Entry
from unetbio.results.recorded_input import open_recorded
from unetbio.results.result_files import Outcome
from unetbio.results.reuse import large_labels, read_label_file
from unetbio.results.tables.confidences import Evidence, classes_by_id, confidences_by_id, read_evidence
from unetbio.results.tables.measured_from import TableOptions
from unetbio.settings.segmentation import Settings
from unetbio.settings.values import PixelSize

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "channel_columns",
    "measure_again",
    "measure_frame",
    "open_as_segmented",
    "open_input",
    "sections_unlinked",
    "segmented_channels",
    "with_class_counts",
    "with_given_size",
]

logger = logging.getLogger(__name__)

WARNINGS_OF_CELLS = frozenset({"no_cells", "outside_training_range", "unsure_scale"})
"""Warnings about the cells of a generated mask, which need not hold once it was edited."""


def measure_frame(
    opened: ImageSelection,
    t: int | None,
    label_image: Any,
    raw: Any,
    *,
    confidences: Sequence[float] = (),
    objects: ObjectTable | None = None,
    options: TableOptions | None = None,
) -> "pl.DataFrame":
    """One row for each cell of a frame, with the time in a column ``t``.

    Sections of a stack that were not linked are measured as planes, with their number in a column ``z``.

    Parameters
    ----------
    opened : ImageSelection
        The image.
    t : int, optional
        The frame's time.
    label_image : array
        Of the frame; one on disk is measured in parts.
    raw : array, optional
        Grey values ``(C, *spatial)``, if they are at hand; read from the file if missing or without all channels.
    confidences : sequence of float
        Of the cells, in the order of their ids from 1; empty if unknown.
    objects : ObjectTable, optional
        Objects that a model found, whose score is the confidence of the cell, or classes of cells.
    options : TableOptions, optional
        How cells are measured; as in a new folder unless given. Further features need a frame in memory.
    """
    evidence = Evidence(of_cells=confidences_by_id(confidences, objects), classes=classes_by_id(objects))
    frame = _frame_of(opened, t, label_image, raw, evidence)
    return _table(frame, t, options or TableOptions(), apart=opened.sections_unlinked)


def measure_again(
    out: Path,
    entry: Entry,
    provenance: Provenance | None,
    options: TableOptions,
    *,
    edited: bool,
) -> Outcome:
    """Measure a label image in the output folder, or count the pixels of a class mask.

    Frame summaries come from the provenance, or are computed again for an edited label image. If the input is missing
    or unreadable, cells are measured without grey values.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    entry : Entry
        Journal entry of the image.
    provenance : Provenance, optional
        None for a label image that no run made.
    options : TableOptions
        How cells are measured.
    edited : bool
        Whether the label image differs from its provenance.

    Raises
    ------
    ImageError
        When the label image cannot be read, or does not fit its input.
    """
    labels, digest = _labels_to_measure(out, entry, provenance, edited=edited)
    if provenance is not None and options.pixel_size_um is not None:
        provenance = with_given_size(provenance, options.pixel_size_um)
    opened = open_input(out, entry, provenance, options.pixel_size_um)
    if opened is not None and edited:
        try:
            if provenance is None:
                labels = put_over(opened.image, out / entry.output, labels)
            if options.pixel_size_um is None:
                check_pixel_size(opened.image, out / entry.output)
        except ImageError as error:
            raise ImageError(error.reason, f"{entry.output}: {error}") from error
    if opened is not None and labels.shape != _expected_shape(opened):
        raise ImageError(
            "shape_mismatch",
            f"{entry.output} is {labels.shape}, its image is {_expected_shape(opened)}: "
            "give it the image's size, or replace it with segment --overwrite-edited",
        )
    times: Sequence[int | None] = opened.times if opened else _times_of(labels, provenance)
    if len(times) > 1 and len(times) != labels.shape[0]:
        raise ImageError(
            "shape_mismatch",
            f"{entry.output} has {labels.shape[0]} frames, its image had {len(times)}: "
            "give it as many, or replace it with segment --overwrite-edited",
        )
    frames = [planes_of(labels, number) for number in range(len(times))] if len(times) > 1 else [labels]
    in_sections = len(frames[0].shape) == 3 and provenance is not None and _is_in_sections(provenance)
    apart = in_sections and provenance is not None and sections_unlinked(provenance)
    pairs = list(zip(times, frames, strict=True))
    kept = provenance.frames if provenance and not edited else None
    if holds_classes(entry.output):
        described = kept or tuple(_edited_classes(frame, t, provenance) for t, frame in pairs)
        return Outcome(entry, described, pixel_size_of(provenance), digest)
    described = kept or tuple(
        _edited_record(frame, t, provenance, in_sections=in_sections, apart=apart) for t, frame in pairs
    )
    tables = []
    for (t, frame), record in zip(pairs, described, strict=True):
        evidence = read_evidence(out, entry, provenance, t if len(pairs) > 1 else None, record, edited=edited)
        if not _can_be_measured_in_bands(evidence, options):
            frame = np.asarray(frame[:])
        if opened:
            measured, apart = _frame_of(opened, t, frame, None, evidence), opened.sections_unlinked
        else:
            first = provenance.first_section if provenance else 0
            measured = _Frame(frame, None, (), _sizes_of(provenance), evidence, first_section=first)
        tables.append(_table(measured, t, options, apart=apart))
    return with_class_counts(
        Outcome(entry, described, pixel_size_of(provenance), digest, concatenate(tables)), provenance
    )


def with_class_counts(outcome: Outcome, provenance: Provenance | None) -> Outcome:
    """Count the cells of each class as the table of cells has them: classes and masks may be corrected by hand."""
    import polars as pl

    cells = outcome.cells
    known = [name for frame in provenance.frames for name in frame.class_counts] if provenance else []
    if not known or cells is None or "class" not in cells.columns:
        return outcome
    counts = {(t, name): count for t, name, count in cells.group_by("t", "class").agg(pl.len()).iter_rows()}
    names = dict.fromkeys([*known, *sorted(name for _, name in counts if name)])
    frames = tuple(
        frame.model_copy(update={"class_counts": {name: counts.get((frame.t, name), 0) for name in names}})
        for frame in outcome.frames
    )
    return replace(outcome, frames=frames)


def _labels_to_measure(out: Path, entry: Entry, provenance: Provenance | None, *, edited: bool) -> tuple[Any, str]:
    """The label image, on disk where it is large, and its hash."""
    path = out / entry.output
    try:
        in_sections = provenance is not None and _is_in_sections(provenance)
        labels: Any = None if in_sections else large_labels(path, provenance)
        if labels is None:
            labels = read_label_file(path, provenance)
    except ImageError as error:
        raise ImageError(error.reason, f"{entry.output}: {error}") from error
    is_known = provenance is not None and not edited and not isinstance(labels, np.ndarray)
    return labels, provenance.output.label_hash if provenance and is_known else label_hash(labels)


def _can_be_measured_in_bands(evidence: Evidence, options: TableOptions) -> bool:
    """Whether a frame need not be in memory: features need whole cells, and probabilities are read as a whole."""
    return options.features == "basic" and evidence.probability is None


def _fills_pixels(opened: ImageSelection) -> bool:
    """Whether pixels without a grey value get that of the nearest one, which may be anywhere."""
    return opened.settings.nan == "fill" and opened.image.dtype.kind == "f"


def pixel_size_of(provenance: Provenance | None) -> float | None:
    """The pixel size in the summary: along a row, if it can be trusted."""
    if provenance is None or not provenance.input.pixel_size_trusted:
        return None
    return provenance.input.pixel_size_um.get("X")


def channel_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Name in columns of each channel of an image: its number if it has none, and behind a name that occurs twice."""
    return unique_names([name or str(index) for index, name in enumerate(names)])


def concatenate(tables: "Sequence[pl.DataFrame]") -> "pl.DataFrame":
    """One table of all rows; a column that some tables lack is empty there."""
    import polars as pl

    return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame()


def _resized(probability: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """The probability of the cell class in each pixel of a frame, as its label image was resized."""
    if probability is None or probability.ndim != len(shape):
        return None
    return resize_nearest(probability, shape)


@dataclass(frozen=True)
class _Frame:
    """A label image with its grey values ``(C, *spatial)`` and confidences.

    On disk, ``rows`` are read at once. ``first_section`` is the number in the file of its first section.
    """

    label_image: Any
    image: Any
    channel_names: Sequence[str]
    pixel_size_um: Mapping[str, float]
    evidence: Evidence
    rows: int | None = None
    first_section: int = 0

    def sections(self) -> "Iterator[_Frame]":
        """The planes of a stack."""
        probability = _resized(self.evidence.probability, self.label_image.shape)
        for z, section in enumerate(self.label_image):
            evidence = self.evidence._replace(probability=None if probability is None else probability[z])
            yield replace(
                self, label_image=section, image=None if self.image is None else self.image[:, z], evidence=evidence
            )


def _frame_of(opened: ImageSelection, t: int | None, label_image: Any, raw: Any, evidence: Evidence) -> _Frame:
    present = opened.present_channels(t)
    all_names = channel_columns(opened.image.channel_names)
    names, sizes = [all_names[channel] for channel in present], opened.trusted_pixel_size_um
    first = opened.first_section
    if not isinstance(label_image, np.ndarray) and not _fills_pixels(opened):
        return _Frame(label_image, opened.lazy_channels(t, present), names, sizes, evidence, opened.rows, first)
    image = raw if raw is not None and opened.channels == present else opened.read_channels(t, present)
    return _Frame(label_image, image, names, sizes, evidence, first_section=first)


def _table(frame: _Frame, t: int | None, options: TableOptions, *, apart: bool) -> "pl.DataFrame":
    """The cells of a frame; for unlinked sections those of each plane, with its number ``z``."""
    import polars as pl

    time = pl.lit(t, dtype=pl.Int64).alias("t")
    if not apart:
        return _cells_of(frame, options).with_columns(time)
    sections = [_cells_of(section, options).with_columns(time) for section in frame.sections()]
    numbered = enumerate(sections, frame.first_section)
    return concatenate([cells.insert_column(0, pl.lit(z, dtype=pl.Int64).alias(SECTION)) for z, cells in numbered])


def _cells_of(frame: _Frame, options: TableOptions) -> "pl.DataFrame":
    """The cells of a plane or a stack, with their confidences."""
    import polars as pl

    columns = _measured(frame, options)
    rings = {name: columns.pop(name) for name in list(columns) if name.startswith("ring_")}
    if "confidence" in columns:
        confidence = calibrated(columns["confidence"], frame.evidence.knots)
        columns["confidence"] = confidence.round(CONFIDENCE_DECIMALS)
    else:
        known = frame.evidence.of_cells or {}
        columns["confidence"] = np.array([known.get(cell, np.nan) for cell in columns["label"].tolist()], np.float64)
    if frame.evidence.classes is not None:
        names = [frame.evidence.classes.get(cell) or None for cell in columns["label"].tolist()]
        columns["class"] = np.array(names, object)
    table = pl.DataFrame({**columns, **rings}, nan_to_null=True, schema_overrides={"class": pl.String})
    # Counts stay integers when they are all missing.
    return table.with_columns(
        pl.col(name).cast(pl.Int64) for name in rings if name in ("ring_area_px", "ring_volume_px")
    )


def _measured(frame: _Frame, options: TableOptions) -> regions.Columns:
    """The columns of `unetbio.measurement.regions.measure`, of a label image in memory or on disk."""
    label_image, names = frame.label_image, frame.channel_names or None
    if not isinstance(label_image, np.ndarray):
        return regions.measure_in_bands(
            label_image,
            frame.image,
            rows=frame.rows or max(1, BAND_PIXELS // prod(label_image.shape[1:])),
            channel_names=names,
            pixel_size_um=frame.pixel_size_um,
            expand_um=options.expand_um,
        )
    return regions.measure(
        label_image,
        frame.image,
        channel_names=names,
        pixel_size_um=frame.pixel_size_um,
        probabilities=_resized(frame.evidence.probability, label_image.shape),
        expand_um=options.expand_um,
        features=options.features,
    )


def _sizes_of(provenance: Provenance | None) -> dict[str, float]:
    trusted = provenance is not None and provenance.input.pixel_size_trusted
    return provenance.input.pixel_size_um if provenance and trusted else {}


def sections_unlinked(provenance: Provenance) -> bool:
    """Whether each section of a label image has its own cells; see `ImageSelection.sections_unlinked`."""
    return _is_in_sections(provenance) and provenance.settings.get("link") is None


def _is_in_sections(provenance: Provenance) -> bool:
    sizes = dict(zip(provenance.input.axes, provenance.input.shape, strict=True))
    return sizes.get("Z", 1) > 1 and provenance.settings.get("z") == "each"


def _edited_record(
    frame: NDArray[Any], t: int | None, provenance: Provenance | None, *, in_sections: bool, apart: bool
) -> FrameRecord:
    record = describe_labels(number_sections(frame) if apart else frame, t)
    if in_sections and record.n_cells:
        record = record.model_copy(update={"median_diameter_px": median_diameter_in_sections(frame)})
    return _as_edited(record, provenance)


def _edited_classes(frame: NDArray[Any], t: int | None, provenance: Provenance | None) -> FrameRecord:
    names = provenance.run.get("class_names", ()) if provenance else ()
    return _as_edited(describe_classes(frame, t, names), provenance)


def _as_edited(record: FrameRecord, provenance: Provenance | None) -> FrameRecord:
    """Record of an edited mask, with what is known of its image."""
    generated = next((frame for frame in provenance.frames if frame.t == record.t), None) if provenance else None
    kept = generated.warnings if generated else ()
    of_image = [warning for warning in kept if warning.partition(":")[0] not in WARNINGS_OF_CELLS]
    changes = {"zoom": generated and generated.zoom, "warnings": (*record.warnings, *of_image, "edited")}
    return record.model_copy(update=changes)


def _times_of(labels: NDArray[Any], provenance: Provenance | None) -> Sequence[int | None]:
    return [frame.t for frame in provenance.frames] if provenance else [None]


def _expected_shape(opened: ImageSelection) -> tuple[int, ...]:
    return ((len(opened.times),) if len(opened.times) > 1 else ()) + opened.shape


def with_given_size(provenance: Provenance, pixel_size_um: PixelSize) -> Provenance:
    """Provenance with the pixel size that the user gives, which is that of the full resolution."""
    sizes = complete_pixel_size(pixel_size_um, _sizes_of(provenance))
    if provenance.input.part is not None:
        sizes |= {axis: sizes[axis] * scale for axis, scale in zip("YX", provenance.input.part.scale, strict=True)}
    record = provenance.input.model_copy(update={"pixel_size_um": sizes, "pixel_size_trusted": True})
    return provenance.model_copy(update={"input": record})


def open_input(
    out: Path, entry: Entry, provenance: Provenance | None, pixel_size_um: PixelSize | None
) -> ImageSelection | None:
    """The input as it was segmented, or None with a warning when it cannot be opened any more."""
    try:
        return open_as_segmented(out, entry, provenance, pixel_size_um)
    except ImageError as error:
        logger.warning("%s: measured without grey values: %s", entry.path, error)
        return None


def open_as_segmented(
    out: Path, entry: Entry, provenance: Provenance | None, pixel_size_um: PixelSize | None = None
) -> ImageSelection:
    """The input as it was segmented; with a pixel size that is given, which is that of the full resolution.

    Raises
    ------
    ImageError
        When it cannot be opened any more.
    """
    path = provenance.input.find((out / entry.output).parent) if provenance else Path(entry.input)
    if path is None or not path.exists():
        raise ImageError("unreadable", "it is no longer there")
    if provenance is not None and pixel_size_um is not None:
        provenance = with_given_size(provenance, pixel_size_um)
    settings = provenance.settings if provenance else {}
    record = provenance.input if provenance else None
    # The journal names the position of a mask without provenance.
    series = settings.get("series", entry.series) or 0
    image = open_recorded(record, path, axes=settings.get("axes"), series=series)
    return _as_segmented(with_pixel_size(image, pixel_size_um), provenance)


def segmented_channels(opened: ImageSelection, provenance: Provenance | None) -> list[int]:
    """Channels that the model saw and that are there; the first one that is there if they are unknown."""
    present, seen = opened.present_channels(opened.times[0]), provenance.run.get("channels") if provenance else None
    return [channel for channel in seen or () if channel in present] or list(present[:1])


def _as_segmented(image: Image, provenance: Provenance | None) -> ImageSelection:
    """The part of an image that its label image covers."""
    count = image.size("T")
    times: tuple[int | None, ...] = tuple(range(count)) if count > 1 else (None,)
    z = link = sections = None
    nan: Literal["refuse", "fill"] = "refuse"
    if provenance is not None:
        times = tuple(frame.t for frame in provenance.frames)
        z, link = provenance.settings.get("z"), provenance.settings.get("link")
        nan = provenance.settings.get("nan", nan)
        if kept := provenance.run.get("partial"):
            image, sections = image.crop_sections(*kept), range(*kept)
        if provenance.run.get("damaged"):
            image, _ = without_damage(image)
        sizes, trusted = provenance.input.pixel_size_um, provenance.input.pixel_size_trusted
        image = replace(image, pixel_size_um=sizes, pixel_size_trusted=trusted)
        image = with_channel_names(image, provenance.settings.get("channel_names", ()))
        if "C" in image.axes and "C" not in provenance.input.axes:
            image = grey_view(image)
    axes = "ZYX" if image.size("Z") > 1 and z in (None, "each") else "YX"
    shape = tuple(image.size(axis) for axis in axes)
    settings = Settings(z=z, link=link, nan=nan)
    return ImageSelection(image, settings, (), times, axes, shape, (1.0,) * len(axes), kept_sections=sections)
