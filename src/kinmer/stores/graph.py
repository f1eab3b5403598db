"""The default engine: graphs of neighbors (HNSW, Malkov and Yashunin 2018), by usearch, that never change.

Neighbor graphs forget. Where the nodes of deleted entries are given to new ones or moved, the edges that led
through them to old entries are cut. So a store is a few segments, as in a log-structured merge tree: graphs
that are written once and mapped. What is added grows into a new one, which is written by a flush. What is
deleted is noted beside them, and stays in its graph as a way to the others. Small segments are built into
larger ones, so that a row is built into a graph again as often as the store doubles, and a change costs what
it touches.

usearch was measured beside faiss (benchmarks/engines.py): alike in recall and speed, but a usearch file is
mapped instead of read, and no second OpenMP runtime meets PyTorch's in one process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import EngineBehindError, FormatError
from kinmer.files import file_checksum, remove, sync_directory, write_json
from kinmer.resources import available_cores
from kinmer.stores.exact import Labels, Vectors, VectorStore, join_hits, no_hits
from kinmer.stores.order import near_together, skeleton
from kinmer.stores.pairwise import Metric
from kinmer.stores.segments import FEW, Coded, Codes, Segment

# As store.json says it; stores of other formats are built again.
FORMAT = 5
# Most deleted rows in a graph: half as many as the others (a third of the graph, up to which recall is that
# of one without them), but some hundreds in a small one.
DEAD_SHARE, DEAD_LEAST = 0.5, 256
# How wide a small graph is searched for whether it has anything nearer than a larger one gave.
PROBE = 64
# Deleted rows that graphs keep where the others get new labels, as a share of the store.
MOST_GONE = 0.1
# Rows that are built again together.
BLOCK = 1 << 14


class HnswStore(VectorStore):
    """A store of segments; see the module, and `Codes` for how they hold vectors.

    Files of segment N: ``graph-N.usearch``, ``labels-N.npy``, those of its `Followers` and, where some are
    deleted, ``dead-N-M.npy``. ``store.json``, which names them with sizes and checksums, comes last: whatever
    a kill leaves, the last flush is there. Opened graphs are mapped.
    """

    name = "hnsw"
    tolerance = 2e-3

    def __init__(self, directory: Path, *, dim: int, metric: Metric, threads: int | None = None) -> None:
        super().__init__(directory, dim=dim, metric=metric, threads=threads)
        self._codes = Codes(dim, metric)
        self._segments: list[Segment] = []
        self._growing: Segment | None = None
        # Sizes and checksums of the files that store.json names, and the next number of a file.
        self._files: dict[str, tuple[int, int]] = {}
        self._next = 1

    @classmethod
    def open(cls, directory: str | Path, *, dim: int, metric: Metric, threads: int | None = None) -> Self:
        """The flushed segments, mapped; see `VectorStore.open`."""
        store = cls(Path(directory), dim=dim, metric=metric, threads=threads)
        known = cls._description(store.directory, dim, metric)
        if known.get("format") != FORMAT:
            raise EngineBehindError("the engine is of another version of kinmer", place=store.directory)
        try:
            sums = known["files"]
            store._files = {name: (size, sums[name]) for name, size in known["sizes"].items()}
            store._next = int(known["next"])
            for name, (size, _) in store._files.items():
                # usearch believes what it maps: a file cut short would bring the process down.
                path = store.directory / name
                if path.stat().st_size != size:
                    raise FormatError("a graph is damaged", "its size has changed", place=path)
            for note in known["segments"]:
                store._segments.append(Segment.open(store.directory, note, store._codes))
            if known["growing"]:
                store._growing = store._segments.pop().thawed()
        except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
            raise FormatError("the store is damaged", str(error), place=store.directory) from error
        if len(store) != known.get("entries"):
            raise FormatError("the store is damaged", "it is not the one described", place=store.directory)
        return store

    def __len__(self) -> int:
        return sum(segment.alive for segment in self._all)

    def contains(self, labels: Labels) -> NDArray[np.bool_]:
        """Which labels are in the store."""
        held = np.zeros(len(labels), dtype=bool)
        for segment in self._all:
            held |= segment.find(labels) >= 0
        return held

    def flush(self) -> None:
        """Write what has grown, and segments that are due with it, as one in which every entry is found."""
        due, grown = self._due(), self._growing
        self._segments = [one for one in self._segments if one not in due]
        if grown is not None and grown not in due and grown.alive <= sum(one.alive for one in due):
            due.append(grown)
        if grown is None or grown in due:
            grown = Segment(self._codes)
        self._merge(due, grown)
        if grown.alive:
            grown.save(self.directory, self._number())
            grown.follow(self._threads)
            self._segments.append(grown)
        self._growing = None
        self._write(self._segments)

    def checkpoint(self) -> None:
        """Write what has grown as it is; whoever opens the store goes on with it, and flushes at last."""
        if self._growing is not None:
            self._growing.save(self.directory, self._number())
            self._write([*self._segments, self._growing], growing=True)

    def renumber(self, new: Labels) -> bool:
        """See `VectorStore.renumber`; the graphs stay the files that they are."""
        each = [np.where(one.labels < 0, -1, new[one.labels]) for one in self._segments]
        gone = sum(int((labels < 0).sum()) for labels in each)
        if self._growing is not None or gone > MOST_GONE * max(1, len(self)):
            return False
        for segment, labels in zip(self._segments, each, strict=True):
            before = segment.kept_files
            segment.renumber(labels, self._number())
            self._files |= {
                new: self._files[old] for old, new in zip(before, segment.kept_files, strict=True)
            }
        self._write(self._segments)
        return True

    def close(self) -> None:
        """Let the graphs go."""
        self._segments, self._growing = [], None

    @property
    def _all(self) -> list[Segment]:
        return [*self._segments, *([self._growing] if self._growing else [])]

    @property
    def _threads(self) -> int:
        return self.threads or available_cores()

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _add(self, labels: Labels, vectors: Vectors) -> None:
        if self._growing is None:
            self._growing = Segment(self._codes)
        self._growing.grow(labels, self._codes.of(vectors), self._threads)

    def _delete(self, labels: Labels) -> None:
        for segment in self._all:
            rows = segment.find(labels)
            segment.kill(rows[rows >= 0])

    def _search_narrowly(self, queries: Vectors, k: int) -> tuple[Labels, Vectors]:
        return self._search(queries, k, expansion=0)

    def _search(self, queries: Vectors, k: int, *, expansion: int | None = None) -> tuple[Labels, Vectors]:
        asked, (labels, distances) = self._codes.of(queries), no_hits(len(queries), k)
        for segment in sorted(self._all, key=lambda segment: -segment.alive):
            due = self._undecided(segment, asked, distances[:, -1])
            hits = labels[due], distances[due]
            more = segment.near(asked[due], k, self._threads, expansion)
            labels[due], distances[due] = join_hits(hits, more, k)
        if self.metric == "cosine":
            # To usearch two zero vectors are the same; here a zero vector is at distance 1 from everything.
            zero = ~queries.any(axis=1, keepdims=True)
            distances = np.where(zero & (labels >= 0), np.float32(1), distances)
        return labels, distances

    def _undecided(self, segment: Segment, asked: Coded, farthest: Vectors) -> Labels:
        """Rows of the queries for which a segment has anything nearer than the farthest of their hits."""
        due = np.arange(len(asked))
        full = np.flatnonzero(np.isfinite(farthest))
        if len(segment.labels) <= FEW or not full.size:
            return due
        nearest = segment.near(asked[full], 1, self._threads, PROBE)[1][:, 0]
        return np.setdiff1d(due, full[nearest > farthest[full]], assume_unique=True)

    @staticmethod
    def _is_worn(segment: Segment) -> bool:
        return not segment.alive or segment.deaths > max(DEAD_LEAST, DEAD_SHARE * segment.alive)

    def _due(self) -> list[Segment]:
        """Segments to be built into another graph: worn ones, and small ones beside as many."""
        order = sorted(self._all, key=lambda segment: -segment.alive)
        left = [sum(one.alive for one in order[at:]) for at in range(len(order))]
        # From the first on that the smaller ones together are as large as, all become one.
        merged = [at for at in range(len(order) - 1) if left[at] <= max(2 * left[at + 1], FEW)]
        first = merged[0] if merged else len(order)
        # What grows goes on growing meanwhile.
        due = [one for one in order[first:] if one is not self._growing]
        return [*due, *(one for one in self._all if self._is_worn(one) and one not in due)]

    def _merge(self, due: list[Segment], grown: Segment) -> None:
        """Bring the living rows of segments into the one that grows, in a random order.

        Where the rows of one segment come after those of another, few edges lead to them: of clusters that
        were added in four rounds .991 of the true ten neighbors were found, in a random order .999.
        """
        rows = [segment.living() for segment in due]
        bounds = np.cumsum([0, *(part.size for part in rows)])

        def parts(taken: Labels) -> list[tuple[Segment, Labels]]:
            cuts = np.searchsorted(taken, bounds)
            return [
                (segment, own[taken[low:high] - bound])
                for segment, own, bound, low, high in zip(due, rows, bounds, cuts, cuts[1:], strict=False)
            ]

        def read(taken: Labels) -> Coded:
            return np.concatenate([segment.coded(part) for segment, part in parts(taken)])

        order = np.random.Generator(np.random.PCG64(bounds[-1])).permutation(bounds[-1])
        if order.size > BLOCK:
            order = near_together(order, read, self.metric, first=skeleton(order.size, grown.alive))
        for start in range(0, order.size, BLOCK):
            taken = np.sort(order[start : start + BLOCK])
            labels = np.concatenate([segment.labels[part] for segment, part in parts(taken)])
            grown.grow(labels, read(taken), self._threads)

    def _write(self, segments: list[Segment], *, growing: bool = False) -> None:
        """Write what describes these segments, when all that it names is on disk; remove the rest."""
        for segment in segments:
            segment.save_dead(self._next)
        self._next += 1
        named = [name for segment in segments for name in segment.files]
        for name in set(named) - self._files.keys():
            with (self.directory / name).open("rb+") as file:
                os.fsync(file.fileno())
                size = file.seek(0, os.SEEK_END)
            self._files[name] = size, file_checksum(self.directory / name)
        self._files = {name: self._files[name] for name in named}
        sync_directory(self.directory)
        write_json(
            self.directory / "store.json",
            {
                "format": FORMAT,
                "dim": self.dim,
                "metric": self.metric,
                "entries": len(self),
                "next": self._next,
                "segments": [segment.note for segment in segments],
                "growing": growing,
                "sizes": {name: size for name, (size, _) in self._files.items()},
                "files": {name: crc for name, (_, crc) in self._files.items()},
            },
        )
        for pattern in ("graph-*", "labels-*", "leaders-*", "followers-*", "dead-*"):
            for path in self.directory.glob(pattern):
                if path.name not in self._files:
                    remove(path)
