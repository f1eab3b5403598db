"""What a sample holds, by the lineages that its sequences were assigned: text for Krona, and a report.

Memory grows with the number of taxa, not of sequences. A sequence whose length is unknown counts no bases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

from kinmer.queries.fields import as_field
from kinmer.queries.results import NO_PROFILE, QueryResult

__all__ = ["UNASSIGNED", "write_krona", "write_lineage"]

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
        taxon.bases += result.length or 0
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
