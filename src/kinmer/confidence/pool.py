"""The nearest rows of queries, and the names and molecules of what they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.index import Storage
from kinmer.index.manifest import Entry
from kinmer.molecules import MOLECULE_CODES, PLASMID, neighbor_features
from kinmer.taxonomy import RANKS, rank_columns, taxon
from kinmer.units import UnitEvidence, unit_evidence

# The cases of `LabeledPool`, and the highest rank whose name the references do not have then. Of "part" they
# have the genome, but nothing homologous to the query; of "strain" another genome of the species.
HIDDEN: Mapping[str, int | None] = {
    "part": None,
    "strain": None,
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
# The views of a query that a model takes.
COMPOSITION, BOTH = "composition", "both"
# Candidates of a query that its verdict rests on.
POOL = 256
# What says that a plasmid has no unit.
NO_UNIT = ("", "-")


# What the name of the domain of viruses begins with.
VIRAL = "virus"


@dataclass(frozen=True)
class Lineages:
    """Names of genomes.

    codes : (g, 7) int32, positions in `names` of the ranks from domain to species, -1 for unknown.
    """

    codes: NDArray[np.int32]
    names: tuple[tuple[str, ...], ...]

    @classmethod
    def none(cls) -> Lineages:
        """Those of no genome."""
        return cls(np.empty((0, len(RANKS)), np.int32), ((),) * len(RANKS))

    @cached_property
    def viral(self) -> NDArray[np.bool_]:
        """(g,) which genomes are of viruses."""
        domains = np.array([name.lower().startswith(VIRAL) for name in self.names[0]] + [False])
        return domains[self.codes[:, 0]]


@dataclass(frozen=True)
class Pool:
    """The nearest rows of every query.

    distances : (q, c) float32, ascending cosine distances, inf for none. genomes : (q, c) int64, positions in
    `Lineages`, -1 for none. kinds : (q, c) int8, 0 a piece, 1 a whole sequence, 2 a genome's mean.
    molecules : (q, c) int8, positions in `MOLECULES`, -1 unknown. lengths : (q,) int64 bases of the queries,
    0 for unknown. vectors : (q, dim) of the queries, of length 1. units : None where no row has one.
    """

    distances: NDArray[np.float32]
    genomes: NDArray[np.int64]
    kinds: NDArray[np.int8]
    molecules: NDArray[np.int8]
    lengths: NDArray[np.int64]
    vectors: NDArray[np.float32]
    units: UnitEvidence | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def near_plasmid(self) -> NDArray[np.bool_]:
        """(q,) whether the nearest row is of a plasmid."""
        none = np.zeros(len(self), bool)
        return self.molecules[:, 0] == PLASMID if self.molecules.shape[1] else none

    def take(self, rows: NDArray[np.int64]) -> Pool:
        """Those of some queries."""
        some = {name: getattr(self, name)[rows] for name in Pool.__dataclass_fields__ if name != "units"}
        return replace(self, **some, units=None if self.units is None else self.units.take(rows))

    @classmethod
    def joined(cls, parts: Sequence[Pool]) -> Pool:
        """All of several."""
        width = max(part.distances.shape[1] for part in parts)
        units = [part.units for part in parts if part.units is not None]

        def wide(name: str, missing: float) -> NDArray[Any]:
            values = [getattr(part, name) for part in parts]
            return np.concatenate(
                [np.pad(one, ((0, 0), (0, width - one.shape[1])), constant_values=missing) for one in values]
            )

        return cls(
            wide("distances", np.inf),
            wide("genomes", -1),
            wide("kinds", -1),
            wide("molecules", -1),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.vectors for part in parts]),
            UnitEvidence.joined(units) if len(units) == len(parts) else None,
        )


def molecule_column(columns: Sequence[str]) -> str | None:
    """The metadata column that has the kind of molecule; None where there is none."""
    return _column(columns, "molecule")


def _column(columns: Sequence[str], wanted: str) -> str | None:
    return next((name for name in columns if name.lower() == wanted), None)


class LineageBook:
    """Lineages of genomes and molecules of entries of one state of an index, read as they are needed.

    A genome's lineage is that of its first sequence.
    """

    def __init__(self, index: Storage) -> None:
        self._index = index
        columns = rank_columns(index.columns)
        positions = {name: at for at, name in enumerate(index.columns)}
        self._ranks = [positions.get(columns.get(rank, "")) for rank in RANKS]
        self._molecule, self._unit = (
            None if name is None else positions[name]
            for name in (molecule_column(index.columns), _column(index.columns, "ptu"))
        )
        self._positions: dict[int, int] = {}
        self._codes, self._lineages = np.empty((1024, len(RANKS)), np.int32), Lineages.none()
        self._names: list[dict[str, int]] = [{} for _ in RANKS]
        self._labels: dict[int, tuple[int, int]] = {-1: (-1, -1)}
        self._units: dict[str, int] = {}

    @property
    def has_ranks(self) -> bool:
        """Whether the index has ranks at all."""
        return any(column is not None for column in self._ranks)

    def lineages(self) -> Lineages:
        """Those of the genomes read so far, in the order of their positions."""
        count = len(self._positions)
        if len(self._lineages.codes) < count:
            self._lineages = Lineages(self._codes[:count], tuple(map(tuple, self._names)))
        return self._lineages

    def positions(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions in `lineages` of genomes (any shape), -1 for none."""
        unique, inverse = np.unique(genomes, return_inverse=True)
        missing = [genome for genome in unique.tolist() if genome >= 0 and genome not in self._positions]
        if missing:
            first = self._index.table.first_members(missing)
            for genome in missing:
                at, code = len(self._positions), self._code(first[genome])
                if at == len(self._codes):
                    # What was given before keeps the array that it has.
                    self._codes = np.concatenate([self._codes, np.empty_like(self._codes)])
                self._codes[at], self._positions[genome] = code, at
        known = np.array([self._positions.get(genome, -1) for genome in unique.tolist()], dtype=np.int64)
        return np.asarray(known[inverse].reshape(genomes.shape))

    def codes(self, genomes: NDArray[np.int64]) -> NDArray[np.int32]:
        """(n, 7) names of genomes (n,) as in `lineages`."""
        positions = self.positions(genomes)
        return self.lineages().codes[positions]

    @property
    def has_units(self) -> bool:
        """Whether the index has a column of plasmid taxonomic units."""
        return self._unit is not None

    def unit_names(self) -> tuple[str, ...]:
        """Those of the units read so far, by number."""
        return tuple(self._units)

    def molecules(self, entries: NDArray[np.int64]) -> NDArray[np.int8]:
        """Kinds of molecule of entries (any shape), positions in `MOLECULES`, -1 for unknown."""
        return self._read(entries)[..., 0].astype(np.int8)

    def units(self, entries: NDArray[np.int64]) -> NDArray[np.int32]:
        """Plasmid taxonomic units of entries (any shape), positions in `unit_names`, -1 for none."""
        return self._read(entries)[..., 1].astype(np.int32)

    def _read(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """(…, 2) molecules and units."""
        if self._molecule is None and self._unit is None:
            return np.full((*entries.shape, 2), -1, dtype=np.int64)
        unique, inverse = np.unique(entries, return_inverse=True)
        missing = np.array([number for number in unique.tolist() if number not in self._labels], np.int64)
        for number, entry in self._index.entries(missing).items():
            kind, unit = (
                "" if at is None else str(entry.values[at] or "").strip()
                for at in (self._molecule, self._unit)
            )
            known = -1 if unit in NO_UNIT else self._units.setdefault(unit, len(self._units))
            self._labels[number] = MOLECULE_CODES.get(kind.lower(), -1), known
        labels = np.array([self._labels[number] for number in unique.tolist()], dtype=np.int64)
        return np.asarray(labels.reshape(-1, 2)[inverse.ravel()].reshape(*entries.shape, 2))

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
    vectors: NDArray[np.float32],
) -> Pool:
    """Candidates of queries: rows (q, c), -1 for none, their cosine distances, the queries' bases (q,) and
    vectors (q, dim) of length 1.
    """
    rows, valid = index.rows, labels >= 0
    entries, distances = (
        np.where(valid, rows.entry[labels], -1),
        np.where(valid, distances, np.float32(np.inf)),
    )
    molecules = book.molecules(entries)
    return Pool(
        distances,
        book.positions(np.where(valid, rows.genome[labels], -1)),
        np.where(valid, rows.kinds[labels], -1).astype(np.int8),
        molecules,
        lengths,
        vectors,
        unit_evidence(distances, book.units(entries), molecules, lengths) if book.has_units else None,
    )


RANK_COUNT = len(RANKS)
USUAL_LENGTH = 10_000.0

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


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


def molecule_evidence(pool: Pool, within: tuple[float, float]) -> tuple[Floats, NDArray[np.float32], Floats]:
    """What a `MoleculeModel` takes of queries: features of their neighbors, vectors, and logs of lengths."""
    size = log_size(pool.lengths, within)
    return neighbor_features(pool.distances, pool.molecules, size), pool.vectors, size


def log_size(lengths: NDArray[np.int64], within: tuple[float, float]) -> Floats:
    """Log of lengths, limited to those that were learned from; unknown ones as the longest."""
    known = np.where(lengths > 0, lengths, within[1]).astype(np.float64)
    return np.asarray(np.log(np.clip(known, *within) / USUAL_LENGTH))
