"""The profile store: a Zarr directory that AnnData opens, read in blocks; its matrices are written so too."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from kinmer.errors import FormatError, MismatchError, ProfileError, UsageError
from kinmer.files import remove
from kinmer.folders import Journal, Workshop
from kinmer.inputs import described
from kinmer.layout import Layout
from kinmer.profiles.arrays import (
    RowArray,
    chunk_rows_of,
    clear_unfinished,
    create_rows,
    sync_files,
    write_array,
)
from kinmer.profiles.guard import open_guarded, translated
from kinmer.profiles.root import (
    AGAIN,
    EMBEDDING,
    Root,
    document_sum,
    node_documents,
    part_of,
    read_root,
    replace_node,
    rows_sum,
    sums_of,
    without,
    write_group,
    write_root,
)
from kinmer.profiles.stored import StoredProfiles

__all__ = ["MatrixWriter", "ProfileStore", "check_writable"]


COMMIT_SECONDS = 1.0


class MatrixWriter:
    """Writes ``obsm[key]`` of a whole store, (n, width) float32; used as a context manager.

    ``rows``: rows done, more than 0 where a killed run of the same provenance is gone on with. The matrix
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
        signature = {
            "provenance": self.provenance,
            "width": width,
            "rows": total,
            "fingerprint": fingerprint,
        }
        self._journal = Journal(path / f".kinmer-obsm-{key}.json", signature)
        self._lock = Workshop(path)
        try:
            clear_unfinished(path)
            self._array = self._begin()
        except BaseException:
            self._lock.release()
            raise

    def _begin(self) -> RowArray:
        journal = self._journal.read()
        if journal is not None and (self._part / "zarr.json").is_file():
            return RowArray(self._part, int(journal["rows"]))
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
            self._lock.release()

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
        uns = {
            name: one for name, one in uns.items() if name not in root.nodes or name == "uns/kinmer/embedding"
        }
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


# What kinmer knows of a store is of these: where other software has written one of them, its rows are
# checked like those of any AnnData.
ESSENTIAL = ("X", "obs/_index")


class ProfileStore(StoredProfiles):
    """A whole profile store on disk; opened by `open`, reads only what is asked for.

    Whatever is read is compared with its checksum. Also opens what AnnData has written to Zarr itself (a
    subset of a store, say), in either of its formats, where the variables are the k-mers of a layout.

    checksums : "all" where kinmer's checksums cover the profiles and ids, "none" where there are none (a
    store of kinmer 0.1.0, or AnnData's).
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(Path(path))
        _check_place(self.path)
        self._load()
        description = self._root.description
        sums = self._root.sums
        try:
            if description is not None:
                self.uns = without(description)
                self._native = not self._root.rewritten.intersection(ESSENTIAL)
            with translated(self.path, "the store is damaged"):
                if self._native:
                    self._open_native()
                else:
                    self._open_foreign()
        except ProfileError:
            if self._native or description is None:
                raise
            raise ProfileError(
                "other software has written X or the ids of this store again, and they are not profiles",
                "what kinmer knows of the store is not of these rows",
                AGAIN,
                place=self.path,
            ) from None
        covered = sums is not None and all(
            name in sums and sums[name].chunks + sums[name].rows for name in ESSENTIAL
        )
        self.checksums = "all" if covered else "none"

    @classmethod
    def open(cls, path: str | Path) -> ProfileStore:
        """Open the store at `path` without reading its rows (milliseconds).

        Raises FormatError: nothing there, no store, unfinished, damaged, of another version; MismatchError
        (a FormatError): parts that do not belong together; ProfileError: columns of no layout.
        """
        return cls(path)

    def _load(self) -> None:
        self._group, self._root, self._guard = open_guarded(self.path)
        self._nodes: dict[str, Any] = {}

    def _open_native(self) -> None:
        assert self._root.description is not None
        self.layout = Layout.from_dict(self.uns["layout"])
        self.values = self.uns["values"]
        if self.values not in ("counts", "frequencies"):
            raise ValueError(f"{self.values!r} are not profiles")
        self._fingerprint = str(self.uns["fingerprint"])
        table = self._table()
        if table.dtype != np.dtype(self._dtype):
            raise MismatchError(f"X holds {table.dtype}, the store says {self.values}", place=self.path)
        self._check_shape()
        rows = len(self)
        if self.uns["layout_fingerprint"] != self.layout.fingerprint:
            raise MismatchError("the layout's fingerprint is another one", place=self.path)
        if self.uns["rows"] != rows:
            raise MismatchError(f"X has {rows} rows, the store says {self.uns['rows']}", place=self.path)
        chunks = -(-rows // self.chunk_rows)
        present = sum(1 for child in (self.path / "X/c").iterdir() if child.name.isdecimal())
        if present < chunks:
            raise FormatError(
                f"{chunks - present} of {chunks} pieces of X are missing",
                check="was the store copied whole? Copy it again, or count again",
                place=self.path,
            )

    def _node(self, name: str) -> Any:
        if name in self._guard.refused:
            why = self._guard.refused[name]
            raise FormatError(f"{name} cannot be read: {why.what}", why.why, why.check, place=self.path)
        if name not in self._nodes:  # Zarr parses its metadata each time.
            with translated(self.path, f"{name} is damaged"):
                self._nodes[name] = self._group.get(name)
        return self._nodes[name]

    def _is_array(self, node: Any) -> bool:
        return isinstance(node, zarr.Array)

    def obsm_keys(self) -> list[str]:
        """Names of the matrices beside the profiles; those that cannot be read among them."""
        refused = {name.removeprefix("obsm/") for name in self._guard.refused if name.startswith("obsm/")}
        return sorted({*super().obsm_keys(), *(name for name in refused if "/" not in name)})

    def is_dense(self, key: str) -> bool:
        """Whether the matrix `key` can be read."""
        return f"obsm/{key}" not in self._guard.refused and super().is_dense(key)

    def _read_scalar(self, node: Any) -> Any:
        with translated(self.path, f"{node.name} is damaged"):
            return node[()]

    def _bytes_on_disk(self, name: str, array: Any) -> int:
        return sum(file.stat().st_size for file in (self.path / name).rglob("*") if file.is_file())

    def _read_rows(self, name: str, array: Any, start: int, stop: int) -> NDArray[Any]:
        """Rows of an array; those of the last chunk are read as a whole where its checksum is over rows."""
        rows, chunk = array.shape[0], array.chunks[0]
        sums = (self._root.sums or {}).get(name)
        edge = rows - rows % chunk
        behind = sums is not None and sums.rows and stop > edge
        first, last = (min(start, edge), rows) if behind else (start, stop)
        with translated(self.path, f"{name} is damaged in the rows {start + 1} to {stop}"):
            values = np.asarray(array[first:last])
        if values.dtype.kind in "TU":
            values = values.astype(object)
        if behind and sums is not None and rows_sum(values[edge - first :]) != sums.rows:
            raise FormatError(
                f"{name} is damaged in the rows {edge + 1} to {rows}",
                "their checksum is another one: they were damaged, exchanged, or changed by other software",
                AGAIN,
                place=self.path,
            )
        return values[start - first : stop - first]

    def check_ends(self, names: Iterable[str]) -> None:
        """Read the last rows of these arrays, which an append writes again; FormatError for damaged ones."""
        for name in names:
            array = self._array(name)
            if array.shape[0]:
                self._read_rows(name, array, array.shape[0] - 1, array.shape[0])

    def _provenance(self) -> Mapping[str, Any]:
        made: Any = self._root.attributes.get(EMBEDDING)
        return made if isinstance(made, Mapping) else super()._provenance()

    def obsm_writer(
        self, key: str, width: int, *, provenance: Mapping[str, Any], commit_seconds: float = 1.0
    ) -> MatrixWriter:
        """A writer of ``obsm[key]``, (n, width) float32, in row blocks.

        provenance : what the matrix is made with (JSON-able, such as the encoder's fingerprint): an
            unfinished one of equal provenance is gone on with from `MatrixWriter.rows`.

        Raises UsageError where another process writes the store.
        """
        return MatrixWriter(
            self.path,
            key,
            width,
            len(self),
            fingerprint=self.fingerprint,
            provenance=provenance,
            commit_seconds=commit_seconds,
            finished=self.refresh,
        )

    def write_obs(self, name: str, values: NDArray[Any]) -> None:
        """Add or replace a column of obs, (n,) numbers or text.

        Raises ProfileError where it does not fit, UsageError where another process writes the store.
        """
        if len(values) != len(self) or name in ("", "_index") or "/" in name or name.startswith("."):
            raise ProfileError(f"the column {name!r} of {len(values)} values does not fit {len(self)} rows")
        check_writable(self.path)
        with Workshop(self.path):
            clear_unfinished(self.path)
            staged = self.path / f".kinmer-obs-{name}"
            remove(staged)
            write_array(staged, values)
            replace_node(self.path, f"obs/{name}", staged)
            root = read_root(self.path)
            shown = dict(root.nodes["obs"]["attributes"])
            shown["column-order"] = [one for one in shown["column-order"] if one != name] + [name]
            write_group(self.path / "obs", shown)
            frame = {**root.nodes["obs"], "attributes": shown}
            sums = dict(root.sums or {})
            if "obs" in sums:
                sums["obs"] = replace(sums["obs"], document=document_sum(frame))
            write_root(self.path, Root({**root.nodes, "obs": frame}, root.attributes, sums))
        self.refresh()

    def refresh(self) -> None:
        """See what was added to the store since it was opened."""
        self._load()
        self._obs = None


def _check_place(path: Path) -> None:
    if part_of(path).is_dir() and not path.exists():
        raise FormatError(
            "the store is unfinished",
            f"what was committed is in {part_of(path).name}",
            "run the same command again to go on, or with --force to begin again",
            place=path,
        )
    if not path.exists():
        raise FormatError("no such store", check="is the path right?", place=path)
    if not path.is_dir() or not any((path / name).is_file() for name in ("zarr.json", ".zgroup")):
        raise FormatError(
            "this is no profile store", f"it is {described(path)}", "make one with kinmer count", place=path
        )
