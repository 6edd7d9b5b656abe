"""Segment masks of an output folder again as their provenances record, and compare the results."""

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetbio.batch.budget import MemoryShares
from unetbio.batch.plan import spread
from unetbio.errors import ImageError, UsageError
from unetbio.machine import available_memory
from unetbio.postprocessing.instances import PostProcessing
from unetbio.postprocessing.objects import ObjectSettings
from unetbio.provenance import Provenance, versions
from unetbio.results.recorded_input import open_recorded
from unetbio.results.verification import Finding, read_provenances
from unetbio.settings.normalization import Normalization
from unetbio.settings.segmentation import Settings

if TYPE_CHECKING:
    from unetbio.models.model_file import Model, ModelInfo

__all__ = ["rerun_masks"]


def rerun_masks(out: Path, count: int, device: str, report: Callable[[str], object]) -> tuple[int, list[Finding]]:
    """Segment masks again with their recorded inputs, models and settings, and compare label hashes.

    Parameters
    ----------
    out : pathlib.Path
        Output folder of a run.
    count : int
        Number of masks, spread evenly over the sorted names, so that the same masks are chosen each time.
    device : str
        As for `unetbio.segmentation.segment`.
    report : callable
        Called with the name of each mask when it is done.

    Returns
    -------
    int
        Number of chosen masks.
    list of Finding
        Masks with another label image, or that could not be made again; in the order of the masks.

    Raises
    ------
    UsageError
        When the device cannot be used, or there is no mask.
    """
    from unetbio.inference.backends.base import choose_device

    choose_device(device)
    known = {name: provenance for name, provenance in read_provenances(out).items() if provenance}
    chosen = spread(sorted(known), count)
    models = _Models()
    found = []
    for name in chosen:
        message = _repeat(out / name, known[name], models, device)
        if message:
            found.append(Finding(name, "rerun", message))
        report(name)
    return len(chosen), found


class _Models:
    """Cache of the last model, since most folders use a single one."""

    def __init__(self) -> None:
        self._key: tuple[str, str] | None = None
        self._model: Model | None = None

    def load(self, provenance: Provenance) -> "Model":
        from unetbio.models.model_file import load_model

        record = provenance.model
        if self._model is None or self._key != (record.path, record.sha256):
            model = load_model(record.path)
            if model.sha256 != record.sha256:
                raise UsageError(f"the model file is another one now (sha256 differs): {record.path}")
            self._model, self._key = model, (record.path, record.sha256)
        return self._model


def _repeat(path: Path, provenance: Provenance, models: _Models, device: str) -> str:
    """The difference in one line; empty if there is none."""
    from unetbio.batch.pipeline import in_parts_if_large
    from unetbio.segmentation.image import open_to_segment, segment_opened

    source = provenance.input.find(path.parent)
    if source is None:
        return f"cannot be segmented again: the input is gone: {provenance.input.absolute}"
    try:
        model = models.load(provenance)
        changes, options = _recorded_settings(provenance, model.info)
        if options["normalize"] == model.info.normalization and "normalize" not in provenance.settings:
            options["normalize"] = "auto"
        if "postprocessing" in changes:
            options["threshold"], changes["postprocessing"] = _threshold(changes["postprocessing"], model.info)
        model = dataclasses.replace(model, info=model.info.model_copy(update=changes))
        series = options["series"] or 0
        image = open_recorded(provenance.input, source, axes=options["axes"], series=series, whole=True)
        segmenter, opened = open_to_segment(image, model, device=device, **options)
        memory = MemoryShares.of(available_memory()).frames
        _, info = segment_opened(segmenter, in_parts_if_large(opened, segmenter, _scratch(path.parent), memory))
    except (ImageError, UsageError) as error:
        return f"cannot be segmented again: {error}"
    if info["settings"] != provenance.settings:
        return f"cannot be segmented again: this version reads other settings: {_names(provenance.settings, info)}"
    if info["label_hash"] == provenance.output.label_hash:
        return ""
    reasons = "".join(f"; {reason}" for reason in _reasons(provenance, info))
    return f"segmented again, another label image comes out (label_hash differs){reasons}"


def _scratch(folder: Path) -> Path:
    """Folder for the nameless files of a large image: that of its mask, or the usual one where that is read-only."""
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())


def _recorded_settings(provenance: Provenance, info: "ModelInfo") -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of the model that the record overrides, and arguments of `unetbio.segmentation.segment`.

    Raises
    ------
    UsageError
        When this version cannot read them.
    """
    try:
        changes, options = _changes(provenance.settings, info), _options(provenance.settings)
        options["partial"] = bool(provenance.run.get("partial") or provenance.run.get("damaged"))
        options["ensemble"] = [member["path"] for member in provenance.run.get("ensemble", ())]
    except (KeyError, TypeError, ValueError, UsageError) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"this version cannot read its settings ({text})") from error
    return changes, options


def _changes(settings: Mapping[str, Any], info: "ModelInfo") -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "postprocessing" in settings:
        values = {name: _as_tuple(value) for name, value in settings["postprocessing"].items()}
        changes["postprocessing"] = PostProcessing(**{**values, **_own_limits(settings, info.postprocessing)})
    if "objects" in settings:
        own = _own_limits(settings, info.objects or ObjectSettings())
        changes["objects"] = ObjectSettings(**{**settings["objects"], **own})
    return changes


def _own_limits(settings: Mapping[str, Any], model: PostProcessing | ObjectSettings) -> dict[str, Any]:
    """The model's limits in place of those of the run, which count pixels of the image and are options as well."""
    return {name: getattr(model, name) for name in ("min_area", "max_area") if settings[name] is not None}


def _options(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(Settings)} - {"normalization"}
    options = {name: _as_tuple(value) for name, value in settings.items() if name in names}
    # A scale that was not searched is recorded as None.
    options["diameter_px"] = options["diameter_px"] or "model"
    options["normalize"] = Normalization(**settings["normalization"])
    options |= {"exact_tiles": settings["exact_tiles"], "tile": settings["window"]}
    return options


def _threshold(recorded: PostProcessing, info: "ModelInfo") -> tuple[float | None, PostProcessing]:
    """The option ``threshold`` that a run had, and the other recorded values with the model's own thresholds.

    These tell the scale. Thresholds that no option of this version makes are left where they are.
    """
    own = info.postprocessing
    asked = Settings(threshold=recorded.mask_threshold).postprocessing(own)
    if recorded.nested_thresholds != asked.nested_thresholds:
        return None, recorded
    return recorded.mask_threshold, dataclasses.replace(
        recorded, mask_threshold=own.mask_threshold, seed_thresholds=own.seed_thresholds
    )


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _names(settings: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    now = info["settings"]
    return ", ".join(sorted(name for name in {*settings, *now} if settings.get(name) != now.get(name)))


def _reasons(provenance: Provenance, info: Mapping[str, Any]) -> Iterable[str]:
    """Possible reasons for the difference."""
    if precision := provenance.settings.get("precision"):
        yield f"made in {precision}, which is not exact"
    before, now = provenance.run.get("device"), info["run"]["device"]
    if before != now:
        yield f"made on {before}, now on {now}"
    installed = versions(provenance.versions)
    for name, version in provenance.versions.items():
        if installed.get(name) != version:
            yield f"made with {name} {version}, now {installed.get(name, 'none')}"
    yield from _differences_of_versions(provenance.run, info["run"])


def _differences_of_versions(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    """What another version may decide otherwise with the same settings."""
    zoom = recorded.get("zoom")
    if zoom and zoom[-1] != now["zoom"][-1]:
        yield f"made at zoom {zoom[-1]:g}, and this version finds {now['zoom'][-1]:g}"
    # At another zoom they are other ones anyway.
    elif recorded.get("scaling", now["scaling"]) != now["scaling"]:
        yield "made with grey values scaled otherwise than this version scales them"
