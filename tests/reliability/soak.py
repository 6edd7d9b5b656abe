"""The long part of the reliability tests: ``make soak``, or ``python tests/reliability/soak.py EXPERIMENT --count N``.

Each experiment is seeded, writes a line for each trial into ``--log`` and goes on behind the last line of a log that
exists. At the end stands a table: trials, faults, the slowest. docs/reliability.md has the last one.
"""

import argparse
import errno
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import forked
import hostile_files
import tifffile
import trials
from forked import Fault
from tiny_model import field_of_squares, write_tiny_model

from unetbio.files import utf8_text

Trial = tuple[str, list[str]]
"""What was tried, and the faults that it showed."""

COMMANDS = ("segment", "train", "measure", "report", "export", "import", "import-into")


@dataclass(frozen=True)
class Plan:
    """The trials of an experiment that are left.

    Parameters
    ----------
    work : pathlib.Path
        An empty folder.
    start, count : int
        Number of the first trial, and how many there are.
    seed : int
        What is random follows from it and from the number of the trial.
    commands : sequence of str
        Commands of experiments with several.
    """

    work: Path
    start: int
    count: int
    seed: int
    commands: Sequence[str]

    @property
    def numbers(self) -> range:
        """Numbers of the trials."""
        return range(self.start, self.start + self.count)

    def random(self, number: int) -> random.Random:
        """Random numbers of a trial."""
        return random.Random(f"{self.seed} {number}")


def kills(name: str, plan: Plan) -> Iterator[Trial]:
    """Kill -9 of the whole group at a random time, then the same command again."""
    ((_, scenario),) = trials.scenarios(plan.work, [name], count=4).items()
    clean, whole = trials.unbroken(scenario)
    longest = whole.seconds
    for number in plan.numbers:
        after = plan.random(number).uniform(0.02, 1.0) * longest
        scenario.begin()
        killed = scenario.run(kill_after=after)
        if not killed.code:
            # The first run compiles and imports, and others work beside some: kills have to strike in a quick run.
            longest = min(longest, killed.seconds)
        faults = trials.broken_off(scenario, clean, killed, [0, -9])
        yield f"{name} killed after {after:.2f} s (exit {killed.code})", faults


def at_calls(error: int, reads: bool, plan: Plan) -> Iterator[Trial]:
    """One call that changes a file, or reads one, fails or kills the process; then the same command again.

    First one call of each kind and file of each command, then all others.
    """
    codes = [-9] if error == forked.KILL else [0, 2, 3, 4] if reads else [0, 3, 4]
    ready = {}
    for name, scenario in trials.scenarios(plan.work, plan.commands).items():
        root = scenario.inputs if reads else scenario.folder
        clean, run = trials.unbroken(scenario, Fault(root, 0, error, reads))
        ready[name] = (scenario, clean, root, run.calls)
    order = _order({name: calls for name, (_, _, _, calls) in ready.items()}, plan.seed)
    for name, call in order[plan.start : plan.start + plan.count]:
        scenario, clean, root, calls = ready[name]
        scenario.begin()
        result = scenario.run(Fault(root, call, error, reads))
        faults = [*trials.broken_off(scenario, clean, result, codes), *_unnamed(result, (scenario.folder, root), error)]
        yield f"{name} {call} of {len(calls)}: {calls[call - 1]} (exit {result.code})", faults


def _order(calls: dict[str, tuple[str, ...]], seed: int) -> list[tuple[str, int]]:
    first = {name: trials.first_of_each_kind(own) for name, own in calls.items()}
    early = [(name, call) for name, own in first.items() for call in own]
    late = [(name, call) for name, own in calls.items() for call in range(1, len(own) + 1) if call not in first[name]]
    for part in (early, late):
        random.Random(seed).shuffle(part)
    return early + late


def _unnamed(result: forked.Run, folders: Sequence[Path], error: int) -> list[str]:
    """Faults of the message of a run that could not read or write in these folders."""
    if result.code != 4:
        return []
    named = any(str(folder) in result.errors for folder in folders)
    faults = [] if named else [f"the path is not named: {result.errors[-200:]}"]
    if error == errno.ENOSPC and "bytes free" not in result.errors:
        faults.append(f"no word about space: {result.errors[-200:]}")
    return faults


def full_disk(plan: Plan) -> Iterator[Trial]:
    """A file system of a few kB; then the same command with more room."""
    ((_, scenario),) = trials.scenarios(plan.work, ["segment"], count=8).items()
    clean, _ = trials.unbroken(scenario)
    used = sum(path.stat().st_blocks * 512 for path in scenario.folder.rglob("*"))
    disk = scenario.folder.with_name("disk")
    line = tuple(disk / "out" if part == scenario.folder else part for part in scenario.line)
    small = trials.Scenario(line, disk / "out", scenario.inputs)
    for number in plan.numbers:
        size = int(plan.random(number).uniform(0.05, 1.1) * used) // 4096 * 4096
        disk.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
        try:
            result = small.run()
            subprocess.run(["mount", "-o", f"remount,size={8 * used}", disk], check=True)
            faults = trials.broken_off(small, clean, result, [0, 3, 4])
            faults += _unnamed(result, disk, errno.ENOSPC)
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
        yield f"{size} bytes (exit {result.code})", faults


def limits(plan: Plan) -> Iterator[Trial]:
    """Few files, threads, bytes or processes that a command may have; then the same command without limits."""
    ready = {name: (own, trials.unbroken(own)[0]) for name, own in trials.scenarios(plan.work, plan.commands).items()}
    cases = list(itertools.product(_LIMITS, plan.commands))
    for title, name in cases[plan.start : plan.start + plan.count]:
        scenario, clean = ready[name]
        scenario.begin()
        result = scenario.run(limits=_LIMITS[title])
        faults = [] if result.code else forked.call(partial(trials.compare, scenario.folder, clean, whole=True))
        faults += trials.broken_off(scenario, clean, result, [0, 3, 4])
        yield f"{name} with {title} (exit {result.code}) {result.errors.strip()[-200:] if result.code else ''}", faults


_LIMITS: dict[str, dict[int, int]] = {
    "20 open files": {resource.RLIMIT_NOFILE: 20},
    "files of 2000 bytes": {resource.RLIMIT_FSIZE: 2000},
    # Root has no limit of processes.
    **({} if os.geteuid() == 0 else {"no more processes": {resource.RLIMIT_NPROC: 1}}),
}


def many(plan: Plan) -> Iterator[Trial]:
    """Many small images in one run: descriptors, threads and memory stay as they are, and all rows are there."""
    if plan.start:
        return
    count = 100 * plan.count
    images, model, out = plan.work / "images", plan.work / "m.safetensors", plan.work / "out"
    forked.call(lambda: str(write_tiny_model(model)))
    images.mkdir()
    for number in range(count):
        tifffile.imwrite(images / f"{number:05}.tif", field_of_squares(number, (32, 32), 1), metadata=None)
    looks: list[tuple[int, int, int]] = []
    line = trials.segment(images, out, model)
    result = forked.run(line, seconds=86400, look=lambda process: looks.append(_held(process)))
    rows = len((out / "summary.csv").read_bytes().splitlines()) - 1 if (out / "summary.csv").exists() else 0
    faults = trials.faults_of(result, [0])
    faults += [] if rows == count else [f"{rows} rows of {count}"]
    early, late = looks[len(looks) // 4], looks[len(looks) * 3 // 4]
    for what, before, after, allowed in zip(("files", "threads", "MB"), early, late, (8, 2, 40), strict=True):
        faults += [f"{what} grew from {before} to {after}"] if after > before + allowed else []
    yield f"{count} images, {result.seconds:.0f} s; files, threads, MB: {early} early, {late} late", faults


def _held(pid: int) -> tuple[int, int, int]:
    """Open files, threads and megabytes of a process."""
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    count = len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))
    return *count, pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def mixed(plan: Plan) -> Iterator[Trial]:
    """Awkward files among good ones, with 1, 2 and 4 workers; each file must give what the manifest says."""
    work = plan.work
    model, good = work / "m.safetensors", work / "images" / "good"
    forked.call(lambda: str(write_tiny_model(model)))
    trials.good_images(good, 200)
    tifffile.imwrite(good / "same.tif", field_of_squares(0), metadata=None)
    awkward, listed = work / "images" / "awkward", work / "manifest.json"
    forked.call(lambda: hostile_files.save(hostile_files.make(awkward, field_of_squares(0), 400, plan.seed), listed))
    manifest = hostile_files.load(listed)
    unbroken = forked.run(trials.segment(good, work / "clean", model), seconds=1800)
    assert unbroken.code == 0, unbroken.errors
    clean = _masks(work / "clean")
    same = clean["same_labels.ome.tif"]
    for workers in (1, 2, 4)[plan.start : plan.start + plan.count]:
        out = work / f"out{workers}"
        result = forked.run(trials.segment(work / "images", out, model, "--workers", str(workers)), seconds=1800)
        found = _masks(out)
        faults = trials.faults_of(result, [3])
        if faults:
            yield f"{workers} workers", faults
            continue
        faults += [f"{name} differs" for name, value in clean.items() if found.get(f"good/{name}") != value]
        journal = [json.loads(line) for line in (out / "run.jsonl").read_bytes().splitlines()]
        by_path = {entry["path"]: entry for entry in journal}
        for line in manifest:
            path = utf8_text(line.path.relative_to(work / "images").as_posix())
            faults += _unexpected(line, by_path.get(path), found, same)
        hacked = [path for path in (Path.cwd(), work, out) if (path / "hacked").exists()]
        faults += [f"executed in {path}" for path in hacked]
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        faults += [f"{peak:.1f} GB"] if peak > 2 else []
        yield f"{workers} workers: {len(journal)} rows, {peak:.2f} GB, {result.seconds:.0f} s", faults


def _masks(out: Path) -> dict[str, str]:
    found = forked.call(trials.contents, out)
    return {name: said for name, said in found.items() if name.endswith("_labels.ome.tif")}


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


EXPERIMENTS: dict[str, Callable[[Plan], Iterator[Trial]]] = {
    "kills": partial(kills, "segment"),
    "kills-of-train": partial(kills, "train"),
    "crash-points": partial(at_calls, forked.KILL, False),
    "EIO": partial(at_calls, errno.EIO, False),
    "EIO-of-reads": partial(at_calls, errno.EIO, True),
    "ENOSPC": partial(at_calls, errno.ENOSPC, False),
    "full-disk": full_disk,
    "limits": limits,
    "mixed": mixed,
    "many": many,
}


def main() -> int:
    """Run an experiment, or all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="*", default=list(EXPERIMENTS), choices=list(EXPERIMENTS))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--commands", default=",".join(COMMANDS), help="where calls of several commands fail")
    options = parser.parse_args()
    commands = options.commands.split(",")
    needs_training = "train" in commands or "kills-of-train" in options.experiment
    forked.prepare(*(["monai.transforms", "torch._dynamo"] if needs_training else []))
    lines = [json.loads(line) for line in options.log.read_text().splitlines()] if options.log.exists() else []
    for name in options.experiment:
        done = sum(line[0] == name for line in lines)
        begin = time.perf_counter()
        work = Path(tempfile.mkdtemp())
        plan = Plan(work, done, max(0, options.count - done), options.seed, commands)
        try:
            for what, faults in EXPERIMENTS[name](plan):
                lines.append([name, what, faults, round(time.perf_counter() - begin, 1)])
                begin = time.perf_counter()
                with options.log.open("a") as stream:
                    stream.write(json.dumps(lines[-1]) + "\n")
        finally:
            shutil.rmtree(work, ignore_errors=True)
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
