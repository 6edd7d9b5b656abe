"""Run commands in copies of a process that has imported everything, with faults at exact places.

A start of Python and PyTorch takes seconds, in which nothing is written; a fork takes milliseconds. The process that
forks only imports, since threads are missing in a fork; all else runs in forks too (`call`).
"""

import atexit
import contextlib
import ctypes
import importlib
import json
import mmap
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["KILL", "Fault", "Run", "call", "compiler", "prepare", "run"]

HANG = 600.0
"""Seconds after which a run counts as one that hangs, on a machine that does much else."""

LOOK_SECONDS = 1.0

HUNG = 999
"""Exit code of a run that hung."""

KILL = -1

_IMPORTED = (
    "click",
    "numba",
    "imagecodecs",
    "imagecodecs._deflate",
    "skimage.measure",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "safetensors.torch",
    "unetbio.batch.run",
    "unetbio.export.run",
    "unetbio.imports.run",
    "unetbio.inference.backends.torch",
    "unetbio.io.formats.tiff.reader",
    "unetbio.io.formats.tiff.sets",
    "unetbio.networks.unet.network",
    "unetbio.relations",
    "unetbio.report.overlays",
    "unetbio.report.page",
    "unetbio.results.verification",
    "unetbio.training.run",
    "unetbio.training.trainer",
)
"""What takes long to import, and starts no thread that would be missing in a fork."""

_LIBRARY = "UNETBIO_FAULTS"
_STATE_BYTES = 1 << 20
_COUNT_BYTES = 16


@dataclass(frozen=True)
class Fault:
    """What happens at one call of the system.

    Parameters
    ----------
    root : pathlib.Path
        Only calls for files below it count.
    number : int
        The call, from 1; 0 lets all succeed and counts them.
    error : int
        Error number, or `KILL` for ``kill -9`` of the process group. ``ENOSPC`` lasts to the end of the run.
    reads : bool
        Calls that read instead of those that change files.
    """

    root: Path
    number: int
    error: int = KILL
    reads: bool = False


@dataclass(frozen=True)
class Run:
    """What a run of a command did.

    Parameters
    ----------
    code : int
        Exit code; negative for a signal, `HUNG` for a run that did not end.
    errors : str
        What it wrote to stderr.
    seconds : float
        How long it took.
    calls : tuple of str
        Calls that counted for its fault, each with its file below the root of the fault.
    """

    code: int
    errors: str
    seconds: float
    calls: tuple[str, ...] = ()


def compiler() -> str | None:
    """The C compiler that builds the library of faults; None where there is none."""
    return shutil.which("cc") if sys.platform == "linux" else None


def prepare(*modules: str) -> None:
    """Start this program again with the library of faults, and import what takes long and further modules."""
    if _LIBRARY not in os.environ:
        folder = tempfile.mkdtemp(prefix="unetbio-faults-")
        library = Path(folder, "faults.so")
        line = ["cc", "-O1", "-shared", "-fPIC", "-o", library, Path(__file__).with_name("faults.c"), "-ldl"]
        subprocess.run(line, check=True)
        os.environ |= {
            _LIBRARY: str(library),
            "LD_PRELOAD": str(library),
            "OMP_NUM_THREADS": "1",
            "POLARS_MAX_THREADS": "1",
        }
        os.execv(sys.executable, [sys.executable, *sys.argv])
    # Forks end without this.
    atexit.register(shutil.rmtree, Path(os.environ[_LIBRARY]).parent, ignore_errors=True)
    for name in (*_IMPORTED, *modules):
        importlib.import_module(name)
    _prepare_numba()


def _prepare_numba() -> None:
    """Load what numba needs for its first function; each fork would take half a second for it."""
    import numba

    numba.njit("int64(int64)")(lambda value: value)


def run(
    line: Sequence[object],
    *,
    fault: Fault | None = None,
    kill_after: float | None = None,
    constants: Mapping[str, Any] | None = None,
    seconds: float = HANG,
    look: Callable[[int], object] | None = None,
    limits: Mapping[int, int] | None = None,
) -> Run:
    """Run ``unetbio`` with arguments in a process group of its own.

    Parameters
    ----------
    line : sequence
        Arguments of ``unetbio``.
    fault : Fault, optional
        What happens to its calls of the system.
    kill_after : float, optional
        Seconds after which the group is killed.
    constants : mapping, optional
        Values of constants for this run, by module and name with dots.
    seconds : float
        Time after which the run counts as one that hangs.
    look : callable, optional
        Called with the number of the process each `LOOK_SECONDS`.
    limits : mapping, optional
        Limits of the process, by the numbers of the module resource.
    """
    state = mmap.mmap(-1, _STATE_BYTES)
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if not child:
            for kind, limit in (limits or {}).items():
                resource.setrlimit(kind, (limit, limit))
            _be_command([str(part) for part in line], errors.fileno(), state, fault, constants or {})
        code = _wait(child, kill_after, seconds, look)
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    lines = [line.partition(" ") for line in state[_COUNT_BYTES:].rstrip(b"\0").decode(errors="replace").splitlines()]
    calls = tuple(text for _, _, text in sorted(lines, key=lambda line: int(line[0])))
    return Run(code, text, time.perf_counter() - start, calls)


def _be_command(
    line: list[str], errors: int, state: mmap.mmap, fault: Fault | None, constants: Mapping[str, Any]
) -> NoReturn:
    code = 1
    try:
        # A group, not a session: the priority of the session stays.
        os.setpgid(0, 0)
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        for name, value in constants.items():
            module, _, constant = name.rpartition(".")
            setattr(sys.modules[module], constant, value)
        sys.argv = ["unetbio", *line]
        from unetbio.cli.main import main

        if fault is not None:
            address = ctypes.addressof(ctypes.c_char.from_buffer(state))
            library = ctypes.CDLL(os.environ[_LIBRARY])
            root = os.fsencode(fault.root)
            library.faults_arm(
                root, ctypes.c_long(fault.number), fault.error, int(fault.reads), ctypes.c_void_p(address)
            )
        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, kill_after: float | None, seconds: float, look: Callable[[int], object] | None) -> int:
    """Exit code of a child; its group is killed after a time."""
    begin = looked = time.perf_counter()
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        now = time.perf_counter()
        if now > begin + (seconds if kill_after is None else kill_after):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            # Where it has no group yet.
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return HUNG if kill_after is None else -signal.SIGKILL
        if look is not None and now > looked + LOOK_SECONDS:
            looked = now
            look(child)
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(ended[1])


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fork, as JSON hands it over."""
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if not child:
            code = 1
            try:
                answer.write(json.dumps(function(*arguments)).encode())
                answer.flush()
                code = 0
            except BaseException as error:
                answer.write(repr(error).encode())
                answer.flush()
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        answer.seek(0)
        content = answer.read()
    if status:
        raise RuntimeError(f"{getattr(function, '__name__', function)}: {content.decode(errors='replace')}")
    return json.loads(content)
