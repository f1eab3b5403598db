"""Queries, their database and the vectors of both: one trial for every benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from kinmer.evaluate.measures import DEPTH, Neighbors, barred_pairs, label_table
from kinmer.fragments import open_benchmark
from kinmer.inputs import kind_of
from kinmer.layout import kmer_layout
from kinmer.profiles import open_profiles
from kinmer.progress import step
from kinmer.stores import Metric, exact_search
from kinmer.vectors import RAW, Embedder, Transform, Vectors, open_vectors

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Pairs = tuple[Rows, Rows]
FOLD = "{fold}"
BLOCK_QUERIES = 1024
# Cosine distance behind the nearest at which a vote's weight falls to 1/e.
WEIGHT_SCALE = 0.03


@dataclass(frozen=True)
class Encoders:
    """An encoder, one for every fold (then `origin` has ``{fold}`` in it), or None: vectors as they are."""

    name: str
    origin: str | Path | Encoder | None
    device: str = "auto"

    @property
    def by_fold(self) -> bool:
        """Whether every fold has an encoder of its own."""
        return isinstance(self.origin, str | Path) and FOLD in str(self.origin)

    def of(self, fold: str = "") -> Embedder | None:
        """The encoder of a fold, or the only one; raises what `Encoder.load` raises."""
        if self.origin is None or isinstance(self.origin, Encoder):
            return self.origin
        if str(self.origin) in RAW:
            return Transform(RAW[str(self.origin)], kmer_layout())
        return Encoder.load(str(self.origin).replace(FOLD, fold), device=self.device)


def encoders_of(
    given: Sequence[str | Path | Encoder] | Mapping[str, str | Path | Encoder], device: str
) -> list[Encoders]:
    """Encoders by name: a mapping's keys, else the folders as given. None given: the vectors as they are.

    Raises UsageError for a name that is given twice.
    """
    if not isinstance(given, Mapping):
        pairs = [(one.fingerprint[:12] if isinstance(one, Encoder) else str(one), one) for one in given]
        for name, _ in pairs:
            if [other for other, _ in pairs].count(name) > 1:
                raise UsageError(f"the encoder {name} is given twice", check="give each once")
        given = dict(pairs)
    return [Encoders(name, origin, device) for name, origin in given.items()] or [Encoders("vectors", None)]


class Source:
    """Sequences whose vectors are wanted, by one encoder after another: FASTA, profiles, or vectors.

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

    def vectors(self, encoder: Embedder | None, rows: Rows | None = None) -> Floats:
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
        """Give back the counts."""
        self._counted.clear()


@dataclass(frozen=True)
class Trial:
    """One database, its queries (None: every entry is asked about the others), and their labels."""

    database: Source
    queries: Source | None
    database_table: pd.DataFrame
    query_table: pd.DataFrame
    barred: Pairs

    @classmethod
    def of(
        cls,
        database: Source,
        queries: Source | None,
        database_labels: str | Path | None,
        query_labels: str | Path | None,
    ) -> Trial:
        """With the labels read. InputError where there is no query or no entry."""
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
        opened = open_benchmark(folder)
        database, queries = (Source(path, threads=threads) for path in (opened.database, opened.queries))
        trials.append(Trial.of(database, queries, opened.database_labels, opened.query_labels))
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
    """The queries and entries of all trials, one trial after the other.

    queries, database : tables with a column ``set``, the trial's number. barred : pairs of rows of the two.
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


def nearest(
    asking: Floats,
    vectors: Floats,
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


def search_trial(
    pool: Pool, at: int, encoders: Encoders, inside: NDArray[np.bool_], metric: Metric
) -> Iterator[Neighbors]:
    """Neighbors of the queries of trial `at`: at once, or fold by fold, by the encoder of each.

    inside : (draws, n) subsamples of the pool's entries.
    """
    trial, first = pool.trials[at], pool.first_entry[at]
    mine = inside[:, first : pool.first_entry[at + 1]]
    for fold, members in _folds(trial, encoders):
        embedder = encoders.of(fold)
        vectors = trial.database.vectors(embedder)
        asking = vectors[members] if trial.queries is None else trial.queries.vectors(embedder, members)
        if asking.shape[1] != vectors.shape[1]:
            raise MismatchError(f"queries of {asking.shape[1]} dimensions, entries of {vectors.shape[1]}")
        rows, distances, drawn = _search(asking, vectors, _among(trial.barred, members), mine, metric)
        yield Neighbors(
            members + pool.first_query[at],
            np.where(rows >= 0, rows + first, -1),
            _vote_weights(asking, distances, metric),
            np.where(drawn >= 0, drawn + first, -1),
        )


def _folds(trial: Trial, encoders: Encoders) -> list[tuple[str, Rows]]:
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


def _among(barred: Pairs, queries: Rows) -> Pairs:
    """The pairs of some queries (ascending), which are counted from 0."""
    kept = np.isin(barred[0], queries)
    return np.searchsorted(queries, barred[0][kept]), barred[1][kept]


def _search(
    asking: Floats, vectors: Floats, barred: Pairs, inside: NDArray[np.bool_], metric: Metric
) -> tuple[Rows, NDArray[np.float64], Rows]:
    """Rows and distances (m, DEPTH), and the nearest row in every subsample, (draws, m)."""
    everyone, entries = np.arange(len(asking)), np.arange(len(vectors))
    # No query is a row of the pool: what it may not meet is in `barred`.
    outside = np.full(len(asking), -1)
    rows, distances = nearest(asking, vectors, outside, entries, DEPTH, metric, barred=barred)
    drawn = np.empty((len(inside), len(asking)), np.int64)
    for number, mask in enumerate(inside):
        seen = (rows >= 0) & mask[rows]
        drawn[number] = rows[everyone, seen.argmax(axis=1)]
        # None of the first neighbors is in the subsample: it has to be searched.
        left = np.flatnonzero(~seen.any(axis=1))
        if left.size:
            some, but = entries[mask], _among(barred, left)
            near, _ = nearest(asking[left], vectors[mask], outside[left], some, 1, metric, barred=but)
            drawn[number, left] = np.where(near[:, 0] >= 0, some[near[:, 0]], -1)
    return rows, distances, drawn


def _vote_weights(asking: Floats, distances: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """(m, k) weights exp(-(d - nearest) / 0.03); an l2 distance stands for the cosine one it would be."""
    far = distances
    if metric == "l2":
        square = 2 * (asking.astype(np.float64) ** 2).sum(axis=1, keepdims=True)
        far = np.divide(distances**2, square, out=np.zeros_like(distances), where=square > 0)
    first = np.where(np.isfinite(far[:, :1]), far[:, :1], 0)
    return np.asarray(np.exp(-(far - first) / WEIGHT_SCALE))
