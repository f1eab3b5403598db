"""What an index's rows are of, as `kinmer.confidence` takes it: pools of candidates, lineages, molecules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence import Lineages, Pool
from kinmer.index.database import KinIndex
from kinmer.index.table import Entry
from kinmer.taxonomy import RANKS, rank_columns, taxon

__all__ = ["MOLECULES", "POOL", "LineageBook", "molecule_column", "pool_of"]

# Candidates of a query that its verdict rests on.
POOL = 256
MOLECULES = ("chromosome", "plasmid", "virus")
# What counts as which kind; other values say nothing.
MOLECULE_CODES = {name: code for code, name in enumerate(MOLECULES)} | {"contig": 0}


def molecule_column(columns: Sequence[str]) -> str | None:
    """The metadata column that tells the kind of molecule; None where there is none."""
    return next((name for name in columns if name.lower() == "molecule"), None)


class LineageBook:
    """Lineages of genomes and molecules of entries of one state of an index, read as they are needed.

    A genome's lineage is that of its first sequence.
    """

    def __init__(self, index: KinIndex) -> None:
        self._index = index
        columns = rank_columns(index.columns)
        at = {name: place for place, name in enumerate(index.columns)}
        self._ranks = [at.get(columns.get(rank, "")) for rank in RANKS]
        molecule = molecule_column(index.columns)
        self._molecule = None if molecule is None else at[molecule]
        self._places: dict[int, int] = {}
        self._codes: list[list[int]] = []
        self._known: list[dict[str, int]] = [{} for _ in RANKS]
        self._kinds: dict[int, int] = {-1: -1}

    @property
    def told(self) -> bool:
        """Whether the index has ranks at all."""
        return any(place is not None for place in self._ranks)

    def lineages(self) -> Lineages:
        """Those of the genomes read so far, in the order of their places."""
        codes = np.array(self._codes, dtype=np.int32).reshape(-1, len(RANKS))
        return Lineages(codes, tuple(tuple(names) for names in self._known))

    def places(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in `lineages` of genomes (any shape), -1 for none."""
        unique, back = np.unique(genomes, return_inverse=True)
        missing = [one for one in unique.tolist() if one >= 0 and one not in self._places]
        if missing:
            first = self._index.table.first_members(missing)
            for genome in missing:
                self._places[genome] = len(self._codes)
                self._codes.append(self._code(first[genome]))
        at = np.array([self._places.get(one, -1) for one in unique.tolist()], dtype=np.int64)
        return np.asarray(at[back].reshape(genomes.shape))

    def codes(self, genomes: NDArray[np.int64]) -> NDArray[np.int32]:
        """(n, 7) names of genomes (n,) as in `lineages`."""
        places = self.places(genomes)
        return self.lineages().codes[places]

    def molecules(self, entries: NDArray[np.int64]) -> NDArray[np.int8]:
        """Kinds of molecule of entries (any shape), places in `MOLECULES`, -1 for unknown."""
        if self._molecule is None:
            return np.full(entries.shape, -1, dtype=np.int8)
        unique, back = np.unique(entries, return_inverse=True)
        missing = np.array([one for one in unique.tolist() if one not in self._kinds], dtype=np.int64)
        for number, entry in self._index.entries(missing).items():
            told = str(entry.values[self._molecule] or "").lower()
            self._kinds[number] = MOLECULE_CODES.get(told, -1)
        kinds = np.array([self._kinds[one] for one in unique.tolist()], dtype=np.int8)
        return np.asarray(kinds[back].reshape(entries.shape))

    def _code(self, entry: Entry) -> list[int]:
        found = []
        for rank, place, known in zip(RANKS, self._ranks, self._known, strict=True):
            # An index of kinmer 0.1.0 may hold names that are none.
            name = None if place is None else taxon(rank, entry.values[place])
            found.append(-1 if name is None else known.setdefault(name, len(known)))
        return found


def pool_of(
    index: KinIndex,
    book: LineageBook,
    places: NDArray[np.int64],
    far: NDArray[np.float32],
    lengths: NDArray[np.int64],
) -> Pool:
    """Candidates of queries: rows (q, c), -1 for none, their cosine distances, the queries' letters (q,)."""
    rows, there = index.rows, places >= 0
    return Pool(
        np.where(there, far, np.float32(np.inf)),
        book.places(np.where(there, rows.genome[places], -1)),
        np.where(there, rows.kinds[places], -1).astype(np.int8),
        book.molecules(np.where(there, rows.entry[places], -1)),
        lengths,
    )
