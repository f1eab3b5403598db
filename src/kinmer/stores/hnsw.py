"""The default engine: a hierarchical navigable small-world graph (Malkov and Yashunin 2018), by usearch.

Measured beside faiss (benchmarks/engines.py): alike in recall and speed, but a usearch file is mapped instead
of read, entries can be deleted, and no second OpenMP runtime meets PyTorch's in one process.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from kinmer.errors import EngineError, FormatError, MismatchError
from kinmer.files import file_checksum, read_json, sync_directory, write_json
from kinmer.machine import available_cores
from kinmer.stores.base import Labels, Metric, Vectors, VectorStore, unit_rows

__all__ = ["HnswStore"]

CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 16, 128, 128
# An entry is taken for found where this narrower search finds it: the wider one of queries then surely does.
EXPANSION_CHECK = 64
# Threads make a graph that depends on their timing; up to this many entries one thread is fast enough, and
# the same entries give the same graph.
ONE_THREAD = 50_000
CHECK_BLOCK = 1 << 14
REPAIRS = 3
EDGE_BYTES = 1 << 20


class HnswStore(VectorStore):
    """usearch's graph: float16 unit vectors for cosine, float32 for l2, whose scale nobody knows.

    Files: ``graph-N.usearch``; ``store.json`` holds N, the file's size and a checksum of its ends, and comes
    last, with a checksum of all of it, which whoever opens it may compare. An opened graph is mapped and is
    read into memory only when it is changed.
    """

    name = "hnsw"
    tolerance = 2e-3

    def __init__(self, directory: Path, *, dim: int, metric: Metric, threads: int | None = None) -> None:
        super().__init__(directory, dim=dim, metric=metric, threads=threads)
        self._index: Any = self._tuned(
            Index(
                ndim=dim,
                # Not the dot product of unit vectors: rounded to float16 their lengths are off by more
                # than the distances between strains, and cosine takes the lengths out again.
                metric="cos" if metric == "cosine" else "l2sq",
                dtype="f16" if metric == "cosine" else "f32",
                connectivity=CONNECTIVITY,
                expansion_add=EXPANSION_ADD,
            )
        )
        self._mapped = False
        self._unchecked: list[Labels] = []
        self._generation = 0

    @classmethod
    def create(cls, directory: str | Path, *, dim: int, metric: Metric, threads: int | None = None) -> Self:
        """An empty store; see `VectorStore.create`."""
        return cls(Path(directory), dim=dim, metric=metric, threads=threads)

    @classmethod
    def open(cls, directory: str | Path, *, dim: int, metric: Metric, threads: int | None = None) -> Self:
        """The flushed graph, mapped; see `VectorStore.open`."""
        store = cls(Path(directory), dim=dim, metric=metric, threads=threads)
        told = read_json(store.directory / "store.json")
        if told.get("dim") != dim or told.get("metric") != metric:
            raise MismatchError("the store is of another dimension or metric", place=store.directory)
        try:
            store._generation = int(told["generation"])
            # usearch believes what it maps: a file cut short would bring the process down.
            if _signature(store._file) != told["signature"]:
                raise FormatError("the graph is damaged", "its bytes have changed", place=store._file)
            store._load(view=True)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise FormatError("the store is damaged", str(error), place=store.directory) from error
        if len(store._index) != told.get("entries") or store._index.ndim != dim:
            raise FormatError("the graph is damaged", "it is not the one described", place=store._file)
        return store

    def __len__(self) -> int:
        return len(self._index)

    def contains(self, labels: Labels) -> NDArray[np.bool_]:
        """Which labels are in the store."""
        if not len(self._index):
            return np.zeros(len(labels), dtype=bool)
        return np.asarray(self._index.contains(labels.astype(np.uint64)), dtype=bool)

    def flush(self) -> None:
        """Make sure that what was added can be found, and write the graph beside the old one."""
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
                "dim": self.dim,
                "metric": self.metric,
                "generation": self._generation,
                "entries": len(self),
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

    def _writable(self) -> Any:
        if self._mapped:
            self._load(view=False)
        return self._index

    def _known_as(self, vectors: Vectors) -> Vectors:
        return unit_rows(vectors) if self.metric == "cosine" else vectors

    def _add(self, labels: Labels, vectors: Vectors) -> None:
        index = self._writable()
        threads = 1 if len(self) + len(labels) <= ONE_THREAD else self._threads
        # Sequences come genome by genome. A graph that grows so has clusters that few edges lead into, and
        # neighbours that are inserted at the same moment miss each other; a seeded shuffle avoids both.
        order = np.random.Generator(np.random.PCG64(len(labels))).permutation(len(labels))
        try:
            index.add(
                labels[order].astype(np.uint64), self._known_as(vectors)[order], threads=threads, copy=True
            )
        except (RuntimeError, MemoryError) as error:
            raise EngineError("usearch cannot add entries", str(error), place=self.directory) from error
        self._unchecked.append(labels)

    def _delete(self, labels: Labels) -> None:
        self._writable().remove(labels.astype(np.uint64))

    def _search(self, queries: Vectors, k: int) -> tuple[Labels, Vectors]:
        asked = self._known_as(queries)
        labels, far = self._ask(asked, k)
        short = np.flatnonzero((labels < 0).any(axis=1))
        if short.size:
            # Deleted entries stand in the way, or k is a large part of all: every entry is looked at.
            labels[short], far[short] = self._ask(asked[short], k, exact=True)
        if self.metric == "l2":
            return labels, np.sqrt(np.maximum(far, 0))
        # To usearch two zero vectors are the same; here a zero vector is at distance 1 from everything.
        return labels, np.where(queries.any(axis=1, keepdims=True), np.clip(far, 0, 2), np.float32(1))

    def _ask(self, asked: Vectors, k: int, *, exact: bool = False) -> tuple[Labels, Vectors]:
        self._index.expansion_search = max(EXPANSION_SEARCH, 2 * k)
        found = self._index.search(asked, k, threads=self._threads, exact=exact)
        labels = np.full((len(asked), k), -1, dtype=np.int64)
        far = np.full((len(asked), k), np.inf, dtype=np.float32)
        keys, distances = (np.atleast_2d(one) for one in (found.keys, found.distances))
        counts = np.atleast_1d(getattr(found, "counts", len(found.keys)))
        there = np.arange(keys.shape[1]) < counts[:, None]
        labels[:, : keys.shape[1]] = np.where(there, keys.astype(np.int64), -1)
        far[:, : keys.shape[1]] = np.where(there, distances, np.inf)
        return labels, far

    def _repair(self) -> None:
        """Insert again what the graph has lost: now and then all edges to an entry are pruned away."""
        lost = self._unchecked
        for _ in range(REPAIRS):
            lost = [self._unfound(part) for labels in lost for part in _parts(labels)]
            lost = [labels for labels in lost if labels.size]
            for labels in lost:
                vectors = np.asarray(self._index.get(labels.astype(np.uint64)), dtype=np.float32)
                self._index.remove(labels.astype(np.uint64))
                self._index.add(labels.astype(np.uint64), vectors, threads=1)
        self._unchecked = []

    def _unfound(self, labels: Labels) -> Labels:
        """Those of the labels that a search with their own vector does not give."""
        labels = np.asarray(labels[self.contains(labels)])
        if not labels.size:
            return labels
        vectors = np.asarray(self._index.get(labels.astype(np.uint64)), dtype=np.float32)
        self._index.expansion_search = EXPANSION_CHECK
        found = self._index.search(vectors, min(16, len(self)), threads=self._threads)
        # Where the last hit is as near as the first, many entries are the same and any of them will do.
        keys, far = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
        there = (keys == labels[:, None].astype(np.uint64)).any(axis=1)
        return np.asarray(labels[~there & (far[:, -1] > far[:, 0])])


def _parts(labels: Labels) -> list[Labels]:
    return [labels[start : start + CHECK_BLOCK] for start in range(0, len(labels), CHECK_BLOCK)]


def _signature(path: Path) -> list[int]:
    """Size of a file and CRC-32 of its first and last megabyte: reading all of it could take minutes."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        first = file.read(EDGE_BYTES)
        file.seek(max(0, size - EDGE_BYTES))
        return [size, zlib.crc32(first), zlib.crc32(file.read(EDGE_BYTES))]
