"""Embeddings of any rows of a source: those kept beside its profiles, or made on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError, ProfileError
from kinmer.profiles import Profiles, StoredProfiles
from kinmer.progress import step

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder

__all__ = ["RowVectors"]

BLOCK_ROWS = 4096


class RowVectors:
    """Vectors of rows of `profiles`: ``obsm[key]`` of a store or an AnnData (`source`), else the encoder's.

    Raises InputError where there are no such embeddings and no encoder to make them.
    """

    def __init__(
        self, source: str | AnnData | Any, profiles: Profiles, key: str, encoder: Encoder | None
    ) -> None:
        self._profiles, self._key, self._encoder = profiles, key, encoder
        self._store = (
            profiles if isinstance(profiles, StoredProfiles) and key in profiles.obsm_keys() else None
        )
        kept = getattr(source, "obsm", {})
        self._kept = np.asarray(kept[key]) if key in kept else None
        if self._store is None and self._kept is None and encoder is None:
            raise InputError(
                f"there is no {key} beside the profiles", check="run kinmer embed first, or give an encoder"
            )

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), d) float32 of ascending `rows`; ProfileError where a vector holds no number."""
        edges = np.flatnonzero(np.diff(rows // BLOCK_ROWS, prepend=-1))
        parts = []
        with step("reading embeddings", rows.size) as progress:
            for part in np.split(rows, edges[1:]):
                parts.append(np.asarray(self._block(part), np.float32))
                progress.advance(part.size)
        vectors = np.concatenate(parts)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            name = self._profiles.ids[rows[int(np.argmin(finite))]]
            raise ProfileError(f"the embedding of {name!r} holds NaN or infinity", check="embed again")
        return vectors

    def _block(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        if self._kept is not None:
            return np.asarray(self._kept[rows])
        if self._store is not None:
            first = int(rows[0])
            return self._store.read_obsm(self._key, first, int(rows[-1]) + 1)[rows - first]
        assert self._encoder is not None
        return self._encoder.embed(self._profiles.take(rows), self._profiles.values)
