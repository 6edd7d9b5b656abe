"""Whether the chunks of a Zarr array are there, and what they say of their size, before anything is unpacked.

To the zarr package a chunk that is missing is a chunk of the fill value, a torn copy reads as a black region, and what
an array claims to be is believed. Here what is claimed is compared with what is on disk.

Writers may leave out chunks that hold the fill value alone. A chunk that was lost on the way is one of which the next
smaller resolution shows other pixels. This separates the two cases where possible; the number of missing chunks is
always reported.
"""

import functools
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetbio.errors import ImageError
from unetbio.files import open_regular, walk
from unetbio.io.image import NotStored

__all__ = ["EVERY_CHUNK", "MAX_CHUNK_BYTES", "ChunkFiles", "Payload"]

MAX_CHUNK_BYTES = 1 << 30
"""Largest chunk that is unpacked."""

ABSENT = (1 << 64) - 1
"""Offset of a chunk that a shard does not hold."""

EVERY_CHUNK = {"unetbio": {"every_chunk": True}}
"""Attributes of an array whose writer leaves no chunk out: there, a missing one is lost."""

MOST_LOST = 100
"""An array with fewer than one in so many of its chunks does not have the shape that it claims."""

BLUR = 2
"""Pixels of the smaller resolution, at the sides of a missing chunk, that its neighbours can have changed."""

CODE_CODEC = "pickle"

METADATA = ("zarr.json", ".zarray", ".zattrs")
"""Files of an array that are no chunks."""

CRC_BYTES = 4
# Codecs that say nowhere how much they hold, and how often the size of their input that can be at most.
_RATIOS = {"zlib": 1100, "bz2": 50_000, "lzma": 10_000}


@dataclass(frozen=True)
class Payload:
    """Storage of the bytes of one chunk.

    Parameters
    ----------
    codec : str
        What packed them: ``blosc``, ``zstd``, ``gzip``, ``zlib``, ``lz4``, ``bz2``, ``lzma``, or empty for none.
    nbytes : int
        Of the chunk in memory.
    checksum : bool
        Whether four bytes of a CRC follow.
    known : bool
        False where filters change the size on the way, so that nothing can be said of it.
    """

    codec: str
    nbytes: int
    checksum: bool = False
    known: bool = True

    def fits(self, head: bytes, tail: bytes, size: int) -> bool:
        """Whether stored bytes can be the chunk.

        Parameters
        ----------
        head, tail : bytes
            First 18 and last 4 of them, or all where they are fewer.
        size : int
            Their number.
        """
        if not self.known:
            return size > 0
        size -= CRC_BYTES if self.checksum else 0
        claimed = _claimed(self.codec, head, tail)
        if claimed is not None:
            return claimed == (self.nbytes % (1 << 32) if self.codec == "gzip" else self.nbytes)
        if not self.codec:
            return size == self.nbytes
        return size > 0 and self.nbytes <= size * _RATIOS.get(self.codec, self.nbytes)


def _claimed(codec: str, head: bytes, tail: bytes) -> int | None:
    """Bytes that a packed chunk says it holds; None where it does not say."""
    if codec == "blosc":
        return int.from_bytes(head[4:8], "little") if len(head) >= 16 else -1
    if codec == "lz4":
        return int.from_bytes(head[:4], "little") if len(head) >= 4 else -1
    if codec == "gzip":
        return int.from_bytes(tail, "little") if len(head) >= 18 and head[:2] == b"\x1f\x8b" else -1
    return _zstd_content(head) if codec == "zstd" else None


def _zstd_content(head: bytes) -> int | None:
    """Frame content size of a Zstandard frame (RFC 8878, 3.1.1.1)."""
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    descriptor = head[4]
    single = bool(descriptor & 0x20)
    flag = descriptor >> 6
    width = (1 if single else 0, 2, 4, 8)[flag]
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    if not width:
        return None
    return int.from_bytes(head[start : start + width], "little") + (256 if flag == 1 else 0)


@dataclass(frozen=True)
class _Shards:
    """Layout of the chunks within one file."""

    inner: tuple[int, ...]
    index_at_end: bool
    index_checksum: bool
    index_order: str


class ChunkFiles:
    """The files of one array.

    Parameters
    ----------
    folder : pathlib.Path
        Of the array.
    name : str
        What messages call it.
    array : zarr.Array
        Its metadata are used.
    smaller : ChunkFiles, optional
        The next smaller resolution, which shows what a missing chunk held.
    """

    def __init__(self, folder: Path, name: str, array: Any, smaller: "ChunkFiles | None" = None) -> None:
        self.folder, self.name, self._smaller = folder, name, smaller
        self.shape = tuple(int(size) for size in array.shape)
        self._array = array
        metadata = array.metadata
        self._leaves_out = array.fill_value is not None and metadata.fill_value is not None
        self._leaves_out &= any(dict(array.attrs).get(name) != value for name, value in EVERY_CHUNK.items())
        self._encode = metadata.encode_chunk_key
        self.stored = tuple(int(size) for size in (array.shards or array.chunks))
        self.decoded = tuple(int(size) for size in array.chunks)
        self._shards, self.payload = _layout(metadata.to_dict(), self.decoded, array.dtype.itemsize)
        self._checked: set[tuple[int, ...]] = set()
        if min(self.stored) < 1 or min(self.decoded) < 1:
            raise ImageError("inconsistent", f"chunks of {name} have the shape {self.stored}: write the image again")
        if self.payload.nbytes > MAX_CHUNK_BYTES:
            raise ImageError(
                "too_large",
                f"chunks of {name} would take {self.payload.nbytes} bytes each: at most {MAX_CHUNK_BYTES} are "
                "unpacked; write it in smaller chunks",
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Files along each axis."""
        return _counts(self.shape, self.stored)

    def check_present(self) -> None:
        """Refuse an array of which a chunk is missing, unless its writer has left it out.

        It takes no longer than listing the files that there are, however large the array claims to be; the first chunk
        that is missing is checked (`check_window`).

        Raises
        ------
        ImageError
            ``truncated``.
        """
        names = _names(self.folder)
        total = math.prod(self.counts)
        held = len(names - set(METADATA))
        # Among one more than there are files, one is missing.
        for number in range(min(total, len(names) + 1)):
            coordinates = _unravel(number, self.counts)
            key = self._encode(coordinates)
            if key not in names:
                if not held or held * MOST_LOST < total:
                    raise _missing(f"{self.name}/{key}", total, "the array has hardly any")
                self._check(coordinates)
                self._checked.add(coordinates)
                return

    @functools.cached_property
    def not_stored(self) -> NotStored | None:
        """Chunks of the array that no file holds whole, also within shards; None where all are there."""
        total = math.prod(_counts(self.shape, self.decoded))
        chunks = total - sum(map(self._held, _names(self.folder) - set(METADATA)))
        return NotStored(chunks, total, f"{float(self._array.fill_value or 0):g}") if chunks > 0 else None

    def _held(self, name: str) -> int:
        """Chunks in a file of the folder; 0 for a file that is none of the array's."""
        coordinates = self._coordinates(name)
        if coordinates is None:
            return 0
        if self._shards is None:
            return 1
        start = [at * size for at, size in zip(coordinates, self.stored, strict=True)]
        try:
            with open_regular(self.folder / name) as stream:
                size = os.fstat(stream.fileno()).st_size
                return sum(offset != ABSENT for _, offset, _ in self._inner(self._shards, stream, size, start, name))
        except (ImageError, OSError):
            # That it is torn is an error where its pixels are asked for.
            return 0

    def _coordinates(self, name: str) -> tuple[int, ...] | None:
        """Index of the chunk in a file; None for other files."""
        # Keys end with the numbers; an array without axes cannot be an image.
        numbers = re.findall(r"[0-9]+", name)[-len(self.shape) :]
        coordinates = tuple(map(int, numbers))
        is_inside = len(coordinates) == len(self.shape) and all(
            at < count for at, count in zip(coordinates, self.counts, strict=True)
        )
        return coordinates if is_inside and self._encode(coordinates) == name else None

    def check_window(self, window: Sequence[range]) -> None:
        """Refuse the chunks of a window whose bytes cannot be what the array says they are.

        Raises
        ------
        ImageError
            ``truncated``: a chunk has another size, or is missing though it held something else than the fill value.
        """
        for coordinates in self._touched(window):
            if coordinates not in self._checked:
                self._check(coordinates)
                self._checked.add(coordinates)

    def _check(self, coordinates: tuple[int, ...]) -> None:
        for key, total, box in self._missing_in(coordinates):
            if not self._leaves_out:
                raise _missing(key, total, "the program that wrote it leaves none out")
            if self._smaller is not None and self._smaller.shows(box, self.shape):
                raise _missing(key, total, "the smaller resolution of the image shows pixels there")

    def shows(self, box: Sequence[range], shape: Sequence[int]) -> bool:
        """Whether a box of the next larger resolution, of this shape, holds something else than the fill value here."""
        window = [_inside(part, large, small) for part, large, small in zip(box, shape, self.shape, strict=True)]
        if any(len(part) == 0 for part in window):
            return False
        for coordinates in self._touched(window):
            # What is unpacked now has to be what it claims to be; that chunks are missing here as well is no matter.
            for _ in self._missing_in(coordinates):
                pass
        pixels, fill = self._pixels(window), self._array.fill_value
        is_fill = np.isnan(pixels) if fill != fill else pixels == fill
        return not is_fill.all()

    def _touched(self, window: Sequence[range]) -> Iterator[tuple[int, ...]]:
        """Coordinates of the stored chunks of a window."""
        ranges = [
            range(part.start // chunk, -(-part.stop // chunk)) for part, chunk in zip(window, self.stored, strict=True)
        ]
        for number in range(math.prod(len(part) for part in ranges)):
            index = _unravel(number, tuple(len(part) for part in ranges))
            yield tuple(part[i] for part, i in zip(ranges, index, strict=True))

    def _pixels(self, window: Sequence[range]) -> Any:
        try:
            return np.asarray(self._array[tuple(slice(part.start, part.stop) for part in window)])
        except MemoryError:
            raise
        except Exception as error:  # broken chunks lead to any exception there is
            text = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise ImageError(
                "unreadable", f"a chunk of {self.name} cannot be unpacked ({text}): copy it again"
            ) from error

    def _missing_in(self, coordinates: tuple[int, ...]) -> Iterator[tuple[str, int, list[range]]]:
        """Name and pixels of each missing part of a stored chunk, and how many such parts there are in all."""
        key = self._encode(coordinates)
        start = [at * size for at, size in zip(coordinates, self.stored, strict=True)]
        try:
            with open_regular(self.folder / key) as stream:
                size = os.fstat(stream.fileno()).st_size
                whole = [((0,) * len(start), 0, size)]
                parts = self._inner(self._shards, stream, size, start, key) if self._shards else whole
                for index, offset, length in parts:
                    if offset == ABSENT:
                        inside = "/".join(str(i) for i in index)
                        first = [at + i * step for at, i, step in zip(start, index, self.decoded, strict=True)]
                        total = math.prod(self.stored) // math.prod(self.decoded)
                        yield f"{inside} of the shard {self.name}/{key}", total, self._box(first, self.decoded)
                        continue
                    stream.seek(offset)
                    head = stream.read(min(18, length))
                    stream.seek(max(offset, offset + length - 4 - (CRC_BYTES if self.payload.checksum else 0)))
                    if not self.payload.fits(head, stream.read(4), length):
                        raise ImageError(
                            "truncated",
                            f"chunk {self.name}/{key} is not the {self.payload.nbytes} bytes that the array has in a "
                            "chunk: copy the folder again",
                        )
        except FileNotFoundError:
            yield f"{self.name}/{key}", math.prod(self.counts), self._box(start, self.stored)

    def _box(self, start: Sequence[int], size: Sequence[int]) -> list[range]:
        ends = [min(first + step, end) for first, step, end in zip(start, size, self.shape, strict=True)]
        return [range(first, end) for first, end in zip(start, ends, strict=True)]

    def _inner(
        self, shards: _Shards, stream: Any, size: int, start: Sequence[int], key: str
    ) -> Iterator[tuple[tuple[int, ...], int, int]]:
        """Place, offset and length of the chunks that a shard must hold: those not wholly outside the array."""
        grid = tuple(outer // inner for outer, inner in zip(self.stored, shards.inner, strict=True))
        index_bytes = 16 * math.prod(grid)
        stored = index_bytes + (CRC_BYTES if shards.index_checksum else 0)
        if stored > size:
            raise ImageError("truncated", f"chunk {self.name}/{key} ends after {size} bytes: copy the folder again")
        stream.seek(size - stored if shards.index_at_end else 0)
        entries = np.frombuffer(stream.read(index_bytes), f"{shards.index_order}u8").reshape(-1, 2).tolist()
        for number, (offset, length) in enumerate(entries):
            index = _unravel(number, grid)
            first = [at + i * inner for at, i, inner in zip(start, index, shards.inner, strict=True)]
            if any(place >= end for place, end in zip(first, self.shape, strict=True)):
                continue
            if offset != ABSENT and offset + length > size:
                inside = "/".join(str(i) for i in index)
                raise _missing(f"{inside} of the shard {self.name}/{key}", math.prod(grid), "the shard ends before it")
            yield index, offset, length


def _inside(part: range, large: int, small: int) -> range:
    """Pixels of an axis of a smaller resolution that lie wholly in a range of the larger one, without its sides."""
    if large == small:
        return part
    return range(-(-part.start * small // large) + BLUR, part.stop * small // large - BLUR)


def _counts(shape: Sequence[int], chunk: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-size // length) for size, length in zip(shape, chunk, strict=True))


def _missing(key: str, total: int, why: str) -> ImageError:
    return ImageError(
        "truncated",
        f"chunk {key} is missing, of {total} that the array has, and {why}: copy the folder again, or write the image "
        "with all chunks (write_empty_chunks)",
    )


def _layout(metadata: dict[str, Any], decoded: tuple[int, ...], itemsize: int) -> tuple[_Shards | None, Payload]:
    nbytes = math.prod(decoded) * itemsize
    if metadata["zarr_format"] == 2:
        codec = metadata.get("compressor") or {}
        _refuse_code(_name(each) for each in (*(metadata.get("filters") or ()), codec))
        return None, Payload(_name(codec), nbytes, known=not metadata.get("filters"))
    codecs = [_as_dict(codec) for codec in metadata["codecs"]]
    shards = None
    if codecs and _name(codecs[-1]) == "sharding_indexed":
        if len(codecs) > 1:
            raise ImageError("unsupported_type", "shards that are packed once more: write the image again")
        options = codecs[0]["configuration"]
        shards = _shards(options, decoded)
        codecs = [_as_dict(codec) for codec in options["codecs"]]
    names = [_name(codec) for codec in codecs]
    _refuse_code(names)
    packed = [name for name in names if name not in ("bytes", "transpose", "crc32c")]
    # Filters stand before the bytes, and a checksum within what is packed counts too.
    plain = not packed or (len(packed) == 1 and packed[0] != names[0])
    known = plain and "crc32c" not in names[:-1]
    return shards, Payload(packed[0] if packed else "", nbytes, "crc32c" in names, known)


def _refuse_code(names: Iterable[str]) -> None:
    """Refuse codecs that run what a chunk says; not every version of numcodecs does so by itself."""
    if CODE_CODEC in names:
        raise ImageError(
            "unsupported_type", f"chunks packed with {CODE_CODEC}, which can hold code: write the image again without"
        )


def _shards(options: dict[str, Any], decoded: tuple[int, ...]) -> _Shards:
    index = [_as_dict(codec) for codec in options["index_codecs"]]
    names = [_name(codec) for codec in index]
    if names not in (["bytes"], ["bytes", "crc32c"]):
        raise ImageError("unsupported_type", f"shards whose index is packed with {names}: write the image again")
    endian = _as_dict(index[0].get("configuration") or {}).get("endian", "little")
    at_end = str(options.get("index_location", "end")).rpartition(".")[2] == "end"
    return _Shards(decoded, at_end, "crc32c" in names, ">" if str(endian).endswith("big") else "<")


def _as_dict(codec: Any) -> dict[str, Any]:
    return codec if isinstance(codec, dict) else codec.to_dict()


def _name(codec: dict[str, Any]) -> str:
    name = str(codec.get("id") or codec.get("name") or "")
    return name.removeprefix("numcodecs.")


def _names(folder: Path) -> set[str]:
    """Files below a folder, with forward slashes; links to folders are not followed."""
    found = set()
    for parent, _, files in walk(folder):
        below = os.path.relpath(parent, folder)
        prefix = "" if below == "." else below.replace(os.sep, "/") + "/"
        found |= {prefix + name for name in files}
    return found


def _unravel(number: int, counts: tuple[int, ...]) -> tuple[int, ...]:
    """Coordinates of the ``number``-th chunk; whole numbers of any size, unlike numpy's."""
    index = []
    for count in reversed(counts):
        number, rest = divmod(number, count)
        index.append(rest)
    return tuple(reversed(index))
