"""Where queries come from: FASTA, profiles, embeddings; read in blocks, embedded by the index's encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import SequenceError, UsageError
from kinmer.fasta import base_count
from kinmer.index import KinIndex

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.counting import Batch
    from kinmer.profiles import Profiles

__all__ = ["BATCH_ROWS", "Queries", "read_queries"]

# Queries embedded and searched together; the answers do not depend on it.
BATCH_ROWS = 1024
NUMPY_MAGIC = b"\x93NUMPY"

Log = Callable[[str], None]


@dataclass(frozen=True)
class Queries:
    """Some queries: ids, lengths (None: unknown), vectors (q, dim), and their letters where wanted.

    bases : A, C, G, T of each; counted : `kinmer.counting.counted_of`, by which it is judged; None: unknown.
    """

    ids: list[str]
    lengths: Sequence[int | None]
    vectors: NDArray[np.float32]
    letters: Sequence[bytes] | None = None
    bases: Sequence[int] | None = None
    counted: Sequence[int] | None = None

    def parts(self) -> Iterator[Queries]:
        """The same, at most `BATCH_ROWS` at a time."""
        for start in range(0, len(self.ids), BATCH_ROWS):
            part = slice(start, start + BATCH_ROWS)
            letters = None if self.letters is None else self.letters[part]
            bases = None if self.bases is None else self.bases[part]
            counted = None if self.counted is None else self.counted[part]
            yield Queries(self.ids[part], self.lengths[part], self.vectors[part], letters, bases, counted)


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
    if str(queries) == "-":
        return True
    if path.is_dir() or path.suffix in (".npy", ".zarr"):
        return False
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(len(NUMPY_MAGIC)) != NUMPY_MAGIC


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
        _check_windows(batch, encoder.layout.blocks[0].columns, max(encoder.layout.ks))
        with cpu_threads(threads):
            vectors = encoder.embed(batch.counts)
        bases, counted = (of(batch.counts, encoder.layout).tolist() for of in (bases_of, counted_of))
        yield Queries(batch.ids, batch.lengths.tolist(), vectors, bases=bases, counted=counted)
    _tell_short(path, found, too_short, min_length, log)


def _with_letters(
    path: str, index: KinIndex, min_length: int, threads: int | None, log: Log
) -> Iterator[Queries]:
    """As `_from_fasta`, record by record: memory holds a block, or the longest query."""
    from kinmer.index.pieces import Embedder, RecordBlock, read_blocks_of

    embedder = Embedder(index.encoder, None, threads)
    too_short = found = 0
    for block in read_blocks_of(path):
        rows = [row for row, letters in enumerate(block.letters) if len(letters) >= max(1, min_length)]
        too_short += len(block.ids) - len(rows)
        kept = [(block.ids[row], block.letters[row]) for row in rows]
        cuts = (
            embedder.cut(RecordBlock(block.file, block.first, *map(list, zip(*kept, strict=True))))
            if kept
            else []
        )
        able, texts = [], []
        for row, cut, one in zip(rows, cuts, kept, strict=True):
            # Only now is it known that its letters are nucleotides at all.
            if base_count(one[1]) < min_length:
                too_short += 1
            elif cut is None:
                raise _no_window(max(index.encoder.layout.ks), block.place(row))
            else:
                able.append(cut)
                texts.append(one)
        found += len(able)
        if able:
            letters = [text for _, text in texts]
            yield Queries(
                [name for name, _ in texts],
                [len(text) for text in letters],
                np.concatenate([cut.vectors for cut in able]),
                letters,
                [cut.bases for cut in able],
                [cut.counted for cut in able],
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


def _check_windows(batch: Batch, columns: slice, k: int) -> None:
    """Refuse a query that has nothing to compare."""
    empty = np.flatnonzero(~batch.counts[:, columns].any(axis=1))
    if empty.size:
        raise _no_window(k, batch.place(int(empty[0])))


def _no_window(k: int, place: str) -> SequenceError:
    return SequenceError(
        f"the query has no {k} letters of A, C, G and T in a row",
        "it has no profile that could be compared",
        "is it too short, or masked? Leave it out, or short ones with --min-length",
        place=place,
    )


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
