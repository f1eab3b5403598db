"""All samples together, and what is known of each: bins, genera, folds, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.features import VIRUS
from kinmer.confidence.pools import CASES, HIDDEN, NO_KIN, Lineages, Pool, Sample
from kinmer.confidence.twins import twin_queries
from kinmer.confidence.voting import RANK_COUNT, Votes, vote
from kinmer.confidence.weighing import sample_weights

__all__ = ["ABSENT", "FOLDS", "GENUS", "SPECIES", "Material", "material_of"]

GENUS, SPECIES = 5, 6
FOLDS = 5
# Cases in which the true name is none of the references', by rank.
ABSENT = {
    rank: tuple(case for case, gone in HIDDEN.items() if gone is not None and gone <= rank)
    for rank in range(RANK_COUNT)
}
# As many lengths are bins of their own; more are parted into so many bins.
MOST_LENGTHS, PARTS = 12, 6
# Below so many bases all genomes are about as far: their distances tell no species from another name.
TELLING = 1_000

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Material:
    """All samples, of n queries.

    cases : (n,) places in `CASES`. given : the share of every case. group : (n,) number of the genus.
    kin : (n,) whether it has any. folds : (n,), genera are never parted. bins : (n,) places in `lengths`.
    twins : (n,) see `twin_queries`.
    """

    pool: Pool
    votes: Votes
    truth: NDArray[np.int32]
    molecule: NDArray[np.int8]
    cases: Places
    given: Mapping[str, float]
    group: Places
    kin: Bools
    folds: Places
    bins: Places
    lengths: tuple[float, ...]
    twins: Bools

    @property
    def within(self) -> tuple[float, float]:
        """Shortest and longest query, in letters."""
        return float(self.pool.lengths.min()), float(self.pool.lengths.max())

    def absent(self, rank: int) -> Bools:
        """(n,) queries whose name at a rank is none of the references'."""
        return np.isin(self.cases, [CASES.index(case) for case in ABSENT.get(rank, ())]) & ~self.twins

    def weights(self, rank: int, rows: Places) -> Floats:
        """(n,) of the queries `rows`, by which names at a rank are judged."""
        return sample_weights(
            self.cases[rows],
            self.bins[rows],
            self.group[rows],
            self.truth[rows, GENUS] >= 0,
            self.molecule[rows] == VIRUS,
            self.given,
            ABSENT.get(rank, ()),
        )


def material_of(samples: Sequence[Sample], lineages: Lineages, given: Mapping[str, float]) -> Material:
    """The samples, none of which may be empty."""
    width = max(one.pool.distances.shape[1] for one in samples)
    pool = Pool(
        np.concatenate([_wide(one.pool.distances, width, np.inf) for one in samples]),
        np.concatenate([_wide(one.pool.genomes, width, -1) for one in samples]),
        np.concatenate([_wide(one.pool.kinds, width, -1) for one in samples]),
        np.concatenate([_wide(one.pool.molecules, width, -1) for one in samples]),
        np.concatenate([one.pool.lengths for one in samples]),
    )
    truth = np.concatenate([one.truth for one in samples])
    molecule = np.concatenate([one.molecule for one in samples])
    cases = np.concatenate([np.full(len(one.pool), CASES.index(one.case)) for one in samples])
    lengths, bins = _bins(pool.lengths)
    group, votes = _groups(truth), vote(pool, lineages)
    folds = np.random.default_rng(0).permutation(group.max() + 1)[group] % FOLDS
    kin = cases != CASES.index(NO_KIN)
    telling = kin & (pool.lengths >= TELLING) if (pool.lengths >= TELLING).any() else kin
    twins = twin_queries(
        cases, bins, truth[:, SPECIES].astype(np.int64), molecule == VIRUS, votes.nearest, telling
    )
    return Material(pool, votes, truth, molecule, cases, given, group, kin, folds, bins, lengths, twins)


def _wide(values: NDArray[Any], width: int, missing: float) -> NDArray[Any]:
    return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=missing)


def _bins(lengths: Places) -> tuple[tuple[float, ...], Places]:
    """Lengths that stand for bins, and every query's bin: their own where they are few, else parts."""
    sizes = np.maximum(lengths, 1)
    unique, back = np.unique(sizes, return_inverse=True)
    if len(unique) <= MOST_LENGTHS:
        return tuple(unique.astype(float).tolist()), back.astype(np.int64)
    edges = np.quantile(sizes, np.linspace(0, 1, PARTS + 1)[1:-1])
    present, bins = np.unique(np.searchsorted(edges, sizes), return_inverse=True)
    middles = [float(np.exp(np.log(sizes[bins == one]).mean())) for one in range(len(present))]
    return tuple(middles), bins.astype(np.int64)


def _groups(truth: NDArray[np.int32]) -> Places:
    """(n,) the genus of every query, or the species where it has none, by number."""
    keys = np.where(truth[:, GENUS] >= 0, 2 * truth[:, GENUS].astype(np.int64), 2 * truth[:, SPECIES] + 1)
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)
