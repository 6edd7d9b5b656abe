"""A new project: a folder with the workflow, its settings, profiles and a README."""

import math
from pathlib import Path

import yaml

from unetbio.errors import UsageError
from unetbio.files import real_path, write_text
from unetbio.io.discover import find_inputs

__all__ = ["write_project"]

CONFIG = "config/config.yaml"
PROJECT = (CONFIG, "config/README.md", "config/schema.json", "profiles/local", "profiles/slurm")
"""Files and folders of a new project beside its Snakefile."""

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


def write_project(project: Path, images: str | None = None) -> Path:
    """Write a new project.

    Parameters
    ----------
    project : path
        New or empty folder.
    images : str, optional
        File, folder or pattern of images, for the settings.

    Returns
    -------
    pathlib.Path
        The settings.

    Raises
    ------
    UsageError
        When the folder is not empty, or there are no images.
    """
    if project.exists() and any(project.iterdir()):
        raise UsageError(f"{project} is not empty: give a new folder")
    if images:
        # Check the settings now, so that the workflow does not refuse them later.
        find_inputs([images])
    for name, source in _files().items():
        text = source.read_text(encoding="utf-8")
        write_text(project / name, _with_images(text, images) if name == CONFIG and images else text)
    write_text(project / "README.md", _README.format(name=real_path(project).name))
    return project / CONFIG


def _files() -> dict[str, Path]:
    """Files of a new project, by their names in it; they lie beside the rules or, in a checkout, one folder above."""
    here = Path(__file__).parent
    home = here if (here / "config").is_dir() else here.parent
    files = {"Snakefile": here / "project.smk"}
    for name in PROJECT:
        path = home / name
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            files[file.relative_to(home).as_posix()] = file
    return files


def _with_images(text: str, images: str) -> str:
    """Settings with these images; paths are relative to the working directory and become absolute."""
    absolute = str(Path(images).absolute())
    # In quotes, and escaped as YAML does it: names may hold any characters.
    value = yaml.safe_dump(absolute, default_style='"', width=math.inf).strip()
    lines = [f"images: {value}" if line.startswith("images:") else line for line in text.splitlines()]
    return "\n".join(lines) + "\n"
