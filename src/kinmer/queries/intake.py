"""Queries as they come in: FASTA, profiles or embeddings, in blocks, embedded by the index's encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pool import molecule_column
from kinmer.errors import MismatchError, SequenceError, UsageError
from kinmer.fasta import base_count
from kinmer.index import Storage
from kinmer.inputs import kind_of, parse_json
from kinmer.progress import step
from kinmer.sketches import sketch_many

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from kinmer.index.pieces import Cut, Embedder, RecordBlock
    from kinmer.profiles import Profiles

# Queries embedded and searched together; the results do not depend on it.
BATCH_ROWS = 1024

Log = Callable[[str], None]
_T = TypeVar("_T")


@dataclass
class Genes:
    """The letters of a query, and what `kinmer.proteins` says of them: (3,), None until it is asked."""

    letters: bytes
    odds: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Queries:
    """Some queries: ids, lengths (None: unknown), vectors (q, dim), and their sequences where wanted.

    numbers : (q,) of the entries that they are, None where they are of no index. reasons : why a query has no
    profile, and so no meaningful vector; empty for one that has. None: all have one. bases : of A, C, G, T.
    counted : `kinmer.counting.counted_of`, by which it is judged. None: unknown. sketches : of the sequences.
    windows : of every query, its windows as queries; none of a short one. None: they are not wanted.
    genes : of each until it is judged; all indexes of a search share them. None: not known, or not wanted.
    """

    ids: list[str]
    lengths: Sequence[int | None]
    vectors: NDArray[np.float32]
    letters: Sequence[bytes] | None = None
    numbers: NDArray[np.int64] | None = None
    reasons: Sequence[str] | None = None
    bases: Sequence[int] | None = None
    counted: Sequence[int] | None = None
    sketches: Sequence[NDArray[np.uint64]] | None = None
    windows: Sequence[Queries] | None = None
    genes: Sequence[Genes] | None = None

    @classmethod
    def joined(cls, queries: Sequence[Queries]) -> Queries:
        """All queries of a file, or windows, in one; of what only some of them know nothing."""

        def all_of(values: Sequence[Sequence[_T] | None]) -> list[_T] | None:
            known = [one for one in values if one is not None]
            return list(chain.from_iterable(known)) if len(known) == len(values) else None

        return cls(
            [name for one in queries for name in one.ids],
            [length for one in queries for length in one.lengths],
            np.concatenate([one.vectors for one in queries]),
            reasons=all_of([one.reasons for one in queries]),
            bases=all_of([one.bases for one in queries]),
            counted=all_of([one.counted for one in queries]),
            sketches=all_of([one.sketches for one in queries]),
            genes=all_of([one.genes for one in queries]),
        )

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
            taken(self.sketches),
            taken(self.windows),
            taken(self.genes),
        )


def read_queries(
    source: str | Path | AnnData | Profiles,
    index: Storage,
    *,
    ids: str | Path | None,
    min_length: int,
    sequences: bool,
    windows: int | None = None,
    threads: int | None,
    log: Log,
) -> Iterator[Queries]:
    """The queries of at least `min_length` bases in `source`, block by block; see `kinmer.search`.

    sequences : they are wanted too, which only a FASTA file has. windows : of so many letters are wanted too.
    Raises UsageError for another source then.
    """
    if kind_of(source) not in ("fasta", "missing"):
        if sequences:
            raise UsageError(
                "there are no sequences to align", "evidence compares sequences", "give the queries as FASTA"
            )
        if windows is not None:
            raise without_windows()
        return _from_profiles(source, index, ids, min_length)
    return _from_fasta(str(source), index, min_length, threads, log, sequences=sequences, windows=windows)


def without_windows() -> UsageError:
    """The error of queries that have no sequence to cut."""
    return UsageError(
        "there are no sequences to cut into windows",
        "windows are parts of sequences",
        "give the queries as FASTA",
    )


def window_spans(length: int, size: int) -> list[tuple[int, int]]:
    """Start and stop of the windows of a sequence: one every half window, the last at its end.

    None of a sequence of fewer letters than two windows have.
    """
    if length < 2 * size:
        return []
    last = length - size
    return [(start, start + size) for start in (*range(0, last, size // 2), last)]


def _from_fasta(
    path: str,
    index: Storage,
    min_length: int,
    threads: int | None,
    log: Log,
    *,
    sequences: bool,
    windows: int | None,
) -> Iterator[Queries]:
    """Record by record: memory holds a block, or the longest query."""
    from kinmer.index.pieces import Embedder, RecordBlock

    embedder = Embedder(index.encoder, None, threads)
    too_short = found = 0
    for block in _shown_blocks(path):
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
        names, texts = [ids[at] for at in kept], [letters[at] for at in kept]
        queries = _of_cuts(names, texts, [cuts[at] for at in kept], index, threads)
        if windows is not None:
            queries = replace(queries, windows=_windows(names, texts, windows, embedder, index, threads))
        yield replace(queries, letters=texts) if sequences else queries
    _report_short(path, found, too_short, min_length, log)


def _shown_blocks(path: str) -> Iterator[RecordBlock]:
    """The records of a file as they are searched together, with a bar for how much of it is done."""
    from kinmer.index.pieces import read_blocks_of

    size = Path(path).stat().st_size if Path(path).is_file() else None
    with step("Searching", size) as bar:
        for block in read_blocks_of(path, records=BATCH_ROWS):
            yield block
            bar.reach(block.consumed)


def _of_cuts(
    ids: list[str], letters: Sequence[bytes], cuts: Sequence[Cut | None], index: Storage, threads: int | None
) -> Queries:
    """Sequences as queries, from what was counted and embedded of each."""
    vectors = np.zeros((len(cuts), index.encoder.dim), dtype=np.float32)
    for row, cut in enumerate(cuts):
        if cut is not None:
            vectors[row] = cut.vectors[0]
    k = max(index.encoder.layout.ks)
    pairs = list(zip(letters, cuts, strict=True))
    has_kinds = molecule_column(index.columns) is not None
    return Queries(
        ids,
        list(map(len, letters)),
        vectors,
        reasons=["" if cut is not None else _reason(len(text), k) for text, cut in pairs],
        bases=[0 if cut is None else cut.bases for cut in cuts],
        counted=[0 if cut is None else cut.counted for cut in cuts],
        sketches=sketch_many(letters, threads or 1) if index.has_sketches else None,
        genes=list(map(Genes, letters)) if has_kinds else None,
    )


def _windows(
    ids: list[str],
    letters: list[bytes],
    size: int,
    embedder: Embedder,
    index: Storage,
    threads: int | None,
) -> list[Queries]:
    """The windows of every sequence, those of all counted together."""
    from kinmer.index.pieces import RecordBlock

    spans = [window_spans(len(text), size) for text in letters]
    own = list(zip(ids, letters, spans, strict=True))
    names = [f"{name}:{start + 1}-{stop}" for name, _, some in own for start, stop in some]
    texts = [text[start:stop] for _, text, some in own for start, stop in some]
    every = _of_cuts(names, texts, embedder.cut(RecordBlock("", 1, names, texts)), index, threads)
    ends = np.cumsum(list(map(len, spans)), dtype=np.int64).tolist()
    return [every._taken(range(end - len(some), end)) for some, end in zip(spans, ends, strict=True)]


def _report_short(path: str, found: int, too_short: int, min_length: int, log: Log) -> None:
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
    queries: str | Path | AnnData | Profiles, index: Storage, ids: str | Path | None, min_length: int
) -> Iterator[Queries]:
    from kinmer.vectors import open_embedded

    embedded = open_embedded(queries, encoder=index.encoder, ids=ids)
    for start, vectors in embedded.blocks(BATCH_ROWS):
        obs = embedded.obs.iloc[start : start + len(vectors)]
        yield _of_rows(embedded.ids[start : start + len(vectors)], obs, vectors, min_length)


def read_obsm(source: Any, key: str, index: Storage, min_length: int) -> Iterator[Queries]:
    """The embeddings in ``obsm[key]`` of an AnnData in memory, checked at once."""
    obsm = getattr(source, "obsm", None)
    if obsm is None or isinstance(source, str | Path):
        raise UsageError("use_rep is a key of obsm: the queries must be an AnnData in memory")
    if key not in obsm:
        known = ", ".join(sorted(map(str, obsm))) or "nothing"
        raise UsageError(f"obsm has no {key!r}", check=f"it has {known}: embed first, or name one of these")
    vectors = np.asarray(obsm[key])
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or vectors.shape[1] != index.dim:
        raise MismatchError(
            f"obsm[{key!r}] is {' × '.join(map(str, vectors.shape))} {vectors.dtype}",
            f"embeddings by the index's encoder have {index.dim} columns of float32",
            "embed with the encoder of the index",
        )
    if not np.isfinite(vectors).all():
        raise MismatchError(f"obsm[{key!r}] has values that are not finite", "they are not embeddings")
    made = _origin(source, key)
    if made is not None and made != index.encoder_fingerprint:
        raise MismatchError(
            f"obsm[{key!r}] is of another encoder",
            f"it was made by {made[:12]}, the index by {index.encoder_fingerprint[:12]}",
            "embed again with the encoder of the index",
        )
    ids, obs = source.obs_names.to_numpy(dtype=object), source.obs

    def blocks() -> Iterator[Queries]:
        for start in range(0, len(vectors), BATCH_ROWS):
            part = slice(start, start + BATCH_ROWS)
            yield _of_rows(ids[part], obs.iloc[part], vectors[part].astype(np.float32), min_length)

    return blocks()


def _origin(adata: Any, key: str) -> str | None:
    """The fingerprint of the encoder that made ``obsm[key]``; None where it is not recorded."""
    try:
        return str(parse_json(adata.uns["kinmer"]["embedding"])[key]["encoder_fingerprint"])
    except (KeyError, TypeError, ValueError):
        return None


def _of_rows(
    ids: NDArray[np.object_], obs: pd.DataFrame, vectors: NDArray[np.float32], min_length: int
) -> Queries:
    """Rows of a table as queries, those of at least so many bases, as far as that is known."""
    lengths = obs["length"].tolist() if "length" in obs else [None] * len(obs)
    bases = obs["bases"].tolist() if "bases" in obs else None
    sizes = lengths if bases is None else bases
    rows = [row for row, size in enumerate(sizes) if size is None or size >= min_length]
    return Queries(
        [str(ids[row]) for row in rows],
        [lengths[row] for row in rows],
        vectors[rows],
        bases=None if bases is None else [int(bases[row]) for row in rows],
    )
