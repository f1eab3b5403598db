"""Results as JSON: an array, or an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TextIO

from kinmer.queries.fields import DISTANCE_DIGITS, SHARE_DIGITS
from kinmer.queries.results import Hit, QueryResult

__all__ = ["write_json", "write_jsonl"]


def write_json(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write a JSON array with an object a query on a line of its own, as they come; gives their number."""
    queries = 0
    for result in results:
        stream.write(",\n" if queries else "[\n")
        stream.write(_line(result))
        queries += 1
    stream.write("\n]\n" if queries else "[]\n")
    return queries


def write_jsonl(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write JSON Lines, an object a query, as they come; gives their number."""
    queries = 0
    for result in results:
        stream.write(_line(result) + "\n")
        queries += 1
    return queries


def _line(result: QueryResult) -> str:
    return json.dumps(_of_result(result), ensure_ascii=False, allow_nan=False)


def _of_result(result: QueryResult) -> dict[str, Any]:
    molecule = result.molecule
    return {
        "query_id": result.id,
        "length": result.length,
        "bases": result.bases,
        "verdict": result.verdict,
        "rank": result.rank,
        "name": result.name,
        "consensus": {
            rank: {"name": call.name, "share": _share(call.share), "probability": _share(call.probability)}
            for rank, call in result.consensus.items()
        },
        "molecule": None
        if molecule is None
        else {
            "name": molecule.name,
            "probability": _share(molecule.probability),
            "probabilities": {name: _share(value) for name, value in molecule.probabilities.items()},
        },
        "hits": [_of_hit(hit) for hit in result.hits],
        "facets": {name: [_of_hit(hit) for hit in hits] for name, hits in result.facets.items()},
    }


def _of_hit(hit: Hit) -> dict[str, Any]:
    proof = hit.evidence
    return {
        "rank": hit.rank,
        "hit_id": hit.id,
        "distance": round(hit.distance, DISTANCE_DIGITS),
        "length": hit.length,
        "gc": _share(hit.gc),
        "genome": hit.genome,
        "start": hit.start,
        "stop": hit.stop,
        "evidence": None
        if proof is None
        else {
            "ani": _share(proof.ani),
            "aligned_fraction": _share(proof.aligned_fraction),
            "homology": proof.kind,
        },
        "metadata": hit.metadata,
    }


def _share(value: float | None) -> float | None:
    return None if value is None else round(value, SHARE_DIGITS)
