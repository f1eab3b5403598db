"""Engines with a graph of neighbors, and the default: HNSW (Malkov and Yashunin 2018), by usearch.

Neighbor graphs forget. Where the nodes of deleted entries are given to new ones or moved, the edges that led
through them to old entries are cut; and insertions prune edges, at times the last that lead to a cluster.
Measured by benchmarks/history.py. Hence:

- deleted entries stay in the graph, marked, as ways to the others, and are not answers;
- once they are half as many as the entries, the graph is built again without them;
- a flush after additions asks for every entry by its own vector. What the graph does not give is inserted
  again, and where that does not help it is kept aside, compared with every query by itself.

usearch was measured beside faiss (benchmarks/engines.py): alike in recall and speed, but a usearch file is
mapped instead of read, entries can be deleted, and no second OpenMP runtime meets PyTorch's in one process.
"""

from __future__ import annotations

import os
import zlib
from abc import abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from kinmer.errors import EngineError, FormatError
from kinmer.files import file_checksum, sync_directory, write_json
from kinmer.resources import available_cores
from kinmer.stores.exact import (
    Labels,
    Metric,
    Vectors,
    VectorStore,
    distances_to,
    exact_search,
    join_hits,
    no_hits,
    sort_hits,
    unit_rows,
)

# Most marks: half as many as there are entries (a third of the graph, up to which recall is that of a graph
# built at once), but some hundreds in a small one.
MARKED_SHARE, MARKED_LEAST = 0.5, 256
REPAIRS = 3
# Entries read together where all are looked at.
PAGE = 1 << 12


class GraphStore(VectorStore):
    """A vector store over a graph that approximates; see the module."""

    def __init__(self, directory: Path, *, dim: int, metric: Metric, threads: int | None = None) -> None:
        super().__init__(directory, dim=dim, metric=metric, threads=threads)
        self._marked, self._grown = 0, False
        self._set_aside(np.empty(0, dtype=np.int64))

    @abstractmethod
    def _labels(self) -> Labels:
        """Ascending labels of all entries."""

    @abstractmethod
    def _held(self, labels: Labels) -> Vectors:
        """Vectors (m, dim) of labels (m,) as the graph holds them."""

    @abstractmethod
    def _insert(self, labels: Labels, vectors: Vectors) -> None:
        """Add vectors, as the graph holds them, as new nodes."""

    @abstractmethod
    def _mark(self, labels: Labels) -> None:
        """Take entries out of the answers, but not their nodes out of the graph."""

    @abstractmethod
    def _rebuild(self, gone: Labels) -> None:
        """Build the graph again of what it holds, without what is marked and what is gone."""

    @abstractmethod
    def _unreached(self, labels: Labels) -> Labels:
        """Those of the labels (m,) that the graph does not give to their own vector."""

    @abstractmethod
    def _near(self, queries: Vectors, k: int) -> tuple[Labels, Vectors]:
        """`_search` of the graph alone."""

    def _add(self, labels: Labels, vectors: Vectors) -> None:
        self._insert(labels, vectors)
        self._grown = True

    def _delete(self, labels: Labels) -> None:
        aside = np.setdiff1d(self._aside[0], labels)
        left = len(self) - len(labels)
        if self._marked + len(labels) > max(MARKED_LEAST, MARKED_SHARE * left):
            self._rebuild(labels)
            self._marked, self._grown = 0, True
        else:
            self._mark(labels)
            self._marked += len(labels)
        self._set_aside(aside)

    def _search(self, queries: Vectors, k: int) -> tuple[Labels, Vectors]:
        labels, distances = self._near(queries, k)
        aside, vectors = self._aside
        if not aside.size:
            return labels, distances
        labels = np.where(np.isin(labels, aside), -1, labels)
        more = distances_to(queries, vectors[None], self.metric)
        labels = np.concatenate([labels, np.broadcast_to(aside, more.shape)], axis=1)
        return labels, np.concatenate([distances, more], axis=1)

    def _repair(self) -> None:
        """Make sure that every entry is found; nothing where no insertion came after the last time."""
        if not self._grown:
            return
        lost = self._lost()
        for _ in range(REPAIRS):
            if not lost.size:
                break
            vectors = self._held(lost)
            self._mark(lost)
            self._marked += len(lost)
            self._insert(lost, vectors)
            lost = self._lost()
        self._set_aside(lost)
        self._grown = False

    def _lost(self) -> Labels:
        labels = self._labels()
        parts = [self._unreached(labels[start : start + PAGE]) for start in range(0, len(labels), PAGE)]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])

    def _look_at_all(self, queries: Vectors, k: int) -> tuple[Labels, Vectors]:
        """The k nearest, with every entry looked at."""
        labels, hits = self._labels(), no_hits(len(queries), k)
        for start in range(0, len(labels), PAGE):
            page = labels[start : start + PAGE]
            hits = join_hits(hits, exact_search(self._held(page), page, queries, k, self.metric), k)
        return hits

    def _set_aside(self, labels: Labels) -> None:
        vectors = self._held(labels) if labels.size else np.empty((0, self.dim), dtype=np.float32)
        self._aside = labels, vectors

    def _history(self) -> dict[str, Any]:
        """What a description of the store says of marks and of entries kept aside."""
        return {"marked": self._marked, "aside": self._aside[0].tolist()}


CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 16, 128, 128
# The larger a graph, the wider it is searched: by the fourth root beyond so many entries. Of real pieces of
# 5 kb, searched alike, .989 of the true ten were found among 50,000 and .968 among 350,000.
EXPANDING_FROM = 20_000
# A graph that has grown in several rounds is searched this much wider: without that, recall@10 was .003 below
# that of a graph built at once (20,000 × 384, benchmarks/history.py), with it .001.
EXPANSION_CHANGED = 192
# An entry can be reached where a search this narrow (expansion, hits) reaches it: the wider one of queries
# then surely does. Each is for what the one before has missed.
CHECKS = ((4, 1), (16, 16), (64, 16))
# From so many dimensions on a cosine graph holds bytes: in few, many vectors would be the same.
BYTES_FROM = 64
# As store.json says it; graphs of other formats are built again.
FORMAT = 2
# Keys from here on are of deleted entries: usearch gives the nodes of what it deletes itself to new ones.
MARKS = 1 << 62
# More candidates than asked for, so many times again where deleted entries leave too few.
SPARE, WIDER, WIDEST = 16, 4, 4096
# Threads make a graph that depends on their timing; up to this many entries one thread is fast enough, and
# the same entries give the same graph.
ONE_THREAD = 50_000
REBUILD_BLOCK = 1 << 14
EDGE_BYTES = 1 << 20


class HnswStore(GraphStore):
    """usearch's graph: vectors in bytes for cosine, float32 for l2, whose scale nobody knows.

    A vector's largest number becomes 127: to the cosine, lengths do not matter. Beside float16, bytes build
    in .6 of the CPU and search in .4, and of the true neighbors among the candidates no more than .002 go.

    Files: ``graph-N.usearch``; ``store.json`` holds N, the file's size and a checksum of its ends, and comes
    last, with a checksum of all of it, which whoever opens it may compare. An opened graph is mapped and is
    read into memory only when it is changed.
    """

    name = "hnsw"
    tolerance = 5e-3

    def __init__(self, directory: Path, *, dim: int, metric: Metric, threads: int | None = None) -> None:
        super().__init__(directory, dim=dim, metric=metric, threads=threads)
        self._index: Any = self._empty()
        self._mapped = False
        self._generation = 0

    @classmethod
    def open(cls, directory: str | Path, *, dim: int, metric: Metric, threads: int | None = None) -> Self:
        """The flushed graph, mapped; see `VectorStore.open`."""
        store = cls(Path(directory), dim=dim, metric=metric, threads=threads)
        known = cls._description(store.directory, dim, metric)
        try:
            store._generation = int(known["generation"])
            # usearch believes what it maps: a file cut short would bring the process down.
            if _signature(store._file) != known["signature"]:
                raise FormatError("the graph is damaged", "its bytes have changed", place=store._file)
            if known.get("format") != FORMAT:
                raise FormatError("the graph is of an older kinmer", "it is another", place=store._file)
            store._marked = int(known["marked"])
            store._load(view=True)
            store._set_aside(np.array(known["aside"], dtype=np.int64))
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise FormatError("the store is damaged", str(error), place=store.directory) from error
        if len(store) != known.get("entries") or store._index.ndim != dim:
            raise FormatError("the graph is damaged", "it is not the one described", place=store._file)
        return store

    def __len__(self) -> int:
        return len(self._index) - self._marked

    def contains(self, labels: Labels) -> NDArray[np.bool_]:
        """Which labels are in the store."""
        if not len(self._index):
            return np.zeros(len(labels), dtype=bool)
        held = np.asarray(self._index.contains(labels.astype(np.uint64)), dtype=bool)
        return held & (labels < MARKS)

    def flush(self) -> None:
        """Make sure that every entry can be found, and write the graph beside the old one."""
        self._repair()
        if self._mapped:
            return
        old = self._file
        self._generation += 1
        self._index.save(str(self._file))
        with self._file.open("rb+") as file:
            os.fsync(file.fileno())
        sync_directory(self.directory)
        write_json(
            self.directory / "store.json",
            {
                "format": FORMAT,
                "dim": self.dim,
                "metric": self.metric,
                "generation": self._generation,
                "entries": len(self),
                **self._history(),
                "signature": _signature(self._file),
                "files": {self._file.name: file_checksum(self._file)},
            },
        )
        old.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the graph go."""
        self._index = None

    @property
    def _file(self) -> Path:
        return self.directory / f"graph-{self._generation}.usearch"

    @property
    def _threads(self) -> int:
        return self.threads or available_cores()

    def _load(self, *, view: bool) -> None:
        try:
            index = Index.restore(str(self._file), view=view)
        except RuntimeError as error:
            raise FormatError("the graph is damaged", str(error), place=self._file) from error
        if index is None:
            raise FormatError("the graph is damaged", "usearch does not know it", place=self._file)
        self._index, self._mapped = self._tuned(index), view

    @staticmethod
    def _tuned(index: Any) -> Any:
        # Neither is kept in the file.
        index.expansion_add, index.expansion_search = EXPANSION_ADD, EXPANSION_SEARCH
        return index

    def _empty(self) -> Any:
        return self._tuned(
            Index(
                ndim=self.dim,
                # Not the dot product of unit vectors: rounded, their lengths are off by more than the
                # distances between strains, and cosine takes the lengths out again.
                metric="cos" if self.metric == "cosine" else "l2sq",
                dtype="f32" if self.metric == "l2" else "i8" if self._in_bytes else "f16",
                connectivity=CONNECTIVITY,
                expansion_add=EXPANSION_ADD,
            )
        )

    def _writable(self) -> Any:
        if self._mapped:
            self._load(view=False)
        return self._index

    @property
    def _in_bytes(self) -> bool:
        return self.metric == "cosine" and self.dim >= BYTES_FROM

    def _coded(self, vectors: Vectors) -> NDArray[Any]:
        """Vectors as the graph takes them in; usearch itself would give bytes fewer levels."""
        if not self._in_bytes:
            return unit_rows(vectors) if self.metric == "cosine" else vectors
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        scale = np.divide(127.0, largest, out=np.zeros(largest.shape), where=largest > 0)
        return np.asarray(np.rint(vectors * scale), dtype=np.int8)

    def _held(self, labels: Labels) -> Vectors:
        return _stored(self._index, labels).astype(np.float32)

    def _labels(self) -> Labels:
        keys = np.asarray(self._index.keys, dtype=np.uint64)
        return np.sort(keys[keys < MARKS]).astype(np.int64)

    def _add(self, labels: Labels, vectors: Vectors) -> None:
        if labels.max() >= MARKS:
            raise ValueError(f"a label is {MARKS} or more")
        super()._add(labels, vectors)

    def _insert(self, labels: Labels, vectors: Vectors) -> None:
        index = self._writable()
        threads = 1 if len(index) + len(labels) <= ONE_THREAD else self._threads
        # Sequences come genome by genome. A graph that grows so has clusters that few edges lead into, and
        # neighbors that are inserted at the same moment miss each other; a seeded shuffle avoids both.
        order = np.random.Generator(np.random.PCG64(len(labels))).permutation(len(labels))
        try:
            coded = self._coded(vectors[order])
            index.add(labels[order].astype(np.uint64), coded, threads=threads, copy=True)
        except (RuntimeError, MemoryError) as error:
            raise EngineError("usearch cannot add entries", str(error), place=self.directory) from error

    def _mark(self, labels: Labels) -> None:
        index = self._writable()
        marks = MARKS + self._marked + np.arange(len(labels), dtype=np.int64)
        index.rename(labels.astype(np.uint64), marks.astype(np.uint64))

    def _rebuild(self, gone: Labels) -> None:
        labels = np.setdiff1d(self._labels(), gone, assume_unique=True)
        old, self._index, self._mapped = self._index, self._empty(), False
        labels = np.random.Generator(np.random.PCG64(len(labels))).permutation(labels)
        for start in range(0, len(labels), REBUILD_BLOCK):
            part = labels[start : start + REBUILD_BLOCK]
            self._insert(part, _stored(old, part).astype(np.float32))

    def _near(self, queries: Vectors, k: int) -> tuple[Labels, Vectors]:
        asked = self._coded(queries)
        labels, distances = no_hits(len(queries), k)
        nodes = len(self._index)
        wide = min(nodes, k * nodes // len(self) + SPARE) if self._marked else k
        left = np.arange(len(queries))
        while left.size:
            labels[left], distances[left] = sort_hits(*self._ask(asked[left], wide), k)
            left = left[(labels[left] < 0).any(axis=1)]
            if not self._marked or wide >= min(nodes, WIDEST):
                break
            wide = min(nodes, wide * WIDER)
        if left.size:
            # Deleted entries stand in the way, or k is a large part of all: every entry is looked at.
            labels[left], distances[left] = self._look_at_all(asked[left].astype(np.float32), k)
        # To usearch two zero vectors are the same; here a zero vector is at distance 1 from everything.
        zero = ~queries.any(axis=1, keepdims=True)
        if self.metric == "cosine":
            distances = np.where(zero & (labels >= 0), np.float32(1), distances)
        return labels, distances

    def _ask(self, asked: Vectors, k: int) -> tuple[Labels, Vectors]:
        """Labels and distances (q, k) as the graph has them; -1 and inf for deleted and missing ones."""
        nodes = len(self._index)
        least = EXPANSION_SEARCH if self._generation <= 1 else EXPANSION_CHANGED
        least = int(least * max(1.0, len(self) / EXPANDING_FROM) ** 0.25)
        self._index.expansion_search = max(least * nodes // max(1, len(self)), 2 * k)
        matches = self._index.search(asked, k, threads=self._threads)
        labels, distances = no_hits(len(asked), k)
        keys, raw = (np.atleast_2d(array) for array in (matches.keys, matches.distances))
        counts = np.atleast_1d(getattr(matches, "counts", len(matches.keys)))
        there = (np.arange(keys.shape[1]) < counts[:, None]) & (keys < MARKS)
        labels[:, : keys.shape[1]] = np.where(there, keys.astype(np.int64), -1)
        raw = np.sqrt(np.maximum(raw, 0)) if self.metric == "l2" else np.clip(raw, 0, 2)
        distances[:, : keys.shape[1]] = np.where(there, raw, np.inf)
        return labels, distances

    def _unreached(self, labels: Labels) -> Labels:
        for expansion, hits in CHECKS:
            if not labels.size:
                break
            self._index.expansion_search = expansion
            own, hits = _stored(self._index, labels), min(hits, len(self._index))
            matches = self._index.search(own, hits, threads=self._threads)
            keys, distances = (np.reshape(one, (len(own), hits)) for one in (matches.keys, matches.distances))
            there = (keys == labels[:, None].astype(np.uint64)).any(axis=1)
            # Where the last hit is as near as the first, many entries are the same and any of them will do.
            labels = labels[~there & ((hits == 1) | (distances[:, -1] > distances[:, 0]))]
        return labels


def _stored(index: Any, labels: Labels) -> NDArray[Any]:
    """Vectors (m, dim) of labels (m,), numbers as they are in the graph."""
    return np.asarray(index.get(labels.astype(np.uint64))).reshape(-1, index.ndim)


def _signature(path: Path) -> list[int]:
    """Size of a file and CRC-32 of its first and last megabyte: reading all of it could take minutes."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        first = file.read(EDGE_BYTES)
        file.seek(max(0, size - EDGE_BYTES))
        return [size, zlib.crc32(first), zlib.crc32(file.read(EDGE_BYTES))]
