"""The Snakemake workflow in other places: as a module, with the test data of the checkout, and in a container."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml
from workflow_runs import IMAGES, ROOT, command_line, make_project, read_summary, snakemake

MODULE = """
from unetbio.pipelines import SNAKEFILE

module unetbio:
    snakefile: SNAKEFILE
    config: config["cells"]
    prefix: "deep/er"

use rule * from unetbio as unetbio_*

rule count:
    input:
        rules.unetbio_measure.output[0].replace("{results}", "out"),
        rules.unetbio_finish.output,
    output:
        "count.txt"
    default_target: True
    shell:
        "wc -l <{input[0]} >{output}"
"""


@pytest.mark.slow
def test_other_workflows_take_it_as_a_module(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """Below a prefix: images and the model are where they were, everything that is written is below it."""
    shutil.copy(tiny_model, tmp_path / "tiny.safetensors")
    make_project(tmp_path, samples, Path("tiny.safetensors"), images_per_job=100)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"cells": config}))
    (tmp_path / "Snakefile").write_text(MODULE)
    run = snakemake(tmp_path, "--configfile", "config.yaml", snakefile=tmp_path / "Snakefile")
    assert run.returncode == 0, run.stdout
    assert int((tmp_path / "count.txt").read_text()) == len(IMAGES) + 1
    assert len(list((tmp_path / "deep" / "er" / "out").glob("*_labels.ome.tif"))) == len(IMAGES)
    assert not (tmp_path / "out").exists()
    again = snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run", snakefile=tmp_path / "Snakefile")
    assert "Nothing to be done" in again.stdout
    # What an earlier run left counts below the prefix too: the number of its jobs, and a check that failed.
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"cells": {**config, "images_per_job": 3}}))
    check = tmp_path / "deep" / "er" / "out" / "check.json"
    check.write_text('{"failed": "its job was stopped twice"}')
    again = snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run", snakefile=tmp_path / "Snakefile")
    assert "Nothing to be done" in again.stdout
    assert not check.exists()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"cells": {**config, "modle": "x"}}))
    refused = snakemake(tmp_path, "--configfile", "config.yaml", "-n", snakefile=tmp_path / "Snakefile")
    assert (refused.returncode, "unknown key modle: did you mean model" in refused.stdout) == (1, True)


@pytest.mark.slow
def test_the_test_data_run_and_the_report_of_snakemake_holds_the_results(tmp_path: Path) -> None:
    """As the catalog of workflows does: in the folder .test, with the Snakefile of the checkout."""
    shutil.copytree(ROOT / ".test", tmp_path / "test", ignore=shutil.ignore_patterns("results"))
    run = snakemake(tmp_path / "test", snakefile=ROOT / "Snakefile")
    assert run.returncode == 0, run.stdout
    assert all(int(row["n_cells"]) > 5 for row in read_summary(tmp_path / "test" / "results").values())
    report = snakemake(tmp_path / "test", "--report", "report.zip", snakefile=ROOT / "Snakefile")
    assert report.returncode == 0, report.stdout
    with zipfile.ZipFile(tmp_path / "test" / "report.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
        (data,) = (name for name in archive.namelist() if name.endswith("report.html"))
        text = archive.read(data).decode()
    assert {"index.html", "summary.csv", "nuclei_1.labels.jpg", "nuclei_2.labels.jpg"} <= names
    assert all(f'"{category}"' in text for category in ("Page", "Tables", "Overlays"))
    assert "Nothing to be done" in snakemake(tmp_path / "test", "--dry-run", snakefile=ROOT / "Snakefile").stdout


@pytest.mark.slow
def test_jobs_run_in_the_container_of_the_settings(tmp_path: Path, samples: Path, tiny_model: Path) -> None:
    """With a program in place of Apptainer that notes the image and runs the command without it."""
    image, log, programs = tmp_path / "unetbio.sif", tmp_path / "images.txt", tmp_path / "programs"
    image.touch()
    programs.mkdir()
    apptainer = programs / "apptainer"
    apptainer.write_text(
        f"#!/usr/bin/env bash\n[ $1 = --version ] && {{ echo apptainer version 1.4.0; exit; }}\n"
        f'echo "${{@: -4:1}}" >>{log}\nexec "${{@: -3}}"\n'
    )
    apptainer.chmod(0o755)
    make_project(tmp_path / "p", samples, tiny_model, container=str(image), images_per_job=100)
    command, environment = command_line(
        "out/logs/segment.1-of-1.done", "--configfile", "config.yaml", "--sdm", "apptainer"
    )
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    run = subprocess.run(command, cwd=tmp_path / "p", env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert log.read_text().split() == [str(image)]
