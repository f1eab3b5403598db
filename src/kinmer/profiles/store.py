"""The profile store: a Zarr directory that AnnData opens, read in blocks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from kinmer.errors import FormatError, MismatchError, ProfileError
from kinmer.files import hash_ids, remove
from kinmer.layout import Layout
from kinmer.profiles.arrays import (
    missing_chunk,
    read_root,
    replace_node,
    write_array,
    write_group,
    write_root,
)
from kinmer.profiles.base import Values, check_rows, genetic_code_in, layout_of_features
from kinmer.profiles.journal import StoreLock, clear_unfinished, part_of
from kinmer.profiles.matrix import EMBEDDING, MatrixWriter
from kinmer.profiles.schema import FORMAT_VERSION

__all__ = ["ProfileStore"]


class ProfileStore:
    """A whole profile store on disk; opened by `open`, reads only what is asked for.

    Also opens what AnnData has written to Zarr itself (a subset of a store, say) where the variables are the
    k-mers of a layout; rows of such a store are checked as they are read.
    """

    def __init__(self, path: Path, group: zarr.Group, description: Mapping[str, Any] | None) -> None:
        self.path = path
        self._group = group
        self._native = description is not None
        self._ids: NDArray[np.object_] | None = None
        self._obs: pd.DataFrame | None = None
        self._X = _array(group, "X", path)
        if self._X.ndim != 2:
            raise FormatError("X is no table of rows and columns", place=path)
        if description is not None:
            self.layout = Layout.from_dict(description["layout"])
            self.values: Values = description["values"]
            self._fingerprint: str | None = description["fingerprint"]
        else:
            index = group["var"].attrs.get("_index", "_index")
            names = np.asarray(_array(group, f"var/{index}", path)[:], dtype=object)
            known = "uns/kinmer/layout" in group
            written = {"layout": _array(group, "uns/kinmer/layout", path)[()]} if known else None
            self.layout = layout_of_features(
                names.tolist(), genetic_code=genetic_code_in(written), place=path
            )
            self.values = "counts" if self._X.dtype.kind in "ui" else "frequencies"
            self._fingerprint = None
        self.uns: dict[str, Any] = dict(description or {})

    @classmethod
    def open(cls, path: str | Path) -> ProfileStore:
        """Open the store at `path` without reading its rows (milliseconds).

        Raises FormatError: nothing there, no store, unfinished, damaged, of another version; MismatchError
        (a FormatError): parts that do not belong together; ProfileError: columns of no layout.
        """
        path = Path(path)
        _check_place(path)
        try:
            group = zarr.open_group(str(path), mode="r")
            description: Any = group.attrs.get("kinmer")
            if description is not None:
                _check_version(description, path)
            store = cls(path, group, description)
            store._check_parts()
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise FormatError("the store is damaged", _reason(error), "count again", place=path) from error
        return store

    def _check_parts(self) -> None:
        rows, width = self._X.shape
        if width != self.layout.width:
            raise MismatchError(f"X has {width} columns, the layout {self.layout.width}", place=self.path)
        if self._native and self.uns["layout_fingerprint"] != self.layout.fingerprint:
            raise MismatchError("the layout's fingerprint is another one", place=self.path)
        if self._native and self.uns["rows"] != rows:
            raise MismatchError(f"X has {rows} rows, the store tells of {self.uns['rows']}", place=self.path)
        index = self._group["obs"].attrs.get("_index", "_index")
        if _array(self._group, f"obs/{index}", self.path).shape[0] != rows:
            raise MismatchError("X and obs have different numbers of rows", place=self.path)
        if self._native:
            chunks = -(-rows // self.chunk_rows)
            present = sum(1 for child in (self.path / "X/c").iterdir() if child.name.isdecimal())
            if present < chunks:
                raise FormatError(
                    f"{chunks - present} of {chunks} pieces of X are missing",
                    check="was the store copied whole? Copy it again, or count again",
                    place=self.path,
                )

    def __len__(self) -> int:
        return int(self._X.shape[0])

    def __repr__(self) -> str:
        return f"ProfileStore({str(self.path)!r}: {len(self)} × {self.layout.width} {self.values})"

    @property
    def chunk_rows(self) -> int:
        """Rows that are compressed together: reading one reads them all."""
        return int(self._X.chunks[0])

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the ids in order."""
        if self._fingerprint is None:
            self._fingerprint = hash_ids(self.ids)
        return self._fingerprint

    @property
    def ids(self) -> NDArray[np.object_]:
        """Sequence ids, (n,) str; read once."""
        if self._ids is None:
            index = self._group["obs"].attrs.get("_index", "_index")
            self._ids = np.asarray(self._column(f"obs/{index}"), dtype=object)
        return self._ids

    @property
    def obs(self) -> pd.DataFrame:
        """What is known of every sequence, index = ids; read once."""
        if self._obs is None:
            names = self._group["obs"].attrs.get("column-order", [])
            columns = {str(name): self._obs_column(str(name)) for name in np.atleast_1d(np.asarray(names))}
            self._obs = pd.DataFrame(columns, index=pd.Index(self.ids, name=None))
        return self._obs

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start … stop as they are stored, (stop - start, width) uint32 or float32.

        Raises FormatError where a piece of the file is missing or damaged.
        """
        start, stop, _ = slice(start, stop).indices(len(self))
        if stop <= start:
            return np.empty((0, self.layout.width), dtype=self._dtype)
        return self._checked(self._rows("X", self._X, slice(start, stop), start, stop), start)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Any rows in any order, (len(rows), width); reads every chunk that is needed once.

        Raises IndexError for rows outside 0 … n - 1, FormatError as `read`.
        """
        rows = np.asarray(rows, dtype=np.int64)
        taken = np.empty((len(rows), self.layout.width), dtype=self._dtype)
        if not len(rows):
            return taken
        if rows.min() < 0 or rows.max() >= len(self):
            raise IndexError(f"rows {rows.min()} … {rows.max()} of {len(self)}")
        order = np.argsort(rows, kind="stable")
        chunks = rows[order] // self.chunk_rows
        edges = np.flatnonzero(np.diff(chunks, prepend=-1, append=chunks[-1] + 1))
        for first, last in pairwise(edges):
            start = int(chunks[first]) * self.chunk_rows
            block = self.read(start, min(start + self.chunk_rows, len(self)))
            places = order[first:last]
            taken[places] = block[rows[places] - start]
        return taken

    def obsm_keys(self) -> list[str]:
        """Names of the matrices beside the profiles."""
        matrices = self._group.get("obsm")
        return sorted(matrices.array_keys()) if isinstance(matrices, zarr.Group) else []

    def obsm_width(self, key: str) -> int:
        """Columns of a matrix beside the profiles."""
        return int(_array(self._group, f"obsm/{key}", self.path).shape[1])

    def read_obsm(self, key: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows start … stop (all) of a matrix beside the profiles; FormatError where it is not there."""
        if key not in self.obsm_keys():
            raise FormatError(f"the store has no {key}", check="run kinmer embed first", place=self.path)
        array = _array(self._group, f"obsm/{key}", self.path)
        start, stop, _ = slice(start, stop).indices(len(self))
        return self._rows(f"obsm/{key}", array, slice(start, stop), start, stop)

    def embedding(self, key: str) -> dict[str, Any] | None:
        """The provenance that the matrix `key` was written with; None where it is not there or not ours."""
        if key not in self.obsm_keys():
            return None
        found: Any = self._group.attrs.get(EMBEDDING, {})
        return found.get(key) if isinstance(found, Mapping) else None

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
        lock = StoreLock(self.path)
        try:
            clear_unfinished(self.path)
            staged = self.path / f".kinmer-obs-{name}"
            remove(staged)
            write_array(staged, values)
            replace_node(self.path, f"obs/{name}", staged)
            nodes, attributes = read_root(self.path)
            shown = dict(nodes["obs"]["attributes"])
            shown["column-order"] = [one for one in shown["column-order"] if one != name] + [name]
            write_group(self.path / "obs", shown)
            nodes["obs"] = {**nodes["obs"], "attributes": shown}
            write_root(self.path, nodes, attributes)
        finally:
            lock.release()
        self.refresh()

    def refresh(self) -> None:
        """See what was added to the store since it was opened."""
        self._group = zarr.open_group(str(self.path), mode="r")
        self._obs = None

    @property
    def _dtype(self) -> type[np.generic]:
        return np.uint32 if self.values == "counts" else np.float32

    def _checked(self, rows: NDArray[Any], first: int) -> NDArray[Any]:
        if not self._native:
            check_rows(rows, self.layout, self.values, place=self.path, first=first)
        return rows.astype(self._dtype, copy=False)

    def _rows(self, name: str, array: zarr.Array[Any], where: Any, start: int, stop: int) -> NDArray[Any]:
        """`array[where]`, which lies within the rows start … stop, or a FormatError that names the file."""
        # AnnData leaves out chunks of zeros, kinmer never does.
        gone = missing_chunk(self.path / name, array, start, stop) if self._native else None
        if gone is not None:
            raise FormatError("a piece of the store is missing", check="count again", place=gone)
        try:
            return np.asarray(array[where])
        except (RuntimeError, ValueError, OSError, KeyError, TypeError) as error:
            raise FormatError(
                f"{name} is damaged in the rows {start + 1} to {stop}",
                _reason(error),
                "count again",
                place=self.path,
            ) from error

    def _column(self, name: str) -> NDArray[Any]:
        array = _array(self._group, name, self.path)
        return self._rows(name, array, slice(None), 0, array.shape[0])

    def _obs_column(self, name: str) -> Any:
        node = self._group[f"obs/{name}"]
        encoding = node.attrs.get("encoding-type")
        if encoding == "categorical":
            texts = self._column(f"obs/{name}/categories")
            categories = texts.astype(object) if texts.dtype.kind in "TU" else texts
            codes = self._column(f"obs/{name}/codes")
            return pd.Categorical.from_codes(
                codes, pd.Index(categories), ordered=bool(node.attrs.get("ordered", False))
            )
        if encoding in ("array", "string-array"):
            values = self._column(f"obs/{name}")
            return values.astype(object) if values.dtype.kind in "TU" else values
        # Only for what AnnData itself has added (nullable types): it takes half a second to import.
        from anndata.io import read_elem

        return read_elem(node)


def _array(group: zarr.Group, name: str, path: Path) -> zarr.Array[Any]:
    node = group.get(name)
    if not isinstance(node, zarr.Array):
        missing = node is None
        raise FormatError(
            f"{name} is missing" if missing else f"{name} is sparse or of a kind that kinmer does not read",
            "" if missing else "profiles are dense",
            "is this a profile store?" if missing else "write it with X = X.toarray()",
            place=path,
        )
    return node


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
        raise FormatError("this is no profile store", check="make one with kinmer count", place=path)


def _check_version(description: Mapping[str, Any], path: Path) -> None:
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise FormatError(
            f"the store is of format {version}, this kinmer reads format {FORMAT_VERSION}",
            check=f"kinmer {description.get('kinmer_version', '?')} wrote it; use that or a newer one",
            place=path,
        )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
