"""What a search gives, and its two formats: a table with tabs, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from kinmer.taxonomy import Vote

__all__ = ["Hit", "QueryResult", "write_json", "write_tsv"]

FIELDS = ("query_id", "rank", "hit_id", "distance", "length", "gc")
MISSING = "."
DISTANCE_DIGITS, GC_DIGITS = 6, 4
# All that str.splitlines takes for the end of a line, and the tab.
_BREAKS = dict.fromkeys(map(ord, "\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), " ")


@dataclass(frozen=True)
class Hit:
    """One relative. `rank`: from 1. `length` in letters and `gc` as a share, None where unknown."""

    rank: int
    id: str
    distance: float
    length: int | None
    gc: float | None
    metadata: dict[str, object]


@dataclass(frozen=True)
class QueryResult:
    """A query and its nearest relatives, nearest first.

    length : of the query in letters, None where unknown. consensus : by rank, what the hits agree on; see
    `kinmer.taxonomy.consensus`.
    """

    id: str
    length: int | None
    hits: tuple[Hit, ...]
    consensus: dict[str, Vote]


def write_tsv(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write a header line and a line for every hit, as they come; gives the number of queries.

    Columns: query_id, rank, hit_id, distance, length, gc, and the metadata; ``.`` where a value is missing.
    """
    queries, begun = 0, False
    for result in results:
        queries += 1
        for hit in result.hits:
            if not begun:
                stream.write("\t".join(map(_text, (*FIELDS, *hit.metadata))) + "\n")
                begun = True
            gc = MISSING if hit.gc is None else f"{hit.gc:.{GC_DIGITS}f}"
            fields = [
                _text(result.id),
                str(hit.rank),
                _text(hit.id),
                f"{hit.distance:.{DISTANCE_DIGITS}f}",
                _text(hit.length),
                gc,
                *map(_text, hit.metadata.values()),
            ]
            stream.write("\t".join(fields) + "\n")
    if not begun:
        stream.write("\t".join(FIELDS) + "\n")
    return queries


def write_json(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write a JSON array with an object a query on a line of its own, as they come; gives their number."""
    queries = 0
    for result in results:
        stream.write(",\n" if queries else "[\n")
        json.dump(_to_dict(result), stream, ensure_ascii=False, allow_nan=False)
        queries += 1
    stream.write("\n]\n" if queries else "[]\n")
    return queries


def _to_dict(result: QueryResult) -> dict[str, Any]:
    return {
        "query_id": result.id,
        "length": result.length,
        "hits": [
            {
                "rank": hit.rank,
                "hit_id": hit.id,
                "distance": round(hit.distance, DISTANCE_DIGITS),
                "length": hit.length,
                "gc": None if hit.gc is None else round(hit.gc, GC_DIGITS),
                "metadata": hit.metadata,
            }
            for hit in result.hits
        ],
        "consensus": {
            rank: {"name": vote.name, "share": round(vote.share, GC_DIGITS)}
            for rank, vote in result.consensus.items()
        },
    }


def _text(value: object) -> str:
    """A field of the table: plain numbers, no tabs or line ends."""
    if value is None:
        return MISSING
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-") if math.isfinite(value) else MISSING
    return str(value).translate(_BREAKS) or MISSING
