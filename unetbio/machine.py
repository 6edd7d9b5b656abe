"""What this process may use and has used: processors, memory and time, of machine, container and job."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from math import ceil
from pathlib import Path, PurePosixPath

__all__ = [
    "available_cores",
    "available_memory",
    "keep_freed_memory",
    "peak_memory",
    "process_seconds",
    "return_freed_memory",
]

ROOT = Path("/")

KEPT_BYTES = 1 << 30
"""Freed memory that the process keeps for the next feature map."""

NO_LIMIT = 1 << 60
"""Control groups of version 1 write nearly 2**63 bytes where memory is not limited."""


def available_cores(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> int:
    """Processors that this process may use, at least 1.

    The smallest of its affinity, the quota of its control groups (``docker --cpus``, Kubernetes), rounded up, and
    what SLURM gave to a task.

    Parameters
    ----------
    root : pathlib.Path
        Folder that holds ``proc`` and ``sys``.
    environment : mapping
        Variables of the process.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _control_groups("cpu", root) if (quota := _quota(folder)) is not None]
    job = _number(environment.get("SLURM_CPUS_PER_TASK", ""))
    return max(1, min([affinity, *quotas, *([] if job is None else [job])]))


def available_memory(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> int | None:
    """Bytes that this process may use: the memory of the machine, or the limit of its container or job.

    Parameters
    ----------
    root, environment
        As for `available_cores`.

    Returns
    -------
    int, optional
        None if the system does not say.
    """
    groups = list(_control_groups("memory", root))
    limits = [_number(_text(folder / name)) for folder in groups for name in ("memory.max", "memory.limit_in_bytes")]
    job = _number(environment.get("SLURM_MEM_PER_NODE", ""))
    limits += [_machine_memory(), None if job is None else job << 20]
    return min((limit for limit in limits if limit is not None and limit < NO_LIMIT), default=None)


def peak_memory() -> int | None:
    """Peak memory of this process and of those that it has started and that run; None if the system does not say.

    On Linux; elsewhere that of this process alone.
    """
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = peak if sys.platform == "darwin" else peak * 1024
    return own + sum(map(_peak_of, _children(os.getpid())))


def process_seconds() -> float:
    """Seconds since this process began; 0 if the system does not report it (Linux does)."""
    try:
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        # The name in parentheses may hold spaces; the time of the start is the twentieth number after it.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return max(0.0, uptime - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def _children(process: int) -> Iterator[int]:
    """Processes that a process has started, and those that they have; Linux lists them by threads."""
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, _text(thread).split()):
            yield child
            yield from _children(child)


def _peak_of(process: int) -> int:
    found = re.search(r"^VmHWM:\s*(\d+) kB", _text(Path(f"/proc/{process}/status")), re.MULTILINE)
    return 0 if found is None else int(found[1]) * 1024


def _machine_memory() -> int | None:
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of the control groups of this process and of those above, whose limits hold too."""
    groups = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts = [groups, groups / "unified"]
        elif controller in controllers.split(","):
            mounts = [groups / controllers, groups / controller]
        else:
            continue
        # In a container of version 1 the path is that of the host: only the last folder above it is there.
        inner = PurePosixPath(path.lstrip("/"))
        yield from (mount / folder for mount in mounts for folder in (inner, *inner.parents))


def _quota(group: Path) -> int | None:
    """Processors of a control group, rounded up."""
    words = _text(group / "cpu.max").split()
    words = words or [_text(group / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    numbers = [_number(word) for word in words]
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        return None
    return ceil(numbers[0] / numbers[1])


def _number(text: str) -> int | None:
    """A whole number above 0; None for ``max``, -1 and all else."""
    return int(text) if text.strip().isdecimal() and int(text) > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


@cache
def keep_freed_memory() -> None:
    """Keep up to 1 GiB of freed memory, on Linux: for processes of one purpose that run networks on the CPU.

    Left to itself, glibc gives a feature map of more than 32 MiB back to the system when it is freed, and the system
    clears every page before it hands it out again: up to a third of the time of large tiles.
    """
    import ctypes

    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        set_option(trim_threshold, KEPT_BYTES)
        set_option(mmap_threshold, KEPT_BYTES)


def return_freed_memory() -> None:
    """Give freed memory back to the system, on Linux: between steps of a large image, of which each needs its own."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
