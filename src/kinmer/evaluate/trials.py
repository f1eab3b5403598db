"""Queries and the database that each is asked of: a trial for every benchmark, pooled for the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import InputError, UsageError
from kinmer.evaluate.labelled import barred_pairs, label_table
from kinmer.evaluate.sources import FastaSource, Source, open_source
from kinmer.fragments import open_benchmark

__all__ = ["Pool", "Trial", "benchmark_trials", "vector_trial"]


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
        database, queries = (FastaSource(path, threads=threads) for path in (found.database, found.queries))
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
    asked = None if queries is None else open_source(queries, threads=threads)
    return Trial.of(open_source(database, threads=threads), asked, database_labels, query_labels)


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
