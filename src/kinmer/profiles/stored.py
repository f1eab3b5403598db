"""Profiles of an AnnData on disk, Zarr or HDF5: ids, columns, blocks of rows, matrices beside them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import FormatError, MismatchError, ProfileError
from kinmer.files import hash_ids
from kinmer.inputs import parse_json
from kinmer.layout import Layout, genetic_code_in, layout_of_features
from kinmer.profiles.protocol import (
    Values,
    as_counts,
    check_ids,
    check_rows,
    whole,
)
from kinmer.profiles.root import translated

if TYPE_CHECKING:
    from anndata import AnnData


# A matrix beside the profiles has at most so many columns.
MATRIX_COLUMNS = 1 << 16
# Ids are unique: no compressor makes less of one than this, and more rows than that cannot be.
ROWS_A_BYTE, FEW_ROWS = 64, 1 << 10


class StoredProfiles:
    """An AnnData on disk whose variables are the k-mers of a layout; reads only what is asked for.

    A subclass knows the files: `_node`, `_read_rows`, `_bytes_on_disk`. Rows that kinmer itself has not
    written are checked as they are read. Whole numbers are counts, all else frequencies; of floating point
    types the first rows decide.
    """

    layout: Layout
    values: Values
    uns: dict[str, Any]

    def __init__(self, path: Path) -> None:
        self.path = path
        self._native = False
        self._fingerprint: str | None = None
        self._ids: NDArray[np.object_] | None = None
        self._obs: pd.DataFrame | None = None
        self.uns = {}

    def _node(self, name: str) -> Any:
        """The group or array of this name, or None."""
        raise NotImplementedError

    def _read_rows(self, name: str, array: Any, start: int, stop: int) -> NDArray[Any]:
        """Rows of an array; texts as objects. Raises FormatError where they are damaged."""
        raise NotImplementedError

    def _bytes_on_disk(self, name: str, array: Any) -> int:
        """Bytes of an array on disk."""
        raise NotImplementedError

    def _open_foreign(self) -> None:
        """Layout, values and size of what AnnData has written."""
        table = self._table()
        names = self._column(f"var/{self._index_of('var')}")
        written = self._uns_json("layout")
        self.layout = layout_of_features(
            [str(name) for name in names], genetic_code=genetic_code_in({"layout": written}), place=self.path
        )
        self._check_shape()
        self.values = "counts" if table.dtype.kind in "ui" else "frequencies"
        if table.dtype.kind == "f" and whole(self._read_rows("X", table, 0, min(len(self), 512))):
            self.values = "counts"

    def _check_shape(self) -> None:
        rows, width = self._table().shape
        if width != self.layout.width:
            raise MismatchError(f"X has {width} columns, the layout {self.layout.width}", place=self.path)
        name = f"obs/{self._index_of('obs')}"
        ids = self._array(name)
        if ids.shape != (rows,):
            raise MismatchError("X and obs have different numbers of rows", place=self.path)
        if not rows:
            raise ProfileError("there are no rows", place=self.path)
        self._check_size(name, ids)

    def _check_size(self, name: str, array: Any) -> None:
        size = self._bytes_on_disk(name, array)
        if array.shape[0] > FEW_ROWS + ROWS_A_BYTE * size:
            claim = f"{name} claims {array.shape[0]:,} rows in {size:,} bytes"
            raise FormatError(claim, "it cannot have so many", place=self.path)

    def __len__(self) -> int:
        return int(self._table().shape[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}: {len(self)} × {self.layout.width} {self.values})"

    @property
    def chunk_rows(self) -> int:
        """Rows that are compressed together: reading one reads them all."""
        chunks = self._table().chunks
        return int(chunks[0]) if chunks else 512

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the ids in order."""
        self._fingerprint = self._fingerprint or hash_ids(self.ids)
        return self._fingerprint

    @property
    def ids(self) -> NDArray[np.object_]:
        """Sequence ids, (n,) str; read once. FormatError where they are not those of the fingerprint."""
        if self._ids is None:
            ids = np.asarray(self._column(f"obs/{self._index_of('obs')}"), dtype=object)
            if self._native and hash_ids(ids) != self._fingerprint:
                raise FormatError(
                    "the ids are damaged", "their fingerprint is another one", "count again", place=self.path
                )
            if not self._native:
                check_ids(ids, place=self.path)
            self._ids = ids
        return self._ids

    @property
    def obs(self) -> pd.DataFrame:
        """What is known of every sequence, index = ids; read once."""
        if self._obs is None:
            names = self._attributes("obs").get("column-order", [])
            columns = {str(name): self._obs_column(str(name)) for name in np.atleast_1d(np.asarray(names))}
            self._obs = pd.DataFrame(columns, index=pd.Index(self.ids, name=None))
        return self._obs

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start … stop, (stop - start, width) uint32 or float32.

        Raises FormatError where a piece of the file is missing or damaged, ProfileError where rows that other
        software has written are not profiles.
        """
        start, stop, _ = slice(start, stop).indices(len(self))
        if stop <= start:
            return np.empty((0, self.layout.width), dtype=self._dtype)
        rows = self._read_rows("X", self._table(), start, stop)
        if not self._native:
            if self.values == "counts" and rows.dtype.kind == "f":
                rows = as_counts(rows, place=self.path, first=start)
            check_rows(rows, self.layout, self.values, place=self.path, first=start)
        return rows.astype(self._dtype, copy=False)

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
            taken[order[first:last]] = block[rows[order[first:last]] - start]
        return taken

    def obsm_keys(self) -> list[str]:
        """Names of the matrices beside the profiles; sparse ones and tables among them."""
        matrices = self._node("obsm")
        return [] if matrices is None or _is_array(matrices) else sorted(map(str, matrices.keys()))

    def is_dense(self, key: str) -> bool:
        """Whether the matrix `key` can be read: neither sparse nor a table of columns."""
        return _is_array(self._node(f"obsm/{key}"))

    def obsm_width(self, key: str) -> int:
        """Columns of a matrix beside the profiles."""
        return int(self._matrix(key).shape[1])

    def read_obsm(self, key: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows start … stop (all) of a matrix beside the profiles; FormatError where it is not there."""
        if key not in self.obsm_keys():
            raise FormatError(f"the store has no {key}", check="run kinmer embed first", place=self.path)
        array = self._matrix(key)
        return self._read_rows(f"obsm/{key}", array, *slice(start, stop).indices(len(self))[:2])

    def embedding(self, key: str) -> dict[str, Any] | None:
        """The provenance that the matrix `key` was written with; None where it is not there or not ours."""
        if key not in self.obsm_keys():
            return None
        made = self._provenance().get(key)
        return dict(made) if isinstance(made, Mapping) else None

    def _provenance(self) -> Mapping[str, Any]:
        """What the matrices were made with, by key, as AnnData keeps it."""
        try:
            made = parse_json(self._uns_json("embedding") or "{}")
            return made if isinstance(made, Mapping) else {}
        except ValueError:
            return {}

    def _uns_json(self, name: str) -> str | None:
        """A text in ``uns["kinmer"]``."""
        node = self._node(f"uns/kinmer/{name}")
        return str(self._read_scalar(node)) if _is_array(node) and node.shape == () else None

    def _read_scalar(self, node: Any) -> Any:
        return node[()]

    def _matrix(self, key: str) -> Any:
        array = self._array(f"obsm/{key}")
        if len(array.shape) != 2 or array.shape[0] != len(self):
            what = f"obsm/{key} of shape {array.shape} does not fit {len(self)} rows"
            raise MismatchError(what, place=self.path)
        if array.shape[1] > MATRIX_COLUMNS or array.dtype.kind not in "buif":
            raise FormatError(
                f"obsm/{key} has {array.shape[1]:,} columns of {array.dtype}",
                f"kinmer reads at most {MATRIX_COLUMNS:,} of numbers",
                place=self.path,
            )
        return array

    def _table(self) -> Any:
        table = self._array("X")
        if len(table.shape) != 2:
            raise FormatError("X is not a table of rows and columns", place=self.path)
        return table

    def _array(self, name: str) -> Any:
        """The array of this name, or a FormatError that says what is there."""
        node = self._node(name)
        if node is not None and _is_array(node):
            return node
        raise dense_only(name, node, self.path)

    def _attributes(self, name: str) -> Mapping[str, Any]:
        node = self._node(name)
        if node is None or _is_array(node):
            what, check = ("missing", "is this a profile store?")
            if node is not None:
                what, check = ("of an older AnnData", "write it again with a newer AnnData")
            raise FormatError(f"{name} is {what}", check=check, place=self.path)
        return node.attrs  # type: ignore[no-any-return]

    def _index_of(self, frame: str) -> str:
        return str(self._attributes(frame).get("_index", "_index"))

    @property
    def _dtype(self) -> type[np.generic]:
        return np.uint32 if self.values == "counts" else np.float32

    def _column(self, name: str) -> NDArray[Any]:
        array = self._array(name)
        if len(array.shape) != 1:
            raise FormatError(f"{name} is not a column", place=self.path)
        # Ids have been checked, and other columns may well hold one value in every row.
        if array.shape[0] != len(self):
            self._check_size(name, array)
        return self._read_rows(name, array, 0, array.shape[0])

    def _obs_column(self, name: str) -> Any:
        node = self._node(f"obs/{name}")
        if node is None:
            raise dense_only(f"obs/{name}", None, self.path)
        encoding = node.attrs.get("encoding-type")
        if encoding == "categorical":
            categories = self._column(f"obs/{name}/categories")
            codes = self._column(f"obs/{name}/codes")
            ordered = bool(node.attrs.get("ordered", False))
            values: Any = pd.Categorical.from_codes(codes, pd.Index(categories), ordered=ordered)
        elif encoding in ("array", "string-array"):
            values = self._column(f"obs/{name}")
        else:
            # Only for what AnnData itself has added (nullable types): it takes half a second to import.
            from anndata.io import read_elem

            values = read_elem(node)
        if len(values) != len(self):
            what = f"obs/{name} has {len(values):,} values for {len(self):,} rows"
            raise MismatchError(what, place=self.path)
        return values


def _is_array(node: Any) -> bool:
    """Whether a node is an array, not a group."""
    return hasattr(node, "shape")


def dense_only(name: str, node: Any, path: object) -> FormatError:
    """What to say where an array was wanted at `name` and `node` is something else, or nothing."""
    if node is None:
        return FormatError(f"{name} is missing", check="is this a profile store?", place=str(path))
    return FormatError(
        f"{name} is sparse or of a kind that kinmer does not read",
        "profiles and their embeddings are dense",
        f"write it as a dense array ({name.partition('/')[0]} of AnnData: .toarray())",
        place=str(path),
    )


class H5adProfiles(StoredProfiles):
    """The X of an AnnData in HDF5, read in blocks; the file stays open as long as this lives.

    Raises FormatError: not HDF5, damaged. Other errors as of `ProfileStore.open`.
    """

    def __init__(self, path: str | Path) -> None:
        import h5py

        super().__init__(Path(path))
        with translated(self.path, "the file is damaged"):
            self._file = h5py.File(self.path, "r")
            self._open_foreign()

    def _node(self, name: str) -> Any:
        import h5py

        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            link = self._file.get("/".join(parts[:depth]), getlink=True)
            if link is None or isinstance(link, h5py.ExternalLink):
                return None  # What lies in another file is not a part of this one.
        node = self._file.get(name)
        if isinstance(node, h5py.Dataset) and (node.is_virtual or node.external):
            raise FormatError(f"{name} lies in other files", "kinmer reads this one only", place=self.path)
        return node

    def _read_rows(self, name: str, array: Any, start: int, stop: int) -> NDArray[Any]:
        import h5py

        text = h5py.check_string_dtype(array.dtype) is not None
        if array.dtype.kind == "O" and not text:
            raise FormatError(f"{name} is of a type that kinmer does not read", place=self.path)
        with translated(self.path, f"{name} is damaged in the rows {start + 1} to {stop}"):
            return np.asarray(array.asstr()[start:stop] if text else array[start:stop])

    def _read_scalar(self, node: Any) -> Any:
        import h5py

        return node.asstr()[()] if h5py.check_string_dtype(node.dtype) is not None else node[()]

    def _bytes_on_disk(self, name: str, array: Any) -> int:
        # Texts lie elsewhere in the file than the array that refers to them.
        return self.path.stat().st_size


CHECK_ROWS = 4096


class AnnDataProfiles:
    """The X of an AnnData whose variables are the k-mers of a layout; checked at birth, not copied.

    Whole numbers of any type are counts, the rest frequencies. Raises ProfileError: variables of no layout,
    unusable ids, values that are negative or not finite, frequencies that do not sum to 1.
    """

    chunk_rows = 512

    def __init__(self, data: AnnData) -> None:
        self.anndata = data
        self.layout = layout_of_features(
            [str(name) for name in data.var_names],
            genetic_code=genetic_code_in(data.uns.get("kinmer")),
            place="the AnnData",
        )
        if data.X is None or data.n_obs == 0:
            raise ProfileError("the AnnData has no X" if data.X is None else "the AnnData has no rows")
        self._X: Any = data.X
        check_ids(data.obs_names.to_numpy(dtype=object), place="the AnnData's obs_names")
        counts = all(whole(block) for _, block in self._blocks())
        self.values: Values = "counts" if counts else "frequencies"
        for start, block in self._blocks():
            shown = block.astype(np.int64) if counts and block.dtype.kind == "f" else block
            check_rows(shown, self.layout, self.values, place="the AnnData's X", first=start)

    def __len__(self) -> int:
        return int(self.anndata.n_obs)

    def __repr__(self) -> str:
        return f"AnnDataProfiles({len(self)} × {self.layout.width} {self.values})"

    @property
    def ids(self) -> NDArray[np.object_]:
        """Sequence ids, (n,) str."""
        return np.asarray(self.anndata.obs_names, dtype=object)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the ids in order."""
        return hash_ids(self.ids)

    @property
    def obs(self) -> pd.DataFrame:
        """The AnnData's own obs."""
        return self.anndata.obs  # type: ignore[no-any-return]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start … stop, (stop - start, width) uint32 or float32."""
        return self._rows(slice(start, stop))

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Any rows in any order, (len(rows), width)."""
        return self._rows(np.asarray(rows, dtype=np.int64))

    def obsm_keys(self) -> list[str]:
        """Names of the matrices beside the profiles."""
        return sorted(map(str, self.anndata.obsm.keys()))

    def read_obsm(self, key: str) -> NDArray[Any]:
        """A matrix beside the profiles, (n, width); FormatError where it is sparse or a table of columns."""
        matrix = self.anndata.obsm[key]
        if isinstance(matrix, np.ndarray) and matrix.ndim == 2 and matrix.dtype.kind in "buif":
            return matrix
        raise dense_only(f"obsm/{key}", matrix, "the AnnData")

    def embedding(self, key: str) -> dict[str, Any] | None:
        """The provenance that the matrix `key` was written with; None where nothing is known of it."""
        try:
            made = parse_json(self.anndata.uns["kinmer"]["embedding"])[key]
            return made if isinstance(made, dict) else None
        except (KeyError, TypeError, ValueError):
            return None

    def _blocks(self) -> Any:
        for start in range(0, len(self), CHECK_ROWS):
            yield start, _dense(self._X[start : start + CHECK_ROWS])

    def _rows(self, where: Any) -> NDArray[Any]:
        kind = np.uint32 if self.values == "counts" else np.float32
        return _dense(self._X[where]).astype(kind, copy=False)


def _dense(block: Any) -> NDArray[Any]:
    return np.asarray(block.toarray() if hasattr(block, "toarray") else block)


LENGTH_COLUMN, ROW_COLUMN = 2773, 10965
