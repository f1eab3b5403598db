"""The genomes that may be a query's: by its nearest rows, by the means of all genomes, by shared k-mers.

Both views meet here. Composition says how near a genome's nearest row and its mean are. Homology says how
many k-mers of the query's sketch a genome has. Genomes are ranked by both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pool import LineageBook
from kinmer.index import Storage
from kinmer.index.rows import GENOME, WHOLE

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Integers = NDArray[np.int64]

# Genomes kept of a query, and how many of them may come by their means and by shared k-mers.
CANDIDATES, BY_MEAN, BY_KMERS = 64, 32, 32
# Of more genomes than this, only those of the nearest rows are looked at.
MOST_MEANS = 200_000
# Pairs of queries and means whose vectors are gathered together: 3 MB.
PAIRS_AT_ONCE = 1 << 10
# A genome is as far as these parts of its nearest row and of its mean. A mean has less noise.
NEAREST_PART, MEAN_PART = 0.3, 0.7
# A genome without a row among the nearest is so much farther than the last of them.
BEYOND = 0.03
# What a share of the query's k-mers counts for, beyond a share that relatives of another species have too.
SHARED_PART, USUAL_SHARE = 0.4, 0.2


@dataclass(frozen=True)
class Candidates:
    """The best genomes of every query, (q, c) by score; missing ones are at the end.

    genomes, columns : positions in `Lineages` and in `GenomeMeans`, -1 for none. numbers : of the genomes.
    near, mean : cosine distances of the genome's nearest row and of its mean. shared : hashes of the query's
    sketch that the genome has. score : what they are ranked by, inf for none. hashes : (q,) of the query's
    sketch, -1 without one. lengths : (q,) bases, 0 for unknown.
    """

    genomes: Integers
    numbers: Integers
    columns: Integers
    near: Floats
    mean: Floats
    shared: Integers
    score: Floats
    hashes: Integers
    lengths: Integers

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, rows: Integers) -> Candidates:
        """Those of some queries."""
        return Candidates(*(getattr(self, name)[rows] for name in Candidates.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """All of several."""
        width = max(part.genomes.shape[1] for part in parts)
        missing = {
            "genomes": -1,
            "numbers": -1,
            "columns": -1,
            "near": np.inf,
            "mean": np.inf,
            "shared": 0,
            "score": np.inf,
        }

        def wide(name: str) -> NDArray[Any]:
            values = [getattr(part, name) for part in parts]
            if name in missing:
                sizes = [((0, 0), (0, width - one.shape[1])) for one in values]
                pairs = zip(values, sizes, strict=True)
                values = [np.pad(one, size, constant_values=missing[name]) for one, size in pairs]
            return np.concatenate(values)

        return cls(*map(wide, cls.__dataclass_fields__))

    @cached_property
    def containment(self) -> Floats:
        """(q, c) share of the query's hashes that the genome has."""
        return self.shared / np.maximum(self.hashes, 1)[:, None]


@dataclass(frozen=True)
class SharedHashes:
    """How many hashes queries share with genomes: (n,) rows of queries, numbers of genomes, and counts.

    hashes : (q,) of every query, -1 for one without a sketch.
    """

    query: Integers
    genome: Integers
    count: Integers
    hashes: Integers

    @classmethod
    def nothing(cls, queries: int) -> SharedHashes:
        """No query has a sketch."""
        none = np.empty(0, np.int64)
        return cls(none, none, none, np.full(queries, -1, np.int64))


class GenomeMeans:
    """The mean vectors of an index's genomes; of a genome with a single vector that one.

    numbers : (g,) ascending. rows : (g,) where the vector stands. sizes : (g,) rows of the genome.
    """

    def __init__(self, index: Storage) -> None:
        rows = index.rows
        alive = np.flatnonzero(rows.searched)
        means = alive[rows.kinds[alive] == GENOME]
        wholes = alive[(rows.kinds[alive] == WHOLE) & ~np.isin(rows.genome[alive], rows.genome[means])]
        every = np.concatenate([means, wholes])
        self.numbers, first = np.unique(rows.genome[every], return_index=True)
        self.rows = every[first]
        counts = np.searchsorted(self.numbers, rows.genome[alive])
        self.sizes = np.bincount(counts[counts < len(self)], minlength=len(self))
        self._vectors = rows.vectors

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def _all(self) -> Singles:
        return unit(self._vectors[self.rows])

    @property
    def few(self) -> bool:
        """Whether all means are compared with every query."""
        return len(self) <= MOST_MEANS

    def take(self, columns: Integers) -> Singles:
        """The unit vectors (…, dim) of positions (…,)."""
        if self.few:
            return self._all[columns]
        return unit(np.asarray(self._vectors[self.rows[columns.ravel()]])).reshape(*columns.shape, -1)

    def distances(self, queries: Singles) -> Singles | None:
        """(q, g) cosine distances of unit vectors (q, dim); None where there are too many means."""
        return np.maximum(1 - queries @ self._all.T, 0) if self.few and len(self) else None

    def columns(self, genomes: Integers) -> Integers:
        """Positions of genomes by number, any shape; -1 for one that is not there."""
        at = np.minimum(np.searchsorted(self.numbers, genomes), max(0, len(self) - 1))
        known = self.numbers[at] == genomes if len(self) else np.zeros(genomes.shape, bool)
        return np.where(known, at, -1)


def unit(vectors: Singles) -> Singles:
    """The vectors (n, dim) at length 1; zeros stay."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)).astype(np.float32)
    return np.asarray(vectors / np.where(norms > 0, norms, 1)[:, None], dtype=np.float32)


@dataclass(frozen=True)
class Nearest:
    """What is known of some queries before genomes are ranked.

    rows : (q, r) labels, -1 for none, and their cosine distances. means : (q, g) distances to all means, inf
    for what is not to be seen, None where there are too many. vectors : (q, dim) unit. masked : `means` are
    not all true, and so not computed again.
    """

    rows: Integers
    distances: Singles
    means: Singles | None
    vectors: Singles
    lengths: Integers
    masked: bool = False


def candidates_of(
    index: Storage, means: GenomeMeans, positions: LineageBook, nearest: Nearest, shared: SharedHashes
) -> Candidates:
    """The genomes of the nearest rows, of the nearest means and of shared k-mers, the best first.

    positions : a `LineageBook`, whose positions of genomes are given.
    """
    query, column, near, count = _pairs(index, means, nearest, shared)
    mean = _means(means, nearest, query, column)
    near = np.where(np.isfinite(near), near, np.where(np.isfinite(mean), _beyond(nearest)[query], np.inf))
    mean = np.where(np.isfinite(mean), mean, near)
    containment = count / np.maximum(shared.hashes, 1)[query]
    score = NEAREST_PART * near + MEAN_PART * mean
    score = score - SHARED_PART * np.maximum(containment - USUAL_SHARE, 0)
    kept = np.flatnonzero(np.isfinite(score))
    # Equal scores: the genome that came first, whatever else is there.
    order = kept[np.lexsort((column[kept], score[kept], query[kept]))]
    query = query[order]
    starts = np.searchsorted(query, np.arange(len(nearest.lengths)))
    rank = np.arange(len(order)) - starts[query]
    first = rank < CANDIDATES
    order, query, rank = order[first], query[first], rank[first]
    shape = (len(nearest.lengths), int(rank.max(initial=-1)) + 1)

    def spread(values: NDArray[Any], nothing: float) -> NDArray[Any]:
        result: NDArray[Any] = np.full(shape, nothing, values.dtype)
        result[query, rank] = values[order]
        return result

    columns: Integers = spread(column, -1)
    numbers = np.where(columns >= 0, means.numbers[columns] if len(means) else -1, -1)
    return Candidates(
        positions.positions(numbers),
        numbers,
        columns,
        spread(near, np.inf),
        spread(mean, np.inf),
        spread(count, 0),
        spread(score, np.inf),
        shared.hashes,
        nearest.lengths,
    )


def _beyond(nearest: Nearest) -> Floats:
    """(q,) how far a genome is that has no row among the nearest."""
    finite = np.where(np.isfinite(nearest.distances), nearest.distances, 0)
    return np.asarray(finite.max(axis=1, initial=0) + BEYOND, np.float64)


def _pairs(
    index: Storage, means: GenomeMeans, nearest: Nearest, shared: SharedHashes
) -> tuple[Integers, Integers, Floats, Integers]:
    """Queries and columns of genomes (n,), each pair once; distance of the nearest row, hashes shared."""
    count, width = nearest.rows.shape
    rows = nearest.rows.ravel()
    usable = (rows >= 0) & (index.rows.kinds[rows] != GENOME)
    query = np.repeat(np.arange(count), width)[usable]
    column = means.columns(index.rows.genome[rows[usable]])
    distances = nearest.distances.ravel()[usable].astype(np.float64)
    parts: list[tuple[NDArray[Any], ...]] = [(query, column, distances, np.zeros(len(query)))]
    if nearest.means is not None:
        most = min(BY_MEAN, nearest.means.shape[1])
        best = np.argpartition(nearest.means, most - 1, axis=1)[:, :most]
        seen = np.isfinite(np.take_along_axis(nearest.means, best, 1)).ravel()
        query, column = np.repeat(np.arange(count), most)[seen], best.ravel()[seen]
        parts.append((query, column, np.full(len(query), np.inf), np.zeros(len(query))))
    order = np.lexsort((shared.genome, -shared.count, shared.query))
    starts = np.searchsorted(shared.query[order], np.arange(count))
    order = order[np.arange(len(order)) - starts[shared.query[order]] < BY_KMERS]
    column = means.columns(shared.genome[order])
    parts.append((shared.query[order], column, np.full(len(order), np.inf), shared.count[order]))
    query, column, near, hashes = (np.concatenate(values) for values in zip(*parts, strict=True))
    known = column >= 0
    keys, inverse = np.unique(query[known] * max(1, len(means)) + column[known], return_inverse=True)
    nearest_row, most_shared = np.full(len(keys), np.inf), np.zeros(len(keys))
    np.minimum.at(nearest_row, inverse, near[known])
    np.maximum.at(most_shared, inverse, hashes[known])
    query, column = np.divmod(keys, max(1, len(means)))
    return query, column, nearest_row, most_shared.astype(np.int64)


def _means(means: GenomeMeans, nearest: Nearest, query: Integers, column: Integers) -> Floats:
    if nearest.masked and nearest.means is not None:
        return nearest.means[query, column].astype(np.float64)
    # One by one: the same bits whatever queries come together.
    cosines = np.empty(len(query), np.float32)
    for start in range(0, len(query), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        cosines[part] = np.einsum("ij,ij->i", nearest.vectors[query[part]], means.take(column[part]))
    return np.asarray(np.maximum(1 - cosines.astype(np.float64), 0))
