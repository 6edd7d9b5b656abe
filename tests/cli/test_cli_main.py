"""The command itself: help, version, exit codes, signals."""

import errno
import importlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from unetbio.cli import main as main_module
from unetbio.cli.main import COMMANDS, main
from unetbio.errors import EnvironmentStoppedError, ImageError, UsageError


@pytest.fixture
def with_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Put a command of the test's own into the table, as ``probe``."""

    def add(function: Callable[[], object]) -> None:
        module = type(sys)("unetbio_probe")
        module.command = click.command("probe")(function)
        monkeypatch.setitem(sys.modules, "unetbio_probe", module)
        monkeypatch.setitem(COMMANDS, "probe", ("unetbio_probe", "Probe."))

    yield add
    logging.getLogger("unetbio").setLevel(logging.INFO)


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(main, ["-h"])
    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "--quiet" in result.output
    # In a raw docstring click's mark of a paragraph that is not wrapped is shown as it is.
    assert "\\b" not in result.output


def test_help_imports_no_command_and_nothing_heavy() -> None:
    program = (
        "import sys\nfrom unetbio.cli.main import main\n"
        "try: main(['--help'], prog_name='unetbio')\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'numba', 'polars', 'pydantic', 'monai', 'scipy', 'tifffile'} & set(sys.modules)\n"
        "light = {'unetbio.cli.main', 'unetbio.cli.process', 'unetbio.cli.terminal'}\n"
        "commands = [name for name in sys.modules if name.startswith('unetbio.cli.') and name not in light]\n"
        "print(sorted(heavy), commands)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] []"


def test_no_command_imports_anything_heavy_before_it_runs() -> None:
    # What `unetbio NAME -h` waits for; in one process, whose first command with a heavy import is named.
    modules = [module for module, _ in COMMANDS.values()]
    program = (
        "import sys, importlib\n"
        "heavy = {'torch', 'numba', 'polars', 'monai', 'scipy', 'skimage', 'matplotlib'}\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        "    if found := heavy & set(sys.modules): sys.exit(f'{name} imports {found}')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.output.split()[-1] == importlib.metadata.version("unetbio")


def test_python_m_unetbio_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "unetbio", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("unetbio ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no such thing"), 2),
        (ImageError("unreadable", "cannot be read"), 3),
        (EnvironmentStoppedError("disk full"), 4),
    ],
)
def test_own_errors_are_one_line_and_their_exit_code(
    with_command: Callable[..., None], error: Exception, code: int
) -> None:
    with_command(raising(error))
    result = CliRunner().invoke(main, ["probe"])
    assert result.exit_code == code
    assert result.stderr == f"unetbio: error: {error}\n"
    assert result.stdout == ""


def test_wrong_options_are_one_line_and_2() -> None:
    result = CliRunner().invoke(main, ["nonsense"])
    assert result.exit_code == 2
    assert result.stderr.splitlines() == ["unetbio: error: No such command 'nonsense'. (unetbio -h shows the commands)"]
    result = CliRunner().invoke(main, ["--nonsense"])
    assert result.stderr.splitlines() == ["unetbio: error: No such option '--nonsense'. (unetbio -h shows the options)"]


def test_no_arguments_show_the_help_and_are_2() -> None:
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_an_internal_error_is_one_line_and_a_traceback_file(with_command: Callable[..., None]) -> None:
    with_command(raising(RuntimeError("two\nlines")))
    result = CliRunner().invoke(main, ["probe"])
    assert result.exit_code == 1
    line, path = result.stderr.rstrip("\n").rsplit("traceback: ", 1)
    assert line == "unetbio: internal error: RuntimeError: two lines; "
    assert "in function" in Path(path).read_text()
    Path(path).unlink()


@pytest.mark.parametrize(
    ("number", "start", "advice"),
    [
        (errno.ENOSPC, "cannot write ", "free space or choose another output folder"),
        (errno.EMFILE, "", "raise the limit of open files"),
        (errno.EIO, "", "check the disk"),
        (errno.EISDIR, "", "look what is there, or choose another"),
    ],
)
def test_errors_of_the_system_are_one_line_and_4(
    with_command: Callable[..., None], number: int, start: str, advice: str
) -> None:
    with_command(raising(OSError(number, os.strerror(number), "some/file")))
    result = CliRunner().invoke(main, ["probe"])
    assert result.exit_code == 4
    assert result.stderr.startswith(f"unetbio: error: {start}some/file: {os.strerror(number)}; {advice}")


def test_a_traceback_that_cannot_be_written_is_said(
    with_command: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_command(raising(RuntimeError("x")))
    monkeypatch.setattr(main_module.tempfile, "NamedTemporaryFile", lambda *args, **kwargs: raising(OSError("full"))())
    result = CliRunner().invoke(main, ["probe"])
    assert result.exit_code == 1
    assert result.stderr.endswith("traceback: could not be written\n")


def test_interruption_is_130(with_command: Callable[..., None]) -> None:
    with_command(raising(KeyboardInterrupt()))
    result = CliRunner().invoke(main, ["probe"])
    assert result.exit_code == 130
    assert result.stderr == "\nunetbio: interrupted: what is finished is whole; the same command goes on from there\n"


def test_termination_unwinds_and_is_143(with_command: Callable[..., None]) -> None:
    unwound = []

    def terminate_self() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            unwound.append(True)

    with_command(terminate_self)
    before = signal.getsignal(signal.SIGTERM)
    result = CliRunner().invoke(main, ["probe"])
    assert result.exit_code == 143
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) is before


STUCK = {
    "a thread": "with ThreadPoolExecutor() as pool: pool.submit(open, sys.argv[2], 'rb')",
    "a thread that is left": "ThreadPoolExecutor().submit(open, sys.argv[2], 'rb'); time.sleep(60)",
    "the main thread": "mutex = ctypes.create_string_buffer(64); [libc.pthread_mutex_lock(mutex) for _ in range(2)]",
}


@pytest.mark.parametrize("where", STUCK)
def test_termination_ends_what_waits_for_ever(tmp_path: Path, where: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    program = f"""
import ctypes, sys, time, types
from concurrent.futures import ThreadPoolExecutor
import click
from unetbio.cli import main as module
libc = ctypes.CDLL(None)
def wait(pipe):
    print("waiting", flush=True)
    {STUCK[where]}
sys.modules["probe"] = types.SimpleNamespace(command=click.command()(click.argument("pipe")(wait)))
module.COMMANDS["probe"] = ("probe", "Probe.")
module.UNWIND_SECONDS = 0.5
module.main()
"""
    words = [sys.executable, "-c", program, "probe", str(tmp_path / "pipe")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.2)
        process.terminate()
        assert process.wait(timeout=20) == 143


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (3, 3)])
def test_a_command_returns_its_exit_code(with_command: Callable[..., None], returned: int | None, code: int) -> None:
    with_command(lambda: returned)
    assert CliRunner().invoke(main, ["probe"]).exit_code == code


@pytest.mark.parametrize(("flags", "shown"), [([], "IW"), (["-v"], "DIW"), (["-q"], "W")])
def test_verbosity(with_command: Callable[..., None], flags: list[str], shown: str) -> None:
    def talk() -> None:
        logger = logging.getLogger("unetbio.probe")
        logger.debug("D")
        logger.info("I")
        logger.warning("W")

    with_command(talk)
    result = CliRunner().invoke(main, ["probe", *flags])
    lines = {"D": "unetbio: D", "I": "unetbio: I", "W": "unetbio: warning: W"}
    assert result.stderr.splitlines() == [lines[letter] for letter in shown]


def test_a_closed_pipe_is_no_error() -> None:
    # `unetbio --help | head -0`: nobody reads.
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "unetbio", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
