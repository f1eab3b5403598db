"""Zarr arrays as AnnData writes them, arrays that grow by rows, and what a store holds beside its rows.

Every chunk ends in its CRC-32C. The description of a store stands twice: among the attributes of the root
file, where kinmer reads it (replaced together with the visible rows), and in ``uns["kinmer"]`` for people who
open the store with AnnData.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import google_crc32c
import numpy as np
import zarr
from numcodecs.blosc import Blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ZstdCodec

from kinmer._version import __version__
from kinmer.errors import FormatError, MismatchError, UsageError
from kinmer.files import clear_temporaries, remove, write_json
from kinmer.folders import Journal, Workshop
from kinmer.inputs import read_json
from kinmer.layout import Layout
from kinmer.profiles.protocol import Values
from kinmer.profiles.root import (
    EMBEDDING,
    FORMAT_VERSION,
    NodeSums,
    Root,
    chunk_sums,
    document_sum,
    node_documents,
    read_root,
    replace_node,
    rows_sum,
    sums_of,
    without,
    write_group,
    write_root,
)

TEXT = np.dtypes.StringDType()
# One flush writes the last chunk of every column again, so column chunks stay small; 65,536 rows are 512 kB.
COLUMN_ROWS = 1 << 16
Codec = Literal["profiles", "columns", "none"]

# Integer counts: bit shuffling gathers the zero bits of small counts; lz4 then writes 1.5 times the rows a
# second of zstd at about the same size.
# The checksum comes last, over what lies on disk: damage is noticed before anything is unpacked.
_BLOSC: dict[str, Any] = {"cname": "lz4", "clevel": 1, "shuffle": Blosc.BITSHUFFLE, "typesize": 4}
_COMPRESSORS: dict[str, Any] = {
    "profiles": [BloscCodec(**_BLOSC | {"shuffle": "bitshuffle"}), Crc32cCodec()],
    "columns": [ZstdCodec(level=3), Crc32cCodec()],
    "none": [Crc32cCodec()],
}
# A chunk that holds only zeros is written too: a missing chunk file always means damage.
_CONFIG: Any = {"write_empty_chunks": True}


def create_rows(
    folder: Path,
    *,
    dtype: Any,
    chunk_rows: int = COLUMN_ROWS,
    width: int | None = None,
    codec: Codec = "columns",
) -> RowArray:
    """An empty array of rows (of `width` numbers where given) in `folder`, which must not hold one yet."""
    row = () if width is None else (width,)
    _new_array(folder, (0, *row), (chunk_rows, *row), np.dtype(dtype), codec)
    return RowArray(folder, 0)


def _new_array(
    folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any], codec: Codec
) -> Any:
    """An empty Zarr array as AnnData encodes it."""
    text = dtype == TEXT
    encoding = ("string-array" if text else "array") if shape else "string" if text else "numeric-scalar"
    return zarr.create_array(
        str(folder),
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compressors=_COMPRESSORS[codec],
        attributes={"encoding-type": encoding, "encoding-version": "0.2.0"},
        zarr_format=3,
        config=_CONFIG,
        overwrite=True,
    )


class RowArray:
    """An array in `folder` that grows by rows; the rows of the last, partly filled chunk are kept in memory.

    Full chunks go to disk as soon as they are full, the rest with `flush`. Opening one at fewer `rows` than
    it holds drops the rows behind. Memory: one chunk.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self._array = zarr.open_array(str(folder), mode="r+").with_config(_CONFIG)
        self.chunk_rows = int(self._array.chunks[0])
        self._touched: set[int] = set()
        self._packer = None
        if getattr(self._array.metadata, "codecs", ()) == (BytesCodec(), *_COMPRESSORS["profiles"]):
            self._packer = Blosc(**_BLOSC)
        self._tail = np.zeros(self._array.chunks, dtype=self._array.dtype)
        self._drop_behind()
        filled = rows % self.chunk_rows
        if filled:
            self._tail[:filled] = self._array[rows - filled : rows]

    def append(self, block: NDArray[Any]) -> None:
        """Add the rows of `block`."""
        block = np.asarray(block, dtype=self._array.dtype)
        done = 0
        while done < len(block):
            filled = self.rows % self.chunk_rows
            left = len(block) - done
            if filled == 0 and left >= self.chunk_rows:
                whole = left - left % self.chunk_rows
                self._write(self.rows, block[done : done + whole])
                self.rows, done = self.rows + whole, done + whole
                continue
            taken = min(left, self.chunk_rows - filled)
            self._tail[filled : filled + taken] = block[done : done + taken]
            if filled + taken == self.chunk_rows:
                # Before the rows count as done: interrupted here, a flush still writes those before them.
                self._write(self.rows - filled, self._tail)
            self.rows, done = self.rows + taken, done + taken

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The rows start … stop, those not yet written among them."""
        edge = self.rows - self.rows % self.chunk_rows
        written = self._array[start : min(stop, edge)] if start < edge else self._tail[:0]
        tail = self._tail[max(start - edge, 0) : max(stop - edge, 0)]
        return np.concatenate([np.asarray(written), tail])

    def flush(self) -> None:
        """Write the last, partly filled chunk; its unused rows are zero, which take no room."""
        filled = self.rows % self.chunk_rows
        if filled:
            self._tail[filled:] = np.zeros(1, dtype=self._tail.dtype)[0]
            self._write(self.rows - filled, self._tail)

    def finish(self) -> None:
        """Flush, and set the array's shape to its rows."""
        self.flush()
        self._array.resize((self.rows, *self._array.shape[1:]))

    def sums(self, kept: NodeSums | None = None, rows: int = 0) -> NodeSums:
        """Checksums of the finished array.

        kept, rows : those of the first `rows` rows, which readers see: their full chunks have not been
        written since, and are not taken on trust from the disk.
        """
        document = read_json(self.folder / "zarr.json")
        full, filled = divmod(self.rows, self.chunk_rows)
        known = "" if kept is None else kept.chunks[: 8 * (rows // self.chunk_rows)]
        chunks = known + chunk_sums(self.folder, document, first=len(known) // 8, stop=full)
        return NodeSums(document_sum(document), chunks, rows_sum(self._tail[:filled]) if filled else "")

    def touched(self) -> list[Path]:
        """Files written since the last call."""
        inner = "/".join("0" for _ in self._array.shape[1:])
        files = [self.folder / "c" / str(chunk) / inner for chunk in sorted(self._touched)]
        self._touched.clear()
        return [*files, self.folder / "zarr.json"] if files else []

    def _drop_behind(self) -> None:
        """Remove what a killed run has left behind the rows: whole chunks, and unfinished files of zarr."""
        chunks = -(-self.rows // self.chunk_rows)
        folder = self.folder / "c"
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            chunk = int(entry.name.partition(".")[0])
            if chunk >= chunks or entry.suffix == ".partial":
                remove(entry)
            elif chunk == chunks - 1 and entry.is_dir():
                for unfinished in entry.glob("*.partial"):
                    unfinished.unlink()
        # While rows come the shape on disk is whole chunks: a chunk is then written without being read.
        self._array.resize((chunks * self.chunk_rows, *self._array.shape[1:]))

    def _write(self, start: int, rows: NDArray[Any]) -> None:
        stop = start + len(rows)
        if stop > self._array.shape[0]:
            self._array.resize((stop, *self._array.shape[1:]))
        if self._packer is None:
            self._array[start:stop] = rows
        else:
            for at in range(0, len(rows), self.chunk_rows):
                self._write_chunk((start + at) // self.chunk_rows, rows[at : at + self.chunk_rows])
        self._touched.update(range(start // self.chunk_rows, stop // self.chunk_rows))

    def _write_chunk(self, chunk: int, rows: NDArray[Any]) -> None:
        """Write the file that Zarr would, without its copies of the rows."""
        assert self._packer is not None
        packed = self._packer.encode(np.ascontiguousarray(rows))
        file = self.folder / "c" / str(chunk) / "0"
        file.parent.mkdir(parents=True, exist_ok=True)
        # A name as Zarr gives it, which a resumed run removes.
        unfinished = file.with_suffix(".kinmer.partial")
        with unfinished.open("wb") as output:
            output.write(packed)
            output.write(np.uint32(google_crc32c.value(packed)).astype("<u4").tobytes())
        unfinished.replace(file)


def clear_unfinished(folder: Path) -> None:
    """Remove the files that a killed run left unfinished in a store; the caller has the store's lock."""
    clear_temporaries(folder)
    for path in list(folder.rglob("*.partial")):  # Zarr's own.
        path.unlink(missing_ok=True)


def sync_files(files: Iterable[Path]) -> None:
    """Make written files durable, several at a time: the file system then commits them together."""

    def sync(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(sync, files))


def write_array(folder: Path, values: Any) -> None:
    """A whole scalar or 1-D array of numbers or text in `folder`, encoded as AnnData does."""
    data = np.asarray(values)
    if data.dtype.kind in "OUT":
        data = data.astype(TEXT)
    chunks = tuple(max(1, min(COLUMN_ROWS, size)) for size in data.shape)
    _new_array(folder, data.shape, chunks, data.dtype, "columns")[...] = data


def restore_document(folder: Path, document: Mapping[str, Any]) -> None:
    """Write the metadata of the array in `folder` again where they are not `document`."""
    try:
        same = document_sum(read_json(folder / "zarr.json")) == document_sum(document)
    except FormatError:
        same = False
    if not same:
        write_json(folder / "zarr.json", document)


CHUNK_BYTES = 6 << 20


def chunk_rows_of(width: int) -> int:
    """Rows of one chunk of 4-byte values: the power of two that makes 3 to 6 MB (512 at 2,772 features)."""
    return 1 << min(12, max(4, (CHUNK_BYTES // (4 * width)).bit_length() - 1))


def describe(
    layout: Layout, values: Values, *, rows: int, fingerprint: str, made: list[dict[str, Any]]
) -> dict[str, Any]:
    """The store's description of itself; `made`: how, one entry for every run that wrote rows."""
    return {
        "format_version": FORMAT_VERSION,
        "kinmer_version": __version__,
        "layout": layout.to_dict(),
        "layout_fingerprint": layout.fingerprint,
        "values": values,
        "rows": rows,
        "fingerprint": fingerprint,
        "made": made,
    }


def write_skeleton(folder: Path, layout: Layout) -> None:
    """Groups and variables of an empty store; no root file, so that nobody takes it for whole."""
    for name in ("layers", "obsm", "obsp", "varm", "varp", "uns"):
        write_group(folder / name)
    frame = {"_index": "_index", "encoding-type": "dataframe", "encoding-version": "0.2.0"}
    categorical = {"ordered": False, "encoding-type": "categorical", "encoding-version": "0.2.0"}
    write_group(folder / "obs", {"column-order": [], **frame})
    write_group(folder / "obs/source", categorical)
    write_group(folder / "var", {"column-order": ["k", "block"], **frame})
    sizes = [block.size for block in layout.blocks]
    write_array(folder / "var/_index", list(layout.features))
    write_array(
        folder / "var/k", np.repeat(np.array([block.k for block in layout.blocks], dtype=np.int64), sizes)
    )
    write_array(folder / "var/block", np.repeat([block.name for block in layout.blocks], sizes))


def write_uns(folder: Path, description: Mapping[str, Any]) -> None:
    """The copy of the description in ``uns["kinmer"]``; nested parts as JSON text."""
    remove(folder / "uns/kinmer")
    write_group(folder / "uns/kinmer")
    for name, value in without(description).items():
        flat = value if isinstance(value, (str, int)) else json.dumps(value)
        write_array(folder / "uns/kinmer" / name, flat)
    ks = Layout.from_dict(description["layout"]).ks
    write_array(folder / "uns/kinmer/k", np.array(ks, dtype=np.int64))


def begin_append(
    path: Path, root: Root, layout: Layout, values: Values, noted: dict[str, Any] | None
) -> dict[str, Any]:
    """Where to continue in the whole store at `path`: its end, or that of an unfinished append."""
    nodes, description = root.nodes, root.description or {}
    if (
        description.get("format_version") != FORMAT_VERSION
        or "obs/source/codes" not in nodes
        or root.rewritten.intersection(("X", "obs/_index", "obs/source/codes", "obs/source/categories"))
    ):
        raise FormatError(
            "this store cannot be appended to",
            "it was written by AnnData or another version of kinmer",
            "count into a new store",
            place=path,
        )
    kept = Layout.from_dict(description["layout"])
    if description["layout_fingerprint"] != layout.fingerprint or description["values"] != values:
        what = f"the store holds {description['values']} of {kept}, not {values} of {layout}"
        raise MismatchError(what, check="append with the same --max-k and --coding", place=path)
    if kept.genetic_code != layout.genetic_code:
        what = f"the store's frames are of genetic code {kept.genetic_code}, not {layout.genetic_code}"
        raise MismatchError(what, check="append with the same --genetic-code", place=path)
    rows, sources = int(nodes["X"]["shape"][0]), int(nodes["obs/source/categories"]["shape"][0])
    if noted is not None and noted["base"] == rows:
        return noted
    # No unfinished append, or one whose last step was done when it was killed.
    return {"base": rows, "rows": rows, "sources": sources, "state": None}


COMMIT_SECONDS = 1.0


class MatrixWriter:
    """Writes ``obsm[key]`` of a whole store, (n, width) float32; used as a context manager.

    ``rows``: rows done, more than 0 where a killed run of the same provenance is resumed. The matrix
    becomes visible, whole, with `finish`; until then readers see none under this key, or the old one.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        width: int,
        total: int,
        *,
        fingerprint: str,
        provenance: Mapping[str, Any],
        commit_seconds: float = COMMIT_SECONDS,
        finished: Callable[[], None] = lambda: None,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", key):
            raise UsageError(f"{key!r} cannot name a matrix", "letters, digits, _, - and . only")
        check_writable(path)
        self.path, self.key, self.width, self.total = path, key, width, total
        self.provenance: dict[str, Any] = json.loads(json.dumps(provenance))
        self._commit_seconds, self._last_commit = commit_seconds, time.monotonic()
        self._finished = finished
        self._part = path / f".kinmer-obsm-{key}"
        signature = {"provenance": self.provenance, "width": width, "rows": total, "fingerprint": fingerprint}
        self._journal = Journal(path / f".kinmer-obsm-{key}.json", signature)
        self._workshop = Workshop(path)
        try:
            clear_unfinished(path)
            self._array = self._begin()
        except BaseException:
            self._workshop.release()
            raise

    def _begin(self) -> RowArray:
        noted = self._journal.read()
        if noted is not None and (self._part / "zarr.json").is_file():
            return RowArray(self._part, int(noted["rows"]))
        self._journal.clear()
        remove(self._part)
        rows = chunk_rows_of(self.width)
        return create_rows(self._part, dtype=np.float32, chunk_rows=rows, width=self.width, codec="none")

    @property
    def rows(self) -> int:
        """Rows done."""
        return self._array.rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._part.exists() and not isinstance(error, OSError):
                self._commit()
        finally:
            self._workshop.release()

    def append(self, block: NDArray[np.float32]) -> None:
        """Add the next rows, (m, width) finite float32; on disk for the run after a kill within a second."""
        if block.ndim != 2 or block.shape[1] != self.width or self.rows + len(block) > self.total:
            raise ValueError(f"rows of shape {block.shape} after {self.rows} of ({self.total}, {self.width})")
        self._array.append(np.asarray(block, dtype=np.float32))
        if time.monotonic() - self._last_commit >= self._commit_seconds:
            self._commit()

    def finish(self) -> None:
        """Make the matrix visible; raises ValueError where rows are missing."""
        if self.rows != self.total:
            raise ValueError(f"{self.rows} of {self.total} rows were written")
        self._array.finish()
        sync_files(self._array.touched())
        described = {**read_root(self.path).attributes.get(EMBEDDING, {}), self.key: self.provenance}
        if not (self.path / "uns/kinmer/zarr.json").is_file():
            write_group(self.path / "uns/kinmer")
        # The matrix last: with it all is there, and a run that was killed before it begins once more.
        write_array(self.path / "uns/kinmer/embedding", json.dumps(described))
        root, uns = read_root(self.path), node_documents(self.path, "uns")
        # What was there before keeps its checksums: what has become of it since is not taken on trust.
        kept = root.nodes.keys() - {"uns/kinmer/embedding"}
        uns = {name: document for name, document in uns.items() if name not in kept}
        sums = {**(root.sums or {}), **sums_of(self.path, uns)}
        write_root(self.path, Root(root.nodes | uns, root.attributes, sums))
        replace_node(self.path, f"obsm/{self.key}", self._part, {EMBEDDING: described})
        self._journal.clear()
        self._finished()

    def _commit(self) -> None:
        self._array.flush()
        sync_files(self._array.touched())
        self._journal.write(rows=self.rows)
        self._last_commit = time.monotonic()


def check_writable(path: Path) -> None:
    """Refuse a store that nothing can be added to (FormatError)."""
    if not (path / "zarr.json").is_file():
        raise FormatError(
            "the store is of Zarr format 2, which is only read",
            check="give an output of its own (-o), or write it with anndata.settings.zarr_write_format = 3",
            place=path,
        )
