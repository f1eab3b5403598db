"""All samples together, and what is known of each: bins, genera, folds, weights, synonyms."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pool import CASES, HIDDEN, NO_KIN, LabeledPool, Lineages, Pool
from kinmer.confidence.votes import RANK_COUNT, VIRUS, Votes, vote

__all__ = ["ABSENT", "FOLDS", "GENUS", "SPECIES", "Material", "material_of", "sample_weights", "twin_queries"]


KNOWN = 0
# How much farther than strains of its own the nearest other name of a twin may be on average, as a log of
# distances, and of how few queries that is told.
SLACK, LEAST_TWINS = 0.15, 3
LEAST_DISTANCE = 1e-3

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def twin_queries(
    cases: Labels,
    bins: Labels,
    species: Labels,
    virus: NDArray[np.bool_],
    nearest: Floats,
    telling: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """(n,) queries of "new" species to whose genomes others are as near as strains are to each other.

    Species are parted by an identity of less than 95 % (Jain et al. 2018, doi:10.1038/s41467-018-07641-9),
    but some have several names, as Escherichia coli and the shigellas. Taking out one of these names makes no
    new species, and what is learnt from it would be that strains are new species.

    cases : (n,) 0 where the species is known. bins : (n,) of the length. species : (n,) the queries' own.
    nearest : (n,) distance of the nearest genome. telling : (n,) queries by which that is judged; None: all.
    """
    far = np.log(np.maximum(nearest, LEAST_DISTANCE))
    known = cases == KNOWN
    # Of the same kind of query when its species is known, and of the species itself.
    usual = _mean_of_known(far, known, 2 * bins + virus)
    own = _mean_of_known(far, known, species * (bins.max(initial=0) + 1) + bins)
    excess = far - np.where(np.isfinite(own), (own + usual) / 2, usual)
    found = np.zeros(len(cases), bool)
    judging = np.isfinite(excess) & (np.ones(len(cases), bool) if telling is None else telling)
    for case in np.unique(cases[~known & judging]).tolist():
        own = (cases == case) & (species >= 0)
        rows = np.flatnonzero(own & judging)
        names, back, counts = np.unique(species[rows], return_inverse=True, return_counts=True)
        mean = np.bincount(back, excess[rows]) / np.maximum(counts, 1)
        found |= own & np.isin(species, names[(mean <= SLACK) & (counts >= LEAST_TWINS)])
    return found


def _mean_of_known(far: Floats, known: NDArray[np.bool_], groups: Labels) -> Floats:
    """(n,) the mean over the known queries of the same group; NaN where there are none."""
    _, back = np.unique(groups, return_inverse=True)
    count = np.bincount(back, known)
    total = np.bincount(back, np.where(known, far, 0.0))
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan)[back])


def sample_weights(
    cases: NDArray[np.int64],
    bins: NDArray[np.int64],
    groups: NDArray[np.int64],
    named: NDArray[np.bool_],
    virus: NDArray[np.bool_],
    given: Mapping[str, float],
    absent: Collection[str],
) -> Floats:
    """(n,) weights of samples by which names at one rank are judged.

    Cells and viruses have as much as there are named genera of them: the one says nothing of how many of the
    other are new, and species of no genus, as many viruses are, would be a genus each. In each a case has its
    share, in which lengths count alike, and in these genera. The share of a case that cannot be made goes to
    those of its side, so that as many names as stated are absent.

    cases : (n,) places in `CASES`. bins, groups : (n,) of the length and of the genus, or of the species that
    has none. named : (n,) whether it is a genus. given : the share of every case. absent : cases in which the
    true name is none of the references'.
    """
    weights = np.zeros(len(cases))
    for realm in (virus, ~virus):
        shares = _case_shares(set(cases[realm].tolist()), given, absent)
        size = max(1, len(np.unique(groups[realm & named])))
        for case, share in shares.items():
            own = realm & (cases == case)
            places = np.unique(bins[own])
            for place in places.tolist():
                here = np.flatnonzero(own & (bins == place))
                _, back, counts = np.unique(groups[here], return_inverse=True, return_counts=True)
                weights[here] = size * share / (len(places) * len(counts) * counts[back])
    return weights


def _case_shares(
    made: Collection[int], given: Mapping[str, float], absent: Collection[str]
) -> dict[int, float]:
    """The share of every case that could be made."""
    found: dict[int, float] = {}
    for side in (True, False):
        able = {case: given.get(name, 0.0) for case, name in enumerate(CASES) if (name in absent) == side}
        there = {case: share for case, share in able.items() if case in made}
        whole = sum(able.values()) / max(sum(there.values()), 1e-300)
        found |= {case: share * whole for case, share in there.items()}
    return found


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


def material_of(samples: Sequence[LabeledPool], lineages: Lineages, given: Mapping[str, float]) -> Material:
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
