"""Which entries the sequences of a source replace: those of their own genome, never another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kinmer.errors import InputError
from kinmer.index.entries import EntryTable
from kinmer.index.names import Holder, ambiguous, holders_of
from kinmer.index.writing import NewSequence

__all__ = ["Homes", "Replace"]

# What an update replaces: what came from the same source, or entries of the same ids wherever they came from.
Replace = Literal["own", "id"]


@dataclass(frozen=True)
class Homes:
    """The genomes that the sequences of one source have in an index.

    paths : what the index may call the source; none for what lies in memory. given : the genome was said, so
    that its sequences are of no other. by : what is replaced. home : the genome of what is new, where nothing
    else tells it.
    """

    table: EntryTable
    paths: frozenset[str]
    given: bool
    by: Replace
    home: str | None = None

    def settle(self, sequences: Sequence[NewSequence]) -> tuple[list[NewSequence], list[int]]:
        """The sequences with the genomes that they have here, and the numbers of entries that they replace.

        Raises InputError where it cannot be told which entry a sequence replaces.
        """
        held = holders_of(self.table, (one.id for one in sequences))
        settled, gone = list[NewSequence](), list[int]()
        for one in sequences:
            old = self._old(one, held.get(one.id, []))
            untold = one.genome == one.id and not self.given
            genome = self.home if old is None else old.genome
            settled.append(replace(one, genome=genome) if genome is not None and untold else one)
            gone += [] if old is None else [old.number]
        return settled, gone

    def _old(self, sequence: NewSequence, held: Sequence[Holder]) -> Holder | None:
        """The entry that a sequence replaces; None where it is new."""
        same = next((one for one in held if one.genome == sequence.genome), None)
        if self.given:
            return same
        told = sequence.genome != sequence.id
        if told and same is not None:
            return same
        own = [one for one in held if self.by == "id" or one.path in self.paths]
        if len(own) > 1:
            raise ambiguous(self.table, sequence.id, own)
        if own:
            return own[0]
        if held and not told and self.home is None:
            raise InputError(
                f"the id {sequence.id!r} is in the index already, from {held[0].path or 'another source'}",
                "an update replaces what came from the same file",
                "say whose it is with --genome, or replace entries of any file with --by-id",
                place=next(iter(self.paths), None),
            )
        return None
