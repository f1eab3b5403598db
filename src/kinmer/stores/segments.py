"""A segment of a store: one graph of neighbors (HNSW, by usearch) that grows once, and is then only read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from kinmer.errors import EngineError, FormatError
from kinmer.progress import counted
from kinmer.stores.exact import (
    Labels,
    Vectors,
    exact_search,
    join_hits,
    no_hits,
    unit_rows,
)
from kinmer.stores.followers import Followers
from kinmer.stores.order import near_together, skeleton
from kinmer.stores.pairwise import Metric

# Many edges, for contigs of mixed lengths: short ones are far from everything, and others have no edges to
# them. Of real genomes in contigs of 5 kb to megabases a fifth to a quarter were not found with 16 edges, a
# tenth or less with 32. Such a graph is also found as much in by narrower and faster searches. The rest are
# `Followers`.
CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 32, 96, 192
# The larger a graph, the wider it is searched: by the fourth root beyond so many entries that can be reached,
# and in proportion beyond CROWDED. Of real pieces of 5 kb, searched alike, .989 of the true ten were found
# among 50,000 and .968 among 350,000. Of 4.8 million simulated contigs, of which 2.1 million can be reached,
# .963 were found 612 wide, .989 1,500 wide, .9975 2,500 wide: searches of short ones end elsewhere.
EXPANDING_FROM, CROWDED, EXPANSION_MOST = 20_000, 300_000, 4096
# A graph of so few nodes is not followed, each of them is looked at, nor one of so many times as many as the
# search is wide.
FEW, NEARLY_ALL = 512, 3
# An entry can be reached where so narrow a search (expansion, hits) of its own vector reaches it: the wider
# one of queries then surely does. The others follow the nearest of the hits. A wider one, of 64, takes three
# times the CPU for a sixth fewer followers, and .9998 instead of .9996 of the true ten are found (300,000
# simulated contigs of mixed lengths).
CHECK, HITS = 16, 16
# So many of the nearest that a search has met are asked for their followers, or a part of all: of those
# contigs .9995 of the true ten are then found with 64, .9996 with 128.
LEADERS, LEADING = 128, 4
# Entries that are read, or searched again, together.
PAGE = 1 << 12
# More candidates than asked for, so many times again where deleted entries leave too few.
SPARE, WIDER, WIDEST = 16, 4, 4096
# Threads make a graph that depends on their timing; up to this many entries one thread is fast enough, and
# the same entries give the same graph.
ONE_THREAD = 50_000
Coded = NDArray[Any]


class Codes:
    """How graphs hold vectors: float16 unit vectors for cosine, float32 for l2, whose scale nobody knows.

    Bytes built in .6 of the CPU, but of clusters of 25 near entries they lost two in a hundred of the true
    ten neighbors, however wide the search.
    """

    def __init__(self, dim: int, metric: Metric) -> None:
        self.dim, self.metric = dim, metric

    def of(self, vectors: Vectors) -> Coded:
        """Vectors (m, dim) as graphs hold them."""
        return unit_rows(vectors).astype(np.float16) if self.metric == "cosine" else vectors

    def graph(self) -> Any:
        """An empty graph."""
        return Index(
            ndim=self.dim,
            # Not the dot product of unit vectors: rounded, their lengths are off by more than the distances
            # between strains, and cosine takes the lengths out again.
            metric="cos" if self.metric == "cosine" else "l2sq",
            dtype="f16" if self.metric == "cosine" else "f32",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
        )


@contextmanager
def _usearch(trouble: str) -> Iterator[None]:
    """What usearch says where it fails; where a signal has ended it, it says that and no more."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if "terminated" in str(error):
            raise KeyboardInterrupt from error
        raise EngineError(trouble, str(error)) from error


class Segment:
    """Rows 0 … n - 1 in a graph, with their labels (n,); those deleted stay in it, as ways to the others."""

    def __init__(self, codes: Codes) -> None:
        self.codes, self.graph = codes, codes.graph()
        self.labels: Labels = np.empty(0, np.int64)
        self._dead = np.empty(0, dtype=bool)
        self._vectors: list[Coded] = []
        self._followers = Followers.none(codes.dim, codes.metric)
        self._folder, self.number, self._dead_file = Path(), 0, ""
        self.deaths, self._noted, self._mapped = 0, 0, False

    @classmethod
    def open(cls, folder: Path, note: tuple[int, str, int], codes: Codes) -> Self:
        """The segment in a folder that a note tells of, mapped."""
        self = cls(codes)
        self._folder, (self.number, self._dead_file, followers) = folder, note
        self.graph = self._restored(view=True, enable_key_lookups=False)
        self.labels = np.load(folder / f"labels-{self.number}.npy", mmap_mode="r", allow_pickle=False)
        if len(self.graph) != len(self.labels) or self.graph.ndim != codes.dim:
            raise FormatError("a graph is damaged", "it is not the one described", place=folder)
        if followers:
            self._followers = Followers.open(self._follower_files, codes.dim, codes.metric)
        if len(self._followers) != followers:
            raise FormatError("a graph is damaged", "it is not the one described", place=folder)
        self._dead = np.zeros(len(self.labels), dtype=bool)
        if self._dead_file:
            self._dead[np.load(folder / self._dead_file, allow_pickle=False)] = True
            self.deaths = self._noted = int(self._dead.sum())
        return self

    @property
    def alive(self) -> int:
        """Rows that are answers."""
        return len(self.labels) - self.deaths

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files."""
        dead = (self._dead_file,) if self._dead_file else ()
        return (*self.kept_files, f"labels-{self.number}.npy", *dead)

    @property
    def kept_files(self) -> tuple[str, ...]:
        """Names of those files that stay the same when labels change or entries are deleted."""
        followers = [file.name for file in self._follower_files] if len(self._followers) else []
        return (f"graph-{self.number}.usearch", *followers)

    @property
    def _follower_files(self) -> tuple[Path, Path]:
        folder, number = self._folder, self.number
        return folder / f"leaders-{number}.npy", folder / f"followers-{number}.npy"

    @property
    def note(self) -> tuple[int, str, int]:
        """Number, file of dead rows or "", and how many followers there are: what `open` takes."""
        return self.number, self._dead_file, len(self._followers)

    def grow(self, labels: Labels, coded: Coded, threads: int) -> None:
        """Add rows; only to a segment that is not opened, or `thawed`."""
        if len(self.labels) + len(labels) <= ONE_THREAD:
            threads = 1
        order = self._insertion_order(coded)
        rows = np.arange(len(self.labels), len(self.labels) + len(labels), dtype=np.uint64)
        # The graph reads vectors where they stand: NumPy keeps large arrays in large pages, usearch its
        # copies in small ones, and most of the time goes into finding them (a sixth of a build of 300,000).
        coded = coded[order]
        self._vectors.append(coded)
        for at in counted(range(0, len(rows), PAGE), "a block of the graph"):
            with _usearch("usearch cannot add entries"):
                self.graph.add(rows[at : at + PAGE], coded[at : at + PAGE], threads=threads, copy=False)
        self.labels = np.concatenate([self.labels, labels[order]])
        self._dead = np.concatenate([self._dead, np.zeros(len(labels), dtype=bool)])
        self.__dict__.pop("_order", None)

    def thawed(self) -> Self:
        """Itself, in memory, and ready to grow further."""
        self.graph = self._restored(view=False)
        self.graph.expansion_add = EXPANSION_ADD
        self.labels = np.array(self.labels)
        return self

    def find(self, labels: Labels) -> Labels:
        """Rows (m,) of labels (m,); -1 for those that are not here."""
        if not len(self.labels):
            return np.full(len(labels), -1)
        # A label that was deleted and added again is alive where it stands last.
        at = np.searchsorted(self.labels, labels, side="right", sorter=self._order) - 1
        rows = at if self._order is None else self._order[at]
        return np.where((at >= 0) & (self.labels[rows] == labels) & ~self._dead[rows], rows, -1)

    def kill(self, rows: Labels) -> None:
        """Take rows out of the answers."""
        self._dead[rows] = True
        self.deaths += len(rows)

    def living(self) -> Labels:
        """Ascending rows that are answers."""
        return np.flatnonzero(~self._dead)

    def coded(self, rows: Labels) -> Coded:
        """Vectors (m, dim) of rows (m,), as the graph holds them."""
        return np.asarray(self._keyed.get(rows.astype(np.uint64))).reshape(-1, self.codes.dim)

    def near(
        self, asked: Coded, k: int, threads: int, expansion: int | None = None
    ) -> tuple[Labels, Vectors]:
        """Labels and distances (q, k) of the nearest living rows, sorted; -1 and inf where there are none.

        expansion : how wide the search is at least; None: as finds nearly all.
        """
        rows, distances = no_hits(len(asked), k)
        nodes, wanted = len(self.labels), min(k, self.alive)
        wide = min(nodes, k + k * self.deaths // max(1, self.alive) + SPARE if self.deaths else k)
        if nodes <= FEW:
            wide = min(nodes, k + self.deaths)
        left = np.arange(len(asked))
        while left.size:
            rows[left], distances[left] = self._ask(asked[left], wide, k, threads, expansion)
            left = left[(rows[left] >= 0).sum(axis=1) < wanted]
            if not self.deaths or wide >= min(nodes, WIDEST):
                break
            wide = min(nodes, wide * WIDER)
        if left.size:
            # Deleted rows stand in the way, or k is a large part of all.
            rows[left], distances[left] = self._look_at_all(asked[left], k)
        return np.where(rows < 0, -1, self.labels[rows]), distances

    def save(self, folder: Path, number: int) -> None:
        """Write the files of the graph under a new number."""
        self._folder, self.number = folder, number
        self.graph.save(str(folder / f"graph-{number}.usearch"))
        np.save(folder / f"labels-{number}.npy", self.labels, allow_pickle=False)
        self._dead_file, self._noted = "", 0

    def follow(self, threads: int) -> None:
        """Look for each living row, and write those that are not found as followers; only what is saved."""
        living = self.living()
        if len(self.labels) <= FEW or not living.size:
            return
        starts = counted(range(0, len(living), PAGE), "checking the graph")
        parts = [self._unreached(living[at : at + PAGE], threads) for at in starts]
        rows, met, distances = (np.concatenate(each) for each in zip(*parts, strict=True))
        if not rows.size:
            return
        lost = np.zeros(len(self.labels), dtype=bool)
        lost[rows] = True
        leaders, far = np.full(len(lost), -1), np.full(len(lost), np.inf, np.float32)

        def lead(rows: Labels, met: Labels, distances: Vectors) -> None:
            known = (met >= 0) & ~lost[met]
            led, nearest = known.any(axis=1), (np.arange(len(rows)), known.argmax(axis=1))
            leaders[rows] = np.where(led, met[nearest], -1)
            far[rows] = np.where(led, distances[nearest], np.inf)

        def write() -> Followers:
            files, metric = self._follower_files, self.codes.metric
            return Followers.write(files, leaders[rows], rows, self.coded, metric)

        lead(rows, met, distances)
        self._followers = write()
        # A query that finds many that are nearer than this leader would not come upon it. It does upon one
        # that a search as wide as its own has found.
        islands = self._followers.islands(far)
        for at in counted(range(0, len(islands), PAGE), "checking the graph"):
            page = islands[at : at + PAGE]
            lead(page, *self._met(page, int(self._expansion), LEADERS, threads))
        if islands.size:
            self._followers = write()

    def renumber(self, labels: Labels, number: int) -> None:
        """Take other labels, -1 for what goes, and write them under a new number. The graph is the same."""
        before = self.kept_files
        self.number, self._dead_file, self._noted = number, "", 0
        for old, new in zip(before, self.kept_files, strict=True):
            os.link(self._folder / old, self._folder / new)
        self.labels = labels
        self.kill(np.flatnonzero((self.labels < 0) & ~self._dead))
        np.save(self._folder / f"labels-{number}.npy", self.labels, allow_pickle=False)
        self.__dict__.pop("_order", None)

    def save_dead(self, number: int) -> None:
        """Write which rows are deleted, where that has changed."""
        if self.deaths != self._noted:
            self._dead_file, self._noted = f"dead-{self.number}-{number}.npy", self.deaths
            np.save(self._folder / self._dead_file, np.flatnonzero(self._dead), allow_pickle=False)

    @cached_property
    def _following(self) -> NDArray[np.bool_]:
        """Which rows are followers."""
        following = np.zeros(len(self.labels), dtype=bool)
        following[self._followers.rows] = True
        return following

    @cached_property
    def _order(self) -> Labels | None:
        """The order of labels; None where they ascend."""
        ascending = bool((self.labels[1:] > self.labels[:-1]).all())
        return None if ascending else np.argsort(self.labels, kind="stable")

    @property
    def _expansion(self) -> float:
        """How wide a search of the graph is."""
        reached = self.alive - len(self._followers)
        wider: float = max(1.0, min(reached, CROWDED) / EXPANDING_FROM) ** 0.25 * max(1.0, reached / CROWDED)
        return min(EXPANSION_SEARCH * wider, EXPANSION_MOST) * (1 + self.deaths / max(1, self.alive))

    def _insertion_order(self, coded: Coded) -> Labels:
        """The order in which vectors (m, dim) go into the graph."""
        order = np.random.Generator(np.random.PCG64(len(coded))).permutation(len(coded))
        first = skeleton(len(coded), len(self.labels))
        return near_together(order, lambda rows: coded[rows], self.codes.metric, first=first)

    @cached_property
    def _keyed_view(self) -> Any:
        return self._restored(view=True)

    @property
    def _keyed(self) -> Any:
        """The graph, with rows that can be asked for."""
        return self._keyed_view if self._mapped else self.graph

    def _restored(self, **how: bool) -> Any:
        file = self._folder / f"graph-{self.number}.usearch"
        self._mapped = how["view"]
        try:
            graph = Index.restore(str(file), **how)
        except RuntimeError as error:
            raise FormatError("a graph is damaged", str(error), place=file) from error
        if graph is None:
            raise FormatError("a graph is damaged", "usearch does not know it", place=file)
        return graph

    def _ask(
        self, asked: Coded, wide: int, k: int, threads: int, expansion: int | None
    ) -> tuple[Labels, Vectors]:
        """Rows and distances (q, k) of the living among the `wide` nearest, and their followers, sorted."""
        least = int(self._expansion) if expansion is None else expansion
        width = self.graph.expansion_search = max(least, 2 * wide)
        # So wide a search meets nearly every node of a graph so small, and no edge is needed.
        few = len(self.labels) <= max(FEW, NEARLY_ALL * width)
        follow = bool(len(self._followers)) and not few
        many = max(wide, min(LEADERS, width), width // LEADING) if follow else wide
        with _usearch("usearch cannot search"):
            matches = self.graph.search(asked, many, threads=threads, exact=few)
        met, raw = self._answers(matches)
        living = (met >= 0) & ~self._dead[met]
        more = no_hits(len(asked), max(0, k - met.shape[1]))
        if follow:
            more = self._followers.near(asked, met, k, self._dead, threads)
            # Some that the check has missed are met by a wider search, and are not to be given twice.
            query, at = np.nonzero(living & self._following[met])
            living[query, at] = (more[0][query] != met[query, at][:, None]).all(axis=1)
        hits = np.where(living, met, -1), np.where(living, raw, np.float32(np.inf))
        return join_hits(hits, more, k)

    def _look_at_all(self, asked: Coded, k: int) -> tuple[Labels, Vectors]:
        living, hits = self.living(), no_hits(len(asked), k)
        queries = asked.astype(np.float32)
        for start in range(0, len(living), PAGE):
            page = living[start : start + PAGE]
            vectors = self.coded(page).astype(np.float32)
            hits = join_hits(hits, exact_search(vectors, page, queries, k, self.codes.metric), k)
        return hits

    def _unreached(self, rows: Labels, threads: int) -> tuple[Labels, Labels, Vectors]:
        """Rows that a search of their own vector misses, and rows and distances (m, hits) that it meets."""
        met, distances = self._met(rows, CHECK, HITS, threads)
        there = (met == rows[:, None]).any(axis=1)
        # Where the last hit is as near as the first, many entries are the same and any of them will do.
        left = ~there & (distances[:, -1] > distances[:, 0])
        return rows[left], met[left], distances[left]

    def _met(self, rows: Labels, expansion: int, hits: int, threads: int) -> tuple[Labels, Vectors]:
        """Rows and distances (m, hits) that searches of rows' (m,) own vectors meet; -1 and inf for none."""
        self.graph.expansion_search = expansion
        with _usearch("usearch cannot search"):
            matches = self.graph.search(self.coded(rows), hits, threads=threads)
        return self._answers(matches)

    def _answers(self, matches: Any) -> tuple[Labels, Vectors]:
        """Rows and distances (q, hits) of what usearch has found; -1 and inf where it has found fewer."""
        keys, raw = (np.atleast_2d(array) for array in (matches.keys, matches.distances))
        counts = np.atleast_1d(getattr(matches, "counts", len(matches.keys)))
        there = np.arange(keys.shape[1]) < counts[:, None]
        raw = np.sqrt(np.maximum(raw, 0)) if self.codes.metric == "l2" else np.clip(raw, 0, 2)
        met = np.where(there, keys, 0).astype(np.int64)
        return np.where(there, met, -1), np.where(there, raw, np.inf)
