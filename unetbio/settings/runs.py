"""Options of the long-running commands that do not change the result of a segmentation."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from unetbio.settings.options import Checked, Limits, Option, split_floats, split_names, split_numbers
from unetbio.settings.segmentation import PixelSize, ReadingOptions, parse_pixel_size

__all__ = [
    "AS_JSON",
    "DECODE_TIMEOUT",
    "DEVICE",
    "FAILED_OK",
    "FEW_IMAGES",
    "GROUP",
    "LEAST_MEMORY",
    "METADATA_REGEX",
    "OVERRIDES",
    "SPLIT_COMPONENTS",
    "WORKERS",
    "AnnotationFormat",
    "CalibrateRun",
    "CompareRun",
    "ImportRun",
    "LearnCurveRun",
    "LessonName",
    "MeasureRun",
    "RunOptions",
    "TrackRun",
    "TrainOptions",
    "TrainRun",
    "ViewRun",
    "WeightMapRun",
    "local_workers",
    "parse_bytes",
]

OVERRIDES = "; overrides the settings."
"""End of the help of options that are settings of training."""

FEW_IMAGES = 5
"""Scores on fewer images are rough."""

LEAST_MEMORY = 1 << 30
"""Bytes that a run needs at least; the program itself takes most of them."""

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
"""Powers of two, as Docker and SLURM have them."""


def parse_bytes(text: str) -> int:
    """Bytes from ``4G``, ``1.5GB``, ``2048M`` or a plain number.

    Raises
    ------
    ValueError
        When it is none, or less than `LEAST_MEMORY`.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if found is None:
        raise ValueError(f"{text!r} is no size of memory: give bytes, or a number with a unit such as 4G")
    count = int(float(found[1]) * 2 ** _UNITS[found[2]])
    if count < LEAST_MEMORY:
        raise ValueError(f"{text} is too little, the program itself takes most of a gigabyte: give 1G or more")
    return count


def local_workers(address: str) -> int:
    """Number of workers in ``local:N``; 0 for the address of a scheduler."""
    kind, _, count = address.partition(":")
    return int(count) if kind == "local" and count.isdecimal() else 0


def _scheduler(text: str) -> str:
    """Check ``--scheduler``: ``tcp://host:8786``, ``host:8786`` or ``local:2``."""
    is_address = re.fullmatch(r"([a-z]+://)?[^\s:/]+:\d+|[a-z]+://\[[\da-f:]+\]:\d+", text) is not None
    if not local_workers(text) and (text.startswith("local:") or not is_address):
        raise ValueError(
            f"{text!r} is no scheduler: give its address, such as tcp://host:8786, or local:N for N workers here"
        )
    return text


DEVICE = Option("auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE")
WORKERS = Option("Processor cores to use.", metavar="N", limits=Limits(ge=1), default_text="all of this process")
METADATA_REGEX = Option(
    "Named groups, such as (?P<well>[A-H][0-9]+), of each image's path become columns.",
    "Columns of every table; the path is the one that the tables show. In YAML in single quotes.",
    metavar="REGEX",
)
DECODE_TIMEOUT = Option(
    "Longest time to open a file or decode a plane of it; 0 decodes in the same process.",
    "Images are decoded in another process, so that a broken file that crashes or blocks a codec fails alone.",
    metavar="SECONDS",
    limits=Limits(ge=0),
)
GROUP = Option(
    "How files are joined to images by their names: auto, none, a naming such as phenix, or a regular expression.",
    "`auto` finds the namings of microscopes that docs/plates.md lists, where the names leave no doubt, and says so; "
    "`none` takes each file as an image. A regular expression has a group for what tells the files of an image apart "
    "(`channel`, `z`, `t`), and groups for what they share, which become columns: "
    r"`(?P<field>\d+)_(?P<channel>\w+)`. In YAML in single quotes.",
    metavar="auto|none|NAME|REGEX",
)
FAILED_OK = Option("Exit with 0 even when some files failed.")
SPLIT_COMPONENTS = Option("Take each connected part of a 0/1 or 0/255 mask as a cell.", "With targets of cells.")
AS_JSON = Option("Print the result as JSON.", word="json")
_PATCH_WORKERS = Option("Threads that prepare patches.", limits=Limits(ge=1))
_ROOT = Option("Where relative paths of a table start.")
_TRUST_MASKS = Option(
    "Use masks that look wrong: empty, with reused numbers, or not on their image.",
    "Without it they are refused before the first step (docs/command_line.md lists the checks).",
)
_MINUTES_EACH = Option("Train each for as many minutes instead.", limits=Limits(gt=0))
_CONFIG = Option("Settings of training (YAML).")
_ANEW = Option("Start anew what is there already.")
_SEED = Option("Seed of weights, patches and augmentation.", limits=Limits(ge=0))


@dataclass(frozen=True)
class RunOptions(Checked):
    """Options of ``unetbio segment`` that do not change the masks, unless windows of the network are blended."""

    group: Annotated[str, GROUP] = "auto"
    metadata_regex: Annotated[str | None, METADATA_REGEX] = None
    device: Annotated[str, DEVICE] = "auto"
    workers: Annotated[int | None, WORKERS] = None
    memory: Annotated[
        int | None,
        Option(
            "Memory that the run may use, such as 4G.",
            "Smaller tiles, and fewer images at a time, keep it below; it changes no result. Without it the memory of "
            "the machine counts, or the limit of the container or SLURM job. An image that does not fit by itself is "
            "tried all the same.",
            metavar="BYTES",
            limits=Limits(ge=1),
            read=parse_bytes,
            default_text="all that the machine or container has",
        ),
    ] = None
    tile: Annotated[
        int | None,
        Option(
            "Output pixels of a tile; changes no result, unless the network's windows are blended.",
            "Changes time and memory. For networks that are run over overlapping windows "
            "(docs/networks.md names them) it is the window (without: as in training), and may change the masks.",
            metavar="PX",
            limits=Limits(ge=1),
        ),
    ] = None
    exact_tiles: Annotated[
        bool,
        Option(
            "Tile exactly also where a pixel's context is above 256, which takes longer.",
            "Refused for networks that cannot be tiled exactly.",
        ),
    ] = False
    backend: Annotated[
        str,
        Option(
            "Library that computes the network; a name that is unknown lists them.",
            "Changes time, not the masks. All but `torch` need an extra of their name, such as "
            '`pip install "unetbio[onnx]"`; networks of objects refuse them. Models in integers (`unetbio models '
            "quantize`) run in `onnx` where it is installed, unless another is given.",
            metavar="NAME",
        ),
    ] = "torch"
    scheduler: Annotated[
        str | None,
        Option(
            "Compute tiles on the workers of this dask.distributed scheduler, or in N processes here.",
            'Changes no result. Needs `pip install "unetbio[dask]"`; refused for networks without exact tiles '
            "(docs/networks.md names them). `--device` is that of each worker. docs/slides.md shows how to start "
            "workers on other machines.",
            metavar="ADDRESS|local:N",
            read=_scheduler,
        ),
    ] = None
    limit: Annotated[int | None, Option("The first N images alone.", metavar="N", limits=Limits(ge=1))] = None
    overlays: Annotated[
        int | Literal["all", "none"],
        Option("Pictures to check by eye.", metavar="N|all|none", limits=Limits(ge=0)),
    ] = 50
    format: Annotated[
        Literal["ome-tiff", "ome-zarr"] | None,
        Option(
            "Of the label images: auto is NIfTI for NIfTI and OME-TIFF otherwise.",
            "docs/ome_zarr.md describes the layout of `ome-zarr`.",
            unset="auto",
        ),
    ] = None
    save_probabilities: Annotated[
        bool,
        Option("Write the probabilities beside the label images.", "Those after the CRF where there is one."),
    ] = False
    part: Annotated[
        str | None,
        Option(
            "Job K of N that share OUT; unetbio measure and report finish them.",
            "`2/10` is the second of ten. What the jobs have measured, `measure` keeps, unless its options differ.",
            metavar="K/N",
        ),
    ] = None
    no_tables: Annotated[bool, Option("Leave tables and page to unetbio measure and report.")] = False
    failed_only: Annotated[
        bool,
        Option(
            "Images alone that failed in an earlier run into OUT.",
            "The tables are those of all images. Every run forgets failures of files that are no longer in the folder "
            "or table that is given, and says so.",
        ),
    ] = False
    overwrite: Annotated[bool, Option("Make everything again, but for masks edited by hand.")] = False
    overwrite_edited: Annotated[bool, Option("Replace masks edited by hand too.")] = False
    rehash: Annotated[bool, Option("Compare inputs by their bytes, not by size and times.")] = False
    decode_timeout: Annotated[float, DECODE_TIMEOUT] = 300.0
    failed_ok: Annotated[bool, FAILED_OK] = False
    dry_run: Annotated[
        bool,
        Option(
            "Say what would be done: files, tiles, memory, disk, time.",
            "And how many results it would replace. Memory, disk and time follow from a few images, or pieces of large "
            "ones, that are segmented into a temporary folder (some seconds); memory is the largest that the process "
            "would hold, time that of the whole command on this machine as busy as it is now.",
        ),
    ] = False
    profile: Annotated[
        bool,
        Option(
            "Say where the time of the run went: start-up, reading, network, writing and so on.",
            "A bar chart in text, before the last line of the output; with `--json` in seconds.",
        ),
    ] = False
    as_json: Annotated[bool, AS_JSON] = False


@dataclass(frozen=True)
class MeasureRun(Checked):
    """Options of ``unetbio measure``."""

    expand: Annotated[
        float | None,
        Option(
            "Measure the ring of background around each cell too, this many micrometres wide.",
            metavar="UM",
            limits=Limits(gt=0),
        ),
    ] = None
    pixel_size: Annotated[
        PixelSize | None,
        Option(
            "Pixel size in um for the tables, instead of what is known of the images; of stacks the distance of "
            "sections in front.",
            metavar="[Z,]UM",
            limits=Limits(gt=0),
            read=parse_pixel_size,
        ),
    ] = None
    features: Annotated[
        Literal["basic", "shape", "texture", "all"],
        Option(
            "Further columns: shape, grey values and texture, or all.",
            "docs/command_line.md lists them; without it the tables stay as they are.",
        ),
    ] = "basic"
    metadata_regex: Annotated[str | None, METADATA_REGEX] = None
    workers: Annotated[int | None, WORKERS] = None
    overwrite: Annotated[bool, Option("Measure again also what was measured and has not changed since.")] = False
    decode_timeout: Annotated[float, DECODE_TIMEOUT] = 300.0
    failed_ok: Annotated[bool, FAILED_OK] = False


AnnotationFormat = Literal[
    "imagej", "geojson", "coco", "labelme", "via", "labkit", "napari", "cellpose", "masks", "ctc"
]
"""Formats that ``unetbio import`` reads."""


@dataclass(frozen=True)
class ImportRun(Checked):
    """Options of ``unetbio import``."""

    images: Annotated[
        Path | None,
        Option(
            "Folder or file of the images that were annotated.",
            "Without it and without `--into`, the images beside the annotations, as public data sets have them.",
        ),
    ] = None
    into: Annotated[
        Path | None,
        Option(
            "Output folder of unetbio segment: replace its masks.",
            "They count as edited by hand: later runs keep them, and they are measured, exported and trained on.",
        ),
    ] = None
    format: Annotated[
        AnnotationFormat | None,
        Option("Take annotations of this format alone.", word="from", unset="auto"),
    ] = None
    kinds: Annotated[
        tuple[str, ...],
        Option(
            "Take regions of this class alone.",
            "Once for each class: the names in QuPath, COCO and labelme, such as Nucleus.",
            word="class",
            metavar="NAME",
        ),
    ] = ()
    split_components: Annotated[
        bool, Option("Take each connected part of one value, or of one colour, of a mask as a cell.")
    ] = False
    overwrite: Annotated[bool, Option("Replace masks that are in the output folder.")] = False
    failed_ok: Annotated[bool, FAILED_OK] = False


@dataclass(frozen=True)
class ViewRun(Checked):
    """Options of ``unetbio view``."""

    port: Annotated[
        int | None,
        Option(
            "Port of the page on this machine.",
            metavar="N",
            limits=Limits(ge=1, le=65535),
            default_text="8642, or a free one if it is taken",
        ),
    ] = None
    open: Annotated[bool, Option("Open the page in the browser of this machine.")] = False


@dataclass(frozen=True)
class TrackRun(Checked):
    """Options of ``unetbio track``."""

    distance: Annotated[
        float | None,
        Option(
            "Farthest that a cell moves from one frame to the next, in pixels.",
            metavar="PX",
            limits=Limits(gt=0),
            default_text="the median diameter of the cells",
        ),
    ] = None
    gap: Annotated[int, Option("Most frames that a cell may be missing.", metavar="N", limits=Limits(ge=0, le=100))] = 1
    no_divisions: Annotated[bool, Option("Let no cell divide.")] = False
    time_regex: Annotated[
        str | None,
        Option(
            "For images of one time each: the named group t, such as _t(?P<t>[0-9]+), is the time in their paths.",
            "All other parts of the paths are equal within a time-lapse.",
            metavar="REGEX",
        ),
    ] = None
    failed_ok: Annotated[bool, FAILED_OK] = False


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
            "Its network, parameters, target and normalization are taken unless others are stated; what contradicts "
            "the weights is refused (docs/training.md).",
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
            "What the network learns: instances (cells), cell_classes (cells and their types), classes ...",
            "With `cell_classes`, `x_objects.csv` beside each mask names the class of each cell (docs/training.md).",
            metavar="NAME",
            default_text="instances",
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
    seed: Annotated[int | None, _SEED] = None
    border_weight: Annotated[
        float | None,
        Option("w0 of the weight map; 0 leaves the border term out.", "For cells alone.", limits=Limits(ge=0)),
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
            "Numbers of images to train on.",
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
