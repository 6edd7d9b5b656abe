"""Snakemake rules; ``python -m unetbio.pipelines`` prints the path of the workflow, for ``snakemake --snakefile``."""

import atexit
import gc
import json
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unetbio.errors import UsageError
from unetbio.files import read_bytes

__all__ = [
    "SNAKEFILE",
    "end_at_once",
    "explain_errors",
    "forget_failed_check",
    "refuse_no_images",
    "settings_of",
]

SNAKEFILE = Path(__file__).with_name("workflow.smk")
"""The workflow, to run as it is or to use as a Snakemake module."""

EXIT_SOME_FAILED = 3

ERRORS = ("unetbio: error: ", "unetbio: internal error: ")

_TIMERS_OF = "snakemake.scheduling.job_scheduler"


def forget_failed_check(check: Path) -> None:
    """Remove the result of a failed check, so that this run checks again.

    Parameters
    ----------
    check : pathlib.Path
        ``check.json``. The result of a complete check stays; a damaged file is removed.
    """
    try:
        found = json.loads(read_bytes(check))
    except OSError:
        return
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "failed" in found:
        check.unlink(missing_ok=True)


@contextmanager
def settings_of(files: Iterable[str | Path]) -> Iterator[None]:
    """End Snakemake with one line and no traceback if the settings are wrong.

    Parameters
    ----------
    files : iterable of path-like
        Files of the settings, which the line names.

    Raises
    ------
    SystemExit
        With the line and code 1.
    """
    try:
        yield
    except UsageError as error:
        names = ", ".join(map(str, files))
        sys.exit(f"unetbio: error: {names}: {error}" if names else f"unetbio: error: {error}")


def end_at_once() -> None:
    """Let Snakemake end as soon as all jobs are done: for ``onsuccess``.

    Snakemake limits jobs a second with timers, and would wait up to a second for the last one. Timers of its plugins
    stay.
    """
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer) and thread.function.__module__ == _TIMERS_OF:
            thread.cancel()
    atexit.register(gc.freeze)


def refuse_no_images(config: Mapping[str, Any]) -> None:
    """End Snakemake with one line where the settings name no images: for ``onstart``, as a dry run needs none.

    Raises
    ------
    SystemExit
        With code 1.
    """
    if not config.get("images") and not config.get("table"):
        line = "unetbio: error: images: none are given: name a file, a folder or a pattern in the settings"
        print(line, file=sys.stderr)
        sys.exit(1)


def explain_errors(config: Mapping[str, Any], started: float) -> None:
    """Print what failed, for ``onerror``; exit with 3, as the commands do, if only images failed.

    Snakemake would exit with 1 and show commands. The last line of the log of each failed job is printed instead.

    Parameters
    ----------
    config : mapping
        Settings of the workflow.
    started : float
        Time of its start; older logs are ignored. Only images failed if the rule ``finish``, which runs after all
        others, has ended with 3.

    Raises
    ------
    SystemExit
        With code 3, if only images failed.
    """
    from unetbio.pipelines.settings import load_config

    output = Path(load_config(config).output)
    logs = [path for pattern in ("logs/*.log", "*/logs/*.log") for path in sorted(output.glob(pattern))]
    lines = {path: _lines(path) for path in logs if path.stat().st_mtime >= started}
    finish = lines.pop(output / "logs" / "finish.log", [])
    if finish[-1:] == [f"exit code {EXIT_SOME_FAILED}"]:
        failed = [line for line in finish if line.startswith(ERRORS)]
        count = f"{len(failed)} image{'' if len(failed) == 1 else 's'}"
        print("\n".join([*failed, f"{count} failed; all else is done"]), file=sys.stderr)
        end_at_once()
        sys.exit(EXIT_SOME_FAILED)
    for path, said in lines.items():
        if said and said[-1].startswith(ERRORS):
            print(f"{path}: {said[-1]}", file=sys.stderr)


def _lines(log: Path) -> list[str]:
    return read_bytes(log).decode("utf-8", "replace").splitlines()
