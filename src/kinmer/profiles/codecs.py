"""What a chunk of a Zarr array may be packed with, and how large it says it is, before anything unpacks it.

Zarr hands a chunk to whatever codec its metadata names (``pickle`` runs code), and a codec allocates what
the chunk's own header asks for. Arrays of other codecs than those listed here are refused by name, and a
chunk whose size is not that of its array is refused before it is unpacked.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from numcodecs import blosc

from kinmer.errors import FormatError

__all__ = ["CHUNK_LIMIT", "ArrayForm", "check_chunk", "form_of"]

# The largest chunk that is unpacked, and the most rows and columns that an array may claim.
CHUNK_LIMIT = 1 << 30
SIDE_LIMIT = 1 << 40
# A chunk of texts may unpack to so many bytes, and so many times its size: what is right is not known.
TEXT_BYTES, TEXT_RATIO = 16 << 20, 200
COMPRESSORS = ("blosc", "zstd", "gzip", "zlib", "lz4")
ITEM_BYTES = {
    "bool": 1,
    **{f"{kind}int{bits}": bits // 8 for kind in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": bits // 8 for bits in (16, 32, 64)},
}


@dataclass(frozen=True)
class ArrayForm:
    """How an array lies on disk.

    shape, chunks : rows and columns of the whole and of a file. item_bytes : of one number, None for texts.
    compressor : the name of one of `COMPRESSORS`, or None. crc : whether four bytes of CRC-32C end a chunk.
    inner : the form of the pieces where a file is a shard of such; index_bytes : of the index behind them,
    index_first : in front of them.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    item_bytes: int | None
    compressor: str | None
    crc: bool = False
    inner: ArrayForm | None = None
    index_bytes: int = 0
    index_first: bool = False

    @property
    def items(self) -> int:
        """Numbers or texts in a chunk."""
        return math.prod(self.chunks)


def form_of(document: Mapping[str, Any]) -> ArrayForm:
    """The form of the array that a metadata document of Zarr (format 2 or 3) is about.

    Raises FormatError where kinmer does not read such an array; KeyError, TypeError, ValueError where the
    document is damaged.
    """
    form = _form_of_2(document) if document.get("zarr_format") == 2 else _form_of_3(document)
    if len(form.shape) != len(form.chunks) or len(form.shape) > 2:
        raise FormatError("it is not a column or a table")
    if any(side > SIDE_LIMIT for side in form.shape) or any(
        not 1 <= side <= SIDE_LIMIT for side in form.chunks
    ):
        raise FormatError(f"rows and columns of {form.shape} in chunks of {form.chunks} cannot be")
    smallest = form.inner or form
    if smallest.items * (smallest.item_bytes or 4) > CHUNK_LIMIT:
        raise FormatError(f"chunks of {smallest.chunks} are larger than 1 GB", check="write smaller chunks")
    return form


def _sides(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(side) is not int or side < 0 for side in value):
        raise ValueError(f"{value!r} is not a valid shape")
    return tuple(value)


def _form_of_2(document: Mapping[str, Any]) -> ArrayForm:
    packed, filters = document.get("compressor"), document.get("filters") or []
    compressor = None if packed is None else _compressor(packed["id"])
    names = [one["id"] for one in filters]
    kind = document["dtype"]
    text = kind == "|O" and names == ["vlen-utf8"]
    if names and not text:
        raise FormatError(f"it is filtered by {', '.join(map(repr, names))}", "kinmer reads no such filters")
    if not isinstance(kind, str) or (not text and np.dtype(kind).kind not in "buif"):
        raise FormatError(f"it is of type {kind!r}", "kinmer reads numbers and UTF-8 texts")
    item = None if text else np.dtype(kind).itemsize
    return ArrayForm(_sides(document["shape"]), _sides(document["chunks"]), item, compressor)


def _form_of_3(document: Mapping[str, Any]) -> ArrayForm:
    if document.get("storage_transformers"):
        raise FormatError("it needs storage transformers", "kinmer knows none")
    kind = document["data_type"]
    if kind != "string" and kind not in ITEM_BYTES:
        raise FormatError(f"it is of type {kind!r}", "kinmer reads numbers and UTF-8 texts")
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise FormatError(f"its chunks are {grid['name']!r}", "kinmer reads regular ones")
    shape, chunks = _sides(document["shape"]), _sides(grid["configuration"]["chunk_shape"])
    return _packed(shape, chunks, ITEM_BYTES.get(kind), document["codecs"])


def _packed(shape: tuple[int, ...], chunks: tuple[int, ...], item: int | None, codecs: Any) -> ArrayForm:
    names = [one["name"] for one in codecs]
    if names == ["sharding_indexed"]:
        settings = codecs[0]["configuration"]
        inner = _packed(chunks, _sides(settings["chunk_shape"]), item, settings["codecs"])
        if inner.inner is not None or len(inner.chunks) != len(chunks) or 0 in inner.chunks:
            raise FormatError("its shards are of a kind that kinmer does not read")
        index = [one["name"] for one in settings["index_codecs"]]
        if index not in (["bytes"], ["bytes", "crc32c"]):
            raise FormatError(f"the index of its shards is packed by {', '.join(map(repr, index))}")
        pieces = math.prod(-(-side // part) for side, part in zip(chunks, inner.chunks, strict=True))
        at_start = settings.get("index_location", "end") == "start"
        size = 16 * pieces + 4 * (len(index) - 1)
        return ArrayForm(shape, chunks, item, None, False, inner, size, at_start)
    serializer, *rest = names[1:] if names[:1] == ["transpose"] else names
    if serializer != ("vlen-utf8" if item is None else "bytes"):
        raise FormatError(f"it is packed by {serializer!r}", "kinmer does not read that")
    crc = rest[-1:] == ["crc32c"]
    rest = rest[: len(rest) - crc]
    if len(rest) > 1:
        raise FormatError(f"it is packed by {', '.join(map(repr, rest))}", "kinmer unpacks one compressor")
    return ArrayForm(shape, chunks, item, _compressor(rest[0]) if rest else None, crc)


def _compressor(name: object) -> str:
    if name not in COMPRESSORS:
        raise FormatError(
            f"it is packed by {name!r}",
            f"kinmer unpacks {', '.join(COMPRESSORS)} only: a codec may run code",
            "write it again with AnnData's own settings",
        )
    return str(name)


def check_chunk(data: memoryview, form: ArrayForm, piece: tuple[int, int] | None = None) -> None:
    """Refuse a chunk that would unpack to another size than its array's chunks have (ValueError).

    data : the file, or of a shard the bytes from `piece` start to end in it.
    """
    if form.inner is None:
        _check_size(data, form)
    elif piece is None:
        _check_shard(data, form)
    elif not (form.index_first and piece[0] == 0) and piece[1] > 0:
        _check_size(data, form.inner)


def _check_shard(data: memoryview, form: ArrayForm) -> None:
    assert form.inner is not None
    size = form.index_bytes
    if len(data) < size:
        raise ValueError("the shard is cut off")
    index = data[:size] if form.index_first else data[len(data) - size :]
    spans = np.frombuffer(index[: size // 16 * 16], "<u8").reshape(-1, 2)
    for offset, length in spans.tolist():
        if offset == length == 2**64 - 1:
            continue  # A piece that was left out.
        if offset + length > len(data):
            raise ValueError("a piece of the shard lies beyond its end")
        _check_size(data[offset : offset + length], form.inner)


def _check_size(data: memoryview, form: ArrayForm) -> None:
    if form.crc:
        data = data[:-4]
    if form.item_bytes is not None:
        wanted = form.items * form.item_bytes
        size = _size(data, form.compressor, wanted)
        if size != wanted:
            raise ValueError(f"the chunk unpacks to {size} bytes, not {wanted}")
        return
    limit = min(CHUNK_LIMIT, TEXT_BYTES + TEXT_RATIO * len(data))
    size = _size(data, form.compressor, limit)
    if size > limit:
        raise ValueError(f"{len(data)} bytes would unpack to {size}")
    texts = int.from_bytes(_head(data, form.compressor), "little")
    if texts != form.items:
        raise ValueError(f"the chunk tells of {texts} texts, not {form.items}")


def _size(data: memoryview, compressor: str | None, limit: int) -> int:
    """Bytes that the chunk unpacks to; more than `limit` is no more counted where that takes unpacking."""
    if compressor is None:
        return len(data)
    if compressor == "blosc":
        if len(data) < 16 or int.from_bytes(data[12:16], "little") != len(data):
            raise ValueError("the chunk is cut off or extended")
        return int.from_bytes(data[4:8], "little")
    if compressor == "lz4":
        return int.from_bytes(data[:4], "little")
    if compressor == "zstd":
        try:
            size = zstandard.frame_content_size(data)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        if size >= 0:
            return int(size)
    return _counted(_unpacker(compressor), data, limit)


def _counted(unpack: Callable[[bytes, int], tuple[bytes, bytes]], data: memoryview, limit: int) -> int:
    size, rest = 0, bytes(data)
    while size <= limit:
        out, rest = unpack(rest, 1 << 20)
        size += len(out)
        if not out:
            break
    return size


def _unpacker(compressor: str) -> Callable[[bytes, int], tuple[bytes, bytes]]:
    """A function that takes packed bytes and a number, and gives so many unpacked ones and what is left."""
    if compressor == "zstd":
        return _zstd_unpacker()
    unpacker = zlib.decompressobj(wbits=47)  # gzip or zlib, as the header says.

    def unpack(data: bytes, count: int) -> tuple[bytes, bytes]:
        try:
            out = unpacker.decompress(data, count)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        return out, unpacker.unconsumed_tail

    return unpack


def _zstd_unpacker() -> Callable[[bytes, int], tuple[bytes, bytes]]:
    reader: Any = None

    def unpack(data: bytes, count: int) -> tuple[bytes, bytes]:
        nonlocal reader
        if reader is None:
            reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data)
        try:
            return reader.read(count), b""
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error

    return unpack


def _head(data: memoryview, compressor: str | None) -> bytes:
    """The first four bytes of what the chunk unpacks to, whose size was checked before."""
    if compressor is None:
        return bytes(data[:4])
    if compressor == "blosc":
        return bytes(blosc.decompress(bytes(data))[:4])
    if compressor == "lz4":
        from numcodecs.lz4 import decompress

        return bytes(decompress(bytes(data))[:4])
    return _unpacker(compressor)(bytes(data), 4)[0]
