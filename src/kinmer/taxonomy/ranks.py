"""The ranks of a lineage."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["RANKS", "rank_columns", "rank_of"]

RANKS = ("domain", "phylum", "class", "order", "family", "genus", "species")
# Other names of columns of a rank, which count where there is none of its own. Neither kingdom nor realm is a
# domain: NCBI's table has all three, and they hold other names.
SYNONYMS = {"superkingdom": "domain", "division": "phylum"}


def rank_of(column: str) -> str | None:
    """The rank that a metadata column of this name holds, upper and lower case alike; None for none."""
    name = column.strip().lower()
    return name if name in RANKS else SYNONYMS.get(name)


def rank_columns(columns: Sequence[str]) -> dict[str, str]:
    """Which of these metadata columns hold which rank, from domain down."""
    by_name = {SYNONYMS[name.lower()]: name for name in columns if name.lower() in SYNONYMS}
    by_name |= {name.lower(): name for name in columns}
    return {rank: by_name[rank] for rank in RANKS if rank in by_name}
