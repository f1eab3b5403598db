"""A benchmark as other tools take it: plain FASTA with numbers for names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kinmer.evaluate.measures import label_table
from kinmer.fasta import read_records
from kinmer.fragments import open_benchmark


@dataclass(frozen=True)
class Bench:
    """Plain FASTA files, and the tables of labels with a row for every record."""

    folder: Path
    database: Path
    queries: Path
    database_table: pd.DataFrame
    query_table: pd.DataFrame


def read_bench(folder: Path, plain: Path, every: int = 1) -> Bench:
    """Write both sides of a benchmark to the folder `plain`; of the queries every `every`-th."""
    found = open_benchmark(folder)
    sides = []
    for source, labels, name, step in (
        (found.database, found.database_labels, "database.fna", 1),
        (found.queries, found.query_labels, "queries.fna", every),
    ):
        ids: list[str] = []
        with (plain / name).open("wb") as file:
            for number, (one, letters) in enumerate(read_records(source)):
                if number % step == 0:
                    file.write(b">%d\n%b\n" % (len(ids), letters))
                    ids.append(one)
        sides.append((plain / name, label_table(ids, labels)))
    (database, database_table), (queries, query_table) = sides
    return Bench(folder, database, queries, database_table, query_table)
