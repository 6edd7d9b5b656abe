"""The Snakemake workflow, run for real on real images through the installed command."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from unetbio.model_file import read_info
from unetbio.pipelines import SNAKEFILE
from unetbio.provenance import read_provenance
from unetbio.samples import write_samples

ROOT = Path(__file__).resolve().parents[1]
# Nuclei of a confocal stack and of a time-lapse; enough for two jobs.
IMAGES = ("confocal_z26", "confocal_z38", "confocal_z50", "timelapse_t00", "timelapse_t29")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder)
    return folder


def _snakemake(folder: Path, *arguments: str, snakefile: Path = SNAKEFILE) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder, with the commands of this environment before all others."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--cores", "2", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _project(folder: Path, samples: Path, model: Path, **settings: object) -> None:
    """A folder with images and a config.yaml, as somebody would make it who has installed unetbio with pip."""
    (folder / "images").mkdir(parents=True)
    for name in IMAGES:
        shutil.copy(samples / f"{name}.ome.tif", folder / "images")
    config = {
        "images": "images",
        "output": "out",
        "model": str(model),
        "images_per_job": 4,
        "segment": {"normalize": "p1,p99.8", "device": "cpu", "min_area": 20, "overlays": "all"},
        **settings,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def _summary(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "summary.csv", encoding="utf-8", newline="") as stream:
        return {row["path"]: row for row in csv.DictReader(stream)}


def _label_hashes(out: Path) -> dict[str, str]:
    provenances = {path.name: read_provenance(path) for path in out.glob("*_labels.json")}
    return {name: provenance.output.label_hash for name, provenance in provenances.items() if provenance}


def test_workflow_from_images_to_page(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """A whole run with a broken file in it; nothing to do afterwards; one changed image is one image redone."""
    _project(tmp_path, samples, tiny_model)
    (tmp_path / "images" / "broken.tif").write_bytes((samples / "confocal_z26.ome.tif").read_bytes()[:1000])
    first = _snakemake(tmp_path, "--configfile", "config.yaml")
    assert first.returncode == 0, first.stdout
    out = tmp_path / "out"
    rows = _summary(out)
    assert {name: row["status"] for name, row in rows.items()} == {
        "broken.tif": "failed",
        **{f"{name}.ome.tif": "done" for name in IMAGES},
    }
    assert all(int(rows[f"{name}.ome.tif"]["n_cells"]) > 0 for name in IMAGES)
    assert len(list(out.glob("*_labels.ome.tif"))) == len(list((out / "overlays").iterdir())) == len(IMAGES)
    assert "broken.tif" in (out / "index.html").read_text(encoding="utf-8")
    assert len(list(out.glob("run.*-of-2.jsonl"))) == 2
    assert {path.stem.split(".")[0] for path in (out / "benchmarks").iterdir()} == {"segment", "measure", "report"}

    again = _snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run")
    assert "Nothing to be done" in again.stdout

    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*_labels.ome.tif")}
    hashes = _label_hashes(out)
    shutil.copy(samples / "confocal_z32.ome.tif", tmp_path / "images" / "confocal_z26.ome.tif")
    third = _snakemake(tmp_path, "--configfile", "config.yaml")
    assert third.returncode == 0, third.stdout
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*_labels.ome.tif")}
    assert {name for name in after if after[name] != before[name]} == {"confocal_z26_labels.ome.tif"}
    new_hashes = _label_hashes(out)
    assert {name for name in hashes if hashes[name] != new_hashes[name]} == {"confocal_z26_labels.json"}


def test_workflow_and_command_give_the_same_masks(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """A table this time, whose own column goes through to the results."""
    _project(tmp_path, samples, tiny_model, images=None, table="list.csv")
    names = [f"images/{name}.ome.tif" for name in IMAGES[:2]]
    (tmp_path / "list.csv").write_text("image,dose\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    run = _snakemake(tmp_path, "--configfile", "config.yaml")
    assert run.returncode == 0, run.stdout
    assert [row["dose"] for row in _summary(tmp_path / "out").values()] == ["0", "1"]
    command = [sys.executable, "-m", "unetbio", "segment", "--table", "list.csv", "-o", "direct", "-m", str(tiny_model)]
    options = ["--normalize", "p1,p99.8", "--min-area", "20", "--overlays", "none", "--tile", "64", "--json"]
    direct = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(direct.stdout)["images"] == 2
    hashes = _label_hashes(tmp_path / "out" / "images")
    assert len(hashes) == 2
    assert hashes == _label_hashes(tmp_path / "direct" / "images")


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
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    out = tmp_path / "out"
    run = _snakemake(tmp_path, "--configfile", "config.yaml")
    assert run.returncode == 0, run.stdout + "".join(path.read_text() for path in out.glob("logs/*"))
    info = read_info(out / "models" / "unet.safetensors")
    assert (info.architecture, info.training["steps"]) == ("unet", 4)
    assert not list(out.glob("models/*.checkpoint.safetensors"))
    first = {path.name: read_provenance(path) for path in out.glob("*_labels.json")}
    assert len(first) == 3
    with open(out / "comparison" / "comparison.csv", encoding="utf-8", newline="") as stream:
        assert [(row["network"], row["failure"]) for row in csv.DictReader(stream)] == [("unet:depth=0", "")]
    assert "Nothing to be done" in _snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run").stdout

    del config["compare"]
    config["training"]["steps"] = 6  # type: ignore[index]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    again = _snakemake(tmp_path, "--configfile", "config.yaml")
    assert again.returncode == 0, again.stdout + "".join(path.read_text() for path in out.glob("logs/*"))
    assert read_info(out / "models" / "unet.safetensors").training["steps"] == 6
    for path in out.glob("*_labels.json"):
        before, after = first[path.name], read_provenance(path)
        assert before is not None
        assert after is not None
        assert before.model.sha256 != after.model.sha256


def test_a_job_that_cannot_go_on_fails_the_workflow(tmp_path: Path, samples: Path) -> None:
    """A model that is none is no matter of one image: the log names it, and no tables are made."""
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"not a model")
    _project(tmp_path, samples, model, images_per_job=100)
    run = _snakemake(tmp_path, "--configfile", "config.yaml")
    assert run.returncode != 0
    assert "model.safetensors" in (tmp_path / "out/logs/segment.1-of-1.log").read_text()
    assert not (tmp_path / "out/summary.csv").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("images: images\nimags: x\n", "unknown key imags: did you mean images?"),
        ("images: nowhere\n", "nowhere does not exist: give files, folders or patterns"),
    ],
)
def test_settings_are_checked_before_anything_is_planned(tmp_path: Path, settings: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(settings)
    run = _snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run")
    assert run.returncode != 0
    assert message in run.stdout
    assert not list(tmp_path.glob("*/*.csv"))


def test_the_snakefile_of_the_checkout_is_the_same_workflow(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    _project(tmp_path, samples, tiny_model)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    run = _snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run", snakefile=ROOT / "Snakefile")
    assert run.returncode == 0, run.stdout
    assert re.search(r"segment +2\n", run.stdout)
    assert re.search(r"total +5\n", run.stdout)


def test_snakemake_finds_nothing_to_mend(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """Among other things, that every rule has a log and a conda environment."""
    _project(tmp_path, samples, tiny_model)
    run = _snakemake(tmp_path, "--configfile", "config.yaml", "--lint")
    assert run.returncode == 0, run.stdout
    assert "Congratulations" in run.stdout


def test_every_rule_says_what_it_needs_and_does() -> None:
    for path in sorted(SNAKEFILE.parent.glob("*.smk")):
        for name, body in re.findall(r"^rule (\w+):\n((?:(?:    .*)?\n)+)", path.read_text(), flags=re.MULTILINE):
            needed = (
                {"log", "benchmark", "conda", "threads", "resources", "message", "shell"} if name != "all" else set()
            )
            assert needed <= set(re.findall(r"^    (\w+):", body, flags=re.MULTILINE)), (path.name, name)
