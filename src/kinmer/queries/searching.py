"""The way of a query: counted, embedded by the index's own encoder, searched, described."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError, SequenceError, UsageError
from kinmer.index import Entry, KinIndex
from kinmer.queries.results import Hit, QueryResult
from kinmer.stores import Metric, check_metric
from kinmer.taxonomy import consensus, rank_columns, vote_weights

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.counting import Batch
    from kinmer.profiles import Profiles

__all__ = ["search", "search_ids"]

# Queries embedded and searched together; the answers do not depend on it.
BATCH_ROWS = 1024
NUMPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class _Queries:
    """Some queries: ids, lengths (None: unknown) and vectors (q, dim)."""

    ids: list[str]
    lengths: Sequence[int | None]
    vectors: NDArray[np.float32]


def search(
    queries: str | Path | AnnData | Profiles,
    db: str | Path | KinIndex,
    *,
    k: int = 10,
    metric: Metric | None = None,
    exclude_self: bool = False,
    min_length: int = 0,
    ids: str | Path | None = None,
    threads: int | None = None,
    log: Callable[[str], None] | None = None,
) -> Iterator[QueryResult]:
    """The k nearest entries of every query, one query after the other, in their order.

    Parameters
    ----------
    queries : a FASTA file (``-``: stdin), or what `open_profiles` takes, with or without embeddings by the
        index's encoder. Read in blocks: memory does not depend on their number.
    db : an index or its path.
    k : hits of every query; all entries where there are fewer.
    metric : "cosine" or "l2"; another than the index's is searched exactly, which takes longer.
    exclude_self : an entry is no hit of a query of the same id.
    min_length : shorter queries are left out, and their number told to `log`.
    ids : ids file of an ``.npy`` table.
    threads : for counting, embedding and the engine; None for all cores.

    Raises
    ------
    SequenceError : no nucleotide FASTA, a query without a single whole k-mer, no query left.
    FormatError : no index, or a damaged one; MismatchError : queries of another layout or encoder.
    UsageError : k below 1, an unknown metric.
    """
    _check(k, metric)
    opened = db if isinstance(db, KinIndex) else KinIndex.open(db, log=log, threads=threads)
    if _is_fasta(queries):
        found = _from_fasta(str(queries), opened, min_length, threads, log or (lambda line: None))
    else:
        found = _from_profiles(queries, opened, ids, min_length)
    return _answer(found, opened, k, metric, exclude_self, close=opened is not db)


def search_ids(
    db: str | Path | KinIndex,
    ids: Sequence[str],
    *,
    k: int = 10,
    metric: Metric | None = None,
    threads: int | None = None,
    log: Callable[[str], None] | None = None,
) -> Iterator[QueryResult]:
    """The k entries nearest to each of these entries, never the entry itself; settings as in `search`.

    Raises InputError for an id that is no entry.
    """
    _check(k, metric)
    opened = db if isinstance(db, KinIndex) else KinIndex.open(db, log=log, threads=threads)
    labels = opened.labels_of(ids)
    if (labels < 0).any():
        unknown = ids[int(np.argmin(labels))]
        if opened is not db:
            opened.close()
        raise InputError(
            f"the index has no entry {unknown!r}", check="ids are case-sensitive", place=opened.path
        )

    def blocks() -> Iterator[_Queries]:
        for start in range(0, len(ids), BATCH_ROWS):
            part = labels[start : start + BATCH_ROWS]
            entries = opened.entries(part)
            lengths = [entries[label].length for label in part.tolist()]
            vectors = np.array(opened.vectors[part], dtype=np.float32)
            yield _Queries(list(ids[start : start + BATCH_ROWS]), lengths, vectors)

    return _answer(blocks(), opened, k, metric, True, close=opened is not db)


def _check(k: int, metric: Metric | None) -> None:
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}")
    if metric is not None:
        check_metric(metric)


def _answer(
    blocks: Iterator[_Queries],
    index: KinIndex,
    k: int,
    metric: Metric | None,
    exclude_self: bool,
    *,
    close: bool,
) -> Iterator[QueryResult]:
    used = metric or index.metric
    ranks = rank_columns(index.columns)
    # Arrays are as wide as k: a k beyond the number of entries must not take more memory than these.
    most = min(k, len(index))
    try:
        for block in blocks:
            for start in range(0, len(block.ids), BATCH_ROWS):
                part = slice(start, start + BATCH_ROWS)
                names, vectors = block.ids[part], block.vectors[part]
                own = index.labels_of(names) if exclude_self else None
                labels, distances = index.search(vectors, most, metric=used, exclude=own)
                entries = index.entries(labels)
                for row, name in enumerate(names):
                    there = labels[row] >= 0
                    near = [entries[label] for label in labels[row][there].tolist()]
                    far = distances[row][there]
                    weights = vote_weights(far, used, float(np.linalg.norm(vectors[row])))
                    hits = _hits(near, far, index.columns)
                    lineages = [
                        {rank: hit.metadata[column] for rank, column in ranks.items()} for hit in hits
                    ]
                    agreed = consensus(lineages, weights.tolist())
                    yield QueryResult(name, block.lengths[start + row], hits, agreed)
    finally:
        if close:
            index.close()


def _hits(entries: list[Entry], distances: NDArray[np.float32], columns: tuple[str, ...]) -> tuple[Hit, ...]:
    return tuple(
        Hit(rank, entry.id, distance, entry.length, entry.gc, dict(zip(columns, entry.values, strict=True)))
        for rank, (entry, distance) in enumerate(zip(entries, distances.tolist(), strict=True), 1)
    )


def _is_fasta(queries: object) -> bool:
    """Whether queries are a file of sequences: no folder and no NumPy file."""
    if not isinstance(queries, str | Path):
        return False
    path = Path(queries)
    if str(queries) == "-":
        return True
    if path.is_dir() or path.suffix in (".npy", ".zarr"):
        return False
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(len(NUMPY_MAGIC)) != NUMPY_MAGIC


def _from_fasta(
    path: str, index: KinIndex, min_length: int, threads: int | None, log: Callable[[str], None]
) -> Iterator[_Queries]:
    from kinmer.counting import count_batches
    from kinmer.devices import cpu_threads

    encoder = index.encoder
    too_short = found = 0
    for batch in count_batches([path], encoder.layout, min_length=min_length, threads=threads):
        too_short += batch.too_short
        if not batch.ids:
            continue
        found += len(batch.ids)
        _check_windows(batch, encoder.layout.blocks[0].columns, max(encoder.layout.ks))
        with cpu_threads(threads):
            vectors = encoder.embed(batch.counts)
        yield _Queries(batch.ids, batch.lengths.tolist(), vectors)
    if not found:
        raise SequenceError(
            "there is no query",
            f"{too_short:,} are shorter than {min_length:,} letters" if too_short else "",
            "is --min-length right?" if too_short else "",
            place="stdin" if path == "-" else path,
        )
    if too_short:
        log(f"{too_short:,} queries shorter than {min_length:,} letters were left out")


def _check_windows(batch: Batch, columns: slice, k: int) -> None:
    """Refuse a query that has nothing to compare."""
    empty = np.flatnonzero(~batch.counts[:, columns].any(axis=1))
    if empty.size:
        raise SequenceError(
            f"the query has no {k} letters of A, C, G and T in a row",
            "it has no profile that could be compared",
            "is it too short, or masked? Leave it out, or short ones with --min-length",
            place=batch.place(int(empty[0])),
        )


def _from_profiles(
    queries: str | Path | AnnData | Profiles, index: KinIndex, ids: str | Path | None, min_length: int
) -> Iterator[_Queries]:
    from kinmer.index.embedded import open_embedded

    embedded = open_embedded(queries, encoder=index.encoder, ids=ids)
    lengths = embedded.obs["length"].tolist() if "length" in embedded.obs else [None] * len(embedded)
    for start, vectors in embedded.blocks(0, BATCH_ROWS):
        rows = [
            row
            for row in range(len(vectors))
            if (length := lengths[start + row]) is None or length >= min_length
        ]
        names = [str(embedded.ids[start + row]) for row in rows]
        yield _Queries(names, [lengths[start + row] for row in rows], vectors[rows])
