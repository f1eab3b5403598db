"""Candidates of queries: the nearest rows of an index, what they are of, and what they agree on.

The features that models take are made of these votes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.index import Storage
from kinmer.index.manifest import Entry
from kinmer.index.nearest import MEAN_BONUS
from kinmer.index.rows import GENOME
from kinmer.taxonomy import RANKS, rank_columns, taxon

# The cases of `LabeledPool`, and the highest rank whose name the references do not have then.
HIDDEN: Mapping[str, int | None] = {
    "known": None,
    "new species": 6,
    "new genus": 5,
    "new family": 4,
    "new order": 3,
    "new class": 2,
    "new phylum": 1,
    "new domain": 0,
    "no kin": 0,
}
CASES = tuple(HIDDEN)
NO_KIN = "no kin"
# Candidates of a query that its verdict rests on.
POOL = 256
MOLECULES = ("chromosome", "plasmid", "virus")
# Which value counts as which kind. Other values say nothing.
MOLECULE_CODES = {name: code for code, name in enumerate(MOLECULES)} | {"contig": 0}


@dataclass(frozen=True)
class Lineages:
    """Names of genomes.

    codes : (g, 7) int32, positions in `names` of the ranks from domain to species, -1 for unknown.
    """

    codes: NDArray[np.int32]
    names: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Pool:
    """The nearest rows of every query.

    distances : (q, c) float32, ascending cosine distances, inf for none. genomes : (q, c) int64, positions in
    `Lineages`, -1 for none. kinds : (q, c) int8, 0 a piece, 1 a whole sequence, 2 a genome's mean.
    molecules : (q, c) int8, 0 chromosome, 1 plasmid, 2 virus, -1 unknown. lengths : (q,) int64 bases of the
    queries, 0 for unknown.
    """

    distances: NDArray[np.float32]
    genomes: NDArray[np.int64]
    kinds: NDArray[np.int8]
    molecules: NDArray[np.int8]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class LabeledPool:
    """Queries of one of `CASES` whose truth is known; nothing in their pool contradicts the case.

    Those of "no kin" are random sequences, each in the place of a real one, whose name `truth` has.

    truth : (q, 7) int32 codes of the queries' own names, -1 unknown. molecule : (q,) int8 as in `Pool`.
    """

    case: str
    pool: Pool
    truth: NDArray[np.int32]
    molecule: NDArray[np.int8]


def merge_genomes(pool: Pool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Every genome once, as near as its best candidate: distances and genomes (q, c), nearest first.

    Missing ones are inf and -1.
    """
    shape = pool.distances.shape
    distances = pool.distances.astype(np.float64)
    distances = np.where(pool.kinds == GENOME, np.maximum(distances - MEAN_BONUS, 0), distances)
    valid = (pool.genomes >= 0) & np.isfinite(distances)
    genomes = np.where(valid, pool.genomes, np.iinfo(np.int64).max)
    distances = np.where(valid, distances, np.inf)
    rows = np.repeat(np.arange(shape[0]), shape[1])
    order = np.lexsort((distances.ravel(), genomes.ravel(), rows)).reshape(shape) % max(1, shape[1])
    genomes, distances = np.take_along_axis(genomes, order, 1), np.take_along_axis(distances, order, 1)
    distances[:, 1:][genomes[:, 1:] == genomes[:, :-1]] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")
    distances = np.take_along_axis(distances, order, 1)
    return distances, np.where(np.isfinite(distances), np.take_along_axis(genomes, order, 1), -1)


def molecule_column(columns: Sequence[str]) -> str | None:
    """The metadata column that has the kind of molecule; None where there is none."""
    return next((name for name in columns if name.lower() == "molecule"), None)


class LineageBook:
    """Lineages of genomes and molecules of entries of one state of an index, read as they are needed.

    A genome's lineage is that of its first sequence.
    """

    def __init__(self, index: Storage) -> None:
        self._index = index
        columns = rank_columns(index.columns)
        positions = {name: at for at, name in enumerate(index.columns)}
        self._ranks = [positions.get(columns.get(rank, "")) for rank in RANKS]
        molecule = molecule_column(index.columns)
        self._molecule = None if molecule is None else positions[molecule]
        self._positions: dict[int, int] = {}
        self._codes: list[list[int]] = []
        self._names: list[dict[str, int]] = [{} for _ in RANKS]
        self._kinds: dict[int, int] = {-1: -1}

    @property
    def has_ranks(self) -> bool:
        """Whether the index has ranks at all."""
        return any(column is not None for column in self._ranks)

    def lineages(self) -> Lineages:
        """Those of the genomes read so far, in the order of their positions."""
        codes = np.array(self._codes, dtype=np.int32).reshape(-1, len(RANKS))
        return Lineages(codes, tuple(tuple(names) for names in self._names))

    def positions(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions in `lineages` of genomes (any shape), -1 for none."""
        unique, inverse = np.unique(genomes, return_inverse=True)
        missing = [genome for genome in unique.tolist() if genome >= 0 and genome not in self._positions]
        if missing:
            first = self._index.table.first_members(missing)
            for genome in missing:
                self._positions[genome] = len(self._codes)
                self._codes.append(self._code(first[genome]))
        at = np.array([self._positions.get(genome, -1) for genome in unique.tolist()], dtype=np.int64)
        return np.asarray(at[inverse].reshape(genomes.shape))

    def codes(self, genomes: NDArray[np.int64]) -> NDArray[np.int32]:
        """(n, 7) names of genomes (n,) as in `lineages`."""
        positions = self.positions(genomes)
        return self.lineages().codes[positions]

    def molecules(self, entries: NDArray[np.int64]) -> NDArray[np.int8]:
        """Kinds of molecule of entries (any shape), positions in `MOLECULES`, -1 for unknown."""
        if self._molecule is None:
            return np.full(entries.shape, -1, dtype=np.int8)
        unique, inverse = np.unique(entries, return_inverse=True)
        missing = np.array([number for number in unique.tolist() if number not in self._kinds], np.int64)
        for number, entry in self._index.entries(missing).items():
            value = str(entry.values[self._molecule] or "").lower()
            self._kinds[number] = MOLECULE_CODES.get(value, -1)
        kinds = np.array([self._kinds[number] for number in unique.tolist()], dtype=np.int8)
        return np.asarray(kinds[inverse].reshape(entries.shape))

    def _code(self, entry: Entry) -> list[int]:
        codes = []
        for rank, column, names in zip(RANKS, self._ranks, self._names, strict=True):
            # An index of kinmer 0.1.0 may hold values that are not valid names.
            name = None if column is None else taxon(rank, entry.values[column])
            codes.append(-1 if name is None else names.setdefault(name, len(names)))
        return codes


def pool_of(
    index: Storage,
    book: LineageBook,
    labels: NDArray[np.int64],
    distances: NDArray[np.float32],
    lengths: NDArray[np.int64],
) -> Pool:
    """Candidates of queries: rows (q, c), -1 for none, their cosine distances, the queries' bases (q,)."""
    rows, valid = index.rows, labels >= 0
    return Pool(
        np.where(valid, distances, np.float32(np.inf)),
        book.positions(np.where(valid, rows.genome[labels], -1)),
        np.where(valid, rows.kinds[labels], -1).astype(np.int8),
        book.molecules(np.where(valid, rows.entry[labels], -1)),
        lengths,
    )


RANK_COUNT, MOLECULE_COUNT, VIRUS = len(RANKS), len(MOLECULES), MOLECULES.index("virus")
# Genomes that have a vote, and the distance behind the nearest at which a vote's weight falls to 1/e.
VOTERS, WEIGHT_SCALE = 10, 0.02
# Below this distance sequences count as equal.
LEAST_DISTANCE = 1e-3
USUAL_LENGTH = 10_000.0
# Shorter sequences say less and less: they have features of their own, which are 0 for longer ones.
SHORT_LENGTH = 1_000.0
# Rows whose molecules count, and the distance behind the nearest at which their weight falls to 1/e.
MOLECULE_ROWS, MOLECULE_SCALE = 20, 0.02
# Rows of a kind whose mean distance counts beside that of its nearest.
MOLECULE_NEAREST = 5

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Votes:
    """The votes on queries, (q, 7) by rank.

    names : int32, -1 where the genomes do not agree. share : of all votes. own, other : distances of the
    nearest genome of that name and of another name. own_mean, other_mean : of the nearest genome's mean of
    that name and of all others. nearest : (q,) distance of the nearest genome.

    Without a name `own` and `other` are the distances of the nearest and of the farthest candidate. The
    farthest also stands for another name, or a mean, that no candidate has.
    """

    names: NDArray[np.int32]
    share: Floats
    own: Floats
    other: Floats
    own_mean: Floats
    other_mean: Floats
    nearest: Floats


def vote(pool: Pool, lineages: Lineages) -> Votes:
    """The votes of the `VOTERS` nearest genomes of every query.

    At each rank the name with the largest weight among the genomes that agree with all names above it. Of
    equal weights the nearer one's counts. A rank at which half of the weight or more has no name, as many
    viruses have no order, is passed over.
    """
    distances, genomes = merge_genomes(pool)
    count, ranks = len(pool), RANK_COUNT
    codes = np.concatenate([lineages.codes, np.full((1, ranks), -1, np.int32)])[genomes]
    nearest = distances[:, 0] if distances.shape[1] else np.full(count, np.inf)
    nearest = np.where(np.isfinite(nearest), nearest, 2.0)
    finite = np.where(np.isfinite(pool.distances), pool.distances, 0)
    farthest = np.maximum(finite.max(axis=1, initial=0).astype(np.float64), nearest)
    voters = min(VOTERS, distances.shape[1])
    weight = np.exp(-(distances[:, :voters] - nearest[:, None]) / WEIGHT_SCALE)
    weight = np.where(genomes[:, :voters] >= 0, weight, 0)
    own, other, own_mean, other_mean = (
        np.repeat(values[:, None], ranks, 1) for values in (nearest, farthest, farthest, farthest)
    )
    names, share = np.full((count, ranks), -1, np.int32), np.zeros((count, ranks))
    total = weight.sum(axis=1)
    agree = np.ones((count, voters), bool)
    for rank in range(ranks):
        name, votes, named = _ballot(codes[:, :voters, rank], weight, agree, total)
        has = named & (total > 0)
        names[has, rank], share[has, rank] = name[has], votes[has]
        of = codes[:, :, rank]
        own[has, rank] = _least(distances, of == name[:, None])[has]
        others = _least(distances, (of != name[:, None]) & (of >= 0))
        other[has, rank] = np.where(np.isfinite(others), others, farthest)[has]
        agree &= ~has[:, None] | (of[:, :voters] == name[:, None])
    _fill_means(own_mean, other_mean, names, pool, lineages)
    return Votes(names, share, own, other, own_mean, other_mean, nearest)


def descending(likely: Floats, named: Bools, most: Floats) -> Floats:
    """(q, 7) probabilities of the names: none above `most` (q,) or the one above; NaN where there is no name.

    likely : (q, 7), NaN where nothing could be learned of the rank. It then gets that of the next one below.
    """
    result = np.fmin.accumulate(np.where(named, np.minimum(likely, most[:, None]), np.nan), axis=1)
    known = named & np.isfinite(likely)
    below = np.full(len(likely), np.nan)
    for rank in reversed(range(RANK_COUNT)):
        result[:, rank] = np.where(known[:, rank], result[:, rank], np.where(named[:, rank], below, np.nan))
        below = np.where(known[:, rank], result[:, rank], below)
    return result


def log_distance(distances: Floats) -> Floats:
    """Logs of distances, those of nearly equal sequences as one."""
    return np.asarray(np.log(np.maximum(distances, LEAST_DISTANCE)))


def name_features(
    votes: Votes, pool: Pool, rank: int, within: tuple[float, float], width: int | None = None
) -> Floats:
    """(q, p) of the name at a rank: how near it is, how near another name is, its share, and the length.

    width : only the first columns. Later ones stand last: models of kinmer 0.1.0 have none of them.

    Whether the query is a virus was tried too. It did not help on genera that had not been learned from.
    """
    own, other = log_distance(votes.own[:, rank]), log_distance(votes.other[:, rank])
    means = log_distance(votes.own_mean[:, rank]), log_distance(votes.other_mean[:, rank])
    size = _size(pool.lengths, within)
    curved = [size * own, size * other, size**2 * own, size**2 * other]
    short = np.minimum(size - np.log(SHORT_LENGTH / USUAL_LENGTH), 0)
    share = votes.share[:, rank]
    shorter = [short, short**2, short * own, short * other, short * share]
    every = [own, other, share, size, size**2, *curved, *means, *shorter]
    return np.stack(every[:width], axis=1)


def molecule_features(pool: Pool, within: tuple[float, float]) -> Floats:
    """(q, p): how near each kind of molecule is, what share of the nearest rows it has, and the length."""
    distances = pool.distances.astype(np.float64)
    valid = np.isfinite(distances)
    first = np.where(valid, distances, np.inf).min(axis=1, initial=np.inf)
    last = np.where(valid, distances, 0).max(axis=1, initial=0)
    closeness = np.exp(-(distances - np.where(np.isfinite(first), first, 0)[:, None]) / MOLECULE_SCALE)
    weight = np.where(valid & (pool.molecules >= 0), closeness, 0)[:, :MOLECULE_ROWS]
    total = np.maximum(weight.sum(axis=1), 1e-300)
    size = _size(pool.lengths, within)
    parts = [size]
    for kind in range(MOLECULE_COUNT):
        own = valid & (pool.molecules == kind)
        nearest = np.sort(np.where(own, distances, np.inf), axis=1)[:, :MOLECULE_NEAREST]
        lacking = MOLECULE_NEAREST - nearest.shape[1]
        nearest = np.pad(nearest, ((0, 0), (0, lacking)), constant_values=np.inf)
        nearest = np.where(np.isfinite(nearest), nearest, last[:, None])
        near = log_distance(nearest[:, 0])
        share = np.where(own[:, :MOLECULE_ROWS], weight, 0).sum(axis=1) / total
        mean = log_distance(nearest.mean(axis=1))
        common = own.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
        parts += [near, near * size, share, share * size, mean, common]
    return np.stack(parts, axis=1)


def _size(lengths: NDArray[np.int64], within: tuple[float, float]) -> Floats:
    """Log of lengths, limited to those that were learned from; unknown ones as the longest."""
    known = np.where(lengths > 0, lengths, within[1]).astype(np.float64)
    return np.asarray(np.log(np.clip(known, *within) / USUAL_LENGTH))


def _fill_means(
    own_mean: Floats, other_mean: Floats, names: NDArray[np.int32], pool: Pool, lineages: Lineages
) -> None:
    """Put in the distances of genomes' means, where candidates have any."""
    means = (pool.kinds == GENOME) & (pool.genomes >= 0) & np.isfinite(pool.distances)
    distances = np.where(means, pool.distances, np.inf).astype(np.float64)
    for rank in range(RANK_COUNT):
        codes = np.append(lineages.codes[:, rank], np.int32(-1))[np.where(means, pool.genomes, -1)]
        name = names[:, rank, None]
        own = (codes == name) & (name >= 0)
        for target, which in ((own_mean, own), (other_mean, ~own)):
            least = _least(distances, which)
            target[:, rank] = np.where(np.isfinite(least), least, target[:, rank])


def _ballot(
    codes: NDArray[np.int32], weight: Floats, agree: Bools, total: Floats
) -> tuple[NDArray[np.int32], Floats, Bools]:
    """The name (q,) with the most weight of all voters, its share, and whether the rank counts at all."""
    count = len(codes)
    if not codes.shape[1]:
        return np.full(count, -1, np.int32), np.zeros(count), np.zeros(count, bool)
    valid = agree & (codes >= 0)
    given = np.where(valid, weight, 0)
    # Voters are few: their weights are added one by one, in the same order for every batch.
    votes = np.zeros_like(given)
    for voter in range(codes.shape[1]):
        votes += np.where(codes == codes[:, voter, None], given[:, voter, None], 0)
    votes = np.where(valid, votes, -1)
    best = votes.argmax(axis=1)
    top = votes[np.arange(count), best]
    nameless = np.where(agree & (codes < 0), weight, 0).sum(axis=1)
    named = (top > 0) & (nameless < 0.5 * np.maximum(total, 1e-300))
    return codes[np.arange(count), best], np.maximum(top, 0) / np.maximum(total, 1e-300), named


def _least(distances: Floats, which: Bools) -> Floats:
    return np.asarray(np.where(which, distances, np.inf).min(axis=1, initial=np.inf))
