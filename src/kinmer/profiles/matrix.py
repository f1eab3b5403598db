"""Writes a matrix beside the profiles (an embedding, a map) in row blocks; a killed run goes on."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, UsageError
from kinmer.files import remove, write_json
from kinmer.profiles.arrays import RowArray, create_rows, sync_files, write_array
from kinmer.profiles.journal import StoreLock, clear_unfinished, journal_of
from kinmer.profiles.root import (
    EMBEDDING,
    Root,
    node_documents,
    read_root,
    replace_node,
    sums_of,
    write_group,
    write_root,
)
from kinmer.profiles.schema import chunk_rows_of

__all__ = ["MatrixWriter", "check_writable"]

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
        self._journal = f".kinmer-obsm-{key}.json"
        self._signature = {
            "provenance": self.provenance,
            "width": width,
            "rows": total,
            "fingerprint": fingerprint,
        }
        self._lock = StoreLock(path)
        try:
            clear_unfinished(path)
            self._array = self._begin()
        except BaseException:
            self._lock.release()
            raise

    def _begin(self) -> RowArray:
        journal = journal_of(self.path, self._signature, force=True, name=self._journal)
        if journal is not None and (self._part / "zarr.json").is_file():
            return RowArray(self._part, int(journal["rows"]))
        (self.path / self._journal).unlink(missing_ok=True)
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
        (self.path / self._journal).unlink(missing_ok=True)
        self._finished()

    def _commit(self) -> None:
        self._array.flush()
        sync_files(self._array.touched())
        journal = {"format": 1, "signature": self._signature, "rows": self.rows}
        write_json(self.path / self._journal, journal)
        self._last_commit = time.monotonic()


def check_writable(path: Path) -> None:
    """Refuse a store that nothing can be added to (FormatError)."""
    if not (path / "zarr.json").is_file():
        raise FormatError(
            "the store is of Zarr format 2, which is only read",
            check="give an output of its own (-o), or write it with anndata.settings.zarr_write_format = 3",
            place=path,
        )
