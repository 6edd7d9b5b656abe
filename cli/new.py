"""``unetbio new``: a folder with the workflow and its settings."""

from pathlib import Path

import click

from unetbio.cli.terminal import say
from unetbio.errors import UsageError
from unetbio.files import real_path

__all__ = ["command"]

_README = """\
# {name}

Images in, masks and tables out, with unetbio and Snakemake. What each file is:

| file | |
|---|---|
| `config/config.yaml` | the settings: which images, which model; `config/README.md` explains each |
| `Snakefile` | takes the rules from where unetbio is installed |
| `profiles/local`, `profiles/slurm` | how to run on one machine, and on a cluster with SLURM |

Set `images` in `config/config.yaml`, then

    snakemake --workflow-profile profiles/local --dry-run     # what would be done
    snakemake --workflow-profile profiles/local

and open `results/index.html`. The same command goes on where a run stopped, and does what is new when images or
settings have changed. Its exit code is 0 when all is done and 3 when all is done but for images that failed;
`results/summary.csv` names each with the reason. After `kill -9`, Snakemake may ask for `snakemake --unlock` first.
"""


@click.command()
@click.argument("project", type=click.Path(file_okay=False, path_type=Path))
@click.option("--images", metavar="PATH", help="File, folder or pattern of images, for the settings.")
def command(project: Path, images: str | None) -> None:
    """Make a folder with the Snakemake workflow and its settings.

    PROJECT gets Snakefile, config/config.yaml, profiles for one machine and for SLURM, and a README that says how to
    run them. Snakemake comes with pip install 'unetbio[workflow]'.
    """
    from unetbio.files import write_text
    from unetbio.io.discover import find_inputs
    from unetbio.pipelines import project_files

    if project.exists() and any(project.iterdir()):
        raise UsageError(f"{project} is not empty: give a new folder")
    if images:
        # Check the settings now, so that the workflow does not refuse them later.
        find_inputs([images])
    for name, source in project_files().items():
        text = source.read_text(encoding="utf-8")
        write_text(project / name, _with_images(text, images) if name == "config/config.yaml" and images else text)
    write_text(project / "README.md", _README.format(name=real_path(project).name))
    settings = project / "config" / "config.yaml"
    first = f"look at {settings}" if images else f"set images in {settings}"
    say(f"{project}: {first}, then run snakemake there (README.md)")


def _with_images(text: str, images: str) -> str:
    """Settings with these images; paths are relative to the working directory and become absolute."""
    import json

    absolute = str(Path(images).absolute())
    # Every JSON string is a YAML string, with any characters.
    lines = [f"images: {json.dumps(absolute)}" if line.startswith("images:") else line for line in text.splitlines()]
    return "\n".join(lines) + "\n"
