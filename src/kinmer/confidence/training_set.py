"""What is learned from: all samples together, with their bins, genera, folds and weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.candidates import Candidates
from kinmer.confidence.cases import LabeledSample
from kinmer.confidence.features import GENUS, SPECIES, Votes, vote
from kinmer.confidence.pool import CASES, HIDDEN, NO_KIN, RANK_COUNT, Lineages, Pool
from kinmer.molecules import VIRUS, log_distance

FOLDS = 5
# Cases in which the true name is none of the references', by rank.
ABSENT = {
    rank: tuple(case for case, hidden in HIDDEN.items() if hidden is not None and hidden <= rank)
    for rank in range(RANK_COUNT)
}
# As many lengths are bins of their own; more are divided into so many bins.
MOST_LENGTHS, PARTS = 12, 6
# Below so many bases all genomes are about as near: distances do not separate a species from a synonym.
TELLING = 1_000
# How much farther than strains of its own the nearest other name of a synonym may be on average, as a log of
# distances, and from how few queries on that is judged.
SLACK, LEAST_SYNONYMS = 0.15, 3
# How many of the known have a homologue where no species has two genomes that could say so, and the least and
# most that is believed.
WITH_HOMOLOGUE, FEWEST, MOST = 0.75, 0.2, 0.9
# Of sketches of so many hashes, a homologue is seen by so large a share.
LEAST_HASHES, LEAST_SHARED = 30, 0.15
LEAST_GENERA = 8

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingSet:
    """All samples of one view, of n queries.

    cases : (n,) positions in `CASES`. given : the share of every case. group : (n,) number of the genus.
    kin : (n,) whether it has any. folds : (n,), a genus is in one fold. bins : (n,) positions in `lengths`.
    synonyms : (n,) see `synonym_queries`. fragment, genome : (n,) as in `LabeledSample`.
    whole, positions : the set that these are some of, and where they are in it.
    """

    pool: Pool
    votes: Votes
    truth: NDArray[np.int32]
    molecule: NDArray[np.int8]
    cases: Rows
    given: Mapping[str, float]
    group: Rows
    kin: Bools
    folds: Rows
    bins: Rows
    lengths: tuple[float, ...]
    synonyms: Bools
    fragment: Rows
    genome: Rows
    whole: TrainingSet | None = None
    positions: Rows | None = None

    def __len__(self) -> int:
        return len(self.cases)

    def take(self, rows: Rows) -> TrainingSet:
        """Some of the queries; genera, folds and bins keep their numbers."""
        arrays = (
            "truth",
            "molecule",
            "cases",
            "group",
            "kin",
            "folds",
            "bins",
            "synonyms",
            "fragment",
            "genome",
        )
        some = {name: getattr(self, name)[rows] for name in arrays}
        return replace(
            self, pool=self.pool.take(rows), votes=self.votes.take(rows), whole=self, positions=rows, **some
        )

    @property
    def within(self) -> tuple[float, float]:
        """Shortest and longest query, in bases."""
        return float(self.pool.lengths.min()), float(self.pool.lengths.max())

    def absent(self, rank: int) -> Bools:
        """(n,) queries whose name at a rank is none of the references'."""
        return np.isin(self.cases, [CASES.index(case) for case in ABSENT[rank]]) & ~self.synonyms

    def weights(self, rank: int, rows: Rows, given: Mapping[str, float] | None = None) -> Floats:
        """(n,) of the queries `rows`, by which names at a rank are judged. given : other shares of cases.

        They weigh as among all queries: a cell that is taken for a virus is rare among viruses.
        """
        if self.whole is not None and self.positions is not None:
            return self.whole.weights(rank, self.positions[rows], given)
        key = (ABSENT[rank], tuple((given or self.given).items()))
        if key not in self._weights:
            kept = np.flatnonzero(~self.synonyms)
            self._weights[key] = np.zeros(len(self))
            self._weights[key][kept] = sample_weights(
                self.cases[kept],
                self.bins[kept],
                self.group[kept],
                self.truth[kept, GENUS] >= 0,
                self.molecule[kept] == VIRUS,
                given or self.given,
                ABSENT[rank],
            )
        return np.asarray(self._weights[key][rows])

    @cached_property
    def _weights(self) -> dict[object, Floats]:
        return {}


def training_set_of(
    samples: Sequence[LabeledSample], lineages: Lineages, given: Mapping[str, float], view: str
) -> TrainingSet:
    """The samples, none of which may be empty. given : the share of every case."""
    pool = Pool.joined([sample.pool for sample in samples])
    truth, molecule, fragment, genome = (
        np.concatenate([getattr(sample, name) for sample in samples])
        for name in ("truth", "molecule", "fragment", "genome")
    )
    cases = np.concatenate([np.full(len(sample), CASES.index(sample.case)) for sample in samples])
    lengths, bins = _bins(pool.lengths)
    group = _groups(truth)
    votes = vote(Candidates.joined([sample.views[view] for sample in samples]), lineages)
    folds = np.random.default_rng(0).permutation(group.max() + 1)[group] % FOLDS
    kin = cases != CASES.index(NO_KIN)
    long = pool.lengths >= TELLING
    synonyms = synonym_queries(
        cases,
        bins,
        truth[:, SPECIES].astype(np.int64),
        molecule == VIRUS,
        votes.nearest,
        kin & long if long.any() else kin,
    )
    return TrainingSet(
        pool,
        votes,
        truth,
        molecule,
        cases,
        given,
        group,
        kin,
        folds,
        bins,
        lengths,
        synonyms,
        fragment,
        genome,
    )


def homologous_share(training: TrainingSet, lineages: Lineages) -> float:
    """The share of queries of a known species that share k-mers with a genome of it.

    Of fragments and each other genome of their species, genera alike: most species have but one. It is lower
    the less complete genomes are.
    """
    known = np.flatnonzero((training.cases == CASES.index("strain")) & ~training.synonyms)
    unchanged = known[~_is_own(training)[known]]
    found = training.votes.candidates
    rows = unchanged[found.hashes[unchanged] >= LEAST_HASHES]
    if len(np.unique(training.group[rows])) < LEAST_GENERA:
        return WITH_HOMOLOGUE
    species, genomes = training.truth[rows, SPECIES], lineages.codes[:, SPECIES]
    others = np.bincount(genomes[genomes >= 0])[species] - 1
    right = training.votes.codes[rows, :, SPECIES] == species[:, None]
    alike = (right & (found.containment[rows] >= LEAST_SHARED)).sum(axis=1)
    shared = np.minimum(alike / np.maximum(others, 1), 1)
    by_genus = np.bincount(training.group[rows], shared) / np.maximum(np.bincount(training.group[rows]), 1)
    return float(np.clip(by_genus[np.unique(training.group[rows])].mean(), FEWEST, MOST))


def _is_own(training: TrainingSet) -> Bools:
    """(n,) whether a query's own genome is among its candidates."""
    found = training.votes.candidates
    return np.asarray((found.numbers == training.genome[:, None]).any(axis=1))


def sample_weights(
    cases: Rows,
    bins: Rows,
    groups: Rows,
    named: Bools,
    virus: Bools,
    given: Mapping[str, float],
    absent: Collection[str],
) -> Floats:
    """(n,) weights of samples by which names at one rank are judged.

    Cells and viruses have as much as there are named genera of them: how many of the one are new says nothing
    of the other, and species without a genus, as many viruses are, would be a genus each. In each a case has
    its share, in which lengths count alike, and in these genera. The share of a case that cannot be made goes
    to those of its side, so that as many names as stated are absent.

    cases : (n,) positions in `CASES`. bins, groups : (n,) of the length and of the genus, or of the species
    that has none. named : (n,) whether it is a genus. given : the share of every case. absent : cases in
    which the true name is none of the references'.
    """
    weights = np.zeros(len(cases))
    for realm in (virus, ~virus):
        shares = _case_shares(set(cases[realm].tolist()), given, absent)
        size = max(1, len(np.unique(groups[realm & named])))
        for case, share in shares.items():
            own = realm & (cases == case)
            present = np.unique(bins[own])
            for length in present.tolist():
                here = np.flatnonzero(own & (bins == length))
                _, inverse, counts = np.unique(groups[here], return_inverse=True, return_counts=True)
                weights[here] = size * share / (len(present) * len(counts) * counts[inverse])
    return weights


def _case_shares(
    made: Collection[int], given: Mapping[str, float], absent: Collection[str]
) -> dict[int, float]:
    """The share of every case that could be made."""
    result: dict[int, float] = {}
    for side in (True, False):
        able = {case: given.get(name, 0.0) for case, name in enumerate(CASES) if (name in absent) == side}
        present = {case: share for case, share in able.items() if case in made}
        whole = sum(able.values()) / max(sum(present.values()), 1e-300)
        result |= {case: share * whole for case, share in present.items()}
    return result


def synonym_queries(
    cases: Rows, bins: Rows, species: Rows, virus: Bools, nearest: Floats, telling: Bools | None = None
) -> Bools:
    """(n,) queries of "new" species to whose genomes others are as near as strains are to each other.

    Species are separated by an identity of less than 95 % (Jain et al. 2018, doi:10.1038/s41467-018-07641-9),
    but some have several names, as Escherichia coli and the shigellas. Hiding one of these names makes no new
    species, and what is learned from it would be that strains are new species.

    cases : (n,) positions in `CASES`; strains say how near a known species is. bins : (n,) of the length.
    species : (n,) the queries' own. nearest : (n,) distance of the nearest genome. telling : (n,) queries by
    which that is judged; None: all.
    """
    distances, known = log_distance(nearest), cases == CASES.index("strain")
    # Of the same kind of query when its species is known, and of the species itself.
    usual = _mean_of_known(distances, known, 2 * bins + virus)
    own = _mean_of_known(distances, known, species * (bins.max(initial=0) + 1) + bins)
    excess = distances - np.where(np.isfinite(own), (own + usual) / 2, usual)
    result = np.zeros(len(cases), bool)
    judging = np.isfinite(excess) & (True if telling is None else telling)
    absent = ~known & (cases != CASES.index("part"))
    for case in np.unique(cases[absent & judging]).tolist():
        own = (cases == case) & (species >= 0)
        rows = np.flatnonzero(own & judging)
        names, inverse, counts = np.unique(species[rows], return_inverse=True, return_counts=True)
        mean = np.bincount(inverse, excess[rows]) / np.maximum(counts, 1)
        result |= own & np.isin(species, names[(mean <= SLACK) & (counts >= LEAST_SYNONYMS)])
    return result


def _mean_of_known(distances: Floats, known: Bools, groups: Rows) -> Floats:
    """(n,) the mean over the known queries of the same group; NaN where there are none."""
    _, inverse = np.unique(groups, return_inverse=True)
    count = np.bincount(inverse, known)
    total = np.bincount(inverse, np.where(known, distances, 0.0))
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan)[inverse])


def _bins(lengths: Rows) -> tuple[tuple[float, ...], Rows]:
    """Lengths that stand for bins, and every query's bin: their own where they are few, else parts."""
    sizes = np.maximum(lengths, 1)
    unique, inverse = np.unique(sizes, return_inverse=True)
    if len(unique) <= MOST_LENGTHS:
        return tuple(unique.astype(float).tolist()), inverse.astype(np.int64)
    edges = np.quantile(sizes, np.linspace(0, 1, PARTS + 1)[1:-1])
    present, bins = np.unique(np.searchsorted(edges, sizes), return_inverse=True)
    middles = [float(np.exp(np.log(sizes[bins == part]).mean())) for part in range(len(present))]
    return tuple(middles), bins.astype(np.int64)


def _groups(truth: NDArray[np.int32]) -> Rows:
    """(n,) the genus of every query, or the species where it has none, by number."""
    keys = np.where(truth[:, GENUS] >= 0, 2 * truth[:, GENUS].astype(np.int64), 2 * truth[:, SPECIES] + 1)
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)
