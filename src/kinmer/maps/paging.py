"""The map as one HTML file that opens from disk: data packed beside the script that draws them."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from kinmer.files import write_bytes
from kinmer.maps.picturing import is_number
from kinmer.taxonomy import known_rows

__all__ = ["write_page"]

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
