"""ChromaDB, the engine of the original pipeline, embedded: one collection in a folder, never its server.

An interrupted write can leave a ChromaDB folder that answers nothing, or that ends the process that opens
it. A folder is therefore first opened in a child process, under a time limit, and what fails there is an
EngineError here; whoever holds the vectors builds again.

Its graph forgets: insertions prune edges, at times the last that lead to a cluster. Once deleted entries are
half as many as the others, it is built again without them. A flush after additions asks for every entry by
its own vector. What the graph does not give is inserted again, and where that does not help it is kept
aside, compared with every query by itself.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import EngineError, FormatError
from kinmer.files import write_json
from kinmer.inputs import read_json
from kinmer.stores.exact import (
    Labels,
    Vectors,
    VectorStore,
    check_vectors,
    exact_search,
    join_hits,
    no_hits,
)
from kinmer.stores.pairwise import Metric, distances_to

COLLECTION, COPY = "kinmer-vectors", "kinmer-vectors-copy"
MAX_NEIGHBORS, EF_CONSTRUCTION, EF_SEARCH = 16, 128, 128
# ChromaDB writes its graph, all of it, whenever this many entries wait in its log, and inserts again what
# waits there whenever it is opened. While entries come the number grows with the store; `flush` leaves none.
FIRST_SYNC, LAST_SYNC = 20_000, 2
QUERY_BLOCK = 256
# Most entries that were deleted since the graph was built: half as many as there are (a third of the graph,
# up to which recall is that of a graph built at once), but some hundreds in a small one.
MARKED_SHARE, MARKED_LEAST = 0.5, 256
REPAIRS = 3
# Entries read together where all are looked at.
PAGE = 1 << 12
HEALTH_SECONDS = 120.0

_HEALTH = """
import sys
from kinmer.stores.chroma import probe
probe(sys.argv[1], int(sys.argv[2]))
"""


class ChromaStore(VectorStore):
    """One ChromaDB collection, HNSW in cosine or l2 space, labels as ids.

    ``store.json`` holds dimension, metric and number of entries and is missing while entries are changed.
    ChromaDB marks what it deletes by itself. What it updates it moves within its graph, and live entries
    are lost by that (chroma#7758): here an update is a deletion and an addition.
    """

    name = "chroma"
    tolerance = 1e-3

    def __init__(self, directory: Path, *, dim: int, metric: Metric, threads: int | None = None) -> None:
        super().__init__(directory, dim=dim, metric=metric, threads=threads)
        self._client, self._collection = _connect(directory, metric)
        self._batch = int(self._client.get_max_batch_size())
        self._sync = LAST_SYNC
        self._marked, self._grown = 0, False
        self._set_aside(np.empty(0, dtype=np.int64))

    @classmethod
    def open(cls, directory: str | Path, *, dim: int, metric: Metric, threads: int | None = None) -> Self:
        """The flushed store, found healthy in a child process; see `VectorStore.open`."""
        directory = Path(directory)
        known = cls._description(directory, dim, metric)
        if not (directory / "chroma.sqlite3").is_file():
            raise FormatError("the store is damaged", "its database is missing", place=directory)
        _check_health(directory, dim)
        store = cls(directory, dim=dim, metric=metric, threads=threads)
        if len(store) != known.get("entries"):
            count = len(store)
            store.close()
            raise FormatError(f"the store holds {count} entries, not {known.get('entries')}", place=directory)
        try:
            # What 0.1.0 wrote does not say: it is looked through at the next flush.
            store._marked, store._grown = int(known.get("marked", 0)), "marked" not in known
            store._set_aside(np.array(known.get("aside", []), dtype=np.int64))
        except (TypeError, ValueError) as error:
            store.close()
            raise FormatError("the store is damaged", str(error), place=directory) from error
        return store

    def __len__(self) -> int:
        return int(self._collection.count())

    def contains(self, labels: Labels) -> NDArray[np.bool_]:
        """Which labels are in the store."""
        known: set[str] = set()
        for part in self._parts(len(labels)):
            matches = self._collection.get(ids=[str(label) for label in labels[part].tolist()], include=[])
            known.update(matches["ids"])
        return np.fromiter((str(label) in known for label in labels.tolist()), dtype=bool, count=len(labels))

    def flush(self) -> None:
        """Make sure that every entry can be found, have the graph written, then the description."""
        self._settle()
        self._repair()
        described = {"dim": self.dim, "metric": self.metric, "entries": len(self), **self._history()}
        write_json(self.directory / "store.json", described)

    def close(self) -> None:
        """Close the client: ChromaDB would keep one open for every folder this process has seen."""
        self._client.close()

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

    def _settle(self) -> None:
        """Have ChromaDB write its graph, which it inserts the last entries into and opens again."""
        if self._sync == LAST_SYNC:
            return
        self._set_sync(LAST_SYNC)
        if len(self):
            # Only a search makes ChromaDB catch up.
            self._collection.query(
                query_embeddings=np.ones((1, self.dim), np.float32), n_results=1, include=["distances"]
            )

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
            # Not before: the graph that is asked later is the one that is written.
            self._settle()
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

    def _insert(self, labels: Labels, vectors: Vectors) -> None:
        self._change()
        for part in self._parts(len(labels)):
            ids = [str(label) for label in labels[part].tolist()]
            try:
                self._collection.add(ids=ids, embeddings=vectors[part])
            except Exception as error:
                raise EngineError("ChromaDB cannot add entries", str(error), place=self.directory) from error

    def _mark(self, labels: Labels) -> None:
        self._change()
        for part in self._parts(len(labels)):
            self._collection.delete(ids=[str(label) for label in labels[part].tolist()])

    def _labels(self) -> Labels:
        return np.sort(
            np.array([int(label) for label in self._collection.get(include=[])["ids"]], dtype=np.int64)
        )

    def _held(self, labels: Labels) -> Vectors:
        vectors = np.empty((len(labels), self.dim), dtype=np.float32)
        for part in self._parts(len(labels)):
            ids = [str(label) for label in labels[part].tolist()]
            got = self._collection.get(ids=ids, include=["embeddings"])
            # They come in an order of their own.
            at = {label: row for row, label in enumerate(got["ids"])}
            vectors[part] = check_vectors(got["embeddings"], self.dim)[[at[label] for label in ids]]
        return vectors

    def _rebuild(self, gone: Labels) -> None:
        self._change()
        left = np.setdiff1d(self._labels(), gone, assume_unique=True)
        old = self._collection
        try:
            self._collection = _new_collection(self._client, COPY, self.metric, self._sync)
            for part in self._parts(len(left)):
                ids = [str(label) for label in left[part].tolist()]
                got = old.get(ids=ids, include=["embeddings"])
                self._collection.add(ids=got["ids"], embeddings=got["embeddings"])
            self._client.delete_collection(COLLECTION)
            self._collection.modify(name=COLLECTION)
        except Exception as error:
            raise EngineError("ChromaDB cannot build anew", str(error), place=self.directory) from error

    def _unreached(self, labels: Labels) -> Labels:
        matches, distances = self._near(self._held(labels), min(16, len(self)))
        return np.asarray(
            labels[~(matches == labels[:, None]).any(axis=1) & (distances[:, -1] > distances[:, 0])]
        )

    def _change(self) -> None:
        (self.directory / "store.json").unlink(missing_ok=True)
        if self._sync == LAST_SYNC or len(self) >= 4 * self._sync:
            self._set_sync(max(FIRST_SYNC, len(self)))

    def _set_sync(self, entries: int) -> None:
        # A collection that is open keeps the number it was opened with.
        self._collection.modify(configuration={"hnsw": {"sync_threshold": entries}})
        self._client.close()
        self._client, self._collection = _connect(self.directory, self.metric)
        self._sync = entries

    def _parts(self, count: int) -> Iterator[slice]:
        return (slice(start, start + self._batch) for start in range(0, count, self._batch))

    def _near(self, queries: Vectors, k: int) -> tuple[Labels, Vectors]:
        labels, distances = no_hits(len(queries), k)
        if k <= EF_SEARCH // 2:
            for start in range(0, len(queries), QUERY_BLOCK):
                part = slice(start, start + QUERY_BLOCK)
                self._ask(queries[part], labels[part], distances[part])
        short = np.flatnonzero((labels < 0).any(axis=1))
        if short.size:
            # ChromaDB gives fewer than k, or fails, where deleted entries or a large k exhaust its search.
            labels[short], distances[short] = self._look_at_all(queries[short], k)
        return labels, distances

    def _ask(self, queries: Vectors, labels: Labels, distances: Vectors) -> None:
        """Fill in what ChromaDB finds, as far as it does."""
        try:
            matches = self._collection.query(
                query_embeddings=queries, n_results=labels.shape[1], include=["distances"]
            )
        except Exception as error:
            if "ef or M is too small" in str(error):
                return
            raise EngineError("ChromaDB cannot search", str(error), place=self.directory) from error
        for row, (ids, given) in enumerate(zip(matches["ids"], matches["distances"], strict=True)):
            labels[row, : len(ids)] = [int(label) for label in ids]
            distances[row, : len(ids)] = given
        # Its l2 is the square, and rounding can take both below zero.
        np.maximum(distances, 0, out=distances)
        if self.metric == "l2":
            np.sqrt(distances, out=distances)


def _connect(directory: Path, metric: Metric) -> tuple[Any, Any]:
    """Client and collection; the collection is made where there is none."""
    import chromadb
    from chromadb.config import Settings

    try:
        client = chromadb.PersistentClient(str(directory), settings=Settings(anonymized_telemetry=False))
        if client.count_collections():
            return client, client.get_collection(COLLECTION, embedding_function=None)
        collection = _new_collection(client, COLLECTION, metric, LAST_SYNC)
    except Exception as error:
        raise EngineError("ChromaDB cannot open the store", str(error), place=directory) from error
    return client, collection


def _new_collection(client: Any, name: str, metric: Metric, sync: int) -> Any:
    hnsw = {
        "space": metric,
        "max_neighbors": MAX_NEIGHBORS,
        "ef_construction": EF_CONSTRUCTION,
        "ef_search": EF_SEARCH,
        "sync_threshold": sync,
    }
    return client.create_collection(name, configuration={"hnsw": hnsw}, embedding_function=None)


def probe(directory: str, dim: int) -> None:
    """Open a store, search it once and end with 0: what the child process does."""
    known = read_json(Path(directory) / "store.json")
    client, collection = _connect(Path(directory), known["metric"])
    if collection.count():
        collection.query(
            query_embeddings=np.ones((1, dim), dtype=np.float32), n_results=1, include=["distances"]
        )
    client.close()


def _check_health(directory: Path, dim: int) -> None:
    command = [sys.executable, "-c", _HEALTH, str(directory), str(dim)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=HEALTH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise EngineError(
            f"ChromaDB did not open the store within {HEALTH_SECONDS:.0f} s", place=directory
        ) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1]
        raise EngineError("ChromaDB cannot open the store", last, place=directory)
