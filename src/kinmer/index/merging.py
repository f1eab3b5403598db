"""From the nearest rows of queries to their nearest sequences or genomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence import MEAN_BONUS
from kinmer.index.grouping import MOST_ROWS, nearest_groups
from kinmer.index.scanning import Labels, first_of_each
from kinmer.index.vectors import GENOME
from kinmer.stores import Metric

if TYPE_CHECKING:
    from kinmer.index.database import KinIndex

__all__ = ["Merging"]

# Rows asked for at first where sequences have several each; so many times more where they do not suffice.
FEW_ROWS, WIDER = 64, 4

Vectors = NDArray[np.float32]
Near = tuple[Labels, Vectors]


class Merging:
    """A search for sequences or genomes of one state of an index; see `KinIndex.search`."""

    def __init__(
        self,
        index: KinIndex,
        by: Literal["sequence", "genome"],
        metric: Metric,
        exclude: Labels | None,
        allowed: NDArray[np.bool_] | None,
    ) -> None:
        rows = index.rows
        if by == "sequence":
            allowed = rows.sequences if allowed is None else rows.sequences & allowed
        self._index, self._rows, self._by, self._metric = index, rows, by, metric
        self._exclude, self._allowed = exclude, allowed
        self._group = rows.entry if by == "sequence" else rows.genome
        self._groups = len(index) if by == "sequence" else int(index.table.state["genomes"])

    def search(self, queries: Vectors, k: int, begun: Near | None) -> tuple[Labels, Vectors, Labels]:
        """Numbers, distances and rows (q, k); begun : the nearest rows, where they are known already."""
        rows, most = self._rows, min(k, self._groups)
        count = most if rows.single else min(len(rows), max(FEW_ROWS, WIDER * most))
        found = np.full((len(queries), k), -1, dtype=np.int64)
        far = np.full((len(queries), k), np.inf, dtype=np.float32)
        where = np.full((len(queries), k), -1, dtype=np.int64)
        left = np.arange(len(queries))
        while left.size:
            near = begun or self._nearest(queries[left], left, count)
            begun, count = None, near[0].shape[1]
            merged = first_of_each(self._group, *self._favoured(*near), most)
            found[left, :most], far[left, :most], where[left, :most] = merged
            # All rows have been given where one is missing.
            left = left[(merged[0] < 0).any(axis=1) & (near[0] >= 0).all(axis=1)]
            count = min(len(rows), count * WIDER)
            if left.size and self._metric == "cosine" and len(rows) <= MOST_ROWS:
                found[left, :most], far[left, :most], where[left, :most] = self._all(
                    queries[left], left, most
                )
                break
        return found, far, where

    def _nearest(self, queries: Vectors, places: Labels, count: int) -> Near:
        shut = None if self._exclude is None else self._exclude[places]
        return self._index.nearest(queries, count, metric=self._metric, exclude=shut, allowed=self._allowed)

    def _favoured(self, near: Labels, distances: Vectors) -> Near:
        """Rows and distances anew, with those of genomes so much nearer as they count."""
        if self._by == "sequence" or self._metric != "cosine":
            return near, distances
        means = (near >= 0) & (self._rows.kinds[near] == GENOME)
        distances = np.where(means, np.maximum(distances - np.float32(MEAN_BONUS), 0), distances)
        order = np.argsort(distances, axis=1, kind="stable")
        return np.take_along_axis(near, order, 1), np.take_along_axis(distances, order, 1)

    def _all(self, queries: Vectors, places: Labels, count: int) -> tuple[Labels, Vectors, Labels]:
        """The nearest groups among all rows."""
        rows, shut = self._rows, None
        if self._exclude is not None:
            own = self._exclude[places]
            shut = rows.shut(own, self._index.entries(own))
        usable = rows.alive if self._allowed is None else rows.alive & self._allowed
        favour = np.where(rows.kinds == GENOME, np.float32(MEAN_BONUS), np.float32(0))
        return nearest_groups(rows, self._group, queries, count, usable, shut, favour)
