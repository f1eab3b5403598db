"""A map's picture, and its page: one HTML file that opens from disk."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from kinmer.errors import UsageError
from kinmer.files import write_bytes
from kinmer.maps.mapfiles import MapResult
from kinmer.taxonomy import known_rows
from kinmer.vectors import Space, with_metadata

__all__ = [
    "SHOWN_BY",
    "beside",
    "check_color",
    "draw",
    "is_number",
    "known_more",
    "write_page",
    "write_picture",
]


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
    from kinmer.plots.scatter import map_by_category, map_by_number, map_plain

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


FOLDER = Path(__file__).parent / "page"
# More names than this are told of no point, more than COLOURS of no colour of their own.
MOST_NAMES = 65_535
UNTOLD = "–"
OTHERS = "#b9c0c7"
# Okabe and Ito's colours and darker and lighter ones between.
COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#f0e442",
    "#004d7a",
    "#8f6200",
    "#00573f",
    "#8a3c00",
    "#7f3f65",
)
# Viridis at nine steps.
SCALE = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")


def write_page(
    path: str | Path,
    ids: ArrayLike,
    coordinates: NDArray[np.floating[Any]],
    columns: Mapping[str, ArrayLike],
    *,
    color: str = "",
    title: str = "Map",
) -> Path:
    """Write the page; it needs no network.

    ids (n,); coordinates (n, 2), kept to 1/65,535 of the map's extent; columns : name -> (n,) numbers or
    texts, which are shown of a point and may colour it; a column of texts with more than 65,535 names is left
    out. color : the column that colours at first, empty for none.
    """
    names = np.asarray(ids, dtype=object).astype(str)
    where = np.asarray(coordinates, np.float64)
    parts = {"ids": _packed("\n".join(" ".join(one.split()) for one in names).encode())}
    for axis, places in zip("xy", _places(where), strict=True):
        parts[axis] = _packed(places.tobytes())
    told: list[dict[str, Any]] = []
    for name, values in columns.items():
        found = _column(str(name), pd.Series(np.asarray(values, dtype=object)))
        if found is None:
            continue
        described, packed = found
        described["part"] = f"column{len(told)}"
        parts[described["part"]] = packed
        told.append(described)
    shown = color if any(one["name"] == color for one in told) else ""
    about = {"columns": told, "color": shown, "scale": SCALE}
    write_bytes(path, _page(title, len(names), about, parts).encode())
    return Path(path)


def _page(title: str, count: int, about: Mapping[str, Any], parts: Mapping[str, str]) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    files = {
        name: Markup((FOLDER / f"{file}").read_text(encoding="utf-8"))
        for name, file in (("css", "page.css"), ("library", "scatterplot.js"), ("script", "page.js"))
    }
    # Within a script element only its own end, and a comment's start, would be read as markup.
    data = json.dumps(about, ensure_ascii=True).replace("<", "\\u003c")
    template = environment.from_string((FOLDER / "page.html").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        count=f"{count:,}",
        about=Markup(data),
        parts=[{"id": name, "data": Markup(packed)} for name, packed in parts.items()],
        **files,
    )


def _packed(data: bytes) -> str:
    """Base64 of a raw deflate stream."""
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
    return base64.b64encode(squeeze.compress(data) + squeeze.flush()).decode()


def _places(where: NDArray[np.float64]) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Both axes in steps of 1/65,535 of the larger extent, the map in the middle."""
    low, high = where.min(axis=0), where.max(axis=0)
    extent = float((high - low).max()) or 1.0
    steps = np.rint(((where - (low + high) / 2) / extent + 0.5) * 65_535)
    x, y = np.clip(steps, 0, 65_535).astype(np.uint16).T
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def _column(name: str, values: pd.Series) -> tuple[dict[str, Any], str] | None:
    """What is told of a column, and its packed values; None where it has too many names."""
    known = pd.Series(known_rows(name, values), values.index)
    if known.any() and is_number(values[known], name):
        return _numbers(name, pd.to_numeric(values.where(known), errors="coerce").to_numpy(np.float64))
    return _names(name, values.astype(str).where(known, UNTOLD))


def _numbers(name: str, values: NDArray[np.float64]) -> tuple[dict[str, Any], str]:
    there = values[np.isfinite(values)]
    # The few at both ends would take all of the scale.
    low, high = (float(one) for one in np.quantile(there, (0.01, 0.99))) if there.size else (0.0, 1.0)
    whole = bool(there.size) and bool((there == np.rint(there)).all())
    spread = low > 0 and high / low > 20
    told: dict[str, Any] = {"name": name, "kind": "number", "type": "float32", "low": low, "high": high}
    told |= {"log": spread, "whole": whole}
    return told, _packed(values.astype("<f4").tobytes())


def _names(name: str, values: pd.Series) -> tuple[dict[str, Any], str] | None:
    counts = values.value_counts(sort=True)
    if len(counts) > MOST_NAMES:
        return None
    # The largest first; what is not known is last of all.
    order = [one for one in counts.index if one != UNTOLD] + ([UNTOLD] if UNTOLD in counts.index else [])
    codes = pd.Categorical(values, categories=order).codes.astype("<u2" if len(order) > 255 else "u1")
    own = min(len(COLOURS), len(order) - (UNTOLD in counts.index))
    shown, sizes = order[:own], [int(counts[one]) for one in order[:own]]
    if own < len(order):
        shown = [*shown, "others" if len(order) > own + 1 or order[-1] != UNTOLD else UNTOLD]
        sizes.append(int(len(values) - sum(sizes)))
    told: dict[str, Any] = {
        "name": name,
        "kind": "names",
        "type": "uint16" if codes.dtype.itemsize == 2 else "uint8",
    }
    told |= {
        "names": order,
        "shown": shown,
        "counts": sizes,
        "colours": [*COLOURS[:own], OTHERS][: len(shown)],
    }
    return told, _packed(codes.tobytes())


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
