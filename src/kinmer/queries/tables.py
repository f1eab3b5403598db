"""Results as tables with tabs: hits, hits as BLAST writes them, one line a query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO

from kinmer.queries.fields import DISTANCE_DIGITS, MISSING, as_field, as_share, unique_names
from kinmer.queries.results import Hit, QueryResult
from kinmer.taxonomy import RANKS

__all__ = ["write_blast", "write_calls", "write_tsv"]

HIT_COLUMNS = ("query_id", "rank", "hit_id", "distance", "length", "gc", "genome", "start", "stop")
EVIDENCE_COLUMNS = ("ani", "aligned_fraction", "homology")
FACET_COLUMN = "facet"
MOLECULES = ("chromosome", "plasmid", "virus")


def write_tsv(
    results: Iterable[QueryResult],
    stream: TextIO,
    *,
    evidence: bool | None = None,
    facets: bool | None = None,
) -> int:
    """Write a header line and a line for every hit, as they come; gives the number of queries.

    Columns: query_id, rank, hit_id, distance, length, gc, genome, start, stop; with `evidence` ani,
    aligned_fraction, homology; with `facets` facet (empty for a hit of all kinds); the metadata, ``hit_``
    before a name that is taken. A field is empty where a value is missing. A query without a profile has one
    line, whose hit_id is what its verdict says (``no profile: …``) and whose other columns are empty.

    evidence, facets : whether there are these columns; None: as the first query that has hits has them.
    """
    queries = 0
    header: list[str] = []
    for result in results:
        queries += 1
        if result.no_profile:
            if not header:
                header = _header(list(result.columns), bool(evidence), bool(facets))
                stream.write("\t".join(header) + "\n")
            told = [as_field(result.id), MISSING, as_field(result.verdict)]
            stream.write("\t".join([*told, *[MISSING] * (len(header) - len(told))]) + "\n")
        for facet, hit in _hits_of(result):
            if not header:
                first = [one for _, one in _hits_of(result)]
                evidence = any(one.evidence for one in first) if evidence is None else evidence
                facets = bool(result.facets) if facets is None else facets
                header = _header(list(hit.metadata), bool(evidence), bool(facets))
                stream.write("\t".join(header) + "\n")
            if facet is None or facets:
                fields = _hit_fields(result, hit, facet, bool(evidence), bool(facets))
                stream.write("\t".join(fields) + "\n")
    if not header:
        stream.write("\t".join(_header([], bool(evidence), bool(facets))) + "\n")
    return queries


def _hits_of(result: QueryResult) -> Iterator[tuple[str | None, Hit]]:
    """All hits of a query with the name of their facet, None for those of all kinds."""
    yield from ((None, hit) for hit in result.hits)
    for name, hits in result.facets.items():
        yield from ((name, hit) for hit in hits)


def _header(metadata: list[str], evidence: bool, facets: bool) -> list[str]:
    own = [*HIT_COLUMNS, *(EVIDENCE_COLUMNS if evidence else ()), *((FACET_COLUMN,) if facets else ())]
    return [*own, *map(as_field, unique_names(own, metadata))]


def _hit_fields(result: QueryResult, hit: Hit, facet: str | None, evidence: bool, facets: bool) -> list[str]:
    fields = [
        as_field(result.id),
        str(hit.rank),
        as_field(hit.id),
        f"{hit.distance:.{DISTANCE_DIGITS}f}",
        as_field(hit.length),
        as_share(hit.gc),
        *map(as_field, (hit.genome, hit.start, hit.stop)),
    ]
    if evidence:
        proof = hit.evidence
        fields += (
            [MISSING] * 3
            if proof is None
            else [as_share(proof.ani), as_share(proof.aligned_fraction), as_field(proof.kind)]
        )
    if facets:
        fields.append(as_field(facet))
    return [*fields, *map(as_field, hit.metadata.values())]


def write_blast(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write the twelve columns of BLAST's ``-outfmt 6``, a line a hit; gives the number of queries.

    With evidence the third is 100 · ANI, the fourth the letters that align, the fifth the mismatches that
    these two make. Without it nothing was aligned, and all three are 0, however alike the composition is: a
    text such as ``nan`` would pass ``$3 >= 95`` in awk. Gaps and the score, which nobody measured, are 0, and
    the E-value is ``nan``, which passes no threshold. The places are what was compared, the whole query and
    the nearest piece of the hit, from 1. A query without a profile has a line whose hit is called
    ``no_profile:_…``, with 0 in these columns.
    """
    queries = 0
    for result in results:
        queries += 1
        if result.no_profile:
            names = ["_".join(name.split()) for name in (result.id, result.verdict)]
            numbers = ["0.000", "0", "0", "0", *[str(min(1, result.length or 0)), str(result.length or 0)]]
            stream.write("\t".join([*map(as_field, names), *numbers, "0", "0", "nan", "0"]) + "\n")
        for hit in result.hits:
            stream.write("\t".join(_blast_fields(result, hit)) + "\n")
    return queries


def _blast_fields(result: QueryResult, hit: Hit) -> list[str]:
    proof, length = hit.evidence, result.length or 0
    ani, share = (0.0, 0.0) if proof is None or proof.ani is None else (proof.ani, proof.aligned_fraction)
    aligned = round(share * length)
    start, stop = (0, hit.length or 0) if hit.start is None or hit.stop is None else (hit.start, hit.stop)
    places = [min(1, length), length, min(start + 1, stop), stop]
    alike = [f"{100 * ani:.3f}", str(aligned), str(round((1 - ani) * aligned))]
    # A blank in a name would be read as the next column by tools that split at any blank.
    names = [as_field("_".join(name.split())) or "." for name in (result.id, hit.name or hit.id)]
    return [*names, *alike, "0", *map(str, places), "nan", "0"]


def write_calls(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write a header line and a line for every query; gives their number.

    Columns: query_id, length, verdict, rank, name; every rank and its probability (``genus``, ``genus_p``);
    molecule, molecule_p, and the probability of every kind; nearest and nearest_distance. A field is empty
    where there is none.
    """
    queries = 0
    ranks = [column for rank in RANKS for column in (rank, f"{rank}_p")]
    kinds = [f"{kind}_p" for kind in MOLECULES]
    header = ["query_id", "length", "verdict", "rank", "name", *ranks, "molecule", "molecule_p", *kinds]
    stream.write("\t".join([*header, "nearest", "nearest_distance"]) + "\n")
    for result in results:
        queries += 1
        stream.write("\t".join(_call_fields(result)) + "\n")
    return queries


def _call_fields(result: QueryResult) -> list[str]:
    fields = [as_field(one) for one in (result.id, result.length, result.verdict, result.rank, result.name)]
    for rank in RANKS:
        call = result.consensus.get(rank)
        fields += [MISSING, MISSING] if call is None else [as_field(call.name), as_share(call.probability)]
    kind = result.molecule
    if kind is None:
        fields += [MISSING] * (2 + len(MOLECULES))
    else:
        fields += [as_field(kind.name), as_share(kind.probability)]
        fields += [as_share(kind.probabilities.get(name)) for name in MOLECULES]
    if not result.hits:
        return [*fields, MISSING, MISSING]
    near = result.hits[0]
    return [*fields, as_field(near.name or near.id), f"{near.distance:.{DISTANCE_DIGITS}f}"]
