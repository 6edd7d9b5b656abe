# The workflow with the settings in config/; `unetbio new` makes a folder with its own.
include: "pipelines/project.smk"


# A rule of an included file is no default target.
use rule all as everything
