"""One module knows the names in an output folder; all others ask it."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from unetbio import output_layout as layout

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for folder in ("unetbio", "cli", "pipelines") for path in sorted((ROOT / folder).rglob("*.py"))]
NAMES = {
    *layout.LINKED_FILES,
    *(layout.PAGE, layout.CHECK, layout.COCO, layout.LOCK),
    *("run.", ".run.", f"{layout.OVERLAYS}/", ".cells."),
}
ENDINGS = (*layout.WRITTEN, "_objects.csv", "_cells.geojson", "_RoiSet.zip", ".labels.jpg", ".classes.jpg")


def names_in(path: Path) -> Iterator[str]:
    """String constants of a module that are names of files in an output folder, or their beginnings or endings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A docstring or a message, which may speak of any of them, is longer than its first word.
            name = node.value.lstrip("/*")
            if " " not in name and (name in NAMES or name.startswith(ENDINGS)):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"


def test_no_other_module_spells_a_name() -> None:
    others = [path for path in SOURCES if path.name != "output_layout.py"]
    assert [found for path in others for found in names_in(path)] == []
    assert list(names_in(ROOT / "unetbio" / "output_layout.py"))


def test_rules_of_the_workflow_name_files_that_the_layout_knows() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "pipelines").glob("*.smk")]
    named = {name for text in texts for name in re.findall(r"\{(?:results|params\.out:q)\}/([\w.]+\.\w+)", text)}
    own = {"retried.txt", "check.cache.jsonl"}
    assert named - own == {layout.SUMMARY, layout.CELLS, layout.CELLS_TEXT, layout.PAGE}
    (journals,) = {name for text in texts for name in re.findall(r"/(run\.[^\";]+)", text)}
    assert fnmatch(layout.job_journal_name("1-of-1"), journals)


@pytest.mark.parametrize(
    ("output", "result", "provenance", "holds_classes"),
    [
        ("a/x_labels.ome.tif", "a/x", "a/x_labels.json", False),
        ("x_s03_labels.nii.gz", "x_s03", "x_s03_labels.json", False),
        ("x_classes.ome.zarr", "x", "x_classes.json", True),
        ("x_classes_labels.ome.tif", "x_classes", "x_classes_labels.json", False),
        ("x_labels_classes.ome.tif", "x_labels", "x_labels_classes.json", True),
    ],
)
def test_names_are_parsed(output: str, result: str, provenance: str, holds_classes: bool) -> None:
    assert layout.result_name(output) == result
    assert layout.provenance_name(output) == provenance
    assert layout.holds_classes(output) is holds_classes
    assert layout.mask_name(result, "classes" if holds_classes else "instances", output[output.index(".") :]) == output


def test_names_of_jobs_are_parsed() -> None:
    journal, lock = layout.job_journal_name("2-of-16"), layout.job_lock_name("2-of-16")
    assert layout.part_count(journal) == layout.part_count(lock) == 16
    assert layout.part_count(layout.JOURNAL) is None
    assert [layout.is_journal(name) for name in (layout.JOURNAL, journal, lock, "run.old.jsonl")] == [1, 1, 0, 0]
    assert layout.is_output_folder([journal])
    assert layout.is_output_folder([lock])
    assert not layout.is_output_folder(["run.old.jsonl", "x.tif"])


def test_files_of_this_program_have_a_provenance_beside_them() -> None:
    names = {"x_labels.json", "y_classes.json"}
    own = ("x_labels", "x_probabilities", "x_t012_probabilities", "y_classes", "y_probabilities")
    assert all(layout.is_own_file(stem, names) for stem in own)
    assert not any(layout.is_own_file(stem, names) for stem in ("x", "z_labels", "x_t1_probabilities", "_labels"))
