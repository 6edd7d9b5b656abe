# Runs the workflow with the settings in config/. `unetbio new` makes a project folder with its own settings.
include: "pipelines/project.smk"


# A rule of an included file is no default target.
use rule all as everything
