"""The Snakemake workflow, run for real on real images through the installed command."""

import csv
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from workflow_runs import (
    IMAGES,
    command_line,
    label_hashes,
    make_project,
    planned_rules,
    read_summary,
    snakemake,
)

from unetbio.io.discover import part_of
from unetbio.models.model_file import load_model, read_info, save_model
from unetbio.provenance import read_provenance

RULES = {"check", "segment", "retry", "measure", "report", "finish"}


def test_workflow_from_images_to_page(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """A whole run, and nothing to do afterwards."""
    make_project(tmp_path, samples, tiny_model, check=True, images_per_job=100)
    first = snakemake(tmp_path, "--configfile", "config.yaml")
    assert first.returncode == 0, first.stdout
    out = tmp_path / "out"
    rows = read_summary(out)
    assert {name: row["status"] for name, row in rows.items()} == {f"{name}.ome.tif": "done" for name in IMAGES}
    assert all(int(rows[f"{name}.ome.tif"]["n_cells"]) > 0 for name in IMAGES)
    assert len(list(out.glob("*_labels.ome.tif"))) == len(list((out / "overlays").iterdir())) == len(IMAGES)
    assert "confocal_z26" in (out / "index.html").read_text(encoding="utf-8")
    assert [path.name for path in out.glob("run.*-of-*.jsonl")] == ["run.1-of-1.jsonl"]
    assert json.loads((out / "check.json").read_text(encoding="utf-8"))["images"] == len(IMAGES)
    assert (out / "finished.txt").read_text() == "5 rows of 1 folder, 0 failed: out\n"
    for folder in ("benchmarks", "logs"):
        assert {path.stem.split(".")[0] for path in (out / folder).iterdir()} == RULES

    again = snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run")
    assert "Nothing to be done" in again.stdout


def run_with_program(project: Path, first: str) -> subprocess.CompletedProcess[str]:
    """A run of the workflow in which `unetbio` begins with a line of shell, such as one that stops it at a limit."""
    folder = project / "bin"
    folder.mkdir()
    (folder / "unetbio").write_text(f'#!/bin/sh\n{first}\nexec "{sys.executable}" -m unetbio "$@"\n')
    (folder / "unetbio").chmod(0o755)
    command, environment = command_line("--configfile", "config.yaml")
    environment["PATH"] = f"{folder}{os.pathsep}{environment['PATH']}"
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_images_that_change_or_are_added_are_segmented_alone(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    make_project(tmp_path, samples, tiny_model, check=True)
    assert snakemake(tmp_path, "--configfile", "config.yaml").returncode == 0
    out = tmp_path / "out"
    assert len(list(out.glob("run.*-of-2.jsonl"))) == 2
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*_labels.ome.tif")}
    hashes = label_hashes(out)
    shutil.copy(samples / "confocal_z32.ome.tif", tmp_path / "images" / "confocal_z26.ome.tif")
    # Braces are wildcards to Snakemake, and angle brackets path variables.
    added = ["braces{1}<x>", *(f"confocal_z4{number}" for number in range(9))]
    for name in added:
        shutil.copy(samples / "confocal_z44.ome.tif", tmp_path / "images" / f"{name}.ome.tif")
    third = snakemake(tmp_path, "--configfile", "config.yaml")
    assert third.returncode == 0, third.stdout
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*_labels.ome.tif")}
    assert {name for name in after if after[name] != before.get(name)} == {
        "confocal_z26_labels.ome.tif",
        *(f"{name}_labels.ome.tif" for name in added),
    }
    new_hashes = label_hashes(out)
    assert {name for name in hashes if hashes[name] != new_hashes[name]} == {"confocal_z26_labels.json"}
    assert json.loads((out / "check.json").read_text(encoding="utf-8"))["images"] == len(IMAGES) + 10
    # Those that had been read before were not read again.
    known = [line for line in (out / "check.cache.jsonl").read_text(encoding="utf-8").splitlines() if line]
    assert len(known) == len(IMAGES) + 1 + len(added)
    assert len(read_summary(out)) == len(IMAGES) + 10
    assert len(list(out.glob("run.*-of-*.jsonl"))) == 2
    (tmp_path / "images" / "braces{1}<x>.ome.tif").touch()
    assert planned_rules(snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run").stdout) == RULES


@pytest.mark.slow
def test_a_broken_file_is_named_and_tried_alone_by_the_next_run(
    tmp_path: Path, samples: Path, tiny_model: Path
) -> None:
    """All others are done, the exit code is 3; and 0 once a whole file lies there that looks as old as the broken."""
    make_project(tmp_path, samples, tiny_model)
    broken, whole = tmp_path / "images" / "broken.tif", samples / "confocal_z26.ome.tif"
    broken.write_bytes(whole.read_bytes()[:1000])
    out = tmp_path / "out"
    first = snakemake(tmp_path, "--configfile", "config.yaml")
    assert first.returncode == 3, first.stdout
    assert "1 image failed; all else is done" in first.stdout
    rows = read_summary(out)
    assert {name for name, row in rows.items() if row["status"] == "done"} == {f"{name}.ome.tif" for name in IMAGES}
    assert (rows["broken.tif"]["status"], rows["broken.tif"]["reason"]) == ("failed", "truncated")
    assert "broken.tif" in (out / "index.html").read_text(encoding="utf-8")
    assert not (out / "finished.txt").exists()

    done = {path.name: path.stat().st_mtime_ns for path in out.glob("*_labels.*")}
    lines = len((out / "run.jsonl").read_text().splitlines())
    second = snakemake(tmp_path, "--configfile", "config.yaml")
    assert second.returncode == 3, second.stdout
    assert planned_rules(second.stdout) == {"retry", "measure", "report", "finish"}
    tried = [json.loads(line) for line in (out / "run.jsonl").read_text().splitlines()[lines:]]
    assert [(entry["path"], entry["status"]) for entry in tried] == [("broken.tif", "failed")]

    # The disk has come back: nothing that Snakemake looks at has changed.
    stat = broken.stat()
    broken.write_bytes(whole.read_bytes())
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    third = snakemake(tmp_path, "--configfile", "config.yaml")
    assert third.returncode == 0, third.stdout
    assert read_summary(out)["broken.tif"]["status"] == "done"
    assert "0 failed" in (out / "finished.txt").read_text()
    assert "Nothing to be done" in snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run").stdout
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done


def _masks(out: Path) -> dict[str, int]:
    # Hidden ones are being written.
    return {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*_labels.ome.tif")}


@pytest.mark.slow
def test_killed_at_random_moments_it_converges(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """Driver and job, or the driver alone: no mask that was done is made again, and in the end none is missing."""
    import psutil  # comes with Snakemake

    make_project(tmp_path, samples, tiny_model, images_per_job=100)
    for name in IMAGES:
        path = tmp_path / "images" / f"{name}.ome.tif"
        for number in range(8):
            shutil.copy(path, path.with_name(f"{name}_{number}.ome.tif"))
    count, out, moments = len(IMAGES) * 9, tmp_path / "out", random.Random(4)
    command, environment = command_line("--configfile", "config.yaml", "--rerun-incomplete", "--quiet", "all")
    done: dict[str, int] = {}
    for enough, alone in ((1, False), (20, True)):
        driver = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
        while len(_masks(out)) < enough and driver.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.random() / 5)
        jobs = psutil.Process(driver.pid).children(recursive=True) if driver.poll() is None else []
        if alone:
            driver.kill()
        else:
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        # A job that has lost its driver goes on; the lock on its batch keeps a second one away until it ends.
        psutil.wait_procs(jobs, timeout=120)
        assert done.items() <= _masks(out).items()
        done = _masks(out)
        assert snakemake(tmp_path, "--configfile", "config.yaml", "--unlock").returncode == 0
    assert done
    last = snakemake(tmp_path, "--configfile", "config.yaml", "--rerun-incomplete")
    assert last.returncode == 0, last.stdout
    assert done.items() <= _masks(out).items()
    assert {row["status"] for row in read_summary(out).values()} == {"done"}
    assert len(read_summary(out)) == len(_masks(out)) == count
    assert not list(out.rglob(".unetbio-*"))
    assert len(set(label_hashes(out).values())) == len(IMAGES)
    assert "Nothing to be done" in snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run").stdout


@pytest.mark.slow
def test_a_setting_runs_again_what_depends_on_it(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """What would run, by Snakemake's own plan: resources change nothing, and results of a batch are no batch's own."""
    member, model = tmp_path / "member.safetensors", tmp_path / "other{1}.safetensors"
    tiny = load_model(tiny_model)

    def write_member(version: str) -> None:
        save_model(member, tiny.info.model_copy(update={"version": version}), tiny.network)

    write_member("1")
    shutil.copy(tiny_model, model)
    segment = {"device": "cpu", "overlays": "none", "ensemble": [str(member)]}
    make_project(tmp_path, samples, tiny_model, check=True, images_per_job=100, segment=segment)
    assert snakemake(tmp_path, "--configfile", "config.yaml").returncode == 0
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())

    def planned(**changes: object) -> set[str]:
        (tmp_path / "other.yaml").write_text(yaml.safe_dump({**config, **changes}))
        run = snakemake(tmp_path, "--configfile", "other.yaml", "--dry-run")
        assert run.returncode == 0, run.stdout
        return planned_rules(run.stdout)

    results = {"segment", "retry", "measure", "report", "finish"}
    assert planned() == set()
    assert planned(resources={"threads": 1, "mem_mb": 9000, "runtime": 5, "gpu": 1}) == set()
    assert planned(segment={**config["segment"], "threshold": 0.6}) == results
    assert planned(images_per_job=3) == set()
    assert planned(images_per_job=2) == results
    assert planned(model=str(model)) == {"check", *results}
    write_member("2")
    assert planned() == results
    member.unlink()
    refused = snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run")
    assert refused.returncode == 1
    assert "member.safetensors" in refused.stdout.splitlines()[-1]


@pytest.mark.slow
def test_images_that_are_removed_leave_the_tables_also_where_a_job_has_no_other(
    tmp_path: Path, samples: Path, tiny_model: Path
) -> None:
    names = [next(name for name in IMAGES if part_of(f"{name}.ome.tif", 2) == part) for part in (1, 2)]
    make_project(tmp_path, samples, tiny_model, images_per_job=1, output="my out")
    for name in set(IMAGES) - set(names):
        (tmp_path / "images" / f"{name}.ome.tif").unlink()
    assert snakemake(tmp_path, "--configfile", "config.yaml").returncode == 0
    out = tmp_path / "my out"
    assert len(list(out.glob("run.*-of-2.jsonl"))) == len(read_summary(out)) == 2
    masks = _masks(out)
    removed = (tmp_path / "images" / f"{names[1]}.ome.tif").rename(tmp_path / f"{names[1]}.ome.tif")
    again = snakemake(tmp_path, "--configfile", "config.yaml")
    assert again.returncode == 0, again.stdout
    assert set(read_summary(out)) == {f"{names[0]}.ome.tif"}
    assert _masks(out) == masks
    assert "Nothing to be done" in snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run").stdout
    # And come back with the image, as old as it was.
    removed.rename(tmp_path / "images" / removed.name)
    again = snakemake(tmp_path, "--configfile", "config.yaml")
    assert again.returncode == 0, again.stdout
    assert set(read_summary(out)) == {f"{name}.ome.tif" for name in names}
    assert _masks(out) == masks


@pytest.mark.slow
def test_an_image_that_is_removed_or_renamed_leaves_the_tables_of_a_job_with_others(
    tmp_path: Path, samples: Path, tiny_model: Path
) -> None:
    make_project(tmp_path, samples, tiny_model, images_per_job=100)
    assert snakemake(tmp_path, "--configfile", "config.yaml").returncode == 0
    out, images = tmp_path / "out", tmp_path / "images"
    masks = _masks(out)
    removed, renamed, *others = (f"{name}.ome.tif" for name in IMAGES)
    (images / removed).unlink()
    (images / renamed).rename(images / "renamed.ome.tif")
    again = snakemake(tmp_path, "--configfile", "config.yaml")
    assert again.returncode == 0, again.stdout
    assert set(read_summary(out)) == {*others, "renamed.ome.tif"}
    assert masks.items() <= _masks(out).items()
    assert "Nothing to be done" in snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run").stdout


@pytest.mark.slow
@pytest.mark.parametrize("images_per_job", [1, 100])
def test_images_of_a_job_that_was_stopped_are_segmented_by_the_next_run(
    images_per_job: int, tmp_path: Path, samples: Path, tiny_model: Path
) -> None:
    make_project(tmp_path, samples, tiny_model, images_per_job=images_per_job)
    assert snakemake(tmp_path, "--configfile", "config.yaml").returncode == 0
    out, images = tmp_path / "out", sorted((tmp_path / "images").iterdir())
    for image, other in zip(images, [*images[1:], samples / images[0].name], strict=True):
        shutil.copyfile(other, image)
    stopped = run_with_program(tmp_path, 'case "$*" in *"--part 1/"*) kill -9 $$;; esac')
    assert stopped.returncode != 0
    assert snakemake(tmp_path, "--configfile", "config.yaml").returncode == 0
    made_from = {read_provenance(path).input.fingerprint.sha256 for path in out.glob("*_labels.json")}
    assert made_from == {hashlib.sha256(image.read_bytes()).hexdigest() for image in images}
    assert len(read_summary(out)) == len(images)


@pytest.mark.slow
def test_several_models_side_by_side(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """Each in its folder; what fails fails in each, and all are tried again."""
    other = tmp_path / "bright.safetensors"
    shutil.copy(tiny_model, other)
    models = {"bright": str(other), "tiny": str(tiny_model)}
    make_project(tmp_path / "p", samples, tiny_model, model=None, models=models, images_per_job=100)
    for name in IMAGES[2:]:
        (tmp_path / "p" / "images" / f"{name}.ome.tif").unlink()
    (tmp_path / "p" / "images" / "broken.tif").write_bytes(b"II*")
    run = snakemake(tmp_path / "p", "--configfile", "config.yaml")
    out = tmp_path / "p" / "out"
    assert run.returncode == 3, run.stdout
    assert label_hashes(out / "tiny") == label_hashes(out / "bright")
    with open(out / "summary.csv", encoding="utf-8", newline="") as stream:
        rows = [(row["path"], row["model"], row["status"]) for row in csv.DictReader(stream)]
    names = ("broken.tif", *(f"{name}.ome.tif" for name in IMAGES[:2]))
    assert rows == [
        (path, model, "failed" if path == "broken.tif" else "done") for path in names for model in ("bright", "tiny")
    ]
    assert "1 image failed; all else is done" in run.stdout
    assert re.search(r"broken\.tif: .* with bright, tiny\n", run.stdout)
    assert len(list(out.glob("*/logs/retry.log"))) == 2


@pytest.mark.slow
def test_workflow_and_command_give_the_same_masks(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """A table this time, whose own column goes through to the results."""
    make_project(tmp_path, samples, tiny_model, images=None, table="list.csv")
    names = [f"images/{name}.ome.tif" for name in IMAGES[:2]]
    (tmp_path / "list.csv").write_text("image,dose\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    run = snakemake(tmp_path, "--configfile", "config.yaml")
    assert run.returncode == 0, run.stdout
    assert [row["dose"] for row in read_summary(tmp_path / "out").values()] == ["0", "1"]
    command = [sys.executable, "-m", "unetbio", "segment", "--table", "list.csv", "-o", "direct", "-m", str(tiny_model)]
    options = ["--normalize", "p1,p99.8", "--min-area", "20", "--overlays", "none", "--tile", "64", "--json"]
    direct = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(direct.stdout)["images"] == 2
    hashes = label_hashes(tmp_path / "out" / "images")
    assert len(hashes) == 2
    assert hashes == label_hashes(tmp_path / "direct" / "images")


def _annotate(path: Path, *corners: list[list[int]]) -> None:
    """Write annotations as QuPath exports them."""
    shapes = [{"type": "Polygon", "coordinates": [[*ring, ring[0]]]} for ring in corners]
    about = {"type": "Feature", "properties": {"objectType": "annotation"}}
    features = [{**about, "geometry": shape} for shape in shapes]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")


@pytest.mark.slow
def test_regions_of_a_slide_are_images_of_one_job(tmp_path: Path, tiny_model: Path, discs: np.ndarray) -> None:
    """A box and annotations give the masks of the command; an edited file of annotations runs the job again."""
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "slide.tif", np.tile(discs, (3, 3)), tile=(32, 32))
    triangle, square = [[20, 10], [120, 20], [60, 110]], [[130, 100], [210, 100], [210, 170], [130, 170]]
    _annotate(tmp_path / "drawn.geojson", triangle, square)
    regions = ["0,0,90,70", "drawn.geojson"]
    options = {"region": regions, "device": "cpu", "diameter": "model", "overlays": "all"}
    config = {"images": "images", "output": "out", "model": str(tiny_model), "check": False, "segment": options}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run = snakemake(tmp_path, "--configfile", "config.yaml")
    assert run.returncode == 0, run.stdout
    out = tmp_path / "out"
    rows = read_summary(out)
    assert [(row["status"], int(row["n_cells"]) > 0) for row in rows.values()] == [("done", True)] * 3
    assert len(list((out / "overlays").iterdir())) == 3
    hashes = label_hashes(out)
    assert len(hashes) == 3
    command = ["unetbio", "segment", "images", "-o", "direct", "--model", str(tiny_model), "--diameter", "model"]
    words = [word for region in regions for word in ("--region", region)]
    subprocess.run([sys.executable, "-m", *command, *words], cwd=tmp_path, capture_output=True, check=True)
    assert hashes == label_hashes(tmp_path / "direct")

    assert "Nothing to be done" in snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run").stdout
    triangle[2] = [70, 130]
    _annotate(tmp_path / "drawn.geojson", triangle, square)
    edited = snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run")
    assert planned_rules(edited.stdout) == RULES - {"check"}


def _annotated(folder: Path, count: int = 3) -> None:
    """Images of two bright cells, with their label images."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        label_image = np.zeros((48, 56), np.uint16)
        label_image[5:20, 5:25] = 1
        label_image[22:40, 10 + number : 30] = 2
        image = (label_image > 0) * 500 + rng.normal(100, 10, label_image.shape)
        tifffile.imwrite(folder / "images" / f"{number}.tif", image.astype(np.uint16))
        tifffile.imwrite(folder / "masks" / f"{number}.tif", label_image)


@pytest.mark.slow
def test_a_network_is_trained_and_used_and_others_are_compared(tmp_path: Path) -> None:
    """From annotated images to masks of others; what is trained anew segments anew."""
    _annotated(tmp_path / "training")
    (tmp_path / "tiny.yaml").write_text(
        "parameters: {base_channels: 2, depth: 1, batch_norm: true}\n"
        "patch_size: 40\nbatch_size: 2\nvalidate_every: 2\nsteps: 4\n"
    )
    shutil.copytree(tmp_path / "training" / "images", tmp_path / "images")
    config = {
        "images": "images",
        "output": "out",
        "network": "unet",
        "training": {"images": "training/images", "masks": "training/masks", "config": "tiny.yaml", "device": "cpu"},
        "segment": {"device": "cpu", "overlays": "none"},
        "compare": {"data": "training", "networks": "unet:depth=0", "config": "tiny.yaml", "device": "cpu"},
        "check": False,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    out = tmp_path / "out"
    run = snakemake(tmp_path, "--configfile", "config.yaml")
    assert run.returncode == 0, run.stdout + "".join(path.read_text() for path in out.glob("logs/*"))
    info = read_info(out / "models" / "unet.safetensors")
    assert (info.architecture, info.training["steps"]) == ("unet", 4)
    assert not list(out.glob("models/*.checkpoint.safetensors"))
    first = {path.name: read_provenance(path) for path in out.glob("*_labels.json")}
    assert len(first) == 3
    with open(out / "comparison" / "comparison.csv", encoding="utf-8", newline="") as stream:
        assert [(row["network"], row["failure"]) for row in csv.DictReader(stream)] == [("unet:depth=0", "")]
    assert "Nothing to be done" in snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run").stdout

    config["training"]["steps"] = 6  # type: ignore[index]
    config["compare"]["networks"] = "unet:depth=1"  # type: ignore[index]
    config["compare"]["steps"] = 2  # type: ignore[index]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    again = snakemake(tmp_path, "--configfile", "config.yaml")
    assert again.returncode == 0, again.stdout + "".join(path.read_text() for path in out.glob("logs/*"))
    assert read_info(out / "models" / "unet.safetensors").training["steps"] == 6
    with open(out / "comparison" / "comparison.csv", encoding="utf-8", newline="") as stream:
        assert [(row["network"], row["failure"]) for row in csv.DictReader(stream)] == [("unet:depth=1", "")]
    for path in out.glob("*_labels.json"):
        before, after = first[path.name], read_provenance(path)
        assert before is not None
        assert after is not None
        assert before.model.sha256 != after.model.sha256


@pytest.mark.slow
def test_a_job_that_cannot_go_on_fails_the_workflow(tmp_path: Path, samples: Path) -> None:
    """A model that is none is no matter of one image: the log names it, and no tables are made."""
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"not a model")
    make_project(tmp_path, samples, model, images_per_job=100)
    run = snakemake(tmp_path, "--configfile", "config.yaml")
    assert run.returncode == 1
    # Where Snakemake shows the command, what the command said stands too.
    said = (tmp_path / "out/logs/segment.1-of-1.log").read_text()
    assert "model.safetensors" in said
    assert f"out/logs/segment.1-of-1.log: {said}" in run.stdout
    assert not (tmp_path / "out/summary.csv").exists()


@pytest.mark.slow
def test_a_check_that_cannot_be_made_stops_nothing(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """It says why, and the images are segmented."""
    make_project(tmp_path, samples, tiny_model, check=True, images_per_job=100)
    (tmp_path / "out" / "check.cache.jsonl").mkdir(parents=True)
    run = snakemake(tmp_path, "--configfile", "config.yaml")
    assert run.returncode == 0, run.stdout
    out = tmp_path / "out"
    assert json.loads((out / "check.json").read_text()) == {"failed": "exit code 2, see logs/check.log"}
    assert "check.cache.jsonl" in (out / "logs" / "check.log").read_text()
    assert {row["status"] for row in read_summary(out).values()} == {"done"}
    assert "The images could not be checked: exit code 2" in (out / "index.html").read_text()
    # The next run tries it again and tells it on the page; it segments nothing.
    (out / "check.cache.jsonl").rmdir()
    planned = snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run").stdout
    assert planned_rules(planned) == {"check", "report", "finish"}
    before = _masks(out)
    again = snakemake(tmp_path, "--configfile", "config.yaml")
    assert again.returncode == 0, again.stdout
    assert json.loads((out / "check.json").read_text())["images"] == len(IMAGES)
    assert _masks(out) == before
    assert "could not be checked" not in (out / "index.html").read_text()
    assert "Nothing to be done" in snakemake(tmp_path, "--configfile", "config.yaml").stdout


@pytest.mark.slow
def test_a_check_whose_job_is_stopped_every_time_stops_nothing(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    make_project(tmp_path, samples, tiny_model, check=True, images_per_job=100)
    # As a cluster does at a limit: the shell of the job goes too.
    run = run_with_program(tmp_path, '[ "$1" = check ] && kill -9 $PPID')
    assert run.returncode == 0, run.stderr
    out = tmp_path / "out"
    assert json.loads((out / "check.json").read_text()) == {"failed": "its job was stopped twice"}
    assert {row["status"] for row in read_summary(out).values()} == {"done"}
    assert "could not be checked: its job was stopped twice." in (out / "index.html").read_text()


@pytest.mark.slow
def test_a_page_that_has_gone_is_made_again(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    make_project(tmp_path, samples, tiny_model, check=True, images_per_job=100)
    assert snakemake(tmp_path, "--configfile", "config.yaml").returncode == 0
    out = tmp_path / "out"
    (out / "index.html").unlink()
    # A check that broke off while it was written.
    (out / "check.json").write_text('{"images": 1')
    again = snakemake(tmp_path, "--configfile", "config.yaml")
    assert again.returncode == 0, again.stdout
    assert (out / "index.html").exists()
    assert json.loads((out / "check.json").read_text())["images"] == len(IMAGES)
