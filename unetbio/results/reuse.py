"""Which results of earlier runs are reused.

`write_result` renames the label image into place after it has written the provenance. A killed run therefore leaves a
provenance without a label image, or both. A label image that differs from its provenance was edited by hand.
"""

import contextlib
import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import ImageError
from unetbio.files import TEMPORARY, real_path, stamp
from unetbio.io import Image, read_image, read_labels
from unetbio.io.label_file import LabelFile
from unetbio.io.pairing.matching import affine_over, put_over
from unetbio.labels import label_hash
from unetbio.models.model_file import Model
from unetbio.output_layout import LOCK, NIFTI, described_mask, provenance_name
from unetbio.postprocessing.bands import bands_in_memory
from unetbio.postprocessing.instances import PostProcessing
from unetbio.provenance import CELL_CLASSES, PROBABILITIES, Provenance, read_provenance
from unetbio.results.items import Format, Item
from unetbio.results.recorded_input import input_under, record_set
from unetbio.settings.base import flattened
from unetbio.settings.segmentation import Settings

__all__ = [
    "EarlierResult",
    "KeptResult",
    "Policy",
    "affine_of_mask",
    "find_earlier_result",
    "has_objects",
    "hash_labels",
    "is_large",
    "labels_in_parts",
    "large_labels",
    "layout_of",
    "read_label_file",
    "read_mask_of_run",
    "state_of_labels",
]

LARGE_PIXELS = 1 << 25
"""Pixels of a label image from which on it is read in parts."""

SHOWN = 3
"""Number of changed settings that a message names."""

# What settings are that follow from the model, where they are not recorded.
_UNSET = {"diameter_px": "model", "precision": "float32", "normalize": "auto"}

State = Literal["missing", "unreadable", "intact", "edited"]

# Damaged files are made again. Files with any other fault may have been edited by hand.
_BROKEN = ("unreadable", "truncated")


@dataclass(frozen=True)
class Policy:
    """Which results are made again.

    Parameters
    ----------
    overwrite : bool
        Make all results again, except those edited by hand.
    overwrite_edited : bool
        Make results again that were edited by hand.
    rehash : bool
        Compare inputs by their bytes, even if size and times agree.
    save_probabilities : bool
        Write probabilities; results without them are made again.
    """

    overwrite: bool = False
    overwrite_edited: bool = False
    rehash: bool = False
    save_probabilities: bool = False


@dataclass(frozen=True)
class KeptResult:
    """A result of an earlier run that stays.

    Parameters
    ----------
    edited : bool
        Whether the label image was edited by hand: it differs from its provenance.
    provenance : Provenance, optional
        None for a label image that no run made.
    """

    edited: bool
    provenance: Provenance | None


@dataclass(frozen=True)
class EarlierResult:
    """What earlier runs left of an item.

    Parameters
    ----------
    kept : KeptResult, optional
        The result that stays; None if it has to be made.
    changes : str
        Input, model or settings that differ from those of the result, as ``model mine (now nuclei)``: why it is
        replaced, or what does not hold for an edited one that stays.
    """

    kept: KeptResult | None = None
    changes: str = ""


_NOTHING = EarlierResult()


def find_earlier_result(item: Item, out: Path, model: Model, settings: dict[str, Any], policy: Policy) -> EarlierResult:
    """Find the earlier result of an item, and whether it stays or is replaced.

    Parameters
    ----------
    item : Item
        The image.
    out : pathlib.Path
        The output folder.
    model : Model
        Model of this run.
    settings : dict
        Record of the settings of this run.
    policy : Policy
        Which results are made again.

    Raises
    ------
    ImageError
        ``edited``: the label image was edited by hand, and an earlier run wrote it in another format or for another
        image; or this run would replace a table of objects beside a mask that was made without one.
    """
    provenance = read_provenance(out / item.provenance)
    _refuse_edited_format(item, out, provenance, policy)
    state = state_of_labels(out / item.labels, provenance)
    if state != "edited":
        _refuse_others_objects(item, out, provenance, settings, policy)
    if state in ("missing", "unreadable"):
        return _NOTHING
    if state == "edited":
        if policy.overwrite_edited:
            return _NOTHING
        _refuse_edited_for_another(item, out, provenance, policy)
        changes = _describe_changes(provenance, model, settings) if provenance else ""
        return EarlierResult(KeptResult(True, provenance), changes)
    if policy.overwrite or provenance is None:
        return _NOTHING
    is_same = functools.cache(lambda: provenance.input.matches(item.source, rehash=policy.rehash))
    other = _other_input(item, out, provenance)
    other = f"input {other} (now {real_path(item.source)})" if other and not is_same() else ""
    if changes := ", ".join(filter(None, (other, _describe_changes(provenance, model, settings)))):
        return EarlierResult(changes=changes)
    if has_objects(provenance) and not (out / item.objects).is_file():
        return _NOTHING
    if {"partial", "damaged"} & provenance.run.keys() and not item.settings.partial:
        return _NOTHING
    if policy.save_probabilities and not _has_probabilities(item, out, provenance):
        return _NOTHING
    if provenance.input.image_set != record_set(item.image_set):
        return _NOTHING
    return EarlierResult(KeptResult(False, provenance)) if is_same() else _NOTHING


def has_objects(provenance: Provenance) -> bool:
    """Whether a run wrote a table of objects beside the label image."""
    return _makes_objects(provenance.settings)


def _makes_objects(settings: Mapping[str, Any]) -> bool:
    """Whether a run with this record of its settings writes a table of objects."""
    return not settings.keys().isdisjoint({"objects", CELL_CLASSES})


def _describe_changes(provenance: Provenance, model: Model, settings: dict[str, Any]) -> str:
    """Model or settings of a result that differ from those of this run; empty if none does."""
    if provenance.model.sha256 != model.sha256:
        same_name = provenance.model.name == model.info.name
        return f"model {provenance.model.name} (now {'another model of that name' if same_name else model.info.name})"
    if provenance.settings == settings:
        return ""
    before, now = flattened(provenance.settings), flattened(settings)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    shown = [_describe_change(name, before.get(name), now.get(name)) for name in names[:SHOWN]]
    more = len(names) - SHOWN
    # An empty section has no name here.
    return ", ".join([*shown, *([f"{more} more"] if more > 0 else [])]) or "other settings"


def _describe_change(name: str, before: Any, now: Any) -> str:
    return f"{name.rpartition('.')[2]} {_shown(name, before)} (now {_shown(name, now)})"


def _shown(name: str, value: Any) -> Any:
    """A setting for messages; None of one that is not recorded, which has its default."""
    if value is not None:
        return value
    part, _, own = name.rpartition(".")
    default = getattr(PostProcessing if part == "postprocessing" else Settings, own, None)
    return _UNSET.get(name, "none") if default in (None, ()) else default


def _other_input(item: Item, out: Path, provenance: Provenance) -> str:
    """The input of a result, if it is another file than that of the item and still there."""
    before = provenance.input.find((out / item.labels).parent)
    return "" if before is None or real_path(before) == real_path(item.source) else str(real_path(before))


def other_format(out: Path, item: Item, provenance: Provenance | None) -> Path | None:
    """The label image that a provenance describes, if the item would be written to another file."""
    if provenance is None:
        return None
    described = described_mask(out / item.provenance, provenance.output.name)
    # Trust no name in the file except a label image of the same result: it will be removed.
    others = {replace(item, format=kind).labels for kind in get_args(Format)} - {item.labels}
    return next((out / name for name in others if described == out / name), None)


def _refuse_edited_format(item: Item, out: Path, provenance: Provenance | None, policy: Policy) -> None:
    other = other_format(out, item, provenance)
    if other is None or policy.overwrite_edited or state_of_labels(other, provenance) != "edited":
        return
    raise ImageError(
        "edited",
        f"{other.name} was edited by hand and would be replaced by {item.labels.rpartition('/')[2]}: leave --format as "
        "it was, or give --overwrite-edited or another output folder",
    )


def _refuse_others_objects(
    item: Item, out: Path, provenance: Provenance | None, settings: Mapping[str, Any], policy: Policy
) -> None:
    """Refuse to replace a table of objects beside a mask that was made without one: a person named classes of cells."""
    # Without a provenance a run may have written it: masks are removed to be made again.
    is_own = provenance is None or has_objects(provenance)
    if is_own or policy.overwrite_edited or not _makes_objects(settings) or not (out / item.objects).is_file():
        return
    raise ImageError(
        "edited",
        f"the run that made this mask did not write {item.objects}, which this one would replace: move it away, or "
        "give another output folder",
    )


def _refuse_edited_for_another(item: Item, out: Path, provenance: Provenance | None, policy: Policy) -> None:
    """Refuse a mask that was edited by hand on other pixels; what is missing, or not recorded, cannot be compared."""
    if provenance is None or not item.source.exists() or provenance.input.matches(item.source, rehash=policy.rehash):
        return
    other = _other_input(item, out, provenance)
    what = f"was drawn on another image, {other}" if other else "its image has changed since"
    raise ImageError(
        "edited",
        f"{item.labels} was edited by hand, and {what}: give another output folder, or --overwrite-edited; without "
        f"{item.provenance} the mask is kept for this image too",
    )


def _has_probabilities(item: Item, out: Path, provenance: Provenance) -> bool:
    # Files of that name may come from another program; earlier versions did not record whether they wrote them.
    if not provenance.run.get(PROBABILITIES, True):
        return False
    # Newer probabilities come from a run that was killed before it wrote its label image.
    names = item.probabilities_names([frame.t for frame in provenance.frames])
    return all(_is_as_old(out / name, provenance.output.mtime_ns) for name in names)


def _is_as_old(path: Path, mtime_ns: int) -> bool:
    try:
        return path.stat().st_mtime_ns <= mtime_ns
    except OSError:
        return False


def state_of_labels(path: Path, provenance: Provenance | None, *, rehash: bool = False) -> State:
    """Whether a label image is the one that its provenance describes.

    Equal size and time of the last change are sufficient, unless ``rehash``. A damaged file is ``unreadable``. A file
    that cannot be used for another reason (pixels that are no labels, unknown axes, a missing codec, no permission) may
    hold work done by hand and is ``edited``.
    """
    try:
        size, mtime_ns, _ = stamp(path)
    except OSError:
        return "missing"
    if provenance and not rehash:
        output = provenance.output
        if (size, mtime_ns) == (output.size, output.mtime_ns):
            return "intact"
    try:
        digest = hash_labels(path, provenance)
    except ImageError as error:
        return "unreadable" if _is_broken(error) else "edited"
    return "intact" if provenance and digest == provenance.output.label_hash else "edited"


def hash_labels(path: Path, provenance: Provenance | None) -> str:
    """Hash of the pixels of a label image of a run; raises as `read_label_file`."""
    try:
        labels = labels_in_parts(path, provenance)
        if labels is not None:
            return label_hash(labels)
    except ImageError:
        # Read as a whole, it may fail with a reason that says more.
        pass
    return label_hash(read_label_file(path, provenance))


def labels_in_parts(path: Path, provenance: Provenance | None) -> LabelFile | None:
    """A label image with the layout and the kind of numbers that its run gave it, read in parts; None of any other.

    Its pixels may have been edited: ids can have gaps and any order. Files of several images or channels are others.

    Raises
    ------
    ImageError
        When it cannot be opened.
    """
    # A packed NIfTI file is unpacked from its start for each part.
    if provenance is None or path.name.endswith(NIFTI):
        return None
    image = read_image(path, labels=True)
    if image.series_count > 1 or image.size("C") > 1:
        return None
    labels = LabelFile(image)
    is_unsigned = labels.dtype.kind == "u" and labels.dtype.itemsize <= 4
    is_alike = is_unsigned and (labels.axes, labels.shape) == layout_of(provenance)
    return labels if is_alike and _has_background(labels) else None


def _has_background(labels: LabelFile) -> bool:
    """Whether a pixel is 0. Without any, ids could be -1 without its sign, which `read_label_file` finds out."""
    return any(bool((labels[band] == 0).any()) for band in bands_in_memory(labels))


def _is_broken(error: ImageError) -> bool:
    cause = error.__cause__
    # An error number comes from the system (no permission, for example), not from the content.
    refused = isinstance(cause, OSError) and cause.errno is not None
    no_codec = isinstance(cause, ImportError) or "COMPRESSION" in str(cause) or "imagecodecs" in str(cause)
    return error.reason in _BROKEN and not refused and not no_codec


def large_labels(path: Path, provenance: Provenance | None) -> LabelFile | None:
    """A label image as `labels_in_parts` opens it, if it is large; None of any other."""
    if provenance is None or not is_large(layout_of(provenance)[1]):
        return None
    return labels_in_parts(path, provenance)


def is_large(shape: Sequence[int]) -> bool:
    """Whether an image of this shape is worked on in parts."""
    return prod(shape) > LARGE_PIXELS


def read_label_file(path: Path, provenance: Provenance | None) -> NDArray[Any]:
    """Read a label image of a run, also one that was edited and holds only a single cell, in the order of its input.

    Programs that edit masks often do not write the axes, and three frames look like colours, or like one grey image
    where they are equal. Such a file is read again with the axes of the original label image, and accepted if its shape
    is the same. Programs of other axes save the voxels of NIfTI files in another order; pixels as the run wrote them
    have that of its input, whatever was done to the header of either file.

    Raises
    ------
    ImageError
        As `unetbio.io.read_labels`; ``geometry_differs``: an edited mask does not lie over its input.
    """
    label_image = _read_as_stored(path, provenance)
    image = _input_under_changed(path, provenance)
    if provenance is None or image is None or label_hash(label_image) == provenance.output.label_hash:
        return label_image
    return put_over(image, path, label_image)


def affine_of_mask(path: Path, provenance: Provenance | None) -> NDArray[np.float64] | None:
    """Matrix of what `read_label_file` gives; None where the file holds none. Raises as `unetbio.io.read_image`."""
    stored = read_image(path, labels=True).affine
    image = _input_under_changed(path, provenance)
    return stored if image is None else affine_over(image, path)


def _input_under_changed(path: Path, provenance: Provenance | None) -> Image | None:
    """The input of a NIfTI file that its run did not write as it is; None of others, and where there is none."""
    if provenance is None or not path.name.endswith(NIFTI):
        return None
    size, mtime_ns, _ = stamp(path)
    is_own = (size, mtime_ns) == (provenance.output.size, provenance.output.mtime_ns)
    return None if is_own else input_under(path, provenance)


def _read_as_stored(path: Path, provenance: Provenance | None) -> NDArray[Any]:
    try:
        labels = read_labels(path, allow_binary=True)
    except ImageError as error:
        again = _read_as_before(path, provenance) if error.reason in ("unknown_axes", "wrong_channels") else None
        if again is None:
            raise
        return again
    is_as_before = provenance is None or labels.shape == layout_of(provenance)[1]
    again = None if is_as_before else _read_as_before(path, provenance)
    return labels if again is None else again


def read_mask_of_run(out: Path, output: str) -> NDArray[Any]:
    """Read a label image of an output folder by its name there, as `read_label_file` does; an error names it."""
    try:
        return read_label_file(out / output, read_provenance(out / provenance_name(output)))
    except ImageError as error:
        raise ImageError(error.reason, f"{output}: {error}") from error


def _read_as_before(path: Path, provenance: Provenance | None) -> NDArray[Any] | None:
    """Label image in the axes of the original one, if it has its shape."""
    if provenance is None:
        return None
    axes, shape = layout_of(provenance)
    try:
        labels = read_labels(path, allow_binary=True, axes=axes)
    except ImageError:
        return None
    return labels if labels.shape == shape else None


def layout_of(provenance: Provenance) -> tuple[str, tuple[int, ...]]:
    """Axes and shape of the label image that a provenance describes."""
    sizes = dict(zip(provenance.input.axes, provenance.input.shape, strict=True))
    stack = sizes.get("Z", 1) > 1 and provenance.settings.get("z") in (None, "each")
    layout = {"T": len(provenance.frames)} if len(provenance.frames) > 1 else {}
    layout |= {axis: sizes[axis] for axis in ("ZYX" if stack else "YX")}
    return "".join(layout), tuple(layout.values())


def remove_leftovers(out: Path) -> None:
    """Remove temporary files that a killed run left; the caller holds the lock of the whole folder.

    Folders below it with a lock of their own belong to other commands and are left alone.
    """
    others = {path.parent for path in out.rglob(LOCK)} - {out}
    for path in sorted(out.rglob(f"{TEMPORARY}*")):
        if not others.isdisjoint(path.parents):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.unlink()
