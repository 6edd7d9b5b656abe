"""Recipes of papers: every network that has a paper trains by it, and what is stated stands above it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from click.testing import CliRunner

from unetbio import networks
from unetbio.cli.main import main
from unetbio.cli.networks import command as networks_command
from unetbio.errors import UsageError
from unetbio.models.model_file import read_info
from unetbio.networks.parameters import described
from unetbio.settings.training import TrainingConfig, load_training_config
from unetbio.training.data.augmentation import patch_coordinates, warp
from unetbio.training.recipes import with_recipe

WITH_RECIPE = [name for name in networks.names() if networks.find(name).recipe is not None]


def config_of(**stated: Any) -> TrainingConfig:
    return load_training_config(None, with_recipe({"recipe": "paper", **stated}))


@pytest.mark.parametrize("name", WITH_RECIPE)
def test_a_recipe_is_a_valid_training(name: str) -> None:
    config = config_of(network=name)
    recipe = networks.find(name).recipe
    assert recipe is not None
    assert config.recipe == "paper"
    assert config.optimizer == "sgd"
    # The parameters are those of the paper, whatever a training without a recipe would take.
    assert config.parameters == recipe.settings.get("parameters", {})
    networks.find(name).complete(config.parameters)
    assert recipe.source
    assert recipe.notes


@pytest.mark.parametrize("name", WITH_RECIPE)
def test_a_recipe_interpolates_pixels_only_where_it_moves_them(name: str) -> None:
    augmentation = config_of(network=name).augmentation
    image = np.random.default_rng(0).normal(size=(80, 80)).astype(np.float32)
    drawn = [
        warp(image, patch_coordinates(np.random.default_rng(seed), (38.3, 41.7), (32, 32), augmentation))
        for seed in range(8)
    ]
    moves = augmentation.rotate or augmentation.scale > 1 or augmentation.elastic_sigma > 0
    assert all(np.isin(patch, image).all() for patch in drawn) != moves


def test_networks_with_a_paper_have_a_recipe() -> None:
    without = set(networks.names()) - set(WITH_RECIPE)
    assert without == {"full_resolution_fcn"}
    with pytest.raises(UsageError, match="full_resolution_fcn has no paper and no recipe"):
        config_of(network="full_resolution_fcn")


def test_what_is_stated_stands_above_the_recipe() -> None:
    config = config_of(network="unet", batch_size=3, parameters={"depth": 3}, augmentation={"flip": False})
    assert (config.batch_size, config.momentum, config.patch_size) == (3, 0.99, 572)
    assert config.parameters == {"depth": 3}
    assert not config.augmentation.flip
    assert config.augmentation.elastic_sigma == 10
    assert with_recipe({"batch_size": 3}) == {"batch_size": 3}


def test_without_a_recipe_unet_is_the_small_one_and_with_it_the_papers() -> None:
    assert TrainingConfig(network="unet").parameters["base_channels"] == 16
    assert config_of(network="unet").parameters == {}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"schedule": "constant", "rate_drops": [0.5, 0.25]}, "must rise and lie between 0 and 1"),
        ({"rate_drops": [0.5]}, "rate_drops are for schedule: constant"),
        ({"recipe": "mine"}, "recipe"),
        ({"schedule": "poly", "poly_power": 0}, "poly_power"),
    ],
)
def test_schedules_that_cannot_be_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_training_config(None, settings)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Images of two cells each, and their masks."""
    folders = [tmp_path_factory.mktemp(name) for name in ("images", "masks")]
    rng = np.random.default_rng(0)
    for number in range(2):
        labels = np.zeros((40, 40), np.uint8)
        labels[5:18, 12:30], labels[22:35, 6:28] = 1, 2
        image = (rng.random((40, 40)) * 50 + 150 * (labels > 0)).astype(np.uint8)
        for folder, pixels in zip(folders, (image, labels), strict=True):
            tifffile.imwrite(folder / f"{number}.tif", pixels)
    return folders[0], folders[1]


@pytest.mark.usefixtures("quick_pictures", "quick_search")
@pytest.mark.parametrize("name", WITH_RECIPE)
def test_a_recipe_trains(name: str, data: tuple[Path, Path], tmp_path: Path) -> None:
    known = described(networks.find(name).parameters)
    small = {"width": 1 / 32, "base_channels": 2, "backbone": "resnet18"}
    parameters = {key: value for key, value in small.items() if key in known}
    geometry = networks.find(name).geometry(parameters)
    # In place of patches of several hundred pixels.
    stated = {"parameters": parameters, "patch_size": max(geometry.minimum), "batch_size": 2, "steps": 2}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(stated))
    model = tmp_path / "model.safetensors"
    arguments = [
        "train",
        *data,
        "-o",
        model,
        "--network",
        name,
        "--recipe",
        "paper",
        "--config",
        tmp_path / "settings.yaml",
    ]
    result = CliRunner().invoke(main, [*map(str, arguments), "--trust-masks"])
    assert result.exit_code == 0, result.output
    recorded = read_info(model).training["config"]
    recipe = networks.find(name).recipe
    assert recipe is not None
    assert recorded["recipe"] == "paper"
    assert recorded["learning_rate"] == recipe.settings["learning_rate"]


def test_a_network_prints_its_recipe() -> None:
    output = CliRunner().invoke(networks_command, ["unet"]).stdout
    assert "--recipe paper (arXiv 1505.04597, section 3):" in output
    assert "\n    momentum: 0.99\n" in output
    assert "unetbio train: base_channels 16, depth 3, batch_norm True, dropout 0.0, unless" in output
    (row,) = json.loads(CliRunner().invoke(networks_command, ["deeplab_v3", "--json"]).stdout)
    assert row["recipe"]["settings"]["schedule"] == "poly"
    assert row["trained_with"] == {}


def test_recipes_are_not_for_comparisons(data: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ["compare", *data, "-o", tmp_path / "out", "--networks", "unet:recipe=paper"]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 2
    assert "leave the recipe out" in result.output
