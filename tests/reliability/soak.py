"""The long part of the reliability tests: ``make soak``, or ``python tests/reliability/soak.py EXPERIMENT --count N``.

Each experiment is seeded, writes a line for each trial into ``--log`` and goes on behind the last line of a log that
exists. At the end stands a table: trials, faults, the slowest. docs/reliability.md has the last one.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile_files
import numpy as np
import tifffile

from unetbio.files import TEMPORARY, utf8_text
from unetbio.io import read_labels
from unetbio.labels import label_hash

HANG = 120.0
"""Seconds after which a run counts as one that hangs."""

Trial = tuple[str, list[str]]
"""What was tried, and the faults that it showed."""


@dataclass
class Run:
    """What a run of the command did."""

    code: int
    errors: str
    seconds: float


def run(line: Sequence[str], *, seconds: float = HANG, kill_after: float | None = None) -> Run:
    """Run a command in a session of its own, and end all of it after a time."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        try:
            code = process.wait(seconds if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = -signal.SIGKILL if kill_after is not None else 999
        errors.seek(0)
        return Run(code, errors.read(), time.perf_counter() - start)


def segment(images: Path, out: Path, model: Path, *more: str) -> list[str]:
    """The command line of a segmentation."""
    line = [sys.executable, "-m", "unetbio", "segment", str(images), "-o", str(out), "-m", str(model)]
    return [*line, "--overlays", "none", "-q", *(("--workers", "1") if "--workers" not in more else ()), *more]


def tiny_model(path: Path) -> Path:
    """A U-Net whose weights say that bright pixels are cells."""
    import torch

    from unetbio import networks
    from unetbio.models.model_file import ModelInfo, save_model
    from unetbio.settings.normalization import Normalization

    parameters = networks.find("unet").complete({"base_channels": 2, "depth": 1, "dropout": 0.0})
    network = networks.build("unet", parameters)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.zero_()
            if name.endswith("weight") and weight.ndim == 4 and weight.shape[-1] == 3:
                weight[0, 0, 1, 1] = 1.0
        network.head.weight[1, 0, 0, 0] = 20.0
        network.head.bias[1] = -10.0
    ranges = Normalization("range", 0.0, 200.0)
    info = ModelInfo(name="tiny", architecture="unet", parameters=parameters, channels=("c",), normalization=ranges)
    save_model(path, info, network)
    return path


def picture(number: int) -> np.ndarray[Any, Any]:
    """A field of bright squares."""
    rng = np.random.default_rng(number)
    image = rng.integers(5, 15, (64, 72), dtype=np.uint8)
    for y, x in rng.integers(2, 54, (5, 2)):
        image[y : y + 8, x : x + 8] = 200
    return image


def good_images(folder: Path, count: int) -> Path:
    """Write images that can be segmented."""
    folder.mkdir(parents=True)
    for number in range(count):
        tifffile.imwrite(folder / f"good_{number:03}.tif", picture(number), metadata=None)
    return folder


def hashes(out: Path) -> dict[str, str]:
    """Hash of each label image; ``torn`` where a name exists and the file is not whole."""
    found = {}
    for path in sorted(out.rglob("*_labels.ome.tif")):
        if not path.name.startswith("."):
            try:
                name = os.fsencode(path.relative_to(out)).decode("latin-1")
                found[name] = label_hash(read_labels(path, allow_binary=True))
            except Exception as error:
                found[path.name] = f"torn: {error}"
    for path in out.rglob("*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            found[path.name] = "torn"
    return found


def compare(out: Path, clean: dict[str, str], *, whole: bool) -> list[str]:
    """Differences between an output folder and that of an unbroken run."""
    found = hashes(out)
    faults = [f"{name}: {value}" for name, value in found.items() if value.startswith("torn")]
    faults += [f"{name} differs" for name, value in found.items() if clean.get(name) != value]
    if whole:
        faults += [f"{name} is missing" for name in clean if name not in found]
        faults += [f"{path.name} was left" for path in out.rglob(f"{TEMPORARY}*")]
    return faults


def faults_of(result: Run, codes: Sequence[int]) -> list[str]:
    """What no run may show."""
    faults = [] if result.code in codes else [f"exit code {result.code}: {result.errors.strip()[-300:]}"]
    faults += ["traceback"] if "Traceback" in result.errors else []
    return faults + (["internal error"] if "[internal]" in result.errors or "internal error" in result.errors else [])


# Experiments --------------------------------------------------------------------------------------------------------


def kills(work: Path, start: int, count: int, seed: int) -> Iterator[Trial]:
    """Kill -9 of the whole group at a random time, then the same command again."""
    images, model = good_images(work / "images", 12), tiny_model(work / "m.safetensors")
    unbroken = run(segment(images, work / "clean", model))
    clean = hashes(work / "clean")
    assert unbroken.code == 0, unbroken.errors
    for number in range(start, start + count):
        after = random.Random(f"{seed} {number}").uniform(0.3, 1.05) * unbroken.seconds
        out = work / f"out{number}"
        killed = run(segment(images, out, model), kill_after=after)
        faults = compare(out, clean, whole=False) if out.exists() else []
        again = run(segment(images, out, model))
        faults += [*faults_of(again, [0]), *compare(out, clean, whole=True)]
        yield f"killed after {after:.2f} s (exit {killed.code})", faults
        shutil.rmtree(out, ignore_errors=True)


CALLS = ("write", "write", "fsync", "rename", "pwrite64", "ftruncate")


def injected(work: Path, start: int, count: int, seed: int, error: str) -> Iterator[Trial]:
    """One system call on the way of a result to the disk fails, or kills the process; then the same command again."""
    images, model = good_images(work / "images", 3), tiny_model(work / "m.safetensors")
    clean_run = run(segment(images, work / "clean", model))
    assert clean_run.code == 0, clean_run.errors
    clean = hashes(work / "clean")
    for number in range(start, start + count):
        rng = random.Random(f"{seed} {number} {error}")
        call, when = rng.choice(CALLS), rng.randint(1, 40)
        out = work / f"out{number}"
        what = "signal=KILL" if error == "KILL" else f"error={error}"
        traced = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:{what}:when={when}"]
        result = run([*traced, *segment(images, out, model)])
        faults = compare(out, clean, whole=False)
        faults += faults_of(result, [0, 3, 4, -9, 137]) if error != "KILL" else []
        again = run(segment(images, out, model))
        faults += [*faults_of(again, [0]), *compare(out, clean, whole=True)]
        yield f"{call} {when}: {error} (exit {result.code})", faults
        shutil.rmtree(out)


def full_disk(work: Path, start: int, count: int, seed: int) -> Iterator[Trial]:
    """A file system of a few kB; then the same command with more room."""
    images, model = good_images(work / "images", 12), tiny_model(work / "m.safetensors")
    assert run(segment(images, work / "clean", model)).code == 0
    clean = hashes(work / "clean")
    used = sum(path.stat().st_blocks * 512 for path in (work / "clean").rglob("*"))
    for number in range(start, start + count):
        size = int(random.Random(f"{seed} {number}").uniform(0.05, 1.1) * used) // 4096 * 4096
        out = work / f"disk{number}"
        out.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", out], check=True)
        try:
            result = run(segment(images, out / "out", model))
            faults = faults_of(result, [0, 3, 4])
            faults += compare(out / "out", clean, whole=False) if (out / "out").exists() else []
            if result.code == 4 and str(out) not in result.errors:
                faults.append(f"the path is not named: {result.errors[-200:]}")
            subprocess.run(["mount", "-o", f"remount,size={8 * used}", out], check=True)
            again = run(segment(images, out / "out", model))
            faults += [*faults_of(again, [0]), *compare(out / "out", clean, whole=True)]
        finally:
            subprocess.run(["umount", "-l", out], check=True)
        yield f"{size} bytes (exit {result.code})", faults


def mixed(work: Path, start: int, count: int, seed: int) -> Iterator[Trial]:
    """Awkward files among good ones, with 1, 2 and 4 workers; each file must give what the manifest says."""
    model = tiny_model(work / "m.safetensors")
    good_images(work / "images" / "good", 200)
    tifffile.imwrite(work / "images" / "good" / "same.tif", picture(0), metadata=None)
    manifest = hostile_files.make(work / "images" / "awkward", picture(0), 400, seed)
    hostile_files.save(manifest, work / "manifest.json")
    assert run(segment(work / "images" / "good", work / "clean", model)).code == 0
    clean = hashes(work / "clean")
    same = clean["same_labels.ome.tif"]
    for workers in (1, 2, 4)[start : start + count]:
        out = work / f"out{workers}"
        result = run(segment(work / "images", out, model, "--workers", str(workers)), seconds=1800)
        found = hashes(out)
        faults = faults_of(result, [3])
        if faults:
            yield f"{workers} workers", faults
            continue
        faults += [f"{name} differs" for name, value in clean.items() if found.get(f"good/{name}") != value]
        journal = [json.loads(line) for line in (out / "run.jsonl").read_bytes().splitlines()]
        status = {os.path.abspath(entry["input"]): entry for entry in journal}  # noqa: PTH100 - links stay
        by_path = {entry["path"]: entry for entry in journal}
        for line in manifest:
            path = utf8_text(line.path.relative_to(work / "images").as_posix())
            entry = by_path.get(path) or status.get(str(line.path))
            faults += _unexpected(line, entry, found, same)
        hacked = [path for path in (Path.cwd(), work, out) if (path / "hacked").exists()]
        faults += [f"executed in {path}" for path in hacked]
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        faults += [f"{peak:.1f} GB"] if peak > 2 else []
        yield f"{workers} workers: {len(journal)} rows, {peak:.2f} GB, {result.seconds:.0f} s", faults


def _unexpected(
    line: hostile_files.Expected, entry: dict[str, Any] | None, found: dict[str, str], same: str
) -> list[str]:
    if line.outcome == hostile_files.UNSEEN:
        return [f"{line.path.name!r} was taken"] if entry else []
    if entry is None:
        return [f"{line.path.name!r} has no row"]
    if entry["status"] == "failed":
        told = entry["reason"] not in ("", "internal") and entry["message"]
        faults = [] if told else [f"{line.path.name!r}: {entry['reason']}: {entry['message']}"]
        return faults + (
            [f"{line.path.name!r} failed: {entry['message']}"] if line.outcome == hostile_files.GOOD else []
        )
    if line.outcome == hostile_files.REFUSED:
        return [f"{line.path.name!r} was done"]
    key = os.fsencode(entry["output"]).decode("latin-1")
    return [f"{line.path.name!r} differs"] if line.outcome == hostile_files.GOOD and found.get(key) != same else []


def errors(code: str) -> Callable[[Path, int, int, int], Iterator[Trial]]:
    """The experiment `injected` with an error of the system, or with a kill."""
    return lambda work, start, count, seed: injected(work, start, count, seed, code)


EXPERIMENTS: dict[str, Callable[[Path, int, int, int], Iterator[Trial]]] = {
    "kills": kills,
    "crash-points": errors("KILL"),
    "EIO": errors("EIO"),
    "ENOSPC": errors("ENOSPC"),
    "full-disk": full_disk,
    "mixed": mixed,
}


def main() -> int:
    """Run an experiment, or all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="*", default=list(EXPERIMENTS), choices=list(EXPERIMENTS))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"))
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.log.read_text().splitlines()] if options.log.exists() else []
    for name in options.experiment:
        done = sum(line[0] == name for line in lines)
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as work:
            for what, faults in EXPERIMENTS[name](Path(work), done, options.count - done, options.seed):
                lines.append([name, what, faults, round(time.perf_counter() - begin, 1)])
                begin = time.perf_counter()
                with options.log.open("a") as stream:
                    stream.write(json.dumps(lines[-1]) + "\n")
    print("| experiment | trials | with faults | slowest trial (s) |\n|---|---:|---:|---:|")
    for name in dict.fromkeys(line[0] for line in lines):
        own = [line for line in lines if line[0] == name]
        print(f"| {name} | {len(own)} | {sum(bool(line[2]) for line in own)} | {max(line[3] for line in own)} |")
    for name, what, faults, _ in lines:
        for fault in faults:
            print(f"fault: {name}: {what}: {fault}")
    return int(any(line[2] for line in lines))


if __name__ == "__main__":
    sys.exit(main())
