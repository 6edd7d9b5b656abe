"""Projects of the Snakemake workflow, and what comes of them."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from unetbio.pipelines import SNAKEFILE
from unetbio.provenance import read_provenance

__all__ = [
    "IMAGES",
    "ROOT",
    "command_line",
    "label_hashes",
    "make_project",
    "planned_rules",
    "read_summary",
    "snakemake",
]

ROOT = Path(__file__).resolve().parents[2]
# Nuclei of a confocal stack and of a time-lapse; enough for two jobs.
IMAGES = ("confocal_z26", "confocal_z38", "confocal_z35", "timelapse_t05", "timelapse_t29")


def command_line(*arguments: str, snakefile: Path = SNAKEFILE) -> tuple[list[str], dict[str, str]]:
    """Words that start Snakemake, and an environment with the commands of this one before all others."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--cores", "2", *arguments]
    return command, {**os.environ, "PATH": path}


def snakemake(folder: Path, *arguments: str, snakefile: Path = SNAKEFILE) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder."""
    command, environment = command_line(*arguments, snakefile=snakefile)
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def make_project(folder: Path, samples: Path, model_file: Path, /, **settings: object) -> None:
    """Make a folder with images and a config.yaml, as a user makes it who has installed unetbio with pip."""
    (folder / "images").mkdir(parents=True)
    for name in IMAGES:
        shutil.copy(samples / f"{name}.ome.tif", folder / "images")
    config = {
        "images": "images",
        "output": "out",
        "model": str(model_file),
        "images_per_job": 4,
        "check": False,
        "segment": {"normalize": "p1,p99.8", "device": "cpu", "min_area": 20, "overlays": "all"},
        **settings,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def read_summary(out: Path) -> dict[str, dict[str, str]]:
    """Rows of the summary, by image."""
    with open(out / "summary.csv", encoding="utf-8", newline="") as stream:
        return {row["path"]: row for row in csv.DictReader(stream)}


def label_hashes(out: Path) -> dict[str, str]:
    """Label hashes, by the name of the provenance."""
    provenances = {path.name: read_provenance(path) for path in out.glob("*_labels.json")}
    return {name: provenance.output.label_hash for name, provenance in provenances.items() if provenance}


def planned_rules(text: str) -> set[str]:
    """Rules that Snakemake says it runs."""
    return set(re.findall(r"^(\w+) +\d+$", text, flags=re.MULTILINE)) - {"all", "total"}
