"""The formats of results by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TextIO

from kinmer.errors import UsageError
from kinmer.queries.objects import write_json, write_jsonl
from kinmer.queries.results import QueryResult
from kinmer.queries.samples import write_krona, write_lineage
from kinmer.queries.tables import write_blast, write_calls, write_tsv

__all__ = ["WRITERS", "Writer", "writer_of"]

Writer = Callable[[Iterable[QueryResult], TextIO], int]

WRITERS: dict[str, Writer] = {
    "tsv": write_tsv,
    "json": write_json,
    "jsonl": write_jsonl,
    "blast": write_blast,
    "calls": write_calls,
    "krona": write_krona,
    "lineage": write_lineage,
}


def writer_of(form: str, *, evidence: bool = False, facets: bool = False) -> Writer:
    """The function that writes results in this format; it gives the number of queries.

    evidence, facets : whether the table of hits has their columns, whatever the first query has.

    Raises UsageError for an unknown format.
    """
    if form not in WRITERS:
        raise UsageError(f"unknown format {form!r}", check=f"known are {', '.join(WRITERS)}")
    if form == "tsv":
        return partial(write_tsv, evidence=evidence, facets=facets)
    return WRITERS[form]
