"""Processors and memory of containers and jobs, from files as the kernel writes them."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from unetbio import machine
from unetbio.machine import available_cores, available_memory

Write = Callable[[Mapping[str, str]], Path]
NOTHING: Mapping[str, str] = {}

V1 = "9:memory:{0}\n4:cpu,cpuacct:{0}\n1:name=systemd:{0}\n"
GIB = 1 << 30


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 processors and 64 GiB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setattr(machine, "_machine_memory", lambda: 64 * GIB)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return written


def facts(root: Path, environment: Mapping[str, str] = NOTHING) -> tuple[int, int | None]:
    return available_cores(root, environment), available_memory(root, environment)


def test_without_limits_all_of_the_machine(write: Write) -> None:
    assert facts(write({})) == (16, 64 * GIB)
    group = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}
    assert facts(write(group)) == (16, 64 * GIB)


def test_container_of_version_2(write: Write) -> None:
    # docker run --cpus 1.5 --memory 4g
    root = write(
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
        }
    )
    assert facts(root) == (2, 4 * GIB)


def test_groups_above_limit_too(write: Write) -> None:
    # A pod of Kubernetes limits its containers together; SLURM a job with its steps.
    above = "sys/fs/cgroup/kubepods.slice"
    root = write(
        {
            "proc/self/cgroup": "0::/kubepods.slice/pod1/container\n",
            f"{above}/pod1/container/cpu.max": "max 100000\n",
            f"{above}/pod1/container/memory.max": f"{8 * GIB}\n",
            f"{above}/pod1/cpu.max": "300000 100000\n",
            f"{above}/memory.max": f"{6 * GIB}\n",
        }
    )
    assert facts(root) == (3, 6 * GIB)


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize("inside", ["", "/docker/1f2e"], ids=["container", "host"])
def test_version_1(write: Write, folder: str, inside: str) -> None:
    # In the container the folders of /docker/1f2e are the uppermost ones.
    root = write(
        {
            "proc/self/cgroup": V1.format("/docker/1f2e"),
            f"sys/fs/cgroup/{folder}{inside}/cpu.cfs_quota_us": "50000\n",
            f"sys/fs/cgroup/{folder}{inside}/cpu.cfs_period_us": "100000\n",
            f"sys/fs/cgroup/memory{inside}/memory.limit_in_bytes": f"{2 * GIB}\n",
        }
    )
    assert facts(root) == (1, 2 * GIB)


def test_version_1_without_limits(write: Write) -> None:
    root = write(
        {
            "proc/self/cgroup": V1.format("/"),
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        }
    )
    assert facts(root) == (16, 64 * GIB)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_MEM_PER_NODE": "2048"}, (4, 2 * GIB)),
        ({"SLURM_CPUS_PER_TASK": "200", "SLURM_MEM_PER_NODE": "0"}, (16, 64 * GIB)),
        ({"SLURM_CPUS_PER_TASK": "", "SLURM_MEM_PER_NODE": "2G"}, (16, 64 * GIB)),
    ],
    ids=["less than the machine", "more, and all memory", "not numbers"],
)
def test_job_of_slurm(write: Write, variables: Mapping[str, str], expected: tuple[int, int]) -> None:
    assert facts(write({}), variables) == expected


def test_the_machine_that_runs_this() -> None:
    assert 1 <= available_cores() <= 16
    assert (available_memory() or 0) > 1 << 27


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not list the children of a process")
def test_peak_memory_includes_children() -> None:
    before = machine.peak_memory() or 0
    code = "held = bytearray(b'1' * (64 << 20)); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert (machine.peak_memory() or 0) >= before + (64 << 20)
        child.communicate(b"\n")


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is a function of glibc")
def test_freed_memory_is_kept_until_it_is_returned() -> None:
    code = """
import numpy as np
from unetbio.machine import keep_freed_memory, return_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

keep_freed_memory()
maps = [np.ones(1 << 22, np.uint8) for _ in range(60)]
last = np.ones(1 << 20, np.uint8)
full = resident()
del maps
kept = resident()
return_freed_memory()
print(full - kept < 1 << 25, full - resident() > 1 << 27)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"], done.stdout
