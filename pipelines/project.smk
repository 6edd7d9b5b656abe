# The workflow of unetbio with the settings of this folder. Its rules are part of the installed package.
import sys
import time

try:
    from unetbio.pipelines import (
        SNAKEFILE,
        end_at_once,
        explain_errors,
        refuse_no_images,
    )
except ModuleNotFoundError as error:
    sys.exit(
        f"unetbio: error: the Python of Snakemake ({sys.executable}) lacks {error.name}: run "
        "'pip install unetbio' there, or in a checkout 'pip install .'; environments of rules are not enough"
    )


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


# Exits with 3 if only images failed, and prints errors. Snakemake would exit with 1 and print commands.
onerror:
    explain_errors(config, STARTED)
