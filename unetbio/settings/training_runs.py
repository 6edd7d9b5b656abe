"""Options of the commands that train networks, or prepare training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from unetbio.settings.keywords import ReadingOptions
from unetbio.settings.options import Checked, Limits, Option, split_floats, split_names, split_numbers
from unetbio.settings.runs import DEVICE, MOST_WORKERS, SPLIT_COMPONENTS

__all__ = [
    "FEW_IMAGES",
    "OF_CALIBRATION",
    "OF_TRAINING",
    "OVERRIDES",
    "CalibrateRun",
    "CompareRun",
    "LearnCurveRun",
    "LessonName",
    "TrainOptions",
    "TrainRun",
    "WeightMapRun",
]

OVERRIDES = "; overrides the settings."
"""End of the help of options that are settings of training."""

OF_TRAINING = {
    "diameter_px": {
        "help": "Typical diameter of the cells in pixels, for the model file; auto measures the masks.",
        "metavar": "PX|auto",
    }
}
"""Texts of options that mean something else where a network is trained."""

OF_CALIBRATION = {
    "diameter_px": {
        "help": "Typical diameter of the cells in pixels, to rescale by; auto goes by pixel sizes if they are known.",
        "metavar": "PX|auto",
    }
}
"""Texts of options that mean something else where thresholds are searched."""

FEW_IMAGES = 5
"""Scores on fewer images are rough."""

_PATCH_WORKERS = Option("Threads that prepare patches.", limits=Limits(ge=1, le=MOST_WORKERS))
_ROOT = Option("Where relative paths of a table start.")
_TRUST_MASKS = Option(
    "Use masks that look wrong: empty, with reused numbers, or not on their image.",
    "Without it they are refused before the first step (docs/training.md lists the checks).",
)
_MINUTES_EACH = Option("Train each for as many minutes instead.", limits=Limits(gt=0))
_CONFIG = Option("Settings of training (YAML).")
_ANEW = Option("Start anew what is there already.")
_SEED = Option("Seed of weights, patches and augmentation.", limits=Limits(ge=0))


@dataclass(frozen=True)
class TrainRun(Checked):
    """Options of ``unetbio train``, with the settings of training among them."""

    config: Annotated[
        str | Path | None, Option("Settings (YAML).", "The shipped model's are in `unetbio/models/nuclei.yaml`.")
    ] = None
    network: Annotated[
        str | None,
        Option(
            f"What is trained (unetbio networks){OVERRIDES}",
            "With the paper's parameters, unless `parameters` has others; but `unet` is a small U-Net, unless "
            "`parameters` has others or `recipe` is `paper`.",
            metavar="NAME",
        ),
    ] = None
    recipe: Annotated[
        Literal["paper"] | None,
        Option(
            f"Train as the network's paper did{OVERRIDES}",
            "Parameters, optimizer, learning rate and its schedule, batch, patch and augmentation, as `unetbio "
            "networks NAME` prints them; what a file or an option states overrides them. Papers trained for long on "
            "GPUs: see how long a step takes.",
        ),
    ] = None
    start: Annotated[
        str | None,
        Option(
            "Begin with the weights of this model that fit: fine-tuning.",
            "Its network, parameters, target, border weights and normalization are taken unless stated; what "
            "contradicts the weights is refused (docs/training.md).",
            metavar="NAME|FILE",
        ),
    ] = None
    encoder: Annotated[
        str | Path | None,
        Option(
            "Begin with public weights in the VGG-16 or ResNet encoder (safetensors, torchvision's names).",
            "docs/training.md says how to convert other files.",
            metavar="FILE",
        ),
    ] = None
    root: Annotated[str | Path | None, _ROOT] = None
    target: Annotated[
        str | None,
        Option(
            "What the network learns: centres or instances (cells), cell_classes (cells and their types), classes ...",
            "Unless stated, `unet` learns `centres` with `train` and `learn-curve` (docs/training.md), and `instances` "
            "with `compare`, as other networks do. With `cell_classes`, `x_objects.csv` beside each mask names the "
            "class of each cell.",
            metavar="NAME",
            default_text="centres for unet, instances for other networks",
        ),
    ] = None
    class_names: Annotated[
        tuple[str, ...],
        Option(
            "Names of the classes, the background first.",
            "With target classes or cell_classes. Without them the masks tell how many classes there are, or the "
            "tables of cells name them.",
            metavar="NAME,...",
            read=split_names,
        ),
    ] = ()
    class_values: Annotated[
        tuple[int, ...],
        Option(
            "Value in the masks for each class, such as 0,255.",
            "With target classes; 0, 1, 2 ... unless given.",
            metavar="N,...",
            read=split_numbers,
        ),
    ] = ()
    split_components: Annotated[bool, SPLIT_COMPONENTS] = False
    steps: Annotated[int | None, Option(f"Steps to train{OVERRIDES}", limits=Limits(ge=1))] = None
    minutes: Annotated[
        float | None,
        Option(
            "Stop after as many minutes instead.",
            "The schedule is stretched to them; the minutes of all runs that went on from one checkpoint count.",
            limits=Limits(gt=0),
        ),
    ] = None
    folds: Annotated[
        int | None,
        Option(
            "Validate in so many folds: each image by a network that has not learned from it; the model learns from "
            f"all{OVERRIDES}",
            "For targets of cells, where images are few. The networks of the folds take half of the minutes. 0 keeps "
            "some images out of the training for validation (docs/training.md).",
            limits=Limits(ge=0, le=5),
        ),
    ] = None
    seed: Annotated[int | None, _SEED] = None
    border_weight: Annotated[
        float | None,
        Option(
            "w0 of the weight map; 0 leaves the border term out.",
            "For cells alone; 10 unless given, and 4 where `train` chooses the target.",
            limits=Limits(ge=0),
        ),
    ] = None
    trust_masks: Annotated[bool, _TRUST_MASKS] = False
    device: Annotated[str, DEVICE] = "auto"
    workers: Annotated[int, _PATCH_WORKERS] = 1
    replace: Annotated[
        bool,
        Option(
            "Where the checkpoint is of other settings or images, set it and its model aside, and start anew; or go on "
            "from one of these settings and images that was set aside before.",
            "They are kept as `x.old.checkpoint.safetensors` and `x.old.safetensors` (`x.old2` and so on where there "
            "are such).",
        ),
    ] = False
    overwrite: Annotated[bool, Option("Start anew where a model or a checkpoint is there already.")] = False


class TrainOptions(ReadingOptions, total=False):
    """Keyword arguments of `unetbio.train`: how images are read, and the fields of `TrainRun`; for type checkers."""

    config: str | Path | None
    network: str | None
    recipe: Literal["paper"] | None
    start: str | None
    encoder: str | Path | None
    root: str | Path | None
    target: str | None
    class_names: tuple[str, ...]
    class_values: tuple[int, ...]
    split_components: bool
    steps: int | None
    minutes: float | None
    folds: int | None
    seed: int | None
    border_weight: float | None
    trust_masks: bool
    device: str
    workers: int
    replace: bool
    overwrite: bool


@dataclass(frozen=True)
class CalibrateRun(Checked):
    """Options of ``unetbio calibrate``."""

    root: Annotated[str | Path | None, _ROOT] = None
    split_components: Annotated[bool, SPLIT_COMPONENTS] = False
    trust_masks: Annotated[bool, _TRUST_MASKS] = False
    device: Annotated[str, DEVICE] = "auto"
    overwrite: Annotated[bool, Option("Replace the model file if it exists.")] = False


@dataclass(frozen=True)
class LearnCurveRun(Checked):
    """Options of ``unetbio learn-curve``."""

    sizes: Annotated[
        tuple[int, ...],
        Option(
            "Numbers of images to train on; files are taken whole, so that parts may be larger.",
            metavar="N,...",
            read=split_numbers,
            default_text="all, and three times half as many",
        ),
    ] = ()
    steps: Annotated[int | None, Option(f"Steps of each training{OVERRIDES}", limits=Limits(ge=1))] = None
    minutes: Annotated[float | None, _MINUTES_EACH] = None
    config: Annotated[str | Path | None, _CONFIG] = None
    start: Annotated[str | None, Option("Fine-tune this model each time.", metavar="NAME|FILE")] = None
    root: Annotated[str | Path | None, _ROOT] = None
    seed: Annotated[int | None, _SEED] = None
    split_components: Annotated[bool, SPLIT_COMPONENTS] = False
    trust_masks: Annotated[bool, _TRUST_MASKS] = False
    device: Annotated[str, DEVICE] = "auto"
    workers: Annotated[int, _PATCH_WORKERS] = 1
    replace: Annotated[bool, Option("Set checkpoints of other settings or images aside, and start anew.")] = False
    overwrite: Annotated[bool, _ANEW] = False


LessonName = Literal["upsampling", "skips", "dilation", "scale", "crf", "weights"]
"""Tricks of the lecture, each with the networks that show it: `unetbio.compare.lessons`."""


@dataclass(frozen=True)
class CompareRun(Checked):
    """Options of ``unetbio compare``."""

    networks: Annotated[
        str | None,
        Option(
            "What is compared: all, or names with commas between.",
            "A name may have settings after colons, and `+crf` (docs/command_line.md).",
            others=("-n",),
            metavar="NAMES",
        ),
    ] = None
    lesson: Annotated[
        tuple[LessonName, ...],
        Option("Compare the networks that show one trick of the lecture.", "May be given more than once."),
    ] = ()
    steps: Annotated[int | None, Option(f"Steps to train each network{OVERRIDES}", limits=Limits(ge=1))] = None
    minutes: Annotated[float | None, _MINUTES_EACH] = None
    width: Annotated[
        float | None,
        Option(
            "Channels of every network as a multiple of its paper's.",
            "Without it `unet` has those of `unetbio train` and all others the paper's.",
            limits=Limits(gt=0, le=4),
        ),
    ] = None
    config: Annotated[Path | None, _CONFIG] = None
    root: Annotated[Path | None, _ROOT] = None
    seed: Annotated[int | None, _SEED] = None
    split_components: Annotated[bool, SPLIT_COMPONENTS] = False
    trust_masks: Annotated[bool, _TRUST_MASKS] = False
    device: Annotated[str, DEVICE] = "auto"
    workers: Annotated[int, _PATCH_WORKERS] = 1
    overwrite: Annotated[bool, _ANEW] = False
    replace: Annotated[
        bool,
        Option("Replace results made with other settings or images; keep those made with these."),
    ] = False


@dataclass(frozen=True)
class WeightMapRun(Checked):
    """Options of ``unetbio weight-map``."""

    border_weight: Annotated[float, Option("w0, the largest border term; 0 leaves it out.", limits=Limits(ge=0))] = 10.0
    border_sigma: Annotated[float, Option("How far borders reach, in in-plane pixels.", limits=Limits(gt=0))] = 5.0
    spacing: Annotated[
        tuple[float, ...] | None,
        Option(
            "Size of a pixel along each axis, in any unit; auto: what the file says, or the same along all axes.",
            others=("--pixel-size",),
            metavar="[Z,]Y,X",
            unset="auto",
            read=split_floats,
        ),
    ] = None
    class_weights: Annotated[
        tuple[float, ...] | None,
        Option(
            "Weight of background and of cells; auto balances their pixels over all files given.",
            metavar="auto|A,B",
            unset="auto",
            read=split_floats,
        ),
    ] = None
    ignore_label: Annotated[
        int | None, Option("Value of pixels that are not annotated: weight 0.", limits=Limits(ge=1))
    ] = None
    split_components: Annotated[bool, SPLIT_COMPONENTS] = False
    axes: Annotated[str | None, Option("Axes of the label images, such as ZYX, where the files do not say.")] = None
    overwrite: Annotated[bool, Option("Replace weight maps that are there already.")] = False
