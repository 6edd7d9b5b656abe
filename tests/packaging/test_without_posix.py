"""Systems without POSIX, such as Windows: every module is imported and every command runs without its modules."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from skimage.measure import label

from unetbio.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
POSIX_MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty")
# `unetbio.io.decoding` starts it on Linux alone; other systems decode in their own process.
LINUX_ALONE = "unetbio.io.decoder"
# Third-party packages have their own ways; they are imported before the system loses its modules and functions.
PROGRAM = f"""
import importlib, os, pkgutil, signal, sys, threading, urllib.request
for name in ("click", "jinja2", "matplotlib.pyplot", "monai.losses", "numba", "polars", "pydantic", "scipy.ndimage",
             "bioimageio.core", "cryptography.hazmat.primitives.serialization.ssh", "laptrack", "onnxruntime",
             "snakemake.api", "skimage.measure", "tifffile", "torch._dynamo", "zarr"):
    importlib.import_module(name)
for name in {POSIX_MODULES}:
    sys.modules[name] = None
for name in ("O_CLOEXEC", "O_NONBLOCK", "fork", "getuid", "killpg", "mkfifo", "posix_fallocate", "pread", "pwrite",
             "sched_getaffinity", "statvfs", "sysconf"):
    delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "pthread_sigmask", "setitimer"):
    delattr(signal, name)
import unetbio
for module in pkgutil.walk_packages(unetbio.__path__, "unetbio."):
    if not module.name.endswith("__main__") and module.name != "{LINUX_ALONE}":
        importlib.import_module(module.name)
unetbio.io.decoding.PLATFORMS = ()
# Answers one request, as of a browser, and then stops as after Ctrl-C.
def serve(viewer):
    viewer.timeout = 0.1
    browser = threading.Thread(target=lambda: urllib.request.urlopen(viewer.address, timeout=60).read())
    browser.start()
    while browser.is_alive():
        viewer.handle_request()
    raise KeyboardInterrupt
unetbio.viewer.server.Viewer.serve_forever = serve
from unetbio.cli.main import main
for line in sys.stdin.read().splitlines():
    code = 0
    try:
        main(line.split())
    except SystemExit as end:
        code = end.code
    if code:
        sys.exit(f"unetbio {{line}} ended with {{code}}")
"""
RUNS = """
inspect images
check images --no-model
weight-map masks/cells0.tif -o weights.tif
segment images -o results --device cpu --workers 2
segment images -o results --device cpu --part 1/1
measure results
report results
verify results
export results --to geojson
summarize results
evaluate results masks
models
networks unet
new project --images images
train images masks -o model.safetensors --config training.yaml --device cpu
models export model.safetensors --to torchscript
calibrate model.safetensors images masks -o calibrated.safetensors
suggest images --number 1
import masks --images images -o imported
segment images -o other -m model.safetensors --device cpu
relate results other -o related
segment movies -o lapse --device cpu
track lapse
learn-curve images masks -o curve --config training.yaml --device cpu
compare images masks --networks unet -o compared --config training.yaml --device cpu
samples samples
view results
sign results --key key
"""
TRAINING = """
network: unet
parameters: {base_channels: 2, depth: 1}
steps: 1
patch_size: 32
"""


def test_no_module_imports_a_posix_module_unguarded() -> None:
    """At its top level, outside `try`."""
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("unetbio", "cli", "pipelines")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != ROOT.joinpath(*LINUX_ALONE.split(".")).with_suffix(".py")
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        for name in _imported(statement)
        if name.partition(".")[0] in POSIX_MODULES
    ]
    assert found == []


def _imported(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.ImportFrom):
        return [statement.module or ""]
    return [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else []


@pytest.mark.slow
def test_everything_runs_without_posix_modules(tmp_path: Path, discs: np.ndarray) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(4):
        tifffile.imwrite(tmp_path / "images" / f"cells{number}.tif", discs + np.uint8(number))
        tifffile.imwrite(tmp_path / "masks" / f"cells{number}.tif", label(discs > 100).astype(np.uint16))
    (tmp_path / "movies").mkdir()
    tifffile.imwrite(tmp_path / "movies" / "a.ome.tif", np.stack([discs, discs]), metadata={"axes": "TYX"})
    (tmp_path / "training.yaml").write_text(TRAINING, encoding="utf-8")
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=RUNS.strip(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert {line.split()[0] for line in RUNS.strip().split("\n")} == set(COMMANDS)
