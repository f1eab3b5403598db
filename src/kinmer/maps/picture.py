"""A map's picture, and its page: one HTML file that opens from disk, with the data packed into it."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from kinmer.errors import UsageError
from kinmer.files import replaced
from kinmer.library.join import joined_metadata
from kinmer.maps.mapfiles import MapResult
from kinmer.taxonomy import known_rows

# Columns that color a map if none is named; the first that is there.
SHOWN_BY = ("placed", "gc", "length")
PLACED = ("on the map", "placed")
FOLDER = Path(__file__).parent / "page"
# Points that the page draws at a time, as in page.js, and points beyond them that are packed together.
DRAWN, BLOCK = 300_000, 1 << 20
# A column may have so many names on the page, or one for every four points; beyond the colors they share one.
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

    More than 300,000 points are not drawn at once: an even sample stands in front of the file and is drawn
    while the rest is read, and what is in view is drawn in full where the map is zoomed in.

    Parameters
    ----------
    ids : (n,).
    coordinates : (n, 2), kept to 1/65,535 of the map's extent.
    columns : name -> (n,) numbers or texts, which are shown for a point and may color it. A column of texts
        with more than 65,535 names is left out if these are more than a quarter of the points.
    color : the column that colors the points at first; empty for none.
    """
    steps = _steps(np.asarray(coordinates, np.float64))
    order = even_first(steps, DRAWN)
    values: dict[str, NDArray[Any]] = {"x": steps[0][order], "y": steps[1][order]}
    texts: dict[str, NDArray[Any]] = {"ids": np.asarray(ids, dtype=object)[order]}
    records: list[dict[str, Any]] = []
    for name, given in columns.items():
        column = _column(str(name), pd.Series(np.asarray(given)))
        if column is not None:
            record, data, names = column
            part = f"column{len(records)}"
            values[part] = data[order]
            if record["kind"] == "names":
                texts[f"{part}-names"] = names
            records.append({**record, "part": part})
    shown = color if any(record["name"] == color for record in records) else ""
    ends = [min(DRAWN, len(order)), *range(DRAWN + BLOCK, len(order), BLOCK), len(order)]
    blocks = list(dict.fromkeys([0, *ends]))
    about = {"columns": records, "color": shown, "scale": SCALE, "blocks": blocks}
    with replaced(path) as file:
        for piece in _page(title, about, _parts(values, texts, blocks)):
            file.write(piece.encode())
    return Path(path)


def even_first(steps: NDArray[np.uint16], few: int) -> NDArray[np.int64]:
    """(n,) the rows of points (2, n), in front `few` that show what all of them do; as they are if n <= few.

    These are one of every filled cell of 256 by 256, so that nothing that lies alone is lost, and evenly many
    of all others. Both parts run along a Z curve, on which neighbors are near: they take less room so.
    """
    if steps.shape[1] <= few:
        return np.arange(steps.shape[1])
    code = np.zeros(steps.shape[1], np.uint32)
    for axis, values in enumerate(steps.astype(np.uint32)):
        spread = values
        for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
            spread = (spread | spread << shift) & mask  # In the end a zero stands between any two bits.
        code |= spread << axis
    order = np.argsort(code, kind="stable")
    cell = code[order] >> 16
    first = np.concatenate([[True], cell[1:] != cell[:-1]])
    others = np.flatnonzero(~first)
    first[others[np.linspace(0, len(others) - 1, max(0, few - first.sum()), dtype=np.int64)]] = True
    return np.concatenate([order[first], order[~first]])


def _parts(
    values: Mapping[str, NDArray[Any]], texts: Mapping[str, NDArray[Any]], blocks: Sequence[int]
) -> tuple[Iterator[tuple[str, str]], Iterator[tuple[str, str]]]:
    """Names and packed data: what the first picture needs, and all that may come later."""

    def numbers(block: int) -> Iterator[tuple[str, str]]:
        for name, array in values.items():
            yield (
                f"{name}-{block}" if block else name,
                _packed(array[blocks[block] : blocks[block + 1]].tobytes()),
            )

    def rest() -> Iterator[tuple[str, str]]:
        for block in range(1, len(blocks) - 1):
            yield from numbers(block)
        for name, lines in texts.items():
            parts = pairwise(blocks) if name == "ids" else [(0, len(lines))]
            for block, (start, end) in enumerate(parts):
                clean = (" ".join(str(line).split()) for line in lines[start:end])
                yield f"{name}-{block}" if block else name, _packed("\n".join(clean).encode())

    return numbers(0), rest()


def _page(
    title: str, about: Mapping[str, Any], parts: tuple[Iterator[tuple[str, str]], Iterator[tuple[str, str]]]
) -> Iterator[str]:
    from markupsafe import Markup

    sources = {"css": "page.css", "library": "scatterplot.js", "script": "page.js"}
    # Within a script element only its own end, and a comment's start, would be read as markup.
    data = json.dumps(about, ensure_ascii=True).replace("<", "\\u003c")
    first, later = (({"id": name, "data": Markup(packed)} for name, packed in part) for part in parts)
    return pieces(
        FOLDER / "page.html",
        title=title,
        count=f"{about['blocks'][-1]:,}",
        about=Markup(data),
        first=first,
        later=later,
        **{name: Markup((FOLDER / file).read_text(encoding="utf-8")) for name, file in sources.items()},
    )


def pieces(template: Path, **values: Any) -> Iterator[str]:
    """A template of jinja2 filled in, piece by piece; everything that is not Markup is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template.read_text(encoding="utf-8")).generate(**values)


def rendered(template: Path, **values: Any) -> str:
    """All `pieces` of a template in one."""
    return "".join(pieces(template, **values))


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


# What the page is told of a column, its data (n,), and the names that these number.
Column = tuple[dict[str, Any], NDArray[Any], NDArray[Any]]


def _column(name: str, values: pd.Series) -> Column | None:
    """A column for the page; None if it has too many names."""
    if values.dtype.kind in "iuf" and name != "cluster":
        return _numbers(name, values.to_numpy(np.float64))
    values = values.astype(object)
    known = pd.Series(known_rows(name, values), values.index)
    if known.any() and is_number(values[known], name):
        return _numbers(name, pd.to_numeric(values.where(known), errors="coerce").to_numpy(np.float64))
    return _names(name, values.astype(str).where(known, UNKNOWN))


def _numbers(name: str, values: NDArray[np.float64]) -> Column:
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
    return record, values.astype("<f4"), np.array([], object)


def _names(name: str, values: pd.Series) -> Column | None:
    counts = values.value_counts(sort=True)
    if len(counts) > max(MOST_NAMES, len(values) // 4):
        return None
    # The largest first; the unknown comes last.
    order = [key for key in counts.index if key != UNKNOWN] + [UNKNOWN] * (UNKNOWN in counts.index)
    kind = "uint8" if len(order) <= 255 else "uint16" if len(order) <= MOST_NAMES else "uint32"
    codes = pd.Categorical(values, categories=order).codes.astype(np.dtype(kind).newbyteorder("<"))
    own = min(len(COLORS), len(order) - (UNKNOWN in counts.index))
    shown, sizes, colors = order[:own], [int(counts[key]) for key in order[:own]], [*COLORS[:own]]
    if own < len(order):
        shown.append("others" if len(order) > own + 1 or order[-1] != UNKNOWN else UNKNOWN)
        sizes.append(int(len(values) - sum(sizes)))
        colors.append(OTHERS)
    record = {
        "name": name,
        "kind": "names",
        "type": kind,
        "shown": shown,
        "counts": sizes,
        "colors": colors,
    }
    return record, codes, np.array(order, object)
