"""Profiles in an ``.h5ad`` file of AnnData, which are only read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError
from kinmer.profiles.guard import translated
from kinmer.profiles.stored import StoredProfiles

__all__ = ["H5adProfiles"]


class H5adProfiles(StoredProfiles):
    """The X of an AnnData in HDF5, read in blocks; the file stays open as long as this lives.

    Raises FormatError: not HDF5, damaged; MismatchError: parts that do not belong together; ProfileError:
    columns of no layout.
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
                return None  # What lies in another file is no part of this one.
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
