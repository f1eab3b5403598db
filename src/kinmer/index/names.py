"""Names of entries. An entry is known by its genome and its id: contigs of two genomes may have one id.

Where an id is of one entry it is that entry's name; else the name is ``genome:id``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError
from kinmer.index.schema import parts_of

if TYPE_CHECKING:
    from kinmer.index.entries import Entry, EntryTable

__all__ = ["SEPARATOR", "Holder", "ambiguous", "holders_of", "names_of", "numbers_of", "resolved"]

# As SemiBin writes sample and contig.
SEPARATOR = ":"
# A name is taken apart at so many separators at most, and so many genomes are listed in a message.
MOST_SPLITS, MOST_LISTED = 32, 5


class Holder(NamedTuple):
    """An entry that has an id: its number, its genome's name, the path of the file that it is from."""

    number: int
    id: str
    genome: str
    path: str | None


def holders_of(table: EntryTable, ids: Iterable[str]) -> dict[str, list[Holder]]:
    """By id the entries that have it, by number; ids of no entry are left out."""
    found: dict[str, list[Holder]] = {}
    with table.told():
        for part in parts_of(list(dict.fromkeys(ids))):
            sql = (
                "SELECT e._entry, e.id, g.name, f.path FROM entries AS e JOIN genomes AS g "
                "ON g.genome = e._genome LEFT JOIN files AS f ON f.file = e._file "
                f"WHERE e.id IN ({','.join('?' * len(part))}) ORDER BY e._entry"
            )
            for line in table.connection.execute(sql, part):
                found.setdefault(line[1], []).append(Holder(*line))
    return found


def numbers_of(
    table: EntryTable, names: Sequence[str], *, genomes: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Numbers (n,) of entries by name (``id``, or ``genome:id``), -1 for those that are no entry.

    genomes : only entries of these genomes, by their ids.

    Raises InputError for a name that several entries go by.
    """
    found = resolved(table, names) if genomes is None else holders_of(table, names)
    numbers = np.full(len(names), -1, dtype=np.int64)
    for at, name in enumerate(names):
        held = [one for one in found.get(name, ()) if genomes is None or one.genome in genomes]
        if len(held) > 1:
            raise ambiguous(table, name, held)
        if held:
            numbers[at] = held[0].number
    return numbers


def resolved(table: EntryTable, names: Sequence[str]) -> dict[str, list[Holder]]:
    """By name all entries that it may mean: those of that id, and ``genome:id`` taken apart."""
    found = holders_of(table, names)
    parts = {name: _splits(name) for name in dict.fromkeys(names) if SEPARATOR in name}
    if not parts:
        return found
    held = holders_of(table, (one for splits in parts.values() for _, one in splits))
    for name, splits in parts.items():
        known = {one.number for one in found.get(name, ())}
        more = [
            one
            for genome, part in splits
            for one in held.get(part, ())
            if one.genome == genome and one.number not in known
        ]
        if more:
            found.setdefault(name, []).extend(more)
    return found


def _splits(name: str) -> list[tuple[str, str]]:
    """Genome and id for every separator that a name may be taken apart at."""
    found, at = list[tuple[str, str]](), name.find(SEPARATOR)
    while at >= 0 and len(found) < MOST_SPLITS:
        found.append((name[:at], name[at + 1 :]))
        at = name.find(SEPARATOR, at + 1)
    return found


def names_of(table: EntryTable, entries: Iterable[Entry]) -> dict[int, str]:
    """By number the name of each entry: its id, or ``genome:id`` where other entries have that id too."""
    given = list(entries)
    if not table.state.get("equal_ids"):
        return {one.number: one.id for one in given}
    equal = set[str]()
    with table.told():
        for part in parts_of(list({one.id for one in given})):
            sql = f"SELECT id FROM entries WHERE id IN ({','.join('?' * len(part))}) GROUP BY id"
            equal.update(one for (one,) in table.connection.execute(f"{sql} HAVING COUNT(*) > 1", part))
    shared = [one for one in given if one.id in equal]
    genomes = table.genomes(np.array([one.genome for one in shared], dtype=np.int64)) if shared else {}
    names = {one.number: f"{genomes[one.genome].name}{SEPARATOR}{one.id}" for one in shared}
    # With separators within genomes and ids a name may be that of several: then the number tells them apart.
    meant = resolved(table, list(names.values()))
    names = {at: name if len(meant[name]) < 2 else f"{name}#{at}" for at, name in names.items()}
    return {one.number: names.get(one.number, one.id) for one in given}


def ambiguous(table: EntryTable, name: str, held: Sequence[Holder]) -> InputError:
    """What to raise for a name that several entries go by."""
    listed = ", ".join(repr(one.genome) for one in held[:MOST_LISTED])
    more = f" and {len(held) - MOST_LISTED:,} more" if len(held) > MOST_LISTED else ""
    return InputError(
        f"{name!r} is in {len(held):,} genomes: {listed}{more}",
        "it does not say which entry is meant",
        f"say {held[0].genome + SEPARATOR + held[0].id!r}, or give its genome and its id",
        place=table.path.parent,
    )
