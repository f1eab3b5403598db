"""Labelled queries and database entries: what they have in common, rank by rank, and who may not meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import InputError
from kinmer.fragments import read_labels
from kinmer.taxonomy import RANKS

__all__ = ["MOLECULE", "Rank", "barred_pairs", "domain_groups", "label_table", "ranks_of"]

Codes = NDArray[np.int64]
Spans = tuple[NDArray[np.float64], NDArray[np.float64]]
SPECIES, CLUSTER, MOLECULE = "species", "ani95_cluster", "molecule"
EITHER = "species or cluster"
# Labels that tell nothing of what a sequence is.
UNTOLD = {MOLECULE: "contig"}
# Pairs of intervals compared at a time.
BLOCK_PAIRS = 1 << 24


def label_table(ids: Sequence[str], path: str | Path | None) -> pd.DataFrame:
    """Labels of `ids`, a row each in their order: column ``id`` and the table's; "" where one is missing.

    Rows are found by ``id``, else ``sequence_id``. Column names become lower case.
    Without a column ``genome_id`` every sequence is a genome.

    Raises InputError where the table is bad or has none of the ids.
    """
    columns: dict[str, list[str]] = {"id": list(ids)}
    if path is not None:
        labels = read_labels(path, ("id", "sequence_id"))
        if not any(one in labels.rows for one in ids):
            raise InputError(
                "the labels have none of the sequences",
                f"the first sequence is {ids[0]!r}" if ids else "there are no sequences",
                "is the id in the column id or sequence_id?",
                place=path,
            )
        names = [name.lower() for name in labels.columns]
        if len({*names, "id"}) <= len(names):
            raise InputError("two columns of the labels have one name", "case does not count", place=path)
        rows = [labels.of(one) for one in ids]
        for place, name in enumerate(names):
            columns[name] = [row[place] for row in rows]
    table = pd.DataFrame(columns, dtype=object)
    for name, untold in UNTOLD.items():
        if name in table:
            table[name] = table[name].where(table[name] != untold, "")
    table["genome_id"] = _first_told(table, ("genome_id", "sequence_id", "id"))
    return table


def _first_told(table: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """Of every row the first of the columns `names` that is there and not empty."""
    columns = [table[name] for name in names if name in table]
    found = columns[0]
    for column in columns[1:]:
        found = found.where(found != "", column)
    return found


def domain_groups(table: pd.DataFrame) -> NDArray[np.object_]:
    """``cells`` or ``viruses`` for every row, by its domain, else its molecule; "" where neither tells."""
    none = pd.Series("", index=table.index, dtype=object)
    domain = table.get("domain", none).str.lower()
    kind = domain.where(domain != "", table.get(MOLECULE, none).str.lower())
    group = np.where(kind.str.startswith("vir"), "viruses", np.where(kind == "", "", "cells"))
    return np.asarray(group, object)


@dataclass(frozen=True)
class Rank:
    """Labels of q queries and n entries as whole numbers, -1 where there is none.

    keys : (queries (q,), entries (n,)) codes of one label or two; a hit is right where one of them agrees.
    groups : (n,) codes among which neighbours vote.
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
    def labelled(self) -> NDArray[np.bool_]:
        """(n,) whether an entry has a label here."""
        return self.groups >= 0

    def right(self, queries: Codes, rows: Codes) -> NDArray[np.bool_]:
        """Whether entries `rows` (m, k; -1 for none) have the label of the queries (m,)."""
        found = np.zeros(rows.shape, bool)
        for mine, theirs in self.keys:
            wanted = mine[queries][:, None]
            found |= (theirs[rows] == wanted) & (wanted >= 0) & (rows >= 0)
        return found

    def relevant(self, inside: NDArray[np.bool_] | None = None) -> Codes:
        """(q,) how many entries have a query's label, among those `inside` (n,)."""
        inside = np.ones(self.sets.size, bool) if inside is None else inside
        number = np.zeros(self.sets_asked.size, np.int64)
        for mine, theirs in self.keys:
            number += self._matches(mine, theirs, inside)
        if len(self.keys) == 2:
            (first, second), both = self.keys, []
            width = int(max(second[0].max(initial=0), second[1].max(initial=0))) + 1
            for one, other in zip(first, second, strict=True):
                both.append(np.where((one >= 0) & (other >= 0), one * width + other, -1))
            _, joint = np.unique(np.concatenate(both), return_inverse=True)
            joint = np.where(np.concatenate(both) >= 0, joint, -1)
            number -= self._matches(joint[: both[0].size], joint[both[0].size :], inside)
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
        found = counts[np.where(mine >= 0, self.sets_asked * size + mine, 0)] if size else np.zeros(mine.size)
        return np.asarray(np.where(mine >= 0, found, 0), np.int64)


def ranks_of(queries: pd.DataFrame, database: pd.DataFrame, barred: tuple[Codes, Codes]) -> list[Rank]:
    """Every rank that both tables have and some query has a label of; both have a column ``set``."""
    sets_asked, sets = (np.asarray(table["set"], np.int64) for table in (queries, database))

    labels: dict[str, tuple[str, ...]] = {}

    def codes(name: str) -> tuple[Codes, Codes]:
        both = pd.concat([queries[name], database[name]])
        found, kinds = pd.factorize(both.where(both != ""), sort=True)
        labels[name] = tuple(map(str, kinds))
        return found[: len(queries)], found[len(queries) :]

    names = [name for name in (*RANKS[::-1], CLUSTER, MOLECULE) if name in queries and name in database]
    keys: dict[str, tuple[tuple[Codes, Codes], ...]] = {name: (codes(name),) for name in names}
    if SPECIES in keys and CLUSTER in keys:
        keys[EITHER] = keys[SPECIES] + keys[CLUSTER]
    ranks = []
    for name, pairs in keys.items():
        groups = pairs[0][1] if len(pairs) == 1 else _joined(*(theirs for _, theirs in pairs))
        told = labels[SPECIES if name == EITHER else name]
        rank = Rank(name, told, pairs, groups, sets_asked, sets, barred)
        if rank.asked.any():
            ranks.append(rank)
    return ranks


def _joined(first: Codes, second: Codes) -> Codes:
    """Codes of what is connected by either label: neighbours that share one of them vote together."""
    size = int(first.max(initial=-1)) + 1
    above = list(range(size + int(second.max(initial=-1)) + 1))

    def top(one: int) -> int:
        while above[one] != one:
            above[one] = one = above[above[one]]
        return one

    for one, other in {*zip(first.tolist(), second.tolist(), strict=True)}:
        if one >= 0 and other >= 0:
            above[top(one)] = top(size + other)
    tops = np.array([top(one) for one in range(len(above))] or [0])
    return np.where(first >= 0, tops[first], np.where(second >= 0, tops[size + second], -1))


def barred_pairs(queries: pd.DataFrame, database: pd.DataFrame) -> tuple[Codes, Codes]:
    """Places of queries and entries that are one sequence, or overlapping pieces of one; by query.

    Pieces are told by ``sequence_id``, ``start`` and ``end`` where both tables have them.
    """
    place_of = {name: place for place, name in enumerate(database["id"])}
    own = [(place, place_of[name]) for place, name in enumerate(queries["id"]) if name in place_of]
    pairs = [np.array(own, np.int64).reshape(-1, 2)]
    spans = {"sequence_id", "start", "end"}
    if spans <= set(queries) and spans <= set(database):
        theirs = database.groupby("sequence_id").indices
        asked, there = _spans(queries), _spans(database)
        for name, mine in queries.groupby("sequence_id").indices.items():
            if name and name in theirs:
                pairs += _overlaps(asked, there, np.asarray(mine), np.asarray(theirs[name]))
    found = np.unique(np.concatenate(pairs), axis=0)
    return found[:, 0], found[:, 1]


def _spans(table: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Starts and ends, NaN (which overlaps nothing) where they are no numbers."""
    start, end = (pd.to_numeric(table[side], errors="coerce").to_numpy(float) for side in ("start", "end"))
    return start, end


def _overlaps(asked: Spans, there: Spans, mine: Codes, theirs: Codes) -> Iterator[Codes]:
    """(pairs, 2) places of queries `mine` and entries `theirs` of one sequence whose spans overlap."""
    first, last, start, end = asked[0][mine], asked[1][mine], there[0][theirs], there[1][theirs]
    step = max(1, BLOCK_PAIRS // theirs.size)
    for at in range(0, mine.size, step):
        some = slice(at, at + step)
        who, which = np.nonzero((first[some, None] < end) & (start < last[some, None]))
        yield np.stack([mine[some][who], theirs[which]], axis=1)
