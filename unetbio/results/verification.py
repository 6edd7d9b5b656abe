"""Check every mask of an output folder against its provenance."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from unetbio.errors import UsageError
from unetbio.files import read_bytes, sha256_file, sha256_path
from unetbio.output_layout import (
    CELLS,
    CELLS_TEXT,
    SUMMARY,
    TABLE_HASHES,
    described_mask,
    find_masks,
    find_output_folders,
    find_provenances,
    is_journal,
    provenance_name,
)
from unetbio.provenance import Provenance, is_as_written, read_provenance
from unetbio.results.entries import check_folder
from unetbio.results.journal import count_damaged
from unetbio.results.reuse import state_of_labels
from unetbio.settings.base import flattened
from unetbio.settings.segmentation import PARTS, READING

__all__ = ["Finding", "find_differences", "read_provenances", "verify_folder"]

Kind = Literal["labels", "input", "model", "settings", "provenance", "rerun", "table", "journal", "signature"]

# Model and settings by their names; those of lists as text, so that all can be counted.
_Recipe = tuple[tuple[str, Any], ...]

# Settings that a table may give for each image.
_OF_ONE_IMAGE = frozenset(READING + PARTS)


@dataclass(frozen=True)
class Finding:
    """A mismatch between a mask, its provenance and the files that it names.

    Parameters
    ----------
    output : str
        Label image, table or journal, below the output folder.
    kind : {"labels", "input", "model", "settings", "provenance", "rerun", "table", "journal", "signature"}
        What was compared.
    message : str
        One line: the mismatch and its meaning.
    """

    output: str
    kind: Kind
    message: str


def verify_folder(out: Path, workers: int) -> tuple[int, list[Finding]]:
    """Compare label images, inputs and models with their provenances, byte for byte.

    Models are compared if their files still exist. Settings and models are also compared between the masks of one run:
    output folders below this one are of others.

    Parameters
    ----------
    out : pathlib.Path
        Output folder of a run.
    workers : int
        Threads that read and hash.

    Returns
    -------
    int
        Number of masks.
    list of Finding
        In the order of the masks.

    Raises
    ------
    UsageError
        When there is no mask.
    """
    provenances = read_provenances(out)
    models = {provenance.model.path for provenance in provenances.values() if provenance}
    hashes = {path: _hash_of(path) for path in models}
    # Masks of two models, each in a folder of its own, differ.
    made = {folder: Counter[_Recipe]() for folder in find_output_folders(out)}
    folder_of = {name: next(above for above in (out / name).parents if above in made) for name in provenances}
    for name, provenance in provenances.items():
        if provenance:
            made[folder_of[name]][_recipe(provenance)] += 1
    usual = {folder: _most_common(recipes) for folder, recipes in made.items()}

    def check(name: str) -> list[Finding]:
        return list(_check(out, name, provenances[name], hashes, usual[folder_of[name]]))

    with ThreadPoolExecutor(workers) as pool:
        found = [finding for findings in pool.map(check, sorted(provenances)) for finding in findings]
    for folder in made:
        above = "" if folder == out else f"{folder.relative_to(out).as_posix()}/"
        found += [replace(one, output=above + one.output) for one in (*_check_tables(folder), *_check_journals(folder))]
    return len(provenances), found


def _check_tables(out: Path) -> Iterator[Finding]:
    """Compare the tables with the hashes that were written with them; earlier versions wrote none."""
    try:
        lines = read_bytes(out / TABLE_HASHES).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        digest, _, name = line.partition("  ")
        if name not in (SUMMARY, CELLS, CELLS_TEXT) or _hash_of(str(out / name)) != digest:
            file = name if (out / name).is_file() else TABLE_HASHES
            yield Finding(
                file, "table", "changed after it was written (sha256 differs): unetbio measure writes it again"
            )


def _check_journals(out: Path) -> Iterator[Finding]:
    for path in sorted(path for path in out.glob("*") if is_journal(path.name)):
        if count := count_damaged(path):
            message = f"lines that are not as they were written: {count}; their images count by their provenance"
            yield Finding(path.name, "journal", message)


def find_differences(provenances: Iterable[tuple[str, Provenance]]) -> Iterable[Finding]:
    """Find masks made with another model or other settings than most.

    Parameters
    ----------
    provenances : iterable
        Name of a label image and its provenance; only one is kept in memory.

    Yields
    ------
    Finding
    """
    made: dict[_Recipe, list[str]] = {}
    for name, provenance in provenances:
        made.setdefault(_recipe(provenance), []).append(name)
    usual = _most_common({own: len(names) for own, names in made.items()})
    for own, names in made.items():
        for name in names:
            yield from _differences(name, own, usual)


def read_provenances(out: Path) -> dict[str, Provenance | None]:
    """Provenance of each label image, by its name below the folder; None if it is missing.

    Missing label images are included.

    Raises
    ------
    UsageError
        When there is neither.
    """
    check_folder(out)
    found: dict[Path, Provenance | None] = dict.fromkeys(find_masks(out))
    for path in find_provenances(out):
        provenance = read_provenance(path)
        if provenance is None:
            continue
        mask = described_mask(path, provenance.output.name)
        # A copy of a provenance alone describes no mask; the original lies beside it.
        original = path.with_name(provenance_name(PurePosixPath(provenance.output.name).name))
        is_copy = original != path and original.exists() and not mask.exists()
        # A field of a plate may have been renamed without its mask.
        is_own = mask.is_relative_to(out) and out / provenance_name(mask.relative_to(out).as_posix()) == path
        if is_own and not is_copy:
            found[mask] = provenance
    if not found:
        raise UsageError(
            f"{out} holds no results of unetbio segment: no *_labels.ome.tif, *_labels.ome.zarr, *_labels.nii.gz, "
            "*_labels.json, and no *_classes in their place"
        )
    return {path.relative_to(out).as_posix(): provenance for path, provenance in found.items()}


def _check(
    out: Path, name: str, provenance: Provenance | None, hashes: dict[str, str | None], usual: dict[str, Any]
) -> Iterable[Finding]:
    path = out / name
    if provenance is None:
        expected = Path(provenance_name(name)).name
        yield Finding(
            name,
            "provenance",
            f"no provenance that can be read: {expected}; segment keeps such a mask, and segment --overwrite-edited "
            "makes it again",
        )
        return
    if not is_as_written(out / provenance_name(name)):
        yield Finding(name, "provenance", "the provenance was changed after it was written (checksum differs)")
    state = state_of_labels(path, provenance, rehash=True)
    if state != "intact":
        meaning = {
            "missing": "the label image is missing: segment again",
            "unreadable": "the label image cannot be read: segment again",
            "edited": "the label image was changed after it was made (label_hash differs)",
        }
        yield Finding(name, "labels", meaning[state])
    elif provenance.output.sha256 and sha256_path(path) != provenance.output.sha256:
        yield Finding(name, "labels", "the file was changed after it was made, its pixels were not (sha256 differs)")
    source = provenance.input.find(path.parent)
    if source is None:
        gone = f"the input is gone: {provenance.input.absolute} (if it was moved, give its place to segment)"
        yield Finding(name, "input", gone)
    elif not provenance.input.matches(source, rehash=True):
        yield Finding(name, "input", f"the input was changed after it was segmented (sha256 differs): {source}")
    if hashes[provenance.model.path] not in (None, provenance.model.sha256):
        yield Finding(name, "model", f"the model file is another one now (sha256 differs): {provenance.model.path}")
    yield from _differences(name, _recipe(provenance), usual)


def _hash_of(path: str) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def _recipe(provenance: Provenance) -> _Recipe:
    flat = flattened({key: value for key, value in provenance.settings.items() if key not in _OF_ONE_IMAGE})
    settings = {key: json.dumps(value) if isinstance(value, list) else value for key, value in flat.items()}
    return (("model", f"{provenance.model.name} {provenance.model.sha256[:12]}"), *settings.items())


def _most_common(made: Mapping[_Recipe, int]) -> dict[str, Any]:
    """The most common value of each setting, and the most common model; the first of equals.

    Many settings are recorded only if they are not the default: None counts where one is missing.
    """
    names = dict.fromkeys(key for own in made for key, _ in own)
    counted: dict[str, Counter[Any]] = {key: Counter() for key in names}
    for own, count in made.items():
        values = dict(own)
        for key, counter in counted.items():
            counter[values.get(key)] += count
    return {key: counter.most_common(1)[0][0] for key, counter in counted.items()}


def _differences(name: str, made: _Recipe, usual: dict[str, Any]) -> Iterable[Finding]:
    own = dict(made)
    different = [
        f"{key} {_text(own.get(key))}, others {_text(value)}" for key, value in usual.items() if own.get(key) != value
    ]
    if different:
        kind: Kind = "model" if own.get("model") != usual.get("model") else "settings"
        yield Finding(name, kind, f"made differently from most of this folder: {'; '.join(different)}")


def _text(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
