"""A training that begins with weights of another: what is taken, what is said, what is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result
from disc_images import CONFIG, CPU, discs, halves
from safetensors.torch import save_file

from unetbio import networks
from unetbio.cli.main import main
from unetbio.errors import ModelError, UsageError
from unetbio.models.model_file import Model, ModelInfo, load_model, save_model
from unetbio.networks.encoders.public import load_encoder
from unetbio.postprocessing.instances import PostProcessing
from unetbio.settings.normalization import Normalization
from unetbio.settings.training import TrainingConfig
from unetbio.supervision.thresholds import DECIDING_SCORE
from unetbio.targets import of_training
from unetbio.targets.base import Validation
from unetbio.targets.cells import CellLearner
from unetbio.training.data.dataset import ranked_examples
from unetbio.training.starting import FINE_TUNING_RATE, settings_from, take_weights
from unetbio.training.thresholds import tune_from, with_training_images
from unetbio.training.trainer import Trainer

SMALL = {"width": 0.06, "in_channels": 1, "num_classes": 2}


def model_of(path: Path, network: str, parameters: dict[str, object]) -> Model:
    torch.manual_seed(1)
    complete = networks.find(network).complete(parameters)
    classes = tuple(f"class {number}" for number in range(complete["num_classes"]))
    info = ModelInfo(
        name="m",
        architecture=network,
        parameters=complete,
        channels=tuple(map(str, range(complete["in_channels"]))),
        class_names=classes,
        normalization=Normalization("range", 0.0, 4095.0),
    )
    save_model(path, info, networks.build(network, complete))
    return load_model(path)


def taken(model: Model, network: str, parameters: dict[str, object]) -> tuple[torch.nn.Module, str]:
    complete = networks.find(network).complete(parameters)
    built = networks.build(network, complete)
    return built, str(take_weights(built, network, complete, model))


@pytest.mark.parametrize(
    ("before", "after", "anew"),
    [("fcn32s", "fcn16s", "skip_scores.0"), ("fcn16s", "fcn8s", "skip_scores.1")],
)
def test_an_fcn_goes_on_from_the_coarser_one(tmp_path: Path, before: str, after: str, anew: str) -> None:
    model = model_of(tmp_path / "m.safetensors", before, SMALL)
    network, line = taken(model, after, SMALL)
    assert anew in line
    assert line.endswith("upsampling of the model not used")
    for name, tensor in model.network.state_dict().items():
        if not name.startswith("upsampling"):
            assert torch.equal(network.state_dict()[name], tensor), name


def test_a_context_module_is_added_to_a_front_end(tmp_path: Path) -> None:
    model = model_of(tmp_path / "m.safetensors", "dilated_context", {**SMALL, "context": "none"})
    _, line = taken(model, "dilated_context", {**SMALL, "context": "basic"})
    assert "context.layers.0, context.layers.1, context.layers.2, context.layers.3 and 4 more begin anew" in line
    assert "not used" not in line


def test_another_number_of_classes_begins_the_head_anew(tmp_path: Path) -> None:
    small = {"base_channels": 2, "depth": 1}
    model = model_of(tmp_path / "m.safetensors", "unet", small)
    _, line = taken(model, "unet", {**small, "num_classes": 3})
    assert line.endswith("head begin anew; head of the model not used")
    with pytest.raises(ModelError, match=r"\(base_channels 2, asked for 1; no place for .*\): leave out these param"):
        taken(model, "unet", {**small, "num_classes": 3, "base_channels": 1})


@pytest.mark.parametrize(
    ("network", "parameters", "message"),
    [
        ("unet", {"base_channels": 2, "depth": 1, "in_channels": 2}, r"\(in_channels 1, needed 2\): start from anoth"),
        ("unet", {"base_channels": 1, "depth": 1}, r"\(base_channels 2, asked for 1; no place for .*\): leave out"),
        ("unet", {"base_channels": 3, "depth": 1, "residual": True}, r"\(base_channels 2, asked for 3, residual Fal"),
        ("unet", {"base_channels": 2, "depth": 2}, r"\(depth 1, asked for 2; no place for"),
        ("fcn8s", SMALL, r"m\.safetensors is a unet, --network asks for fcn8s, and .*% of its weights fit: leave out"),
    ],
)
def test_settings_that_contradict_a_model_are_refused(
    tmp_path: Path, network: str, parameters: dict[str, object], message: str
) -> None:
    model = model_of(tmp_path / "m.safetensors", "unet", {"base_channels": 2, "depth": 1})
    complete = networks.find(network).complete(parameters)
    built = networks.build(network, complete)
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    with pytest.raises(ModelError, match=message):
        take_weights(built, network, complete, model)
    assert all(torch.equal(before[name], tensor) for name, tensor in built.state_dict().items())


@pytest.mark.parametrize(
    "parameters",
    [
        {"depth": 2, "batch_norm": True},
        {"depth": 1, "skip": "none", "upsampling": "bilinear", "dropout": 0.5},
        {"depth": 2, "ndim": 3, "doubling": "before_pooling", "in_channels": 2},
    ],
    ids=lambda parameters: " ".join(parameters),
)
def test_a_wider_u_net_computes_what_the_narrow_one_computes(tmp_path: Path, parameters: dict[str, object]) -> None:
    narrow = {"base_channels": 3, **parameters, "dropout": 0.0}
    model = model_of(tmp_path / "m.safetensors", "unet", narrow)
    network, line = taken(model, "unet", {**narrow, **parameters, "base_channels": 5})
    assert line.endswith("(100.0% of the weights); widened from 3 base channels")
    geometry = network.geometry
    image = torch.randn(1, len(model.info.channels), *geometry.input_size((4,) * geometry.ndim))
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(image), model.network.eval()(image), rtol=1e-4, atol=1e-4)


def test_repeated_channels_of_a_wider_u_net_learn_apart(tmp_path: Path) -> None:
    model = model_of(tmp_path / "m.safetensors", "unet", {"base_channels": 2, "depth": 1})
    network, _ = taken(model, "unet", {"base_channels": 4, "depth": 1})
    network(torch.randn(1, 1, 44, 44)).square().sum().backward()
    gradients = network.encoder[0][0][0].weight.grad
    assert len(torch.unique(gradients.flatten(1), dim=0)) == 4


def test_what_does_not_touch_the_weights_may_differ(tmp_path: Path) -> None:
    model = model_of(tmp_path / "m.safetensors", "unet", {"base_channels": 2, "depth": 1})
    _, line = taken(model, "unet", {"base_channels": 2, "depth": 1, "dropout": 0.3})
    assert line.endswith("(100.0% of the weights)")


def test_a_model_of_stacks_keeps_its_kernels_on_stacks_with_long_voxels(tmp_path: Path) -> None:
    model = model_of(tmp_path / "m.safetensors", "unet", {"ndim": 3, "base_channels": 2, "depth": 1})
    config = TrainingConfig(**settings_from(str(model.path), {"patch_size": 36, "batch_size": 1}))
    stack = dataclasses.replace(discs(0, ndim=3), pixel_size_um=(2.0, 0.5, 0.5))
    run = Trainer([stack], [stack], config, device=CPU, checkpoint=tmp_path / "c.safetensors")
    assert run.start_from(model).share == 1


def test_a_model_of_stacks_is_widened_on_stacks_with_equal_voxels(tmp_path: Path) -> None:
    model = model_of(tmp_path / "m.safetensors", "unet", {"ndim": 3, "base_channels": 2, "depth": 1})
    stated = {"patch_size": 36, "batch_size": 1, "parameters": {"base_channels": 3}}
    config = TrainingConfig(**settings_from(str(model.path), stated))
    stack = dataclasses.replace(discs(0, ndim=3), pixel_size_um=(0.5, 0.5, 0.5))
    run = Trainer([stack], [stack], config, device=CPU, checkpoint=tmp_path / "c.safetensors")
    assert run.start_from(model).widened_from == 2


@pytest.mark.parametrize(
    ("ndim", "start", "says"),
    [
        (
            3,
            "nuclei",
            "axes ZYX, and the model is 2-D: choose a plane with --z INDEX, max or each, or start from a 3-D",
        ),
        (2, "nuclei-3d", "axes YX, and the model is 3-D: give stacks, without --z, or start from a 2-D model"),
    ],
)
def test_images_of_other_axes_than_the_model_are_refused(tmp_path: Path, ndim: int, start: str, says: str) -> None:
    for number in range(2):
        example = discs(number, ndim)
        for folder, array in (("images", example.image[0]), ("masks", example.label_image)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", array, metadata={"axes": "ZYX"[-ndim:]})
    for command, output in (("train", "m.safetensors"), ("learn-curve", "curve")):
        arguments = [command, tmp_path, "--start", start, "-o", tmp_path / output, "--device", "cpu"]
        result = CliRunner().invoke(main, list(map(str, arguments)))
        assert result.exit_code != 0
        assert says in result.stderr, result.stderr
        assert not (tmp_path / "m.safetensors").exists()


def test_stated_settings_go_before_those_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = model_of(path, "fcn32s", SMALL)
    follow = settings_from(str(path), {})
    assert follow["network"] == "fcn32s"
    assert follow["parameters"] == model.info.parameters
    assert follow["normalization"] == model.info.normalization
    assert follow["learning_rate"] == FINE_TUNING_RATE
    stated = {
        "network": "fcn8s",
        "normalization": Normalization(),
        "learning_rate": 0.1,
        "parameters": {"dropout": 0.25},
    }
    found = settings_from(str(path), stated)
    assert found["parameters"] == {**model.info.parameters, "dropout": 0.25}
    assert {name: found[name] for name in ("network", "normalization", "learning_rate")} == {
        name: stated[name] for name in ("network", "normalization", "learning_rate")
    }


def test_cells_wider_than_those_of_the_model_are_reduced_as_in_its_training() -> None:
    assert settings_from("nuclei", {})["augmentation"] == {"largest_diameter": 60}
    stated = {"augmentation": {"gamma": 1.1}}
    assert settings_from("nuclei", stated)["augmentation"] == {"largest_diameter": 60, "gamma": 1.1}
    stated = {"augmentation": {"largest_diameter": None}}
    assert settings_from("nuclei", stated)["augmentation"] == {"largest_diameter": None}
    assert "augmentation" not in settings_from("nuclei", {"target": "instances"})


def test_as_many_classes_keep_their_names(tmp_path: Path) -> None:
    config = TrainingConfig(target="classes", parameters={"base_channels": 2, "depth": 1}, patch_size=44, batch_size=1)

    def started(config: TrainingConfig, model: Model) -> ModelInfo:
        made = Trainer([halves(0)], [halves(1)], config, device=CPU, checkpoint=tmp_path / "c.safetensors")
        made.start_from(model)
        return made.info

    model = model_of(tmp_path / "m.safetensors", "unet", {"base_channels": 2, "depth": 1, "num_classes": 3})
    names = ("ground", "bright", "dark")
    renamed = model.info.model_copy(update={"class_names": names, "target": "classes"})
    model = dataclasses.replace(model, info=renamed)
    assert started(config, model).class_names == names
    own = config.model_copy(update={"class_names": ("a", "b", "c")})
    assert started(own, model).class_names == ("a", "b", "c")
    fewer = dataclasses.replace(model, info=renamed.model_copy(update={"target": "instances"}))
    assert started(config, fewer).class_names == ("background", "class 1", "class 2")


def test_scores_have_the_names_of_the_classes_of_the_model(tmp_path: Path) -> None:
    parameters = {"base_channels": 2, "depth": 1}
    model = model_of(tmp_path / "m.safetensors", "unet", {**parameters, "num_classes": 3})
    named = {"class_names": ("ground", "bright", "dark"), "target": "classes"}
    model = dataclasses.replace(model, info=model.info.model_copy(update=named))
    config = TrainingConfig(target="classes", parameters=parameters, patch_size=44, batch_size=1, steps=1)
    trainer = Trainer([halves(0)], [halves(1)], config, device=CPU, checkpoint=tmp_path / "c.safetensors")
    trainer.start_from(model)
    info = trainer.run().info
    assert info.class_names == named["class_names"]
    assert {"IoU ground", "IoU bright", "IoU dark"} <= set(info.scores["validation"])
    assert info.training["config"]["class_names"] == []


def test_training_images_help_to_search_thresholds_where_few_cells_validate(monkeypatch: pytest.MonkeyPatch) -> None:
    held, training = [discs(9)], [discs(seed) for seed in range(4)]
    every = with_training_images(held, training, CONFIG)
    assert [example.name for example in every] == ["disc9", *(one.name for one in ranked_examples(training))]
    for enough, count in ((4, 1), (5, 2), (9, 3)):
        monkeypatch.setattr("unetbio.training.thresholds.ENOUGH_CELLS", enough)
        assert with_training_images(held, training, CONFIG) == every[:count]
    # The third would be too much.
    monkeypatch.setattr("unetbio.training.thresholds.MOST_PIXELS", 2 * 64 * 64 + 1)
    assert with_training_images(held, training, CONFIG) == every[:3]
    ignored = CONFIG.model_copy(update={"ignore_label": 4})
    monkeypatch.setattr("unetbio.training.thresholds.ENOUGH_CELLS", 4)
    assert len(with_training_images(held, training, ignored)) == 2


@pytest.mark.parametrize(("cells", "changes"), [(8, False), (400, True)])
def test_a_gain_within_the_random_error_changes_no_thresholds(cells: int, changes: bool) -> None:
    """A tenth of the cells are dim."""
    learner = of_training(TrainingConfig()).learner(TrainingConfig(), [])
    truth = np.kron(np.arange(1, cells + 1).reshape(-1, 4), np.pad(np.ones((6, 6), np.uint16), 2)).astype(np.uint16)
    dim = (truth > 0) & (truth % 10 == 3)
    probability = np.where(dim, 0.6, np.where(truth > 0, 0.95, 0.02)).astype(np.float32)
    given = PostProcessing(0.7, (0.8,))
    found = tune_from(given, learner, [np.stack([1 - probability, probability])], [truth])
    assert (found.postprocessing != given) == changes


def test_thresholds_stay_unless_others_are_clearly_better() -> None:
    learner = of_training(TrainingConfig()).learner(TrainingConfig(), [])
    truth = np.zeros((40, 40), np.uint16)
    truth[5:15, 5:15], truth[20:32, 20:32] = 1, 2
    certain = np.where(truth > 0, 0.95, 0.02).astype(np.float32)
    probabilities = [np.stack([1 - certain, certain])]
    given = PostProcessing(0.35, (0.45,), min_area=3)
    kept = tune_from(given, learner, probabilities, [truth])
    assert kept.postprocessing == given
    assert kept == learner.score(given, probabilities, [truth])
    dim = np.where(truth > 0, 0.6, 0.02).astype(np.float32)
    changed = tune_from(PostProcessing(0.7, (0.9,)), learner, [np.stack([1 - dim, dim])], [truth])
    assert isinstance(changed, Validation)
    assert changed.postprocessing.mask_threshold <= 0.6
    assert changed.scores[DECIDING_SCORE] == 1.0


def test_thresholds_stay_where_a_share_of_certain_pixels_does_as_well() -> None:
    learner = of_training(TrainingConfig()).learner(TrainingConfig(), [])
    assert isinstance(learner, CellLearner)
    truth = np.zeros((40, 80), np.uint16)
    truth[10:30, 10:30] = 1
    probability = np.where(truth > 0, 0.95, 0.02).astype(np.float32)
    probability[10:30, 50:70] = 0.85
    given = PostProcessing(0.45, (0.55,))
    changed = tune_from(given, learner, [np.stack([1 - probability, probability])], [truth])
    assert changed.postprocessing == dataclasses.replace(given, min_certain=0.05)
    assert changed.scores[DECIDING_SCORE] == 1.0


def public_vgg(path: Path, network: torch.nn.Module) -> Path:
    from unetbio.networks.encoders.vgg.network import VGG16, _encoder_tensors

    encoder = next(module for module in network.modules() if isinstance(module, VGG16))
    save_file({name: torch.rand(tensor.shape) for name, tensor in _encoder_tensors(encoder)}, path)
    return path


def test_an_encoder_takes_public_weights(tmp_path: Path) -> None:
    network = networks.build("fcn8s", SMALL)
    loaded = load_encoder(network, public_vgg(tmp_path / "vgg.safetensors", network))
    assert len(loaded) == 26
    with pytest.raises(UsageError, match=r"UNet has no VGG-16 or ResNet encoder to load .* into: choose another"):
        load_encoder(networks.build("unet", {"base_channels": 2, "depth": 1}), tmp_path / "vgg.safetensors")
    with pytest.raises(ModelError, match=r"w\.PTH is a pickled file, which can run code .*: convert it to safetensors"):
        load_encoder(network, tmp_path / "w.PTH")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(3):
        label_image = np.zeros((48, 56), np.uint16)
        label_image[5:20, 5:25], label_image[22:40, 10 + number : 30] = 1, 2
        image = (label_image > 0) * 500 + rng.normal(100, 10, label_image.shape)
        for folder, array in (("images", image.astype(np.uint16)), ("masks", label_image)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", array)
    (tmp_path / "tiny.yaml").write_text("patch_size: 32\nbatch_size: 1\nsteps: 1\nvalidate_every: 1\n")
    return tmp_path


def train(data: Path, *options: object) -> Result:
    fixed = ["train", str(data), "--config", str(data / "tiny.yaml"), "--device", "cpu"]
    return CliRunner().invoke(main, [*fixed, *(str(option) for option in options)])


def test_the_command_says_what_was_taken(data: Path) -> None:
    """From FCN-32s to FCN-16s, whose width follows from the model."""
    model_of(data / "m.safetensors", "fcn32s", SMALL)
    result = train(data, "--start", data / "m.safetensors", "--network", "fcn16s", "-o", data / "out.safetensors")
    assert result.exit_code == 0, result.output
    assert f"starting from {data / 'm.safetensors'}: took 32 of 36 tensors (9" in result.stderr
    info = load_model(data / "out.safetensors").info
    assert (info.architecture, info.parameters["width"]) == ("fcn16s", SMALL["width"])
    assert info.normalization == Normalization("range", 0.0, 4095.0)
    assert info.training["config"]["learning_rate"] == FINE_TUNING_RATE


def test_an_encoder_file_is_taken_and_belongs_to_the_run(data: Path) -> None:
    (data / "tiny.yaml").write_text(
        "patch_size: 32\nbatch_size: 1\nsteps: 1\nvalidate_every: 1\nnetwork: fcn32s\nparameters: {width: 0.06}\n"
    )
    public_vgg(data / "vgg.safetensors", networks.build("fcn32s", SMALL))
    result = train(data, "--encoder", data / "vgg.safetensors", "-o", data / "out.safetensors")
    assert result.exit_code == 0, result.output
    assert f"took 26 tensors of the encoder from {data / 'vgg.safetensors'}" in result.stderr
    again = train(data, "-o", data / "out.safetensors")
    assert again.exit_code == 2
    assert "(other weights of the encoder): use the same ones" in again.stderr
    both = train(data, "--encoder", data / "vgg.safetensors", "--start", "nuclei", "-o", data / "b.safetensors")
    assert "--start and --encoder both say with which weights the encoder begins: leave one out" in both.stderr


def test_a_model_is_never_made_worse_on_the_validation_images(data: Path) -> None:
    """It is validated before the first step, and kept with its thresholds if training does not help."""
    model = model_of(data / "m.safetensors", "unet", {"base_channels": 2, "depth": 1})
    kept = PostProcessing(0.35, (0.45,), min_area=3)
    confidence = ((0.2, 0.1), (0.9, 0.7))
    of_cells = {"class_names": ("background", "cell"), "postprocessing": kept, "confidence": confidence}
    info = model.info.model_copy(update=of_cells)
    save_model(data / "m.safetensors", info, model.network)
    (data / "tiny.yaml").write_text("patch_size: 32\nbatch_size: 1\nsteps: 2\nlearning_rate: 1.0e-12\n")
    result = train(data, "--start", data / "m.safetensors", "-o", data / "out.safetensors")
    assert result.exit_code == 0, result.output
    assert "step 0/2, 0:00:0" in result.stderr
    assert (
        "no validation was better than that of step 0: the model keeps the weights that it began with" in result.stderr
    )
    info = load_model(data / "out.safetensors").info
    assert dataclasses.asdict(info.postprocessing) == dataclasses.asdict(kept)
    assert info.confidence == confidence
