"""Maps of a thousand points to ten million: discs where they are few, pixels where they are many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from kinmer.plots.style import PALETTE, STYLE, panels_of

__all__ = ["density_difference", "extent_of", "map_by_category", "map_by_number", "map_plain", "pixels"]

# Up to here points are discs; above, pixels.
FEW = 20_000
PIXELS = 900
# Points further out than this share of the rest are left out of the frame, and told.
OUTLYING = 0.0005
OTHERS = "#BFC5CB"
SHOWN_GROUPS = 7
Floats = NDArray[np.float64]
Extent = tuple[float, float, float, float]


def extent_of(where: Floats) -> tuple[float, float, float, float, int]:
    """A square frame (x0, x1, y0, y1) around nearly all points (n, 2), and how many lie outside."""
    low, high = (
        np.quantile(where, (OUTLYING, 1 - OUTLYING), axis=0)
        if len(where) > 2
        else (where.min(0), where.max(0))
    )
    if len(where) <= FEW:
        low, high = where.min(axis=0), where.max(axis=0)
    half = 0.54 * float((high - low).max()) or 1.0
    x, y = (low + high) / 2
    outside = (np.abs(where - (x, y)) > half).any(axis=1).sum()
    return x - half, x + half, y - half, y + half, int(outside)


def pixels(
    where: Floats, extent: Sequence[float], weights: Floats | None = None, *, size: int = PIXELS
) -> Floats:
    """(size, size) sums of weights (None: numbers of points) a pixel, the top row first."""
    column = np.floor((where[:, 0] - extent[0]) / (extent[1] - extent[0]) * size)
    row = np.floor((extent[3] - where[:, 1]) / (extent[3] - extent[2]) * size)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    place = (row[inside] * size + column[inside]).astype(np.int64)
    given = None if weights is None else weights[inside]
    return np.bincount(place, given, minlength=size * size).reshape(size, size).astype(np.float64)


@matplotlib.rc_context(STYLE)
def map_by_number(where: Floats, values: Floats, *, title: str = "", label: str = "") -> Figure:
    """Points (n, 2) coloured by a number (n,), its mean in every pixel; grey where it is not known."""
    figure, axis, extent, outside = _frame(where, title, width=7.4)
    there = np.isfinite(values)
    low, high = np.quantile(values[there], (0.01, 0.99)) if there.any() else (0.0, 1.0)
    norm: Any = Normalize(low, high if high > low else low + 1)
    if low > 0 and high / low > 20:
        norm = LogNorm(low, high)
    colours = matplotlib.colormaps["viridis"]
    if len(where) <= FEW:
        order = np.argsort(there, kind="stable")
        shown = np.where(there[:, None], colours(norm(np.where(there, values, low))), (*to_rgb(OTHERS), 1.0))
        _discs(axis, where[order], shown[order])
    else:
        counts = pixels(where[there], extent)
        sums = pixels(where[there], extent, values[there])
        mean = np.divide(sums, counts, out=np.full_like(sums, low), where=counts > 0)
        _image(axis, colours(norm(mean))[..., :3], pixels(where, extent), extent)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axis, shrink=0.6, pad=0.02)
    bar.set_label(label)
    bar.outline.set_visible(False)
    _told(axis, len(where), outside)
    return figure


@matplotlib.rc_context(STYLE)
def map_by_category(where: Floats, names: Sequence[object], *, title: str = "", label: str = "") -> Figure:
    """Points (n, 2) coloured by a name (n,): the seven largest have a colour, a pixel that of most in it."""
    figure, axis, extent, outside = _frame(where, title, width=8.2)
    kind = np.array(["" if one is None or one != one else str(one) for one in names], dtype=object)
    found, codes, counts = np.unique(kind.astype(str), return_inverse=True, return_counts=True)
    named = [at for at in np.argsort(-counts, kind="stable") if found[at] not in ("", ".", "nan", "None")]
    shown = named[:SHOWN_GROUPS]
    place = np.full(len(found), len(shown))
    place[shown] = np.arange(len(shown))
    group = place[codes]
    colours = np.array([to_rgb(PALETTE[at]) for at in range(len(shown))] + [to_rgb(OTHERS)])
    if len(where) <= FEW:
        order = np.argsort(-group, kind="stable")  # The named lie on top of the rest.
        _discs(axis, where[order], colours[group[order]])
    else:
        most = np.stack([pixels(where[group == at], extent) for at in range(len(colours))])
        _image(axis, colours[most.argmax(axis=0)], most.sum(axis=0), extent)
    entries = [(found[at], int(counts[at]), colours[number]) for number, at in enumerate(shown)]
    if (group == len(shown)).any():
        entries.append(("others", int((group == len(shown)).sum()), colours[-1]))
    handles = [
        Line2D([], [], linestyle="", marker="o", color=colour, label=f"{_short(name)} ({count:,})")
        for name, count, colour in entries
    ]
    axis.legend(handles=handles, title=label, loc="upper left", bbox_to_anchor=(1.01, 1), alignment="left")
    _told(axis, len(where), outside)
    return figure


@matplotlib.rc_context(STYLE)
def map_plain(where: Floats, *, title: str = "") -> Figure:
    """Points (n, 2) in one colour, darker where they are many."""
    figure, axis, extent, outside = _frame(where, title, width=6.4)
    colour = np.array(to_rgb(PALETTE[0]))
    if len(where) <= FEW:
        _discs(axis, where, np.broadcast_to(colour, (len(where), 3)))
    else:
        _image(axis, np.broadcast_to(colour, (PIXELS, PIXELS, 3)), pixels(where, extent), extent)
    _told(axis, len(where), outside)
    return figure


@matplotlib.rc_context(STYLE)
def density_difference(
    where: Floats, names: Sequence[object], pair: tuple[str, str], *, title: str = "", cells: int = 60
) -> Figure:
    """Share of one group's points minus that of another's in every cell of a map (n, 2), per thousand.

    `pair`: the two names among `names` (n,). Violet where the first is denser, orange where the second is.
    """
    figure, axis, extent, _ = _frame(where, title, width=7.4)
    kind = np.array([str(one) for one in names], dtype=object)
    share = []
    for name in pair:
        counts = pixels(where[kind == name], extent, size=cells)
        share.append(1000 * counts / max(1.0, counts.sum()))
    gap = _blurred(share[0] - share[1])
    widest = float(np.abs(gap).max()) or 1.0
    drawn = axis.imshow(gap, extent=extent, cmap="PuOr", vmin=-widest, vmax=widest, interpolation="bilinear")
    bar = figure.colorbar(drawn, ax=axis, shrink=0.6, pad=0.02)
    bar.set_label(f"{_short(pair[0])} minus {_short(pair[1])} (‰ of each, a cell)")
    bar.outline.set_visible(False)
    return figure


def _blurred(image: Floats) -> Floats:
    """Every cell with its neighbours, 1 2 1 in both directions."""
    padded = np.pad(image, 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    found: Floats = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    return found


def _frame(where: Floats, title: str, *, width: float) -> tuple[Figure, Axes, Extent, int]:
    figure, (axis,) = panels_of(1, width=width, height=6.2)
    x0, x1, y0, y1, outside = extent_of(where)
    axis.set_xlim(x0, x1)
    axis.set_ylim(y0, y1)
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    if title:
        axis.set_title(title, loc="left")
    return figure, axis, (x0, x1, y0, y1), outside


def _discs(axis: Axes, where: Floats, colours: Any) -> None:
    size = float(np.clip(16_000 / max(len(where), 1), 3, 60))
    axis.scatter(where[:, 0], where[:, 1], s=size, c=colours, linewidths=0, alpha=0.8, rasterized=True)


def _image(axis: Axes, colours: Any, counts: Floats, extent: Extent) -> None:
    """Colours (s, s, 3), the more opaque the more points a pixel has, by the rank of its count."""
    levels, inverse = np.unique(counts, return_inverse=True)
    filled = np.bincount(inverse.ravel())
    filled[levels == 0] = 0
    rank = np.cumsum(filled) / max(1, filled.sum())
    opacity = np.where(levels > 0, 0.35 + 0.65 * rank, 0)[inverse].reshape(counts.shape)
    axis.imshow(np.dstack([colours, opacity]), extent=extent, interpolation="nearest", aspect="equal")


def _told(axis: Axes, points: int, outside: int) -> None:
    more = f", {outside:,} outside the frame" if outside else ""
    axis.text(
        0,
        -0.01,
        f"{points:,} sequences{more}",
        transform=axis.transAxes,
        va="top",
        fontsize=8,
        color="#666666",
    )


def _short(name: str) -> str:
    return name if len(name) <= 34 else f"{name[:33]}…"
