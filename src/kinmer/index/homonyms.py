"""Taxa that an index's metadata put below two others, such as a species of two genera."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from kinmer.index.entries import EntryTable
from kinmer.index.schema import quoted
from kinmer.taxonomy import RANKS, rank_columns, taxon

__all__ = ["Homonym", "homonyms", "report_homonyms"]


class Homonym(NamedTuple):
    """A name at `rank`, and the first two names at the rank `above` that it stands below."""

    rank: str
    name: str
    above: str
    first: str
    second: str


def homonyms(table: EntryTable) -> Iterator[Homonym]:
    """Every name that stands below two names of the next rank that the index has a column for, once.

    Memory grows with the number of taxa, not of entries.
    """
    columns = rank_columns(table.columns)
    if len(columns) < 2:
        return
    listed = ", ".join(quoted(name) for name in columns.values())
    parents: dict[tuple[str, str], str] = {}
    reported = set[tuple[str, str]]()
    with table.told():
        for line in table.connection.execute(f"SELECT DISTINCT {listed} FROM entries ORDER BY {listed}"):
            names = [(rank, taxon(rank, value)) for rank, value in zip(columns, line, strict=True)]
            for (above, parent), (rank, name) in pairwise(names):
                if parent is None or name is None or (rank, name) in reported:
                    continue
                first = parents.setdefault((rank, name), parent)
                if first != parent:
                    reported.add((rank, name))
                    yield Homonym(rank, name, above, first, parent)


def report_homonyms(table: EntryTable, log: Callable[[str], None]) -> None:
    """Tell `log` how many homonyms there are, the deepest of them as an example."""
    found = list(homonyms(table))
    if not found:
        return
    one = max(found, key=lambda each: RANKS.index(each.rank))
    more = f", and {len(found) - 1:,} more such names" if len(found) > 1 else ""
    log(
        f"warning: the {one.rank} {one.name!r} stands in two {_plural(one.above)}, {one.first!r} and"
        f" {one.second!r}{more} · a query gets the one that more of its nearest genomes have · correct the"
        " metadata, then kinmer db update --metadata"
    )


def _plural(rank: str) -> str:
    irregular = {"phylum": "phyla", "class": "classes", "family": "families", "genus": "genera"}
    return irregular.get(rank, f"{rank}s")
