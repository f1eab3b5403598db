"""A map's picture and page, and what they are coloured by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kinmer.errors import UsageError
from kinmer.maps.base import MapResult
from kinmer.vectors import Space, with_metadata

__all__ = ["SHOWN_BY", "beside", "check_color", "draw", "known_more"]

# Columns that colour a map where none is named, the first that is there.
SHOWN_BY = ("placed", "gc", "length")
PLACED = ("on the map", "placed")


def check_color(obs: pd.DataFrame, color: str | None) -> str:
    """The column to colour by, empty where nothing is known; UsageError where there is none called so."""
    if color is None:
        return next((name for name in SHOWN_BY if name in obs), "")
    if color not in obs:
        listed = ", ".join(str(name) for name in obs.columns) or "no column at all"
        raise UsageError(f"there is no column {color!r} to colour by", check=f"there is {listed}")
    return color


def draw(
    result: MapResult,
    stem: str | Path,
    *,
    color: str | None = None,
    title: str = "",
    picture: bool = True,
    page: bool = True,
) -> list[Path]:
    """Write the picture (``STEM.png`` and ``.svg``) and the page (``STEM.html``); gives their paths.

    color : a column of ``obs``; None: ``gc``, else ``length``, where they are known.

    Raises UsageError where there is no such column.
    """
    from kinmer.maps.paging import write_page
    from kinmer.maps.picturing import write_picture

    shown = check_color(result.obs, color)
    written: list[Path] = []
    if picture:
        values = result.obs[shown].to_numpy() if shown else None
        written += write_picture(stem, result.coordinates, values, title=title, label=shown)
    if page:
        columns = {str(name): result.obs[name].to_numpy() for name in result.obs.columns}
        path = Path(f"{stem}.html")
        written.append(
            write_page(path, result.ids, result.coordinates, columns, color=shown, title=title or "Map")
        )
    return written


def known_more(result: MapResult, metadata: str | Path) -> MapResult:
    """The map with the columns of a TSV joined by id, as `kinmer.vectors.with_metadata`."""
    points = result.coordinates
    bare = Space(
        ids=result.ids,
        obs=result.obs,
        dim=2,
        metric="l2",
        vectors=result.key,
        place=str(result.source.get("place", "map")),
        encoder={},
        profiles=None,
        index=None,
        array=points,
        _read=lambda start, stop: points[start:stop],
    )
    return replace(result, obs=with_metadata(bare, metadata).obs)


def beside(known: MapResult, placed: MapResult) -> MapResult:
    """Both maps in one, for a picture: a column ``placed`` tells them apart, the placed ones lie on top."""
    obs = pd.concat([known.obs, placed.obs])
    obs["placed"] = np.repeat(np.array(PLACED, object), [len(known), len(placed)])
    return replace(
        placed,
        ids=np.concatenate([known.ids, placed.ids]),
        coordinates=np.concatenate([known.coordinates, placed.coordinates]),
        obs=obs,
    )
