"""Models come back from packages byte for byte, and all other packages are refused in one line."""

import struct
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from unetbio.cli.main import main
from unetbio.model_export import import_package as module
from unetbio.model_export.import_package import MODEL_IN_PACKAGE
from unetbio.models.model_file import load_model

# Ten lists of ten of the list before: written out, the last has 10 ** 10 entries.
ALIASES = "\n".join(
    ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11)), "weights: [*a10]"]
).encode()


def _package(folder: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "x.bioimageio.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _import(package: Path, output: Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["models", "import", str(package), "-o", str(output)])
    return result.exit_code, result.output


def test_the_model_comes_back(tiny_model: Path, tmp_path: Path) -> None:
    members = {"rdf.yaml": b"weights: {onnx: {}}", "model.pt": b"code", MODEL_IN_PACKAGE: tiny_model.read_bytes()}
    output = tmp_path / "new" / "mine.safetensors"
    assert _import(_package(tmp_path, members), output) == (0, f"{output}\n")
    assert output.read_bytes() == tiny_model.read_bytes()
    assert load_model(output).info == load_model(tiny_model).info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"bioimageio.yaml": b"weights: {onnx: {source: x.onnx}}"}, "holds the ONNX graph of another program"),
        (
            {"rdf.yaml": b"weights: {pytorch_state_dict: {}, torchscript: {}}"},
            "holds pytorch_state_dict, torchscript, which can be code",
        ),
        ({"archive/data.pkl": b"..."}, "holds pickled data, which can be code"),
        ({"rdf.yaml": b"weights: ["}, "holds no model"),
        ({"rdf.yaml": b"\xff\xfe\x00"}, "holds no model"),
        ({"rdf.yaml": b"[" * 100_000}, "holds no model"),
        ({"rdf.yaml": ALIASES}, "holds no model"),
        ({"other.txt": b""}, "holds no model"),
        ({MODEL_IN_PACKAGE: b"no tensors"}, f"x.bioimageio.zip: {MODEL_IN_PACKAGE} is not a model file"),
        # The length of its header is more than there are bytes.
        ({MODEL_IN_PACKAGE: struct.pack("<Q", 1 << 60)}, f"x.bioimageio.zip: {MODEL_IN_PACKAGE} is not a model file"),
    ],
)
def test_packages_that_are_refused(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    package = _package(tmp_path, members)
    code, output = _import(package, tmp_path / "mine.safetensors")
    assert (code, len(output.splitlines())) == (2, 1)
    assert message in output
    assert list(tmp_path.iterdir()) == [package]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.onnx", "is a graph without normalization, scale and thresholds"),
        ("x.pt", "can hold code, which unetbio does not load"),
        ("x.zip", "is not a package, or is damaged"),
        ("missing.zip", "cannot be read: No such file or directory"),
        ("unpacked", "is a folder: give a package of unetbio, *.bioimageio.zip, as it was exported"),
    ],
)
def test_files_that_are_no_packages(tmp_path: Path, name: str, message: str) -> None:
    if name == "unpacked":
        (tmp_path / name).mkdir()
    elif not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"no zip")
    code, output = _import(tmp_path / name, tmp_path / "mine.safetensors")
    assert (code, len(output.splitlines())) == (2, 1)
    assert message in output


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_damaged_bytes_are_found(tiny_model: Path, tmp_path: Path, compression: int) -> None:
    package = _package(tmp_path, {MODEL_IN_PACKAGE: tiny_model.read_bytes()}, compression)
    content = bytearray(package.read_bytes())
    # In the middle, and where the compressed bytes begin.
    for place in (len(content) // 2, 30 + len(MODEL_IN_PACKAGE) + 9):
        content[place] ^= 255
    package.write_bytes(content)
    code, output = _import(package, tmp_path / "mine.safetensors")
    assert code == 2
    assert "is damaged" in output
    assert list(tmp_path.iterdir()) == [package]


def test_a_model_larger_than_any_is_not_unpacked(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_MODEL_BYTES", 100)
    package = _package(tmp_path, {MODEL_IN_PACKAGE: tiny_model.read_bytes()})
    code, output = _import(package, tmp_path / "mine.safetensors")
    assert code == 2
    assert "more than the 100 of the largest models" in output


def test_nothing_is_replaced(tiny_model: Path, tmp_path: Path) -> None:
    package = _package(tmp_path, {MODEL_IN_PACKAGE: tiny_model.read_bytes()})
    (tmp_path / "mine.safetensors").write_bytes(b"mine")
    code, output = _import(package, tmp_path / "mine.safetensors")
    assert (code, "exists: give another name" in output) == (2, True)
    assert (tmp_path / "mine.safetensors").read_bytes() == b"mine"
    code, output = _import(package, tmp_path / "mine.bin")
    assert (code, "a model file ends with .safetensors" in output) == (2, True)
