"""Queries to an index: from FASTA or embeddings to the nearest relatives, and how they are written down."""

from kinmer.queries.listing import write_rows
from kinmer.queries.objects import write_json, write_jsonl
from kinmer.queries.results import Evidence, Hit, MoleculeCall, QueryResult, RankCall
from kinmer.queries.samples import write_krona, write_lineage
from kinmer.queries.searching import search, search_ids
from kinmer.queries.tables import write_blast, write_calls, write_tsv
from kinmer.queries.writing import WRITERS, Writer, writer_of

__all__ = [
    "WRITERS",
    "Evidence",
    "Hit",
    "MoleculeCall",
    "QueryResult",
    "RankCall",
    "Writer",
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
