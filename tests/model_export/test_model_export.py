"""Exported networks compute what PyTorch computes, and packages pass the test of bioimageio.core."""

import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from tiny_model import write_tiny_model

from unetbio import networks
from unetbio.cli.main import main
from unetbio.errors import UsageError
from unetbio.model_export.graphs import need_packages, onnx_graph, probability_network, torchscript_graph
from unetbio.model_export.import_package import import_package
from unetbio.models import model_path
from unetbio.models.model_file import Model, ModelInfo, load_model, save_model
from unetbio.settings.normalization import Normalization

SMALL_3D = {"ndim": 3, "base_channels": 2, "depth": 1, "dropout": 0.0}
PADDED = {"base_channels": 2, "depth": 2, "padding": "same", "dropout": 0.0, "num_classes": 4}


@pytest.fixture
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model)


def _random_model(folder: Path, parameters: dict[str, object]) -> Model:
    complete = networks.find("unet").complete(parameters)
    torch.manual_seed(0)
    classes = ("background", "boundary", "inside", "centre")[: complete["num_classes"]]
    info = ModelInfo(name="small", architecture="unet", parameters=complete, channels=("",), class_names=classes)
    save_model(folder / "small.safetensors", info, networks.build("unet", complete))
    return load_model(folder / "small.safetensors")


def _images(model: Model) -> list[torch.Tensor]:
    """Five inputs of legal sizes, with different lengths along each axis."""
    steps = list(zip(model.geometry.minimum, model.geometry.stride, strict=True))
    sizes = [[least + (number + axis) * stride for axis, (least, stride) in enumerate(steps)] for number in range(1, 6)]
    return [
        torch.rand((1, len(model.info.channels), *size), generator=torch.Generator().manual_seed(0)) for size in sizes
    ]


def _differences(model: Model, run: object) -> list[float]:
    network = probability_network(model)
    with torch.inference_mode():
        return [float((torch.as_tensor(run(image)) - network(image)).abs().max()) for image in _images(model)]  # type: ignore[operator]


@pytest.mark.parametrize("parameters", [{"base_channels": 2, "depth": 2, "dropout": 0.0}, PADDED, SMALL_3D])
def test_onnx_agrees_with_torch_at_five_sizes(tmp_path: Path, parameters: dict[str, object]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    model = _random_model(tmp_path, parameters)
    session = onnxruntime.InferenceSession(onnx_graph(model), providers=["CPUExecutionProvider"])
    assert max(_differences(model, lambda image: session.run(["probabilities"], {"image": image.numpy()})[0])) <= 1e-5


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_agrees_with_torch_at_five_sizes(tmp_path: Path) -> None:
    model = _random_model(tmp_path, PADDED)
    loaded = torch.jit.load(io.BytesIO(torchscript_graph(model)))
    assert max(_differences(model, loaded)) <= 1e-5


def test_probabilities_add_up(model: Model) -> None:
    with torch.inference_mode():
        sums = probability_network(model)(_images(model)[0]).sum(dim=1)
    assert torch.allclose(sums, torch.ones_like(sums))


def test_networks_that_find_objects_are_refused(model: Model) -> None:
    finds = replace(model, info=model.info.model_copy(update={"architecture": "mask_rcnn"}))
    with pytest.raises(UsageError, match=r"model tiny finds objects \(mask_rcnn\) and cannot be exported"):
        probability_network(finds)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(UsageError, match=r'needs no_such_package.*pip install "unetbio\[export\]"'):
        need_packages("no_such_package")


def _export(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["models", "export", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_command_writes_the_file(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "tiny.pt"
    assert _export(tiny_model, "--to", "torchscript", "-o", path) == (0, f"{path}\n")
    assert torch.jit.load(path)(torch.zeros(1, 1, 40, 36)).shape[:2] == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "bioimageio"], "a package of model tiny needs authors: give --author NAME"),
        (["--to", "bioimageio", "--author", "A", "--licence", "bsd 3-clause"], "model tiny cannot be described"),
        (["--to", "onnx", "--author", "A"], "--author and --licence are for packages and publications"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_one_line(tiny_model: Path, tmp_path: Path, options: list[str], message: str) -> None:
    pytest.importorskip("bioimageio.core", reason="the extra export is not installed")
    code, output = _export(tiny_model, "-o", tmp_path / "x.zip", *options)
    assert (code, len(output.splitlines())) == (2, 1)
    assert message in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["bioimageio", "onnx", "torchscript"])
def test_files_that_exist_are_kept(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(tiny_model.read_bytes())
    author = ["--author", "A"] if kind == "bioimageio" else []
    code, output = _export(mine, "--to", kind, "-o", mine, *author)
    assert code == 2
    assert f"{mine} exists: give another name with -o" in output
    assert mine.read_bytes() == tiny_model.read_bytes()


CHECK = """
import sys
from bioimageio.core import load_model_description, test_model
for weights in ("onnx", "torchscript"):
    summary = test_model(sys.argv[1], weight_format=weights)
    assert summary.status == "passed", summary.format()
model = load_model_description(sys.argv[1])
(image,), (probabilities,) = model.inputs, model.outputs
print([(axis.size.min, axis.size.step) for axis in image.axes[2:]])
print([axis.size.offset for axis in probabilities.axes[2:]])
print(model.license, len(model.covers), [author.name for author in model.authors])
"""


@pytest.mark.slow
def test_packages_of_colour_models_scale_pictures_as_segment_does(tmp_path: Path) -> None:
    pytest.importorskip("bioimageio.core", reason="the extra export is not installed")
    model, path = tmp_path / "tissue.safetensors", tmp_path / "tissue.zip"
    write_tiny_model(model, ("red", "green", "blue"), Normalization("percentile", 1.0, 99.8))
    command = [sys.executable, "-m", "unetbio", "models", "export", model, "--to", "bioimageio", "--author", "A"]
    export = subprocess.run([*command, "-o", path], capture_output=True, text=True, check=False)
    assert (export.returncode, export.stdout) == (0, f"{path}\n"), export.stderr
    with zipfile.ZipFile(path) as package:
        description = yaml.safe_load(package.read("rdf.yaml"))
    steps = {step["id"]: step["kwargs"] for step in description["inputs"][0]["preprocessing"]}
    assert set(steps) == {"ensure_dtype", "scale_linear"}
    assert (steps["scale_linear"]["gain"], steps["scale_linear"]["offset"]) == (1 / 255, 0)
    # The test image and its probabilities agree with that.
    check = subprocess.run([sys.executable, "-c", CHECK, path], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr


@pytest.mark.slow
def test_the_package_passes_the_test_of_bioimageio(tmp_path: Path) -> None:
    pytest.importorskip("bioimageio.core", reason="the extra export is not installed")
    path = tmp_path / "nuclei.zip"
    # In processes of their own: warnings of bioimageio's packages, such as of unclosed files, are no errors of ours.
    command = [sys.executable, "-m", "unetbio", "models", "export", "nuclei", "--to", "bioimageio", "-o", path]
    export = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (export.returncode, export.stdout) == (0, f"{path}\n"), export.stderr
    check = subprocess.run([sys.executable, "-c", CHECK, path], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr
    sizes, offsets, rest = check.stdout.splitlines()[-3:]
    assert sizes == "[(92, 8), (92, 8)]"
    assert offsets == "[-88, -88]"
    assert rest == "CC-BY-4.0 1 ['The unetbio developers']"
    back = import_package(path, tmp_path / "back.safetensors")
    assert back.read_bytes() == model_path("nuclei").read_bytes()
