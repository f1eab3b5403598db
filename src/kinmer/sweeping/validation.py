"""Queries of a benchmark that trials are scored with, and that none of their species is trained on."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinmer.errors import UsageError
from kinmer.evaluate.retrieval import evaluate_retrieval
from kinmer.fasta import read_records
from kinmer.files import built_aside
from kinmer.fragments import Benchmark, read_labels
from kinmer.fragments.benchmarks import FOLDS
from kinmer.fragments.cuts import clean

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

__all__ = ["CASES", "Validation", "folds_of", "score_of", "trained_on", "write_validation"]

# The database has the species in these cases, as another strain or another part of the genome.
CASES = ("strain", "genome")
QUERIES, LABELS = "queries.fna", "queries.fna.tsv"
FRAGMENT = re.compile(r"(.*):\d+-\d+:[+-]")


@dataclass(frozen=True)
class Validation:
    """A database, the queries that are asked of it, and the labels of both."""

    database: str
    queries: str
    database_labels: str
    query_labels: str
    metric: str = "cosine"

    def measure(self, encoder: Encoder, *, device: str, threads: int | None) -> dict[str, dict[str, float]]:
        """Share of the queries whose nearest entry is of their species, by case and length."""
        report = evaluate_retrieval(
            encoders={"trial": encoder},
            database=self.database,
            queries=self.queries,
            database_labels=self.database_labels,
            query_labels=self.query_labels,
            metric="l2" if self.metric == "l2" else "cosine",
            bootstrap=0,
            device=device,
            threads=threads,
        )
        found: dict[str, dict[str, float]] = {case: {} for case in CASES}
        for one in report.scores:
            wanted = one.rank == "species" and one.measure == "at_1" and one.domain == "all"
            if wanted and one.case in CASES and one.length != "all" and one.value is not None:
                found[one.case][one.length] = one.value
        return {case: cells for case, cells in found.items() if cells}


def score_of(cells: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over all cases and lengths, each counting the same however many queries it has."""
    values = [value for lengths in cells.values() for value in lengths.values()]
    return sum(values) / len(values)


def write_validation(benchmark: Benchmark, fold: int | None, folder: Path, metric: str) -> Validation:
    """Put the queries of `fold` (None: of all folds) that have a species to find into `folder`.

    Raises UsageError where there are none.
    """
    labels = read_labels(benchmark.query_labels, ("id",))
    chosen = {
        one
        for one in labels.rows
        if labels.value(one, "case") in CASES
        and labels.value(one, "species")
        and (fold is None or labels.value(one, "fold") == str(fold))
    }
    if not chosen:
        folds = sorted({labels.value(one, "fold") for one in labels.rows})
        raise UsageError(
            "no query of the benchmark has a species to find" + ("" if fold is None else f" in fold {fold}"),
            f"folds with queries: {', '.join(folds)}",
            place=benchmark.folder,
        )
    if not (folder / LABELS).exists():
        with built_aside(folder) as aside:
            _write_queries(benchmark, chosen, aside)
    return Validation(
        database=str(benchmark.database.absolute()),
        queries=str((folder / QUERIES).absolute()),
        database_labels=str(benchmark.database_labels.absolute()),
        query_labels=str((folder / LABELS).absolute()),
        metric=metric,
    )


def _write_queries(benchmark: Benchmark, chosen: set[str], folder: Path) -> None:
    with (folder / QUERIES).open("wb") as file:
        for name, letters in read_records(benchmark.queries):
            if name in chosen:
                file.write(b">%b\n%b\n" % (name.encode(), letters))
    lines = benchmark.query_labels.read_text(encoding="utf-8").splitlines(keepends=True)
    place = lines[0].rstrip("\n").split("\t").index("id")
    kept = [line for line in lines[1:] if line.rstrip("\n").split("\t")[place] in chosen]
    (folder / LABELS).write_text("".join([lines[0], *kept]), encoding="utf-8")


def folds_of(benchmark: Benchmark) -> dict[str, str]:
    """The fold of every labelled sequence."""
    labels = read_labels(benchmark.folder / FOLDS)
    return {one: labels.value(one, "fold") for one in labels.rows}


def trained_on(ids: Iterable[Any], benchmark: Benchmark, folds: Container[str] | None) -> tuple[int, int]:
    """How many of the training rows `ids` are of the benchmark's genomes, and how many of these of `folds`.

    Rows are told by their ids: a sequence's, or one of its fragments'. None: all folds.
    """
    fold_of = {clean(one): fold for one, fold in folds_of(benchmark).items()}
    known = inside = 0
    for one in map(str, ids):
        cut = FRAGMENT.fullmatch(one)
        found = fold_of.get(clean(one)) or (fold_of.get(cut.group(1)) if cut else None)
        known += found is not None
        inside += found is not None and (folds is None or found in folds)
    return known, inside
