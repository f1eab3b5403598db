"""Zarr arrays as AnnData writes them, arrays that grow by rows, and the root file that makes rows visible.

`anndata.read_zarr` and `zarr.open` believe the consolidated metadata in the root ``zarr.json`` where there is
one. Rows and columns are therefore written first, beyond what that file tells of, and become visible all at
once when it is replaced (`write_root`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec

from kinmer.errors import FormatError
from kinmer.files import read_json, remove, sync_directory, write_bytes, write_json

__all__ = [
    "TEXT",
    "RowArray",
    "create_rows",
    "missing_chunk",
    "node_documents",
    "read_root",
    "replace_node",
    "sync_files",
    "write_array",
    "write_group",
    "write_root",
]

TEXT = np.dtypes.StringDType()
# One flush writes the last chunk of every column again, so column chunks stay small; 65,536 rows are 512 kB.
COLUMN_ROWS = 1 << 16
Codec = Literal["profiles", "columns", "none"]

# Integer counts: bit shuffling gathers the zero bits of small counts; lz4 then writes 1.5 times the rows a
# second of zstd at about the same size.
_COMPRESSORS: dict[str, Any] = {
    "profiles": BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle", typesize=4),
    "columns": ZstdCodec(level=3),
    "none": None,
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
    shape: tuple[int, ...] = (0,) if width is None else (0, width)
    chunks: tuple[int, ...] = (chunk_rows,) if width is None else (chunk_rows, width)
    text = np.dtype(dtype) == TEXT
    compressor = _COMPRESSORS[codec]
    zarr.create_array(
        str(folder),
        shape=shape,
        chunks=chunks,
        dtype=np.dtype(dtype),
        compressors=None if compressor is None else [compressor],
        attributes={"encoding-type": "string-array" if text else "array", "encoding-version": "0.2.0"},
        zarr_format=3,
        config=_CONFIG,
        overwrite=True,
    )
    return RowArray(folder, 0)


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

    def touched(self) -> list[Path]:
        """Files written since the last call."""
        inner = "/".join("0" for _ in self._array.shape[1:])
        files = [self.folder / "c" / str(chunk) / inner for chunk in sorted(self._touched)]
        self._touched.clear()
        return [*files, self.folder / "zarr.json"] if files else []

    def _drop_behind(self) -> None:
        """Remove what a killed run has left behind the rows: whole chunks, and files that zarr had begun."""
        chunks = -(-self.rows // self.chunk_rows)
        folder = self.folder / "c"
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            chunk = int(entry.name.partition(".")[0])
            if chunk >= chunks or entry.suffix == ".partial":
                remove(entry)
            elif chunk == chunks - 1 and entry.is_dir():
                for begun in entry.glob("*.partial"):
                    begun.unlink()
        # While rows come the shape on disk is whole chunks: a chunk is then written without being read.
        self._array.resize((chunks * self.chunk_rows, *self._array.shape[1:]))

    def _write(self, start: int, rows: NDArray[Any]) -> None:
        stop = start + len(rows)
        if stop > self._array.shape[0]:
            self._array.resize((stop, *self._array.shape[1:]))
        self._array[start:stop] = rows
        self._touched.update(range(start // self.chunk_rows, stop // self.chunk_rows))


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


def write_group(folder: Path, attributes: Mapping[str, Any] | None = None) -> None:
    """A Zarr group in `folder`; without attributes AnnData's ``dict``."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = {"encoding-type": "dict", "encoding-version": "0.1.0"} if attributes is None else dict(attributes)
    write_json(folder / "zarr.json", {"attributes": shown, "zarr_format": 3, "node_type": "group"})


def write_array(folder: Path, values: Any) -> None:
    """A whole scalar or 1-D array of numbers or text in `folder`, encoded as AnnData does."""
    data = np.asarray(values)
    if data.dtype.kind in "OUT":
        data = data.astype(TEXT)
    text = data.dtype == TEXT
    encoding = ("string-array" if text else "array") if data.ndim else "string" if text else "numeric-scalar"
    array = zarr.create_array(
        str(folder),
        shape=data.shape,
        chunks=tuple(max(1, min(COLUMN_ROWS, size)) for size in data.shape),
        dtype=data.dtype,
        compressors=[_COMPRESSORS["columns"]],
        attributes={"encoding-type": encoding, "encoding-version": "0.2.0"},
        zarr_format=3,
        config=_CONFIG,
        overwrite=True,
    )
    array[...] = data


def missing_chunk(folder: Path, array: zarr.Array[Any], start: int, stop: int) -> Path | None:
    """The first chunk file that the rows start … stop of the array in `folder` need and that is not there.

    Zarr reads such a chunk as zeros, without a word.
    """
    rows = array.chunks[0]
    inner = "/".join("0" for _ in array.shape[1:])
    for chunk in range(start // rows, -(-stop // rows)):
        file = folder / "c" / str(chunk) / inner
        if not file.is_file():
            return file
    return None


def node_documents(folder: Path, prefix: str) -> dict[str, dict[str, Any]]:
    """The metadata of node `prefix` of the store in `folder` and of all below it, by path."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((folder / prefix).rglob("zarr.json")):
        name = file.parent.relative_to(folder).as_posix()
        if name == "." or any(part.startswith(".") for part in Path(name).parts):
            continue
        document = read_json(file)
        if document.get("node_type") == "group":
            document["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {}}
        found[name] = document
    return found


def read_root(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What the root file tells: the metadata of every visible node by path, and the root's attributes."""
    document = read_json(folder / "zarr.json")
    try:
        attributes = dict(document.get("attributes", {}))
        consolidated = document.get("consolidated_metadata")
        nodes = node_documents(folder, "") if consolidated is None else dict(consolidated["metadata"])
    except (TypeError, KeyError, ValueError) as error:
        raise FormatError("the root zarr.json is damaged", place=folder) from error
    return nodes, attributes


def write_root(folder: Path, nodes: Mapping[str, dict[str, Any]], attributes: Mapping[str, Any]) -> None:
    """Replace the root file: from now on readers see `nodes` and nothing else."""
    ordered = {name: nodes[name] for name in sorted(nodes, key=lambda name: (name.count("/"), name))}
    document = {
        "attributes": dict(attributes),
        "zarr_format": 3,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": ordered},
        "node_type": "group",
    }
    write_bytes(folder / "zarr.json", json.dumps(document, allow_nan=False).encode())


def replace_node(folder: Path, name: str, staged: Path, attributes: Mapping[str, Any] | None = None) -> None:
    """Put the node in the folder `staged` at `name`, visible with the root's `attributes` added.

    A node of that name is first made invisible: no reader that opens the store meets a mixture.
    """
    nodes, old = read_root(folder)
    rest = {node: data for node, data in nodes.items() if node != name and not node.startswith(f"{name}/")}
    if len(rest) < len(nodes):
        write_root(folder, rest, old)
    target = folder / name
    remove(target)
    staged.rename(target)
    sync_directory(target.parent)
    write_root(folder, rest | node_documents(folder, name), {**old, **(attributes or {})})
