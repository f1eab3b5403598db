"""The way of a query: counted, embedded by the index's own encoder, searched, judged, described."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kinmer.errors import InputError, UsageError
from kinmer.index import KinIndex
from kinmer.index.describing import INEXACT_WHOLES
from kinmer.index.pieces import has_exact_wholes
from kinmer.queries.answering import Asked, Merge, answers
from kinmer.queries.results import QueryResult
from kinmer.queries.sources import BATCH_ROWS, Queries, read_queries
from kinmer.stores import Metric, check_metric

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.profiles import Profiles

__all__ = ["FACETS", "search", "search_ids"]

FACETS = ("chromosome", "plasmid", "virus")

Log = Callable[[str], None]


def search(
    queries: str | Path | AnnData | Profiles,
    db: str | Path | KinIndex,
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
    opened = db if isinstance(db, KinIndex) else KinIndex.open(db, log=log, threads=threads)
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
    db: str | Path | KinIndex,
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
    opened = db if isinstance(db, KinIndex) else KinIndex.open(db, log=log, threads=threads)
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


def _asked(index: KinIndex, *, k: int, metric: Metric | None, where: str | None, **settings: object) -> Asked:
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
