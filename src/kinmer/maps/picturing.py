"""The map as a picture, by a number, by names, or plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from kinmer.taxonomy import known_rows

__all__ = ["is_number", "write_picture"]


def write_picture(
    stem: str | Path,
    coordinates: NDArray[np.floating[Any]],
    values: ArrayLike | None,
    *,
    title: str = "",
    label: str = "",
) -> list[Path]:
    """Write ``STEM.png`` and ``.svg`` of points (n, 2), coloured by values (n,) where there are any."""
    from kinmer import plots
    from kinmer.plots.maps import map_by_category, map_by_number, map_plain

    where = np.asarray(coordinates, np.float64)
    if values is None:
        return plots.save(map_plain(where, title=title), stem)
    if np.asarray(values).dtype.kind in "iuf" and label != "cluster":
        numbers = np.asarray(values, np.float64)
        return plots.save(map_by_number(where, numbers, title=title, label=label), stem)
    given = pd.Series(np.asarray(values, dtype=object))
    given = given.where(known_rows(label, given), None)
    if is_number(given, label):
        numbers = pd.to_numeric(given, errors="coerce").to_numpy(np.float64)
        return plots.save(map_by_number(where, numbers, title=title, label=label), stem)
    return plots.save(map_by_category(where, given.to_numpy(), title=title, label=label), stem)


def is_number(values: pd.Series, name: str = "") -> bool:
    """Whether all that is known of a column are numbers; a cluster's number is a name."""
    if name == "cluster":
        return False
    told = values[values.notna()]
    if not len(told) or told.map(lambda one: isinstance(one, str | bool)).any():
        return False
    return bool(pd.to_numeric(told, errors="coerce").notna().all())
