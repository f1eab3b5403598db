"""Queries to an index: from FASTA or embeddings to the nearest relatives, and how they are written down."""

from kinmer.queries._search import SearchOptions, annotate, search, search_ids
from kinmer.queries.formats import (
    WRITERS,
    Writer,
    write_blast,
    write_calls,
    write_json,
    write_jsonl,
    write_krona,
    write_lineage,
    write_rows,
    write_tsv,
    writer_of,
)
from kinmer.queries.results import Evidence, Hit, MoleculeCall, QueryResult, RankCall, Stretch
from kinmer.queries.search_results import SearchResults

__all__ = [
    "WRITERS",
    "Evidence",
    "Hit",
    "MoleculeCall",
    "QueryResult",
    "RankCall",
    "SearchOptions",
    "SearchResults",
    "Stretch",
    "Writer",
    "annotate",
    "search",
    "search_ids",
    "write_blast",
    "write_calls",
    "write_json",
    "write_jsonl",
    "write_krona",
    "write_lineage",
    "write_rows",
    "write_tsv",
    "writer_of",
]
