"""Queries, their database and the vectors of both: one trial for every benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.counting import CountedFasta, fasta_ids
from kinmer.embedding import KEY
from kinmer.encoder import Encoder
from kinmer.errors import InputError, MismatchError, UsageError
from kinmer.evaluate.measures import DEPTH, Found, barred_pairs, label_table
from kinmer.fragments import open_benchmark
from kinmer.inputs import kind_of
from kinmer.layout import kmer_layout
from kinmer.profiles import open_profiles
from kinmer.progress import step
from kinmer.stores import Metric, exact_search
from kinmer.vectors import RAW, Embedder, Transform, Vectors, open_vectors

__all__ = [
    "Encoders",
    "Pool",
    "Source",
    "Trial",
    "benchmark_trials",
    "encoders_of",
    "nearest",
    "search_trial",
    "vector_trial",
]


Rows = NDArray[np.int64]
# Queries that are searched together.
BLOCK_QUERIES = 1024
FOLD = "{fold}"


@dataclass(frozen=True)
class Encoders:
    """An encoder, one for every fold (then `origin` has ``{fold}`` in it), or None: vectors as they are."""

    name: str
    origin: str | Path | Encoder | None
    device: str = "auto"

    @property
    def by_fold(self) -> bool:
        return isinstance(self.origin, str | Path) and FOLD in str(self.origin)

    def of(self, fold: str = "") -> Embedder | None:
        """The encoder of a fold, or the one there is; raises what `Encoder.load` raises."""
        if self.origin is None or isinstance(self.origin, Encoder):
            return self.origin
        if str(self.origin) in RAW:
            return Transform(RAW[str(self.origin)], kmer_layout())
        return Encoder.load(str(self.origin).replace(FOLD, fold), device=self.device)


def encoders_of(
    given: Sequence[str | Path | Encoder] | Mapping[str, str | Path | Encoder], device: str
) -> list[Encoders]:
    """Encoders by name: a mapping's keys, else the folders as given; none: the vectors that are there.

    Raises UsageError for one name twice.
    """
    if isinstance(given, Mapping):
        found = [Encoders(name, origin, device) for name, origin in given.items()]
    else:
        found = [
            Encoders(origin.fingerprint[:12] if isinstance(origin, Encoder) else str(origin), origin, device)
            for origin in given
        ]
    if not found:
        return [Encoders("vectors", None)]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"the encoder {name} is given twice", check="give each once")
    return found


class Source:
    """n sequences that vectors can be had of, by one encoder after another: FASTA, profiles, or vectors.

    FASTA is counted into a temporary file once for every layout.
    """

    def __init__(self, source: Any, *, threads: int | None = None) -> None:
        self._source, self._threads = source, threads
        self._fasta = kind_of(source) in ("fasta", "missing")
        self._counted: dict[str, CountedFasta] = {}
        self._vectors: Vectors | None = None
        if self._fasta:
            self.ids: Sequence[str] = fasta_ids(source)
        elif kind_of(source) == "npy":
            self._vectors = open_vectors(source)
            self.ids = self._vectors.ids.tolist()
        else:
            self._source = open_profiles(source)
            self.ids = [str(name) for name in self._source.ids]

    def vectors(self, encoder: Embedder | None, rows: Rows | None = None) -> NDArray[np.float32]:
        """(m, d) vectors by `encoder` (None: those that are there) of ascending `rows` (None: of all)."""
        chosen = np.arange(len(self.ids)) if rows is None else rows
        return self._opened(encoder).take(chosen)

    def _opened(self, encoder: Embedder | None) -> Vectors:
        if self._vectors is not None:
            if encoder is not None:
                raise UsageError(
                    "vectors cannot be embedded again", check="leave out the encoder", place=self._source
                )
            return self._vectors
        if not self._fasta:
            return open_vectors(self._source, encoder or KEY, lazy=True)
        if encoder is None:
            raise UsageError("sequences have no vectors yet", check="give an encoder", place=self._source)
        key = encoder.layout.fingerprint
        if key not in self._counted:
            self._counted[key] = CountedFasta(self._source, encoder.layout, threads=self._threads)
        return open_vectors(self._counted[key], encoder, lazy=True)

    def close(self) -> None:
        """Give back what is held."""
        self._counted.clear()


@dataclass(frozen=True)
class Trial:
    """One database, its queries (None: every entry is asked about the others), and their labels."""

    database: Source
    queries: Source | None
    database_table: pd.DataFrame
    query_table: pd.DataFrame
    barred: tuple[NDArray[np.int64], NDArray[np.int64]]

    @classmethod
    def of(
        cls,
        database: Source,
        queries: Source | None,
        database_labels: str | Path | None,
        query_labels: str | Path | None,
    ) -> Trial:
        """With the labels read; InputError where there is nothing to ask or to find."""
        base = label_table(database.ids, database_labels)
        asked = base.copy() if queries is None else label_table(queries.ids, query_labels)
        if len(base) < 1 + (queries is None) or not len(asked):
            raise InputError("there is nothing to find", check="give at least a query and another sequence")
        return cls(database, queries, base, asked, barred_pairs(asked, base))

    def close(self) -> None:
        """Give back what the sources hold."""
        self.database.close()
        if self.queries is not None:
            self.queries.close()


def benchmark_trials(folders: Sequence[str | Path], threads: int | None) -> list[Trial]:
    """A trial for every benchmark's folder; raises what `open_benchmark` raises."""
    trials = []
    for folder in folders:
        found = open_benchmark(folder)
        database, queries = (Source(path, threads=threads) for path in (found.database, found.queries))
        trials.append(Trial.of(database, queries, found.database_labels, found.query_labels))
    return trials


def vector_trial(
    database: Any,
    queries: Any,
    database_labels: str | Path | None,
    query_labels: str | Path | None,
    threads: int | None,
) -> Trial:
    """A trial of two sources, or of one (`queries` None) whose sequences are asked about each other."""
    if database is None or database_labels is None:
        raise UsageError(
            "there is nothing to evaluate", check="give a benchmark, or a database and its labels"
        )
    if (queries is None) != (query_labels is None):
        raise UsageError("queries and their labels belong together", check="give both, or neither")
    asked = None if queries is None else Source(queries, threads=threads)
    return Trial.of(Source(database, threads=threads), asked, database_labels, query_labels)


class Pool:
    """All trials' queries and entries, one trial behind the other.

    queries, database : tables with a column ``set``, the trial's number. barred : pairs of places in them.
    first_query, first_entry : where each trial begins.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials = trials
        self.queries = _stacked([one.query_table for one in trials])
        self.database = _stacked([one.database_table for one in trials])
        self.first_query = np.cumsum([0, *(len(one.query_table) for one in trials)])
        self.first_entry = np.cumsum([0, *(len(one.database_table) for one in trials)])
        self.barred = (
            np.concatenate([one.barred[0] + self.first_query[at] for at, one in enumerate(trials)]),
            np.concatenate([one.barred[1] + self.first_entry[at] for at, one in enumerate(trials)]),
        )

    def subsamples(self, fractions: Sequence[float], draws: int, seed: int) -> NDArray[np.bool_]:
        """(fractions × draws, n) entries of random genomes, so many of every trial's, at least one."""
        random = np.random.default_rng(seed)
        inside = np.zeros((len(fractions) * draws, len(self.database)), bool)
        for row, fraction in enumerate(np.repeat(fractions, draws)):
            for at, trial in enumerate(self.trials):
                codes, names = pd.factorize(trial.database_table["genome_id"], sort=True)
                number = max(1, round(fraction * len(names)))
                chosen = random.choice(len(names), number, replace=False)
                inside[row, self.first_entry[at] : self.first_entry[at + 1]] = np.isin(codes, chosen)
        return inside


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    numbered = [table.assign(set=at) for at, table in enumerate(tables)]
    return pd.concat(numbered, ignore_index=True).fillna("")


# Cosine distance behind the nearest at which a vote's weight falls to 1/e.
WEIGHT_SCALE = 0.03

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def search_trial(
    pool: Pool, at: int, encoders: Encoders, inside: NDArray[np.bool_], metric: Metric
) -> list[Found]:
    """Neighbours of the queries of trial `at`: at once, or fold by fold, by the encoder of each.

    inside : (draws, n) subsamples of the pool's entries.
    """
    trial = pool.trials[at]
    found = []
    for fold, members in _folds(trial, encoders):
        embedder = encoders.of(fold)
        vectors = trial.database.vectors(embedder)
        asking = _asking(trial, embedder, vectors, members)
        if asking.shape[1] != vectors.shape[1]:
            raise MismatchError(f"queries of {asking.shape[1]} dimensions, entries of {vectors.shape[1]}")
        part = _search(
            asking,
            vectors,
            _among(trial.barred, members),
            inside[:, pool.first_entry[at] : pool.first_entry[at + 1]],
            metric,
        )
        rows = np.where(part.rows >= 0, part.rows + pool.first_entry[at], -1)
        drawn = np.where(part.nearest_in >= 0, part.nearest_in + pool.first_entry[at], -1)
        found.append(Found(members + pool.first_query[at], rows, part.weights, drawn))
    return found


def _folds(trial: Trial, encoders: Encoders) -> list[tuple[str, NDArray[np.int64]]]:
    """Folds and their queries; one without a name where one encoder does for all."""
    everyone = np.arange(len(trial.query_table))
    if not encoders.by_fold:
        return [("", everyone)]
    folds = trial.query_table.get("fold")
    if folds is None or (folds == "").any():
        raise InputError(
            "queries without a fold",
            f"{encoders.name} is an encoder for every fold",
            "have the query labels a column fold?",
        )
    return [(str(name), everyone[folds == name]) for name in sorted(folds.unique())]


def _asking(
    trial: Trial, embedder: Embedder | None, vectors: NDArray[np.float32], members: NDArray[np.int64]
) -> NDArray[np.float32]:
    return vectors[members] if trial.queries is None else trial.queries.vectors(embedder, members)


def _among(barred: Pairs, queries: NDArray[np.int64]) -> Pairs:
    """The pairs of some queries (ascending), which are counted from 0."""
    kept = np.isin(barred[0], queries)
    return np.searchsorted(queries, barred[0][kept]), barred[1][kept]


def _search(
    asking: NDArray[np.float32],
    vectors: NDArray[np.float32],
    barred: Pairs,
    inside: NDArray[np.bool_],
    metric: Metric,
) -> Found:
    """All places count from 0 in what is given."""
    everyone, entries = np.arange(len(asking)), np.arange(len(vectors))
    # No query is a row of the pool: what it may not meet is in `barred`.
    outside = np.full(len(asking), -1)
    rows, distances = nearest(asking, vectors, outside, entries, DEPTH, metric, barred=barred)
    drawn = np.empty((len(inside), len(asking)), np.int64)
    for number, mask in enumerate(inside):
        seen = (rows >= 0) & mask[rows]
        drawn[number] = rows[everyone, seen.argmax(axis=1)]
        # None of the first neighbours is in the subsample: it has to be searched.
        left = np.flatnonzero(~seen.any(axis=1))
        if left.size:
            some = entries[mask]
            places, _ = nearest(
                asking[left], vectors[mask], outside[left], some, 1, metric, barred=_among(barred, left)
            )
            drawn[number, left] = np.where(places[:, 0] >= 0, some[places[:, 0]], -1)
    return Found(everyone, rows, _vote_weights(asking, distances, metric), drawn)


def nearest(
    asking: NDArray[np.float32],
    vectors: NDArray[np.float32],
    asked: Rows,
    pool: Rows,
    k: int,
    metric: Metric,
    *,
    barred: Pairs | None = None,
) -> tuple[Rows, NDArray[np.float64]]:
    """Positions in the pool (q, k) of every query's nearest others, and their distances (q, k), ascending.

    asking : (q, d) vectors of the rows `asked` (q,); vectors : (n, d) of the rows `pool` (n,), ascending. As
    many neighbors for every query: k, or all the others of the pool where that is fewer. Of equal distances
    the earlier position comes first.

    barred : pairs that are not neighbors: positions among the queries, ascending, and rows of the pool. A
    query that has fewer than k neighbors left has -1 and infinity behind them.
    """
    own = np.flatnonzero(np.isin(asked, pool))
    who, rows = own, asked[own]
    if barred is not None:
        kept = np.isin(barred[1], pool)
        who, rows = np.concatenate([who, barred[0][kept]]), np.concatenate([rows, barred[1][kept]])
    order = np.argsort(who, kind="stable")
    who, rows = who[order], np.searchsorted(pool, rows[order])
    k = min(k, pool.size - int(own.size > 0))
    positions = np.empty((asked.size, k), np.int64)
    distances = np.empty((asked.size, k))
    with step(f"neighbors ({metric})", asked.size) as progress:
        for start in range(0, asked.size, BLOCK_QUERIES):
            part = slice(start, min(start + BLOCK_QUERIES, asked.size))
            pairs = slice(*np.searchsorted(who, (part.start, part.stop)))
            excluded = who[pairs] - start, rows[pairs]
            positions[part], distances[part] = exact_search(
                vectors, None, asking[part], k, metric, excluded=excluded
            )
            progress.advance(part.stop - start)
    return positions, distances


def _vote_weights(
    asking: NDArray[np.float32], distances: NDArray[np.float64], metric: Metric
) -> NDArray[np.float64]:
    """(m, k) weights exp(-(d - nearest) / 0.03); an l2 distance stands for the cosine one it would be."""
    far = distances
    if metric == "l2":
        square = 2 * (asking.astype(np.float64) ** 2).sum(axis=1, keepdims=True)
        far = np.divide(distances**2, square, out=np.zeros_like(distances), where=square > 0)
    first = np.where(np.isfinite(far[:, :1]), far[:, :1], 0)
    return np.asarray(np.exp(-(far - first) / WEIGHT_SCALE))
