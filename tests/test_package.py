"""What pip installs, and which module may import which."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Where the folders of a checkout lie once they are installed.
INSTALLED = {"unetbio": "unetbio", "cli": "unetbio/cli", "pipelines": "unetbio/pipelines"}
WITH_CODE = {".py", ".smk", ".html", ".typed", ".safetensors"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is needed to build, so that nothing is written into the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "config", "profiles", *INSTALLED):
        (folder / name).symlink_to(ROOT / name)
    return folder


def _run(*command: str, cwd: Path) -> str:
    run = subprocess.run(
        [sys.executable, *command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


def test_the_wheel_holds_everything(source: Path, tmp_path: Path) -> None:
    """Modules, commands, workflow, template and models; and no package but unetbio."""
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q", "-w", str(tmp_path)]
    _run("-m", "pip", "wheel", ".", *options, cwd=source)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in INSTALLED.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in WITH_CODE and "__pycache__" not in path.parts
    }
    assert expected <= names
    assert "unetbio/pipelines/environment.yaml" in names
    project = {"config/config.yaml", "config/README.md", "config/schema.json"}
    project |= {f"profiles/{name}/config.yaml" for name in ("local", "slurm")}
    assert {f"unetbio/pipelines/{name}" for name in project} <= names
    assert "unetbio/models/nuclei.safetensors" in names
    assert {name.split("/")[0] for name in names if not name.startswith("unetbio-")} == {"unetbio"}
    assert wheel.stat().st_size < 20e6


def test_a_new_folder_is_installed_without_a_list(source: Path, tmp_path: Path) -> None:
    copied = tmp_path / "source"
    shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", "*.png"))
    new = copied / "unetbio" / "networks" / "new_family"
    new.mkdir()
    (new / "__init__.py").write_text('"""A family."""\n')
    _run("-W", "ignore", "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "built"), cwd=copied)
    assert (tmp_path / "built" / "unetbio" / "networks" / "new_family" / "__init__.py").is_file()


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is installed: in the checkout cli/ is no part of it."""
    folder = tmp_path_factory.mktemp("installed")
    _run("-W", "ignore", "setup.py", "-q", "build_py", "--build-lib", str(folder), cwd=source)
    return folder


def _broken_contracts(installed: Path, config: Path = ROOT / "pyproject.toml", *options: str) -> str:
    """What import-linter says; empty where every contract is kept."""
    linter = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", linter, "--config", str(config), "--no-cache", "--no-logo", *options]
    run = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else run.stdout + run.stderr


def test_modules_import_from_the_floors_below(installed: Path) -> None:
    assert _broken_contracts(installed) == ""


def test_imports_for_annotations_keep_the_floors_too(installed: Path, tmp_path: Path) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    config = tmp_path / "pyproject.toml"
    config.write_text(text.replace("exclude_type_checking_imports = true", "exclude_type_checking_imports = false"))
    assert _broken_contracts(installed, config, "--contract", "floors", "--contract", "circles") == ""


@pytest.mark.parametrize(
    ("importer", "imported", "broken"),
    [
        ("unetbio.labels.hashing", "unetbio.results.journal", "Each floor"),
        ("unetbio.measurement.regions", "unetbio.networks.registry", "Each floor"),
        ("unetbio.errors", "unetbio.compilation", "Each floor"),
        ("unetbio.inference.tiling", "unetbio.inference.prediction", "No circles"),
        ("unetbio.training.checkpoints", "unetbio.training.trainer", "No circles"),
        ("unetbio.io.image", "unetbio.io.read", "No circles"),
        ("unetbio.results.journal", "torch", "Rooms that do without torch"),
    ],
)
def test_an_import_put_in_by_hand_is_refused(installed: Path, importer: str, imported: str, broken: str) -> None:
    """Upward, sideways, or in a circle."""
    module = installed.joinpath(*importer.split(".")).with_suffix(".py")
    before = module.read_text(encoding="utf-8")
    module.write_text(f"{before}\nimport {imported}\n", encoding="utf-8")
    try:
        assert broken in _broken_contracts(installed).partition("Broken contracts")[2]
    finally:
        module.write_text(before, encoding="utf-8")


def test_constraints_are_exact_and_fit_the_ranges() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            assert re.fullmatch(r"[\w.]+", version), line
            exact[canonicalize_name(name)] = version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(r for group in project["optional-dependencies"].values() for r in group)]
    for requirement in map(Requirement, wanted):
        if requirement.name == project["name"]:
            continue
        assert exact[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_help_is_instant() -> None:
    """Nothing heavier than click is imported for it."""
    code = (
        "import sys; from unetbio.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'monai', 'numpy', 'numba', 'polars', 'scipy', 'skimage', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert "Commands" in _run("-c", code, cwd=ROOT)
