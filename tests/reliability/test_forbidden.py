"""Nothing that was read can run: what could execute a file is not used anywhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for room in ("unetbio", "cli", "pipelines", "benchmarks", "docs") for path in (ROOT / room).rglob("*.py")
)

NAMES = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
METHODS = {
    "extractall": "writes outside its folder",
    "unsafe_load": "runs what a YAML file says",
    "full_load": "runs what a YAML file says",
    "system": "runs a shell",
    "popen": "runs a shell",
    "getoutput": "runs a shell",
}
KEYWORDS = {"allow_pickle": True, "shell": True, "weights_only": False, "trust_remote_code": True}


def forbidden(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (name for name in names if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            yield from _forbidden_call(node)


def _forbidden_call(node: ast.Call) -> Iterator[str]:
    function = node.func
    owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if not owner and name in NAMES:
        yield name
    if owner and (name in METHODS or (owner, name) in {("torch", "load"), ("yaml", "load"), ("yaml", "load_all")}):
        yield f"{owner}.{name}"
    for keyword in node.keywords:
        if keyword.arg in KEYWORDS and not _is(keyword.value, not KEYWORDS[keyword.arg]):
            yield f"{name}({keyword.arg}={ast.unparse(keyword.value)})"


def _is(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_can_run_what_it_reads(path: Path) -> None:
    assert list(forbidden(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import load",
        "import joblib.numpy_pickle",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "tar.extractall(folder)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "load(path, weights_only=False)",
    ],
)
def test_the_test_finds(source: str) -> None:
    assert list(forbidden(source))


def test_what_is_harmless_passes() -> None:
    source = (
        "import re\nre.compile(x)\nmodel.eval()\nyaml.safe_load(x)\nnp.load(x, allow_pickle=False)\nrun(x, shell=False)"
    )
    assert list(forbidden(source)) == []


def test_every_file_is_opened_without_waiting() -> None:
    """Inputs are opened by `unetbio.files.open_regular`, which no pipe or device blocks."""
    found = []
    for path in SOURCES:
        # The room of files opens for all others; machine.py reads files of the system itself, below /proc and /sys.
        is_opener = path.parent == ROOT / "unetbio" / "files" or path.name == "machine.py"
        if is_opener or path.relative_to(ROOT).parts[0] in ("benchmarks", "docs"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                text = ast.unparse(node)
                is_open = isinstance(node.func, ast.Name) and node.func.id == "open" and "'w'" not in text
                is_read = isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "read_bytes")
                if (is_open or is_read) and not any(own in text for own in OWN_FILES):
                    found.append(f"{path.relative_to(ROOT)}: {text}")
    assert found == []


OWN_FILES = (
    "/proc/",
    "open(reader,",
    "open(descriptor,",
    "source.read_text",
    "source.read_bytes",
    "temporary",
    "gzip.open",
    "regular_opener",
)
"""Files of the system, pipes of this process, files of this package, files that are being written, and the opener
itself."""
