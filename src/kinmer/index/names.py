"""Names of entries. An entry is known by its genome and its id: contigs of two genomes may have one id.

Where an id is of one entry it is that entry's name, else the name is ``genome:id``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError
from kinmer.index.manifest import Entry, Holder
from kinmer.index.rows import Rows
from kinmer.index.table import EntryTable
from kinmer.stores import Metric, distances_to

if TYPE_CHECKING:
    import pandas as pd

# Entries that are named together.
BLOCK = 1 << 14
# As SemiBin writes sample and contig.
SEPARATOR = ":"
# A name is taken apart at so many separators at most, and so many genomes are listed in a message.
MOST_SPLITS, MOST_LISTED = 32, 5


def numbers_of(
    table: EntryTable, names: Sequence[str], *, genomes: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Numbers (n,) of entries by name (``id``, or ``genome:id``), -1 for those that are no entry.

    genomes : only entries of these genomes, by their ids.

    Raises InputError for a name that several entries go by.
    """
    holders = _resolved(table, names) if genomes is None else table.holders(names)
    numbers = np.full(len(names), -1, dtype=np.int64)
    for at, name in enumerate(names):
        held = [one for one in holders.get(name, ()) if genomes is None or one.genome in genomes]
        if len(held) > 1:
            raise ambiguous(table, name, held)
        if held:
            numbers[at] = held[0].number
    return numbers


def names_of(table: EntryTable, entries: Iterable[Entry]) -> dict[int, str]:
    """By number the name of each entry: its id, or ``genome:id`` where other entries have that id too."""
    given = list(entries)
    if not table.state.get("equal_ids"):
        return {entry.number: entry.id for entry in given}
    equal = table.shared_ids(entry.id for entry in given)
    shared = [entry for entry in given if entry.id in equal]
    genomes = table.genomes(np.array([entry.genome for entry in shared], dtype=np.int64))
    names = {entry.number: f"{genomes[entry.genome].name}{SEPARATOR}{entry.id}" for entry in shared}
    # With separators within genomes and ids a name may be that of several: the number is added.
    meant = _resolved(table, list(names.values()))
    names = {at: name if len(meant[name]) < 2 else f"{name}#{at}" for at, name in names.items()}
    return {entry.number: names.get(entry.number, entry.id) for entry in given}


def frame_of(table: EntryTable) -> pd.DataFrame:
    """A row an entry, by number: length, gc and the metadata; the index are names."""
    import pandas as pd

    titles = ("length", "gc", *table.columns)
    names: list[str] = []
    columns: list[list[Any]] = [[] for _ in titles]
    entries = table.scan()
    # Block after block: entries take several times the memory of their columns.
    while block := list(islice(entries, BLOCK)):
        names += names_of(table, block).values()
        lines = zip(*((entry.length, entry.gc, *entry.values) for entry in block), strict=True)
        for column, values in zip(columns, lines, strict=True):
            column += values
    index = pd.Index(np.array(names, dtype=object))
    return pd.DataFrame(dict(zip(titles, columns, strict=True)), index=index)


def ambiguous(table: EntryTable, name: str, held: Sequence[Holder]) -> InputError:
    """What to raise for a name that several entries go by."""
    listed = ", ".join(repr(holder.genome) for holder in held[:MOST_LISTED])
    more = f" and {len(held) - MOST_LISTED:,} more" if len(held) > MOST_LISTED else ""
    return InputError(
        f"{name!r} is in {len(held):,} genomes: {listed}{more}",
        "it does not say which entry is meant",
        f"say {held[0].genome + SEPARATOR + held[0].id!r}, or give its genome and its id",
        place=table.path.parent,
    )


def selves_of(
    table: EntryTable, rows: Rows, ids: Sequence[str], vectors: NDArray[np.float32], metric: Metric
) -> NDArray[np.int64]:
    """See `kinmer.index.Storage.selves`."""
    holders = table.holders(ids)
    result = np.full(len(ids), -1, dtype=np.int64)
    for row, name in enumerate(ids):
        numbers = [holder.number for holder in holders.get(name, ())]
        if len(numbers) > 1:
            entries = table.fetch(np.array(numbers))
            near = np.asarray(rows.vectors[[entries[number].first for number in numbers]])
            distances = distances_to(vectors[row : row + 1], near[None], metric)[0]
            numbers = [numbers[int(np.argmin(distances))]]
        result[row] = numbers[0] if numbers else -1
    return result


def _resolved(table: EntryTable, names: Sequence[str]) -> dict[str, list[Holder]]:
    """By name all entries that it may mean: those of that id, and ``genome:id`` taken apart."""
    holders = table.holders(names)
    splits = {name: _splits(name) for name in names if SEPARATOR in name}
    if splits:
        parts = table.holders(part for pairs in splits.values() for _, part in pairs)
        for name, pairs in splits.items():
            known = {holder.number for holder in holders.get(name, ())}
            more = [
                holder
                for genome, part in pairs
                for holder in parts.get(part, ())
                if holder.genome == genome and holder.number not in known
            ]
            if more:
                holders.setdefault(name, []).extend(more)
    return holders


def _splits(name: str) -> list[tuple[str, str]]:
    """Genome and id for every separator that a name may be taken apart at."""
    parts = name.split(SEPARATOR)
    cuts = range(1, min(len(parts), MOST_SPLITS + 1))
    return [(SEPARATOR.join(parts[:at]), SEPARATOR.join(parts[at:])) for at in cuts]
