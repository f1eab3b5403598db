"""Candidates of queries: the nearest rows of an index, and the lineages and molecules that they are of."""

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

__all__ = [
    "CASES",
    "HIDDEN",
    "MOLECULES",
    "NO_KIN",
    "POOL",
    "LabeledPool",
    "LineageBook",
    "Lineages",
    "Pool",
    "merge_genomes",
    "molecule_column",
    "pool_of",
]

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
