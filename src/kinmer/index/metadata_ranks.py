"""The ranks of a line of metadata that stand in it as a lineage or behind a taxid."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from kinmer.errors import InputError
from kinmer.taxonomy import RANKS, Lineage, Taxdump, is_lineage, parse_lineage, rank_columns

__all__ = ["LINEAGE_NAMES", "TAXID_NAMES", "Ranks", "ranks_of", "taxid_column", "taxid_of"]

# The first of these that holds lineages is taken.
LINEAGE_NAMES = ("gtdb_taxonomy", "gtdb_classification", "classification", "taxonomy", "lineage")
TAXID_NAMES = ("taxid", "tax_id", "ncbi_taxid", "taxonomy_id", "organism taxonomic id")
_NONE: Lineage = (None,) * len(RANKS)
# What GTDB-Tk writes of a genome that it placed nowhere, such as "Unclassified Bacteria".
_UNCLASSIFIED = re.compile(r"unclassified.*", re.IGNORECASE)
# Tables made by way of floating-point columns have a point in whole numbers.
_TAXID = re.compile(r"(\d+)(?:\.0)?", re.ASCII)

Row = Sequence[str | None]


class Ranks(ABC):
    """Gives the ranks of lines that a table has no column for: ``missing``, at these places of RANKS."""

    def __init__(self, names: Sequence[str]) -> None:
        there = rank_columns(names)
        self.places = [at for at, rank in enumerate(RANKS) if rank not in there]
        self.missing = tuple(RANKS[at] for at in self.places)

    def of(self, row: Row, place: str) -> list[str | None]:
        """Names at the missing ranks in a line, which stands at `place`."""
        lineage = self.lineage(row, place) if self.places else _NONE
        return [lineage[at] for at in self.places]

    @abstractmethod
    def lineage(self, row: Row, place: str) -> Lineage:
        """Names at all ranks in a line."""

    def found(self) -> tuple[str, ...]:
        """The missing ranks, if the lines so far had any to tell."""
        return self.missing


def ranks_of(names: Sequence[str], key: int, taxdump: Path | None, path: Path) -> Ranks:
    """What gives the ranks of a table with these columns, the id at `key`.

    With a taxdump its taxids do, in a column called taxid, tax_id, ncbi_taxid or taxonomy_id. Without, the
    first column does that is called gtdb_taxonomy, gtdb_classification, classification, taxonomy or lineage
    and holds lineages in GTDB's form; other texts in such columns are texts.

    Raises InputError for a taxdump where there is no column of taxids, and as `Taxdump`.
    """
    if taxdump is None:
        return _Lineages(names, key)
    column = taxid_column(names)
    if column is None:
        raise InputError(
            "the metadata have no column of taxids",
            "the taxdump would be of no use",
            f"it may be called {', '.join(TAXID_NAMES[:-1])}",
            place=path,
        )
    return _Taxids(names, column, Taxdump(taxdump))


def taxid_column(names: Sequence[str]) -> int | None:
    """Which column holds NCBI's taxids; None for none."""
    lower = [name.lower() for name in names]
    return next((lower.index(name) for name in TAXID_NAMES if name in lower), None)


def taxid_of(text: str, place: str | None) -> int:
    """A taxid as tables have it; InputError where it is none."""
    found = _TAXID.fullmatch(text)
    if found is None or len(found[1]) > 18:
        raise InputError(f"{text[:80]!r} is no taxid", "NCBI's are whole numbers", place=place)
    return int(found[1])


class _Taxids(Ranks):
    def __init__(self, names: Sequence[str], column: int, taxdump: Taxdump) -> None:
        super().__init__(names)
        self._column, self._taxdump = column, taxdump

    def lineage(self, row: Row, place: str) -> Lineage:
        text = row[self._column]
        return _NONE if text is None else self._taxdump.lineage(taxid_of(text, place), place=place)


class _Lineages(Ranks):
    """Which column it is shows the first lineage that is met."""

    def __init__(self, names: Sequence[str], key: int) -> None:
        super().__init__(names)
        lower = [name.lower() for name in names]
        places = [lower.index(name) for name in LINEAGE_NAMES if name in lower]
        self._candidates = [at for at in places if at != key]
        self._column: int | None = None
        self._odd: dict[int, tuple[str, str]] = {}
        self._parsed = lru_cache(1 << 14)(parse_lineage)

    def found(self) -> tuple[str, ...]:
        return () if self._column is None else self.missing

    def lineage(self, row: Row, place: str) -> Lineage:
        if self._column is None:
            self._decide(row, place)
            if self._column is None:
                return _NONE
        text = row[self._column]
        if text is None or _UNCLASSIFIED.fullmatch(text):
            return _NONE
        try:
            return self._parsed(text)
        except InputError as error:
            raise InputError(error.what, error.why, error.check, place=place) from None

    def _decide(self, row: Row, place: str) -> None:
        for at in self._candidates:
            text = row[at]
            if text is None:
                continue
            if is_lineage(text):
                if at in self._odd:
                    odd, where = self._odd[at]
                    raise InputError(
                        f"{odd[:80]!r} is no lineage", f"others of its column are, as in {place}", place=where
                    )
                self._column = at
                return
            if not _UNCLASSIFIED.fullmatch(text):
                self._odd.setdefault(at, (text, place))
