"""Folders to publish a model with: the model, its card, the metadata of Hugging Face and Zenodo."""

import json
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from unetbio.cli.main import main
from unetbio.models import model_path
from unetbio.models.model_file import load_model, save_model


def _export(*arguments: object, to: str = "publication") -> tuple[int, str]:
    result = CliRunner().invoke(main, ["models", "export", *map(str, arguments), "--to", to])
    return result.exit_code, result.output


def _front_matter(folder: Path) -> tuple[dict[str, Any], str]:
    _, matter, page = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(matter), page


def test_a_trained_model(tiny_model: Path, tmp_path: Path) -> None:
    model = load_model(tiny_model)
    scores = {"validation": {"AP@.5": 0.81987, "mean_AP": 0.5}}
    training = {"images": 4, "steps": 10, "config": "{}", "grey_values": {"channels": []}}
    info = model.info.model_copy(update={"scores": scores, "training": training})
    save_model(tmp_path / "mine.safetensors", info, model.network)
    folder = tmp_path / "out"
    assert _export(tmp_path / "mine.safetensors", "-o", folder, "--author", "Ada L.") == (0, f"{folder}\n")
    assert sorted(path.name for path in folder.iterdir()) == [".zenodo.json", "README.md", "mine.safetensors"]
    assert (folder / "mine.safetensors").read_bytes() == (tmp_path / "mine.safetensors").read_bytes()
    matter, page = _front_matter(folder)
    assert (matter["license"], matter["library_name"], matter["pipeline_tag"]) == (
        "bsd-3-clause",
        "unetbio",
        "image-segmentation",
    )
    (result,) = matter["model-index"][0]["results"]
    assert result["dataset"]["name"] == "validation images"
    assert [(metric["type"], metric["value"]) for metric in result["metrics"]] == [("AP@.5", 0.8199), ("mean_AP", 0.5)]
    for text in ("unetbio segment images/", "| images | 4 |", "| AP@.5 | 0.8199 |", "BSD-3-Clause"):
        assert text in page
    assert "grey_values" not in page
    zenodo = json.loads((folder / ".zenodo.json").read_text())
    assert zenodo["creators"] == [{"name": "Ada L."}]
    assert zenodo["license"] == "BSD-3-Clause"
    assert {"identifier": "arXiv:1505.04597", "relation": "references", "scheme": "arxiv"} in zenodo[
        "related_identifiers"
    ]


def test_scores_after_a_calibration_are_told_from_those_before(tiny_model: Path, tmp_path: Path) -> None:
    """They are of other thresholds than the model has now."""
    model = load_model(tiny_model)
    record = {"images": 2, "scores_before": {"mean_AP": 0.4}, "scores": {"mean_AP": 0.7}}
    scores = {"scores": {"validation": {"mean_AP": 0.5}}, "calibration": record}
    save_model(tmp_path / "mine.safetensors", model.info.model_copy(update=scores), model.network)
    assert _export(tmp_path / "mine.safetensors", "-o", tmp_path / "out", "--author", "A")[0] == 0
    matter, page = _front_matter(tmp_path / "out")
    results = matter["model-index"][0]["results"]
    assert [(each["dataset"]["name"], each["metrics"][0]["value"]) for each in results] == [
        ("the images that chose the thresholds (2)", 0.7),
        ("validation images, before the calibration", 0.5),
    ]
    assert "On validation images, before the calibration:" in page


def test_the_shipped_model_has_its_own_page(tmp_path: Path) -> None:
    assert _export("nuclei", "-o", tmp_path / "out")[0] == 0
    matter, page = _front_matter(tmp_path / "out")
    assert matter["license"] == "cc-by-4.0"
    assert page.strip().splitlines()[:3] == model_path("nuclei").with_suffix(".md").read_text().splitlines()[:3]
    # Files of the repository are not published with it.
    assert "](nuclei.csv)" not in page
    assert not [line for line in page.splitlines() if line.startswith("!") or "Image, drawn outlines" in line]
    assert "(https:" in page or "](" not in page


def _with_licence(tiny_model: Path, path: Path, licence: str) -> Path:
    model = load_model(tiny_model)
    save_model(path, model.info.model_copy(update={"licence": licence}), model.network)
    return path


def test_licences_that_hugging_face_does_not_know(tiny_model: Path, tmp_path: Path) -> None:
    mine = _with_licence(tiny_model, tmp_path / "mine.safetensors", "")
    assert _export(mine, "-o", tmp_path / "out", "--author", "A", "--licence", "CECILL-2.1")[0] == 0
    matter, page = _front_matter(tmp_path / "out")
    assert (matter["license"], matter["license_name"]) == ("other", "CECILL-2.1")
    assert "| licence | CECILL-2.1 |" in page
    assert "model-index" not in matter


def test_a_model_is_published_under_its_own_licence(tiny_model: Path, tmp_path: Path) -> None:
    mine = _with_licence(tiny_model, tmp_path / "mine.safetensors", "CC BY-NC 4.0")
    for kind in ("publication", "bioimageio"):
        arguments = (mine, "-o", tmp_path / "out", "--author", "A", "--licence", "CC-BY-4.0")
        code, output = _export(*arguments, to=kind)
        assert code == 2
        assert "has the licence CC BY-NC 4.0, not CC-BY-4.0: leave out --licence" in output
        assert not (tmp_path / "out").exists()
    # Words that packages do not know.
    words = _with_licence(tiny_model, tmp_path / "words.safetensors", "MIT License")
    assert _export(words, "-o", tmp_path / "words", "--author", "A", "--licence", "MIT")[0] == 0
    # The same licence, as SPDX spells it
    assert _export(mine, "-o", tmp_path / "out", "--author", "A", "--licence", "CC-BY-NC-4.0")[0] == 0
    matter, page = _front_matter(tmp_path / "out")
    assert matter["license"] == "cc-by-nc-4.0"
    assert "| licence | CC-BY-NC-4.0 |" in page


def test_mistakes_are_one_line(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for options, message in (
        (("-o", tmp_path / "new"), "needs authors: give --author NAME"),
        (("-o", tmp_path / "out", "--author", "A"), "exists: give another folder with -o"),
    ):
        code, output = _export(tiny_model, *options)
        assert (code, len(output.splitlines())) == (2, 1)
        assert message in output
