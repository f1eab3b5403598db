"""All that Zarr reads of a store: bounded, of allowed codecs, compared with its checksums.

Zarr hands a chunk to whatever codec its metadata names (``pickle`` runs code), and a codec allocates what
the chunk's own header asks for. Arrays of other codecs than those listed here are refused by name, and a
chunk whose size is not that of its array is refused before it is unpacked.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs import blosc
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from kinmer.errors import FormatError, InputError
from kinmer.inputs import open_regular, parse_json
from kinmer.profiles.root import AGAIN, KINMER, NodeSums, Root, root_bytes

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

# The part of a file that Zarr asks for; None for all of it.
Part = RangeByteRequest | OffsetByteRequest | SuffixByteRequest | None
# The largest chunk that is unpacked, and the most rows and columns that an array may claim.
CHUNK_LIMIT, SIDE_LIMIT = 1 << 30, 1 << 40
# A chunk of texts may unpack to so many bytes, and so many times its size.
TEXT_BYTES, TEXT_RATIO = 16 << 20, 200
# A file may be larger than what it unpacks to by so much: headers, and data that cannot be packed.
PACKED_EXTRA = 1 << 20
DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
READ = ("X", "obs", "obsm")
# The root file of a store of a billion sequences, with its checksums, is some 20 MB.
DOCUMENT_BYTES = 256 << 20
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
    compressor : one of `COMPRESSORS`, or None. crc : whether a CRC-32C ends a chunk. inner : the form of the
    pieces where a file is a shard. index_bytes, index_first : of the index behind these, or before them.
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

    @property
    def largest(self) -> int:
        """The most bytes that a chunk's file can have."""
        if self.item_bytes is None:
            return CHUNK_LIMIT
        return self.items * self.item_bytes * 17 // 16 + self.index_bytes + PACKED_EXTRA


def form_of(document: Mapping[str, Any]) -> ArrayForm:
    """The form of the array that a metadata document of Zarr (format 2 or 3) is about.

    Raises FormatError for an array that kinmer does not read, KeyError, TypeError, ValueError for damage.
    """
    form = _form_of_2(document) if document.get("zarr_format") == 2 else _form_of_3(document)
    if len(form.shape) != len(form.chunks) or len(form.shape) > 2:
        raise FormatError("it is neither a column nor a table")
    if max((*form.shape, *form.chunks), default=0) > SIDE_LIMIT or 0 in form.chunks:
        raise FormatError(f"rows and columns of {form.shape} in chunks of {form.chunks} cannot be")
    smallest = form.inner or form
    if smallest.items * (smallest.item_bytes or 4) > CHUNK_LIMIT:
        raise FormatError(f"chunks of {smallest.chunks} are larger than 1 GB", check="write smaller chunks")
    return form


def _sides(value: object) -> tuple[int, ...]:
    if isinstance(value, list) and all(type(side) is int and side >= 0 for side in value):
        return tuple(value)
    raise ValueError(f"{value!r} is not a valid shape")


def _form_of_2(document: Mapping[str, Any]) -> ArrayForm:
    packed, filters = document.get("compressor"), document.get("filters") or []
    compressor = None if packed is None else _compressor(packed["id"])
    names = [each["id"] for each in filters]
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
    names = [codec["name"] for codec in codecs]
    if names == ["sharding_indexed"]:
        settings = codecs[0]["configuration"]
        inner = _packed(chunks, _sides(settings["chunk_shape"]), item, settings["codecs"])
        if inner.inner is not None or len(inner.chunks) != len(chunks) or 0 in inner.chunks:
            raise FormatError("its shards are of a kind that kinmer does not read")
        index = [codec["name"] for codec in settings["index_codecs"]]
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
    if name in COMPRESSORS:
        return str(name)
    allowed = f"kinmer unpacks {', '.join(COMPRESSORS)} only: a codec may run code"
    raise FormatError(f"it is packed by {name!r}", allowed, "write it again with AnnData's own settings")


def check_chunk(data: memoryview, form: ArrayForm, piece: tuple[int, int] | None = None) -> None:
    """Refuse a chunk that would unpack to another size than its array's chunks have (ValueError).

    data : the file, or the bytes `piece` (start, end) of a shard.
    """
    if form.inner is None:
        _check_size(data, form)
        return
    if piece is not None:
        if not (form.index_first and piece[0] == 0) and piece[1] > 0:
            _check_size(data, form.inner)
    else:
        size = form.index_bytes
        if len(data) < size:
            raise ValueError("the shard is cut off")
        index = data[:size] if form.index_first else data[len(data) - size :]
        for offset, length in np.frombuffer(index[: size // 16 * 16], "<u8").reshape(-1, 2).tolist():
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
        raise ValueError(f"the chunk has {texts} texts, not {form.items}")


def _size(data: memoryview, compressor: str | None, limit: int) -> int:
    """Bytes that the chunk unpacks to; counting stops beyond `limit` where that takes unpacking."""
    if compressor is None:
        return len(data)
    if compressor == "blosc":
        if len(data) < 16 or int.from_bytes(data[12:16], "little") != len(data):
            raise ValueError("the chunk is cut off or extended")
        return int.from_bytes(data[4:8], "little")
    if compressor == "lz4":
        return int.from_bytes(data[:4], "little")
    if compressor == "zstd" and (known := zstd.get_frame_info(data).decompressed_size) is not None:
        return int(known)
    read, size = _reader(data, compressor), 0
    while size <= limit and (out := read(1 << 20)):
        size += len(out)
    return size


def _head(data: memoryview, compressor: str | None) -> bytes:
    """The first four bytes of what the chunk unpacks to, whose size was checked before."""
    if compressor is None:
        return bytes(data[:4])
    if compressor == "blosc":
        return bytes(blosc.decompress(bytes(data))[:4])
    if compressor == "lz4":
        from numcodecs.lz4 import decompress

        return bytes(decompress(bytes(data))[:4])
    return _reader(data, compressor)(4)


def _reader(data: memoryview, compressor: str) -> Callable[[int], bytes]:
    """A function that gives the next so many unpacked bytes."""
    if compressor == "zstd":
        stream = zstd.ZstdDecompressor(options={int(zstd.DecompressionParameter.window_log_max): 27})
        packed = iter([bytes(data)])
        return lambda count: b"" if stream.eof else stream.decompress(next(packed, b""), count)
    unpacker, rest = zlib.decompressobj(wbits=47), bytes(data)  # gzip or zlib, as the header says.

    def read(count: int) -> bytes:
        nonlocal rest
        out = unpacker.decompress(rest, count)
        rest = unpacker.unconsumed_tail
        return out

    return read


class GuardedStore(Store):
    """A folder that Zarr may read, and nothing but read.

    Metadata are those of `root` (format 3) or checked one by one (format 2). Arrays of codecs that kinmer
    does not unpack are left out of the groups; `refused` says why. A chunk is a regular file, unpacks to the
    size of its array's chunks, and ends in the root's checksum of it. Other software leaves out zeros.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, folder: Path, root: Root) -> None:
        super().__init__(read_only=True)
        self.folder = folder
        self.refused: dict[str, FormatError] = {}
        self._forms: dict[str, ArrayForm] = {}
        self._sums: Mapping[str, NodeSums] = root.sums or {}
        # kinmer 0.1.0 left no chunk out either, and had no checksums.
        known = root.rewritten.union(self._sums)
        self._all_whole = root.description is not None and "X" not in known
        self._root: bytes | None = None
        if root.nodes or root.attributes:
            shown = root.nodes
            if root.description is not None and not root.rewritten:
                # Of a store of its own kinmer reads no more, and Zarr takes its time over every node.
                shown = {name: document for name, document in shown.items() if name.partition("/")[0] in READ}
            attributes = {key: value for key, value in root.attributes.items() if key != KINMER}
            self._root = root_bytes(attributes, self._kept(shown), nan=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GuardedStore) and self.folder == other.folder

    __hash__ = None  # type: ignore[assignment]

    async def get(self, key: str, prototype: Any, byte_range: Part = None) -> Buffer | None:
        """The bytes of a file, or of a part of it; None where there is none."""
        data = await asyncio.to_thread(self._read, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[Any]) -> list[Buffer | None]:
        """Several of `get`."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        return (self.folder / key).is_file()

    async def set(self, key: str, value: Buffer) -> None:
        """Refused."""
        raise NotImplementedError("the store is only read")

    async def delete(self, key: str) -> None:
        """Refused."""
        raise NotImplementedError("the store is only read")

    def list(self) -> AsyncIterator[str]:
        """All files."""
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """All files whose path begins with `prefix`."""
        for file in self.folder.rglob("*"):
            name = file.relative_to(self.folder).as_posix()
            if file.is_file() and name.startswith(prefix):
                yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names in a folder."""
        for entry in sorted((self.folder / prefix).glob("*")):
            yield entry.name

    def _read(self, key: str, part: Part) -> bytes | None:
        if key.rpartition("/")[2] in DOCUMENTS:
            return self._document(key)
        node, numbers = self._node_of(key)
        if node is None:
            return None
        form = self._forms[node]
        sums = self._sums.get(node)
        try:
            data, span = _bytes_of(self.folder / key, part, form.largest)
            if data is not None:
                check_chunk(memoryview(data), form, span)
        except (ValueError, zlib.error, zstd.ZstdError) as error:
            what = f"a piece of {node} is damaged"
            raise FormatError(what, str(error), AGAIN, place=self.folder / key) from error
        if data is None:
            if self._all_whole or (sums is not None and sums.chunks + sums.rows):
                raise FormatError("a piece of the store is missing", check=AGAIN, place=self.folder / key)
            return None
        expected = None if sums is None else sums.chunk(numbers[0] if numbers else 0)
        if expected is not None and data[-4:] != expected:
            raise FormatError(
                f"a piece of {node} is not the one that kinmer wrote",
                "it was damaged, exchanged, or changed by other software",
                f"{AGAIN}; AnnData can write what was changed on purpose to a new store",
                place=self.folder / key,
            )
        return data

    def _document(self, key: str) -> bytes | None:
        """Metadata for Zarr: of the root all there are, so that it never looks for more."""
        if key == "zarr.json":
            return self._root
        if key in (".zgroup", ".zattrs"):
            return _document_of(self.folder / key)
        if key != ".zmetadata" or self._root is not None:
            return None
        nodes = _nodes_of_2(self.folder)
        arrays = {name[:-8]: document for name, document in nodes.items() if name.endswith("/.zarray")}
        gone = arrays.keys() - self._kept(arrays).keys()
        left = {name: document for name, document in nodes.items() if name.rpartition("/")[0] not in gone}
        return json.dumps({"zarr_consolidated_format": 1, "metadata": left}).encode()

    def _kept(self, nodes: Mapping[str, Any]) -> dict[str, Any]:
        """The nodes that may be read; of an array the form is noted."""
        kept = {}
        for name, document in nodes.items():
            try:
                if document.get("node_type", "array") == "array":
                    self._forms[name] = form_of(document)
                kept[name] = document
            except FormatError as error:
                self.refused[name] = error
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                reason = f"{type(error).__name__}: {error}"
                self.refused[name] = FormatError("its metadata are damaged", reason)
        return kept

    def _node_of(self, key: str) -> tuple[str | None, tuple[int, ...]]:
        """The array that a chunk is of, and the chunk's numbers."""
        parts = key.split("/")
        for cut in range(len(parts) - 1, 0, -1):
            node = "/".join(parts[:cut])
            if node in self._forms:
                names = [name for part in parts[cut:] for name in part.split(".")]
                return node, tuple(int(name) for name in names if name.isdecimal())
        return None, ()


def _nodes_of_2(folder: Path) -> dict[str, Any]:
    """The metadata documents of a store of format 2: consolidated, or those beside the chunks."""
    data = _document_of(folder / ".zmetadata")
    if data is not None:
        return dict(parse_json(data, nan=True)["metadata"])
    documents = {}
    for file in sorted(folder.rglob(".z*")):
        if file.name in (".zarray", ".zgroup", ".zattrs"):
            data = _document_of(file)
            if data is not None:
                documents[file.relative_to(folder).as_posix()] = parse_json(data, nan=True)
    return documents


def _document_of(path: Path) -> bytes | None:
    return _bytes_of(path, None, DOCUMENT_BYTES)[0]


def _bytes_of(path: Path, part: Part, limit: int) -> tuple[bytes | None, tuple[int, int] | None]:
    """The bytes of a regular file of at most `limit` bytes, and where in it they lie if not all of it.

    None where there is no file; ValueError where it is another kind of file, or larger.
    """
    try:
        if path.is_dir():
            return None, None
        file = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except InputError:
        raise ValueError("it is not a regular file") from None
    except OSError as error:
        raise ValueError(error.strerror) from error
    with file:
        size = os.fstat(file.fileno()).st_size
        start, stop = 0, size
        if isinstance(part, RangeByteRequest):
            start, stop = part.start, min(part.end, size)
        elif isinstance(part, OffsetByteRequest):
            start = part.offset
        elif isinstance(part, SuffixByteRequest):
            start = max(0, size - part.suffix)
        if stop - start > limit:
            raise ValueError(f"it has {size} bytes")
        file.seek(start)
        data = file.read(max(0, stop - start))
    # The index behind a shard's pieces is not a piece.
    span = None if part is None else (0, 0) if isinstance(part, SuffixByteRequest) else (start, stop)
    return data, span
