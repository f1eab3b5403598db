"""Queries to an index: from FASTA or embeddings to the nearest relatives, and how they are written down."""

from kinmer.queries.results import Hit, QueryResult, write_json, write_tsv
from kinmer.queries.searching import search, search_ids

__all__ = ["Hit", "QueryResult", "search", "search_ids", "write_json", "write_tsv"]
