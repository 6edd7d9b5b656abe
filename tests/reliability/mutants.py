"""Broken copies of images and model files: seeded, structure-aware changes, each read in a limited process.

``python tests/reliability/mutants.py images|models --count 2000 --seed 1 --log FILE`` prints a table of the outcomes; a
log that exists is gone on with. The process that reads has 4 GB of memory and `LIMIT` seconds a file; when it dies, the
file counts as a crash, and another process goes on behind it.
"""

import argparse
import faulthandler
import gzip
import json
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

LIMIT = 20
MEMORY = 4 << 30
SLOW = 10.0

_NUMBERS = [0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]
_TEXTS = [
    "0",
    "-1",
    "1e308",
    "NaN",
    "99999999999999999999",
    "4294967295",
    "",
    "null",
    '"\\u0000"',
    "[[[[[]]]]]",
    "true",
]


def change(content: bytes, rng: random.Random) -> bytes:
    """One to four changes: numbers at the edges of their types, text of numbers, cuts, repeats, swaps, flipped bits."""
    for _ in range(rng.randint(1, 4)):
        content = rng.choice(_CHANGES)(content, rng)
    return content


def _place(content: bytes, rng: random.Random) -> int:
    # Headers stand at the start or the end of a file more often than in its middle.
    size = len(content)
    where = rng.random()
    if where < 0.5:
        return rng.randrange(min(size, 512) or 1)
    return max(0, size - 1 - rng.randrange(min(size, 512) or 1)) if where < 0.7 else rng.randrange(size or 1)


def _number(content: bytes, rng: random.Random) -> bytes:
    width, order = rng.choice([1, 2, 4, 8]), rng.choice(["little", "big"])
    at = _place(content, rng) // width * width if rng.random() < 0.7 else _place(content, rng)
    value = (rng.choice(_NUMBERS) % (1 << 8 * width)).to_bytes(width, order)  # type: ignore[arg-type]
    return content[:at] + value + content[at + width :]


def _real(content: bytes, rng: random.Random) -> bytes:
    value = rng.choice([float("nan"), float("inf"), -1.0, 0.0, 1e30])
    at = _place(content, rng) // 4 * 4
    return content[:at] + struct.pack(rng.choice("<>") + "f", value) + content[at + 4 :]


def _text(content: bytes, rng: random.Random) -> bytes:
    numbers = list(re.finditer(rb"(?<=[\":\[ ,=])-?[0-9]+(\.[0-9]+)?", content))
    if not numbers:
        return _flip(content, rng)
    match = rng.choice(numbers)
    return content[: match.start()] + rng.choice(_TEXTS).encode() + content[match.end() :]


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 4, 32])):
        if changed:
            changed[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    at, size = _place(content, rng), rng.choice([1, 4, 12, 100, 5000])
    return content[:at] + content[at : at + size] * rng.choice([2, 3]) + content[at + size :]


def _swap(content: bytes, rng: random.Random) -> bytes:
    at, to, size = _place(content, rng), _place(content, rng), rng.choice([2, 4, 12])
    return content[:to] + content[at : at + size] + content[to + size :]


_CHANGES: list[Callable[[bytes, random.Random], bytes]] = [_number, _number, _number, _real, _text, _text, _flip, _cut]
_CHANGES += [_repeat, _swap]


# Whole files to change ----------------------------------------------------------------------------------------------


def images(folder: Path) -> list[Path]:
    """Write small images of all formats that can be written here."""
    import imagecodecs
    import mrcfile
    import nibabel
    import numpy as np
    import tifffile
    import zarr

    rng = np.random.default_rng(0)
    plane = rng.integers(0, 4000, (48, 56), dtype=np.uint16)
    stack = rng.integers(0, 250, (3, 2, 32, 40), dtype=np.uint8)
    folder.mkdir(parents=True)
    for name in ("deflate", "lzw", "packbits", "zstd", "lzma", "none", "jpegxl", "webp"):
        values = np.repeat(stack[0, 0, ..., None], 3, -1) if name == "webp" else plane
        kind = None if name == "none" else name
        tifffile.imwrite(folder / f"{name}.tif", values, compression=kind, metadata=None)
    tifffile.imwrite(folder / "jpeg.tif", stack[0, 0], compression="jpeg", metadata=None, tile=(16, 16))
    tifffile.imwrite(folder / "tiles.tif", plane, tile=(16, 16), compression="deflate", predictor=True, byteorder=">")
    tifffile.imwrite(folder / "big.tif", plane, bigtiff=True, rowsperstrip=5)
    tifffile.imwrite(
        folder / "ome.ome.tif", stack, metadata={"axes": "ZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    )
    tifffile.imwrite(folder / "imagej.tif", stack, imagej=True, metadata={"axes": "ZCYX", "unit": "um"})
    tifffile.imwrite(folder / "float.tif", plane.astype(np.float32), metadata={"axes": "YX"})
    (folder / "grey.png").write_bytes(imagecodecs.png_encode(plane))
    (folder / "grey.jpg").write_bytes(imagecodecs.jpeg8_encode(stack[0, 0]))
    volume = nibabel.Nifti1Image(stack[:, 0].T, np.eye(4)).to_bytes()
    (folder / "volume.nii").write_bytes(volume)
    (folder / "volume.nii.gz").write_bytes(gzip.compress(volume))
    (folder / "second.nii").write_bytes(nibabel.Nifti2Image(stack[:, 0].T, np.eye(4)).to_bytes())
    with mrcfile.new(folder / "volume.mrc") as mrc:
        mrc.set_data(stack[:, 0].astype(np.int16))
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    steps = [{"type": "scale", "scale": [0.5, 0.5]}]
    entry = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    for version, codec in ((2, None), (3, "shards")):
        attributes = {"multiscales": [entry]} if version == 2 else {"ome": {"version": "0.5", "multiscales": [entry]}}
        root = folder / f"v{version}.ome.zarr"
        group = zarr.create_group(root, zarr_format=version, attributes=attributes)
        shards = {"shards": (32, 32)} if codec else {}
        group.create_array("0", data=plane, chunks=(16, 16), **shards)
    for sample in sorted(
        (Path(__file__).resolve().parents[3] / "shared" / "data" / "formats").glob("*.[cln][zid][fi2]")
    ):
        shutil.copyfile(sample, folder / sample.name)
    return sorted(folder.iterdir())


def models(folder: Path) -> list[Path]:
    """Write a small model file."""
    import torch

    from unetbio import networks
    from unetbio.models.model_file import ModelInfo, save_model

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    parameters = networks.find("unet").complete({"base_channels": 2, "depth": 1, "batch_norm": True})
    info = ModelInfo(name="tiny", architecture="unet", parameters=parameters, channels=("c",), cell_diameter_px=12.0)
    save_model(folder / "tiny.safetensors", info, networks.build("unet", parameters))
    return [folder / "tiny.safetensors"]


def mutant(source: Path, target: Path, rng: random.Random) -> None:
    """Write a changed copy; of a folder, one of its files is changed, lost or replaced by another."""
    if source.is_dir():
        shutil.copytree(source, target)
        files = sorted(path for path in target.rglob("*") if path.is_file())
        metadata = [path for path in files if path.name.startswith((".z", "zarr"))]
        file = rng.choice(metadata if rng.random() < 0.7 else files)
        file.write_bytes(change(file.read_bytes(), rng))
    elif source.name.endswith(".gz") and rng.random() < 0.5:
        target.write_bytes(gzip.compress(change(gzip.decompress(source.read_bytes()), rng), 1))
    elif source.suffix == ".safetensors" and rng.random() < 0.7:
        target.write_bytes(_other_header(source.read_bytes(), rng))
    else:
        target.write_bytes(change(source.read_bytes(), rng))


def _other_header(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header, or the description in it, is changed, with the right length in front."""
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size]
    if rng.random() < 0.6:
        entries = json.loads(header)
        entries["__metadata__"]["unetbio"] = change(entries["__metadata__"]["unetbio"].encode(), rng).decode("latin-1")
        header = json.dumps(entries).encode()
    else:
        header = change(header, rng)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


# Reading them -------------------------------------------------------------------------------------------------------


def outcome(path: Path) -> str:
    """``read``, the reason of a refusal, or ``INTERNAL`` with the exception."""
    from unetbio.errors import ImageError, ModelError

    try:
        if path.suffix == ".safetensors":
            from unetbio.models.model_file import load_model

            load_model(path)
        else:
            from unetbio.io import read_image

            image = read_image(path)
            if image.nbytes > 1 << 28:
                image.read(t=0, c=0, z=0, y=slice(0, 64), x=slice(0, 64))
            else:
                image.read()
    except ImageError as error:
        return error.reason
    except ModelError:
        return "refused"
    except BaseException as error:
        return f"INTERNAL {type(error).__name__}: {error!s:.150}".replace("\n", " ")
    return "read"


def run_child(kind: str, folder: Path, seed: int, start: int, count: int) -> None:
    """Write and read mutants; a line for each goes to stdout as soon as it is known."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    sources = sorted((folder / "sources").iterdir())
    for number in range(start, start + count):
        rng = random.Random(f"{seed} {number}")
        source = sources[number % len(sources)]
        path = folder / f"mutant.{''.join(source.suffixes[-2:]).lstrip('.')}"
        mutant(source, path, rng)
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        begin = time.perf_counter()
        found = outcome(path)
        seconds = time.perf_counter() - begin
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps([number, source.name, found, round(seconds, 2)]), flush=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def run(kind: str, folder: Path, seed: int, start: int, count: int) -> Iterator[tuple[int, str, str, float]]:
    """Outcome of each mutant; processes that die are replaced."""
    if not (folder / "sources").is_dir():
        {"images": images, "models": models}[kind](folder / "sources")
    names = [path.name for path in sorted((folder / "sources").iterdir())]
    number, end = start, start + count
    while number < end:
        command = [sys.executable, __file__, kind, "--child", str(folder), "--seed", str(seed)]
        command += ["--start", str(number), "--count", str(end - number)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("["):
                number, source, found, seconds = json.loads(line)
                yield number, source, found, seconds
                number += 1
        _, trace = child.communicate()
        if number < end:
            last = (trace.strip().splitlines() or [""])[-1]
            yield number, names[number % len(names)], f"CRASH {child.returncode} {last[:120]}", float(LIMIT)
            number += 1
            for path in folder.glob("mutant.*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_bad(found: str, seconds: float) -> bool:
    """Whether an outcome is a fault of the program."""
    return found.startswith(("CRASH", "INTERNAL")) or found == "internal" or seconds > SLOW


def main() -> int:
    """Run, go on with a log, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["images", "models"])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(options.kind, options.child, options.seed, options.start, options.count)
        return 0
    rows = []
    if options.log and options.log.exists():
        rows = [json.loads(line) for line in options.log.read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        for row in run(options.kind, Path(folder), options.seed, len(rows), options.count - len(rows)):
            rows.append(row)
            if options.log:
                with options.log.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
    for found, count in Counter(row[2].split(":")[0] for row in rows).most_common():
        print(f"{count:7} {found}")
    bad = [row for row in rows if is_bad(row[2], row[3])]
    for number, source, found, seconds in bad:
        print(f"fault: --start {number} --count 1 ({source}, {seconds} s): {found}")
    print(f"{len(rows)} mutants, {len(bad)} faults, slowest {max((row[3] for row in rows), default=0)} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
