"""Plasmid taxonomic units (PTUs): the nearest row's that has one, and how likely it is a query's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.logistic import Logistic, fit_logistic
from kinmer.molecules import PLASMID, log_distance

# Of fewer right or wrong ones nothing is learned.
LEAST_QUERIES = 10
# Genera differ: more than is best for those that are learned from.
RIDGE = 2.0

FEATURES = 8

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class UnitEvidence:
    """What the nearest rows of q queries say about their units.

    codes : (q,) number of the unit that the nearest row with one has, -1 for none. features : (q, f).
    """

    codes: Rows
    features: Floats

    def take(self, rows: Rows) -> UnitEvidence:
        """Of some queries."""
        return UnitEvidence(self.codes[rows], self.features[rows])

    @classmethod
    def joined(cls, parts: Sequence[UnitEvidence]) -> UnitEvidence:
        """Of all queries of several."""
        return cls(
            np.concatenate([part.codes for part in parts]), np.concatenate([part.features for part in parts])
        )


def unit_evidence(
    distances: NDArray[np.float32], units: NDArray[np.int32], molecules: NDArray[np.int8], lengths: Rows
) -> UnitEvidence:
    """How near a unit is, and what else is: another unit, a plasmid without one, anything.

    distances : (q, c) ascending, inf for none. units : (q, c) numbers, -1 for none. molecules : (q, c)
    positions in `MOLECULES`. lengths : (q,) bases, 0 for unknown.
    """
    count = len(distances)
    if not distances.shape[1]:
        return UnitEvidence(np.full(count, -1, np.int64), np.zeros((count, FEATURES)))
    valid = np.isfinite(distances)
    labeled = valid & (units >= 0)
    first = np.argmax(labeled, axis=1)
    rows = np.arange(count)
    codes = np.where(labeled[rows, first], units[rows, first], -1).astype(np.int64)
    last = np.where(valid, distances, 0).max(axis=1).astype(np.float64)

    def nearest(which: NDArray[np.bool_]) -> Floats:
        least = np.where(which, distances, np.inf).min(axis=1).astype(np.float64)
        return log_distance(np.where(np.isfinite(least), least, last))

    own = labeled & (units == codes[:, None])
    near = nearest(own)
    other, bare = nearest(labeled & ~own), nearest(valid & (molecules == PLASMID) & (units < 0))
    size = np.log(np.maximum(lengths, 100) / 10_000)
    gaps = np.stack([near, other - near, bare - near, nearest(valid) - near], axis=1)
    return UnitEvidence(codes, np.concatenate([gaps, size[:, None], gaps[:, :3] * size[:, None]], axis=1))


def fit_units(evidence: UnitEvidence, own: Rows, weights: Floats) -> Logistic | None:
    """A model of whether the nearest unit is right, from n plasmids; None where there are too few.

    own : (n,) numbers of their own units. A plasmid without one, -1, has none of the references'.
    """
    rows = np.flatnonzero((evidence.codes >= 0) & (weights > 0))
    right = evidence.codes[rows] == own[rows]
    if min(right.sum(), (~right).sum()) < LEAST_QUERIES:
        return None
    return fit_logistic(evidence.features[rows], right.astype(np.int64), weights[rows], number=2, ridge=RIDGE)
