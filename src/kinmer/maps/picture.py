"""A map's picture, and its page: one HTML file that opens from disk, with the data packed into it."""

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
from kinmer.library.join import joined_metadata
from kinmer.maps.mapfiles import MapResult
from kinmer.taxonomy import known_rows

# Columns that color a map if none is named; the first that is there.
SHOWN_BY = ("placed", "gc", "length")
PLACED = ("on the map", "placed")
FOLDER = Path(__file__).parent / "page"
# A column with more names than this is left out of the page; beyond the colors, names share one.
MOST_NAMES = 65_535
UNKNOWN = "–"
OTHERS = "#b9c0c7"
# Okabe and Ito's colors, and darker and lighter ones between.
COLORS = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"),
    *("#f0e442", "#004d7a", "#8f6200", "#00573f", "#8a3c00", "#7f3f65"),
)
# Viridis at nine steps.
SCALE = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")


def draw(
    result: MapResult,
    stem: str | Path,
    *,
    color: str | None = None,
    title: str = "",
    picture: bool = True,
    page: bool = True,
) -> list[Path]:
    """Write the picture (``STEM.png`` and ``.svg``) and the page (``STEM.html``); returns their paths.

    color : a column of ``obs``; None: ``gc``, else ``length``, if it is known.

    Raises UsageError if there is no such column.
    """
    column = check_color(result.obs, color)
    written: list[Path] = []
    if picture:
        values = result.obs[column].to_numpy() if column else None
        written += write_picture(stem, result.coordinates, values, title=title, label=column)
    if page:
        columns = {str(name): result.obs[name].to_numpy() for name in result.obs.columns}
        path = Path(f"{stem}.html")
        written.append(
            write_page(path, result.ids, result.coordinates, columns, color=column, title=title or "Map")
        )
    return written


def check_color(obs: pd.DataFrame, color: str | None) -> str:
    """The column to color by, empty if nothing is known; UsageError if there is no such column."""
    if color is None:
        return next((name for name in SHOWN_BY if name in obs), "")
    if color not in obs:
        listed = ", ".join(str(name) for name in obs.columns) or "no column at all"
        raise UsageError(f"there is no column {color!r} to color by", check=f"there is {listed}")
    return color


def known_more(result: MapResult, metadata: str | Path) -> MapResult:
    """The map with the columns of a TSV joined by id, as by `kinmer.library.open_labeled`."""
    return replace(result, obs=joined_metadata(result.ids, result.obs, metadata))


def beside(known: MapResult, placed: MapResult) -> MapResult:
    """Both maps in one, for a picture; the column ``placed`` tells them apart, the placed ones lie on top."""
    obs = pd.concat([known.obs, placed.obs])
    obs["placed"] = np.repeat(np.array(PLACED, object), [len(known), len(placed)])
    return replace(
        placed,
        ids=np.concatenate([known.ids, placed.ids]),
        coordinates=np.concatenate([known.coordinates, placed.coordinates]),
        obs=obs,
    )


def write_picture(
    stem: str | Path,
    coordinates: NDArray[np.floating[Any]],
    values: ArrayLike | None,
    *,
    title: str = "",
    label: str = "",
) -> list[Path]:
    """Write ``STEM.png`` and ``.svg`` of points (n, 2), colored by values (n,) if there are any."""
    from kinmer import plots
    from kinmer.plots.scatter import map_by_category, map_by_number, map_plain

    points = np.asarray(coordinates, np.float64)
    if values is None:
        return plots.save(map_plain(points, title=title), stem)
    column = pd.Series(np.asarray(values))
    if column.dtype.kind not in "iuf" or label == "cluster":
        column = column.astype(object)
        column = column.where(known_rows(label, column), None)
    if is_number(column, label):
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
        return plots.save(map_by_number(points, numbers, title=title, label=label), stem)
    return plots.save(map_by_category(points, column.to_numpy(), title=title, label=label), stem)


def is_number(values: pd.Series, name: str = "") -> bool:
    """Whether all known values of a column are numbers; the number of a cluster is a name."""
    if name == "cluster":
        return False
    if values.dtype.kind in "iuf":
        return True
    known = values[values.notna()]
    if not len(known) or known.map(lambda value: isinstance(value, str | bool)).any():
        return False
    return bool(pd.to_numeric(known, errors="coerce").notna().all())


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

    Parameters
    ----------
    ids : (n,).
    coordinates : (n, 2), kept to 1/65,535 of the map's extent.
    columns : name -> (n,) numbers or texts, which are shown for a point and may color it. A column of texts
        with more than 65,535 names is left out.
    color : the column that colors the points at first; empty for none.
    """
    names = np.asarray(ids, dtype=object).astype(str)
    parts = {"ids": _packed("\n".join(" ".join(name.split()) for name in names).encode())}
    for axis, steps in zip("xy", _steps(np.asarray(coordinates, np.float64)), strict=True):
        parts[axis] = _packed(steps.tobytes())
    records: list[dict[str, Any]] = []
    for name, values in columns.items():
        column = _column(str(name), pd.Series(np.asarray(values, dtype=object)))
        if column is not None:
            record, data = column
            part = f"column{len(records)}"
            parts[part] = _packed(data.tobytes())
            records.append({**record, "part": part})
    shown = color if any(record["name"] == color for record in records) else ""
    about = {"columns": records, "color": shown, "scale": SCALE}
    write_bytes(path, _page(title, len(names), about, parts).encode())
    return Path(path)


def _page(title: str, count: int, about: Mapping[str, Any], parts: Mapping[str, str]) -> str:
    from markupsafe import Markup

    sources = {"css": "page.css", "library": "scatterplot.js", "script": "page.js"}
    # Within a script element only its own end, and a comment's start, would be read as markup.
    data = json.dumps(about, ensure_ascii=True).replace("<", "\\u003c")
    return rendered(
        FOLDER / "page.html",
        title=title,
        count=f"{count:,}",
        about=Markup(data),
        parts=[{"id": name, "data": Markup(packed)} for name, packed in parts.items()],
        **{name: Markup((FOLDER / file).read_text(encoding="utf-8")) for name, file in sources.items()},
    )


def rendered(template: Path, **values: Any) -> str:
    """A template of jinja2 filled in; everything that is not Markup is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)


def _packed(data: bytes) -> str:
    """Base64 of a raw deflate stream."""
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
    return base64.b64encode(squeeze.compress(data) + squeeze.flush()).decode()


def _steps(points: NDArray[np.float64]) -> NDArray[np.uint16]:
    """(2, n): both axes in steps of 1/65,535 of the larger extent, the map in the middle."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max()) or 1.0
    steps = np.rint(((points - (low + high) / 2) / extent + 0.5) * 65_535)
    return np.ascontiguousarray(np.clip(steps, 0, 65_535).astype(np.uint16).T)


def _column(name: str, values: pd.Series) -> tuple[dict[str, Any], NDArray[Any]] | None:
    """What the page needs to know of a column, and its data; None if it has too many names."""
    known = pd.Series(known_rows(name, values), values.index)
    if known.any() and is_number(values[known], name):
        return _numbers(name, pd.to_numeric(values.where(known), errors="coerce").to_numpy(np.float64))
    return _names(name, values.astype(str).where(known, UNKNOWN))


def _numbers(name: str, values: NDArray[np.float64]) -> tuple[dict[str, Any], NDArray[Any]]:
    finite = values[np.isfinite(values)]
    # The few values at both ends would take up the whole scale.
    low, high = (float(end) for end in np.quantile(finite, (0.01, 0.99))) if finite.size else (0.0, 1.0)
    record = {
        "name": name,
        "kind": "number",
        "type": "float32",
        "low": low,
        "high": high,
        "log": low > 0 and high / low > 20,
        "whole": bool(finite.size) and bool((finite == np.rint(finite)).all()),
    }
    return record, values.astype("<f4")


def _names(name: str, values: pd.Series) -> tuple[dict[str, Any], NDArray[Any]] | None:
    counts = values.value_counts(sort=True)
    if len(counts) > MOST_NAMES:
        return None
    # The largest first; the unknown comes last.
    order = [key for key in counts.index if key != UNKNOWN] + [UNKNOWN] * (UNKNOWN in counts.index)
    codes = pd.Categorical(values, categories=order).codes.astype("<u2" if len(order) > 255 else "u1")
    own = min(len(COLORS), len(order) - (UNKNOWN in counts.index))
    shown, sizes, colors = order[:own], [int(counts[key]) for key in order[:own]], [*COLORS[:own]]
    if own < len(order):
        shown.append("others" if len(order) > own + 1 or order[-1] != UNKNOWN else UNKNOWN)
        sizes.append(int(len(values) - sum(sizes)))
        colors.append(OTHERS)
    record = {
        "name": name,
        "kind": "names",
        "type": "uint16" if codes.dtype.itemsize == 2 else "uint8",
        "names": order,
        "shown": shown,
        "counts": sizes,
        "colors": colors,
    }
    return record, codes
