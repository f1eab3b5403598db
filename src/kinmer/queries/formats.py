"""The formats that results are written in: tables with tabs, JSON, BLAST's, Krona's, a report of a sample.

Memory of the last two grows with the number of taxa, not of sequences.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TextIO

import numpy as np

from kinmer.errors import UsageError
from kinmer.library import IndexRow
from kinmer.queries.results import NO_PROFILE, Hit, QueryResult
from kinmer.taxonomy import RANKS

__all__ = [
    "DISTANCE_DIGITS",
    "MISSING",
    "SHARE_DIGITS",
    "UNASSIGNED",
    "WRITERS",
    "Writer",
    "as_field",
    "as_share",
    "unique_names",
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


MISSING = ""
DISTANCE_DIGITS, SHARE_DIGITS = 6, 4
# All that str.splitlines takes for the end of a line, and the tab.
_BREAKS = dict.fromkeys(map(ord, "\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), " ")


def as_field(value: object) -> str:
    """A field: plain numbers, no tabs or line ends; empty where there is none."""
    if value is None:
        return MISSING
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-") if math.isfinite(value) else MISSING
    return str(value).translate(_BREAKS)


def as_share(value: float | None) -> str:
    """A share or a probability with four digits."""
    return MISSING if value is None else f"{value:.{SHARE_DIGITS}f}"


def unique_names(own: Sequence[str], others: Sequence[str]) -> list[str]:
    """Names of columns `others` to stand behind `own`: one that is taken there gets ``hit_`` in front."""
    taken, found = {name.lower() for name in own}, []
    wanted = {name.lower() for name in others}
    for name in others:
        free = name
        while free.lower() in taken or (free != name and free.lower() in wanted):
            free = f"hit_{free}"
        taken.add(free.lower())
        found.append(free)
    return found


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


UNASSIGNED = "unassigned"
REPORT_COLUMNS = ("percent", "bases", "bases_here", "queries", "queries_here", "rank", "name")


@dataclass
class _Taxon:
    """A node of the tree of names: what was assigned to it and not to one below."""

    rank: str
    name: str
    bases: int = 0
    queries: int = 0
    below: dict[tuple[str, str], _Taxon] = field(default_factory=dict)

    def totals(self) -> tuple[int, int]:
        """Bases and queries here and below."""
        rest = [taxon.totals() for taxon in self.below.values()]
        return self.bases + sum(one for one, _ in rest), self.queries + sum(one for _, one in rest)

    def ordered(self) -> list[_Taxon]:
        """Those right below, the most bases first."""
        return sorted(self.below.values(), key=lambda one: (*(-part for part in one.totals()), one.name))


def _tree(results: Iterable[QueryResult]) -> tuple[_Taxon, _Taxon, _Taxon]:
    """The tree of all that was assigned, what was not, and what has no profile."""
    root, nothing, without = _Taxon("root", "root"), _Taxon(UNASSIGNED, UNASSIGNED), _Taxon("-", NO_PROFILE)
    for result in results:
        taxon = root if result.lineage else without if result.no_profile else nothing
        for rank, name in result.lineage:
            taxon = taxon.below.setdefault((rank, name), _Taxon(rank, name))
        taxon.bases += (result.length if result.bases is None else result.bases) or 0
        taxon.queries += 1
    return root, nothing, without


def write_krona(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write the text that Krona's ``ktImportText`` takes, when all is read; gives the number of queries.

    A line a taxon that queries were assigned to: their bases, then the names from domain down. A rank
    without a name is left out. Queries without a lineage are called ``unassigned``,
    those that have nothing to compare ``no profile``.
    """
    root, nothing, without = _tree(results)
    for names, taxon in _walk(root, ()):
        if taxon.queries:
            stream.write("\t".join([str(taxon.bases), *map(as_field, names)]) + "\n")
    for rest in (nothing, without):
        if rest.queries:
            stream.write(f"{rest.bases}\t{rest.name}\n")
    return root.totals()[1] + nothing.queries + without.queries


def write_lineage(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write a report of the sample, as Kraken's, when all is read; gives the number of queries.

    Columns: percent of all bases, bases and queries with those below and (``_here``) without, the rank's
    letter (U unassigned, - no profile, R root, D P C O F G S), and the name, two blanks before it for every
    taxon above.
    """
    root, nothing, without = _tree(results)
    parts = [one.totals() for one in (root, nothing, without)]
    bases, queries = (sum(one[place] for one in parts) for place in (0, 1))
    stream.write("\t".join(REPORT_COLUMNS) + "\n")
    rest = [nothing, without] if without.queries else [nothing]
    for names, taxon in [*(((), one) for one in rest), *(_walk(root, ()) if root.below else ())]:
        below, asked = taxon.totals()
        percent = 100 * below / bases if bases else 0.0
        numbers = (below, taxon.bases, asked, taxon.queries)
        name = "  " * len(names) + as_field(taxon.name)
        stream.write("\t".join([f"{percent:.2f}", *map(str, numbers), taxon.rank[0].upper(), name]) + "\n")
    return queries


def _walk(taxon: _Taxon, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], _Taxon]]:
    """A taxon and all below it with their names from domain down, each followed by those below it."""
    yield names, taxon
    for one in taxon.ordered():
        yield from _walk(one, (*names, one.name))


FIELDS = ("id", "genome", "length", "gc", "vectors")


def write_rows(rows: Iterable[IndexRow], stream: TextIO) -> int:
    """Write a header line and a line an entry, as they come; gives their number.

    Columns: id, genome, length, gc, vectors (whole and pieces), and the metadata; empty for missing.
    """
    count = 0
    for row in rows:
        if not count:
            stream.write("\t".join([*FIELDS, *unique_names(FIELDS, list(row.metadata))]) + "\n")
        fields = [
            as_field(row.id),
            as_field(row.genome),
            as_field(row.length),
            as_share(row.gc),
            str(row.vectors),
            *map(as_field, row.metadata.values()),
        ]
        stream.write("\t".join(fields) + "\n")
        count += 1
    if not count:
        stream.write("\t".join(FIELDS) + "\n")
    return count


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
