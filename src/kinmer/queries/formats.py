"""The formats that results are written in: tables with tabs, JSON, BLAST's, Krona's, a report of a sample.

Memory of the last two grows with the number of taxa, not of sequences.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, TextIO

from kinmer.errors import UsageError
from kinmer.library import IndexRow
from kinmer.queries.results import (
    NO_PROFILE,
    Hit,
    QueryResult,
    Stretch,
    call_columns,
    call_values,
    hit_columns,
    hit_values,
)
from kinmer.tables import MISSING, line, write_table

DISTANCE_DIGITS, SHARE_DIGITS = 6, 4
UNASSIGNED = "unassigned"
ENTRY_COLUMNS = ("id", "genome", "length", "gc", "vectors")
REPORT_COLUMNS = ("percent", "bases", "bases_here", "queries", "queries_here", "rank", "name")

Writer = Callable[[Iterable[QueryResult], TextIO], int]


def write_tsv(
    results: Iterable[QueryResult],
    stream: TextIO,
    *,
    evidence: bool | None = None,
    facets: bool | None = None,
    db: bool = False,
) -> int:
    """Write a header line and a line for every hit, as they come; gives the number of queries.

    Columns: query_id, rank, hit_id, distance, length, gc, genome, start, stop; with `evidence` ani,
    aligned_fraction, homology; with `facets` facet (empty for a hit of all kinds); with `db`, of several
    indexes, db; the metadata, ``hit_`` before a name that is taken. A field is empty where a value is
    missing. A query without a profile has one line, whose hit_id is its verdict (``no profile: …``) and whose
    other columns are empty.

    evidence, facets : whether there are these columns; None: as the first query that has hits has them.
    """
    queries = 0
    own: list[str] = []
    header: list[str] = []
    for result in results:
        queries += 1
        hits = list(result.every_hit())
        if not header and (hits or result.no_profile):
            evidence = any(hit.evidence for _, hit in hits) if evidence is None and hits else bool(evidence)
            facets = bool(result.facets) if facets is None and hits else bool(facets)
            own = hit_columns(evidence, facets, db)
            header = [*own, *unique_names(own, hits[0][1].metadata if hits else result.columns)]
            stream.write(line(header))
        if result.no_profile:
            stream.write(line([result.id, MISSING, result.verdict, *[MISSING] * (len(header) - 3)]))
        for facet, hit in hits:
            if facet is None or facets:
                values = hit_values(result, hit, facet)
                stream.write(_line(own, [*(values[name] for name in own), *hit.metadata.values()]))
    if not header:
        stream.write(line(hit_columns(bool(evidence), bool(facets), db)))
    return queries


def write_calls(
    results: Iterable[QueryResult], stream: TextIO, *, db: bool = False, windows: bool = False
) -> int:
    """Write a header line and a line for every query; gives their number.

    Columns: query_id, length, verdict, rank, name; every rank and its probability (``genus``, ``genus_p``);
    molecule, molecule_p, and the probability of every kind; nearest and nearest_distance; why; ptu and its
    probability; with `db`, of several indexes, db; with `windows`, windows. A field is empty where
    there is none.
    """
    columns = call_columns(db, windows)
    stream.write(line(columns))
    queries = 0
    for result in results:
        stream.write(_line(columns, call_values(result)))
        queries += 1
    return queries


def _line(columns: Sequence[str], values: Iterable[Any]) -> str:
    """A line whose distances and shares have as many digits as are known."""
    fields = list(values)
    for at, name in enumerate(columns):
        if fields[at] is not None and (digits := _digits(name)):
            fields[at] = f"{fields[at]:.{digits}f}"
    return line(fields, digits=None)


def _digits(column: str) -> int:
    if column in ("distance", "nearest_distance"):
        return DISTANCE_DIGITS
    return SHARE_DIGITS if column in ("gc", "ani", "aligned_fraction") or column.endswith("_p") else 0


def unique_names(own: Sequence[str], others: Iterable[str]) -> list[str]:
    """Names of columns `others` to stand behind `own`: one that is taken there gets ``hit_`` in front."""
    others = list(others)
    taken, wanted = {name.lower() for name in own}, {name.lower() for name in others}
    result = []
    for name in others:
        free = name
        while free.lower() in taken or (free != name and free.lower() in wanted):
            free = f"hit_{free}"
        taken.add(free.lower())
        result.append(free)
    return result


def write_blast(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write the twelve columns of BLAST's ``-outfmt 6``, a line a hit; gives the number of queries.

    With evidence the third is 100 · ANI, the fourth the letters that align, the fifth the mismatches that
    these two make. Without it nothing was aligned, and all three are 0, however alike the composition is: a
    text such as ``nan`` would pass ``$3 >= 95`` in awk. Gaps and the score, which nobody measured, are 0, and
    the E-value is ``nan``, which passes no threshold. The positions are what was compared, the whole query
    and the nearest piece of the hit, from 1. A query without a profile has a line whose hit is called
    ``no_profile:_…``, with 0 in these columns.
    """
    queries = 0
    for result in results:
        queries += 1
        length = result.length or 0
        if result.no_profile:
            names = [_joined(result.id), _joined(result.verdict)]
            stream.write(line([*names, "0.000", 0, 0, 0, min(1, length), length, 0, 0, "nan", 0]))
        for hit in result.hits:
            stream.write(line(_blast_values(result, hit)))
    return queries


def _blast_values(result: QueryResult, hit: Hit) -> list[Any]:
    proof, length = hit.evidence, result.length or 0
    ani, share = (0.0, 0.0) if proof is None or proof.ani is None else (proof.ani, proof.aligned_fraction)
    aligned = round(share * length)
    start, stop = (0, hit.length or 0) if hit.start is None or hit.stop is None else (hit.start, hit.stop)
    names = [_joined(result.id) or ".", _joined(hit.name or hit.id) or "."]
    similar = [f"{100 * ani:.3f}", aligned, round((1 - ani) * aligned)]
    return [*names, *similar, 0, min(1, length), length, min(start + 1, stop), stop, "nan", 0]


def _joined(name: str) -> str:
    # A blank in a name would be read as the next column by tools that split at any blank.
    return "_".join(name.split())


def write_json(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write a JSON array with an object a query on a line of its own, as they come; gives their number."""
    queries = 0
    for result in results:
        stream.write(",\n" if queries else "[\n")
        stream.write(_object(result))
        queries += 1
    stream.write("\n]\n" if queries else "[]\n")
    return queries


def write_jsonl(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write JSON Lines, an object a query, as they come; gives their number."""
    queries = 0
    for result in results:
        stream.write(_object(result) + "\n")
        queries += 1
    return queries


def _object(result: QueryResult) -> str:
    molecule = result.molecule
    values = {
        "query_id": result.id,
        "length": result.length,
        "bases": result.bases,
        "verdict": result.verdict,
        "rank": result.rank,
        "name": result.name,
        "why": result.why or None,
        **({} if result.db is None else {"db": result.db or None}),
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
        "ptu": None
        if result.ptu is None
        else {"name": result.ptu.name, "probability": _share(result.ptu.probability)},
        **({} if result.windows is None else {"windows": list(map(_stretch_object, result.windows))}),
        "hits": [_hit_object(hit) for hit in result.hits],
        "facets": {name: [_hit_object(hit) for hit in hits] for name, hits in result.facets.items()},
    }
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def _stretch_object(one: Stretch) -> dict[str, Any]:
    place = {"start": one.start, "stop": one.stop}
    return {**place, "molecule": one.molecule, "probability": _share(one.probability)}


def _hit_object(hit: Hit) -> dict[str, Any]:
    proof = hit.evidence
    aligned = (
        None
        if proof is None
        else {
            "ani": _share(proof.ani),
            "aligned_fraction": _share(proof.aligned_fraction),
            "homology": proof.kind,
        }
    )
    return {
        "rank": hit.rank,
        "hit_id": hit.id,
        "distance": round(hit.distance, DISTANCE_DIGITS),
        "length": hit.length,
        "gc": _share(hit.gc),
        "genome": hit.genome,
        "start": hit.start,
        "stop": hit.stop,
        "evidence": aligned,
        **({} if hit.db is None else {"db": hit.db}),
        "metadata": hit.metadata,
    }


def _share(value: float | None) -> float | None:
    return None if value is None else round(value, SHARE_DIGITS)


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
        return self.bases + sum(bases for bases, _ in rest), self.queries + sum(count for _, count in rest)

    def walk(self, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], _Taxon]]:
        """This taxon and all below it with the names above them, those with the most bases first."""
        yield above, self
        for taxon in sorted(
            self.below.values(), key=lambda taxon: (*(-part for part in taxon.totals()), taxon.name)
        ):
            yield from taxon.walk((*above, taxon.name))


def _tree(results: Iterable[QueryResult]) -> tuple[_Taxon, _Taxon, _Taxon]:
    """The tree of all that was assigned, what was not, and what has no profile.

    A sequence whose length is unknown counts no bases.
    """
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

    A line a taxon that queries were assigned to: their bases, then the names from domain to species. A rank
    without a name is left out. Queries without a lineage are called ``unassigned``, those that have nothing
    to compare ``no profile``.
    """
    root, nothing, without = _tree(results)
    for names, taxon in [*root.walk(), ((UNASSIGNED,), nothing), ((NO_PROFILE,), without)]:
        if taxon.queries:
            stream.write(line([taxon.bases, *names]))
    return root.totals()[1] + nothing.queries + without.queries


def write_lineage(results: Iterable[QueryResult], stream: TextIO) -> int:
    """Write a report of the sample, as Kraken's, when all is read; gives the number of queries.

    Columns: percent of all bases, bases and queries with those below and (``_here``) without, the rank's
    letter (U unassigned, - no profile, R root, D P C O F G S), and the name, two blanks before it for every
    taxon above.
    """
    root, nothing, without = _tree(results)
    totals = [taxon.totals() for taxon in (root, nothing, without)]
    bases, queries = (sum(part[at] for part in totals) for at in (0, 1))
    rest = [nothing, without] if without.queries else [nothing]

    def rows() -> Iterator[list[Any]]:
        for names, taxon in [*(((), taxon) for taxon in rest), *(root.walk() if root.below else ())]:
            below, asked = taxon.totals()
            percent = f"{100 * below / bases if bases else 0.0:.2f}"
            name = "  " * len(names) + taxon.name
            yield [percent, below, taxon.bases, asked, taxon.queries, taxon.rank[0].upper(), name]

    write_table(stream, REPORT_COLUMNS, rows())
    return queries


def write_rows(rows: Iterable[IndexRow], stream: TextIO) -> int:
    """Write the entries of an index: a header line and a line each, as they come; gives their number.

    Columns: id, genome, length, gc, vectors (whole and pieces), and the metadata; empty for missing.
    """
    entries = iter(rows)
    first = next(entries, None)
    if first is None:
        return write_table(stream, ENTRY_COLUMNS, ())

    def values(row: IndexRow) -> list[Any]:
        gc = None if row.gc is None else f"{row.gc:.{SHARE_DIGITS}f}"
        return [row.id, row.genome, row.length, gc, row.vectors, *row.metadata.values()]

    header = [*ENTRY_COLUMNS, *unique_names(ENTRY_COLUMNS, first.metadata)]
    return write_table(stream, header, map(values, chain([first], entries)), digits=None)


WRITERS: dict[str, Writer] = {
    "tsv": write_tsv,
    "json": write_json,
    "jsonl": write_jsonl,
    "blast": write_blast,
    "calls": write_calls,
    "krona": write_krona,
    "lineage": write_lineage,
}


def writer_of(
    form: str, *, evidence: bool = False, facets: bool = False, db: bool = False, windows: bool = False
) -> Writer:
    """The function that writes results in this format; it gives the number of queries.

    evidence, facets : whether the table of hits has their columns, whatever the first query has. db : the
    results are of several indexes, and tables say which. windows : were asked for.

    Raises UsageError for an unknown format.
    """
    if form not in WRITERS:
        raise UsageError(f"unknown format {form!r}", check=f"known are {', '.join(WRITERS)}")
    if form == "tsv":
        return partial(write_tsv, evidence=evidence, facets=facets, db=db)
    if form == "calls":
        return partial(write_calls, db=db, windows=windows)
    return WRITERS[form]
