"""The command ``unetbio``: finds its subcommands by name and turns errors into exit codes.

Exit codes: 0 all done; 1 internal error (one line, traceback in a file); 2 usage, refused model or no input; 3 some
files failed, or something was found; 4 the environment stopped the run; 130 Ctrl-C; 143 terminated.
"""

import contextlib
import errno
import importlib
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from unetbio.cli.process import freeze_at_exit, respect_quota
from unetbio.cli.terminal import say
from unetbio.errors import EnvironmentStoppedError, UnetbioError
from unetbio.notes import ONCE
from unetbio.system import set_blocking

__all__ = ["COMMANDS", "main"]

# name -> (module, summary): the help of the group is printed without importing a single command.
COMMANDS: dict[str, tuple[str, str]] = {
    "segment": ("unetbio.cli.segment", "Segment images: label images, provenance, tables and a page of overlays."),
    "train": ("unetbio.cli.train", "Train a model on pairs of images and masks."),
    "calibrate": ("unetbio.cli.calibrate", "Search the thresholds of a model on annotated images."),
    "compare": ("unetbio.cli.compare", "Train networks on the same images and compare them."),
    "learn-curve": ("unetbio.cli.learn_curve", "Measure how the score grows with annotated images."),
    "suggest": ("unetbio.cli.suggest", "Suggest which images to annotate next."),
    "evaluate": ("unetbio.cli.evaluate", "Score predicted label images against the truth."),
    "weight-map": ("unetbio.cli.weight_map", "Write and draw the border-weight map of a label image."),
    "inspect": ("unetbio.cli.inspect", "Show what files hold: series, axes, type, pixel size, channels."),
    "check": ("unetbio.cli.check", "Check images before a run: readable, duplicates, names, odd ones out."),
    "measure": ("unetbio.cli.measure", "Measure the cells of a finished output folder and write its tables."),
    "relate": ("unetbio.cli.relate", "Relate nuclei to their cells, and measure the cytoplasm."),
    "track": ("unetbio.cli.track", "Follow cells over the frames of time-lapses."),
    "import": ("unetbio.cli.import_", "Turn annotations of other programs into label images."),
    "export": ("unetbio.cli.export", "Write cells and tracks for QuPath, ImageJ, COCO and others."),
    "view": ("unetbio.cli.view", "Look at the masks of an output folder in a browser, and correct them."),
    "report": ("unetbio.cli.report", "Write the offline page of a finished output folder."),
    "verify": ("unetbio.cli.verify", "Check every mask of an output folder against its provenance."),
    "sign": ("unetbio.cli.sign", "Sign all files of an output folder with an SSH key."),
    "models": ("unetbio.cli.models", "List trained models, shipped or in a folder."),
    "networks": ("unetbio.cli.networks", "List the architectures."),
    "summarize": ("unetbio.cli.summarize", "Put the summaries of several output folders into one table."),
    "new": ("unetbio.cli.new", "Make a folder with the Snakemake workflow and its settings."),
    "samples": ("unetbio.cli.samples", "Write sample images to try the tool on."),
}

# What to do about errors of the system that any call can meet; about others, if they name a file.
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free space"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
    **dict.fromkeys((errno.EAGAIN, errno.ENOMEM), "raise the limits of memory and processes (ulimit -v, ulimit -u)"),
    errno.EIO: "check the disk or choose another one",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose another, or ask for the right to use it",
}
_REMEDY = "look what is there, or choose another"

EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

UNWIND_SECONDS = 10.0
"""Longest time after SIGTERM to free locks and remove temporary files."""


class _Commands(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        for each in (command, *getattr(command, "commands", {}).values()):
            _complete(each)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run the command line and leave with the exit code of the design."""
        extra["standalone_mode"] = False
        if args is None:
            respect_quota()
        with _terminated_is_an_exception(is_process=args is None):
            sys.exit(self._exit_code(args, prog_name, extra))

    def _exit_code(self, args: Sequence[str] | None, prog_name: str | None, extra: dict[str, Any]) -> int:
        stdout = sys.stdout
        try:
            result = super().main(args, prog_name, **extra)
            # A command returns None or its exit code; --help and --version return 0.
            return result if isinstance(result, int) else 0
        except UnetbioError as error:
            _say(f"error: {error}")
            return error.exit_code
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return error.exit_code
        except click.ClickException as error:
            _say(f"error: {_one_line(error.format_message())}{_help_of(error)}")
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            _say("interrupted: what is finished is whole; the same command goes on from there")
            return EXIT_INTERRUPTED
        except SystemExit:
            # `unetbio models | head`: the reader closed the pipe; click replaces stdout by a silent one and leaves.
            if sys.stdout is not stdout:
                return 0
            raise
        except Exception as error:
            refused = _refused(error)
            if refused is not None and (refused.filename or refused.errno in _REMEDIES):
                logging.getLogger("unetbio").debug("%s", traceback.format_exc())
                _say(f"error: {_text_of(refused)}")
                return EnvironmentStoppedError.exit_code
            _say(f"internal error: {type(error).__name__}: {_one_line(error)}; traceback: {_write_traceback()}")
            return EXIT_INTERNAL


def _help_of(error: click.ClickException) -> str:
    """Which help shows what could have been given."""
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return ""
    is_command = isinstance(error.ctx.command, _Commands) and not isinstance(error, click.NoSuchOption)
    what = "commands" if is_command else "options"
    return f" ({error.ctx.command_path} -h shows the {what})"


def _refused(error: Exception) -> OSError | None:
    """The error of the system, also where a library in Rust gives it as text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    from unetbio.files import system_error

    return system_error(error)


def _text_of(error: OSError) -> str:
    """What the system refused, and what to do."""
    if error.filename and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        from unetbio.files import stopped

        return str(stopped(Path(os.fsdecode(error.filename)), error))
    file = f"{error.filename}: " if error.filename else ""
    return f"{file}{error.strerror}; {_REMEDIES.get(error.errno or 0, _REMEDY)}, then run again"


def _complete(command: click.Command) -> None:
    """Add what all commands have in common."""
    if not any(isinstance(parameter, _Verbosity) for parameter in command.params):
        command.params.extend([_Verbosity(["-v", "--verbose"], 1), _Verbosity(["-q", "--quiet"], -1)])


class _Verbosity(click.Option):
    """``-v`` or ``-q``: added to every command, so that none can forget them."""

    def __init__(self, names: list[str], change: int) -> None:
        text = "Say more on stderr." if change > 0 else "Say nothing on stderr but warnings and errors."
        super().__init__(names, is_flag=True, expose_value=False, help=text, callback=self._set)
        self.change = change

    def _set(self, ctx: click.Context, parameter: click.Parameter, given: bool) -> None:
        if given:
            logging.getLogger("unetbio").setLevel(logging.DEBUG if self.change > 0 else logging.WARNING)


class _StderrHandler(logging.Handler):
    """Writes to the current stderr; warnings and errors carry their level, and a note is written once."""

    def __init__(self) -> None:
        super().__init__()
        self._notes: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = prefix + record.getMessage()
        if hasattr(record, ONCE):
            if text in self._notes:
                return
            self._notes.add(text)
        # Tracebacks of -v have many lines; messages have one, and line ends in them come from names.
        for line in text.split("\n") if record.levelno < logging.INFO else [text]:
            _say(line)


@contextlib.contextmanager
def _terminated_is_an_exception(*, is_process: bool) -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that locks are freed and temporary files removed; end the process if that hangs.

    A thread that waits for the system, such as for a file on a lost server, blocks the signal (main thread) or the end
    of the process (any other). So the signal is also written to a pipe, which a separate thread reads.
    """

    def leave(signal_number: int, frame: object) -> NoReturn:
        sys.exit(EXIT_TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:
        # Not in the main thread: the program that runs the command there handles signals.
        yield
        return
    reader, writer = os.pipe()
    set_blocking(writer, False)
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    ended = threading.Event()
    # Where no thread can be started, a command either needs none or says so.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=_end_late, args=[reader, ended], daemon=True).start()
    try:
        yield
    finally:
        # The end of the process waits for threads, so the watch goes on; a calling program needs it no longer.
        if not is_process:
            ended.set()
        signal.set_wakeup_fd(earlier)
        os.close(writer)
        signal.signal(signal.SIGTERM, before)


def _end_late(reader: int, ended: threading.Event) -> None:
    """End the process `UNWIND_SECONDS` after SIGTERM, finished or not: the next run removes temporary files."""
    with open(reader, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] == signal.SIGTERM and not ended.wait(UNWIND_SECONDS):
                os._exit(EXIT_TERMINATED)


def _say(message: str) -> None:
    say(f"unetbio: {message}", err=True)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _write_traceback() -> str:
    try:
        with tempfile.NamedTemporaryFile("w", prefix="unetbio-traceback-", suffix=".txt", delete=False) as file:
            file.write(traceback.format_exc())
            return file.name
    except OSError:
        return "could not be written"


@click.group(
    "unetbio",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 all done, 1 internal error, 2 usage, 3 some files failed, 4 disk or folder stopped the run.",
)
@click.version_option(package_name="unetbio", message="%(prog)s %(version)s")
def main() -> None:
    """From raw microscopy images to masks you can check."""
    freeze_at_exit()
    logger = logging.getLogger("unetbio")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [_StderrHandler()]
