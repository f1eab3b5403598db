"""A search: queries are read in blocks, embedded by the index's encoder, searched, judged, described."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kinmer.errors import InputError, SequenceError, UsageError
from kinmer.fasta import base_count
from kinmer.index import Storage
from kinmer.index.pieces import has_exact_wholes
from kinmer.inputs import kind_of
from kinmer.library.check import INEXACT_WHOLES
from kinmer.queries.judge import Asked, Merge, answers
from kinmer.queries.results import BATCH_ROWS, Queries, QueryResult
from kinmer.stores import Metric, check_metric

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.profiles import Profiles

__all__ = ["FACETS", "read_queries", "search", "search_ids"]


Log = Callable[[str], None]


def read_queries(
    source: str | Path | AnnData | Profiles,
    index: Storage,
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
    if kind_of(source) not in ("fasta", "missing"):
        if letters:
            raise UsageError(
                "there are no sequences to align", "evidence compares letters", "give the queries as FASTA"
            )
        return _from_profiles(source, index, ids, min_length)
    if letters:
        return _with_letters(str(source), index, min_length, threads, log)
    return _from_fasta(str(source), index, min_length, threads, log)


def _from_fasta(
    path: str, index: Storage, min_length: int, threads: int | None, log: Log
) -> Iterator[Queries]:
    from kinmer.counting import bases_of, count_batches, counted_of
    from kinmer.resources import cpu_threads

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
    path: str, index: Storage, min_length: int, threads: int | None, log: Log
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
    queries: str | Path | AnnData | Profiles, index: Storage, ids: str | Path | None, min_length: int
) -> Iterator[Queries]:
    from kinmer.vectors import open_embedded

    embedded = open_embedded(queries, encoder=index.encoder, ids=ids)
    lengths = embedded.obs["length"].tolist() if "length" in embedded.obs else [None] * len(embedded)
    bases = embedded.obs["bases"].tolist() if "bases" in embedded.obs else None
    sizes = lengths if bases is None else bases
    for start, vectors in embedded.blocks(BATCH_ROWS):
        rows = [
            row for row in range(len(vectors)) if (size := sizes[start + row]) is None or size >= min_length
        ]
        yield Queries(
            [str(embedded.ids[start + row]) for row in rows],
            [lengths[start + row] for row in rows],
            vectors[rows],
            bases=None if bases is None else [int(bases[start + row]) for row in rows],
        )


FACETS = ("chromosome", "plasmid", "virus")


def search(
    queries: str | Path | AnnData | Profiles,
    db: str | Path | Storage,
    *,
    k: int = 10,
    metric: Metric | None = None,
    merge: Merge = "sequence",
    where: str | None = None,
    facets: Sequence[str] = (),
    max_distance: float | None = None,
    min_probability: float | None = None,
    evidence: bool = False,
    rank_by_evidence: bool = False,
    exclude_self: bool = False,
    min_length: int = 0,
    ids: str | Path | None = None,
    threads: int | None = None,
    log: Log | None = None,
) -> Iterator[QueryResult]:
    """The k nearest entries of every query and what they say of it, query after query, in their order.

    Parameters
    ----------
    queries : a FASTA file (``-``: stdin), or what `open_profiles` takes, with or without embeddings by the
        index's encoder. Read in blocks: memory does not depend on their number.
    db : an index or its path.
    k : hits of every query; all entries where there are fewer.
    metric : "cosine" or "l2"; another than the index's is searched exactly, which takes longer.
    merge : a hit is a "sequence", as near as the nearest of its pieces, or a "genome".
    where : only entries that this holds for are hits, such as ``molecule == "plasmid" and length > 50000``;
        see `KinIndex.select`. The verdict rests on all entries.
    facets : kinds of molecule, of "chromosome", "plasmid" and "virus": for each the nearest of that kind too.
    max_distance : hits beyond it are left out.
    min_probability : the verdict names no rank whose calibrated probability is below it; None for what the
        index's calibration found best.
    evidence : align the query with its best hits; `rank_by_evidence`: and put first those that align.
    exclude_self : an entry is no hit of a query of the same id; where several genomes have that id, the one
        that is nearest to the query.
    min_length : shorter queries are left out, and their number told to `log`.
    ids : ids file of an ``.npy`` table.
    threads : for counting, embedding and the engine; None for all cores.

    Raises
    ------
    SequenceError : no nucleotide FASTA, a query without a single whole k-mer, no query left.
    FormatError : no index, or a damaged one; MismatchError : queries of another layout or encoder.
    UsageError : k below 1, an unknown metric, facet or column, evidence without sequences.
    """
    tell = log or (lambda line: None)
    opened = db if isinstance(db, Storage) else Storage.open(db, log=log, threads=threads)
    if not has_exact_wholes(opened.manifest.get("pieces", {})):
        tell(f"the index was {INEXACT_WHOLES}")
    try:
        asked = _asked(
            opened,
            k=k,
            metric=metric,
            merge=merge,
            where=where,
            facets=facets,
            max_distance=max_distance,
            min_probability=min_probability,
            evidence=evidence or rank_by_evidence,
            rank_by_evidence=rank_by_evidence,
            exclude_self=exclude_self,
            threads=threads,
            log=tell,
        )
        blocks = read_queries(
            queries,
            opened,
            ids=ids,
            min_length=min_length,
            letters=asked.evidence,
            threads=threads,
            log=tell,
        )
    except BaseException:
        if opened is not db:
            opened.close()
        raise
    return answers(blocks, opened, asked, close=opened is not db)


def search_ids(
    db: str | Path | Storage,
    ids: Sequence[str],
    *,
    k: int = 10,
    metric: Metric | None = None,
    merge: Merge = "sequence",
    where: str | None = None,
    facets: Sequence[str] = (),
    max_distance: float | None = None,
    min_probability: float | None = None,
    threads: int | None = None,
    log: Log | None = None,
) -> Iterator[QueryResult]:
    """The k entries nearest to each of these entries, never the entry itself; settings as in `search`.

    ids : as ``id``, or ``genome:id``. Raises InputError for one that is no entry, and for an id that several
    genomes have.
    """
    opened = db if isinstance(db, Storage) else Storage.open(db, log=log, threads=threads)
    try:
        asked = _asked(
            opened,
            k=k,
            metric=metric,
            merge=merge,
            where=where,
            facets=facets,
            max_distance=max_distance,
            min_probability=min_probability,
            exclude_self=True,
            threads=threads,
        )
        numbers = opened.numbers_of(ids)
        if (numbers < 0).any():
            unknown = ids[int(np.argmin(numbers))]
            raise InputError(
                f"the index has no entry {unknown!r}", check="ids are case-sensitive", place=opened.path
            )
    except BaseException:
        if opened is not db:
            opened.close()
        raise

    def blocks() -> Iterator[Queries]:
        for start in range(0, len(ids), BATCH_ROWS):
            names = list(ids[start : start + BATCH_ROWS])
            with opened.reading():
                found = opened.numbers_of(names)
                entries = opened.entries(found)
                lengths = [entries[number].length for number in found.tolist()]
                firsts = np.array([entries[number].first for number in found.tolist()], dtype=np.int64)
                vectors = np.array(opened.rows.vectors[firsts], dtype=np.float32)
            yield Queries(names, lengths, vectors, numbers=found)

    return answers(blocks(), opened, asked, close=opened is not db)


def _asked(index: Storage, *, k: int, metric: Metric | None, where: str | None, **settings: object) -> Asked:
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}")
    if metric is not None:
        check_metric(metric)
    if settings["merge"] not in ("sequence", "genome"):
        raise UsageError(f"hits are merged by sequence or genome, not by {settings['merge']!r}")
    strange = [one for one in settings["facets"] if one not in FACETS]  # type: ignore[attr-defined]
    if strange:
        raise UsageError(f"a facet is one of {', '.join(FACETS)}, not {strange[0]!r}")
    return Asked(k=k, metric=metric or index.metric, where=where, **settings)  # type: ignore[arg-type]
