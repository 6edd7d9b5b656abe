# The workflow with the settings of this folder; its rules are in pipelines/, which pip installs as unetbio.pipelines.


configfile: "config/config.yaml"


module unetbio:
    snakefile:
        "pipelines/workflow.smk"
    config:
        config


use rule * from unetbio
