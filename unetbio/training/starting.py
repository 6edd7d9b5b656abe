"""Begin a training with weights of another: which settings come with them, and which tensors fit."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from unetbio import networks, targets
from unetbio.errors import ImageError, ModelError
from unetbio.models.model_file import Model, ModelInfo, read_info
from unetbio.networks.unet.spec import UNetParameters
from unetbio.training.data.dataset import Example, fingerprint, ranked_examples, split_examples

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unetbio.networks.unet.network import UNet

__all__ = [
    "FINE_TUNING_RATE",
    "FROM_MODEL",
    "Taken",
    "check_axes",
    "check_start",
    "learned_images",
    "recorded_config",
    "settings_from",
    "take_weights",
    "trained_largest_diameter",
    "wrong_axes",
]

FINE_TUNING_RATE = 5e-4
"""Largest learning rate unless given: a quarter of that of a training from random weights."""

FROM_MODEL = ("target", "parameters")
"""Settings that the model to start from decides, and the images do not."""

BORDER = ("border_weight", "border_sigma")

LEAST_TAKEN = 0.1
"""Share of the weights of a network that have to come from a model of another network."""

SHOWN = 4


def settings_from(start: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a training that starts from a model: the stated ones, and those that follow from the model.

    Parameters
    ----------
    start : str
        Name or file of the model.
    stated : mapping
        Settings that a file or an option states.

    Returns
    -------
    dict
        Network, target, classes of cells, border weights, largest diameter of cells and normalization of the model
        unless stated; its parameters, as far as the network has them, under the stated ones; `FINE_TUNING_RATE` unless
        a learning rate is stated.
    """
    info = read_info(start)
    network = stated.get("network", info.architecture)
    known = networks.find(network).defaults
    parameters = {name: value for name, value in info.network_parameters().items() if name in known}
    follow = {
        "network": network,
        "target": info.target,
        "normalization": info.normalization,
        "learning_rate": FINE_TUNING_RATE,
    }
    if stated.get("target", info.target) == info.target:
        follow |= _of_target(info)
    nested = {"parameters": {**parameters, **stated.get("parameters", {})}}
    if "augmentation" in follow and isinstance(stated.get("augmentation", {}), Mapping):
        nested["augmentation"] = {**follow["augmentation"], **stated.get("augmentation", {})}
    return {**follow, **stated, **nested}


def _of_target(info: ModelInfo) -> dict[str, Any]:
    """Settings of the model's training that say how it saw what it learned."""
    recorded = recorded_config(info)
    follow = {name: recorded[name] for name in BORDER if isinstance(recorded.get(name), float)}
    target = targets.of_model(info)
    if target.has_cell_classes:
        follow["class_names"] = info.class_names
    largest = trained_largest_diameter(info)
    if target.masks == "instances" and largest is not None:
        follow["augmentation"] = {"largest_diameter": largest}
    return follow


def recorded_config(info: ModelInfo) -> Mapping[str, Any]:
    """Settings of the training of a model, as its file has them; none where it does not say."""
    recorded = info.training.get("config")
    return recorded if isinstance(recorded, Mapping) else {}


def learned_images(start: str, training: Sequence[Example], held: Sequence[Example]) -> Sequence[Example]:
    """Images from which a model is known to have learned: all of these, a part as given, or what a split trains on.

    A model file has one hash of all images of its training, so that none is known where others were among them.
    """
    info = read_info(start)
    ranked = ranked_examples([*training, *held])
    parts = [ranked, training, held]
    fraction = recorded_config(info).get("validation_fraction")
    if isinstance(fraction, float) and len(ranked) > 1:
        parts.append(split_examples(ranked, fraction)[0])
    count, digest = info.training.get("images"), info.training.get("images_sha256")
    return next((part for part in parts if len(part) == count and fingerprint(part) == digest), ())


def check_start(
    start: str | None, learned: Sequence[Example], validation: Sequence[Example], *, in_folds: bool
) -> list[str]:
    """Warn of validation images from which the model to start from has learned, as `learned_images` finds them."""
    known = {id(example) for example in learned}
    count = sum(id(example) in known for example in validation)
    if not count:
        return []
    remedy = "leave folds out (--folds 0), and name others" if in_folds else "name others"
    return [
        f"{start} has learned from {count} of the {len(validation)} images that validate: the scores are too good; "
        f"{remedy} in the column split of a table"
    ]


def trained_largest_diameter(info: ModelInfo) -> float | None:
    """Diameter to which the training of a model reduced wider cells: the network knows no larger ones."""
    augmentation = recorded_config(info).get("augmentation")
    largest = augmentation.get("largest_diameter") if isinstance(augmentation, Mapping) else None
    return largest if isinstance(largest, int | float) and largest > 0 else None


def check_axes(start: str, training: Sequence[Example]) -> None:
    """Refuse stacks where the model to start from is of planes, and planes where it is of stacks.

    Raises
    ------
    ImageError
        ``wrong_axes``, with the name of the first image.
    """
    ndim, first = read_info(start).geometry.ndim, training[0]
    axes = "ZYX"[-first.label_image.ndim :]
    if len(axes) != ndim:
        message = f"{first.name}: {wrong_axes(axes, ndim)}, or start from a {len(axes)}-D model"
        raise ImageError("wrong_axes", message)


def wrong_axes(axes: str, ndim: int) -> str:
    """What is wrong with images of other axes than a model has, and the remedy."""
    remedy = "choose a plane with --z INDEX, max or each" if ndim == 2 else "give stacks, without --z"
    return f"it has the axes {axes}, and the model is {ndim}-D: {remedy}"


@dataclass(frozen=True)
class Taken:
    """Tensors that a network took from a model.

    Parameters
    ----------
    taken, anew : tuple of str
        Tensors of the network that were taken, and that begin anew.
    unused : tuple of str
        Tensors of the model that have no place.
    share : float
        Part of the network's weights that was taken.
    widened_from : int
        Base channels of the model, where the network has more of them and computes the same; 0 otherwise.
    """

    taken: tuple[str, ...]
    anew: tuple[str, ...]
    unused: tuple[str, ...]
    share: float
    widened_from: int = 0

    def __str__(self) -> str:
        lines = [f"{len(self.taken)} of {len(self.taken) + len(self.anew)} tensors ({self.share:.1%} of the weights)"]
        lines += [f"widened from {self.widened_from} base channels"] if self.widened_from else []
        lines += [f"{_listed(self.anew)} begin anew"] if self.anew else []
        lines += [f"{_listed(self.unused)} of the model not used"] if self.unused else []
        return "; ".join(lines)


def take_weights(network: "nn.Module", name: str, parameters: Mapping[str, Any], model: Model) -> Taken:
    """Copy all tensors of a model that fit a network by name and shape; a wider U-Net takes all of a narrower one.

    Parameters
    ----------
    network : torch.nn.Module
        The network to train.
    name : str
        Its architecture.
    parameters : mapping
        All its parameters.
    model : Model
        The trained model.

    Raises
    ------
    ModelError
        When the numbers of input channels differ; when parameters differ so that a tensor of the same network has no
        place; when hardly a weight of another network fits. Nothing is copied then.
    """
    theirs = model.info.network_parameters()
    if theirs["in_channels"] != parameters["in_channels"]:
        raise ModelError(
            f"{model.path} does not fit the images and masks (in_channels {theirs['in_channels']}, needed "
            f"{parameters['in_channels']}): start from another model, or choose channels"
        )
    own = network.state_dict()
    if name == model.info.architecture and _widened(network, name, parameters, model):
        return Taken(tuple(own), (), (), 1.0, widened_from=theirs["base_channels"])
    found = _fitting(own, model.network.state_dict())
    if name != model.info.architecture:
        _check_share(found, name, model)
    elif found.unused:
        _check_parameters(found, name, parameters, model)
    network.load_state_dict({tensor: model.network.state_dict()[tensor] for tensor in found.taken}, strict=False)
    return found


def _widened(network: "nn.Module", name: str, parameters: Mapping[str, Any], model: Model) -> bool:
    """Whether the network is a wider form of the model's, and computes the same now."""
    from unetbio.networks.unet.widening import is_widening, widen

    read = networks.find(name).read
    own, given = read(parameters), read(model.info.network_parameters())
    if not (isinstance(own, UNetParameters) and isinstance(given, UNetParameters) and is_widening(given, own)):
        return False
    widen(cast("UNet", network), cast("UNet", model.network))
    return True


def _fitting(own: "Mapping[str, Tensor]", given: "Mapping[str, Tensor]") -> Taken:
    fits = {name for name in own if name in given and own[name].shape == given[name].shape}
    sizes = {name: tensor.numel() for name, tensor in own.items()}
    return Taken(
        taken=tuple(name for name in own if name in fits),
        anew=tuple(name for name in own if name not in fits),
        unused=tuple(name for name in given if name not in fits),
        share=sum(sizes[name] for name in fits) / sum(sizes.values()),
    )


def _check_share(found: Taken, name: str, model: Model) -> None:
    if found.share < LEAST_TAKEN:
        raise ModelError(
            f"--start {model.path} is a {model.info.architecture}, --network asks for {name}, and {found.share:.1%} of "
            "its weights fit: leave out the network, or start from a model of a network with the same layers"
        )


def _check_parameters(found: Taken, name: str, parameters: Mapping[str, Any], model: Model) -> None:
    """Refuse parameters that leave tensors without a place; another number of classes may do so, at the head."""
    before, now = (json.loads(json.dumps(values)) for values in (model.info.network_parameters(), dict(parameters)))
    different = {key: (before.get(key), value) for key, value in now.items() if before.get(key) != value}
    if different.pop("num_classes", None):
        same_classes = networks.build(name, {**parameters, "num_classes": before["num_classes"]})
        found = _fitting(same_classes.state_dict(), model.network.state_dict())
    if found.unused:
        listed = ", ".join(f"{key} {old}, asked for {new}" for key, (old, new) in different.items())
        raise ModelError(
            f"--start {model.path} does not fit the settings ({listed}; no place for {_listed(found.unused)}): leave "
            "out these parameters, or start from another model; a wider U-Net needs all else to be equal"
        )


def _listed(names: Iterable[str]) -> str:
    """Tensors by the part of the network that they belong to."""
    parts = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    more = len(parts) - SHOWN
    return ", ".join(parts[:SHOWN]) + (f" and {more} more" if more > 0 else "")
