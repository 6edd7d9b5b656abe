"""Probabilities refined with the CRF on the way to masks; and exact tiles where they are dear."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

import unetbio
from unetbio import networks
from unetbio.cli.main import main
from unetbio.errors import UsageError
from unetbio.inference import prediction
from unetbio.inference.backends.torch import TorchPredictor
from unetbio.models.model_file import Model, ModelInfo, load_model
from unetbio.postprocessing.crf import PRESETS, refine
from unetbio.postprocessing.instances import label
from unetbio.provenance import read_provenance

Array = NDArray[Any]


@pytest.fixture
def image(discs: Array) -> Array:
    """Discs with noise: where the network is in doubt, the CRF decides otherwise."""
    rng = np.random.default_rng(0)
    return (discs * 0.5 + 60 + rng.normal(0, 30, discs.shape)).clip(0, 255).astype(np.uint8)


def refined_probabilities(image: Array, model: Model, preset: str) -> NDArray[np.float32]:
    normalized = (image / np.float32(200))[None].astype(np.float32)
    plain = prediction.predict(normalized, TorchPredictor(model.network))
    return refine(plain, normalized, PRESETS[preset])


def test_cells_are_decided_from_refined_probabilities(image: Array, tiny_model: Path) -> None:
    model = load_model(tiny_model)
    labels, info = unetbio.segment(image, model, device="cpu", crf="largefov")
    cell = refined_probabilities(image, model, "largefov")[1]
    settings = model.info.postprocessing
    expected = label(np.stack([cell >= threshold for threshold in settings.thresholds]), settings)
    np.testing.assert_array_equal(labels, expected)
    plain, plain_info = unetbio.segment(image, model, device="cpu")
    assert not np.array_equal(labels, plain)
    assert (info["run"]["exact"], plain_info["run"]["exact"]) == (False, True)
    assert (info["settings"]["crf"], plain_info["settings"]["crf"]) == ("largefov", None)


def test_classes_are_decided_from_refined_probabilities(image: Array, tiny_model: Path) -> None:
    tiny = load_model(tiny_model)
    update = {"target": "classes", "class_names": ("ground", "cell"), "cell_diameter_px": None}
    model = Model(tiny.info.model_copy(update=update), tiny.network, tiny.sha256, tiny.path)
    mask, _ = unetbio.segment(image, model, device="cpu", crf="deeplab_v2_vgg")
    np.testing.assert_array_equal(mask, refined_probabilities(image, model, "deeplab_v2_vgg").argmax(axis=0))


def test_refined_probabilities_are_saved_and_another_preset_is_another_result(
    image: Array, tiny_model: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image)
    out = tmp_path / "out"
    line = ["segment", str(tmp_path / "a.tif"), "-o", str(out), "-m", str(tiny_model), "--device", "cpu"]

    def run(*options: str) -> int:
        result = CliRunner().invoke(main, [*line, "--save-probabilities", *options])
        assert result.exit_code == 0, result.stderr
        return (out / "a_labels.ome.tif").stat().st_mtime_ns

    first = run("--crf", "largefov")
    saved = tifffile.imread(out / "a_probabilities.ome.tif")
    np.testing.assert_allclose(saved, refined_probabilities(image, load_model(tiny_model), "largefov"), atol=1e-5)
    provenance = read_provenance(out / "a_labels.json")
    assert provenance is not None
    assert (provenance.run["exact"], provenance.settings["crf"]) == (False, "largefov")
    assert run("--crf", "largefov") == first
    assert run("--crf", "deeplab_v2_vgg") > first


def test_the_crf_is_for_planes() -> None:
    parameters = networks.find("unet").complete({"base_channels": 1, "depth": 1, "ndim": 3})
    info = ModelInfo(name="deep", architecture="unet", parameters=parameters, channels=("0",))
    model = Model(info, networks.build("unet", parameters).eval(), "", Path("deep"))
    with pytest.raises(UsageError, match="the CRF is for planes, and model deep is 3-D: leave out --crf"):
        unetbio.segment(np.zeros((9, 9, 9), np.uint8), model, device="cpu", crf="largefov")


def test_dear_tiles_are_exact_when_asked_for() -> None:
    torch.manual_seed(0)
    parameters = networks.find("deeplab_v2").complete({"width": 0.01})
    info = ModelInfo(
        name="far",
        architecture="deeplab_v2",
        parameters=parameters,
        channels=("0",),
        class_names=("ground", "cell"),
        target="classes",
    )
    model = Model(info, networks.build("deeplab_v2", parameters).eval(), "", Path("far"))
    image = np.random.default_rng(0).integers(0, 255, (24, 40)).astype(np.uint8)
    _, windows = unetbio.segment(image, model, device="cpu")
    assert windows["run"]["exact"] is windows["settings"]["exact_tiles"] is False
    assert (windows["run"]["window"], windows["run"]["overlap"]) == ([24, 40], 0.25)
    results = [unetbio.segment(image, model, device="cpu", exact_tiles=True, tile=tile) for tile in (24, 64)]
    for _, exact in results:
        assert exact["run"]["exact"] is exact["settings"]["exact_tiles"] is True
    assert results[0][1]["run"]["tile"] == [24, 24]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert set(np.unique(results[0][0])) == {0, 1}
