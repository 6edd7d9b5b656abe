"""Commands that are broken off and run again, and what their files must then be."""

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forked
import tifffile
from short_search import SHORT_SEARCH
from tiny_model import field_of_squares, write_tiny_model

from unetbio.files import TEMPORARY

__all__ = [
    "Scenario",
    "broken_off",
    "compare",
    "contents",
    "faults_of",
    "first_of_each_kind",
    "good_images",
    "scenarios",
    "segment",
    "unbroken",
]

# What a killed run left is old at once, and a run of two images writes a file of cells before its tables.
_USUAL = {"unetbio.files.writing.STALE_SECONDS": 0.0, "unetbio.results.tables.cells.IMAGES_IN_MEMORY": 1}
_TRAINING = {**_USUAL, **SHORT_SEARCH, "unetbio.training.trainer.CHECKPOINT_SECONDS": 0.0}


@dataclass(frozen=True)
class Scenario:
    """A command that is broken off and run again.

    Parameters
    ----------
    line : tuple
        Its arguments.
    folder : pathlib.Path
        What it writes lies below it.
    inputs : pathlib.Path
        What it reads lies below it.
    before : pathlib.Path, optional
        A copy of it is the folder before the command runs; there is none otherwise.
    constants : mapping
        As `forked.run` takes.
    """

    line: tuple[object, ...]
    folder: Path
    inputs: Path
    before: Path | None = None
    constants: Mapping[str, Any] = field(default_factory=lambda: _USUAL)

    def begin(self) -> None:
        """Make the folder as it is before the command runs."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.before is not None:
            # With the times of the files, by which unchanged results are recognized.
            subprocess.run(["cp", "-a", self.before, self.folder], check=True)

    def run(self, fault: forked.Fault | None = None, **options: Any) -> forked.Run:
        """Run the command once; options as of `forked.run`."""
        return forked.run(self.line, fault=fault, constants=self.constants, **options)


def good_images(folder: Path, count: int) -> Path:
    """Write images that can be segmented."""
    folder.mkdir(parents=True)
    for number in range(count):
        tifffile.imwrite(folder / f"good_{number:03}.tif", field_of_squares(number), metadata=None)
    return folder


def segment(images: Path, out: Path, model: Path, *more: str) -> tuple[object, ...]:
    """Arguments of a segmentation."""
    workers = () if "--workers" in more else ("--workers", "1")
    return ("segment", images, "-o", out, "-m", model, "--overlays", "none", "-q", *workers, *more)


def scenarios(work: Path, names: Sequence[str], count: int = 2) -> dict[str, Scenario]:
    """The commands that write, each with its inputs ready."""
    images = good_images(work / "images", count)
    model, out, done = work / "m.safetensors", work / "out", work / "done"
    forked.call(lambda: str(write_tiny_model(model)))
    _load_compiled(model)
    # In one process, whose calls can be counted.
    alone = segment(images, out, model, "--decode-timeout", "0")
    made = {"segment": Scenario(alone, out, images), "train": _training(work)}
    _succeed(alone)
    _succeed(("export", out, "--to", "geojson", "-o", work / "drawn"))
    for path in (work / "drawn").glob("*.geojson"):
        _leave_one_out(path)
    out.rename(done)
    made |= {
        "measure": Scenario(("measure", out, "-q"), out, out, done),
        "report": Scenario(("report", out, "-q"), out, out, done),
        "export": Scenario(("export", out, "--to", "imagej", "-q"), out, out, done),
        "import": Scenario(("import", work / "drawn", "--images", images, "-o", out, "-q"), out, work / "drawn"),
        "import-into": Scenario(("import", work / "drawn", "--into", out, "-q"), out, work / "drawn", done),
    }
    return {name: made[name] for name in names}


def _load_compiled(model: Path) -> None:
    """Segment an image here, which starts no thread, so that forks find compiled loops in memory."""
    import unetbio

    unetbio.segment(field_of_squares(0), model=model)


def _training(work: Path) -> Scenario:
    folder = work / "pairs"
    for number in range(3):
        values = field_of_squares(number, (96, 96), count=8)
        for part, pixels in (("images", values), ("masks", (values > 100).astype("uint8"))):
            (folder / part).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / part / f"{number}.tif", pixels, metadata=None)
    config = work / "train.yaml"
    config.write_text(
        "{parameters: {base_channels: 2, depth: 1}, patch_size: 40, batch_size: 1, steps: 6, validate_every: 3}"
    )
    model = work / "trained" / "m.safetensors"
    line = ("train", folder, "-o", model, "--config", config, "--split-components", "--trust-masks", "-q")
    return Scenario(line, model.parent, folder, constants=_TRAINING)


def _leave_one_out(path: Path) -> None:
    """Take one cell out of outlines, as if they had been corrected."""
    drawn = json.loads(path.read_bytes())
    drawn["features"].pop()
    path.write_text(json.dumps(drawn))


def _succeed(line: Sequence[object]) -> None:
    result = forked.run(line)
    if result.code:
        raise RuntimeError(f"{line}: exit code {result.code}: {result.errors}")


# What a folder holds -------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, str]:
    """A digest of what each file says, without times; ``torn`` where a name exists and the file is not whole."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if (
            path.is_file()
            and not path.name.startswith(TEMPORARY)
            and not path.name.endswith((".lock", ".jsonl", ".log"))
        ):
            try:
                found[os.fsencode(path.relative_to(folder)).decode("latin-1")] = _said(path)
            except Exception as error:
                found[path.name] = f"torn: {type(error).__name__}: {error}"
    return found


def _said(path: Path) -> str:
    for ending, digest in _DIGESTS.items():
        if path.name.endswith(ending):
            return digest(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _labels(path: Path) -> str:
    from unetbio.io import read_labels
    from unetbio.labels import label_hash

    return label_hash(read_labels(path, allow_binary=True))


def _tensors(path: Path) -> str:
    from unetbio.tensor_file import load_tensors

    digest = hashlib.sha256()
    for name, tensor in sorted(load_tensors(path)[0].items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _frame(path: Path) -> str:
    import polars

    return hashlib.sha256(polars.read_parquet(path).write_csv().encode()).hexdigest()


def _whole(is_whole: Callable[[bytes], object]) -> Callable[[Path], str]:
    def digest(path: Path) -> str:
        if not is_whole(path.read_bytes()):
            raise ValueError("its end is missing")
        return "whole"

    return digest


def _archive(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return hashlib.sha256(b"".join(archive.read(name) for name in sorted(archive.namelist()))).hexdigest()


_DIGESTS: dict[str, Callable[[Path], str]] = {
    "_labels.ome.tif": _labels,
    ".checkpoint.safetensors": lambda path: _tensors(path) and "whole",
    ".safetensors": _tensors,
    ".parquet": _frame,
    ".geojson": lambda path: hashlib.sha256(json.dumps(json.loads(path.read_bytes())).encode()).hexdigest(),
    ".json": lambda path: json.loads(path.read_bytes()) and "whole",
    ".html": _whole(lambda content: content.rstrip().endswith(b"</html>")),
    ".png": _whole(lambda content: b"IEND" in content[-12:]),
    ".zip": _archive,
    ".sha256": _whole(lambda content: content.endswith(b"\n")),
}


def compare(folder: Path, clean: Mapping[str, str], *, whole: bool) -> list[str]:
    """Differences between a folder and what an unbroken run left."""
    found = state(folder) if whole else contents(folder)
    faults = [f"{name}: {value}" for name, value in found.items() if value.startswith("torn")]
    if whole:
        faults += [f"{name} differs: {value}" for name, value in found.items() if clean.get(name) not in (None, value)]
        faults += [f"{name} is too much" for name in found if name not in clean]
        faults += [f"{name} is missing" for name in clean if name not in found]
        faults += [f"{path.name} was left" for path in folder.rglob(f"{TEMPORARY}*")]
    return faults


def state(folder: Path) -> dict[str, str]:
    """`contents`, and what `verify` finds in an output folder."""
    from unetbio.results.verification import verify_folder

    is_output = (folder / "run.jsonl").exists()
    findings = verify_folder(folder, 1)[1] if is_output else []
    return {**contents(folder), "verify": "; ".join(f"{found.output}: {found.message}" for found in findings)}


def faults_of(result: forked.Run, codes: Sequence[int]) -> list[str]:
    """What no run may show."""
    faults = [] if result.code in codes else [f"exit code {result.code}: {result.errors.strip()[-300:]}"]
    faults += ["traceback"] if "Traceback" in result.errors else []
    return faults + (["internal error"] if "[internal]" in result.errors or "internal error" in result.errors else [])


def broken_off(scenario: Scenario, clean: Mapping[str, str], result: forked.Run, codes: Sequence[int]) -> list[str]:
    """Faults of a run that was broken off, and of the same command after it."""
    faults = faults_of(result, codes)
    if scenario.folder.exists():
        faults += forked.call(lambda: compare(scenario.folder, clean, whole=False))
    again = scenario.run()
    return [*faults, *faults_of(again, [0]), *forked.call(lambda: compare(scenario.folder, clean, whole=True))]


def unbroken(scenario: Scenario, fault: forked.Fault | None = None) -> tuple[dict[str, str], forked.Run]:
    """What a run that nothing breaks off leaves, and the run with the calls that would count for a fault."""
    scenario.begin()
    result = scenario.run(fault)
    if faults := faults_of(result, [0]):
        raise RuntimeError(f"{scenario.line}: {faults}")
    return forked.call(state, scenario.folder), result


def first_of_each_kind(calls: Sequence[str]) -> list[int]:
    """Numbers of calls, from 1: one of each kind of call and file."""
    kinds: dict[str, int] = {}
    for number, text in enumerate(calls, start=1):
        kinds.setdefault(_kind(text), number)
    return sorted(kinds.values())


def _kind(text: str) -> str:
    call, _, name = text.partition(" ")
    return f"{call} {''.join('#' if c.isdigit() else c for c in Path(name).name.split(TEMPORARY)[-1][-14:])}"
