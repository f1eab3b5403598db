"""Profiles of an AnnData in memory."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import ProfileError
from kinmer.files import hash_ids
from kinmer.inputs import parse_json
from kinmer.profiles.base import Values, check_rows, genetic_code_in, layout_of_features, whole
from kinmer.profiles.ids import check_ids
from kinmer.profiles.stored import dense_only

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["AnnDataProfiles"]

CHECK_ROWS = 4096


class AnnDataProfiles:
    """The X of an AnnData whose variables are the k-mers of a layout; checked at birth, not copied.

    Whole numbers are counts, in integer or floating point types (as other tools leave them); all else is
    frequencies. Raises ProfileError: variables of no layout, ids that cannot be used, negative or not finite
    values, frequencies that do not sum to 1.
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
        frame: pd.DataFrame = self.anndata.obs
        return frame

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
        if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind not in "buif":
            raise dense_only(f"obsm/{key}", matrix, "the AnnData")
        return matrix

    def embedding(self, key: str) -> dict[str, Any] | None:
        """The provenance that the matrix `key` was written with; None where nothing is known of it."""
        try:
            made = parse_json(self.anndata.uns["kinmer"]["embedding"])[key]
        except (KeyError, TypeError, ValueError):
            return None
        return made if isinstance(made, dict) else None

    def _blocks(self) -> Any:
        for start in range(0, len(self), CHECK_ROWS):
            yield start, _dense(self._X[start : start + CHECK_ROWS])

    def _rows(self, where: Any) -> NDArray[Any]:
        kind = np.uint32 if self.values == "counts" else np.float32
        return _dense(self._X[where]).astype(kind, copy=False)


def _dense(block: Any) -> NDArray[Any]:
    return np.asarray(block.toarray() if hasattr(block, "toarray") else block)
