# From a folder of images to masks, tables and a page. The settings are checked before the plan.
# Rules with {results} run for each folder of results: the output folder, or one below it for each of several models.
import os
import re
import time
from pathlib import Path

from snakemake.utils import min_version

from unetbio.pipelines import (
    end_at_once,
    explain_errors,
    forget_failed_check,
    refuse_no_images,
    settings_of,
)
from unetbio.pipelines.settings import input_names, input_stamps, load_config

min_version("9.5")

STARTED = time.time()
with settings_of(workflow.configfiles):
    CONFIG = load_config(config)
    USES = {use.folder: use for use in CONFIG.uses()}
    # A module may have a prefix for all that is written.
    BATCHES = CONFIG.batches(workflow.modifier.modify_path)
    # A missing model is an error before any job starts.
    FILES = {results: use.file() for results, use in USES.items()}
    ENSEMBLE = CONFIG.ensemble_files()
OUT = CONFIG.output
TRAINED = {use.name: use for use in USES.values() if use.network}


# With --software-deployment-method apptainer; conda: stands in each rule.
container: CONFIG.container


wildcard_constraints:
    results="|".join(map(re.escape, USES)),
    part=r"\d+",
    parts=r"\d+",


rule all:
    input:
        f"{OUT}/finished.txt",
        # Request intermediate files too, so that missing ones are made again.
        expand("{results}/index.html", results=USES),
        lambda wildcards: [mark for results in USES for mark in segmented(results)],
        [f"{OUT}/check.json"] if CONFIG.check.run else [],


include: "common.smk"
include: "check.smk"
include: "train.smk"
include: "segment.smk"
include: "retry.smk"
include: "measure.smk"
include: "report.smk"
include: "compare.smk"
include: "finish.smk"


onstart:
    refuse_no_images(config)


onsuccess:
    end_at_once()


onerror:
    explain_errors(config, STARTED)
