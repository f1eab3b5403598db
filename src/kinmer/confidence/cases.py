"""An index's own fragments, as they would be if their genome, species, genus or family were not in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.candidates import (
    Candidates,
    GenomeMeans,
    Nearest,
    SharedHashes,
    candidates_of,
    unit,
)
from kinmer.confidence.pool import (
    BOTH,
    CASES,
    COMPOSITION,
    HIDDEN,
    NO_KIN,
    POOL,
    LineageBook,
    Pool,
    pool_of,
)
from kinmer.confidence.probes import TURNS, Probes
from kinmer.index import Storage
from kinmer.index.manifest import sketch_scale
from kinmer.index.rows import GENOME, PIECE
from kinmer.index.writer import MEAN_LETTERS
from kinmer.progress import step
from kinmer.sketches import thinned

ROWS_AT_ONCE, QUERIES_AT_ONCE = 1 << 15, 256
FAMILY, GENUS, SPECIES = 4, 5, 6
# Genomes that share so much of the smaller one's sketch are one species whatever they are called: 0.95 ** 21
# of whole genomes, and of two that are 60 % complete a third of that.
TWIN = 0.12
# Of a genome's sketch what is compared with all others, if it has more: one in so many k-mers.
THINNED = 400

Bools = NDArray[np.bool_]
Labels = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LabeledSample:
    """Queries of one of `CASES` whose truth is known; nothing that they have contradicts the case.

    Those of "no kin" are random sequences, each in the place of a real one, whose name `truth` has.

    views : candidates by view. truth : (q, 7) int32 codes of the queries' own names, -1 unknown. molecule :
    (q,) int8 as in `Pool`. fragment : (q,) which probe it is of. genome : (q,) its number. units : (q,) of
    the queries' plasmids, -1 for none; None where the index has none.
    """

    case: str
    pool: Pool
    views: Mapping[str, Candidates]
    truth: NDArray[np.int32]
    molecule: NDArray[np.int8]
    fragment: Labels
    genome: Labels
    units: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.fragment)


def masked_samples(
    index: Storage, book: LineageBook, probes: Probes, means: GenomeMeans
) -> list[LabeledSample]:
    """Samples of every case, with the fragments that it is possible for.

    part : what overlaps the fragment is hidden, its hashes too, and all other genomes of the species.
    strain : the query's own genome is hidden where its species has another one. Where it has none, the query
    is changed as another strain's would be, and nothing is hidden.
    new species, genus, family : all that has the query's name at that rank is hidden, where something of the
    rank above is left, or where the rank above of a genus is unknown. With them all that is one species with
    them by shared k-mers, whatever its name.
    new order, class, phylum, domain : all of that name is hidden, for every `TURNS`-th query.
    no kin : random sequences in the place of queries, and nothing is hidden.
    """
    truth = book.codes(probes.genome)
    twins = _twins(index, np.unique(probes.genome)) if probes.sketches is not None else {}
    rows = _Rows(index, book, twins)
    samples: list[LabeledSample] = []
    with step("Calibrating", len(probes)) as progress:
        for start in range(0, len(probes), QUERIES_AT_ONCE):
            part = np.arange(start, min(len(probes), start + QUERIES_AT_ONCE))
            batch = _Batch(index, rows, means, probes, truth, part)
            for case, (labels, distances) in zip(CASES, _nearest(index, rows, batch), strict=True):
                able = np.flatnonzero(batch.possible(case) & (labels >= 0).any(axis=1))
                if able.size:
                    own = part[able]
                    samples.append(
                        LabeledSample(
                            case,
                            pool_of(
                                index,
                                book,
                                labels[able],
                                distances[able],
                                probes.bases[own],
                                batch.vectors(case)[able],
                            ),
                            batch.views(case, able, labels[able], distances[able], book),
                            truth[own],
                            book.molecules(probes.entry[own]),
                            own,
                            probes.genome[own],
                            book.units(probes.entry[own]) if book.has_units else None,
                        )
                    )
            progress.advance(len(part))
    return samples


def _twins(index: Storage, genomes: Labels) -> dict[int, Labels]:
    """The genomes, by number, that are one species with each of these by shared k-mers."""
    sketches, scale = [], max(THINNED, sketch_scale(index.manifest))
    for genome in genomes.tolist():
        entries = np.array([entry.number for entry in index.table.members(genome)], np.int64)
        values = [np.empty(0, np.uint64), *index.entry_sketches(entries).values()]
        every = np.unique(np.concatenate(values))
        sketches.append(thinned(every, scale))
    found = index.shared(sketches)
    unique, inverse = np.unique(found.genome, return_inverse=True)
    own = np.array([len(sketch) for sketch in sketches])
    theirs = index.genome_sketch_sizes(unique)[inverse] * sketch_scale(index.manifest) / scale
    share = found.count / np.maximum(np.minimum(own[found.query], theirs), 1)
    result: dict[int, list[int]] = {}
    for query, genome in zip(found.query[share >= TWIN], found.genome[share >= TWIN], strict=True):
        result.setdefault(int(genomes[query]), []).append(int(genome))
    return {number: np.array(sorted(near), np.int64) for number, near in result.items()}


class _Rows:
    """The rows that are alive: their labels, and what they are of.

    twins : by genome those that are one species with it.
    """

    def __init__(self, index: Storage, book: LineageBook, twins: Mapping[int, Labels]) -> None:
        self._twins = twins
        self.labels = np.flatnonzero(index.rows.alive)
        records = index.rows.records[self.labels]
        self.genome = index.rows.genome[self.labels]
        self.entry = index.rows.entry[self.labels]
        self.start, self.stop = np.ascontiguousarray(records["start"]), np.ascontiguousarray(records["stop"])
        self.unsearched = ~index.rows.searched[self.labels]
        self.mean = index.rows.kinds[self.labels] == GENOME
        cut = np.unique(self.entry[index.rows.kinds[self.labels] == PIECE])
        # What a genome's mean is of: pieces, and wholes that have none.
        piece = index.rows.kinds[self.labels] == PIECE
        self.counted = ~self.mean & (piece | ~np.isin(self.entry, cut))
        self.unique, self._position = np.unique(self.genome, return_inverse=True)
        # (g, 7) of the genomes.
        self.genomes = book.codes(self.unique)
        self._of_genome = _Groups(self.genome)
        self._named: dict[tuple[int, int], Labels] = {}
        self._kin: dict[tuple[int, int], tuple[Labels, Labels]] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def of_genome(self, genome: int) -> Labels:
        """The rows of a genome, ascending."""
        return self._of_genome.members(genome)

    def named(self, rank: int, name: int) -> Labels:
        """Positions of the genomes that have a name at a rank."""
        if (rank, name) not in self._named:
            self._named[rank, name] = np.flatnonzero(self.genomes[:, rank] == name)
        return self._named[rank, name]

    def kin(self, rank: int, name: int) -> tuple[Labels, Labels]:
        """Numbers of the genomes that have a name, or are one species with any that has it, and their rows.

        Both ascending. They are looked up once: a phylum may be a third of all.
        """
        if (rank, name) not in self._kin:
            named = self.unique[self.named(rank, name)]
            twins = [self._twins[one] for one in self._twins.keys() & set(named.tolist())]
            genomes = np.unique(np.concatenate([named, *twins]))
            gone = np.zeros(len(self.unique), bool)
            gone[np.searchsorted(self.unique, genomes)] = True
            self._kin[rank, name] = genomes, np.flatnonzero(gone[self._position])
        return self._kin[rank, name]


class _Groups:
    """Positions (n,) by value."""

    def __init__(self, values: Labels) -> None:
        self._values = values

    @cached_property
    def _sorted(self) -> tuple[Labels, Labels, Labels]:
        order = np.argsort(self._values, kind="stable")
        unique, starts = np.unique(self._values[order], return_index=True)
        return order, unique, np.append(starts, len(order))

    def members(self, value: int) -> Labels:
        """The positions of a value, ascending."""
        order, unique, starts = self._sorted
        at = int(np.searchsorted(unique, value))
        known = at < len(unique) and unique[at] == value
        return order[starts[at] : starts[at + 1]] if known else order[:0]


class _Batch:
    """Some fragments: which cases are possible for them, and what each case hides from them."""

    def __init__(
        self,
        index: Storage,
        rows: _Rows,
        means: GenomeMeans,
        probes: Probes,
        truth: NDArray[np.int32],
        part: Labels,
    ) -> None:
        self._index, self._rows, self._means, self._probes = index, rows, means, probes
        self._part, self._names = part, truth[part]
        self._genome = probes.genome[part]
        own = [rows.of_genome(genome) for genome in self._genome.tolist()]
        self._overlapping = []
        for at, members in zip(part.tolist(), own, strict=True):
            within = (rows.start[members] < probes.stop[at]) & (rows.stop[members] > probes.start[at])
            over = rows.mean[members] | ((rows.entry[members] == probes.entry[at]) & within)
            self._overlapping.append(members[over])
        # Whether the species has other genomes, and whether something of the own genome does not overlap.
        self._siblings = self._left(SPECIES, None, least=2)
        self._remains = np.array([len(a) > len(b) for a, b in zip(own, self._overlapping, strict=True)], bool)
        self._changed = ~self._siblings & (probes.strains is not None)
        self.queries = unit(probes.vectors[part])
        self._plain: Floats | None = None
        changed = probes.vectors[part] if probes.strains is None else probes.strains[part]
        self.strains = unit(np.where(self._changed[:, None], changed, probes.vectors[part]))
        self._has_random = np.zeros(len(part), dtype=bool)
        self.random = self.queries
        if probes.random is not None:
            self._has_random = np.asarray(probes.random[part].any(axis=1))
            self.random = unit(probes.random[part])

    def __len__(self) -> int:
        return len(self._part)

    def possible(self, case: str) -> Bools:
        """(q,) whether a case can be made of the fragment."""
        has = self._names >= 0
        if case == "part":
            return np.asarray(has[:, SPECIES] & self._remains)
        if case == "strain":
            return np.asarray(has[:, SPECIES] & (self._siblings | self._changed))
        if case == "new species":
            return np.asarray(has[:, SPECIES] & (self._left(GENUS, SPECIES) | ~has[:, GENUS]))
        if case == "new genus":
            return has[:, GENUS]
        if case == "new family":
            return np.asarray(has[:, FAMILY] & has[:, GENUS] & self._left(FAMILY, GENUS))
        if case == NO_KIN:
            return self._has_random
        rank = HIDDEN[case]
        assert rank is not None
        return np.asarray(has[:, rank] & (self._part % TURNS == rank % TURNS))

    def vectors(self, case: str) -> Floats:
        """(q, dim) unit vectors of the queries of a case."""
        return {"strain": self.strains, NO_KIN: self.random}.get(case, self.queries)

    def hidden_genomes(self, query: int, case: str) -> Labels:
        """Numbers of the genomes that a query does not get, ascending."""
        genomes = self._gone(query, case)[0]
        return genomes[genomes != self._genome[query]] if case == "part" else genomes

    def hidden(self, query: int, case: str) -> list[Labels]:
        """Rows that a query does not get, each list of them ascending."""
        rows = self._gone(query, case)[1]
        if case != "part":
            return [rows]
        return [
            np.setdiff1d(rows, self._rows.of_genome(int(self._genome[query])), assume_unique=True),
            self._overlapping[query],
        ]

    def _gone(self, query: int, case: str) -> tuple[Labels, Labels]:
        """Numbers and rows of the genomes that go with the query's name, its own among them."""
        own = self._genome[query : query + 1]
        if case == NO_KIN or (case == "strain" and not self._siblings[query]):
            return own[:0], own[:0]
        rank = HIDDEN[case] if case != "part" else SPECIES
        name = -1 if rank is None else int(self._names[query, rank])
        if rank is None or name < 0:
            return own, self._rows.of_genome(int(own[0]))
        return self._rows.kin(rank, name)

    def views(
        self, case: str, able: Labels, labels: Labels, distances: Floats, book: LineageBook
    ) -> dict[str, Candidates]:
        """The candidates of some queries in a case, by view."""
        vectors, distances_to_means = self.vectors(case)[able], self._to_means(case, able)
        hidden = [self.hidden_genomes(query, case) for query in able.tolist()]
        if distances_to_means is not None:
            for row, genomes in enumerate(hidden):
                distances_to_means[row, self._means.columns(genomes)] = np.inf
            if case == "part":
                columns = self._means.columns(self._genome[able])
                own = [self._without(query, vectors[row]) for row, query in enumerate(able.tolist())]
                distances_to_means[np.arange(len(able)), columns] = own
        lengths = self._probes.bases[self._part[able]]
        nearest = Nearest(labels, distances, distances_to_means, vectors, lengths, masked=True)
        nothing = SharedHashes.nothing(len(able))
        result = {COMPOSITION: candidates_of(self._index, self._means, book, nearest, nothing)}
        sketches = self._sketches(case, able)
        if sketches is not None:
            shared = self._shared(sketches, hidden)
            if case == "part":
                shared = self._without_own(shared, able)
            result[BOTH] = candidates_of(self._index, self._means, book, nearest, shared)
        return result

    def _to_means(self, case: str, able: Labels) -> Floats | None:
        """(m, g) distances of some queries of a case to the genomes' means; None where these are many."""
        vectors = self.vectors(case)
        if vectors is not self.queries:
            return self._means.distances(vectors[able])
        if self._plain is None:
            self._plain = self._means.distances(vectors)
        return None if self._plain is None else self._plain[able]

    def _sketches(self, case: str, able: Labels) -> list[NDArray[np.uint64]] | None:
        """Those of some queries in a case; None where there are none."""
        plain = self._probes.random_sketches if case == NO_KIN else self._probes.sketches
        if plain is None:
            return None
        changed = self._probes.strain_sketches if case == "strain" else None
        return [
            changed[at] if changed is not None and self._changed[query] else plain[at]
            for query, at in zip(able.tolist(), self._part[able].tolist(), strict=True)
        ]

    def _shared(self, sketches: Sequence[NDArray[np.uint64]], hidden: Sequence[Labels]) -> SharedHashes:
        found = self._index.shared(sketches)
        kept = np.ones(len(found.query), bool)
        for row, genomes in enumerate(hidden):
            first, last = np.searchsorted(found.query, [row, row + 1])
            kept[first:last] = ~np.isin(found.genome[first:last], genomes)
        hashes = np.array([len(sketch) for sketch in sketches], np.int64)
        return SharedHashes(found.query[kept], found.genome[kept], found.count[kept], hashes)

    def _without_own(self, shared: SharedHashes, able: Labels) -> SharedHashes:
        """With those of the query's own genome only that are elsewhere in it too."""
        elsewhere = self._probes.elsewhere
        assert elsewhere is not None
        own = shared.genome == self._genome[able][shared.query]
        count = np.where(own, elsewhere[self._part[able]][shared.query], shared.count)
        kept = count > 0
        return SharedHashes(shared.query[kept], shared.genome[kept], count[kept], shared.hashes)

    def _without(self, query: int, vector: Floats) -> float:
        """The distance to the mean of the query's genome without what overlaps it, inf without any."""
        rows = self._rows
        members = np.setdiff1d(rows.of_genome(int(self._genome[query])), self._overlapping[query])
        members = members[rows.counted[members]]
        if not members.size:
            return float("inf")
        letters = np.clip(rows.stop[members] - rows.start[members], 1, MEAN_LETTERS).astype(np.float32)
        mean = letters @ np.asarray(self._index.rows.vectors[rows.labels[members]])
        return float(max(0.0, 1 - vector @ unit(mean[None])[0]))

    def _left(self, rank: int, below: int | None, *, least: int = 1) -> Bools:
        """(q,) whether so many genomes of the query's name at a rank have another name below."""
        names, known = self._names, self._rows.genomes
        result = np.zeros(len(names), dtype=bool)
        for row, name in enumerate(names.tolist()):
            if name[rank] >= 0:
                same = self._rows.named(rank, name[rank])
                left = len(same) if below is None else int((known[same, below] != name[below]).sum())
                result[row] = left >= least
        return result


@dataclass
class _Best:
    """The best candidates so far: positions (q, c) in the rows, -1 for none, and cosines."""

    rows: Labels
    cosines: Floats

    def merge(self, cosines: Floats, first: int, queries: Labels) -> None:
        """Take in a block (q, r) of cosines, -inf for none, of some queries (q,) and rows from `first`."""
        width = self.rows.shape[1]
        for row, line in zip(queries.tolist(), cosines, strict=True):
            better = np.flatnonzero(line > self.cosines[row, -1])
            if not better.size:
                continue
            if better.size > width:
                better = better[np.argpartition(-line[better], width - 1)[:width]]
            rows = np.concatenate([self.rows[row], better + first])
            values = np.concatenate([self.cosines[row], line[better]])
            order = np.lexsort((rows, -values))[:width]
            self.rows[row], self.cosines[row] = rows[order], values[order]


def _nearest(index: Storage, rows: _Rows, batch: _Batch) -> list[tuple[Labels, Floats]]:
    """For every case the labels (q, POOL) of the nearest rows, and their cosine distances."""
    shape = (len(batch), min(POOL, len(rows)))
    best = {case: _Best(np.full(shape, -1), np.full(shape, -np.inf, np.float32)) for case in CASES}
    able = {case: np.flatnonzero(batch.possible(case)) for case in CASES}
    hidden = {case: [batch.hidden(query, case) for query in which.tolist()] for case, which in able.items()}
    for start in range(0, len(rows), ROWS_AT_ONCE):
        stop = min(len(rows), start + ROWS_AT_ONCE)
        here = unit(index.rows.vectors[rows.labels[start:stop]])
        plain, never = batch.queries @ here.T, rows.unsearched[start:stop]
        for case in CASES:
            which = able[case]
            if not which.size:
                continue
            vectors = batch.vectors(case)
            cosines = plain[which] if vectors is batch.queries else vectors[which] @ here.T
            cosines[:, never] = -np.inf
            _hide(cosines, hidden[case], start, stop)
            best[case].merge(cosines, start, which)
    return [_with_labels(one, rows) for one in best.values()]


def _hide(cosines: Floats, hidden: Sequence[Sequence[Labels]], start: int, stop: int) -> None:
    """Make -inf what of the rows from `start` to `stop` is hidden; cosines (m, r) and rows of m queries."""
    for line, barred in zip(cosines, hidden, strict=True):
        for rows in barred:
            first, last = np.searchsorted(rows, [start, stop])
            line[rows[first:last] - start] = -np.inf


def _with_labels(best: _Best, rows: _Rows) -> tuple[Labels, Floats]:
    valid = best.rows >= 0
    distances = np.where(valid, np.maximum(1 - best.cosines, 0), np.float32(np.inf))
    return np.where(valid, rows.labels[best.rows], -1), distances
