"""The ranks of a lineage."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["RANKS", "rank_columns"]

RANKS = ("domain", "phylum", "class", "order", "family", "genus", "species")


def rank_columns(columns: Sequence[str]) -> dict[str, str]:
    """Which of these metadata columns hold which rank, from domain down; upper and lower case alike."""
    by_name = {name.lower(): name for name in columns}
    return {rank: by_name[rank] for rank in RANKS if rank in by_name}
