"""Metadata joined to the points of a space."""

from __future__ import annotations

import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kinmer.errors import InputError
from kinmer.index.metadata import stage_metadata
from kinmer.space.points import Space

__all__ = ["with_metadata"]

# Ids asked for in one statement.
IDS_AT_ONCE = 500


def with_metadata(space: Space, path: str | Path) -> Space:
    """The space with the columns of a TSV joined by id; they replace columns of the same name.

    A column of numbers becomes float64, any other text; None or NaN where nothing is known.

    Raises InputError where no id of the table is among the points, and as `stage_metadata`.
    """
    with tempfile.TemporaryDirectory() as folder:
        staged = stage_metadata(path, Path(folder) / "metadata.sqlite")
        listed = ", ".join(["id", *(f"c{number}" for number in range(len(staged.columns)))])
        found: dict[str, tuple[str | None, ...]] = {}
        connection = sqlite3.connect(staged.database)
        try:
            for start in range(0, len(space), IDS_AT_ONCE):
                ids = space.ids[start : start + IDS_AT_ONCE].tolist()
                asked = f"SELECT {listed} FROM metadata WHERE id IN ({', '.join('?' * len(ids))})"
                found.update((row[0], row[1:]) for row in connection.execute(asked, ids))
        finally:
            connection.close()
    if not found:
        raise InputError(
            "none of its ids is among the sequences", check="is it the table of these?", place=path
        )
    nothing = (None,) * len(staged.columns)
    rows = [found.get(name, nothing) for name in space.ids]
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
