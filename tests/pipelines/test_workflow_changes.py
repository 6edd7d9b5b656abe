"""The Snakemake workflow after changes: what is made again, and whether tables and masks agree."""

import shutil
from pathlib import Path

import pytest
import yaml
from workflow_runs import IMAGES, label_hashes, make_project, read_summary, snakemake


@pytest.mark.slow
def test_masks_of_a_run_that_did_not_measure_are_in_the_tables_of_the_next(
    tmp_path: Path, samples: Path, tiny_model: Path
) -> None:
    make_project(tmp_path, samples, tiny_model, images_per_job=100)
    assert snakemake(tmp_path, "--configfile", "config.yaml").returncode == 0
    out = tmp_path / "out"
    shutil.copy(samples / "confocal_z44.ome.tif", tmp_path / "images" / "added.ome.tif")
    alone = snakemake(tmp_path, "--configfile", "config.yaml", "--until", "segment")
    assert alone.returncode == 0, alone.stdout
    assert (out / "added_labels.ome.tif").exists()
    assert len(read_summary(out)) == len(IMAGES)
    whole = snakemake(tmp_path, "--configfile", "config.yaml")
    assert whole.returncode == 0, whole.stdout
    assert read_summary(out)["added.ome.tif"]["status"] == "done"
    assert "added.ome.tif" in (out / "index.html").read_text(encoding="utf-8")
    assert "Nothing to be done" in snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run").stdout


@pytest.mark.slow
def test_swapped_images_are_segmented_again(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """They are no newer than their masks."""
    make_project(tmp_path, samples, tiny_model, images_per_job=100)
    assert snakemake(tmp_path, "--configfile", "config.yaml").returncode == 0
    out, images = tmp_path / "out", tmp_path / "images"
    before = label_hashes(out)
    names = [f"{name}.ome.tif" for name in IMAGES[:2]]
    for one, other in zip([*names, "aside"], ["aside", *names], strict=True):
        (images / one).rename(images / other)
    again = snakemake(tmp_path, "--configfile", "config.yaml")
    assert again.returncode == 0, again.stdout
    after = label_hashes(out)
    first, second = (f"{name}_labels.json" for name in IMAGES[:2])
    assert before[first] != before[second]
    assert (after[first], after[second]) == (before[second], before[first])
    assert "Nothing to be done" in snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run").stdout


@pytest.mark.slow
def test_jobs_of_another_number_leave_none_done(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """Settings that are changed and changed back give the masks that they gave."""
    make_project(tmp_path, samples, tiny_model, images_per_job=100)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    hashes, marks = [], []
    for number, threshold in ((100, 0.5), (1, 0.9), (100, 0.5)):
        changed = {"images_per_job": number, "segment": {**config["segment"], "threshold": threshold}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, **changed}))
        run = snakemake(tmp_path, "--configfile", "config.yaml")
        assert run.returncode == 0, run.stdout
        hashes.append(label_hashes(tmp_path / "out"))
        marks.append({path.name.rpartition("-")[2] for path in (tmp_path / "out" / "logs").glob("segment.*.done")})
    assert hashes[0] == hashes[2] != hashes[1]
    assert marks == [{"1.done"}, {"8.done"}, {"1.done"}]


@pytest.mark.slow
def test_a_failed_image_whose_row_was_deleted_ends_no_further_run(
    tmp_path: Path, samples: Path, tiny_model: Path
) -> None:
    make_project(tmp_path, samples, tiny_model, images=[], table="table.csv")
    names = [f"images/{name}.ome.tif" for name in IMAGES]
    (tmp_path / "images" / "bad.tif").write_bytes(b"")
    (tmp_path / "table.csv").write_text("\n".join(["image", *names, "images/bad.tif"]))
    assert snakemake(tmp_path, "--configfile", "config.yaml").returncode == 3
    (tmp_path / "table.csv").write_text("\n".join(["image", *names]))
    again = snakemake(tmp_path, "--configfile", "config.yaml")
    assert again.returncode == 0, again.stdout
    assert sorted(read_summary(tmp_path / "out")) == sorted(names)


@pytest.mark.slow
@pytest.mark.parametrize("saved_as", ["cp1252", "semicolons"])
def test_a_summary_that_a_spreadsheet_saved_again_is_measured_again(
    tmp_path: Path, samples: Path, tiny_model: Path, saved_as: str
) -> None:
    make_project(tmp_path, samples, tiny_model, images_per_job=100)
    (tmp_path / "images" / f"{IMAGES[0]}.ome.tif").rename(tmp_path / "images" / "µ.ome.tif")
    assert snakemake(tmp_path, "--configfile", "config.yaml").returncode == 0
    out = tmp_path / "out"
    text = (out / "summary.csv").read_text(encoding="utf-8")
    if saved_as == "cp1252":
        (out / "summary.csv").write_text(text, encoding="cp1252")
    else:
        (out / "summary.csv").write_text(text.replace(",", ";"), encoding="utf-8")
    failed = snakemake(tmp_path, "--configfile", "config.yaml")
    assert failed.returncode == 1
    assert "write it again with unetbio measure" in failed.stdout
    again = snakemake(tmp_path, "--configfile", "config.yaml")
    assert again.returncode == 0, again.stdout
    assert sorted(read_summary(out)) == sorted(["µ.ome.tif", *(f"{name}.ome.tif" for name in IMAGES[1:])])
