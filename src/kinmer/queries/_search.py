"""A search: queries are read in blocks, embedded by the index's encoder, searched, judged, described."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from kinmer.box.compilation import load_lightly
from kinmer.box.reference import REFERENCE
from kinmer.index import Storage
from kinmer.index.pieces import has_exact_wholes
from kinmer.queries.intake import BATCH_ROWS, Queries, read_obsm, read_queries, without_windows
from kinmer.queries.judge import By, SearchSettings, results_of
from kinmer.queries.sample import Prior
from kinmer.queries.search_results import SearchResults
from kinmer.queries.union import check_union, owners_of, union_of
from kinmer.stores import Metric
from kinmer.taxonomy import RANKS

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.profiles import Profiles

Log = Callable[[str], None]
Db = str | Path | Storage
# Indexes, and whether each is to be closed at the end of the search.
_Opened = list[tuple[Storage, bool]]
# Keywords of kinmer 0.1, and what they are called now.
RENAMED = {"merge": "by", "threads": "n_jobs"}


class SearchOptions(TypedDict, total=False):
    """Options of `search` that are wanted less often.

    metric : {"cosine", "l2"}
        Another metric than the index's is searched exactly, which takes longer.
    prior : {"sample", "usual"}, three floats or a mapping
        How many queries are of known species, of new species, and of new genera or farther: as the queries
        themselves say (by default, from 100 cells or viruses on), half and quarters, or these shares. A
        mapping has the shares of kinds of molecule, such as ``{"plasmid": 0.1}``; else the queries say them
        too (from 100 on), or they are as usual, nine chromosomes to one plasmid.
    fdr : float
        Names are given so that of all at a rank about this share is wrong, in place of `min_probability`.
    facets : sequence of str
        Kinds of molecule, of "chromosome", "plasmid" and "virus": for each the nearest of that kind too.
    max_distance : float
        Hits beyond it are left out.
    rank_by_evidence : bool
        Align, and put first the hits that align.
    exclude_self : bool
        An entry is not a hit of a query of the same id. Where several genomes have that id, the one nearest
        to the query is left out.
    windows : int
        Queries of at least two windows of so many bases are also judged window by window: ``windows`` of a
        result has the stretches that are of another kind of molecule, such as a prophage. FASTA only.
    use_rep : str
        The key of ``obsm`` that has the embeddings of an AnnData in memory. Its X is not read then.

    Parameters
    ----------
    merge, threads : By
        Old names of `by` and `n_jobs`.
    """

    metric: Metric | None
    prior: Prior
    fdr: float | None
    facets: Sequence[str]
    max_distance: float | None
    rank_by_evidence: bool
    exclude_self: bool
    windows: int | None
    use_rep: str | None
    merge: By
    threads: int | None


def search(
    queries: str | Path | AnnData | Profiles,
    db: Db | Sequence[Db] = REFERENCE,
    *,
    k: int = 10,
    by: By = "sequence",
    where: str | None = None,
    min_probability: float | None = None,
    evidence: bool = False,
    min_length: int = 0,
    ids: str | Path | None = None,
    n_jobs: int | None = None,
    log: Log | None = None,
    **options: Unpack[SearchOptions],
) -> SearchResults:
    """Find the k nearest entries of every query, and what they say about it.

    Parameters
    ----------
    queries : str | Path | AnnData | Profiles
        FASTA file (``-``: stdin), or what `open_profiles` takes. Read in blocks, whatever their number.
    db : str | Path | KinIndex, or several of them (default: the reference that comes with kinmer)
        Of several, of one encoder, the nearest entries of all are hits, and the verdict that names the
        deepest rank stands; ``db`` says whose they are.
    k : int
        Hits of every query; all entries where there are fewer.
    by : {"sequence", "genome"}
        What a hit is. A sequence is as near as the nearest of its pieces.
    where : str, optional
        Only entries that this holds for are hits, such as ``molecule == "plasmid" and length > 50000``; see
        `KinIndex.select`. The verdict rests on all entries.
    min_probability : float, optional
        The verdict gives no rank that is less probable. By default the index's calibration decides.
    evidence : bool
        Align the query with its best hits.
    min_length : int
        Shorter queries, in bases, are left out, and their number is logged.
    ids : str or Path, optional
        The file of ids of an ``.npy`` table.
    n_jobs : int, optional
        Threads for counting, embedding and the engine; None or -1 for all cores.
    log : callable, optional
        Gets lines for people.
    **options : see `SearchOptions`.

    Returns
    -------
    SearchResults : iterable over `QueryResult` in the order of the queries; has tables, and writes itself.

    Raises
    ------
    SequenceError : not a nucleotide FASTA, or no query left. FormatError : not a valid index, or damaged.
    MismatchError : another layout or encoder, also among indexes. UsageError : settings that cannot be.
    """
    given = _renamed({"by": by, "n_jobs": n_jobs, **options})
    use_rep = given.pop("use_rep", None)
    settings = _settings(
        given, k=k, where=where, min_probability=min_probability, evidence=evidence, log=log or _silent
    )
    return _search(queries, db, settings, min_length, ids, use_rep)


def _search(
    queries: str | Path | AnnData | Profiles,
    db: Db | Sequence[Db],
    settings: SearchSettings,
    min_length: int,
    ids: str | Path | None,
    use_rep: str | None,
) -> SearchResults:
    load_lightly()
    with _opened(db, settings) as opened:
        for index, _ in opened:
            if not has_exact_wholes(index.manifest.get("pieces", {})):
                from kinmer.library.check import INEXACT_WHOLES

                settings.log(f"the index was {INEXACT_WHOLES}")
        # Queries need sketches where any index has them.
        index = next((one for one, _ in opened if one.has_sketches), opened[0][0])
        if use_rep is not None:
            if settings.windows is not None:
                raise without_windows()
            blocks = read_obsm(queries, use_rep, index, min_length)
        else:
            blocks = read_queries(
                queries,
                index,
                ids=ids,
                min_length=min_length,
                sequences=settings.evidence,
                windows=settings.windows,
                threads=settings.n_jobs,
                log=settings.log,
            )
        return _results(blocks, opened, settings)


def search_ids(
    db: Db | Sequence[Db],
    ids: Sequence[str],
    *,
    k: int = 10,
    by: By = "sequence",
    where: str | None = None,
    min_probability: float | None = None,
    n_jobs: int | None = None,
    log: Log | None = None,
    **options: Unpack[SearchOptions],
) -> SearchResults:
    """Find the k entries nearest to each of these entries, never the entry itself; options as of `search`.

    ids : as ``id``, or ``genome:id``. Raises InputError for one that is not an entry, and for an id that
    several genomes have.
    """
    given = _renamed({"by": by, "n_jobs": n_jobs, **options})
    settings = _settings(
        given, k=k, where=where, min_probability=min_probability, exclude_self=True, log=log or _silent
    )
    if settings.windows is not None:
        raise without_windows()
    with _opened(db, settings) as opened:
        owners = list(owners_of([index for index, _ in opened], ids))
        blocks = chain.from_iterable(_of_entries(index, some) for index, some in owners)
        return _results(blocks, opened, settings)


def annotate(
    adata: AnnData,
    index: Db | Sequence[Db],
    *,
    use_rep: str | None = None,
    key_added: str = "kin",
    min_probability: float | None = None,
    n_jobs: int | None = None,
    random_state: int | None = 0,
    log: Log | None = None,
) -> None:
    """Add what a search says about every observation to ``obs``.

    Parameters
    ----------
    adata : AnnData
        In memory or backed. Profiles in X with the k-mers as variables, as `kinmer.count` writes them, or
        embeddings in ``obsm``.
    index : str, Path or KinIndex, or several of them
        An index or its path.
    use_rep : str, optional
        The key of ``obsm`` with embeddings by the index's encoder; X is not read then. By default
        ``X_kinmer`` where there is one, else X is embedded.
    key_added : str
        What the columns begin with.
    min_probability, n_jobs, log : float | None
        See `search`.
    random_state : int, optional
        Accepted as everywhere in scverse. A search does not draw random numbers.

    Returns
    -------
    None
        Sets these columns of ``adata.obs``, for the key ``kin``: ``kin_verdict``, ``kin_rank``,
        ``kin_name``; ``kin_domain`` … ``kin_species`` with probabilities ``kin_domain_p`` …
        ``kin_species_p``; ``kin_molecule``, ``kin_molecule_p``. Texts are categories; NaN where there is
        none.

    Raises
    ------
    UsageError : `use_rep` is not a matrix of ``obsm``.
    MismatchError : the embeddings have another dimension, or are known to be of another encoder.
    ProfileError : X does not hold profiles.
    """
    import pandas as pd

    with search(
        adata, index, k=1, use_rep=use_rep, min_probability=min_probability, n_jobs=n_jobs, log=log
    ) as results:
        calls = results.calls
    columns = ["verdict", "rank", "name", *(column for rank in RANKS for column in (rank, f"{rank}_p"))]
    for column in [*columns, "molecule", "molecule_p"]:
        values = calls[column].to_numpy()
        numbers = column.endswith("_p")
        adata.obs[f"{key_added}_{column}"] = values.astype(float) if numbers else pd.Categorical(values)


def _silent(line: str) -> None:
    """No log."""


def _renamed(options: dict[str, Any]) -> dict[str, Any]:
    """The options by today's names; an old name warns."""
    for old, new in RENAMED.items():
        if old in options:
            warnings.warn(f"{old} is now called {new}", DeprecationWarning, stacklevel=3)
            options[new] = options.pop(old)
    if options.get("n_jobs") == -1:
        options["n_jobs"] = None
    return options


def _settings(options: Mapping[str, Any], **more: Any) -> SearchSettings:
    settings = {**more, **options}
    known = SearchSettings.__dataclass_fields__.keys() - {"lacking"}
    if unknown := sorted(settings.keys() - known):
        raise TypeError(f"search got an unexpected keyword argument {unknown[0]!r}")
    settings["evidence"] = bool(settings.get("evidence") or settings.get("rank_by_evidence"))
    return SearchSettings(**settings)


@contextmanager
def _opened(db: Db | Sequence[Db], settings: SearchSettings) -> Iterator[_Opened]:
    """The indexes, which stay open unless what is done with them fails."""
    opened: _Opened = []
    try:
        for one in [db] if isinstance(db, Db) else db:
            if isinstance(one, Storage):
                opened.append((one, False))
            else:
                opened.append((Storage.open(one, log=settings.log, threads=settings.n_jobs), True))
        check_union([index for index, _ in opened], settings)
        yield opened
    except BaseException:
        _close(opened)
        raise


def _close(opened: _Opened) -> None:
    for index, ours in opened:
        if ours:
            index.close()


def _results(blocks: Iterator[Queries], opened: _Opened, settings: SearchSettings) -> SearchResults:
    if len(opened) == 1:
        index, ours = opened[0]
        found = results_of(blocks, index, settings, close=ours)
    else:
        found = union_of(blocks, [index for index, _ in opened], settings, close=[ours for _, ours in opened])
    return SearchResults(
        found,
        evidence=settings.evidence,
        facets=bool(settings.facets),
        db=len(opened) > 1,
        windows=settings.windows is not None,
    )


def _of_entries(index: Storage, ids: Sequence[str]) -> Iterator[Queries]:
    """Entries of the index as queries."""
    for start in range(0, len(ids), BATCH_ROWS):
        names = list(ids[start : start + BATCH_ROWS])
        with index.reading():
            numbers = index.numbers_of(names)
            known = index.entries(numbers)
            entries = [known[number] for number in numbers.tolist()]
            firsts = np.array([entry.first for entry in entries], dtype=np.int64)
            vectors = np.array(index.rows.vectors[firsts], dtype=np.float32)
            kept = index.entry_sketches(numbers) if index.has_sketches else {}
        sketches = [kept[number] for number in numbers.tolist()] if len(kept) == len(entries) else None
        lengths = [entry.length for entry in entries]
        yield Queries(names, lengths, vectors, numbers=numbers, sketches=sketches)
