# The workflow of unetbio with the settings of this folder. Its rules lie where unetbio is installed.
import time

from unetbio.pipelines import SNAKEFILE, end_at_once, explain_errors, refuse_no_images


configfile: "config/config.yaml"


module unetbio:
    snakefile:
        SNAKEFILE
    config:
        config


use rule * from unetbio


STARTED = time.time()


onstart:
    refuse_no_images(config)


onsuccess:
    end_at_once()


# Snakemake itself would leave with 1, and show commands: 3 means that all is done but for images that failed.
onerror:
    explain_errors(config, STARTED)
