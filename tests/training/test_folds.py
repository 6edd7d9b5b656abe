"""Validation in folds: which image is judged by which network, and a model that learned from all images."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disc_images import CONFIG, CPU, discs

from unetbio.errors import UsageError
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig, load_training_config
from unetbio.settings.training_runs import TrainRun
from unetbio.training.data.dataset import Example, fold_examples
from unetbio.training.data.pairs import AnnotatedFiles, AnnotatedPair
from unetbio.training.folds import check_folds, choose_folds, fold_checkpoints, judge_in_folds, last_share
from unetbio.training.trainer import Trainer

FOLDED = CONFIG.model_copy(update={"folds": 2, "steps": 20, "validate_every": 5})

pytestmark = pytest.mark.usefixtures("quick_search")


def names(examples: Sequence[Example]) -> set[str]:
    return {example.name for example in examples}


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_each_image_validates_once_and_never_trains_in_its_fold(folds: int) -> None:
    examples = [discs(seed) for seed in range(5)]
    parts = fold_examples(examples, folds)
    assert len(parts) == folds
    held = [name for _, validation in parts for name in names(validation)]
    assert sorted(held) == sorted(names(examples))
    for training, validation in parts:
        assert names(training) == names(examples) - names(validation) != set()
    again = fold_examples(examples[::-1], folds)
    assert [names(validation) for _, validation in again] == [names(validation) for _, validation in parts]


def test_frames_of_one_file_stay_together_unless_there_is_one_file() -> None:
    first, other = discs(0), discs(1)
    for training, validation in fold_examples([first, first, other, other], 2):
        assert len(names(training)) == len(names(validation)) == 1
    assert [len(validation) for _, validation in fold_examples([first] * 5, 2)] == [3, 2]


def test_more_folds_than_images_are_refused() -> None:
    with pytest.raises(UsageError, match="folds: 3 need as many annotated images, and there are 2"):
        fold_examples([discs(0), discs(1), discs(1)], 3)


def make_trainer(
    training: Sequence[Example],
    validation: Sequence[Example],
    config: TrainingConfig,
    checkpoint: Path,
    minutes: float | None,
    name: str = "",
) -> Trainer:
    return Trainer(training, validation, config, device=CPU, checkpoint=checkpoint, minutes=minutes, keeps_last=True)


def test_the_model_learns_from_all_images_and_has_the_thresholds_of_the_folds(tmp_path: Path) -> None:
    examples = [discs(seed) for seed in range(4)]
    path = tmp_path / "m.checkpoint.safetensors"
    seen: list[tuple[str, set[str], set[str], int, float | None]] = []

    def make(training: Sequence[Example], validation: Sequence[Example], config: TrainingConfig, *rest: Any) -> Trainer:
        seen.append((rest[2], names(training), names(validation), config.steps, rest[1]))
        return make_trainer(training, validation, config, *rest)

    judged = judge_in_folds(fold_examples(examples, 2), FOLDED, path, None, make)
    assert not judged.keeps_start
    assert [each[0] for each in seen] == ["fold 1 of 2", "fold 2 of 2"]
    assert seen[0][1] == seen[1][2]
    assert seen[0][2] == seen[1][1]
    assert [each[3:] for each in seen] == [(10, None)] * 2
    assert all(checkpoint.exists() for checkpoint in fold_checkpoints(path, 2))

    last = make_trainer(examples, [], FOLDED, path, None)
    last.judged = judged.found
    result = last.run()
    assert result.info.training["images"] == result.info.training["validation_images"] == 4
    assert result.info.postprocessing == judged.found.postprocessing
    assert result.info.scores["validation"] == judged.found.scores
    assert result.history.validation_steps == [20]
    for name, tensor in last.network.state_dict().items():
        assert torch.equal(tensor, result.network.state_dict()[name]), name


def test_minutes_are_divided_between_the_folds_and_the_last_network(tmp_path: Path) -> None:
    given: list[float | None] = []

    def make(*arguments: Any) -> Trainer:
        given.append(arguments[4])
        return make_trainer(*arguments[:4], None)

    quick = FOLDED.model_copy(update={"steps": 4})
    judge_in_folds(fold_examples([discs(0), discs(1)], 2), quick, tmp_path / "m.checkpoint.safetensors", 10.0, make)
    assert sum(minutes or 0 for minutes in given) + 10 * last_share(quick) == pytest.approx(10)
    assert last_share(CONFIG) == 1


def test_the_last_network_is_kept_whatever_its_scores(tmp_path: Path) -> None:
    """Folds are judged by networks of their last steps, so the model is one of its last step too."""
    config = CONFIG.model_copy(update={"steps": 40, "validate_every": 5, "patience": 1})
    path = tmp_path / "m.checkpoint.safetensors"
    trainer = make_trainer([discs(0)], [discs(1)], config, path, None)
    result = trainer.run()
    assert result.history.validation_steps == [40]
    again = make_trainer([discs(0)], [discs(1)], config, path, None)
    again.take_up()
    assert again.is_complete
    for name, tensor in trainer.network.state_dict().items():
        assert torch.equal(tensor, result.network.state_dict()[name]), name


def test_frames_that_are_judged_together_are_neighbours() -> None:
    frames = [dataclasses.replace(discs(seed), name="series.tif") for seed in range(7)]
    numbers = {id(frame): number for number, frame in enumerate(frames)}
    for _, validation in fold_examples(frames, 3):
        held = [numbers[id(frame)] for frame in validation]
        assert held == list(range(held[0], held[-1] + 1))


def test_a_fold_without_a_cell_to_train_on_is_refused() -> None:
    empty = [dataclasses.replace(discs(seed), label_image=np.zeros_like(discs(seed).label_image)) for seed in (1, 2)]
    with pytest.raises(UsageError, match="no image to train on has a cell: give --folds 0"):
        fold_examples([discs(0), *empty], 3)


@pytest.mark.parametrize(
    ("settings", "validation", "message"),
    [
        ({}, 1, "folds: 2 and named validation images are given: leave one of them out"),
        ({"target": "classes"}, 0, "folds: 2 are for networks that classify pixels of cells, and this is unet"),
        (
            {"restarts": (3,)},
            0,
            r"folds: 2 and restarts \[3\] are given, and the networks of the folds take fewer steps",
        ),
        ({"network": "mask_rcnn"}, 0, "this is mask_rcnn with target instances: leave folds out"),
    ],
)
def test_folds_without_a_meaning_are_refused(settings: dict[str, str], validation: int, message: str) -> None:
    pairs = [AnnotatedPair(Path("a.tif"), Path("b.tif"))]
    config = load_training_config(None, {"folds": 2, **settings})
    with pytest.raises(UsageError, match=message):
        check_folds(config, AnnotatedFiles(pairs, pairs[:validation]))
    check_folds(load_training_config(None, settings), AnnotatedFiles(pairs, pairs))


def test_folds_are_chosen_where_few_files_are_learned_from_for_long() -> None:
    config = load_training_config(None, {})
    pairs = [AnnotatedPair(Path(f"{number}.tif"), Path(f"{number}_mask.tif")) for number in range(12)]

    def chosen(count: int, minutes: float | None = 10.0, stated: Sequence[str] = (), **settings: Any) -> int:
        files = AnnotatedFiles(pairs[:count])
        return choose_folds(config.model_copy(update=settings), stated, files, TrainRun(minutes=minutes), None).folds

    assert [chosen(count) for count in (1, 2, 3, 10, 11)] == [0, 2, 3, 3, 0]
    assert [chosen(5, minutes) for minutes in (None, 4.9, 5.0)] == [3, 0, 3]
    assert [chosen(5, minutes, stated=["steps"]) for minutes in (None, 5.0)] == [0, 3]
    assert [chosen(5, stated=[name]) for name in ("folds", "validation_fraction", "patience", "recipe")] == [0] * 4
    assert chosen(5, network="fcn8s") == chosen(5, target="classes") == 0
    run = TrainRun(minutes=10.0)
    # A run goes on as it began, also one of a version that knew no folds.
    for earlier, folds in (({}, 0), ({"folds": 0}, 0), ({"folds": 3}, 3)):
        assert choose_folds(config, (), AnnotatedFiles(pairs[:5]), run, earlier).folds == folds
    # Folds that were chosen stay with few minutes and with stated steps.
    earlier = {"folds": 3, "steps": config.steps}
    for stated, minutes in (((), 4.5), (("steps",), None)):
        later = TrainRun(minutes=minutes)
        assert choose_folds(config, stated, AnnotatedFiles(pairs[:5]), later, earlier).folds == 3
    # Other steps begin anew, as without a checkpoint.
    other = config.model_copy(update={"steps": config.steps + 1})
    anew = [choose_folds(other, ("steps",), AnnotatedFiles(pairs[:5]), TrainRun(), at).folds for at in (earlier, None)]
    assert anew == [0, 0]
    assert choose_folds(config, (), AnnotatedFiles(pairs[:5], pairs[5:6]), run, {"folds": 3}).folds == 0
    assert choose_folds(config, (), AnnotatedFiles(pairs[:2]), run, {"folds": 3}).folds == 2


@pytest.mark.parametrize(
    ("files", "sections", "folds"), [(2, 4, 2), (2, 12, 2), (3, 1, 3), (3, 20, 3), (11, 2, 0), (1, 2, 2), (1, 8, 3)]
)
def test_folds_are_chosen_by_files_and_not_by_their_annotated_sections(files: int, sections: int, folds: int) -> None:
    """Sections of a file stay in one fold, unless there is one file alone."""
    names = [f"{file}.tif" for file in range(files) for _ in range(sections)]
    pairs = [
        AnnotatedPair(Path(name), Path(f"man_seg_000_{number:03}.tif"), Settings(z=number))
        for number, name in enumerate(names)
    ]
    config = load_training_config(None, {})
    chosen = choose_folds(config, (), AnnotatedFiles(pairs), TrainRun(minutes=10.0), None).folds
    assert chosen == folds
    if folds:
        examples = [dataclasses.replace(discs(number % 5), name=name) for number, name in enumerate(names)]
        assert all(training and validation for training, validation in fold_examples(examples, folds))


def test_one_fold_is_refused() -> None:
    with pytest.raises(UsageError, match="folds: 1 leaves no image to train on: give 0, or 2 to 5"):
        check_folds(load_training_config(None, {"folds": 1}), AnnotatedFiles([]))
