"""Checkpoints of a training: other runs, damage, and what was set aside."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disc_images import CONFIG, CPU, discs, trainer

from unetbio.errors import ModelError
from unetbio.models.model_file import save_model
from unetbio.settings.training import TrainingConfig
from unetbio.tensor_file import load_tensors, save_tensors
from unetbio.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("quick_search")


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    config = CONFIG.model_copy(update={"steps": 2, "validate_every": 2})
    trainer(path, config).run()
    other = TrainingConfig.model_validate({**config.model_dump(), "steps": 4, "parameters": {"base_channels": 3}})
    with pytest.raises(ModelError) as caught:
        trainer(path, other).run()
    message = str(caught.value)
    assert message.startswith(f"{path} belongs to a run with other settings or other images (")
    assert "steps 2, now 4" in message
    assert "parameters.base_channels" in message
    # Said once: the network's parameters follow from the settings.
    assert message.count("base_channels") == 1
    assert message.endswith(
        "use the same ones to go on from step 2; or start anew with --replace, which sets it aside, or --overwrite, "
        "which removes it"
    )


def test_a_checkpoint_of_other_settings_can_be_set_aside(tmp_path: Path) -> None:
    path, aside = tmp_path / "m.checkpoint.safetensors", tmp_path / "m.old.checkpoint.safetensors"
    config = CONFIG.model_copy(update={"steps": 2, "validate_every": 2})
    trainer(path, config).run()
    first = path.read_bytes()
    lines: list[str] = []
    other = CONFIG.model_copy(update={"steps": 4, "validate_every": 2})
    result = trainer(path, other, replace=True, report=lines.append).run()
    assert result.info.training["steps"] == 4
    assert lines[0] == (
        f"starting anew: {path} belongs to a run with other settings or other images (steps 2, now 4), "
        "and is m.old.checkpoint.safetensors now"
    )
    assert aside.read_bytes() == first
    # Of its own run it is gone on from.
    lines.clear()
    trainer(path, other, replace=True, report=lines.append).run()
    assert lines[0].startswith("going on from step 4")


def test_what_was_set_aside_is_never_lost_and_gone_on_from(tmp_path: Path) -> None:
    """Settings are changed and changed back: each run goes on from its own checkpoint."""
    path, aside = tmp_path / "m.checkpoint.safetensors", tmp_path / "m.old.checkpoint.safetensors"
    first, second, third = (CONFIG.model_copy(update={"steps": steps, "validate_every": steps}) for steps in (1, 2, 3))
    lines: list[str] = []

    def run(config: TrainingConfig) -> bytes:
        trainer(path, config, replace=True, report=lines.append).run()
        return path.read_bytes()

    one = run(first)
    two = run(second)
    lines.clear()
    assert run(first) == one
    assert lines[0] == (
        f"going on from step 1 ({aside}, set aside before); {path} belongs to a run with other settings or other "
        "images (steps 2, now 1; validate_every 2, now 1), and is m.old.checkpoint.safetensors now"
    )
    assert aside.read_bytes() == two
    # What is there already keeps its name; what is no checkpoint is passed over.
    aside.with_name("m.old2.checkpoint.safetensors").write_bytes(b"none")
    run(third)
    assert aside.read_bytes() == two
    assert aside.with_name("m.old2.checkpoint.safetensors").read_bytes() == b"none"
    assert aside.with_name("m.old3.checkpoint.safetensors").read_bytes() == one
    # A run that succeeded may have removed its checkpoint.
    path.unlink()
    assert run(first) == one
    assert {file.name for file in tmp_path.iterdir()} == {path.name, aside.name, "m.old2.checkpoint.safetensors"}


def test_a_checkpoint_of_other_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    config = CONFIG.model_copy(update={"steps": 2, "validate_every": 2})
    trainer(path, config).run()
    other = Trainer([discs(7), discs(8)], [discs(9)], config, device=CPU, checkpoint=path)
    with pytest.raises(ModelError, match=r"\(other training images\): use the same ones"):
        other.run()


def test_a_checkpoint_of_other_groups_is_refused_where_they_draw_patches(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    groups = CONFIG.model_copy(update={"steps": 2, "validate_every": 2, "sampling": "groups"})

    def run(config: TrainingConfig, *names: str) -> list[str]:
        lines: list[str] = []
        training = [dataclasses.replace(discs(seed), group=name) for seed, name in enumerate(names)]
        Trainer(training, [discs(9)], config, device=CPU, checkpoint=path, report=lines.append).run()
        return lines

    run(groups, "common", "rare")
    with pytest.raises(ModelError, match=r"\(other groups of training images\): use the same ones"):
        run(groups, "common", "common")
    assert run(groups, "common", "rare")[0].startswith("going on from step 2")
    # Earlier versions did not write them.
    tensors, metadata = load_tensors(path)
    progress = json.loads(metadata["progress"])
    del progress["run"]["groups"]
    save_tensors(path, tensors, {"progress": json.dumps(progress)})
    assert run(groups, "common", "rare")[0].startswith("going on from step 2")
    path.unlink()
    cells = groups.model_copy(update={"sampling": "cells"})
    run(cells, "common", "rare")
    assert run(cells, "common", "common")[0].startswith("going on from step 2")


def test_a_model_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    config = CONFIG.model_copy(update={"steps": 2, "validate_every": 2})
    result = trainer(path, config).run()
    save_model(path, result.info, result.network)
    with pytest.raises(ModelError, match="is not a checkpoint of a training run"):
        trainer(path, config).run()


def _without(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda progress: json.dumps({key: value for key, value in progress.items() if key != name})


@pytest.mark.parametrize(
    "change",
    [
        lambda progress: "{",
        lambda progress: "[" * 100_000,
        lambda progress: "[]",
        _without("step"),
        _without("history"),
        lambda progress: json.dumps({**progress, "history": {"unknown": 1}}),
        lambda progress: json.dumps({**progress, "best": 1}),
        lambda progress: json.dumps({**progress, "optimizer": {"x": {}}}),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], str]) -> None:
    path = tmp_path / "c.safetensors"
    config = CONFIG.model_copy(update={"steps": 1, "validate_every": 1})
    trainer(path, config).run()
    tensors, metadata = load_tensors(path)
    save_tensors(path, tensors, {"progress": change(json.loads(metadata["progress"]))})
    with pytest.raises(ModelError, match=r"c\.safetensors is damaged \(.*\): move it away and start again"):
        trainer(path, config).run()


def test_a_checkpoint_holds_tensors_and_json_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    trainer(path, CONFIG.model_copy(update={"steps": 2, "validate_every": 2})).run()
    tensors, metadata = load_tensors(path)
    assert json.loads(metadata["progress"])["step"] == 2
    assert any(name.startswith("optimizer.") for name in tensors)


def test_a_checkpoint_of_an_older_version_goes_on(tmp_path: Path) -> None:
    # It lacks settings that have come since; they have their defaults.
    path = tmp_path / "c.safetensors"
    config = CONFIG.model_copy(update={"steps": 2, "validate_every": 2})
    trainer(path, config).run()
    tensors, metadata = load_tensors(path)
    progress = json.loads(metadata["progress"])
    del progress["run"]["config"]["loss"]
    del progress["run"]["parameters"]["upsampling"]
    save_tensors(path, tensors, {"progress": json.dumps(progress)})
    lines: list[str] = []
    trainer(path, config, report=lines.append).run()
    assert lines[0].startswith("going on from step 2")
