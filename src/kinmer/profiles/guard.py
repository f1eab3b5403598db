"""All that Zarr reads of a store: bounded, of allowed codecs, compared with its checksums."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from kinmer.errors import FormatError, KinmerError
from kinmer.inputs import parse_json
from kinmer.profiles.checksums import NodeSums
from kinmer.profiles.codecs import CHUNK_LIMIT, ArrayForm, check_chunk, form_of
from kinmer.profiles.root import AGAIN, KINMER, Root, read_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["GuardedStore", "open_guarded", "translated"]

DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
READ = ("X", "obs", "obsm")
# The root file of a store of a billion sequences, with its checksums, is some 20 MB.
DOCUMENT_BYTES = 256 << 20
# A file may be larger than what it unpacks to by so much: headers, and data that cannot be packed.
PACKED_EXTRA = 1 << 20


def open_guarded(path: Path) -> tuple[zarr.Group, Root, GuardedStore]:
    """The group at `path`, of Zarr format 2 or 3, with what its root file says.

    Raises FormatError where it is damaged, or not a group.
    """
    root = read_root(path) if (path / "zarr.json").exists() else Root({}, {})
    store = GuardedStore(path, root)
    with translated(path, "the store is damaged"):
        return zarr.open_group(store, mode="r"), root, store


@contextmanager
def translated(place: object, what: str) -> Iterator[None]:
    """Whatever Zarr raises over metadata and chunks, which is nearly anything, as one FormatError."""
    try:
        yield
    except KinmerError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        raise FormatError(what, reason, AGAIN, place=str(place)) from error


class GuardedStore(Store):
    """A folder that Zarr may read, and nothing but read.

    Metadata are those of `root` (format 3) or checked one by one (format 2): arrays of codecs that kinmer
    does not unpack are left out of the groups, `refused` says why. A chunk is a regular file, unpacks to the
    size of its array's chunks, and ends in the checksum that the root's table has of it. Chunks may lack
    where other software wrote them, which leaves out those of zeros.
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
                shown = {name: one for name, one in shown.items() if name.partition("/")[0] in READ}
            self._root = _root_bytes(root, self._kept(shown))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GuardedStore) and self.folder == other.folder

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"GuardedStore({str(self.folder)!r})"

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of a file, or of a part of it; None where there is none."""
        data = await asyncio.to_thread(self._read, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """`get` of several."""
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

    async def list(self) -> AsyncIterator[str]:
        """All files."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """All files whose path begins with `prefix`."""
        for file in self.folder.rglob("*"):
            name = file.relative_to(self.folder).as_posix()
            if file.is_file() and name.startswith(prefix):
                yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names in a folder."""
        folder = self.folder / prefix
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            yield entry.name

    def _read(self, key: str, part: ByteRequest | None) -> bytes | None:
        if key.rpartition("/")[2] in DOCUMENTS:
            return self._document(key)
        node, numbers = self._node_of(key)
        if node is None:
            return None
        form = self._forms[node]
        sums = self._sums.get(node)
        try:
            data, span = _bytes_of(self.folder / key, part, _limit(form))
            if data is not None:
                check_chunk(memoryview(data), form, span)
        except ValueError as error:
            raise FormatError(
                f"a piece of {node} is damaged", str(error), AGAIN, place=self.folder / key
            ) from error
        if data is None:
            if self._all_whole or (sums is not None and (sums.chunks or sums.rows)):
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
            return _bytes_of(self.folder / key, None, DOCUMENT_BYTES)[0]
        if key != ".zmetadata" or self._root is not None:
            return None
        nodes = _nodes_of_2(self.folder)
        arrays = {
            name.removesuffix("/.zarray"): one for name, one in nodes.items() if name.endswith("/.zarray")
        }
        gone = arrays.keys() - self._kept(arrays).keys()
        left = {name: one for name, one in nodes.items() if name.rpartition("/")[0] not in gone}
        return json.dumps({"zarr_consolidated_format": 1, "metadata": left}).encode()

    def _kept(self, nodes: Mapping[str, Any]) -> dict[str, Any]:
        """The nodes that may be read; of an array the form is noted."""
        kept = {}
        for name, document in nodes.items():
            try:
                if document.get("node_type", "array") == "array":
                    self._forms[name] = form_of(document)
            except FormatError as error:
                self.refused[name] = error
                continue
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                self.refused[name] = FormatError(
                    "its metadata are damaged", f"{type(error).__name__}: {error}"
                )
                continue
            kept[name] = document
        return kept

    def _node_of(self, key: str) -> tuple[str | None, tuple[int, ...]]:
        """The array that a chunk is of, and the chunk's numbers."""
        parts = key.split("/")
        for cut in range(len(parts) - 1, 0, -1):
            node = "/".join(parts[:cut])
            if node in self._forms:
                names = [one for part in parts[cut:] for one in part.split(".") if one != "c"]
                return node, tuple(int(one) for one in names if one.isdecimal())
        return None, ()


def _nodes_of_2(folder: Path) -> dict[str, Any]:
    """The metadata documents of a store of format 2: consolidated, or those beside the chunks."""
    data, _ = _bytes_of(folder / ".zmetadata", None, DOCUMENT_BYTES)
    if data is not None:
        return dict(parse_json(data, nan=True)["metadata"])
    files = [file for file in folder.rglob(".z*") if file.name in (".zarray", ".zgroup", ".zattrs")]
    documents = {file: _bytes_of(file, None, DOCUMENT_BYTES)[0] for file in sorted(files)}
    return {
        file.relative_to(folder).as_posix(): parse_json(data, nan=True)
        for file, data in documents.items()
        if data is not None
    }


def _root_bytes(root: Root, nodes: Mapping[str, Any]) -> bytes:
    shown = {"kind": "inline", "must_understand": False, "metadata": dict(nodes)}
    document = {
        "attributes": {key: value for key, value in root.attributes.items() if key != KINMER},
        "zarr_format": 3,
        "consolidated_metadata": shown,
        "node_type": "group",
    }
    return json.dumps(document).encode()


def _limit(form: ArrayForm) -> int:
    """The most bytes that a chunk's file can have."""
    if form.item_bytes is None:
        return CHUNK_LIMIT
    return form.items * form.item_bytes * 17 // 16 + form.index_bytes + PACKED_EXTRA


def _bytes_of(
    path: Path, part: ByteRequest | None, limit: int
) -> tuple[bytes | None, tuple[int, int] | None]:
    """The bytes of a regular file of at most `limit` bytes, and where in it they lie if not all of it.

    None where there is no file; ValueError where it is another kind of file, or larger.
    """
    try:
        # Without blocking: opening a named pipe waits for somebody who writes.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            return None, None
        raise ValueError(error.strerror) from error
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(file.fileno())
        if stat.S_ISDIR(state.st_mode):
            return None, None
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("it is not a regular file")
        size = state.st_size
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
    # The index behind a shard's pieces is no piece.
    span = None if part is None else (0, 0) if isinstance(part, SuffixByteRequest) else (start, stop)
    return data, span
