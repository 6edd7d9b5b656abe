"""Model cards: the page of a model, the front matter of Hugging Face, and the metadata of Zenodo.

All of it follows from the header of the model file, and from the page ``NAME.md`` beside the file if there is one.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from unetbio import networks
from unetbio.errors import UsageError
from unetbio.files import atomic_folder, read_bytes
from unetbio.models import SUFFIX
from unetbio.models.model_file import Model, ModelInfo

__all__ = ["ARXIV", "card", "licence_of", "write_publication"]

ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")

HUGGING_FACE_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
    *(
        "cc-by-nc-sa-4.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nd-4.0",
        "gpl-3.0",
        "agpl-3.0",
        "lgpl-3.0",
        "mpl-2.0",
        "odbl",
        "pddl",
    ),
)
"""Identifiers that Hugging Face knows, which are SPDX in small letters."""

# A page beside the model shows pictures, and links to files, that are not published with it.
_LOCAL_PICTURE = re.compile(r"!\[[^\]]*\]\((?!https?:)[^)]*\)(?:\n\n)?")
_LOCAL_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]*\)")


def write_publication(model: Model, path: str | os.PathLike[str], *, authors: Sequence[str], licence: str = "") -> Path:
    """Write a folder to publish a model with: the model file, its card ``README.md``, and ``.zenodo.json``.

    Parameters
    ----------
    model : Model
        A trained model.
    path : path-like
        The folder; it must not exist.
    authors : sequence of str
        Names of those who trained the model.
    licence : str
        SPDX identifier, for a model that states none.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    UsageError
        When the folder exists, authors or licence are missing, or the model has another licence.
    EnvironmentStoppedError
        When the folder cannot be written.
    """
    if Path(path).exists():
        raise UsageError(f"{path} exists: give another folder with -o")
    licence = licence_of(model, "a publication", authors, licence)
    with atomic_folder(path) as folder:
        shutil.copyfile(model.path, folder / f"{model.path.stem}{SUFFIX}")
        matter = yaml.safe_dump(_front_matter(model.info, licence), sort_keys=False, allow_unicode=True)
        (folder / "README.md").write_text(f"---\n{matter}---\n\n{card(model, licence)}", encoding="utf-8")
        zenodo = json.dumps(_zenodo(model.info, authors, licence), indent=2, ensure_ascii=False)
        (folder / ".zenodo.json").write_text(f"{zenodo}\n", encoding="utf-8")
    return Path(path)


def licence_of(model: Model, what: str, authors: Sequence[str], licence: str) -> str:
    """The licence that is given, otherwise the model's, for ``what`` names its authors.

    The model file goes with it: another licence beside it would contradict the file.

    Raises
    ------
    UsageError
        When there are no authors, no licence, or two that differ.
    """
    own = model.info.licence
    if not authors or not (own or licence):
        missing = "authors: give --author NAME" if not authors else "a licence: give --licence, such as CC-BY-4.0"
        raise UsageError(f"{what} of model {model.info.name} needs {missing}")
    # Other words, such as "MIT License", are given the identifier that packages need.
    is_identifier = _unspaced(own) in map(_unspaced, HUGGING_FACE_LICENCES)
    if licence and is_identifier and _unspaced(own) != _unspaced(licence):
        raise UsageError(f"model {model.info.name} has the licence {own}, not {licence}: leave out --licence")
    return licence or own


def _unspaced(licence: str) -> str:
    """Letters and digits alone: a model may state "CC BY 4.0", which packages know as CC-BY-4.0."""
    return "".join(filter(str.isalnum, licence.casefold()))


def card(model: Model, licence: str) -> str:
    """The page beside the model file, or one of what the file says and its licence, as `licence_of` finds it."""
    page = model.path.with_suffix(".md")
    if page.is_file():
        return _LOCAL_LINK.sub(r"\1", _LOCAL_PICTURE.sub("", read_bytes(page).decode("utf-8")))
    info = model.info
    sections = [
        f"# {info.name}",
        _summary(info, licence),
        f"## Use\n\n    pip install unetbio\n    unetbio segment images/ -o results/ --model {model.path.name}",
        f"## Training\n\n{_training(info)}",
        f"## Scores\n\n{_scores(info)}",
    ]
    return "\n\n".join(sections) + "\n"


def _summary(info: ModelInfo, licence: str) -> str:
    channels = ", ".join(filter(None, info.channels)) or f"{len(info.channels)}, without names"
    facts = {
        "network": f"`{info.architecture}`, {_listed(info.network_parameters())}",
        "learned": f"`{info.target}`",
        "input channels": channels,
        "classes of pixels": ", ".join(info.class_names),
        "cells in training": f"about {info.cell_diameter_px:.0f} px wide" if info.cell_diameter_px else "",
        "pixel size": " x ".join(f"{size:g}" for size in info.pixel_size_um) + " um" if info.pixel_size_um else "",
        "licence": licence,
        "written by": f"unetbio {info.version}" if info.version else "",
    }
    return _table({name: text for name, text in facts.items() if text})


def _training(info: ModelInfo) -> str:
    """Numbers and texts of the training; its nested records stay in the file."""
    plain = {name: value for name, value in info.training.items() if isinstance(value, int | float | str)}
    facts = {name.replace("_", " "): _shown(value) for name, value in plain.items() if name != "config"}
    return _table(facts) if facts else "The file does not say how the model was trained."


def _scores(info: ModelInfo) -> str:
    tables = [
        f"On {title}:\n\n{_table({name: _shown(value) for name, value in values.items()})}"
        for title, values in _score_sets(info).items()
    ]
    return "\n\n".join(tables) or "The file holds no scores."


def _score_sets(info: ModelInfo) -> dict[str, Mapping[str, float]]:
    """Scores by the images that they were measured on; those of the training are of thresholds before a calibration."""
    found = info.calibration.get("scores")
    # Integers that earlier versions made have the scores of the model that they were made of.
    is_own = not info.is_integer or info.calibration.get("integers")
    calibrated = found if isinstance(found, dict) and is_own else {}
    before = ", before the calibration" if calibrated else ""
    groups = {"validation images" if name == "validation" else name: group for name, group in info.scores.items()}
    plain = {name: value for name, value in groups.items() if _is_number(value)}
    sets = {name: group for name, group in groups.items() if isinstance(group, dict)} | {"images": plain}
    titled = {f"the images that chose the thresholds ({info.calibration.get('images')})": calibrated}
    titled |= {f"{name}{before}": group for name, group in sets.items()}
    numbers = {title: {k: v for k, v in group.items() if _is_number(v)} for title, group in titled.items()}
    return {title: values for title, values in numbers.items() if values}


def _front_matter(info: ModelInfo, licence: str) -> dict[str, Any]:
    """Metadata of a page on Hugging Face."""
    known = licence.lower() in HUGGING_FACE_LICENCES
    results = [
        {
            "task": {"type": "image-segmentation"},
            "dataset": {"type": "microscopy", "name": title},
            "metrics": [{"type": name, "name": name, "value": round(value, 4)} for name, value in values.items()],
        }
        for title, values in _score_sets(info).items()
    ]
    return {
        "license": licence.lower() if known else "other",
        **({} if known else {"license_name": licence}),
        "library_name": "unetbio",
        "pipeline_tag": "image-segmentation",
        "tags": _keywords(info),
        **({"model-index": [{"name": info.name, "results": results}]} if results else {}),
    }


def _zenodo(info: ModelInfo, authors: Sequence[str], licence: str) -> dict[str, Any]:
    """Metadata of a deposit on Zenodo."""
    architecture = networks.find(info.architecture)
    papers = ARXIV.findall(architecture.paper)
    return {
        "title": f"{info.name}: a model of unetbio for microscopy",
        "upload_type": "other",
        "description": f"<p>Weights of {info.architecture} ({architecture.summary}) for unetbio, in one file.</p>",
        "creators": [{"name": name} for name in authors],
        "license": licence,
        "keywords": _keywords(info),
        "related_identifiers": [
            {"identifier": f"arXiv:{number}", "relation": "references", "scheme": "arxiv"} for number in papers
        ],
    }


def _keywords(info: ModelInfo) -> list[str]:
    return ["microscopy", "segmentation", "unetbio", info.architecture.replace("_", "-"), info.target.replace("_", "-")]


def _table(rows: Mapping[str, str]) -> str:
    lines = [f"| {name} | {' '.join(text.split()).replace('|', '/')} |" for name, text in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
