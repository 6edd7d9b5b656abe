"""Snakemake rules; ``python -m unetbio.pipelines`` prints where the workflow lies, for ``snakemake --snakefile``."""

import atexit
import gc
import json
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["PROJECT", "SNAKEFILE", "end_at_once", "exit_if_images_failed", "forget_failed_check", "project_files"]

SNAKEFILE = Path(__file__).with_name("workflow.smk")
"""The workflow, to run as it is or to use as a Snakemake module."""

PROJECT = ("config/config.yaml", "config/README.md", "config/schema.json", "profiles/local", "profiles/slurm")
"""What a project of one's own holds beside its Snakefile."""

EXIT_SOME_FAILED = 3

_TIMERS_OF = "snakemake.scheduling.job_scheduler"


def project_files() -> dict[str, Path]:
    """Files of a new project, by their names in it: installed beside the rules, in a checkout beside their folder."""
    here = Path(__file__).parent
    home = here if (here / "config").is_dir() else here.parent
    files = {"Snakefile": here / "project.smk"}
    for name in PROJECT:
        path = home / name
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            files[file.relative_to(home).as_posix()] = file
    return files


def forget_failed_check(check: Path) -> None:
    """Remove what stands for a check that could not be made, so that this run makes it again.

    Parameters
    ----------
    check : pathlib.Path
        ``check.json``; that of a check that was made stays, whatever it has found. What is no JSON goes too.
    """
    try:
        found = json.loads(check.read_text(encoding="utf-8"))
    except OSError:
        return
    except ValueError:
        found = None
    if not isinstance(found, dict) or "failed" in found:
        check.unlink(missing_ok=True)


def end_at_once() -> None:
    """Let Snakemake end as soon as all is done: for ``onsuccess``.

    It limits the jobs of a second by timers that wake it, and would wait up to a second for the last of them, when
    nothing is left to be woken for. Timers of its plugins are left alone.
    """
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer) and thread.function.__module__ == _TIMERS_OF:
            thread.cancel()
    atexit.register(gc.freeze)


def exit_if_images_failed(config: Mapping[str, Any], started: float) -> None:
    """Leave Snakemake with the exit code 3 of the commands, where its own would be 1: for ``onerror``.

    Parameters
    ----------
    config : mapping
        Settings of the workflow.
    started : float
        Time of its start: the rule ``finish`` has to have failed after it, with this very code. It runs after all
        other rules of this workflow, so that none of them has failed then.

    Raises
    ------
    SystemExit
        With code 3, where images failed and all else went well.
    """
    from unetbio.workflow_config import load_config

    log = Path(load_config(config).output, "logs", "finish.log")
    if not log.is_file() or log.stat().st_mtime < started:
        return
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if lines[-1:] == [f"exit code {EXIT_SOME_FAILED}"]:
        failed = [line for line in lines if line.startswith("unetbio: error: ")]
        count = f"{len(failed)} image{'' if len(failed) == 1 else 's'}"
        print("\n".join([*failed, f"{count} failed; all else is done"]), file=sys.stderr)
        end_at_once()
        sys.exit(EXIT_SOME_FAILED)
