"""No command needs a network or asks for one, and no model file makes one do so: traced, without interfaces."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hostile_models import write_hostile_models
from tiny_model import field_of_squares

# Commands in one process, since a start takes seconds; prints their exit codes.
PROGRAM = """
import json, sys
from unetbio.cli.main import main
codes = []
for line in json.loads(sys.stdin.read()):
    try:
        main(line)
    except SystemExit as end:
        codes.append(end.code)
print("codes", json.dumps(codes), file=sys.stderr)
"""


def is_possible() -> bool:
    try:
        line = ["unshare", "-rn", "strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=execve", "true"]
        return (
            shutil.which("strace") is not None
            and subprocess.run(line, capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not is_possible(), reason="no strace, or no network namespaces here")


def traced(lines: Sequence[Sequence[object]], log: Path) -> tuple[list[int], str]:
    """Exit codes of commands that run without a network, and their calls that ask for one or start programs."""
    trace = "trace=socket,connect,sendto,sendmsg,bind,execve"
    line = ["unshare", "-rn", "strace", "-f", "-qq", "--seccomp-bpf", "-o", str(log), "-e", trace]
    words = json.dumps([[str(word) for word in line] for line in lines])
    run = subprocess.run(
        [*line, sys.executable, "-c", PROGRAM], input=words, cwd=log.parent, capture_output=True, text=True, check=False
    )
    found = re.search(r"^codes (.*)$", run.stderr, re.MULTILINE)
    assert found, run.stderr
    return json.loads(found[1]), log.read_text()


def asked_for_a_network(calls: str) -> list[str]:
    # urllib3, which MONAI imports, looks once whether the machine knows IPv6 and sends nothing.
    allowed = re.compile(
        r"socket\(AF_INET6, SOCK_STREAM\|SOCK_CLOEXEC, IPPROTO_IP\)|bind\(.*sin6_port=htons\(0\).*\"::1\""
    )
    return [line for line in calls.splitlines() if "AF_INET" in line and not allowed.search(line)]


def programs(calls: str) -> set[str]:
    return {Path(name).name for name in re.findall(r'execve\("([^"]+)".*= 0', calls)}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "images"
    folder.mkdir()
    for name in "ab":
        tifffile.imwrite(folder / f"{name}.tif", field_of_squares(ord(name)), metadata=None)
    return folder


@pytest.mark.slow
def test_commands_ask_for_no_network(images: Path, tiny_model: Path, tmp_path: Path) -> None:
    out, drawn = tmp_path / "out", tmp_path / "drawn"
    lines = [
        ["segment", images, "-o", out, "-m", tiny_model, "--workers", 1],
        ["segment", images, "-o", out, "-m", tiny_model, "--workers", 1, "--dry-run"],
        ["measure", out],
        ["report", out],
        ["verify", out],
        ["export", out, "--to", "geojson", "-o", drawn],
        ["export", out, "--to", "imagej"],
        ["import", drawn, "--images", images, "-o", tmp_path / "masks"],
        ["evaluate", out, tmp_path / "masks"],
        ["weight-map", out / "a_labels.ome.tif", "-o", tmp_path / "weights.tif"],
        ["check", images],
        ["inspect", images],
        ["models"],
        ["networks"],
        ["suggest", images, "-m", tiny_model, "-o", tmp_path / "next.csv"],
        ["segment", "nosuch://example.org/a.tif", "-o", out],
    ]
    codes, calls = traced(lines, tmp_path / "calls")
    assert dict(zip((line[0] for line in lines[:-2]), codes, strict=False)) == {line[0]: 0 for line in lines[:-2]}
    assert codes[-1] == 2
    assert asked_for_a_network(calls) == []
    assert all(name.startswith("python") for name in programs(calls))


@pytest.mark.slow
def test_training_asks_for_no_network(tmp_path: Path) -> None:
    for name in "abc":
        field = field_of_squares(ord(name), (96, 96), count=8)
        for part, values in (("images", field), ("masks", (field > 100).astype(np.uint8))):
            (tmp_path / part).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / part / f"{name}.tif", values, metadata=None)
    line = ["train", tmp_path, "-o", tmp_path / "m.safetensors", "--steps", 1, "--split-components", "--trust-masks"]
    codes, calls = traced([line], tmp_path / "calls")
    assert codes == [0]
    assert asked_for_a_network(calls) == []


@pytest.mark.slow
def test_hostile_models_are_refused_and_start_nothing(images: Path, tiny_model: Path, tmp_path: Path) -> None:
    models = write_hostile_models(tmp_path / "models", tiny_model)
    assert len(models) >= 30
    before = sorted(tmp_path.rglob("*"))
    lines = [["segment", images, "-o", tmp_path / "out", "-m", model, "--decode-timeout", 0] for model in models]
    codes, calls = traced([*lines, ["models", tmp_path / "models"]], tmp_path / "calls")
    assert {model.name: code for model, code in zip(models, codes, strict=False) if code != 2} == {}
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "calls"])
    assert asked_for_a_network(calls) == []
    assert all(name.startswith("python") for name in programs(calls))
