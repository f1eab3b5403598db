"""Metadata joined to the points of a space."""

from __future__ import annotations

import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kinmer.index.metadata import KNOWN, stage_metadata
from kinmer.index.unmatched import refuse_entry_as_header, unmatched
from kinmer.space.points import Space, open_space
from kinmer.taxonomy import normal_accession

__all__ = ["space_of", "with_metadata"]

# Ids asked for in one statement.
IDS_AT_ONCE = 500


def space_of(source: Any, *, metadata: str | Path | None = None, **settings: Any) -> Space:
    """The points of a source (`settings` of `open_space`), or the space that it is, with metadata."""
    space = source if isinstance(source, Space) else open_space(source, **settings)
    return space if metadata is None else with_metadata(space, metadata)


def with_metadata(space: Space, path: str | Path) -> Space:
    """The space with the columns of a TSV joined by id; they replace columns of the same name.

    Length, GC and bases are taken from the table only where they are not known from the sequences.

    A column of numbers becomes float64, any other text; None or NaN where nothing is known.

    Raises InputError where no id of the table is among the points, and as `stage_metadata`.
    """
    with tempfile.TemporaryDirectory() as folder:
        # What was counted from the sequences is believed more than a table.
        counted = tuple(name for name in KNOWN if name in space.obs)
        staged = stage_metadata(path, Path(folder) / "metadata.sqlite", known=counted)
        listed = ", ".join(["id", *(f"c{number}" for number in range(len(staged.columns)))])
        found: dict[str, tuple[str | None, ...]] = {}
        connection = sqlite3.connect(staged.database)
        try:
            for start in range(0, len(space), IDS_AT_ONCE):
                ids = [normal_accession(name) for name in space.ids[start : start + IDS_AT_ONCE].tolist()]
                asked = f"SELECT {listed} FROM metadata WHERE id IN ({', '.join('?' * len(ids))})"
                found.update((row[0], row[1:]) for row in connection.execute(asked, ids))
        finally:
            connection.close()
        if not found:
            raise unmatched(staged, space.ids.tolist(), "none of its ids is among the sequences")
        refuse_entry_as_header(staged, set(space.ids.tolist()))
    nothing = (None,) * len(staged.columns)
    rows = [found.get(normal_accession(name), nothing) for name in space.ids]
    table = pd.DataFrame(rows, columns=list(staged.columns), index=space.obs.index, dtype=object)
    obs = space.obs.copy()
    for name in staged.columns:
        obs[name] = _typed(table[name])
    return replace(space, obs=obs)


def _typed(column: pd.Series) -> pd.Series:
    """Numbers where all that is known are numbers."""
    known = column.notna()
    try:
        numbers = column[known].astype(np.float64)
    except (TypeError, ValueError):
        return column
    return numbers.reindex(column.index) if known.any() else column
