# From a folder of images to masks, tables and a page. The settings are checked before anything is planned.
from snakemake.utils import min_version

from unetbio.config import load_config

min_version("9.5")

CONFIG = load_config(config)
OUT = CONFIG.output
PARTS, BATCHES = CONFIG.batches()


wildcard_constraints:
    part=r"\d+",


rule all:
    input:
        f"{OUT}/index.html",
        [f"{OUT}/comparison/comparison.md"] if CONFIG.compare.data else [],


include: "train.smk"
include: "segment.smk"
include: "measure.smk"
include: "report.smk"
include: "compare.smk"
