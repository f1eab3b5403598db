"""What engines with a graph of neighbors share: a way to every entry, whatever was deleted and added.

Neighbor graphs forget. Where the nodes of deleted entries are given to new ones or moved, the edges that led
through them to old entries are cut; and insertions prune edges, at times the last that lead to a cluster.
Measured by benchmarks/history.py. Hence:

- deleted entries stay in the graph, marked, as ways to the others, and are not answers;
- once they are half as many as the entries, the graph is built again without them;
- a flush after additions asks for every entry by its own vector. What the graph does not give is inserted
  again, and where that does not help it is kept aside, compared with every query by itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kinmer.stores.base import Labels, Metric, Vectors, VectorStore, distances_to
from kinmer.stores.exact import search_pages

__all__ = ["PAGE", "GraphStore"]

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
        labels, far = self._near(queries, k)
        own, vectors = self._aside
        if not own.size:
            return labels, far
        theirs = np.broadcast_to(own, (len(queries), len(own)))
        distances = distances_to(queries, vectors[None], self.metric)
        labels = np.where(np.isin(labels, own), -1, labels)
        return np.concatenate([labels, theirs], axis=1), np.concatenate([far, distances], axis=1)

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
        return search_pages(self._pages(), queries, k, self.metric)

    def _pages(self) -> Iterator[tuple[Labels, Vectors]]:
        labels = self._labels()
        for start in range(0, len(labels), PAGE):
            part = labels[start : start + PAGE]
            yield part, self._held(part)

    def _set_aside(self, labels: Labels) -> None:
        vectors = self._held(labels) if labels.size else np.empty((0, self.dim), dtype=np.float32)
        self._aside = labels, vectors

    def _history(self) -> dict[str, Any]:
        """What a description of the store tells of marks and of entries kept aside."""
        return {"marked": self._marked, "aside": self._aside[0].tolist()}
