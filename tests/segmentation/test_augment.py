"""Test-time augmentation and ensembles of models, from arrays and files to masks and records."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

import unetbio
from unetbio.cli.main import main
from unetbio.errors import UsageError
from unetbio.models.model_file import load_model, save_model
from unetbio.settings.normalization import Normalization

Save = Callable[..., Path]


@pytest.fixture
def image() -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:90, :110]
    discs = (rows % 30 - 15) ** 2 + (columns % 30 - 15) ** 2 <= 60
    noise = np.random.default_rng(0).integers(0, 60, (90, 110))
    return (noise + 90 * discs).astype(np.uint8)


@pytest.fixture
def save(tiny_model: Path, tmp_path: Path) -> Save:
    """Write the tiny model with another bias, so that it finds more or fewer pixels; and with other facts."""

    def saved(name: str, bias: float = -10.0, **facts: Any) -> Path:
        import torch

        model = load_model(tiny_model)
        with torch.no_grad():
            model.network.head.bias[1] = bias  # type: ignore[union-attr,operator]
        path = tmp_path / f"{name}.safetensors"
        save_model(path, model.info.model_copy(update={"name": name, **facts}), model.network)
        return path

    return saved


def test_augmented_masks_do_not_depend_on_tiles(image: NDArray[np.uint8], tiny_model: Path) -> None:
    options: dict[str, Any] = {"augment": True, "diameter": "model"}
    whole, info = unetbio.segment(image, tiny_model, device="cpu", **options)
    tiled, other = unetbio.segment(image, tiny_model, device="cpu", tile=24, **options)
    assert info["settings"]["augment"] is True
    assert info["run"]["exact"] is True
    assert other["label_hash"] == info["label_hash"]
    assert whole.max() >= 9
    np.testing.assert_array_equal(tiled, whole)
    # The tiny network looks at each pixel by itself.
    plain, before = unetbio.segment(image, tiny_model, device="cpu", diameter="model")
    np.testing.assert_array_equal(plain, whole)
    assert "augment" not in before["settings"]


def test_an_ensemble_decides_by_the_mean(image: NDArray[np.uint8], tiny_model: Path, save: Save) -> None:
    strict = save("strict", bias=-30.0)
    alone, _ = unetbio.segment(image, tiny_model, device="cpu", diameter="model")
    assert unetbio.segment(image, strict, device="cpu", diameter="model")[0].max() == 0
    both, info = unetbio.segment(image, tiny_model, device="cpu", diameter="model", ensemble=(str(strict),))
    # Half of a probability is never above the thresholds of .5 and .7.
    assert alone.max() >= 9
    assert both.max() == 0
    member = load_model(strict)
    assert info["settings"]["ensemble"] == [member.sha256]
    assert info["run"]["ensemble"] == [{"name": "strict", "sha256": member.sha256, "path": str(strict)}]
    equal, _ = unetbio.segment(
        image, tiny_model, device="cpu", diameter="model", ensemble=(str(save("equal", bias=-9.99)),)
    )
    np.testing.assert_array_equal(equal > 0, alone > 0)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"class_names": ("background", "nucleus")}, "classes"),
        ({"normalization": Normalization("range", 0.0, 100.0)}, "normalization"),
        ({"pixel_size_um": (0.2, 0.2)}, "pixel size"),
        ({"pixel_size_um": None, "channels": ("a", "b")}, "number of channels and pixel size"),
        ({"target": "classes"}, "target"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_models_of_another_kind_are_refused(
    image: NDArray[np.uint8], tiny_model: Path, facts: dict[str, Any], words: str
) -> None:
    from unetbio.segmentation import Segmenter

    model = load_model(tiny_model)
    other = dataclasses.replace(model, sha256="0", info=model.info.model_copy(update={"name": "other", **facts}))
    with pytest.raises(UsageError) as caught:
        Segmenter(model, "cpu", ensemble=[other])
    assert str(caught.value) == (
        f"--ensemble other cannot be averaged with tiny: they differ in {words}; give models of the same kind"
    )


def test_a_model_twice_is_refused(image: NDArray[np.uint8], tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="--ensemble tiny is given twice: give another model"):
        unetbio.segment(image, tiny_model, device="cpu", ensemble=(str(tiny_model),))


def run(tmp_path: Path, model: Path, *options: str) -> Result:
    line = ["segment", str(tmp_path / "a.tif"), "-o", str(tmp_path / "out"), "-m", str(model), "--diameter", "model"]
    return CliRunner().invoke(main, [*line, *options])


def recorded(tmp_path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((tmp_path / "out" / "a_labels.json").read_text())
    return record


def test_the_command_records_reuses_and_repeats(
    image: NDArray[np.uint8], tiny_model: Path, save: Save, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image)
    member = save("member", bias=-10.5)
    averaged = ("--augment", "--ensemble", str(member))
    assert run(tmp_path, tiny_model).exit_code == 0
    again = run(tmp_path, tiny_model, *averaged)
    assert again.exit_code == 0
    assert "is made again" in again.stderr
    record = recorded(tmp_path)
    assert record["settings"]["augment"] is True
    assert record["settings"]["ensemble"] == [load_model(member).sha256]
    assert run(tmp_path, tiny_model, *averaged).exit_code == 0
    assert recorded(tmp_path) == record, "what is done is kept"
    verified = CliRunner().invoke(main, ["verify", str(tmp_path / "out"), "--rerun", "1", "--device", "cpu"])
    assert verified.exit_code == 0, verified.output


def test_an_ensemble_is_of_one_model(tiny_model: Path, save: Save, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint8))
    result = run(tmp_path, tiny_model, "-m", str(save("second")), "--ensemble", str(save("third")))
    assert result.exit_code == 2
    assert "--ensemble averages with one model: give --model once" in result.stderr
