"""What Python users import: complete on its page, lazy, and typed."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import tifffile

import unetbio
from unetbio.settings.keywords import SegmentOptions
from unetbio.settings.options import options_of
from unetbio.settings.segmentation import READING, Settings
from unetbio.settings.training_runs import TrainOptions, TrainRun

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "python_api.md").read_text(encoding="utf-8")
FUNCTIONS = [name for name in unetbio.__all__ if name != "__version__"]
# How numpy itself writes arrays of any shape, and scalars of any kind, in its annotations.
NUMPYS_ANY = re.compile(r"tuple\[Any, \.\.\.\]|(generic|integer|signedinteger|unsignedinteger|dtype)\[Any\]")


@pytest.fixture
def plate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, discs: np.ndarray) -> None:
    """The folder that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plate").mkdir()
    tifffile.imwrite("plate/a.tif", discs)
    tifffile.imwrite("plate/b.tif", discs[:, ::-1])
    Path("small.yaml").write_text(
        "parameters: {base_channels: 2, depth: 1}\npatch_size: 24\nbatch_size: 1\nvalidation_fraction: 0.5\n"
    )


def test_the_page_has_a_section_for_each_name() -> None:
    assert sorted(re.findall(r"^## (.+)$", PAGE.replace("\\", ""), flags=re.MULTILINE)) == sorted(unetbio.__all__)


@pytest.mark.slow
@pytest.mark.usefixtures("plate")
def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL):
        exec(compile(code, "docs/python_api.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "3 cells (64, 80) uint16" in printed
    assert "100 %" in printed
    assert "stopped" not in printed


@pytest.mark.parametrize(("typed", "kind", "named"), [(SegmentOptions, Settings, 2)])
def test_keyword_arguments_have_the_types_of_the_options(typed: type, kind: type, named: int) -> None:
    """In order; ``segment`` names two itself, the channel and the normalization."""
    hints = {option.key: option.hint for option in options_of(kind).values()}
    for name in ("channel", "normalize")[:named]:
        del hints[name]
    assert get_type_hints(typed) == hints
    assert list(get_type_hints(typed)) == list(hints)


def test_an_unknown_keyword_names_the_function(discs: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"^segment\(\) got an unexpected keyword argument 'diametre'$"):
        unetbio.segment(discs, diametre=12)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^segment\(\) got an unexpected keyword argument 'normalization'$"):
        unetbio.segment(discs, normalization="none")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^train\(\) got an unexpected keyword argument 'step'$"):
        unetbio.train("folder", "model.safetensors", step=3)  # type: ignore[call-arg]


def test_keyword_arguments_of_training_have_the_types_of_the_options() -> None:
    """Those that say how images are read stand in front."""
    options = [*(options_of(Settings)[name] for name in READING), *options_of(TrainRun).values()]
    # Training refuses the words auto and model.
    hints = {option.key: option.hint for option in options} | {"diameter": float | None}
    assert get_type_hints(TrainOptions) == hints
    assert list(get_type_hints(TrainOptions)) == list(hints)


def test_importing_unetbio_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import unetbio\n"
        "new = {name for name in set(sys.modules) - before if not name.startswith('__editable__')}\n"
        "assert {name.split('.')[0] for name in new} <= {'unetbio'} | set(sys.stdlib_module_names), new\n"
        "assert not hasattr(unetbio, 'none_such') and 'segment' in dir(unetbio)\n"
        "assert unetbio.__version__\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


OUTSIDE = """
import unetbio
import numpy as np

image = np.zeros((9, 9), np.uint8)
{functions}
labels, info = unetbio.segment(
    image, "nuclei", channel=0, device="cpu", pixel_size=0.5, threshold=0.5, cancel=lambda: False,
    progress=lambda done, total: None,
)
trained = unetbio.train("folder", "model.safetensors", config="small.yaml", root="folder", steps=3)
evaluation = unetbio.evaluate("found", "true")
opened = unetbio.read_image("x.tif")
model = unetbio.load_model("nuclei")
reveal_type(labels)
reveal_type(info["n_cells"])
reveal_type(info["frames"])
reveal_type(info["run"])
reveal_type(info["objects"])
reveal_type(trained.info)
reveal_type(evaluation.pooled())
reveal_type(evaluation.rows())
reveal_type(unetbio.measure("out").cells)
reveal_type(unetbio.check("plate").findings)
reveal_type(unetbio.weight_map(labels))
reveal_type(opened.pixel_size_um)
reveal_type(unetbio.read_labels("x.tif"))
reveal_type(model.geometry)
reveal_type(unetbio.plan_tiles((9, 9), model.geometry))
reveal_type(unetbio.__version__)
"""


@pytest.mark.slow
def test_a_type_checker_sees_no_any(tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text(OUTSIDE.format(functions="\n".join(f"reveal_type(unetbio.{name})" for name in FUNCTIONS)))
    command = ["-m", "mypy", "--strict", "--no-incremental", "--cache-dir", "/dev/null", "--follow-imports", "silent"]
    environment = {"MYPYPATH": str(_installed(tmp_path)), "PATH": ""}
    run = subprocess.run(
        [sys.executable, *command, "--config-file", str(ROOT / "pyproject.toml"), outside.name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    revealed = re.findall(r'Revealed type is "(.*)"$', run.stdout, flags=re.MULTILINE)
    assert len(revealed) == OUTSIDE.count("reveal_type") + len(FUNCTIONS)
    for text in revealed:
        assert not re.search(r"\bAny\b", NUMPYS_ANY.sub("", text)), text


def _installed(tmp_path: Path) -> Path:
    """The package as pip installs it, where mypy finds it."""
    for name in (
        "pyproject.toml",
        "setup.py",
        "README.md",
        "LICENSE",
        "config",
        "profiles",
        "unetbio",
        "cli",
        "pipelines",
    ):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / name).symlink_to(ROOT / name)
    command = ["-W", "ignore", "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "installed")]
    subprocess.run([sys.executable, *command], cwd=tmp_path / "source", check=True, capture_output=True)
    return tmp_path / "installed"
