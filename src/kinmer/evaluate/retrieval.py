"""How often are the nearest entries of the right kind? Shares of queries, with intervals over genomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import UsageError
from kinmer.evaluate.measures import (
    FEW,
    MOLECULE,
    Neighbors,
    Rank,
    limits,
    measure,
    measure_names,
    nearest_labeled,
    ranks_of,
)
from kinmer.evaluate.scores import Difference, Hubs, Measured, RetrievalReport, Score
from kinmer.evaluate.searches import Encoders, Pool, benchmark_trials, encoders_of, search_trial, vector_trial
from kinmer.evaluate.statistics import Cell, Cells, Estimate, estimate, intervals, resampled
from kinmer.resources import cpu_threads
from kinmer.stores import Metric

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

# Shares of the database's genomes in which queries are asked too, and random draws of each.
FRACTIONS = (1 / 8, 1 / 4, 1 / 2)
DRAWS = 3


def evaluate_retrieval(
    benchmarks: str | Path | Sequence[str | Path] = (),
    *,
    encoders: Sequence[str | Path | Encoder] | Mapping[str, str | Path | Encoder] = (),
    baseline: str | None = None,
    database: Any = None,
    queries: Any = None,
    database_labels: str | Path | None = None,
    query_labels: str | Path | None = None,
    metric: Metric = "cosine",
    bootstrap: int = 1000,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
) -> RetrievalReport:
    """Measure how well queries find entries with their labels, by exact search.

    A query never finds itself, nor an entry that overlaps it (``sequence_id``, ``start`` and ``end`` of both
    tables). What the figures mean: `kinmer.evaluate.measures.measure`.

    Parameters
    ----------
    benchmarks : str | Path | Sequence[str | Path]
        Folders by `kinmer.benchmark`; the queries of several are pooled, each asked of its own database.
    encoders : Sequence[str | Path | Encoder] | Mapping[str, str | Path …
        Folders or encoders, or a mapping from names to them; ``raw`` is the CLR of 6- to 1-mers without any
        network, ``raw-joint`` that of the original pipeline. A name with ``{fold}`` stands for an encoder
        of every fold: queries of a fold, and the database for them, are embedded by that fold's.
    baseline : str | None
        Name of the encoder that the others are compared with (`compare_retrieval`).
    database, queries : Any
        Instead of benchmarks: an ``.npy`` matrix with its ids in the ``.txt`` beside it, or a profile store
        or AnnData with embeddings; with `encoders` a store, an AnnData or a FASTA to embed. Without
        `queries` every sequence is asked about all others.
    database_labels, query_labels : str | Path | None
        Their TSVs: ``id`` (or ``sequence_id``), any ranks, ``molecule``, ``genome_id``, ``length``,
        ``case``, ``fold``.
    bootstrap, seed : int
        Resamples of the genomes for the intervals; seed of those and of the subsamples.

    Raises
    ------
    UsageError (settings), InputError (labels, vectors), FormatError (benchmark, encoder).
    """
    if metric not in get_args(Metric) or bootstrap < 0:
        raise UsageError("the metric is cosine or l2, and the bootstrap not negative")
    folders = [benchmarks] if isinstance(benchmarks, str | Path) else list(benchmarks)
    vectors = (database, queries, database_labels, query_labels)
    if folders and any(one is not None for one in vectors):
        raise UsageError("a benchmark brings its database and queries", check="give one or the other")
    chosen = encoders_of(encoders, device)
    if folders and not encoders:
        raise UsageError("a benchmark has sequences only", check="give an encoder, or raw")
    if baseline is not None and baseline not in {one.name for one in chosen}:
        raise UsageError(f"the baseline {baseline} is none of the encoders")
    with cpu_threads(threads):
        trials = benchmark_trials(folders, threads) if folders else [vector_trial(*vectors, threads)]
        work = _Work(Pool(trials), chosen, seed)
        work.search(metric)
    return _reported(work, metric, bootstrap, seed, folders, baseline)


class _Work:
    """Figures of every query by every encoder, rank by rank, filled search by search."""

    def __init__(self, pool: Pool, encoders: Sequence[Encoders], seed: int) -> None:
        self.pool, self.encoders = pool, encoders
        self.ranks = ranks_of(pool.queries, pool.database, pool.barred)
        if not self.ranks:
            raise UsageError("queries and database have no label in common")
        self.inside = pool.subsamples(FRACTIONS, DRAWS, seed)
        self.relevant = [rank.relevant() for rank in self.ranks]
        shape = (len(encoders), len(pool.queries))
        self.values = [
            np.zeros((*shape, len(measure_names(rank, FRACTIONS))), np.float32) for rank in self.ranks
        ]
        self.molecules = np.full(shape, -1)
        self.hits = np.zeros((len(encoders), len(pool.database)), np.int64)

    def search(self, metric: Metric) -> None:
        """Ask every trial's queries by every encoder."""
        for at, trial in enumerate(self.pool.trials):
            for number, one in enumerate(self.encoders):
                for neighbors in search_trial(self.pool, at, one, self.inside, metric):
                    self.add(number, neighbors)
            trial.close()

    def add(self, encoder: int, neighbors: Neighbors) -> None:
        for number, rank in enumerate(self.ranks):
            figures = measure(rank, neighbors, self.relevant[number], DRAWS)
            self.values[number][encoder, neighbors.queries] = figures
            if rank.name == MOLECULE:
                self.molecules[encoder, neighbors.queries] = nearest_labeled(rank, neighbors)
        few = neighbors.rows[:, :FEW]
        self.hits[encoder] += np.bincount(few[few >= 0], minlength=self.hits.shape[1])


def _reported(
    work: _Work,
    metric: Metric,
    bootstrap: int,
    seed: int,
    folders: Sequence[str | Path],
    baseline: str | None,
) -> RetrievalReport:
    names = tuple(one.name for one in work.encoders)
    cells = Cells(work.pool.queries, bootstrap=bootstrap, seed=seed)
    measured, scores = [], []
    for number, rank in enumerate(work.ranks):
        most = limits(rank, work.relevant[number], work.inside, DRAWS)
        columns = measure_names(rank, FRACTIONS)
        one = Measured(rank.name, columns, rank.asked, work.values[number], most)
        measured.append(one)
        scores += list(_scores(one, cells, names))
        if rank.name == MOLECULE:
            scores += list(_class_scores(rank, cells, names, work.molecules))
    report = RetrievalReport(
        encoders=names,
        metric=metric,
        queries=len(work.pool.queries),
        database=len(work.pool.database),
        genomes=work.pool.queries["genome_id"].nunique(),
        benchmarks=tuple(map(str, folders)),
        bootstrap=bootstrap,
        seed=seed,
        scores=tuple(scores),
        hubs={name: Hubs.of(hits) for name, hits in zip(names, work.hits, strict=True)},
        cells=cells,
        measured=tuple(measured),
    )
    return report if baseline is None else report.with_differences(compare_retrieval(report, baseline))


def _scores(measured: Measured, cells: Cells, encoders: Sequence[str]) -> Iterator[Score]:
    """Means of every measure in every cell, encoder by encoder."""
    for cell in cells.of(measured.asked):
        most = measured.limits[cell.rows].mean(axis=0)
        means = _means(cell.sums(measured.values), cell, cells.weights(cell))
        for encoder in encoders:
            for name, limit in zip(measured.names, most, strict=True):
                yield _score(encoder, measured.rank, cell, name, next(means), float(limit))


def _means(sums: NDArray[np.float64], cell: Cell, weights: NDArray[np.float64]) -> Iterator[Estimate]:
    """Means over a cell's queries of (encoders, units, measures) sums, encoder by encoder."""
    side_by_side = sums.transpose(1, 0, 2).reshape(sums.shape[1], -1)
    return iter(intervals(side_by_side, cell.sizes[:, None], weights))


def _class_scores(
    rank: Rank, cells: Cells, encoders: Sequence[str], given: NDArray[np.int64]
) -> Iterator[Score]:
    """Precision, recall and F1 of every label, given (encoders, q) by the nearest labeled entry."""
    kinds = np.arange(len(rank.labels))
    true = (rank.keys[0][0][:, None] == kinds).astype(float)
    named = (given[:, :, None] == kinds).astype(float)
    right = named * true
    measures = [f"{name}:{label}" for name in ("precision", "recall", "f1") for label in rank.labels]
    for cell in cells.of(rank.asked):
        hits, answers = cell.sums(right), cell.sums(named)
        wanted = np.broadcast_to(cell.sums(true), answers.shape)
        # (units, encoders, measures), then side by side.
        above = np.concatenate([hits, hits, 2 * hits], axis=2).transpose(1, 0, 2)
        below = np.concatenate([answers, wanted, answers + wanted], axis=2).transpose(1, 0, 2)
        units = cell.starts.size
        ratios = iter(intervals(above.reshape(units, -1), below.reshape(units, -1), cells.weights(cell)))
        for encoder in encoders:
            for name in measures:
                yield _score(encoder, rank.name, cell, name, next(ratios), None)


def _score(encoder: str, rank: str, cell: Cell, name: str, one: Estimate, limit: float | None) -> Score:
    cell_of = (encoder, rank, cell.case, cell.domain, cell.length, name)
    return Score(*cell_of, one.value, one.low, one.high, limit, cell.rows.size, cell.starts.size)


def compare_retrieval(report: RetrievalReport, baseline: str) -> list[Difference]:
    """Every other encoder's figures minus the baseline's on the same queries, with intervals over genomes.

    An interval that holds 0 leaves open which of the two is better. Both are measured on the same draws of
    the genomes, so what makes a genome hard for both cancels out.

    Raises UsageError where no encoder of the report is called `baseline`.
    """
    if baseline not in report.encoders:
        raise UsageError(f"the baseline {baseline} is none of the encoders")
    origin, differences = report.encoders.index(baseline), []
    others = [number for number in range(len(report.encoders)) if number != origin]
    for measured in report.measured:
        for cell in report.cells.of(measured.asked):
            sums = cell.sums(measured.values)
            apart = _means(sums[others] - sums[origin], cell, report.cells.weights(cell))
            for number in others:
                for name in measured.names:
                    one = next(apart)
                    cell_of = (report.encoders[number], baseline, measured.rank, *cell[:3], name)
                    counts = (cell.rows.size, cell.starts.size)
                    differences.append(Difference(*cell_of, one.value, one.low, one.high, *counts))
    return differences


def agreement(
    truth: Sequence[str], found: Sequence[str], units: Sequence[str], *, bootstrap: int = 1000, seed: int = 0
) -> tuple[Estimate, int]:
    """Share of queries whose nearest has their label, and how many queries have one.

    Parameters
    ----------
    truth, found : label of every query and of its nearest entry; queries without a label ("") do not count.
    units : what every query was cut from (its genome): whole units are drawn in the bootstrap, because
        fragments of one genome succeed or fail together.
    """
    wanted, given = np.asarray(truth, object), np.asarray(found, object)
    counted = wanted != ""
    if not counted.any():
        return Estimate(None), 0
    right = (wanted == given)[counted].astype(float)
    _, unit = np.unique(np.asarray(units, dtype=str)[counted], return_inverse=True)
    hits, sizes = np.bincount(unit, weights=right), np.bincount(unit).astype(float)
    weights = resampled(sizes.size, bootstrap, np.random.default_rng(seed))
    samples: NDArray[np.float64] = (weights @ hits) / (weights @ sizes)
    return estimate(float(right.mean()), samples), int(counted.sum())


def precision_and_recall(
    truth: Sequence[str], found: Sequence[str]
) -> dict[str, tuple[float | None, float | None, int]]:
    """Of every label: precision, recall, and the queries that carry it; None where nothing can be said."""
    wanted, given = np.asarray(truth, object), np.asarray(found, object)
    figures: dict[str, tuple[float | None, float | None, int]] = {}
    for label in sorted(set(truth)):
        right = float(((wanted == label) & (given == label)).sum())
        named, carried = int((given == label).sum()), int((wanted == label).sum())
        figures[label] = (right / named if named else None, right / carried, carried)
    return figures
