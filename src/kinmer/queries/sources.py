"""Where queries come from: FASTA, profiles, embeddings; read in blocks, embedded by the index's encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import SequenceError, UsageError
from kinmer.fasta import base_count, is_stream
from kinmer.index import KinIndex
from kinmer.profiles import table_kind

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.profiles import Profiles

__all__ = ["BATCH_ROWS", "Queries", "read_queries"]

# Queries embedded and searched together; the answers do not depend on it.
BATCH_ROWS = 1024

Log = Callable[[str], None]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Queries:
    """Some queries: ids, lengths (None: unknown), vectors (q, dim), and their letters where wanted.

    numbers : (q,) of the entries that they are, None where they are of no index. reasons : why a query has no
    profile, and so no vector that means anything; empty for one that has. None: all have one. bases : of A,
    C, G, T; counted : `kinmer.counting.counted_of`, by which it is judged; None: unknown.
    """

    ids: list[str]
    lengths: Sequence[int | None]
    vectors: NDArray[np.float32]
    letters: Sequence[bytes] | None = None
    numbers: NDArray[np.int64] | None = None
    reasons: Sequence[str] | None = None
    bases: Sequence[int] | None = None
    counted: Sequence[int] | None = None

    def parts(self) -> Iterator[Queries]:
        """The same, at most `BATCH_ROWS` at a time."""
        for start in range(0, len(self.ids), BATCH_ROWS):
            yield self._taken(range(start, min(start + BATCH_ROWS, len(self.ids))))

    def known(self) -> Queries:
        """Those that have a profile."""
        if self.reasons is None:
            return self
        return self._taken([row for row, reason in enumerate(self.reasons) if not reason])

    def _taken(self, rows: Sequence[int]) -> Queries:
        def taken(values: Sequence[_T] | None) -> list[_T] | None:
            return None if values is None else [values[row] for row in rows]

        return Queries(
            [self.ids[row] for row in rows],
            [self.lengths[row] for row in rows],
            self.vectors[list(rows)],
            taken(self.letters),
            None if self.numbers is None else self.numbers[list(rows)],
            taken(self.reasons),
            taken(self.bases),
            taken(self.counted),
        )


def read_queries(
    source: str | Path | AnnData | Profiles,
    index: KinIndex,
    *,
    ids: str | Path | None,
    min_length: int,
    letters: bool,
    threads: int | None,
    log: Log,
) -> Iterator[Queries]:
    """The queries of at least `min_length` bases in `source`, block by block; see `kinmer.search`.

    letters : they are wanted too, which only a FASTA file has. Raises UsageError for another source then.
    """
    if not _is_fasta(source):
        if letters:
            raise UsageError(
                "there are no sequences to align", "evidence compares letters", "give the queries as FASTA"
            )
        return _from_profiles(source, index, ids, min_length)
    if letters:
        return _with_letters(str(source), index, min_length, threads, log)
    return _from_fasta(str(source), index, min_length, threads, log)


def _is_fasta(queries: object) -> bool:
    """Whether queries are a file of sequences: no folder and no NumPy file."""
    if not isinstance(queries, str | Path):
        return False
    path = Path(queries)
    if is_stream(queries):
        return True
    if path.is_dir() or path.suffix in (".npy", ".zarr", ".h5ad"):
        return False
    return table_kind(path) is None


def _from_fasta(
    path: str, index: KinIndex, min_length: int, threads: int | None, log: Log
) -> Iterator[Queries]:
    from kinmer.counting import bases_of, count_batches, counted_of
    from kinmer.devices import cpu_threads

    encoder = index.encoder
    too_short = found = 0
    for batch in count_batches([path], encoder.layout, min_length=min_length, threads=threads):
        too_short += batch.too_short
        if not batch.ids:
            continue
        found += len(batch.ids)
        lengths, layout = batch.lengths.tolist(), encoder.layout
        able = np.asarray(batch.counts[:, layout.blocks[0].columns].any(axis=1))
        vectors = np.zeros((len(batch.ids), encoder.dim), dtype=np.float32)
        if able.any():
            with cpu_threads(threads):
                vectors[able] = encoder.embed(batch.counts[able])
        reasons = None
        if not able.all():
            reasons = [
                "" if one else _reason(length, max(layout.ks))
                for one, length in zip(able.tolist(), lengths, strict=True)
            ]
        bases, counted = (of(batch.counts, layout).tolist() for of in (bases_of, counted_of))
        yield Queries(batch.ids, lengths, vectors, reasons=reasons, bases=bases, counted=counted)
    _tell_short(path, found, too_short, min_length, log)


def _with_letters(
    path: str, index: KinIndex, min_length: int, threads: int | None, log: Log
) -> Iterator[Queries]:
    """As `_from_fasta`, record by record: memory holds a block, or the longest query."""
    from kinmer.index.pieces import Embedder, RecordBlock, read_blocks_of

    embedder = Embedder(index.encoder, None, threads)
    too_short = found = 0
    for block in read_blocks_of(path):
        rows = [row for row, letters in enumerate(block.letters) if len(letters) >= min_length]
        too_short += len(block.ids) - len(rows)
        if not rows:
            continue
        ids, letters = [block.ids[row] for row in rows], [block.letters[row] for row in rows]
        cuts = embedder.cut(RecordBlock(block.file, block.first, ids, letters))
        # Only now is it known that their letters are nucleotides at all.
        kept = [row for row, text in enumerate(letters) if base_count(text) >= min_length]
        too_short += len(rows) - len(kept)
        found += len(kept)
        vectors = np.zeros((len(kept), index.encoder.dim), dtype=np.float32)
        for row, at in enumerate(kept):
            if (cut := cuts[at]) is not None:
                vectors[row] = cut.vectors[0]
        chosen = [(letters[at], cuts[at]) for at in kept]
        k = max(index.encoder.layout.ks)
        yield Queries(
            [ids[at] for at in kept],
            [len(text) for text, _ in chosen],
            vectors,
            [text for text, _ in chosen],
            reasons=["" if cut is not None else _reason(len(text), k) for text, cut in chosen],
            bases=[0 if cut is None else cut.bases for _, cut in chosen],
            counted=[0 if cut is None else cut.counted for _, cut in chosen],
        )
    _tell_short(path, found, too_short, min_length, log)


def _tell_short(path: str, found: int, too_short: int, min_length: int, log: Log) -> None:
    if not found:
        raise SequenceError(
            "there is no query",
            f"{too_short:,} have fewer than {min_length:,} bases (A, C, G, T)" if too_short else "",
            "is --min-length right?" if too_short else "",
            place="stdin" if path == "-" else path,
        )
    if too_short:
        log(f"{too_short:,} queries shorter than {min_length:,} bases were left out")


def _reason(length: int, k: int) -> str:
    """Why a sequence of so many letters has no profile to compare."""
    if not length:
        return "it has no letters"
    return f"it is shorter than {k} letters" if length < k else f"no {k} letters of A, C, G and T in a row"


def _from_profiles(
    queries: str | Path | AnnData | Profiles, index: KinIndex, ids: str | Path | None, min_length: int
) -> Iterator[Queries]:
    from kinmer.index.embedded import open_embedded

    embedded = open_embedded(queries, encoder=index.encoder, ids=ids)
    lengths = embedded.obs["length"].tolist() if "length" in embedded.obs else [None] * len(embedded)
    bases = embedded.obs["bases"].tolist() if "bases" in embedded.obs else None
    sizes = lengths if bases is None else bases
    for start, vectors in embedded.blocks(0, BATCH_ROWS):
        rows = [
            row for row in range(len(vectors)) if (size := sizes[start + row]) is None or size >= min_length
        ]
        yield Queries(
            [str(embedded.ids[start + row]) for row in rows],
            [lengths[start + row] for row in rows],
            vectors[rows],
            bases=None if bases is None else [int(bases[start + row]) for row in rows],
        )
