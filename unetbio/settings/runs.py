"""Options of the commands that do not change the result of a segmentation, but for those that train networks."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from unetbio.settings.options import Checked, Limits, Option
from unetbio.settings.values import PixelSize, parse_pixel_size

__all__ = [
    "AS_JSON",
    "DECODE_TIMEOUT",
    "DEVICE",
    "FAILED_OK",
    "GROUP",
    "LARGEST_GAP",
    "LEAST_MEMORY",
    "METADATA_REGEX",
    "MOST_WORKERS",
    "SPLIT_COMPONENTS",
    "WORKERS",
    "AnnotationFormat",
    "ImportRun",
    "MeasureRun",
    "RunOptions",
    "TrackRun",
    "ViewRun",
    "local_workers",
    "parse_bytes",
]


LEAST_MEMORY = 1 << 30
"""Bytes that a run needs at least; the program itself takes most of them."""

MOST_WORKERS = 1024
"""Threads, or processes, that a run starts at most: a machine with too many does nothing else."""

LARGEST_GAP = 100
"""Frames that a cell may be missing at most."""

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
"""Powers of two, as Docker and SLURM have them."""


def parse_bytes(text: str) -> int:
    """Bytes from ``4G``, ``1.5GB``, ``2048M`` or a plain number.

    Raises
    ------
    ValueError
        When it is none, or less than `LEAST_MEMORY`.
    """
    found = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if found is None:
        raise ValueError(f"{text!r} is no size of memory: give bytes, or a number with a unit such as 4G")
    count = int(float(found[1]) * 2 ** _UNITS[found[2]])
    if count < LEAST_MEMORY:
        raise ValueError(f"{text} is too little, the program itself takes most of a gigabyte: give 1G or more")
    return count


def local_workers(address: str) -> int:
    """Number of workers in ``local:N``; 0 for the address of a scheduler, and for numbers above `MOST_WORKERS`."""
    kind, _, count = address.partition(":")
    is_number = kind == "local" and count.isdecimal() and len(count) <= len(str(MOST_WORKERS))
    return int(count) if is_number and int(count) <= MOST_WORKERS else 0


def _scheduler(text: str) -> str:
    """Check ``--scheduler``: ``tcp://host:8786``, ``host:8786`` or ``local:2``."""
    is_address = re.fullmatch(r"([a-z]+://)?[^\s:/]+:\d+|[a-z]+://\[[\da-f:]+\]:\d+", text) is not None
    if not local_workers(text) and (text.startswith("local:") or not is_address):
        raise ValueError(
            f"{text!r} is no scheduler: give its address, such as tcp://host:8786, or local:N for N workers here "
            f"(at most {MOST_WORKERS})"
        )
    return text


DEVICE = Option("auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE")
WORKERS = Option(
    "Processor cores to use.", metavar="N", limits=Limits(ge=1, le=MOST_WORKERS), default_text="all of this process"
)
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
            limits=Limits(ge=LEAST_MEMORY),
            read=parse_bytes,
            default_text="all that the machine or container has",
        ),
    ] = None
    tile: Annotated[
        int | None,
        Option(
            "Output pixels of a tile; changes no result, unless the network's windows are blended.",
            "Changes time and memory. For networks that are run over overlapping windows "
            "(docs/networks.md names them) it is the window (without: as in training; 512 for networks that find "
            "objects), and may change the masks.",
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
            "Changes time, not the masks. `auto` is `torch`, and for models in integers (`unetbio models quantize`) "
            "`onnx` where it is installed. All but `torch` need an extra of their name, such as "
            '`pip install "unetbio[onnx]"`; networks of objects refuse them.',
            metavar="NAME",
        ),
    ] = "auto"
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
            "The tables are those of all images. Every run forgets failures of deleted files of its folder or table, "
            "and says so; with this option also of files that the table no longer lists.",
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
    "imagej",
    "geojson",
    "coco",
    "labelme",
    "via",
    "cvat",
    "imagescope",
    "labkit",
    "napari",
    "cellpose",
    "masks",
    "ctc",
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
    decode_timeout: Annotated[float, DECODE_TIMEOUT] = 300.0


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
    gap: Annotated[
        int, Option("Most frames that a cell may be missing.", metavar="N", limits=Limits(ge=0, le=LARGEST_GAP))
    ] = 1
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
