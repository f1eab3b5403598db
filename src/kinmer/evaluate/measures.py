"""Labels of queries and entries, rank by rank, and the figures of a query's neighbors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kinmer.errors import InputError
from kinmer.fragments import read_labels
from kinmer.library.join import LOOKED_AT, reason_for
from kinmer.taxonomy import RANKS

Codes = NDArray[np.int64]
Spans = tuple[NDArray[np.float64], NDArray[np.float64]]
SPECIES, CLUSTER, MOLECULE = "species", "ani95_cluster", "molecule"
EITHER = "species or cluster"
# A molecule that says nothing of what a sequence is.
UNKNOWN_MOLECULE = "contig"
# Pairs of intervals compared at a time.
BLOCK_PAIRS = 1 << 24


def label_table(ids: Sequence[str], path: str | Path | None) -> pd.DataFrame:
    """Labels of `ids`, a row each in their order: column ``id`` and the table's; "" where one is missing.

    Rows are matched by ``id``, else ``sequence_id``. Column names become lower case.
    Without a column ``genome_id`` every sequence is a genome.

    Raises InputError where the table is bad or has none of the ids.
    """
    columns: dict[str, list[str]] = {"id": list(ids)}
    if path is not None:
        labels = read_labels(path, ("id", "sequence_id", "query_id"))
        if not any(one in labels.rows for one in ids):
            reason = reason_for(list(labels.rows)[:LOOKED_AT], ids[:LOOKED_AT], "id")
            raise InputError("the labels have none of the sequences", *reason, place=path)
        names = [name.lower() for name in labels.columns]
        if len({*names, "id"}) <= len(names):
            raise InputError("two columns of the labels have one name", "case does not count", place=path)
        rows = [labels.of(one) for one in ids]
        columns |= {name: [row[at] for row in rows] for at, name in enumerate(names)}
    table = pd.DataFrame(columns, dtype=object)
    if MOLECULE in table:
        table[MOLECULE] = table[MOLECULE].where(table[MOLECULE] != UNKNOWN_MOLECULE, "")
    names = [name for name in ("genome_id", "sequence_id", "id") if name in table]
    known = table[names].where(table[names] != "")
    table["genome_id"] = known.bfill(axis=1).iloc[:, 0].fillna("")
    return table


def domain_groups(table: pd.DataFrame) -> NDArray[np.object_]:
    """``cells`` or ``viruses`` for every row, by its domain, else its molecule; "" where neither is known."""
    none = pd.Series("", index=table.index, dtype=object)
    domain = table.get("domain", none).str.lower()
    kind = domain.where(domain != "", table.get(MOLECULE, none).str.lower())
    group = np.where(kind.str.startswith("vir"), "viruses", np.where(kind == "", "", "cells"))
    return np.asarray(group, object)


@dataclass(frozen=True)
class Rank:
    """Labels of q queries and n entries as whole numbers, -1 where there is none.

    keys : (queries (q,), entries (n,)) codes of one label or two; a hit is right where one of them agrees.
    groups : (n,) codes among which neighbors vote.
    sets_asked, sets : (q,), (n,) the benchmark that each is of; queries see the entries of their own.
    barred : pairs of a query and an entry that it does not see.
    labels : of the (first) codes.
    """

    name: str
    labels: tuple[str, ...]
    keys: tuple[tuple[Codes, Codes], ...]
    groups: Codes
    sets_asked: Codes
    sets: Codes
    barred: tuple[Codes, Codes]

    @property
    def asked(self) -> NDArray[np.bool_]:
        """(q,) whether a query has a label here."""
        return np.asarray(np.any([mine >= 0 for mine, _ in self.keys], axis=0))

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """(n,) whether an entry has a label here."""
        return self.groups >= 0

    def right(self, queries: Codes, rows: Codes) -> NDArray[np.bool_]:
        """Whether entries `rows` (m, k; -1 for none) have the label of the queries (m,)."""
        right = np.zeros(rows.shape, bool)
        for mine, theirs in self.keys:
            wanted = mine[queries][:, None]
            right |= (theirs[rows] == wanted) & (wanted >= 0) & (rows >= 0)
        return right

    def relevant(self, inside: NDArray[np.bool_] | None = None) -> Codes:
        """(q,) how many entries have a query's label, among those `inside` (n,)."""
        inside = np.ones(self.sets.size, bool) if inside is None else inside
        number = sum((self._matches(*key, inside) for key in self.keys), np.zeros(len(self.sets_asked), int))
        if len(self.keys) == 2:
            # What agrees in both labels has been counted twice.
            (first, second), (theirs, others) = zip(*self.keys, strict=True)
            width = int(max(second.max(initial=0), others.max(initial=0))) + 1
            a, b = np.concatenate([first, theirs]), np.concatenate([second, others])
            known, joint = np.unique(np.where((a >= 0) & (b >= 0), a * width + b, -1), return_inverse=True)
            joint = np.where(known[joint] >= 0, joint, -1)
            number -= self._matches(joint[: first.size], joint[first.size :], inside)
        who, rows = self.barred
        kept = inside[rows]
        lost = self.right(who[kept], rows[kept][:, None])[:, 0]
        number -= np.bincount(who[kept][lost], minlength=number.size)
        return number

    def _matches(self, mine: Codes, theirs: Codes, inside: NDArray[np.bool_]) -> Codes:
        """(q,) entries of the same set and code."""
        size = int(max(mine.max(initial=-1), theirs.max(initial=-1))) + 1
        sets = int(max(self.sets.max(initial=0), self.sets_asked.max(initial=0))) + 1
        kept = inside & (theirs >= 0)
        counts = np.bincount(self.sets[kept] * size + theirs[kept], minlength=sets * size)
        if not size:
            return np.zeros(mine.size, np.int64)
        return np.where(mine >= 0, counts[np.where(mine >= 0, self.sets_asked * size + mine, 0)], 0)


def ranks_of(queries: pd.DataFrame, database: pd.DataFrame, barred: tuple[Codes, Codes]) -> list[Rank]:
    """Every rank that both tables have and some query has a label of; both have a column ``set``."""
    sets_asked, sets = (np.asarray(table["set"], np.int64) for table in (queries, database))
    labels: dict[str, tuple[str, ...]] = {}
    keys: dict[str, tuple[tuple[Codes, Codes], ...]] = {}
    for name in (*RANKS[::-1], CLUSTER, MOLECULE):
        if name in queries and name in database:
            both = pd.concat([queries[name], database[name]])
            codes, kinds = pd.factorize(both.where(both != ""), sort=True)
            labels[name] = tuple(map(str, kinds))
            keys[name] = ((codes[: len(queries)], codes[len(queries) :]),)
    if SPECIES in keys and CLUSTER in keys:
        keys[EITHER] = keys[SPECIES] + keys[CLUSTER]
        labels[EITHER] = labels[SPECIES]
    ranks = []
    for name, pairs in keys.items():
        groups = pairs[0][1] if len(pairs) == 1 else _joined(*(theirs for _, theirs in pairs))
        rank = Rank(name, labels[name], pairs, groups, sets_asked, sets, barred)
        if rank.asked.any():
            ranks.append(rank)
    return ranks


def _joined(first: Codes, second: Codes) -> Codes:
    """Codes of what is connected by either label: neighbors that share one of them vote together."""
    size = int(first.max(initial=-1)) + 1
    labels = size + int(second.max(initial=-1)) + 1
    both = (first >= 0) & (second >= 0)
    edges = coo_array((np.ones(both.sum()), (first[both], size + second[both])), shape=(labels, labels))
    _, part = connected_components(edges, directed=False)
    part = np.append(part, -1)
    return np.where(first >= 0, part[first], np.where(second >= 0, part[size + second], -1))


def barred_pairs(queries: pd.DataFrame, database: pd.DataFrame) -> tuple[Codes, Codes]:
    """Rows of queries and entries that are one sequence, or overlapping pieces of one; by query.

    Pieces are known by ``sequence_id``, ``start`` and ``end`` where both tables have them.
    """
    row_of = {name: row for row, name in enumerate(database["id"])}
    own = [(row, row_of[name]) for row, name in enumerate(queries["id"]) if name in row_of]
    pairs = [np.array(own, np.int64).reshape(-1, 2)]
    spans = {"sequence_id", "start", "end"}
    if spans <= set(queries) and spans <= set(database):
        theirs = database.groupby("sequence_id").indices
        asked, there = _spans(queries), _spans(database)
        for name, mine in queries.groupby("sequence_id").indices.items():
            if name and name in theirs:
                pairs += _overlaps(asked, there, np.asarray(mine), np.asarray(theirs[name]))
    who, rows = np.unique(np.concatenate(pairs), axis=0).T
    return who, rows


def _spans(table: pd.DataFrame) -> Spans:
    """Starts and ends, NaN (which overlaps nothing) where they are not numbers."""
    start, end = (pd.to_numeric(table[side], errors="coerce").to_numpy(float) for side in ("start", "end"))
    return start, end


def _overlaps(asked: Spans, there: Spans, mine: Codes, theirs: Codes) -> Iterator[Codes]:
    """(pairs, 2) rows of queries `mine` and entries `theirs` of one sequence whose spans overlap."""
    first, last, start, end = asked[0][mine], asked[1][mine], there[0][theirs], there[1][theirs]
    step = max(1, BLOCK_PAIRS // theirs.size)
    for at in range(0, mine.size, step):
        some = slice(at, at + step)
        who, which = np.nonzero((first[some, None] < end) & (start < last[some, None]))
        yield np.stack([mine[some][who], theirs[which]], axis=1)


Floats = NDArray[np.float64]
DEPTH, FEW = 100, 10
MEASURES = ("at_1", "vote_10", "at_10", "map_100", "recall_10", "recall_100", "any_10", "any_100")


@dataclass(frozen=True)
class Neighbors:
    """Neighbors of m queries, nearest first.

    queries : (m,) their rows. rows : (m, DEPTH) entries, -1 behind the last. weights : (m, DEPTH) in the
    vote. nearest_in : (draws, m) the nearest entry in every subsample of the database.
    """

    queries: NDArray[np.int64]
    rows: NDArray[np.int64]
    weights: Floats
    nearest_in: NDArray[np.int64]


def curve_name(fraction: float) -> str:
    """The measure `at_1` in subsamples of the database's genomes."""
    return f"at_1_of_1/{round(1 / fraction)}"


def measure_names(rank: Rank, fractions: tuple[float, ...]) -> tuple[str, ...]:
    """Columns of `measure` and `limits`."""
    return MEASURES if rank.name == MOLECULE else (*MEASURES, *map(curve_name, fractions))


def measure(rank: Rank, near: Neighbors, relevant: NDArray[np.int64], draws: int) -> Floats:
    """(m, measures) figures of queries, in the order of `measure_names`.

    relevant : (q,) of all queries, entries with the right label. draws : subsamples of every fraction.

    at_1, at_10 : share of the nearest and of the ten nearest with the query's label; entries without a label
    are wrong. vote_10 : whether the label with the largest weight among the ten is right; entries without a
    label have no vote. map_100 : precision at every right entry of the first 100, summed and divided by how
    many there could be (average precision). recall_k : share of all right entries that are among the first
    k. any_k : whether one of the first k is right. The molecule is known of some entries only, so the others
    are passed over.
    """
    rows, weights = near.rows, near.weights
    if rank.name == MOLECULE:
        rows, weights = _passed_over(rank, rows, weights)
    right = rank.right(near.queries, rows)
    hits = np.cumsum(right, axis=1)
    there = relevant[near.queries]
    most = np.maximum(np.minimum(there, DEPTH), 1)
    precision = hits / np.arange(1, rows.shape[1] + 1)
    few = min(FEW, rows.shape[1]) - 1
    columns = [
        right[:, 0],
        _vote(rank, rows[:, :FEW], weights, right),
        hits[:, few] / FEW,
        (precision * right).sum(axis=1) / most,
        hits[:, few] / np.maximum(there, 1),
        hits[:, -1] / np.maximum(there, 1),
        hits[:, few] > 0,
        hits[:, -1] > 0,
    ]
    if rank.name != MOLECULE:
        drawn = rank.right(near.queries, near.nearest_in.T)
        columns += [drawn[:, at : at + draws].mean(axis=1) for at in range(0, drawn.shape[1], draws)]
    return np.stack(columns, axis=1).astype(float)


def limits(rank: Rank, relevant: NDArray[np.int64], inside: NDArray[np.bool_], draws: int) -> Floats:
    """(q, measures) the most that `measure` could give with a perfect order of the entries.

    inside : (draws of all fractions, n) the entries of every subsample.
    """
    can = relevant > 0
    some = np.maximum(relevant, 1)
    columns = [can, can, np.minimum(relevant, FEW) / FEW, can]
    columns += [np.minimum(relevant, k) / some for k in (FEW, DEPTH)] + [can, can]
    if rank.name != MOLECULE:
        could = np.array([rank.relevant(one) > 0 for one in inside])
        columns += [could[at : at + draws].mean(axis=0) for at in range(0, len(could), draws)]
    return np.stack(columns, axis=1).astype(float)


def nearest_labeled(rank: Rank, near: Neighbors) -> NDArray[np.int64]:
    """(m,) the group of the nearest entry that has a label; -1 where none of them has."""
    rows, _ = _passed_over(rank, near.rows, near.weights)
    return np.where(rows[:, 0] >= 0, rank.groups[rows[:, 0]], -1)


def _passed_over(rank: Rank, rows: NDArray[np.int64], weights: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Neighbors and weights without the entries that have no label."""
    kept = (rows >= 0) & rank.labeled[rows]
    order = np.argsort(~kept, axis=1, kind="stable")
    ordered = np.where(np.take_along_axis(kept, order, axis=1), np.take_along_axis(rows, order, axis=1), -1)
    return ordered, np.take_along_axis(weights, order, axis=1)


def _vote(
    rank: Rank, rows: NDArray[np.int64], weights: Floats, right: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether the group with the largest weight is right; of equal ones the nearer wins."""
    groups = np.where(rows >= 0, rank.groups[rows], -1)
    weight = np.where(groups >= 0, weights[:, : rows.shape[1]], 0)
    behind = ((groups[:, :, None] == groups[:, None, :]) * weight[:, None, :]).sum(axis=2)
    behind[groups < 0] = -1
    first = behind.argmax(axis=1)
    return np.asarray(right[np.arange(len(rows)), first] & (groups[np.arange(len(rows)), first] >= 0))
