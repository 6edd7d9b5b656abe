"""Writers of small CZI and LIF files, for tests."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

GRAY8, GRAY16, BGR24, BGR48 = 0, 1, 3, 4


def encode(pixels: np.ndarray, compression: int) -> bytes:
    plain = pixels.tobytes()
    if compression not in (2, 4, 5, 6):
        return plain
    if compression == 2:
        return imagecodecs.lzw_encode(plain)
    if compression == 4:
        return imagecodecs.jpegxr_encode(pixels, level=100)
    packed = plain
    header = b""
    if compression == 6:
        header = b"\1"
        if pixels.dtype.itemsize == 2:  # low bytes, then high bytes
            header = b"\3\1\1"
            packed = np.frombuffer(plain, np.uint8).reshape(-1, 2).T.tobytes()
    return header + imagecodecs.zstd_encode(packed)


def segment(name: bytes, content: bytes) -> bytes:
    return struct.pack("<16sqq", name, len(content), len(content)) + content


def entry(position: int, kind: int, compression: int, place: dict[str, int], size: Sequence[int], held: Any) -> bytes:
    sizes = {"Y": size[0], "X": size[1]}
    stored = {"Y": held[0], "X": held[1]}
    dims = b"".join(
        struct.pack("<4siifi", axis.encode(), start, sizes.get(axis, 1), 0.0, stored.get(axis, 1))
        for axis, start in place.items()
    )
    return struct.pack("<2siqiiB5xi", b"DV", kind, position, 0, compression, 0, len(place)) + dims


def write_czi(
    path: Path,
    tiles: Sequence[tuple[dict[str, int], np.ndarray]],
    kind: int = GRAY16,
    compression: int = 0,
    xml: str = "",
    zoom: Sequence[int] = (),
) -> None:
    """Tiles with their positions; ``zoom`` is how many times larger than stored each tile claims to be."""
    content = bytearray(segment(b"ZISRAWFILE", bytes(512)))
    entries = b""
    for number, (place, pixels) in enumerate(tiles):
        factor = zoom[number] if zoom else 1
        size = tuple(n * factor for n in pixels.shape[:2])
        said = entry(len(content), kind, compression, place, size, pixels.shape[:2])
        entries += said
        data = encode(pixels, compression)
        head = struct.pack("<iiq", 0, 0, len(data)) + said
        content += segment(b"ZISRAWSUBBLOCK", head.ljust(16 + max(240, len(said)), b"\0") + data)
    directory = len(content)
    content += segment(b"ZISRAWDIRECTORY", struct.pack("<i124x", len(tiles)) + entries)
    metadata = len(content)
    text = xml.encode()
    content += segment(b"ZISRAWMETADATA", struct.pack("<i252x", len(text)) + text)
    struct.pack_into("<iiii16s16siqqiq", content, 32, 1, 0, 0, 0, b"", b"", 0, directory, metadata, 0, 0)
    path.write_bytes(content)


def write_lif(
    path: Path,
    block: bytes,
    dims: Sequence[tuple[int, int, int]],
    channels: Sequence[tuple[int, int]],
    spacing: float = 2e-7,
) -> None:
    """``dims``: number of the axis, length, step; ``channels``: offset and colour tag; 8 bits a sample, metres."""
    described = "".join(
        f'<DimensionDescription DimID="{number}" NumberOfElements="{length}" Origin="0" '
        f'Length="{(length - 1) * spacing}" Unit="m" BytesInc="{step}" BitInc="0"/>'
        for number, length, step in dims
    )
    held = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="{tag}" Resolution="8" NameOfMeasuredQuantity="" Min="0" '
        f'Max="255" Unit="" LUTName="Colour{i}" IsLUTInverted="0" BytesInc="{offset}" BitInc="0"/>'
        for i, (offset, tag) in enumerate(channels)
    )
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="file" UniqueID="1"><Memory Size="0" MemoryBlockID="M0"/>'
        f'<Children><Element Name="scan" UniqueID="2"><Data><Image><ImageDescription><Channels>{held}</Channels>'
        f"<Dimensions>{described}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{len(block)}" MemoryBlockID="MemBlock_1"/></Element></Children></Element>'
        "</LMSDataContainerHeader>"
    ).encode("utf-16-le")
    name = "MemBlock_1".encode("utf-16-le")
    path.write_bytes(
        struct.pack("<IIBI", 0x70, len(xml) + 5, 0x2A, len(xml) // 2)
        + xml
        + struct.pack("<IIBQBI", 0x70, 0, 0x2A, len(block), 0x2A, len(name) // 2)
        + name
        + block
    )
